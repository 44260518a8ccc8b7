//! A run from its first publication to its last delivery.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::Rate,
    connections::{Connections, close},
    plan::Plan,
    process::{Cpu, Process},
    progress::Progress,
    publisher::{Published, Publisher},
    receiver::{Outcome, Receiver, Wrong},
    tally::{Clock, Tally, Times},
    window::Window,
};
use crate::cli::{Context, Failure, output::grouped};

/// Time for all tasks to be there when the timetable begins.
const LEAD: Duration = Duration::from_millis(100);
/// Time that publishers may be behind the end of the timetable.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Outstanding deliveries are awaited for so long in all, and so long since the last one came.
const OUTSTANDING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3));
/// The same where a connection is lost, and with it what it was to deliver.
const OUTSTANDING_BROKEN: Duration = Duration::from_millis(500);
/// Between two looks at what is there.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_AT_OUTSTANDING: Duration = Duration::from_millis(10);

/// What was measured.
pub(super) struct Measured {
    /// What was seen between these is what counts.
    pub(super) first: Snapshot,
    pub(super) last: Snapshot,
    pub(super) latency: Times,
    pub(super) late: Times,
    pub(super) wrong: Wrong,
    pub(super) lost: BTreeMap<String, String>,
    /// In the whole run, the warm-up included.
    pub(super) totals: Totals,
    /// Whether it was ended from outside.
    pub(super) interrupted: bool,
}

/// Counts of a whole run.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) refusal: Option<String>,
    pub(super) unanswered: u64,
    pub(super) unsent: u64,
    pub(super) expected: u64,
    pub(super) received: u64,
}

/// Counters at one time.
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) received: u64,
    pub(super) acknowledged: u64,
    pub(super) server: Option<Cpu>,
    pub(super) own: Option<Cpu>,
}

/// Runs it, and takes the connections apart.
pub(super) async fn measure(
    plan: &Arc<Plan>,
    connections: Connections,
    server: Option<&Process>,
    progress: &Progress,
    context: &Context,
) -> Result<Measured, Failure> {
    let clock = Clock {
        begin: Instant::now() + LEAD,
        measured: (plan.warmup, plan.warmup + plan.duration),
    };
    let run = Run {
        plan,
        clock,
        server,
        progress,
        context,
        tally: Arc::new(Tally::new()),
        stop: CancellationToken::new(),
    };
    let sockets = connections.sockets();
    let clients = connections.clients();
    let done = CancellationToken::new();
    let (mut publishers, mut receivers) = run.start(connections, &done);

    let (warm, end) = clock.measured;
    let mut ended = run.wait("warming up", Duration::ZERO, warm).await;
    let first = run.snapshot();
    if !ended {
        ended = run.wait("measuring", warm, end).await;
    }
    let last = run.snapshot();
    let interrupted = ended && !run.tally.broken.is_cancelled();
    if ended {
        run.stop.cancel();
    }

    let published = run.finish(&mut publishers).await?;
    let mut totals = Totals::default();
    let mut late = Times::new();
    let mut counts = vec![0; plan.channels.len()];
    let readers = plan.readers();
    for part in published {
        late.add(&part.late);
        totals.refused += part.refused;
        totals.unanswered += part.unanswered;
        totals.unsent += part.unsent;
        totals.refusal = totals.refusal.or(part.refusal);
        for (channel, count) in part.channels {
            counts[channel] = count;
            totals.sent += count;
            totals.expected += count * readers[channel];
        }
    }
    run.outstanding(totals.expected).await;
    done.cancel();
    let mut wrong = Wrong::default();
    while let Some(outcome) = receivers.join_next().await {
        let outcome = outcome.map_err(Failure::new)?;
        let published = counts[outcome.channel];
        wrong.add(outcome, published, plan);
    }
    let lost = run.tally.lost();
    close(clients, &sockets).await;
    totals.acknowledged = run.tally.acknowledged.load(Relaxed);
    totals.received = run.tally.received();
    Ok(Measured {
        first,
        last,
        latency: run.tally.latency(),
        late,
        wrong,
        lost,
        totals,
        interrupted,
    })
}

/// What the phases of a run share.
struct Run<'a> {
    plan: &'a Arc<Plan>,
    clock: Clock,
    server: Option<&'a Process>,
    progress: &'a Progress,
    context: &'a Context,
    tally: Arc<Tally>,
    /// No further publication.
    stop: CancellationToken,
}

impl Run<'_> {
    fn start(
        &self,
        connections: Connections,
        done: &CancellationToken,
    ) -> (JoinSet<Published>, JoinSet<Outcome>) {
        let plan = self.plan;
        let windows: Option<Vec<_>> = (plan.rate == Rate::Max).then(|| {
            (0..plan.publishers)
                .map(|_| Arc::new(Window::new(plan.window)))
                .collect()
        });
        let mut receivers = JoinSet::new();
        for reader in connections.readers {
            for (channel, subscription) in reader.subscriptions {
                let publisher = plan.publisher_of(channel);
                let receiver = Receiver {
                    client: reader.number,
                    channel,
                    subscription,
                    plan: Arc::clone(plan),
                    clock: self.clock,
                    tally: Arc::clone(&self.tally),
                    window: windows.as_ref().map(|all| Arc::clone(&all[publisher])),
                };
                receivers.spawn(receiver.run(done.clone()));
            }
        }
        let mut publishers = JoinSet::new();
        let readers: Arc<[u64]> = plan.readers().into();
        for (number, client) in connections.publishers.into_iter().enumerate() {
            let publisher = Publisher {
                number,
                client,
                plan: Arc::clone(plan),
                clock: self.clock,
                tally: Arc::clone(&self.tally),
            };
            let stop = self.stop.clone();
            match windows.as_ref().map(|all| Arc::clone(&all[number])) {
                None => publishers.spawn(publisher.in_open_loop(stop)),
                Some(window) => {
                    let readers = Arc::clone(&readers);
                    publishers.spawn(async move {
                        publisher.in_closed_loop(&window, &readers, stop).await
                    })
                }
            };
        }
        (publishers, receivers)
    }

    /// Waits for a time of the timetable. `true` where the run was ended before.
    async fn wait(&self, phase: &'static str, from: Duration, to: Duration) -> bool {
        let begin = self.clock.begin + from;
        let start = self.tally.received();
        let shown = async {
            loop {
                let passed = Instant::now().saturating_duration_since(begin);
                let received = self.tally.received() - start;
                let rate = received as f64 / passed.as_secs_f64().max(LOOK.as_secs_f64());
                let what = format!("{} deliveries/s", grouped(rate as u64));
                self.progress.running(phase, passed, to - from, what);
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            () = self.context.interrupts.at_least(1) => true,
            () = self.tally.broken.cancelled() => true,
            () = sleep_until((self.clock.begin + to).into()) => false,
            () = shown => true,
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: Instant::now(),
            received: self.tally.received(),
            acknowledged: self.tally.acknowledged.load(Relaxed),
            server: self.server.and_then(Process::cpu),
            own: Process::own().cpu(),
        }
    }

    /// Lets the publishers send what is due and hear the last answers.
    async fn finish(&self, publishers: &mut JoinSet<Published>) -> Result<Vec<Published>, Failure> {
        if self.plan.rate == Rate::Max {
            self.stop.cancel();
        }
        let until = tokio::time::Instant::now() + CATCH_UP;
        let mut all = Vec::new();
        loop {
            tokio::select! {
                biased;
                published = publishers.join_next() => match published {
                    Some(published) => all.push(published.map_err(Failure::new)?),
                    None => return Ok(all),
                },
                () = sleep_until(until), if !self.stop.is_cancelled() => self.stop.cancel(),
                () = self.context.interrupts.at_least(1), if !self.stop.is_cancelled() => self.stop.cancel(),
            }
        }
    }

    /// Waits for the deliveries that are on their way.
    async fn outstanding(&self, expected: u64) {
        let (in_all, since_the_last) = OUTSTANDING;
        let begin = Instant::now();
        let mut last = (self.tally.accounted(), begin);
        while last.0 < expected {
            let left = format!("{} deliveries outstanding", grouped(expected - last.0));
            self.progress
                .running("waiting", begin.elapsed(), in_all, left);
            let patience = if self.tally.broken.is_cancelled() {
                OUTSTANDING_BROKEN
            } else {
                since_the_last
            };
            if begin.elapsed() > in_all || last.1.elapsed() > patience {
                return;
            }
            sleep(LOOK_AT_OUTSTANDING).await;
            let now = self.tally.accounted();
            if now > last.0 {
                last = (now, Instant::now());
            }
        }
    }
}

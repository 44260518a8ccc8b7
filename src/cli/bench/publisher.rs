//! Publishes: by a timetable, or as fast as everybody keeps up.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::watch, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    payload::Payload,
    plan::{CONTENT_TYPE, Plan, Who},
    tally::{Clock, Tally, Times, nanoseconds},
    window::Window,
};
use crate::{
    client::{Acknowledgement, Client, ClientError},
    wire::Message,
};

/// Publications that wait for their acknowledgement at most, and their bytes: a publisher of a server that answers no more stops
/// here. The timetable goes on, so that its latency shows.
const UNANSWERED: (usize, usize) = (65_536, 64 << 20);
/// Publications between two looks at the answers.
const BURST: usize = 64;
/// Time for the last acknowledgements.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Longest sleep of the timekeeper: after it, it looks whether the run is over.
const NAP: Duration = Duration::from_millis(50);

/// One connection that publishes.
pub(super) struct Publisher {
    pub(super) number: usize,
    pub(super) client: Client,
    pub(super) plan: Arc<Plan>,
    pub(super) clock: Clock,
    pub(super) tally: Arc<Tally>,
}

/// What came of it.
pub(super) struct Published {
    /// Each channel's number, and how many publications it was sent.
    pub(super) channels: Vec<(usize, u64)>,
    /// Publications that the server refused, and what it said first.
    pub(super) refused: u64,
    pub(super) refusal: Option<String>,
    /// Publications without an answer.
    pub(super) unanswered: u64,
    /// Publications that were due and were not sent: this machine could not keep up.
    pub(super) unsent: u64,
    /// How late they were sent, after their time.
    pub(super) late: Times,
}

type Answer = Result<Acknowledgement, ClientError>;

/// What is on its way.
struct Sender {
    publisher: Publisher,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    published: Published,
    sent: u64,
    lost: bool,
}

impl Publisher {
    fn sender(self) -> Sender {
        let channels = self.plan.published_by(self.number);
        Sender {
            published: Published {
                channels: channels.map(|channel| (channel, 0)).collect(),
                refused: 0,
                refusal: None,
                unanswered: 0,
                unsent: 0,
                late: Times::new(),
            },
            publisher: self,
            answers: FuturesUnordered::new(),
            sent: 0,
            lost: false,
        }
    }

    /// Open loop: each publication at its time, whatever became of those before, until the timetable ends or `stop`.
    pub(super) async fn in_open_loop(self, stop: CancellationToken) -> Published {
        let (count, mut due) = watch::channel(0);
        let (plan, clock, number) = (Arc::clone(&self.plan), self.clock, self.number);
        let timekeeper = spawn_blocking(move || keep_time(&plan, clock, number, &count));
        let mut sender = self.sender();
        let (most, bytes) = UNANSWERED;
        let most = most.min(bytes / sender.publisher.plan.size).max(1);
        let mut over = false;
        loop {
            let now_due = *due.borrow_and_update();
            let behind = usize::try_from(now_due - sender.sent).unwrap_or(usize::MAX);
            for _ in 0..behind.min(BURST).min(most - sender.answers.len()) {
                let time = sender.publisher.plan.due(number, sender.sent);
                sender.send(nanoseconds(time)).await;
            }
            let more = sender.sent < now_due && sender.answers.len() < most;
            if sender.lost || (over && !more && sender.sent == now_due) {
                break;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(answer) = sender.answers.next() => sender.judge(answer),
                // It comes back at once.
                () = tokio::task::yield_now(), if more => {}
                changed = due.changed(), if !over => over = changed.is_err(),
            }
        }
        sender.published.unsent = *due.borrow() - sender.sent;
        // It ends when nobody listens.
        drop(due);
        let _ = timekeeper.await;
        sender.end().await
    }

    /// Closed loop: the next publication when there is room in the window, until `stop`.
    pub(super) async fn in_closed_loop(
        self,
        window: &Window,
        readers: &[u64],
        stop: CancellationToken,
    ) -> Published {
        let clock = self.clock;
        let mut sender = self.sender();
        let most = sender.publisher.plan.window;
        tokio::time::sleep_until(clock.begin.into()).await;
        while !sender.lost && !stop.is_cancelled() {
            let room = sender.answers.len() < most;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(answer) = sender.answers.next() => sender.judge(answer),
                () = window.free(sender.sent), if room => {
                    let (channel, _) = sender.next_channel();
                    window.send(sender.sent, readers[channel]);
                    sender.send(clock.now()).await;
                }
            }
        }
        sender.end().await
    }
}

impl Sender {
    /// The channel of the next publication, and the place of its count.
    fn next_channel(&self) -> (usize, usize) {
        let place = (self.sent % self.published.channels.len() as u64) as usize;
        (self.published.channels[place].0, place)
    }

    /// Sends the next publication, which was due at `time`.
    async fn send(&mut self, time: u64) {
        let (channel, place) = self.next_channel();
        let sequence = &mut self.published.channels[place].1;
        *sequence += 1;
        let plan = &self.publisher.plan;
        let payload = Payload {
            run: plan.run,
            number: self.sent,
            sequence: *sequence,
            time,
        };
        self.sent += 1;
        let message = Message::data(CONTENT_TYPE, payload.encode(plan.size));
        let client = self.publisher.client.clone();
        let channel = plan.channels[channel].clone();
        let publish = async move { client.publish(channel.as_str(), message).await };
        // The first poll puts the request into the client's line: so their order is that of these calls.
        let mut publish: BoxFuture<'static, Answer> = Box::pin(publish);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut publish).poll(cx))).await;
        if self.publisher.clock.measures(time) {
            self.published
                .late
                .record(self.publisher.clock.now().saturating_sub(time));
        }
        match polled {
            Poll::Ready(answer) => self.judge(answer),
            Poll::Pending => self.answers.push(publish),
        }
    }

    fn judge(&mut self, answer: Answer) {
        match answer {
            Ok(_) => {
                self.publisher.tally.acknowledged.fetch_add(1, Relaxed);
            }
            Err(error @ (ClientError::Request { .. } | ClientError::TooLarge { .. })) => {
                self.published.refused += 1;
                self.published
                    .refusal
                    .get_or_insert_with(|| error.to_string());
            }
            Err(error) => {
                self.lost = true;
                self.published.unanswered += 1;
                let who = Who::Publisher(self.publisher.number);
                self.publisher.tally.lose(who, error.to_string());
            }
        }
    }

    /// Waits for the answers that are due.
    async fn end(mut self) -> Published {
        let _ = timeout(LAST_ANSWERS, async {
            while let Some(answer) = self.answers.next().await {
                self.judge(answer);
            }
        })
        .await;
        self.published.unanswered += self.answers.len() as u64;
        self.published
    }
}

/// Counts what is due, on a thread of its own: the runtime's timers are a millisecond coarse, a thread's sleep is good to some
/// 50 µs.
fn keep_time(plan: &Plan, clock: Clock, publisher: usize, count: &watch::Sender<u64>) {
    let end = clock.measured.1;
    let mut next = 0;
    while !count.is_closed() {
        let passed = Instant::now().saturating_duration_since(clock.begin);
        let (before, now) = (next, passed.min(end));
        // A clock that has not begun yet shows zero.
        let begun = Instant::now() >= clock.begin;
        while begun && plan.due(publisher, next) <= now && plan.due(publisher, next) < end {
            next += 1;
        }
        if next > before {
            count.send_replace(next);
        }
        let due = plan.due(publisher, next);
        if due >= end {
            return;
        }
        let wait = (clock.begin + due).saturating_duration_since(Instant::now());
        std::thread::sleep(wait.min(NAP));
    }
}

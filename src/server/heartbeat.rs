//! Heartbeats of workers: each turn of a worker's loop is one, and a worker that has none although it was woken is stuck.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

/// Age of a heartbeat below which a worker is not asked for another, so that frequent checks cost nothing.
const FRESH: Duration = Duration::from_millis(250);
/// Time in which a worker that is asked has to have its turn. On a busy machine it has one every few milliseconds.
const DEADLINE: Duration = Duration::from_secs(2);
/// Longest pause between two looks at those that were asked.
const PAUSE: Duration = Duration::from_millis(50);

/// The heartbeat of one worker.
#[derive(Debug)]
pub(super) struct Heartbeat {
    start: Instant,
    turns: AtomicU64,
    /// Microseconds from `start` to the last turn.
    last: AtomicU64,
    waker: AtomicWaker,
    /// Its being stuck is logged.
    reported: AtomicBool,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            turns: AtomicU64::new(0),
            last: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            reported: AtomicBool::new(false),
        }
    }
}

impl Heartbeat {
    /// Notes a turn of the worker's loop, which `cx` wakes.
    pub(super) fn beat(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
        let age = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(age, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Release);
    }

    fn age(&self) -> Duration {
        let last = Duration::from_micros(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

/// A worker that does not have its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stuck {
    /// Its number; its thread is `tidings-NUMBER`.
    pub(super) worker: usize,
    /// Time since its last turn.
    pub(super) age: Duration,
}

/// The heartbeats of all workers of a server, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Heartbeats(Arc<[Arc<Heartbeat>]>);

impl FromIterator<Arc<Heartbeat>> for Heartbeats {
    fn from_iter<T: IntoIterator<Item = Arc<Heartbeat>>>(heartbeats: T) -> Self {
        Self(heartbeats.into_iter().collect())
    }
}

impl Heartbeats {
    /// Workers that are stuck. It wakes those that sleep, and gives each 2 s for a turn.
    pub(super) async fn stuck(&self) -> Vec<Stuck> {
        self.stuck_within(DEADLINE).await
    }

    async fn stuck_within(&self, deadline: Duration) -> Vec<Stuck> {
        let mut asked = Vec::new();
        for (worker, heartbeat) in self.0.iter().enumerate() {
            if heartbeat.age() >= FRESH {
                asked.push((worker, heartbeat, heartbeat.turns.load(Ordering::Acquire)));
                heartbeat.waker.wake();
            } else {
                heartbeat.reported.store(false, Ordering::Relaxed);
            }
        }
        let end = Instant::now() + deadline;
        let mut pause = Duration::from_millis(1);
        loop {
            asked.retain(|(_, heartbeat, turns)| {
                let stuck = heartbeat.turns.load(Ordering::Acquire) == *turns;
                if !stuck {
                    heartbeat.reported.store(false, Ordering::Relaxed);
                }
                stuck
            });
            if asked.is_empty() || Instant::now() >= end {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE.min(pause * 2);
        }
        let stuck = asked.into_iter().map(|(worker, heartbeat, _)| {
            let age = heartbeat.age();
            if !heartbeat.reported.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    worker,
                    ?age,
                    "a worker is stuck: user code blocks its thread"
                );
            }
            Stuck { worker, age }
        });
        stuck.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn worker_that_sleeps_is_woken_and_one_that_is_blocked_is_stuck() {
        let [sleeps, blocked] = [(); 2].map(|()| Arc::new(Heartbeat::default()));
        let heartbeats: Heartbeats = [Arc::clone(&sleeps), blocked].into_iter().collect();
        assert_eq!(heartbeats.stuck().await, [], "both are young");
        let turns = tokio::spawn(poll_fn(move |cx| {
            sleeps.beat(cx);
            Poll::<()>::Pending
        }));
        tokio::time::sleep(FRESH).await;
        let stuck = heartbeats.stuck_within(FRESH).await;
        let workers: Vec<_> = stuck.iter().map(|stuck| stuck.worker).collect();
        assert_eq!(workers, [1]);
        assert!(stuck[0].age >= FRESH * 2);
        turns.abort();
    }
}

//! When to look at which connection again. Deadlines of QUIC mostly move later, with each packet, so one that moves later is
//! left where it stands and corrected when its time comes: that costs nothing for each packet.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

/// Resolution is a millisecond, rounded up, like the runtime's.
pub(super) struct Timers {
    base: Instant,
    /// (millisecond after `base`, connection), once for each connection that waits.
    due: BTreeSet<(u64, usize)>,
    /// Where each connection stands in `due`.
    stands: Vec<Option<u64>>,
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to.
    armed: Option<u64>,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self {
            base: Instant::now(),
            due: BTreeSet::new(),
            stands: Vec::new(),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
        }
    }

    fn ceil(&self, deadline: Instant) -> u64 {
        let after = deadline.saturating_duration_since(self.base);
        u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// The connection is to be looked at by `deadline`: [`pop`](Self::pop) names it then, or earlier.
    pub(super) fn set(&mut self, index: usize, deadline: Option<Instant>) {
        if self.stands.len() <= index {
            self.stands.resize(index + 1, None);
        }
        let wanted = deadline.map(|deadline| self.ceil(deadline));
        match (self.stands[index], wanted) {
            (Some(stands), Some(wanted)) if stands <= wanted => return,
            (Some(stands), _) => drop(self.due.remove(&(stands, index))),
            (None, _) => {}
        }
        if let Some(wanted) = wanted {
            self.due.insert((wanted, index));
        }
        self.stands[index] = wanted;
    }

    /// A connection whose time has come. It stands here no longer.
    pub(super) fn pop(&mut self, now: Instant) -> Option<usize> {
        let &(due, index) = self.due.first()?;
        let passed = now.saturating_duration_since(self.base).as_millis();
        if u128::from(due) > passed {
            return None;
        }
        self.due.pop_first();
        self.stands[index] = None;
        Some(index)
    }

    /// Ready when somebody's time has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(&(due, _)) = self.due.first() else {
            return Poll::Pending;
        };
        // A sleep that ends early is as good, and setting it costs.
        if self.armed.is_none_or(|armed| armed > due) || self.sleep.is_elapsed() {
            let at = self.base + Duration::from_millis(due);
            self.sleep.as_mut().reset(at.into());
            self.armed = Some(due);
        }
        self.sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_that_moves_later_is_named_once_at_its_first_time() {
        let mut timers = Timers::new();
        let at = |ms| Some(timers.base + Duration::from_millis(ms));
        let [five, ten, twenty] = [at(5), at(10), at(20)];
        timers.set(3, ten);
        timers.set(3, twenty);
        timers.set(1, five);
        timers.set(1, None);
        timers.set(2, twenty);
        timers.set(2, five);
        assert_eq!(timers.pop(five.unwrap() - Duration::from_micros(1)), None);
        assert_eq!(timers.pop(five.unwrap()), Some(2));
        assert_eq!(timers.pop(ten.unwrap()), Some(3));
        assert_eq!(timers.pop(twenty.unwrap()), None);
        assert!(timers.due.is_empty());
    }

    #[tokio::test]
    async fn it_sleeps_until_the_first() {
        let mut timers = Timers::new();
        let deadline = timers.base + Duration::from_millis(30);
        timers.set(0, Some(deadline + Duration::from_secs(3600)));
        timers.set(1, Some(deadline));
        std::future::poll_fn(|cx| timers.poll(cx)).await;
        assert_eq!(timers.pop(Instant::now()), Some(1));
    }
}

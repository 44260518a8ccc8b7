//! When publications are due: an open loop, which waits for nobody.

use crate::clock::Nanos;

/// Ticks at even distances. A late tick is still told by the time at which it was due, so that a stall shows in every
/// latency that it caused, and not only in the first.
#[derive(Debug, Clone)]
pub struct Schedule {
    start: Nanos,
    interval: Nanos,
    ticks: u64,
    done: u64,
    late: u64,
    latest: Nanos,
}

/// A tick later than this is late: it is ten times what a timer and one batch of the event loop take.
const LATE: Nanos = 10_000_000;

impl Schedule {
    /// `ticks` of them, the first at `start`.
    #[must_use]
    pub const fn new(start: Nanos, interval: Nanos, ticks: u64) -> Self {
        Self {
            start,
            interval,
            ticks,
            done: 0,
            late: 0,
            latest: 0,
        }
    }

    /// When the next tick is due, unless all are done.
    #[must_use]
    pub const fn next(&self) -> Option<Nanos> {
        if self.done == self.ticks {
            return None;
        }
        Some(self.start + self.done * self.interval)
    }

    /// Takes a tick that is due at `now`: its number from 0, and the time at which it was intended.
    pub fn take(&mut self, now: Nanos) -> Option<(u64, Nanos)> {
        let intended = self.next().filter(|due| *due <= now)?;
        let tick = self.done;
        self.done += 1;
        self.late += u64::from(now - intended > LATE);
        self.latest = self.latest.max(now - intended);
        Some((tick, intended))
    }

    /// Whether more than one in a hundred ticks was late: who publishes could not keep up.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.late * 100 > self.done
    }

    /// How late the latest tick was.
    #[must_use]
    pub const fn latest(&self) -> Nanos {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_the_time_at_which_they_were_intended() {
        let mut schedule = Schedule::new(100, 10, 3);
        assert_eq!(schedule.take(99), None);
        assert_eq!(schedule.take(125), Some((0, 100)));
        assert_eq!(schedule.take(125), Some((1, 110)));
        assert_eq!(schedule.take(125), Some((2, 120)));
        assert_eq!(schedule.take(1000), None);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.latest(), 25);
        assert!(!schedule.is_behind());
    }

    #[test]
    fn a_publisher_that_cannot_keep_up_is_behind() {
        let mut schedule = Schedule::new(0, 10, 3);
        while schedule.take(LATE * 2).is_some() {}
        assert!(schedule.is_behind());
    }
}

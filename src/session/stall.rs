//! Clients that take nothing of what waits for them.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{Close, inner::Inner, writers::lock};
use crate::wire::Code;

/// Sessions that are looked at in one go before other tasks have their turn.
pub(super) const BATCH: usize = 256;

/// What a session's streams had taken when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of the last turn in which a stream took something.
    pub(super) turn: u64,
    /// Bytes that wait for streams that take no more.
    pub(super) waiting: usize,
}

/// How long a session's streams have taken nothing.
#[derive(Debug, Default)]
pub(super) struct Stall(Mutex<Option<(Mark, Instant)>>);

impl Stall {
    /// Time since which nothing was taken of what waits; `None` where nothing waits.
    fn since(&self, mark: Mark, now: Instant) -> Option<Instant> {
        let mut last = lock(&self.0);
        *last = match *last {
            _ if mark.waiting == 0 => None,
            Some((known, since)) if known == mark => Some((known, since)),
            _ => Some((mark, now)),
        };
        last.map(|(_, since)| since)
    }
}

/// How a session ends whose client takes nothing.
pub(super) fn stalled(limit: Duration) -> Close {
    let reason = format!(
        "the client acknowledged or read nothing for {} s while data waited for it",
        limit.as_secs_f32()
    );
    Close::new(Code::STALLED, reason)
}

impl Inner {
    /// Ends the session where its client has taken nothing for as long as `limit` of what waits for it.
    pub(super) fn check_stall(&self, now: Instant, limit: Duration) {
        let streams = self.stall.since(self.writers.mark(), now);
        let over = |since: Instant| now.saturating_duration_since(since) >= limit;
        if streams.is_some_and(over) || self.connection.acknowledges_nothing(limit) {
            self.end(&stalled(limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_and_emptiness_begin_anew() {
        let (stall, start) = (Stall::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mark = |turn, waiting| Mark { turn, waiting };
        assert_eq!(stall.since(mark(1, 0), at(0)), None);
        assert_eq!(stall.since(mark(1, 10), at(1)), Some(at(1)));
        assert_eq!(stall.since(mark(1, 10), at(9)), Some(at(1)));
        assert_eq!(
            stall.since(mark(2, 10), at(10)),
            Some(at(10)),
            "another turn"
        );
        assert_eq!(stall.since(mark(2, 9), at(20)), Some(at(20)), "a byte less");
        assert_eq!(stall.since(mark(2, 0), at(30)), None);
        assert_eq!(stall.since(mark(2, 9), at(40)), Some(at(40)));
    }
}

//! What one reader saw: pure.

use std::time::Instant;

/// What a publication's number says beside those before it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The highest number so far; 0 is none.
    pub(crate) seen: u64,
    /// Numbers that were skipped, and are nobody's fault but the server's.
    pub(crate) lost: u64,
    /// Numbers that came again.
    pub(crate) duplicated: u64,
    /// Numbers that a server had when it was killed, and that this reader had not.
    pub(crate) died: u64,
    /// Breaks after which the server still had all that was missed.
    pub(crate) recovered: u32,
    /// Breaks after which the log was another.
    pub(crate) anew: u32,
    /// The subscription is over.
    pub(crate) ended: bool,
    /// When the client noticed that its connection is gone, and when it had another.
    pub(crate) left: Option<Instant>,
    pub(crate) came_back: Option<Instant>,
    /// Attempts to connect that failed.
    pub(crate) failed: u32,
    /// Why the last of them did.
    pub(crate) failure: Option<String>,
    /// When it had the last publication that it was to have.
    pub(crate) caught_up: Option<Instant>,
}

impl Record {
    /// The next thing that is looked at begins.
    pub(crate) fn begin(&mut self) {
        self.left = None;
        self.came_back = None;
        self.failed = 0;
        self.failure = None;
        self.caught_up = None;
    }

    /// A publication. Those below `fresh` went to a server that is no more.
    pub(crate) fn publication(&mut self, number: u64, fresh: u64) {
        if number <= self.seen {
            self.duplicated += 1;
            return;
        }
        let gap = number - self.seen - 1;
        let died = fresh.saturating_sub(self.seen + 1).min(gap);
        self.died += died;
        self.lost += gap - died;
        self.seen = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_does_not_come_once_is_counted() {
        let faults = |numbers: &[u64], fresh| {
            let mut record = Record::default();
            for &number in numbers {
                record.publication(number, fresh);
            }
            (record.lost, record.duplicated, record.died)
        };
        assert_eq!(faults(&[1, 2, 3], 1), (0, 0, 0));
        assert_eq!(faults(&[1, 4, 4, 2], 1), (2, 2, 0));
        // 3 and 4 were the old server's.
        assert_eq!(faults(&[1, 2, 5, 6], 5), (0, 0, 2));
        assert_eq!(faults(&[1, 2, 6], 5), (1, 0, 2));
        assert_eq!(faults(&[1, 2, 3, 4, 5], 5), (0, 0, 0));
    }
}

//! Whether a subscription got what it should: pure.

use std::collections::VecDeque;

/// How a number stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one.
    InOrder,
    /// This many before it are missing.
    Gap(u64),
    /// It was missing, and comes out of order.
    Late,
    /// It was there already.
    Repeated,
}

/// Numbers that should come one after the other.
#[derive(Debug)]
pub(super) struct Sequence {
    last: u64,
    /// What was skipped, both ends included, the oldest first.
    skipped: VecDeque<(u64, u64)>,
    missing: u64,
}

/// Skipped ranges that are remembered, to tell a late number from a repeated one: a run that has more of them is void whichever
/// it was.
const REMEMBERED: usize = 1024;

impl Sequence {
    /// The next number is the one after `last`.
    pub(super) const fn after(last: u64) -> Self {
        Self {
            last,
            skipped: VecDeque::new(),
            missing: 0,
        }
    }

    /// The highest number so far.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Numbers up to [`last`](Self::last) that never came.
    pub(super) const fn missing(&self) -> u64 {
        self.missing
    }

    pub(super) fn see(&mut self, number: u64) -> Verdict {
        if number > self.last {
            let gap = number - self.last - 1;
            if gap > 0 {
                if self.skipped.len() == REMEMBERED {
                    self.skipped.pop_front();
                }
                self.skipped.push_back((self.last + 1, number - 1));
                self.missing += gap;
            }
            self.last = number;
            return if gap == 0 {
                Verdict::InOrder
            } else {
                Verdict::Gap(gap)
            };
        }
        let hole = self
            .skipped
            .iter()
            .position(|&(from, to)| from <= number && number <= to);
        let Some((at, (from, to))) = hole.map(|at| (at, self.skipped[at])) else {
            return Verdict::Repeated;
        };
        self.missing -= 1;
        self.skipped.remove(at);
        for (from, to) in [(from, number - 1), (number + 1, to)] {
            if from <= to {
                self.skipped.push_back((from, to));
            }
        }
        Verdict::Late
    }
}

/// One subscription: its offsets count every publication, its sequence those of the run.
#[derive(Debug)]
pub(super) struct Checker {
    offsets: Sequence,
    sequence: Sequence,
    /// What was against the rules.
    pub(super) faults: Faults,
}

/// How often what was against the rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Deliveries that are missing.
    pub(super) gaps: u64,
    /// Deliveries that came again.
    pub(super) duplicates: u64,
    /// Deliveries that came after a later one.
    pub(super) disorder: u64,
    /// Publications of somebody else.
    pub(super) foreign: u64,
    /// Publications that the server says it dropped because the reader was too slow; they count as gaps, too.
    pub(super) lagged: u64,
}

impl Checker {
    /// A subscription that begins after the publication with this offset.
    pub(super) fn new(offset: u64) -> Self {
        Self {
            offsets: Sequence::after(offset),
            sequence: Sequence::after(0),
            faults: Faults::default(),
        }
    }

    /// The highest sequence number so far.
    pub(super) const fn last(&self) -> u64 {
        self.sequence.last()
    }

    /// A publication of the run.
    pub(super) fn publication(&mut self, offset: u64, sequence: u64) -> Verdict {
        let by_offset = self.offsets.see(offset);
        let verdict = match self.sequence.see(sequence) {
            // The same publication must not come from another place in the log, either.
            Verdict::InOrder => by_offset,
            other => other,
        };
        match verdict {
            Verdict::Late => self.faults.disorder += 1,
            Verdict::Repeated => self.faults.duplicates += 1,
            Verdict::InOrder | Verdict::Gap(_) => {}
        }
        verdict
    }

    /// A publication of somebody else.
    pub(super) fn foreign(&mut self, offset: u64) {
        self.offsets.see(offset);
        self.faults.foreign += 1;
    }

    /// All faults, where the channel had this many publications of the run.
    pub(super) fn end(mut self, published: u64) -> Faults {
        let missing = self.sequence.missing() + published.saturating_sub(self.sequence.last());
        // An offset that never came may have been anybody's.
        self.faults.gaps = missing.max(self.offsets.missing());
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subscription that gets these (offset, sequence), of a channel with four publications.
    fn faults(seen: &[(u64, u64)]) -> Faults {
        let mut checker = Checker::new(10);
        for &(offset, sequence) in seen {
            checker.publication(offset, sequence);
        }
        checker.end(4)
    }

    #[test]
    fn all_in_order_is_no_fault() {
        let seen = [(11, 1), (12, 2), (13, 3), (14, 4)];
        assert_eq!(faults(&seen), Faults::default());
    }

    #[test]
    fn every_missing_delivery_is_counted_once() {
        let gaps = |gaps| Faults {
            gaps,
            ..Faults::default()
        };
        assert_eq!(faults(&[(11, 1), (14, 4)]), gaps(2));
        assert_eq!(faults(&[(11, 1), (12, 2)]), gaps(2), "at the end");
        assert_eq!(faults(&[]), gaps(4), "nothing came");
        // Acknowledged, but never in the log.
        assert_eq!(faults(&[(11, 1), (12, 3), (13, 4)]), gaps(1));
        // In the log, but of nobody who was seen.
        assert_eq!(faults(&[(11, 1), (12, 2), (14, 3), (15, 4)]), gaps(1));
    }

    #[test]
    fn late_is_disorder_and_again_is_duplicate() {
        let disorder = Faults {
            disorder: 1,
            ..Faults::default()
        };
        assert_eq!(faults(&[(11, 1), (13, 3), (12, 2), (14, 4)]), disorder);
        let duplicate = Faults {
            duplicates: 1,
            ..Faults::default()
        };
        let seen = [(11, 1), (12, 2), (12, 2), (13, 3), (14, 4)];
        assert_eq!(faults(&seen), duplicate);
        let stored_twice = [(11, 1), (12, 2), (13, 2), (14, 3), (15, 4)];
        assert_eq!(faults(&stored_twice), duplicate);
        let late_and_again = [(11, 1), (14, 4), (12, 2), (13, 3), (13, 3)];
        assert_eq!(
            faults(&late_and_again),
            Faults {
                disorder: 2,
                duplicates: 1,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn what_somebody_else_publishes_is_no_gap() {
        let mut checker = Checker::new(0);
        checker.publication(1, 1);
        checker.foreign(2);
        assert_eq!(checker.publication(3, 2), Verdict::InOrder);
        assert_eq!(
            checker.end(2),
            Faults {
                foreign: 1,
                ..Faults::default()
            }
        );
    }
}

//! Bugs of keys, of readers that leave something out and of restarts, put into the record. See [`planted`](super::planted).

use std::collections::BTreeMap;

use super::{
    attempts::Once,
    event::{Event, Key, ReaderId, Seen, tagged},
    planted::Bug,
};
use crate::wire::{Epoch, Offset, Publication, Start};

/// What these bugs need to remember.
pub(super) struct Later {
    once: Option<Once>,
    heads: BTreeMap<Key, (Epoch, Offset)>,
    /// Logs of a broker that is gone.
    gone: BTreeMap<Key, Epoch>,
    /// Who was not told what was left out, or wants less than it says.
    silenced: Option<ReaderId>,
    /// How much that was.
    hidden: u64,
}

impl Later {
    pub(super) const fn new() -> Self {
        Self {
            once: None,
            heads: BTreeMap::new(),
            gone: BTreeMap::new(),
            silenced: None,
            hidden: 0,
        }
    }

    /// Whether the event is changed so that it can be noticed.
    pub(super) fn strike(&mut self, bug: Bug, event: &mut Event) -> bool {
        match (bug, &mut *event) {
            (Bug::StoredAgain, Event::Duplicate { log, epoch, .. }) => {
                let Some(once) = &self.once else {
                    return false;
                };
                let (_, head) = self.heads.get(log).copied().unwrap_or((*epoch, 0));
                *event = Event::Accepted {
                    log: *log,
                    epoch: *epoch,
                    sent: again(once, head + 1),
                    at: u64::MAX,
                };
            }
            (Bug::DuplicateElsewhere, Event::Duplicate { offset, .. }) => *offset += 1,
            (
                Bug::DuplicateOfNothing,
                Event::Accepted {
                    log, epoch, sent, ..
                },
            ) => {
                if self.once.is_none() {
                    return false;
                }
                *event = Event::Duplicate {
                    log: *log,
                    epoch: *epoch,
                    offset: sent.0.offset,
                };
            }
            (Bug::KeyRefused, Event::Accepted { log, .. }) => {
                if self.once.is_none() {
                    return false;
                }
                *event = Event::Refused {
                    log: *log,
                    size: 0,
                    error: super::super::super::PublishError::KeyReused,
                };
            }
            (Bug::SkippedTooFar, Event::Skipped { to, .. }) => *to += 1,
            (Bug::SkippedTooShort, Event::Skipped { from, to, .. }) if *from < *to => *to -= 1,
            (Bug::SkippedTooLate, Event::Skipped { from, to, .. }) if *from < *to => *from += 1,
            (Bug::SkippedAsLagged, Event::Skipped { reader, from, to }) => {
                *event = Event::Lagged {
                    reader: *reader,
                    from: *from,
                    to: *to,
                };
            }
            (Bug::SkippedSwallowed, Event::Skipped { reader, from, to })
                if self.silenced.is_none() =>
            {
                self.silenced = Some(*reader);
                self.hidden = *to - *from + 1;
                *event = Event::Nothing;
                return false;
            }
            (
                Bug::SkippedSwallowed,
                Event::Batch { reader, .. }
                | Event::Lagged { reader, .. }
                | Event::Waiting { reader, .. },
            ) => return self.silenced == Some(*reader),
            (Bug::TooOldGiven, Event::Wants { reader, since, .. }) if *since > 0 => {
                *since = u64::MAX;
                self.silenced = Some(*reader);
                return false;
            }
            (Bug::TooOldGiven, Event::Batch { reader, .. }) => {
                return self.silenced == Some(*reader);
            }
            (
                Bug::RecoveredOverRestart,
                Event::Joined {
                    log,
                    start: Start::After(asked),
                    recovered,
                    ..
                },
            ) if self.gone.get(log) == Some(&asked.epoch) => *recovered = true,
            (Bug::EpochOverRestart, Event::Joined { log, position, .. }) => {
                let Some(epoch) = self.gone.get(log) else {
                    return false;
                };
                position.epoch = *epoch;
            }
            _ => return false,
        }
        true
    }

    /// A broker with these bugs would not count what it does not tell.
    pub(super) fn cover_up(&self, event: &mut Event) {
        if let Event::Counted(stats) = event {
            stats.skipped -= self.hidden;
        }
    }

    pub(super) fn remember(&mut self, event: &Event) {
        match event {
            Event::Keyed(once) => {
                self.once = Some(once.clone());
                return;
            }
            Event::Accepted {
                log, epoch, sent, ..
            } => {
                self.heads.insert(*log, (*epoch, sent.0.offset));
            }
            Event::Joined { log, position, .. } => {
                self.heads.entry(*log).or_insert((position.epoch, 0)).0 = position.epoch;
            }
            Event::Restarted => {
                let heads = std::mem::take(&mut self.heads).into_iter();
                self.gone = heads.map(|(log, (epoch, _))| (log, epoch)).collect();
            }
            _ => {}
        }
        self.once = None;
    }
}

fn again(once: &Once, offset: Offset) -> Seen {
    Seen(Publication {
        offset,
        time: 0,
        publisher: None,
        message: tagged(once.tag, 5),
    })
}

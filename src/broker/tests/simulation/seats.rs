//! Bugs of audiences, put into the record. See [`planted`](super::planted).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    event::{Event, Key, ReaderId, Via},
    planted::Bug,
};

/// An audience's part of a log.
type Section = (usize, Key);

/// What these bugs need to remember.
pub(super) struct Seats {
    taken: BTreeMap<ReaderId, Section>,
    /// Who left last from where.
    left: BTreeMap<Section, ReaderId>,
    /// Who came after somebody had left.
    newcomers: BTreeSet<ReaderId>,
    /// Who has something to read and was neither told nor looked since.
    owed: BTreeSet<ReaderId>,
    /// Those under way, the innermost last.
    polls: Vec<Poll>,
}

struct Poll {
    audience: usize,
    /// Who must be told.
    promised: BTreeSet<ReaderId>,
    told: Vec<ReaderId>,
}

impl Seats {
    pub(super) const fn new() -> Self {
        Self {
            taken: BTreeMap::new(),
            left: BTreeMap::new(),
            newcomers: BTreeSet::new(),
            owed: BTreeSet::new(),
            polls: Vec::new(),
        }
    }

    /// Whether the event is changed.
    pub(super) fn strike(&self, bug: Bug, event: &mut Event) -> bool {
        match event {
            Event::Due { reader } => {
                let Some(shown) = self.tell(bug, *reader) else {
                    return false;
                };
                *event = shown.map_or(Event::Nothing, |reader| Event::Due { reader });
            }
            // Who polls at once does not need the call.
            Event::Called {
                audience,
                waker,
                at_once: false,
            } => match bug {
                Bug::CallLost => *event = Event::Nothing,
                Bug::ClearedAfterTelling if self.is_polled(*audience) => *event = Event::Nothing,
                Bug::OldWakerCalled if *waker > 1 => *waker -= 1,
                _ => return false,
            },
            _ => return false,
        }
        true
    }

    /// Who is told in place of a reader, if the bug strikes.
    fn tell(&self, bug: Bug, reader: ReaderId) -> Option<Option<ReaderId>> {
        let poll = self.polls.last()?;
        let section = self.taken.get(&reader)?;
        let promised = poll.promised.contains(&reader);
        match bug {
            Bug::DueLost => promised.then_some(None),
            Bug::SeatFreedTwice => (promised && self.newcomers.contains(&reader)).then_some(None),
            Bug::SeatFreedForAnother => self.left.get(section).copied().map(Some),
            Bug::DueTwice => poll.told.first().copied().map(Some),
            Bug::DueElsewhere => {
                let mut taken = self.taken.iter();
                let other = taken.find(|(_, (audience, _))| !self.is_polled(*audience));
                other.map(|(other, _)| Some(*other))
            }
            _ => None,
        }
    }

    fn is_polled(&self, audience: usize) -> bool {
        self.polls.iter().any(|poll| poll.audience == audience)
    }

    pub(super) fn remember(&mut self, event: &Event) {
        match event {
            Event::Joined {
                log,
                reader,
                via: Via::Audience(audience),
                ..
            } => {
                let section = (*audience, *log);
                self.taken.insert(*reader, section);
                if self.left.contains_key(&section) {
                    self.newcomers.insert(*reader);
                }
            }
            Event::Left { reader } => {
                if let Some(section) = self.taken.remove(reader) {
                    self.left.insert(section, *reader);
                }
                self.owed.remove(reader);
            }
            Event::Accepted { log, .. } | Event::Closed { log } => {
                let taken = self.taken.iter();
                let here = taken.filter(|(_, (_, own))| own == log);
                self.owed.extend(here.map(|(reader, _)| reader));
            }
            Event::Polling { audience, amid, .. } => {
                let promised = match amid {
                    true => BTreeSet::new(),
                    false => self.owed.clone(),
                };
                self.polls.push(Poll {
                    audience: *audience,
                    promised,
                    told: Vec::new(),
                });
            }
            Event::Due { reader } => {
                self.owed.remove(reader);
                if let Some(poll) = self.polls.last_mut() {
                    poll.told.push(*reader);
                }
            }
            Event::Polled { .. } => drop(self.polls.pop()),
            Event::Batch { reader, .. }
            | Event::Lagged { reader, .. }
            | Event::Waiting { reader, .. }
            | Event::Ended { reader } => drop(self.owed.remove(reader)),
            _ => {}
        }
    }
}

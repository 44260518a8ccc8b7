//! Bugs on purpose, so that it is known that the checker sees them: most stand between what happened and the checker, some
//! in how the broker is made and left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::super::super::{Config, Retention};
use super::{
    event::{Event, Key, ReaderId, Seen, Via, tagged},
    later::Later,
    seats::Seats,
    violation::Kind,
};
use crate::wire::{Epoch, Offset, Start};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    Skipped,
    Duplicated,
    Swapped,
    LaggedSwallowed,
    LaggedTooFar,
    LaggedTooShort,
    LaggedTooLate,
    WrongPayload,
    WrongTime,
    WrongChannel,
    BeforeJoin,
    EndedEarly,
    WakeupMissed,
    OldEpoch,
    OffsetReused,
    AcknowledgedElsewhere,
    RefusedWithRoom,
    /// A reader that left is still counted in, so its channel never goes.
    NeverLeaves,
    /// The same, and the counts do not show it.
    NeverLeavesUnseen,
    NoRetention,
    OneChannelTooMany,
    EvictedEarly,
    /// A reader is passed over when its section is told.
    DueLost,
    DueTwice,
    /// A reader of another audience is told.
    DueElsewhere,
    /// A worker is not called.
    CallLost,
    /// A section that is raised while it is told is not on the list after that.
    ClearedAfterTelling,
    /// The waker of an earlier poll is woken.
    OldWakerCalled,
    /// The seat of a reader that left stays taken, and the counts do not show it.
    SeatKept,
    /// A reader that left freed another's seat, and kept its own.
    SeatFreedForAnother,
    /// A seat is freed once more after somebody else took it.
    SeatFreedTwice,
    /// The first publication that is missing is skipped when a reader continues.
    SeamSkipped,
    /// The last one that it has seen is given again.
    SeamRepeated,
    /// A reader of whose log something fell off, or that is another, is said to continue.
    RecoveredFalsely,
    /// A reader from which nothing is missing is said to begin anew.
    RecoveryDenied,
    /// One fewer than it asked for.
    LatestTooFew,
    /// What is tried again is stored again.
    StoredAgain,
    /// What is tried again is told another position.
    DuplicateElsewhere,
    /// A new key is taken for one that is known.
    DuplicateOfNothing,
    /// A new key is refused as if it stood for another message.
    KeyRefused,
    SkippedTooFar,
    SkippedTooShort,
    SkippedTooLate,
    /// What is left out as the reader wants is told as lost.
    SkippedAsLagged,
    /// What is left out is not told.
    SkippedSwallowed,
    /// A reader gets what is too old for it.
    TooOldGiven,
    /// A reader continues in the log of a broker that is gone.
    RecoveredOverRestart,
    /// The epoch of a broker that is gone comes back.
    EpochOverRestart,
    /// Memory of channels that are gone is not given back.
    MemoryLeaked,
    /// Publications are not counted.
    MemoryUncounted,
}

impl Bug {
    /// The promises of which one should be found broken.
    pub(super) const fn breaks(self) -> &'static [Kind] {
        match self {
            Self::Skipped => &[Kind::Gap],
            // By what comes next, another `Lagged` perhaps.
            Self::LaggedSwallowed => &[Kind::Gap, Kind::LaggedTooLittle, Kind::Missed],
            Self::Duplicated => &[Kind::Duplicate],
            Self::Swapped => &[Kind::OutOfOrder],
            Self::LaggedTooFar => &[Kind::LaggedTooMuch],
            Self::LaggedTooShort | Self::LaggedTooLate => &[Kind::LaggedTooLittle],
            Self::WrongPayload => &[Kind::WrongPayload],
            Self::WrongTime => &[Kind::WrongTime],
            Self::WrongChannel => &[Kind::WrongChannel],
            Self::BeforeJoin => &[Kind::BeforeJoin],
            Self::EndedEarly => &[Kind::EndedEarly],
            Self::WakeupMissed => &[Kind::LostWakeup],
            Self::OldEpoch => &[Kind::OldEpoch],
            Self::OffsetReused => &[Kind::OffsetReused],
            Self::AcknowledgedElsewhere => &[Kind::Acknowledged],
            Self::RefusedWithRoom => &[Kind::Refused],
            Self::NeverLeaves => &[Kind::ReaderCount],
            Self::NeverLeavesUnseen => &[Kind::IdleChannelStays],
            // By its size, by a reader who gets what should be gone, or by a channel that should be gone.
            Self::NoRetention => &[Kind::MemoryBound, Kind::HeldTooLong, Kind::IdleChannelStays],
            Self::OneChannelTooMany => &[Kind::ChannelsAboveBound],
            Self::EvictedEarly => &[Kind::EvictedEarly],
            Self::DueLost
            | Self::CallLost
            | Self::ClearedAfterTelling
            | Self::OldWakerCalled
            | Self::SeatFreedTwice => &[Kind::LostWakeup],
            Self::DueTwice => &[Kind::ToldTwice],
            Self::DueElsewhere => &[Kind::WrongAudience],
            // By the next publication, or at the end.
            Self::SeatKept => &[Kind::AfterLeave, Kind::IdleChannelStays],
            Self::SeatFreedForAnother => &[Kind::AfterLeave],
            Self::SeamSkipped | Self::SeamRepeated | Self::LatestTooFew => &[Kind::WrongStart],
            // The one that was stored wrongly is not where it says.
            Self::StoredAgain | Self::DuplicateElsewhere => &[Kind::StoredTwice],
            Self::DuplicateOfNothing => &[Kind::WrongDuplicate],
            Self::KeyRefused => &[Kind::Refused],
            Self::SkippedTooFar | Self::SkippedTooShort => &[Kind::SkippedWrongly],
            Self::SkippedTooLate => &[Kind::Gap],
            Self::SkippedAsLagged => &[Kind::LaggedTooMuch],
            // By what comes next, another `Skipped` or `Lagged` perhaps.
            Self::SkippedSwallowed => &[
                Kind::Gap,
                Kind::TooOld,
                Kind::SkippedWrongly,
                Kind::LaggedTooLittle,
                Kind::LaggedTooMuch,
                Kind::Missed,
            ],
            // Or by what was skipped instead, and is less than it wants.
            Self::TooOldGiven => &[Kind::TooOld, Kind::SkippedWrongly],
            Self::RecoveredOverRestart => &[Kind::RecoveredFalsely],
            Self::EpochOverRestart => &[Kind::OldEpoch],
            Self::MemoryLeaked | Self::MemoryUncounted => &[Kind::Memory],
            Self::RecoveredFalsely => &[Kind::RecoveredFalsely],
            Self::RecoveryDenied => &[Kind::RecoveryDenied],
        }
    }

    /// Whether it may strike in a seed in which another broker comes: what it hides or keeps goes with a broker otherwise.
    pub(super) const fn survives_restarts(self) -> bool {
        matches!(self, Self::RecoveredOverRestart | Self::EpochOverRestart)
    }

    /// Whether the driver keeps the first such reader that leaves.
    pub(super) const fn leaks(self, via: Via) -> bool {
        match self {
            Self::NeverLeaves | Self::NeverLeavesUnseen => !matches!(via, Via::Audience(_)),
            Self::SeatKept => matches!(via, Via::Audience(_)),
            _ => false,
        }
    }

    pub(super) fn misconfigure(self, config: &mut Config) {
        match self {
            Self::NoRetention => {
                let all = Retention {
                    count: usize::MAX,
                    bytes: usize::MAX,
                    age: Duration::MAX,
                    keep_latest: true,
                };
                let told = Arc::clone(&config.retention);
                config.retention = Arc::new(move |name| {
                    told(name);
                    all
                });
            }
            Self::OneChannelTooMany => config.max_channels += 1,
            Self::EvictedEarly => config.idle /= 2,
            _ => {}
        }
    }
}

/// What the bug needs to remember. It strikes once in a seed, the first time that it can be noticed.
pub(super) struct Planted {
    bug: Option<Bug>,
    /// It struck. Never set for a bug that is in the configuration.
    pub(super) struck: bool,
    /// Where readers began and of which log, until they first read.
    fresh: BTreeMap<ReaderId, (Key, Offset)>,
    newest: BTreeMap<Key, Seen>,
    epochs: BTreeMap<Key, (Epoch, Offset)>,
    /// What subscriptions read.
    logs: BTreeMap<ReaderId, (Key, Via)>,
    /// Who was not told what it missed, and how much that is.
    silenced: Option<(ReaderId, u64)>,
    leaked: Option<Key>,
    seats: Seats,
    later: Later,
}

impl Planted {
    pub(super) const fn new(bug: Option<Bug>) -> Self {
        Self {
            bug,
            struck: false,
            fresh: BTreeMap::new(),
            newest: BTreeMap::new(),
            epochs: BTreeMap::new(),
            logs: BTreeMap::new(),
            silenced: None,
            leaked: None,
            seats: Seats::new(),
            later: Later::new(),
        }
    }

    /// What the checker is shown.
    pub(super) fn show(&mut self, mut event: Event) -> Event {
        if let Some(bug) = self.bug {
            if !self.struck {
                self.struck = self.strike(bug, &mut event)
                    || self.seats.strike(bug, &mut event)
                    || self.later.strike(bug, &mut event);
            }
            self.cover_up(&mut event);
            self.later.cover_up(&mut event);
            self.remember(&event);
        }
        event
    }

    fn strike(&mut self, bug: Bug, event: &mut Event) -> bool {
        match (bug, event) {
            (Bug::LaggedSwallowed, event) => return self.swallow(event),
            (Bug::Skipped, Event::Batch { seen, .. }) if seen.len() > 1 => {
                seen.remove(0);
            }
            (Bug::Duplicated, Event::Batch { seen, .. }) => seen.insert(0, seen[0].clone()),
            (Bug::Swapped, Event::Batch { seen, .. }) if seen.len() > 1 => seen.swap(0, 1),
            (Bug::LaggedTooFar, Event::Lagged { to, .. }) => *to += 1,
            (Bug::LaggedTooShort, Event::Lagged { to, .. }) => *to -= 1,
            (Bug::LaggedTooLate, Event::Lagged { from, .. }) => *from += 1,
            (Bug::WrongPayload, Event::Handed { seen, .. }) => {
                seen.0.message = tagged(u64::MAX, 3);
            }
            (Bug::WrongTime, Event::Handed { seen, .. }) => seen.0.time -= 1,
            (Bug::WrongChannel, Event::Batch { seen, reader }) => {
                let own = self.logs.get(reader).map(|(log, _)| log);
                let Some((_, other)) = self.newest.iter().find(|(key, _)| Some(*key) != own) else {
                    return false;
                };
                seen[0].0.message = other.0.message.clone();
            }
            (Bug::BeforeJoin, Event::Batch { seen, reader }) => {
                let Some((log, start @ 1..)) = self.fresh.get(reader) else {
                    return false;
                };
                let mut earlier = self.newest[log].clone();
                earlier.0.offset = *start;
                seen.insert(0, earlier);
            }
            (Bug::EndedEarly, event) => {
                let Event::Waiting { reader, .. } = *event else {
                    return false;
                };
                *event = Event::Ended { reader };
            }
            (Bug::MemoryLeaked, Event::Counted(stats))
                if stats.channels == 0 && stats.memory == 0 =>
            {
                stats.memory = 3 * 1024;
            }
            (Bug::MemoryUncounted, Event::Counted(stats)) if stats.memory > 64 * 1024 => {
                stats.memory = stats.channels * 1024;
            }
            (Bug::WakeupMissed, event @ Event::Woken { .. }) => *event = Event::Nothing,
            (
                Bug::RecoveredFalsely,
                Event::Joined {
                    start, recovered, ..
                },
            ) if matches!(start, Start::After(_)) && !*recovered => {
                *recovered = true;
            }
            (Bug::RecoveryDenied, Event::Joined { recovered, .. }) if *recovered => {
                *recovered = false;
            }
            (
                Bug::SeamSkipped,
                Event::Joined {
                    recovered: true,
                    position,
                    ..
                },
            ) => {
                position.offset += 1;
            }
            (
                Bug::SeamRepeated,
                Event::Joined {
                    recovered: true,
                    position,
                    ..
                },
            ) if position.offset > 0 => {
                position.offset -= 1;
            }
            (
                Bug::LatestTooFew,
                Event::Joined {
                    start: Start::Latest(1..),
                    position,
                    log,
                    ..
                },
            ) => {
                let Some((_, head)) = self.epochs.get(log) else {
                    return false;
                };
                if position.offset >= *head {
                    return false;
                }
                position.offset += 1;
            }
            (Bug::OldEpoch, Event::Joined { log, position, .. }) => {
                let old = self.epochs.get(log).map(|(epoch, _)| *epoch);
                let Some(old) = old.filter(|old| *old != position.epoch) else {
                    return false;
                };
                position.epoch = old;
            }
            (
                Bug::OffsetReused,
                Event::Accepted {
                    log, epoch, sent, ..
                },
            ) if sent.0.offset == 1 => {
                let Some((old, 1..)) = self.epochs.get(log) else {
                    return false;
                };
                *epoch = *old;
            }
            (Bug::AcknowledgedElsewhere, Event::Accepted { sent, .. }) => sent.0.offset += 1,
            (Bug::RefusedWithRoom, event) => {
                let Event::Joined {
                    log: log @ Key::Hub(_),
                    ..
                } = *event
                else {
                    return false;
                };
                *event = Event::JoinRefused { log };
            }
            (Bug::NeverLeaves | Bug::NeverLeavesUnseen | Bug::SeatKept, Event::Left { reader }) => {
                // A listener is dropped as it should be, and so is a private log's reader.
                let Some((log @ Key::Hub(_), via)) = self.logs.get(reader) else {
                    return false;
                };
                if !bug.leaks(*via) {
                    return false;
                }
                self.leaked = Some(*log);
            }
            _ => return false,
        }
        true
    }

    /// Hides the first `Lagged`; it can be noticed when the same reader reads on.
    fn swallow(&mut self, event: &mut Event) -> bool {
        match (self.silenced, &*event) {
            (None, &Event::Lagged { reader, from, to }) => {
                self.silenced = Some((reader, to - from + 1));
                *event = Event::Nothing;
                false
            }
            (Some((silenced, _)), Event::Batch { reader, .. } | Event::Handed { reader, .. }) => {
                silenced == *reader
            }
            _ => false,
        }
    }

    /// A broker with these bugs would not count what it does not know of.
    fn cover_up(&self, event: &mut Event) {
        match event {
            Event::Counted(stats) => {
                stats.lagged -= self.silenced.map_or(0, |(_, missed)| missed);
                if self.is_unseen() && self.leaked.is_some() {
                    stats.subscriptions -= 1;
                }
            }
            Event::Looked {
                log,
                found: Some(found),
            } if self.is_unseen() && self.leaked == Some(*log) => {
                found.readers -= 1;
            }
            _ => {}
        }
    }

    fn is_unseen(&self) -> bool {
        matches!(self.bug, Some(Bug::NeverLeavesUnseen | Bug::SeatKept))
    }

    fn remember(&mut self, event: &Event) {
        self.seats.remember(event);
        self.later.remember(event);
        match event {
            Event::Accepted {
                log, epoch, sent, ..
            } => {
                self.newest.insert(*log, sent.clone());
                self.epochs.insert(*log, (*epoch, sent.0.offset));
            }
            Event::Joined {
                log,
                reader,
                via,
                position,
                ..
            } => {
                self.epochs.entry(*log).or_insert((position.epoch, 0));
                self.fresh.insert(*reader, (*log, position.offset));
                if *via != Via::Listener {
                    self.logs.insert(*reader, (*log, *via));
                }
            }
            Event::Batch { reader, .. } => {
                self.fresh.remove(reader);
            }
            _ => {}
        }
    }
}

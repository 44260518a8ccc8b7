//! Judges what was observed by what should have been. It has never seen a broker.

use std::collections::{BTreeMap, HashMap};

use super::super::super::{PublishError, Stats};
use super::{
    attempts::Once,
    audience::Audience,
    event::{Event, Found, Key, ReaderId, Seen, Via, tag},
    model::Log,
    plan::Plan,
    reader::Reader,
    tally::Tally,
    violation::{Kind, Verdict, Violation, broken},
};
use crate::wire::{Epoch, Offset, Start};

pub(super) struct Checker {
    plan: Plan,
    /// The key of the publication that is judged next.
    pub(super) once: Option<Once>,
    /// What the brokers before this one counted: publications, lagged, skipped.
    before: (u64, u64, u64),
    /// Those that should be there now.
    pub(super) logs: BTreeMap<Key, Log>,
    readers: BTreeMap<ReaderId, Reader>,
    audiences: Vec<Audience>,
    /// The last offset of every epoch that there was.
    epochs: HashMap<Epoch, Offset>,
    /// Where each tagged message was published.
    owners: HashMap<u64, Key>,
    pub(super) tally: Tally,
}

impl Checker {
    pub(super) fn new(plan: Plan) -> Self {
        let audience = |_| Audience::default();
        Self {
            audiences: (0..plan.audiences).map(audience).collect(),
            plan,
            once: None,
            before: (0, 0, 0),
            logs: BTreeMap::new(),
            readers: BTreeMap::new(),
            epochs: HashMap::new(),
            owners: HashMap::new(),
            tally: Tally::default(),
        }
    }

    pub(super) fn check(&mut self, event: &Event) -> Verdict {
        match event {
            Event::Nothing => Ok(()),
            Event::Keyed(once) => {
                self.once = Some(once.clone());
                Ok(())
            }
            Event::Duplicate { log, epoch, offset } => self.duplicate(*log, *epoch, *offset),
            Event::Made { log, epoch } => self.open(*log, *epoch),
            Event::Accepted {
                log,
                epoch,
                sent,
                at,
            } => {
                self.stored(*log, *epoch, sent)?;
                self.accepted(*log, *epoch, sent, *at)?;
                self.remember(*log, sent, *at);
                Ok(())
            }
            Event::Refused { log, size, error } => self.refused(*log, *size, error),
            Event::JoinRefused { log } => self.full(*log),
            Event::Joined {
                log,
                reader,
                via,
                start,
                position,
                recovered,
            } => {
                self.open(*log, position.epoch)?;
                let log_now = self.log(*log);
                let (offset, continues) = log_now.begin(*start);
                let what = format!("{start:?} begins after {position}, not {offset}");
                match (continues, *recovered) {
                    (false, true) => return broken(Kind::RecoveredFalsely, what),
                    (true, false) => return broken(Kind::RecoveryDenied, what),
                    _ if position.offset != offset => return broken(Kind::WrongStart, what),
                    _ => {}
                }
                let behind = offset < log_now.head();
                log_now.readers.insert(*reader);
                log_now.idle_since = None;
                self.readers
                    .insert(*reader, Reader::new(*log, *via, position.offset));
                self.tally.resumed += u64::from(*recovered && behind);
                self.tally.resumed_idle += u64::from(*recovered && !behind);
                let denied =
                    matches!(start, Start::After(_) | Start::AfterOrOldest(_)) && !recovered;
                self.tally.not_recovered += u64::from(denied);
                self.tally.latest += u64::from(matches!(start, Start::Latest(_)) && behind);
                Ok(())
            }
            Event::Left { reader } => self.left(*reader),
            Event::Woken { reader, waker } => {
                // A subscription that goes may tell its waker a last time.
                if let Some(reader) = self.readers.get_mut(reader) {
                    reader.woken(*waker);
                    self.tally.woken += 1;
                }
                Ok(())
            }
            Event::Batch { reader, .. }
            | Event::Handed { reader, .. }
            | Event::Lagged { reader, .. }
            | Event::Wants { reader, .. }
            | Event::Skipped { reader, .. }
            | Event::SteppedBack { reader }
            | Event::Waiting { reader, .. }
            | Event::Ended { reader } => self.saw(*reader, event),
            Event::Called {
                audience, waker, ..
            } => {
                self.audiences[*audience].called(*waker);
                self.tally.called += 1;
                Ok(())
            }
            Event::Polling {
                audience,
                waker,
                amid,
            } => {
                self.audiences[*audience].polls(*waker);
                let readers = self.readers.values_mut();
                readers
                    .filter(|reader| reader.audience() == Some(*audience))
                    .for_each(|reader| reader.polling(*amid));
                Ok(())
            }
            Event::Due { reader } => self.due(*reader),
            Event::Polled { audience } => {
                self.audiences[*audience].polling = false;
                let readers = self.readers.values();
                readers
                    .filter(|reader| reader.audience() == Some(*audience))
                    .try_for_each(Reader::polled)
            }
            Event::Closed { log } => {
                self.log(*log).closed = true;
                self.owe(*log);
                self.forget_private(*log);
                Ok(())
            }
            Event::Swept { now, evicted } => self.swept(*now, *evicted),
            Event::Looked { log, found } => self.looked(*log, *found),
            Event::Counted(stats) => self.counted(stats),
            Event::Settled { step, action } => self.settled(*step, action),
            Event::Restarted => self.restarted(),
            Event::Over => match (self.live(), self.readers.len()) {
                (0, 0) => Ok(()),
                (0, readers) => broken(Kind::AfterLeave, format!("{readers} are left")),
                (logs, _) => broken(Kind::IdleChannelStays, format!("{logs} are left")),
            },
        }
    }

    fn accepted(&mut self, key: Key, epoch: Epoch, sent: &Seen, at: u64) -> Verdict {
        let (offset, size) = (sent.0.offset, sent.0.message.size());
        if size > self.plan.max_message {
            return broken(Kind::TooLarge, format!("{size} bytes"));
        }
        let used = self.epochs.get(&epoch).copied().unwrap_or_default();
        let live = self.logs.get(&key).is_some_and(|log| log.epoch == epoch);
        if !live && offset <= used {
            return broken(Kind::OffsetReused, format!("{epoch}:{offset}"));
        }
        self.open(key, epoch)?;
        let log = self.log(key);
        if offset != log.head() + 1 {
            let head = log.head();
            return broken(Kind::Acknowledged, format!("{offset} after {head}"));
        }
        if matches!(key, Key::Private(_)) && log.readers.is_empty() {
            return broken(Kind::AfterLeave, format!("{offset} of {key:?}"));
        }
        log.idle_since = None;
        log.accept(sent, at);
        self.epochs.insert(epoch, offset);
        if let Some(tag) = tag(&sent.0.message) {
            self.owners.insert(tag, key);
        }
        self.owe(key);
        if let Key::Hub(_) = key {
            self.tally.publications += 1;
        }
        Ok(())
    }

    fn refused(&mut self, key: Key, size: usize, error: &PublishError) -> Verdict {
        let max = self.plan.max_message;
        let just = match (error, key) {
            (PublishError::TooLarge { .. }, _) => size > max,
            (PublishError::TooManyChannels { .. }, Key::Hub(_)) => return self.full(key),
            (PublishError::KeyReused, _) => self.reused(key),
            (PublishError::Ended, Key::Private(_)) => self.log(key).readers.is_empty(),
            _ => false,
        };
        match just {
            true => Ok(()),
            false => broken(Kind::Refused, format!("{key:?}: {error}")),
        }
    }

    /// A channel was refused.
    fn full(&mut self, key: Key) -> Verdict {
        let live = self.live();
        if self.logs.contains_key(&key) || live < self.plan.max_channels {
            return broken(Kind::Refused, format!("{key:?}, there are {live}"));
        }
        self.tally.refused += 1;
        Ok(())
    }

    /// Makes sure that a log of this epoch may be there.
    fn open(&mut self, key: Key, epoch: Epoch) -> Verdict {
        let old = self.epochs.contains_key(&epoch);
        match self.logs.get(&key) {
            Some(log) if log.epoch == epoch => return Ok(()),
            _ if old => return broken(Kind::OldEpoch, format!("{epoch} of {key:?}")),
            Some(_) => return broken(Kind::EpochChanged, format!("{key:?} to {epoch}")),
            None => {}
        }
        if matches!(key, Key::Hub(_)) && self.live() >= self.plan.max_channels {
            return broken(Kind::ChannelsAboveBound, format!("{key:?}"));
        }
        self.epochs.insert(epoch, 0);
        self.logs
            .insert(key, Log::new(epoch, self.plan.retention(key)));
        Ok(())
    }

    fn saw(&mut self, id: ReaderId, event: &Event) -> Verdict {
        let Some(reader) = self.readers.get_mut(&id) else {
            return broken(Kind::AfterLeave, format!("{event:?}"));
        };
        let seen: &[Seen] = match event {
            Event::Batch { seen, .. } => seen,
            Event::Handed { seen, .. } => std::slice::from_ref(seen),
            _ => &[],
        };
        for seen in seen {
            let owner = tag(&seen.0.message).and_then(|tag| self.owners.get(&tag));
            if owner.is_some_and(|owner| *owner != reader.log) {
                return broken(Kind::WrongChannel, format!("{seen:?} of {owner:?}"));
            }
        }
        reader.saw(&self.logs[&reader.log], event)?;
        let tally = &mut self.tally;
        tally.delivered += seen.len() as u64;
        match event {
            Event::Lagged { .. } if reader.via == Via::Listener => tally.listeners_lagged += 1,
            Event::Lagged { from, to, .. } => tally.lagged += to - from + 1,
            Event::Skipped { from, to, .. } => tally.skipped += to - from + 1,
            Event::SteppedBack { .. } => tally.stepped_back += 1,
            Event::Waiting { .. } => tally.waited += 1,
            Event::Ended { .. } => tally.ended += 1,
            _ => {}
        }
        Ok(())
    }

    fn due(&mut self, id: ReaderId) -> Verdict {
        let Some(reader) = self.readers.get_mut(&id) else {
            return broken(Kind::AfterLeave, format!("{id} is told"));
        };
        let audience = reader.audience();
        if !audience.is_some_and(|audience| self.audiences[audience].polling) {
            return broken(Kind::WrongAudience, format!("{id} of {audience:?} is told"));
        }
        self.tally.due += 1;
        reader.due()
    }

    fn settled(&self, step: usize, action: &str) -> Verdict {
        for (id, reader) in &self.readers {
            let audience = reader.audience().map(|audience| &self.audiences[audience]);
            let awake = audience.is_some_and(Audience::is_awake);
            reader
                .settled(&self.logs[&reader.log], awake)
                .map_err(|violation| Violation {
                    what: format!("{id} after {action} in step {step}: {}", violation.what),
                    ..violation
                })?;
        }
        Ok(())
    }

    fn left(&mut self, id: ReaderId) -> Verdict {
        let Some(reader) = self.readers.remove(&id) else {
            return broken(Kind::AfterLeave, format!("{id} left twice"));
        };
        self.tally.left += 1;
        self.log(reader.log).readers.remove(&id);
        self.forget_private(reader.log);
        Ok(())
    }

    fn swept(&mut self, now: u64, evicted: usize) -> Verdict {
        let idle = self.plan.idle;
        let before = self.live();
        self.logs.retain(|key, log| {
            if let Key::Private(_) = key {
                return true;
            }
            log.trim(now);
            let keys = log.keys.expire(now);
            log.largest = log.memory();
            if keys {
                log.idle_since = None;
                return true;
            }
            if !log.readers.is_empty() {
                return true;
            }
            now - *log.idle_since.get_or_insert(now) < idle || log.is_young(now)
        });
        let right = before - self.live();
        self.tally.evicted += right as u64;
        let what = format!("{evicted} went, {right} should have");
        match evicted.cmp(&right) {
            std::cmp::Ordering::Less => broken(Kind::IdleChannelStays, what),
            std::cmp::Ordering::Greater => broken(Kind::EvictedEarly, what),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    fn looked(&self, key: Key, found: Option<Found>) -> Verdict {
        let (log, found) = match (self.logs.get(&key), found) {
            (Some(log), Some(found)) => (log, found),
            (None, None) => return Ok(()),
            (Some(_), None) => return broken(Kind::EvictedEarly, format!("{key:?}")),
            (None, Some(_)) => return broken(Kind::IdleChannelStays, format!("{key:?}")),
        };
        let what = format!(
            "{key:?}: {found:?}, not {}:{} with {} and {} bytes",
            log.epoch,
            log.head(),
            log.readers.len(),
            log.bytes()
        );
        if found.position.epoch != log.epoch {
            broken(Kind::EpochChanged, what)
        } else if found.position.offset != log.head() {
            broken(Kind::Count, what)
        } else if found.readers != log.readers.len() {
            broken(Kind::ReaderCount, what)
        } else if found.bytes > log.bytes() {
            broken(Kind::MemoryBound, what)
        } else if found.bytes < log.bytes() {
            broken(Kind::TrimmedEarly, what)
        } else {
            Ok(())
        }
    }

    fn counted(&self, stats: &Stats) -> Verdict {
        let readers = self.readers.values();
        let subscriptions = readers.filter(|reader| reader.via != Via::Listener).count();
        let tally = &self.tally;
        if stats.channels > self.plan.max_channels {
            return broken(Kind::ChannelsAboveBound, format!("{stats:?}"));
        }
        if stats.subscriptions != subscriptions {
            return broken(Kind::ReaderCount, format!("{stats:?}, not {subscriptions}"));
        }
        // Reports are rounded up, by an eighth and a step at most, and down to half before they are corrected.
        let hub = self
            .logs
            .range(..Key::Private(0))
            .map(|(_, log)| log.memory());
        let least = hub.sum::<usize>();
        let logs = self.logs.values();
        let most = logs
            .map(|log| log.memory().max(log.largest) * 9 / 8 + 2 * 1024)
            .sum();
        if !(least..=most).contains(&stats.memory) {
            let memory = stats.memory;
            return broken(Kind::Memory, format!("{memory}, not {least} to {most}"));
        }
        let (publications, lagged, skipped) = self.before;
        let counted = (
            stats.publications + publications,
            stats.lagged + lagged,
            stats.skipped + skipped,
        );
        if (stats.channels, counted)
            != (
                self.live(),
                (tally.publications, tally.lagged, tally.skipped),
            )
        {
            let live = self.live();
            return broken(Kind::Count, format!("{stats:?}, not {live} and {tally:?}"));
        }
        Ok(())
    }

    /// Another broker, which has nothing and has counted nothing.
    fn restarted(&mut self) -> Verdict {
        if !self.readers.is_empty() {
            return broken(
                Kind::AfterLeave,
                "somebody reads from a broker that is gone",
            );
        }
        let tally = &mut self.tally;
        tally.restarted += 1;
        self.before = (tally.publications, tally.lagged, tally.skipped);
        self.logs.clear();
        Ok(())
    }

    /// Channels that should be in the hub.
    fn live(&self) -> usize {
        self.logs.range(..Key::Private(0)).count()
    }

    pub(super) fn log(&mut self, key: Key) -> &mut Log {
        self.logs.get_mut(&key).expect("the log is there")
    }

    fn owe(&mut self, key: Key) {
        for reader in &self.logs[&key].readers {
            self.readers.get_mut(reader).expect("it is there").owe();
        }
    }

    /// A private log is over when both its ends are gone.
    fn forget_private(&mut self, key: Key) {
        let log = self.log(key);
        if matches!(key, Key::Private(_)) && log.closed && log.readers.is_empty() {
            self.logs.remove(&key);
        }
    }
}

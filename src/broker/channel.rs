//! One channel: a bounded log with a head to wait on.

mod listeners;
mod space;

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    ChannelStats,
    audience::{Audience, Due, Seat, Section},
    clock::{Now, Uptime},
    keys::{Keys, Known, Token},
    list::List,
    listener::Listener,
    log::{Log, Page, Read, Retention, Wanted},
    marks::Mark,
    presence::{Members, Shown},
    quota::{Account, CHANNEL, Ledger, Report},
};
use crate::wire::{
    Attendance, ChannelName, Epoch, HistoryQuery, Message, Offset, Position, Start, UserId,
    draft::Draft,
};

pub(super) use listeners::Origin;
use listeners::Origins;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) epoch: Epoch,
    state: Mutex<State>,
    /// Wakes readers that wait by themselves, after the lock is released. Made by the first that waits.
    head: OnceLock<Arc<Notify>>,
    /// The session that created it, if one did: it has one channel more for as long.
    creator: Option<Arc<Account>>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct State {
    log: Log,
    subscribers: usize,
    /// Readers of each audience that has some here; at most one section for each worker of a server.
    sections: List<Section>,
    /// Of publications that are stored once; most channels have none.
    keys: Option<Box<Keys>>,
    /// Shared, so that publishing clones a pointer and calls them without the lock.
    listeners: List<Listener>,
    /// For listeners; most channels have none.
    origins: Option<Box<Origins>>,
    /// Those who are told of each other, and those who left and were not told; most channels have none.
    members: Option<Box<Members>>,
    /// When a sweep first found nobody here; publishing and subscribing clear it.
    idle_since: Option<Uptime>,
    report: Report,
    life: Life,
}

/// A channel leaves [`Life::Open`] once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// Left the hub: who still holds it must look its name up again.
    Evicted,
    /// Nothing will follow; readers may read to the end.
    Ended,
}

/// The channel left the hub between look-up and use: look it up again.
#[derive(Debug)]
pub(super) struct Evicted;

/// Why a channel took nothing.
#[derive(Debug)]
pub(super) enum Refused {
    /// Look the name up again; here is what was to be published.
    Evicted(Box<(Draft, Given)>),
    /// The broker takes nothing any more.
    Closed,
    /// Another message was published with this key.
    KeyReused,
    /// The memory is at its limit.
    Overloaded,
    /// What its payer published has as many bytes as it may.
    MemoryQuota { max: usize },
}

/// What is said of a publication beside its content.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    /// It is stored once.
    pub(super) once: Option<Token>,
    /// The account that it is charged to.
    pub(super) payer: Option<Arc<Account>>,
    pub(super) mark: Mark,
    /// Who published, where subscribers are not told all of it.
    pub(super) origin: Option<Origin>,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) position: Position,
    /// It stood there already.
    pub(super) duplicate: bool,
}

/// Where a cursor starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    pub(super) at: Offset,
    /// That is where it asked to continue, and nothing is missing.
    pub(super) recovered: bool,
}

/// What a cursor gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Read(Read),
    /// At the head, and nothing will follow.
    Ended,
}

impl State {
    fn begin(&self, epoch: Epoch, start: Start) -> Begin {
        let (at, recovered) = self.log.begin(epoch, start);
        Begin { at, recovered }
    }

    fn read(&self, cursor: Offset, wanted: Wanted, out: &mut Vec<Bytes>) -> Next {
        match self.log.read(cursor, wanted, out) {
            Read::AtHead if self.life == Life::Ended => Next::Ended,
            read => Next::Read(read),
        }
    }
}

impl Channel {
    pub(super) fn new(
        name: ChannelName,
        epoch: Epoch,
        retention: Retention,
        creator: Option<Arc<Account>>,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let mut report = Report::default();
        report.settle(ledger, CHANNEL);
        Self {
            creator,
            ledger: Arc::clone(ledger),
            name,
            epoch,
            state: Mutex::new(State {
                log: Log::new(retention),
                subscribers: 0,
                sections: List::new(),
                keys: None,
                listeners: List::new(),
                origins: None,
                members: None,
                idle_since: None,
                report,
                life: Life::Open,
            }),
            head: OnceLock::new(),
        }
    }

    /// No code of ours or of users runs under this lock but operations on `Vec`, `Bytes` and hash tables, so a poisoned state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends, then wakes readers and calls listeners.
    ///
    /// With a token, a publication that stands there already is not appended again.
    ///
    /// `closed` is read under the lock: whoever finds a reader at the head after `closed` was set knows that nothing follows.
    pub(super) fn publish(
        self: &Arc<Self>,
        now: Now,
        draft: Draft,
        given: Given,
        closed: &AtomicBool,
    ) -> Result<Accepted, Refused> {
        let (offset, sections, listeners) = {
            let mut state = self.lock();
            if state.life != Life::Open {
                return Err(Refused::Evicted(Box::new((draft, given))));
            }
            if closed.load(Ordering::SeqCst) {
                return Err(Refused::Closed);
            }
            let known = given
                .once
                .and_then(|token| Some(state.keys.as_ref()?.find(token)));
            match known {
                Some(Known::Same(offset)) => return Ok(self.accepted(offset, true)),
                Some(Known::Other) => return Err(Refused::KeyReused),
                Some(Known::New) | None => {}
            }
            self.make_room(&mut state, draft.size(), given.payer.as_ref())?;
            state.idle_since = None;
            let offset = state
                .log
                .append(now, given.mark, given.payer, |offset, time| {
                    draft.seal(offset, time)
                });
            state.note_origin(offset, given.origin);
            if let Some(token) = given.once {
                let keys = state.keys.get_or_insert_default();
                keys.insert(now.uptime, token, offset);
            }
            self.report(&mut state);
            (offset, state.sections.clone(), state.listeners.clone())
        };
        self.wake(&sections);
        for listener in listeners.iter() {
            listener.pump(self);
        }
        Ok(self.accepted(offset, false))
    }

    pub(super) const fn is_of_client(&self) -> bool {
        self.creator.is_some()
    }

    const fn accepted(&self, offset: Offset, duplicate: bool) -> Accepted {
        let position = Position {
            epoch: self.epoch,
            offset,
        };
        Accepted {
            position,
            duplicate,
        }
    }

    /// What to wait on for a publication that a look at the log after this call does not find.
    pub(super) fn head(&self) -> &Arc<Notify> {
        self.head.get_or_init(Arc::default)
    }

    fn wake(&self, sections: &List<Section>) {
        // Who makes it after this finds what was appended before.
        if let Some(head) = self.head.get() {
            head.notify_waiters();
        }
        for section in sections.iter() {
            section.raise();
        }
    }

    /// Counts a subscriber in and says where its cursor starts.
    pub(super) fn join(&self, start: Start) -> Result<Begin, Evicted> {
        let mut state = self.lock();
        if state.life != Life::Open {
            return Err(Evicted);
        }
        state.subscribers += 1;
        state.idle_since = None;
        Ok(state.begin(self.epoch, start))
    }

    pub(super) fn leave(&self) {
        self.lock().subscribers -= 1;
    }

    /// The same for a reader that its audience wakes: it has its seat before its cursor stands, so that nothing is missed.
    pub(super) fn sit(
        &self,
        audience: &Audience,
        due: Arc<dyn Due>,
        key: u32,
        start: Start,
    ) -> Result<(Begin, Seat), Evicted> {
        let mut state = self.lock();
        if state.life != Life::Open {
            return Err(Evicted);
        }
        let known = state.sections.iter().find(|known| known.is_of(audience));
        let section = known.map_or_else(|| Section::new(audience), Arc::clone);
        let place = section.take(due, key);
        if known.is_none() {
            state.sections.add(&section);
        }
        state.subscribers += 1;
        state.idle_since = None;
        let begin = state.begin(self.epoch, start);
        Ok((begin, Seat { section, place }))
    }

    pub(super) fn stand_up(&self, seat: &Seat) {
        let mut state = self.lock();
        state.subscribers -= 1;
        if seat.section.free(seat.place) {
            state.sections.remove(&seat.section);
        }
    }

    /// A session is in the channel, which it reads; whether the next round is to be told, and is not to come here yet.
    pub(super) fn enter(&self, shown: Shown, session: u64, user: Option<&UserId>) -> bool {
        let mut state = self.lock();
        let members = state
            .members
            .get_or_insert_with(|| Box::new(Members::new(shown)));
        members.enter(session, user);
        let listed = std::mem::replace(&mut members.listed, true);
        self.report(&mut state);
        !listed
    }

    /// The same for one that leaves.
    pub(super) fn exit(&self, session: u64) -> bool {
        let mut state = self.lock();
        let Some(members) = &mut state.members else {
            return false;
        };
        members.leave(session);
        !std::mem::replace(&mut members.listed, true)
    }

    /// Publishes who came and went since the last time; whether that was anybody, and whether there are more, for the next round.
    pub(super) fn tell_presence(self: &Arc<Self>, now: Now, closed: &AtomicBool) -> (bool, bool) {
        let (sections, listeners, more) = {
            let mut state = self.lock();
            let Some(members) = &mut state.members else {
                return (false, false);
            };
            members.listed = false;
            // As for `publish`.
            if closed.load(Ordering::SeqCst) {
                return (false, false);
            }
            let change = members.tell();
            let more = members.has_changed();
            members.listed = more;
            state.members.take_if(|members| members.is_empty());
            let Some(change) = change else {
                return (false, false);
            };
            let draft = Draft::new(None, &Message::Presence(change));
            state.idle_since = None;
            state
                .log
                .append_presence(now, |offset, time| draft.seal(offset, time));
            self.report(&mut state);
            (state.sections.clone(), state.listeners.clone(), more)
        };
        self.wake(&sections);
        for listener in listeners.iter() {
            listener.pump(self);
        }
        (true, more)
    }

    /// Who is in the channel, as the log up to its head tells it.
    pub(super) fn presence(&self, limit: u64) -> Attendance {
        let state = self.lock();
        let position = Position {
            epoch: self.epoch,
            offset: state.log.head(),
        };
        match &state.members {
            Some(members) => members.page(position, limit),
            None => Attendance::new(Some(position), 0, 0, Vec::new(), true),
        }
    }

    pub(super) fn read(&self, cursor: Offset, wanted: Wanted, out: &mut Vec<Bytes>) -> Next {
        self.lock().read(cursor, wanted, out)
    }

    /// How many publications stand behind this one.
    pub(super) fn behind(&self, cursor: Offset) -> u64 {
        self.lock().log.head().saturating_sub(cursor)
    }

    pub(super) fn page(&self, query: &HistoryQuery) -> Page {
        self.lock().log.page(self.epoch, query)
    }

    /// Nothing will follow.
    pub(super) fn end(&self) {
        let sections = {
            let mut state = self.lock();
            state.life = Life::Ended;
            state.sections.clone()
        };
        self.wake(&sections);
    }

    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.lock().log.head(),
        }
    }

    /// Subscribers, and listeners but for those of patterns.
    pub(super) fn readers(&self) -> usize {
        let state = self.lock();
        state.subscribers + state.own_listeners()
    }

    /// Bytes of the frames held.
    pub(super) fn bytes(&self) -> usize {
        self.lock().log.bytes()
    }

    /// How it is now.
    pub(super) fn stats(&self) -> ChannelStats {
        let state = self.lock();
        ChannelStats {
            name: self.name.clone(),
            position: Position {
                epoch: self.epoch,
                offset: state.log.head(),
            },
            readers: state.subscribers + state.own_listeners(),
            publications: state.log.len(),
            bytes: state.log.bytes(),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.report.clear(&self.ledger);
        if let Some(creator) = &self.creator {
            creator.close_channel();
        }
    }
}

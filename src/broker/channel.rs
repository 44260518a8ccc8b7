//! One channel: a bounded log with a head to wait on.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    listener::Listener,
    log::{Log, Read, Retention},
};
use crate::wire::{ChannelName, Epoch, Offset, Position, Timestamp, draft::Draft};

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) epoch: Epoch,
    state: Mutex<State>,
    /// Moves with the log's head. Woken after the lock is released.
    pub(super) head: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    log: Log,
    subscribers: usize,
    /// Shared, so that publishing clones a pointer and calls them without the lock.
    listeners: Arc<[Arc<Listener>]>,
    /// When a sweep first found nobody here; publishing and subscribing clear it.
    idle_since: Option<Timestamp>,
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
    /// Look the name up again; here is the draft.
    Evicted(Draft),
    /// The broker takes nothing any more.
    Closed,
}

/// What a cursor gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Read(Read),
    /// At the head, and nothing will follow.
    Ended,
}

impl Channel {
    pub(super) fn new(name: ChannelName, epoch: Epoch, retention: Retention) -> Self {
        Self {
            name,
            epoch,
            state: Mutex::new(State {
                log: Log::new(retention),
                subscribers: 0,
                listeners: Arc::new([]),
                idle_since: None,
                life: Life::Open,
            }),
            head: Arc::new(Notify::new()),
        }
    }

    /// No code of ours or of users runs under this lock but `Vec` and `Bytes` operations, so a poisoned state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends, then wakes readers and calls listeners.
    ///
    /// `closed` is read under the lock: whoever finds a reader at the head after `closed` was set knows that nothing follows.
    pub(super) fn publish(
        &self,
        now: Timestamp,
        draft: Draft,
        closed: &AtomicBool,
    ) -> Result<Position, Refused> {
        let (offset, listeners) = {
            let mut state = self.lock();
            if state.life != Life::Open {
                return Err(Refused::Evicted(draft));
            }
            if closed.load(Ordering::SeqCst) {
                return Err(Refused::Closed);
            }
            state.idle_since = None;
            let offset = state
                .log
                .append(now, |offset, time| draft.seal(offset, time));
            (offset, Arc::clone(&state.listeners))
        };
        self.head.notify_waiters();
        for listener in listeners.iter() {
            listener.pump(self);
        }
        Ok(Position {
            epoch: self.epoch,
            offset,
        })
    }

    /// Counts a subscriber in and says where its cursor starts.
    pub(super) fn join(&self) -> Result<Offset, Evicted> {
        let mut state = self.lock();
        if state.life != Life::Open {
            return Err(Evicted);
        }
        state.subscribers += 1;
        state.idle_since = None;
        Ok(state.log.head())
    }

    pub(super) fn leave(&self) {
        self.lock().subscribers -= 1;
    }

    pub(super) fn add_listener(
        &self,
        make: impl FnOnce(Offset) -> Arc<Listener>,
    ) -> Result<Arc<Listener>, Evicted> {
        let mut state = self.lock();
        if state.life != Life::Open {
            return Err(Evicted);
        }
        state.idle_since = None;
        let listener = make(state.log.head());
        state.listeners = state.listeners.iter().chain([&listener]).cloned().collect();
        Ok(listener)
    }

    pub(super) fn remove_listener(&self, listener: &Arc<Listener>) {
        let mut state = self.lock();
        state.listeners = state
            .listeners
            .iter()
            .filter(|known| !Arc::ptr_eq(known, listener))
            .cloned()
            .collect();
    }

    pub(super) fn read(&self, cursor: Offset, out: &mut Vec<Bytes>) -> Next {
        let state = self.lock();
        match state.log.read(cursor, out) {
            Read::AtHead if state.life == Life::Ended => Next::Ended,
            read => Next::Read(read),
        }
    }

    /// Nothing will follow.
    pub(super) fn end(&self) {
        self.lock().life = Life::Ended;
        self.head.notify_waiters();
    }

    /// Trims by age, and says whether the channel was left by everybody for `idle` milliseconds and is evicted by this call.
    pub(super) fn sweep(&self, now: Timestamp, idle: u64) -> bool {
        let mut state = self.lock();
        state.log.trim(now);
        if state.subscribers > 0 || !state.listeners.is_empty() {
            return false;
        }
        let since = *state.idle_since.get_or_insert(now);
        if now.saturating_sub(since) < idle {
            return false;
        }
        state.life = Life::Evicted;
        true
    }

    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.lock().log.head(),
        }
    }

    /// Subscribers and listeners.
    pub(super) fn readers(&self) -> usize {
        let state = self.lock();
        state.subscribers + state.listeners.len()
    }

    /// Bytes of the frames held.
    pub(super) fn bytes(&self) -> usize {
        self.lock().log.bytes()
    }
}

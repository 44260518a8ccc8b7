//! Listeners of a channel, and what is remembered for them alone: who published.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{Channel, Evicted, Life, Next, State};
use crate::{
    broker::{
        list::List,
        listener::{Listener, Registration},
        log::{Read, Wanted},
    },
    wire::{Offset, UserId},
};

/// Who published, beyond what subscribers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Origin {
    pub(in crate::broker) session: Option<u64>,
    pub(in crate::broker) user: Option<UserId>,
}

/// Origins of the publications in a log that were made while the channel had listeners: as many as the log has publications, at most.
#[derive(Debug, Default)]
pub(super) struct Origins(VecDeque<(Offset, Origin)>);

impl State {
    /// Remembers who made the publication at `offset`, where there is a listener to tell.
    pub(super) fn note_origin(&mut self, offset: Offset, origin: Option<Origin>) {
        if self.listeners.is_empty() {
            self.origins = None;
            return;
        }
        let first = self.log.first();
        if let Some(origins) = &mut self.origins {
            while origins.0.front().is_some_and(|(offset, _)| *offset < first) {
                origins.0.pop_front();
            }
        }
        if let Some(origin) = origin {
            let origins = self.origins.get_or_insert_default();
            origins.0.push_back((offset, origin));
        }
    }

    /// Whether a listener keeps the channel: one of its own, or one of a pattern that has not read everything.
    pub(super) fn is_listened_to(&self) -> bool {
        self.listeners.iter().any(|listener| listener.keeps())
    }

    /// Forgets listeners of patterns that were removed. The list before is returned where it differs, to be dropped outside of all locks:
    /// it may be the last that holds a closure of user code.
    pub(super) fn forget_removed(&mut self) -> Option<List<Listener>> {
        let before = self.listeners.clone();
        self.listeners.retain(|listener| !listener.is_removed());
        let fewer = self.listeners.iter().count() < before.iter().count();
        fewer.then_some(before)
    }

    /// Listeners of this very channel.
    pub(super) fn own_listeners(&self) -> usize {
        let listeners = self.listeners.iter();
        listeners
            .filter(|listener| !listener.is_of_pattern())
            .count()
    }
}

impl Channel {
    /// A channel with listeners from its first publication on.
    pub(in crate::broker) fn heard_by(
        mut self,
        registrations: impl Iterator<Item = Arc<Registration>>,
    ) -> Self {
        if let Ok(state) = self.state.get_mut() {
            for registration in registrations {
                state
                    .listeners
                    .add(&Arc::new(Listener::new(0, registration)));
            }
        }
        self
    }

    pub(in crate::broker) fn add_listener(
        &self,
        registration: &Arc<Registration>,
    ) -> Result<Arc<Listener>, Evicted> {
        let mut state = self.lock();
        if state.life != Life::Open {
            return Err(Evicted);
        }
        state.idle_since = None;
        let listener = Arc::new(Listener::new(state.log.head(), Arc::clone(registration)));
        state.listeners.add(&listener);
        Ok(listener)
    }

    /// Adds a listener of a pattern, unless the channel has it from its beginning.
    pub(in crate::broker) fn attach(&self, registration: &Arc<Registration>) {
        let mut state = self.lock();
        let known = |listener: &Arc<Listener>| listener.is_of(registration);
        if state.life == Life::Open && !state.listeners.iter().any(known) {
            let listener = Listener::new(state.log.head(), Arc::clone(registration));
            state.listeners.add(&Arc::new(listener));
        }
    }

    pub(in crate::broker) fn remove_listener(&self, listener: &Arc<Listener>) {
        self.lock().listeners.remove(listener);
    }

    /// Reads for a listener, with the origins of what was read.
    pub(in crate::broker) fn hear(
        &self,
        cursor: Offset,
        frames: &mut Vec<Bytes>,
        origins: &mut VecDeque<(Offset, Origin)>,
    ) -> Next {
        let state = self.lock();
        let next = state.read(cursor, Wanted::ALL, frames);
        if let (Next::Read(Read::Frames { cursor: to }), Some(known)) = (&next, &state.origins) {
            let start = known.0.partition_point(|(offset, _)| *offset <= cursor);
            let read = known
                .0
                .range(start..)
                .take_while(|(offset, _)| offset <= to);
            origins.extend(read.cloned());
        }
        next
    }

    #[cfg(test)]
    pub(in crate::broker) fn origins(&self) -> usize {
        let state = self.lock();
        state.origins.as_ref().map_or(0, |origins| origins.0.len())
    }
}

//! Space that a channel takes: quotas, trimming, eviction.

use std::sync::Arc;

use super::{Channel, Life, Refused, State};
use crate::broker::{
    clock::Uptime,
    list::List,
    listener::Listener,
    quota::{Account, CHANNEL, KEY, MEMBER, PUBLICATION},
};

impl State {
    /// Estimated bytes of the channel.
    pub(super) fn size(&self) -> usize {
        CHANNEL
            + self.log.size()
            + self.keys.as_ref().map_or(0, |keys| keys.len() * KEY)
            + self
                .members
                .as_ref()
                .map_or(0, |members| members.len() * MEMBER)
    }
}

impl Channel {
    /// Refuses a publication that neither fits into the quota of its payer and the memory, nor can take the place of older ones.
    pub(super) fn make_room(
        &self,
        state: &mut State,
        size: usize,
        payer: Option<&Arc<Account>>,
    ) -> Result<(), Refused> {
        let size = size + PUBLICATION;
        if let Some(payer) = payer
            && payer.exceeds(size)
            && !state.log.make_room(size, Some(payer))
        {
            let max = payer.max_bytes();
            return Err(Refused::MemoryQuota { max });
        }
        if self.ledger.exceeds(size, payer.is_some()) && !state.log.make_room(size, None) {
            return Err(Refused::Overloaded);
        }
        Ok(())
    }

    /// Reports what the channel takes, where that changed by much.
    pub(super) fn report(&self, state: &mut State) {
        let size = state.size();
        state.report.update(&self.ledger, size);
    }

    /// Trims the log to this many bytes, and to its newest publication at most.
    pub(in crate::broker) fn shed(&self, bytes: usize) {
        let mut state = self.lock();
        state.log.shed(bytes);
        let size = state.size();
        state.report.settle(&self.ledger, size);
    }

    /// Trims by age. True where this call evicts the channel: it had no readers for `idle` milliseconds, and retention has precedence: it
    /// holds no message that is younger than its age.
    /// Listeners that it forgets go to `removed`, to be dropped outside of all locks.
    pub(in crate::broker) fn sweep(
        &self,
        now: Uptime,
        idle: u64,
        removed: &mut Vec<List<Listener>>,
    ) -> bool {
        let mut state = self.lock();
        removed.extend(state.forget_removed());
        if self.trim(&mut state, now) {
            state.idle_since = None;
            return false;
        }
        if state.subscribers > 0 || state.is_listened_to() || state.members.is_some() {
            return false;
        }
        let since = *state.idle_since.get_or_insert(now);
        if now.saturating_sub(since) < idle || state.log.holds_young(now) {
            return false;
        }
        state.life = Life::Evicted;
        true
    }

    /// Trims what is too old. Whether a key is still remembered: the channel's epoch lasts as long as somebody may try again.
    fn trim(&self, state: &mut State, now: Uptime) -> bool {
        state.log.trim(now);
        let forgotten = state.keys.take_if(|keys| !keys.expire(now)).is_some();
        let size = state.size();
        state.report.settle(&self.ledger, size);
        !forgotten && state.keys.is_some()
    }
}

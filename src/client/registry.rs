//! Who reads what: the meeting place of streams that the server opens and subscriptions that user code holds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::ClientError;
use crate::{
    transport::FrameReader,
    wire::{
        ChannelName, Code, Position,
        frame::{Header, Source},
    },
};

/// A stream with its header read.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) header: Header,
    pub(super) reader: FrameReader,
}

/// What a subscription is told.
#[derive(Debug)]
pub(super) enum Feed {
    Stream(Incoming),
    End(Code, String),
}

/// What a subscription was told and has not taken up. A stream of a connection that is over may still hold what was delivered, so
/// it is kept; of more than [`MAILBOX`] the second goes, and the positions of its neighbours tell the reader what that cost.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    feeds: Mutex<VecDeque<Feed>>,
    arrived: Notify,
}

/// A reader that sleeps through more connections than this keeps the first stream and the latest ones, 256 KiB each.
const MAILBOX: usize = 4;

impl Mailbox {
    fn put(&self, feed: Feed) {
        {
            let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
            if feeds.len() == MAILBOX {
                feeds.remove(1);
            }
            feeds.push_back(feed);
        }
        self.arrived.notify_one();
    }

    /// Cancel safe.
    pub(super) async fn take(&self) -> Feed {
        loop {
            let next = self
                .feeds
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            match next {
                Some(feed) => return feed,
                None => self.arrived.notified().await,
            }
        }
    }
}

pub(super) type Answer = oneshot::Sender<Result<Position, ClientError>>;
type Key = (u8, ChannelName);

/// What a client reads, over all its connections.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    /// Something is to be unsubscribed.
    pub(super) released: Notify,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Key, Slot>,
    claims: u64,
    /// Subscriptions of this connection that nobody wants any more.
    unwanted: Vec<u64>,
    over: Option<(Code, String)>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The reader; `None` for what came unasked and was not taken up yet.
    claimed: Option<(u64, Arc<Mailbox>)>,
    /// A call that waits to hear that the subscription stands.
    answer: Option<Answer>,
    /// Id and beginning on this connection.
    current: Option<(u64, Position)>,
    /// Asked for on this connection.
    asked: bool,
    /// Arrived and not handed over: unclaimed, or ahead of `Subscribed`. Bounded by the streams that the server may open.
    waiting: Vec<Incoming>,
}

/// User code's hold on a slot; dropping it gives the subscription up.
#[derive(Debug)]
pub(super) struct Claim {
    registry: Arc<Registry>,
    key: Key,
    number: u64,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Claim {
    pub(super) const fn name(&self) -> &ChannelName {
        &self.key.1
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        let owned = |slot: &Slot| {
            slot.claimed
                .as_ref()
                .is_some_and(|(number, _)| *number == self.number)
        };
        if state.slots.get(&self.key).is_some_and(owned)
            && let Some(slot) = state.slots.remove(&self.key)
            && let Some((id, _)) = slot.current
        {
            state.unwanted.push(id);
            drop(state);
            self.registry.released.notify_one();
        }
    }
}

impl Slot {
    /// Brings the stream and its reader together, once both are known.
    fn settle(&mut self) {
        let (Some((id, position)), Some((_, mailbox))) = (self.current, &self.claimed) else {
            return;
        };
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(Ok(position));
        }
        if let Some(at) = self
            .waiting
            .iter()
            .position(|stream| stream.header.subscription == id)
        {
            mailbox.put(Feed::Stream(self.waiting.swap_remove(at)));
            self.waiting.clear();
        }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name for a reader; `None` where it has one.
    pub(super) fn claim(
        self: &Arc<Self>,
        source: Source,
        name: &ChannelName,
        answer: Option<Answer>,
    ) -> Option<Claim> {
        let key = (source.0, name.clone());
        let mailbox = Arc::<Mailbox>::default();
        let mut state = self.lock();
        state.claims += 1;
        let number = state.claims;
        let over = state.over.clone();
        let slot = state.slots.entry(key.clone()).or_default();
        if slot.claimed.is_some() {
            return None;
        }
        slot.claimed = Some((number, Arc::clone(&mailbox)));
        slot.answer = answer;
        if let Some((code, reason)) = over {
            slot.answer = None;
            mailbox.put(Feed::End(code, reason));
        }
        slot.settle();
        Some(Claim {
            registry: Arc::clone(self),
            key,
            number,
            mailbox,
        })
    }

    /// A new connection: what the old one had is gone; these are subscribed already.
    pub(super) fn connected(
        &self,
        automatic: impl IntoIterator<Item = (ChannelName, u64, Position)>,
    ) {
        let mut state = self.lock();
        state.unwanted.clear();
        state.slots.retain(|_, slot| slot.claimed.is_some());
        for slot in state.slots.values_mut() {
            slot.current = None;
            slot.asked = false;
            slot.waiting.clear();
        }
        for (name, id, position) in automatic {
            let slot = state.slots.entry((Source::CHANNEL.0, name)).or_default();
            slot.current = Some((id, position));
            slot.asked = true;
            slot.settle();
        }
    }

    /// Channels that are claimed and not asked for on this connection, each with the number of its claim; they count as asked.
    pub(super) fn to_ask(&self) -> Vec<(ChannelName, u64)> {
        let mut state = self.lock();
        let mut found = Vec::new();
        for ((source, name), slot) in &mut state.slots {
            if let Some((number, _)) = slot.claimed
                && *source == Source::CHANNEL.0
                && !slot.asked
            {
                slot.asked = true;
                found.push((name.clone(), number));
            }
        }
        found
    }

    /// Subscriptions to end.
    pub(super) fn to_end(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().unwanted)
    }

    /// `Subscribed` came for this claim.
    pub(super) fn subscribed(&self, name: &ChannelName, claim: u64, id: u64, position: Position) {
        let mut state = self.lock();
        match state.slots.get_mut(&(Source::CHANNEL.0, name.clone())) {
            Some(slot)
                if slot
                    .claimed
                    .as_ref()
                    .is_some_and(|(number, _)| *number == claim) =>
            {
                slot.current = Some((id, position));
                slot.settle();
            }
            // Given up meanwhile.
            _ => {
                state.unwanted.push(id);
                drop(state);
                self.released.notify_one();
            }
        }
    }

    /// The request for this claim was refused.
    pub(super) fn refused(&self, name: &ChannelName, claim: u64, code: Code, reason: String) {
        let mut state = self.lock();
        let key = (Source::CHANNEL.0, name.clone());
        let owned = |slot: &Slot| {
            slot.claimed
                .as_ref()
                .is_some_and(|(number, _)| *number == claim)
        };
        if !state.slots.get(&key).is_some_and(owned) {
            return;
        }
        let Some(slot) = state.slots.remove(&key) else {
            return;
        };
        drop(state);
        match (slot.answer, slot.claimed) {
            (Some(answer), _) => drop(answer.send(Err(ClientError::Request { code, reason }))),
            (None, Some((_, mailbox))) => mailbox.put(Feed::End(code, reason)),
            (None, None) => {}
        }
    }

    /// A stream arrived.
    pub(super) fn arrived(&self, incoming: Incoming) {
        let source = incoming.header.source;
        let Ok(name) = ChannelName::parse(&incoming.header.name) else {
            return;
        };
        let mut state = self.lock();
        let key = (source.0, name);
        let slot = if source == Source::ENDPOINT {
            let slot = state.slots.entry(key).or_default();
            // Its header is all there is to know of it.
            let position = Position {
                epoch: incoming.header.epoch,
                offset: incoming.header.first.saturating_sub(1),
            };
            slot.current = Some((incoming.header.subscription, position));
            slot
        } else {
            match state.slots.get_mut(&key) {
                Some(slot) => slot,
                // Given up: dropping the stream stops it.
                None => return,
            }
        };
        slot.waiting.push(incoming);
        slot.settle();
    }

    /// Nothing will come any more.
    pub(super) fn end(&self, code: Code, reason: &str) {
        let mut state = self.lock();
        state.over.get_or_insert_with(|| (code, reason.to_owned()));
        for slot in std::mem::take(&mut state.slots).into_values() {
            // A dropped answer is a closed client to who waits for it.
            if let Some((_, mailbox)) = slot.claimed {
                mailbox.put(Feed::End(code, reason.to_owned()));
            }
        }
    }
}

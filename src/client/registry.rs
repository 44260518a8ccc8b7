//! Who reads what: the meeting place of streams that the server opens and subscriptions that user code holds.

mod slot;

use std::{
    collections::{HashMap, HashSet},
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use tokio::sync::{Notify, oneshot};

use super::{
    ClientError,
    datagram::{Inboxes, Merge},
    mailbox::{Feed, Incoming, Mailbox},
};
use crate::{
    transport::Connection,
    wire::{
        ChannelName, Code, Position, Retry, Start,
        frame::{Delivery, Source},
    },
};

use slot::Slot;

pub(super) type Answer = oneshot::Sender<Result<Position, ClientError>>;
/// Source and name of a stream.
pub(super) type Key = (u8, ChannelName);

/// What a client reads, over all its connections.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    /// There may be [`Work`].
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Key, Slot>,
    claims: u64,
    /// Number of this connection.
    connection: u64,
    /// Subscriptions of this connection that nobody wants any more.
    unwanted: Vec<u64>,
    /// Channels whose `Subscribe` is not answered yet: none is asked for twice at a time.
    asking: HashSet<ChannelName>,
    /// Given up before their streams arrived, which are to be dropped when they do.
    orphans: HashSet<u64>,
    /// Streams that ended without a word; the connection may live on.
    cut: Vec<(Key, u64)>,
    /// Of this connection.
    inboxes: Inboxes,
    over: Option<(Code, String)>,
}

/// User code's hold on a slot; dropping it gives the subscription up.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) registry: Arc<Registry>,
    key: Key,
    number: u64,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Claim {
    pub(super) const fn name(&self) -> &ChannelName {
        &self.key.1
    }

    /// The stream of this subscription ended without a word. Of a connection that is over nothing follows from that: the next one has
    /// another stream, which may have the same id.
    pub(super) fn cut_off(&self, subscription: u64, connection: u64) {
        let mut state = self.registry.lock();
        if state.connection == connection {
            state.cut.push((self.key.clone(), subscription));
            drop(state);
            self.registry.changed.notify_one();
        }
    }

    /// The reader has read what there was before its part of a shared stream ran over: it is to have the rest.
    pub(super) fn overflowed(&self, subscription: u64, connection: u64) {
        let mut state = self.registry.lock();
        if state.connection == connection {
            let code = Code::LAGGED;
            let reason = "the stream was not read in time, and shares another";
            state.begin_anew(&self.key, subscription, code, reason);
            drop(state);
            self.registry.changed.notify_one();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        if !state
            .slots
            .get(&self.key)
            .is_some_and(|slot| slot.is_of(self.number))
        {
            return;
        }
        let Some(slot) = state.slots.remove(&self.key) else {
            return;
        };
        let Some((id, position)) = slot.current else {
            return;
        };
        // User code on the server may have opened its stream again before the end of the one before was read.
        let rest: Vec<_> = if self.key.0 == Source::ENDPOINT.0 {
            self.mailbox.streams()
        } else {
            Vec::new()
        };
        let connection = state.connection;
        let current =
            |stream: &Incoming| stream.connection == connection && stream.header.subscription == id;
        if rest.iter().any(current) {
            let reopened = Slot {
                current: Some((id, position)),
                arrived: true,
                asked: true,
                waiting: rest,
                ..Slot::default()
            };
            state.slots.insert(self.key.clone(), reopened);
            return;
        }
        state.unwanted.push(id);
        if !slot.arrived {
            state.orphans.insert(id);
        }
        drop(state);
        self.registry.changed.notify_one();
    }
}

impl State {
    /// What is left of a stream cannot be had on it: its channel is asked for anew, from where its reader is. A stream of user code
    /// cannot be, and is over.
    fn begin_anew(&mut self, key: &Key, id: u64, code: Code, reason: &str) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        if slot.current.is_none_or(|(current, _)| current != id) {
            return;
        }
        if key.0 == Source::ENDPOINT.0 {
            if let Some((_, mailbox)) = &slot.claimed {
                mailbox.put(Feed::End(code, reason.to_owned()));
            }
            return;
        }
        slot.current = None;
        slot.arrived = false;
        slot.asked = false;
        self.unwanted.push(id);
    }
}

/// What is to be told to the server, in this order.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Subscriptions to end.
    pub(super) end: Vec<u64>,
    /// Channels to ask for.
    pub(super) ask: Vec<(ChannelName, Start)>,
    /// To look at again in a while, by [`Registry::recheck`].
    pub(super) cut: Vec<(Key, u64)>,
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
        start: Start,
        answer: Option<Answer>,
    ) -> Option<Claim> {
        let key = (source.0, name.clone());
        let mailbox = Arc::<Mailbox>::default();
        let mut state = self.lock();
        state.claims += 1;
        let number = state.claims;
        let over = state.over.clone();
        let State {
            slots,
            unwanted,
            orphans,
            ..
        } = &mut *state;
        let slot = slots.entry(key.clone()).or_default();
        if slot.claimed.is_some() {
            return None;
        }
        slot.claimed = Some((number, Arc::clone(&mailbox)));
        slot.start = start;
        slot.answer = answer;
        if let Some((code, reason)) = over {
            slot.answer = None;
            mailbox.put(Feed::End(code, reason));
        }
        if let Some((id, position)) = slot.current
            && slot.wants_another(position)
        {
            // What the server gave unasked goes, in favour of one that begins where this reader wants to.
            unwanted.push(id);
            if slot.waiting.drain(..).count() == 0 {
                orphans.insert(id);
            }
            slot.current = None;
            slot.asked = false;
        }
        slot.settle(source.0);
        Some(Claim {
            registry: Arc::clone(self),
            key,
            number,
            mailbox,
        })
    }

    /// A new connection, and its number: what the old one had is gone; these are subscribed already.
    pub(super) fn connected(
        &self,
        automatic: impl IntoIterator<Item = (ChannelName, u64, Position)>,
    ) -> u64 {
        let mut state = self.lock();
        state.connection += 1;
        state.unwanted.clear();
        state.asking.clear();
        state.orphans.clear();
        state.cut.clear();
        state.inboxes = Inboxes::default();
        state.slots.retain(|_, slot| slot.claimed.is_some());
        for slot in state.slots.values_mut() {
            slot.current = None;
            slot.arrived = false;
            slot.asked = false;
            slot.waiting.clear();
        }
        for (name, id, position) in automatic {
            let source = Source::CHANNEL.0;
            let slot = state.slots.entry((source, name)).or_default();
            if slot.wants_another(position) {
                // In favour of one that begins where this reader is.
                state.unwanted.push(id);
                state.orphans.insert(id);
                continue;
            }
            slot.current = Some((id, position));
            slot.asked = true;
            slot.settle(source);
        }
        state.connection
    }

    /// What is to be told to the server now. What is asked for counts as asked.
    pub(super) fn work(&self) -> Work {
        let mut state = self.lock();
        let State {
            slots,
            unwanted,
            asking,
            cut,
            ..
        } = &mut *state;
        let mut work = Work {
            end: std::mem::take(unwanted),
            cut: std::mem::take(cut),
            ask: Vec::new(),
        };
        for ((source, name), slot) in slots {
            if slot.claimed.is_some()
                && *source == Source::CHANNEL.0
                && !slot.asked
                && asking.insert(name.clone())
            {
                slot.asked = true;
                work.ask.push((name.clone(), slot.start()));
            }
        }
        work
    }

    /// `Subscribed` came: it is for who wants the channel now.
    pub(super) fn subscribed(&self, name: &ChannelName, id: u64, position: Position) {
        let mut state = self.lock();
        state.asking.remove(name);
        let source = Source::CHANNEL.0;
        let key = (source, name.clone());
        match state.slots.get_mut(&key) {
            Some(slot) if slot.claimed.is_some() && slot.asked && slot.current.is_none() => {
                slot.current = Some((id, position));
                slot.settle(source);
            }
            // Given up meanwhile. Whoever claimed the channel anew may want another beginning.
            slot => {
                let arrived = slot.is_some_and(|slot| {
                    let before = slot.waiting.len();
                    slot.waiting
                        .retain(|stream| stream.header.subscription != id);
                    slot.waiting.len() < before
                });
                let vacant = |slot: &Slot| {
                    slot.claimed.is_none() && slot.current.is_none() && slot.waiting.is_empty()
                };
                if state.slots.get(&key).is_some_and(vacant) {
                    state.slots.remove(&key);
                }
                state.unwanted.push(id);
                if !arrived {
                    state.orphans.insert(id);
                }
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A request was refused; whether to ask again after a pause.
    pub(super) fn refused(&self, name: &ChannelName, code: Code, reason: String) -> bool {
        let mut state = self.lock();
        state.asking.remove(name);
        let key = (Source::CHANNEL.0, name.clone());
        let Some(slot) = state.slots.get_mut(&key) else {
            return false;
        };
        if !slot.asked {
            // Claimed anew while the request was under way: it was not this reader's.
            drop(state);
            self.changed.notify_one();
            return false;
        }
        // User code on the server subscribed this client while the request was on its way.
        if let Some(stream) = slot.waiting.last() {
            slot.current = Some((stream.header.subscription, stream.position()));
            slot.settle(key.0);
            return false;
        }
        // The same, and its stream is still on its way; or one that was just given up has not ended yet.
        if code == Code::ALREADY_SUBSCRIBED {
            return true;
        }
        // Who subscribed once is not ended by a server that has no room for the moment, or by a session that is ending.
        // Nor by streams of the connection before, or of what it has just ended, which still count.
        let passes = [
            Code::ENDED,
            Code::NO_STREAM_LEFT,
            Code::TOO_MANY_SUBSCRIPTIONS,
        ];
        if slot.answer.is_none() && (code.retry() == Retry::Backoff || passes.contains(&code)) {
            return true;
        }
        let Some(slot) = state.slots.remove(&key) else {
            return false;
        };
        drop(state);
        match (slot.answer, slot.claimed) {
            (Some(answer), _) => drop(answer.send(Err(ClientError::Request { code, reason }))),
            (None, Some((_, mailbox))) => mailbox.put(Feed::End(code, reason)),
            (None, None) => {}
        }
        false
    }

    /// Asks for a channel again that was refused.
    pub(super) fn ask_again(&self, name: &ChannelName) {
        if let Some(slot) = self
            .lock()
            .slots
            .get_mut(&(Source::CHANNEL.0, name.clone()))
            && slot.current.is_none()
        {
            slot.asked = false;
        }
    }

    /// Looks again at a stream that ended without a word. If its connection lives on, the channel is asked for anew; a stream
    /// of user code cannot be, and is over.
    pub(super) fn recheck(&self, key: &Key, id: u64) {
        let reason = "the server cut the stream off";
        self.lock().begin_anew(key, id, Code::ENDED, reason);
    }

    /// A stream arrived.
    pub(super) fn arrived(&self, mut incoming: Incoming, connection: &Connection) {
        let source = incoming.header.source;
        let id = incoming.header.subscription;
        let Ok(name) = ChannelName::parse(&incoming.header.name) else {
            return;
        };
        let mut state = self.lock();
        incoming.connection = state.connection;
        if state.orphans.remove(&id) {
            // Dropping the stream stops it.
            return;
        }
        if incoming.header.delivery == Delivery::DATAGRAM {
            let inbox = state.inboxes.open(id);
            let number = state.connection;
            incoming.datagrams = Some(Box::new(Merge::new(inbox, connection.clone(), number)));
        }
        let position = incoming.position();
        let asking = source == Source::CHANNEL && state.asking.contains(&name);
        let slot = state.slots.entry((source.0, name)).or_default();
        let unasked = !asking && slot.current.is_none();
        if source == Source::ENDPOINT || unasked {
            slot.current = Some((id, position));
            slot.asked = true;
        }
        slot.waiting.push(incoming);
        slot.settle(source.0);
    }

    /// Takes in the next datagram of the connection with this number; `None` where it is over, or another has taken its place. Nobody
    /// sees the datagram in between: whoever finds none in the connection finds it where it went. Cancel safe.
    pub(super) async fn datagram(&self, connection: &Connection, number: u64) -> Option<()> {
        let mut next = pin!(connection.read_datagram());
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.connection != number {
                return Poll::Ready(None);
            }
            let read = next.as_mut().poll(cx);
            read.map(|datagram| {
                state.inboxes.put(&datagram.ok()?);
                Some(())
            })
        })
        .await
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

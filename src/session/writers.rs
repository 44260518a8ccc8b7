//! The streams that a session writes: a place for each, and which of them are due.
//!
//! Lock order: the connection (held by whoever calls [`Source`]), then the places, then what a reader takes. The list of the
//! due is taken last, by itself.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    bell::Bell,
    handle::Progress,
    lanes::{Lanes, Way},
    places::{Place, Places},
    subscribe::SubscribeError,
    writer::{Round, Step, Writer},
};
use crate::{
    auth::Priority,
    broker::Due,
    transport::{Gone, OpenError, Prompt, Source as Fill, Streams, UniStream},
    wire::{
        ChannelName, Code, Position,
        frame::{AutoSubscription, Source},
    },
};

/// All that a session writes beside its control stream.
pub(super) struct Writers {
    bell: Arc<Bell>,
    places: Mutex<Places>,
    /// The server goes away: writers end where they may.
    drains: AtomicBool,
    /// Told when the last place is free.
    emptied: Notify,
    /// Most subscriptions that count.
    max: u64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place that nothing was opened for yet; dropping it frees it.
pub(super) struct Taken<'a> {
    writers: &'a Writers,
    pub(super) key: u32,
    pub(super) id: u64,
    kept: bool,
}

impl Writers {
    /// Of a client that knows `lanes`, or does not.
    pub(super) fn new(prompt: Option<Prompt>, max: u64, lanes: bool) -> Self {
        Self {
            bell: Arc::new(Bell::new(prompt)),
            places: Mutex::new(Places {
                lanes: Lanes::new(lanes),
                ..Places::default()
            }),
            drains: AtomicBool::new(false),
            emptied: Notify::new(),
            max,
        }
    }

    /// Who is told that the writer at a place has something to read.
    pub(super) fn due(&self) -> Arc<dyn Due> {
        Arc::clone(&self.bell) as Arc<dyn Due>
    }

    /// Takes a place for a stream.
    pub(super) fn take(
        &self,
        source: Source,
        name: &ChannelName,
    ) -> Result<Taken<'_>, SubscribeError> {
        let mut places = lock(&self.places);
        if places.closed {
            return Err(SubscribeError::Closed);
        }
        let mut live = 0;
        for (_, place) in &places.taken {
            if place.ended {
                continue;
            }
            if place.source == source && place.name == *name {
                return Err(SubscribeError::AlreadySubscribed(name.clone()));
            }
            live += 1;
        }
        // What was told to end no longer counts, though its last words may be on the way. There may be as many of those again
        // and no more, so that they are bounded too.
        if live >= self.max || places.taken.len() as u64 >= self.max.saturating_mul(2) {
            return Err(SubscribeError::TooManySubscriptions(self.max));
        }
        places.last += 1;
        let id = places.last;
        let key = places.taken.insert(Place {
            id,
            source,
            name: name.clone(),
            ended: false,
            stream: None,
        });
        Ok(Taken {
            writers: self,
            // `max` bounds them far below.
            key: key as u32,
            id,
            kept: false,
        })
    }

    /// A way for the bytes of a subscription of this priority, and what is to be written on it first.
    pub(super) fn way(
        &self,
        priority: Priority,
        streams: &mut Streams<'_>,
    ) -> Result<(Way, Option<Bytes>), OpenError> {
        lock(&self.places).lanes.way(priority, streams)
    }

    /// The channels that the session is subscribed to.
    pub(super) fn subscriptions(&self) -> Vec<AutoSubscription> {
        lock(&self.places).subscriptions()
    }

    /// How far the streams are that were not told to end.
    pub(super) fn progress(&self) -> Vec<Progress> {
        lock(&self.places).progress()
    }

    /// Ends a subscription: `End` goes out after what was read, or the stream is reset where it takes no more. `None` where there is
    /// none, or it was told before; otherwise whether last words are on the way, for which [`give_up`](Self::give_up) is owed.
    pub(super) fn end(&self, id: u64, code: Code, streams: &mut Streams<'_>) -> Option<bool> {
        let mut places = lock(&self.places);
        let (key, place) = places.taken.iter_mut().find(|(_, place)| place.id == id)?;
        // A place whose stream is being opened is no subscription yet: only user code in another thread can meet one.
        let (writer, _) = place.stream.as_mut()?;
        if std::mem::replace(&mut place.ended, true) {
            return None;
        }
        let takes_more = writer.end(code);
        let own = writer.own();
        if takes_more || own.is_none() {
            drop(places);
            self.bell.due(key as u32);
            // A lane takes the last words when it can, and lives on.
            return Some(own.is_some());
        }
        if let Some(stream) = own {
            streams.reset(stream, code);
        }
        self.free(places, key);
        Some(false)
    }

    /// Resets a stream whose last words have not arrived.
    pub(super) fn give_up(&self, id: u64, code: Code, streams: &mut Streams<'_>) {
        let places = lock(&self.places);
        let found = places.taken.iter().find(|(_, place)| place.id == id);
        if let Some((key, place)) = found
            && let Some(stream) = place.own()
        {
            streams.reset(stream, code);
            self.free(places, key);
        }
    }

    /// The subscription to a channel.
    pub(super) fn find_channel(&self, channel: &ChannelName) -> Option<u64> {
        let places = lock(&self.places);
        let mut taken = places.taken.iter().map(|(_, place)| place);
        let found = taken.find(|place| {
            place.source == Source::CHANNEL && !place.ended && place.name == *channel
        });
        found.map(|place| place.id)
    }

    /// The server goes away: every writer comes to its end.
    pub(super) fn drain(&self) {
        self.drains.store(true, Ordering::SeqCst);
        let keys: Vec<_> = lock(&self.places)
            .taken
            .iter()
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.bell.due(key as u32);
        }
        // Lanes end, too, on which there is nobody.
        self.bell.ring();
    }

    /// Resets every stream and lets nobody in any more.
    pub(super) fn close(&self, code: Code, streams: &mut Streams<'_>) {
        let taken = {
            let mut places = lock(&self.places);
            places.closed = true;
            places.lanes.close(code, streams);
            std::mem::take(&mut places.taken)
        };
        for (_, place) in taken {
            if let Some(stream) = place.own() {
                streams.reset(stream, code);
            }
        }
        self.emptied.notify_waiters();
    }

    /// Waits until every place is free, and every lane over.
    pub(super) async fn done(&self) {
        loop {
            let emptied = self.emptied.notified();
            if lock(&self.places).is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// One batch of a writer; whether it may have another.
    fn step(&self, key: usize, streams: &mut Streams<'_>, drains: bool) -> bool {
        let mut guard = lock(&self.places);
        let places = &mut *guard;
        places.turn += 1;
        let Some(place) = places.taken.get_mut(key) else {
            return false;
        };
        let Some((writer, _)) = &mut place.stream else {
            return false;
        };
        let filled = writer.fill(&mut Round {
            streams,
            lanes: &mut places.lanes,
            seat: (key as u32, place.id),
            turn: places.turn,
            drains,
        });
        // One that ended by itself counts no more, either.
        place.ended |= writer.is_ending();
        let (way, over) = (writer.way(), writer.is_over());
        match filled {
            Ok(Step::Blocked) => places.contended = true,
            Ok(_) => {}
            Err(Gone) => match way {
                Way::Own(stream) => {
                    streams.reset(stream, Code::UNSUBSCRIBED);
                    self.free(guard, key);
                    return false;
                }
                Way::Lane(number) => {
                    self.leave_lane(guard, number, streams);
                    return false;
                }
            },
        }
        if let Way::Lane(number) = way {
            let freed = places.lanes.freed(number);
            places.unblock(&freed);
            if over {
                self.free(guard, key);
            } else {
                drop(guard);
            }
            for waited in freed {
                self.bell.due(waited);
            }
        }
        filled == Ok(Step::More)
    }

    /// A lane that the client does not want: its subscriptions end with it.
    fn leave_lane(
        &self,
        mut places: MutexGuard<'_, Places>,
        number: u64,
        streams: &mut Streams<'_>,
    ) {
        places.lanes.reset(number, Code::UNSUBSCRIBED, streams);
        let mut left = Vec::new();
        let seated: Vec<_> = places.seated(number).collect();
        for key in seated {
            left.extend(places.taken.try_remove(key));
        }
        self.tell_empty(places);
        drop(left);
    }

    /// Where not all find room: by priority, and first who waited longest. QUIC names streams that take more again last come, first
    /// served, and whoever is first may take all there is.
    fn by_turns(&self, due: &mut [u32]) {
        let mut places = lock(&self.places);
        if !std::mem::take(&mut places.contended) && !places.ranked {
            return;
        }
        due.sort_by_cached_key(|key| places.writer(*key).map(|writer| writer.order()));
    }

    /// How many of these, from the first on, have its priority.
    fn peers(&self, due: &[u32]) -> usize {
        let mut places = lock(&self.places);
        if !places.ranked {
            return due.len();
        }
        let mut rank = |key: &u32| places.writer(*key).map(|writer| writer.priority());
        let Some(first) = due.first().map(&mut rank) else {
            return 0;
        };
        due.iter().take_while(|key| rank(key) == first).count()
    }

    fn free(&self, mut places: MutexGuard<'_, Places>, key: usize) {
        let place = places.taken.try_remove(key);
        self.tell_empty(places);
        drop(place);
    }

    fn tell_empty(&self, places: MutexGuard<'_, Places>) {
        let empty = places.is_empty();
        drop(places);
        if empty {
            self.emptied.notify_waiters();
        }
    }
}

impl Taken<'_> {
    /// Sits down: from here on the place is freed by the end of its stream. `false` where the session is over: the stream is then
    /// the caller's to reset.
    pub(super) fn keep(mut self, writer: Writer, position: Position) -> bool {
        let refused = {
            let mut places = lock(&self.writers.places);
            match places.taken.get_mut(self.key as usize) {
                Some(place) if place.id == self.id => {
                    let ranked = writer.priority() != Priority::Normal;
                    place.stream = Some((writer, position));
                    places.ranked |= ranked;
                    None
                }
                _ => Some(writer),
            }
        };
        self.kept = true;
        if refused.is_some() {
            return false;
        }
        // Its header is due, and so is what was published since the cursor stands.
        self.writers.bell.due(self.key);
        true
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let places = lock(&self.writers.places);
            let ours = places.taken.get(self.key as usize);
            if ours.is_some_and(|place| place.id == self.id) {
                self.writers.free(places, self.key as usize);
            }
        }
    }
}

impl Fill for Writers {
    fn fill(&self, streams: &mut Streams<'_>) {
        let mut due = self.bell.take();
        let drains = self.drains.load(Ordering::SeqCst);
        if due.len() > 1 {
            self.by_turns(&mut due);
        }
        let mut rest = &mut due[..];
        while !rest.is_empty() {
            let (peers, others) = rest.split_at_mut(self.peers(rest));
            // A batch for each, and again for who has more.
            let mut more = peers.len();
            while more > 0 {
                let mut kept = 0;
                for index in 0..more {
                    if self.step(peers[index] as usize, streams, drains) {
                        peers[kept] = peers[index];
                        kept += 1;
                    }
                }
                more = kept;
            }
            rest = others;
        }
        self.bell.give_back(due);
        if drains {
            let mut places = lock(&self.places);
            let Places { lanes, taken, .. } = &mut *places;
            let seated = |number| taken.iter().any(|(_, place)| place.is_on(number));
            lanes.finish(seated, streams);
        }
    }

    fn writable(&self, stream: UniStream) {
        let key = {
            let mut places = lock(&self.places);
            if let Some((key, writer)) = places.find(stream) {
                writer.unblock();
                key as u32
            } else if let Some(key) = places.lanes.holder(stream) {
                places.unblock(&[key]);
                key
            } else {
                return;
            }
        };
        self.bell.list(key);
    }

    fn resume(&self) {
        let keys: Vec<_> = {
            let mut places = lock(&self.places);
            let resumes = |(key, place): (usize, &mut Place)| {
                let (writer, _) = place.stream.as_mut()?;
                let held = writer.is_held();
                if held {
                    writer.unblock();
                }
                (held || writer.sends_datagrams()).then_some(key as u32)
            };
            places.taken.iter_mut().filter_map(resumes).collect()
        };
        for key in keys {
            self.bell.list(key);
        }
    }

    fn stopped(&self, stream: UniStream, streams: &mut Streams<'_>) {
        let mut places = lock(&self.places);
        if let Some((key, _)) = places.find(stream) {
            streams.reset(stream, Code::UNSUBSCRIBED);
            self.free(places, key);
        } else if let Some(number) = places.lanes.number(stream) {
            self.leave_lane(places, number, streams);
        }
    }

    fn finished(&self, stream: UniStream) {
        let mut places = lock(&self.places);
        if let Some((key, _)) = places.find(stream) {
            self.free(places, key);
        } else if let Some(number) = places.lanes.number(stream) {
            places.lanes.remove(number);
            self.tell_empty(places);
        }
    }
}

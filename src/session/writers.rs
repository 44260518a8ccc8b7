//! The streams that a session writes: a place for each, and which of them are due.
//!
//! Lock order: the connection (held by whoever calls [`Source`]), then the places, then what a reader takes. The list of the
//! due is taken last, by itself.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use slab::Slab;
use tokio::sync::Notify;

use super::{
    handle::Progress,
    subscribe::SubscribeError,
    writer::{Step, Writer},
};
use crate::{
    auth::Priority,
    broker::Due,
    transport::{Gone, Prompt, Source as Fill, Streams, UniStream},
    wire::{
        ChannelName, Code, Position,
        frame::{AutoSubscription, Source},
    },
};

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

#[derive(Default)]
struct Places {
    last: u64,
    taken: Slab<Place>,
    /// Nobody is let in any more.
    closed: bool,
    /// A writer found its stream full: they take turns until none does.
    contended: bool,
    /// Not all have the same priority.
    ranked: bool,
    /// Number of the last turn.
    turn: u64,
}

/// One stream's place, from before it is opened until the client has all of it.
struct Place {
    id: u64,
    source: Source,
    name: ChannelName,
    /// It was told to end; its last words may be on the way. It no longer counts.
    ended: bool,
    stream: Option<(Writer, Position)>,
}

/// Which writers are due.
struct Bell {
    prompt: Option<Prompt>,
    due: Mutex<List>,
}

/// Keys of places, each once: however long nobody looks, it is no longer than the places.
#[derive(Default)]
struct List {
    keys: Vec<u32>,
    /// A bit for each key that is listed.
    listed: Vec<u64>,
}

impl Places {
    fn writer(&mut self, key: u32) -> Option<&mut Writer> {
        let place = self.taken.get_mut(key as usize)?;
        place.stream.as_mut().map(|(writer, _)| writer)
    }
}

impl List {
    fn push(&mut self, key: u32) {
        let (word, bit) = (key as usize / 64, 1 << (key % 64));
        if self.listed.len() <= word {
            self.listed.resize(word + 1, 0);
        }
        if self.listed[word] & bit == 0 {
            self.listed[word] |= bit;
            self.keys.push(key);
        }
    }

    fn take(&mut self) -> Vec<u32> {
        self.listed.fill(0);
        std::mem::take(&mut self.keys)
    }
}

impl Due for Bell {
    fn due(&self, key: u32) {
        let first = {
            let mut due = lock(&self.due);
            let first = due.keys.is_empty();
            due.push(key);
            first
        };
        if first {
            self.ring();
        }
    }
}

impl Bell {
    fn ring(&self) {
        if let Some(prompt) = &self.prompt {
            prompt.prompt();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    pub(super) fn new(prompt: Option<Prompt>, max: u64) -> Self {
        Self {
            bell: Arc::new(Bell {
                prompt,
                due: Mutex::default(),
            }),
            places: Mutex::default(),
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

    /// The channels that the session is subscribed to.
    pub(super) fn subscriptions(&self) -> Vec<AutoSubscription> {
        let places = lock(&self.places);
        let taken = places.taken.iter().map(|(_, place)| place);
        let mut found: Vec<_> = taken
            .filter(|place| place.source == Source::CHANNEL && !place.ended)
            .filter_map(|place| {
                let (_, position) = place.stream.as_ref()?;
                Some(AutoSubscription {
                    subscription: place.id,
                    channel: place.name.to_string(),
                    position: *position,
                })
            })
            .collect();
        found.sort_unstable_by_key(|made| made.subscription);
        found
    }

    /// How far the streams are that were not told to end.
    pub(super) fn progress(&self) -> Vec<Progress> {
        let places = lock(&self.places);
        let taken = places.taken.iter().map(|(_, place)| place);
        let progress = taken.filter(|place| !place.ended).filter_map(|place| {
            let (writer, _) = place.stream.as_ref()?;
            let (position, behind) = writer.reader()?.reached();
            let (lagged, skipped) = writer.reader()?.losses();
            Some(Progress {
                name: place.name.clone(),
                of_channel: place.source == Source::CHANNEL,
                position,
                behind,
                waiting_bytes: writer.waiting() as u64,
                lagged,
                skipped,
            })
        });
        progress.collect()
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
        if writer.end(code) {
            drop(places);
            self.bell.due(key as u32);
            return Some(true);
        }
        streams.reset(writer.stream(), code);
        self.free(places, key);
        Some(false)
    }

    /// Resets a stream whose last words have not arrived.
    pub(super) fn give_up(&self, id: u64, code: Code, streams: &mut Streams<'_>) {
        let places = lock(&self.places);
        let found = places.taken.iter().find(|(_, place)| place.id == id);
        if let Some((key, place)) = found {
            if let Some((writer, _)) = &place.stream {
                streams.reset(writer.stream(), code);
            }
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
    }

    /// Resets every stream and lets nobody in any more.
    pub(super) fn close(&self, code: Code, streams: &mut Streams<'_>) {
        let taken = {
            let mut places = lock(&self.places);
            places.closed = true;
            std::mem::take(&mut places.taken)
        };
        for (_, place) in taken {
            if let Some((writer, _)) = place.stream {
                streams.reset(writer.stream(), code);
            }
        }
        self.emptied.notify_waiters();
    }

    /// Waits until every place is free.
    pub(super) async fn done(&self) {
        loop {
            let emptied = self.emptied.notified();
            if lock(&self.places).taken.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// One batch of a writer; whether it may have another.
    fn step(&self, key: usize, streams: &mut Streams<'_>, drains: bool) -> bool {
        let mut places = lock(&self.places);
        places.turn += 1;
        let turn = places.turn;
        let Some(place) = places.taken.get_mut(key) else {
            return false;
        };
        let Some((writer, _)) = &mut place.stream else {
            return false;
        };
        let filled = writer.fill(streams, turn, drains);
        // One that ended by itself counts no more, either.
        place.ended |= writer.is_ending();
        match filled {
            Ok(Step::More) => true,
            Ok(Step::AtHead) => false,
            Ok(Step::Blocked) => {
                places.contended = true;
                false
            }
            Err(Gone) => {
                streams.reset(writer.stream(), Code::UNSUBSCRIBED);
                self.free(places, key);
                false
            }
        }
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
        let empty = places.taken.is_empty();
        drop(places);
        drop(place);
        if empty {
            self.emptied.notify_waiters();
        }
    }

    fn find(places: &mut Places, stream: UniStream) -> Option<(usize, &mut Writer)> {
        places.taken.iter_mut().find_map(|(key, place)| {
            let (writer, _) = place.stream.as_mut()?;
            (writer.stream() == stream).then_some((key, writer))
        })
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
        let mut due = lock(&self.bell.due).take();
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
        due.clear();
        // The room is kept where it is small.
        let mut list = lock(&self.bell.due);
        if list.keys.is_empty() && due.capacity() <= 16 {
            list.keys = due;
        }
    }

    fn writable(&self, stream: UniStream) {
        let key = {
            let mut places = lock(&self.places);
            let Some((key, writer)) = Self::find(&mut places, stream) else {
                return;
            };
            writer.unblock();
            key
        };
        lock(&self.bell.due).push(key as u32);
    }

    fn stopped(&self, stream: UniStream, streams: &mut Streams<'_>) {
        let mut places = lock(&self.places);
        if let Some((key, _)) = Self::find(&mut places, stream) {
            streams.reset(stream, Code::UNSUBSCRIBED);
            self.free(places, key);
        }
    }

    fn finished(&self, stream: UniStream) {
        let mut places = lock(&self.places);
        if let Some((key, _)) = Self::find(&mut places, stream) {
            self.free(places, key);
        }
    }
}

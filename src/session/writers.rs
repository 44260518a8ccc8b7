//! The streams that a session writes: a place for each, and which of them are due.
//!
//! Lock order: the connection (held by whoever calls [`Source`]), then the places, then what a reader takes. The list of the
//! due is taken last, by itself.

mod turns;

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
    stall::Mark,
    subscribe::SubscribeError,
    writer::Writer,
};
use crate::{
    auth::Priority,
    broker::Due,
    transport::{OpenError, Prompt, Streams},
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

    /// What the streams have taken, and what waits for those that take no more.
    pub(super) fn mark(&self) -> Mark {
        let places = lock(&self.places);
        let writers = places.taken.iter().filter_map(|(_, place)| {
            let (writer, _) = place.stream.as_ref()?;
            Some((writer.served(), writer.stuck()))
        });
        let none = Mark {
            turn: 0,
            waiting: 0,
        };
        writers.fold(none, |mark, (turn, waiting)| Mark {
            turn: mark.turn.max(turn),
            waiting: mark.waiting + waiting,
        })
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

    /// Writes no more and lets nobody in any more. The streams end with the connection, whose end follows: a browser may crash where they
    /// are reset just before that (Chromium 148).
    pub(super) fn close(&self) {
        let taken = {
            let mut places = lock(&self.places);
            places.closed = true;
            places.lanes.close();
            std::mem::take(&mut places.taken)
        };
        drop(taken);
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

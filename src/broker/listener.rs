//! Closures and queues that are told of each publication, as an application framework's message hub has them.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    channel::{Channel, Next, Origin},
    log::Read,
    receiver::Queue,
    subscription::Delivery,
};
use crate::wire::{ChannelName, Epoch, Offset, Pattern, Position, Publication, UserId, draft};

/// What a listener receives: a publication, or word of what it missed, with the channel and the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// Channel of the publication.
    pub channel: ChannelName,
    /// Identity of the channel's log.
    pub epoch: Epoch,
    /// Session that published, as [`Session::number`](crate::endpoint::Session::number) gives it and
    /// [`Sessions::get`](crate::server::Sessions::get) finds it while it is open; `None` for the server itself and its HTTP API.
    pub session: Option<u64>,
    /// User that published, also where the channel's rule hides it from subscribers; `None` for an anonymous session and for the server
    /// itself.
    pub user: Option<UserId>,
    /// The publication, whose `publisher` is that user.
    pub delivery: Delivery,
}

impl Received {
    /// The publication; `None` where some were missed.
    #[must_use]
    pub const fn publication(&self) -> Option<&Publication> {
        match &self.delivery {
            Delivery::Publication(publication) => Some(publication),
            Delivery::Lagged { .. } => None,
        }
    }

    /// Position of the publication, or of the last that was missed.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: match &self.delivery {
                Delivery::Publication(publication) => publication.offset,
                Delivery::Lagged { to, .. } => *to,
            },
        }
    }
}

/// What is done with a publication.
pub(super) enum Call {
    /// A closure, on the thread that publishes.
    Inline(Box<dyn Fn(Received) + Send + Sync>),
    /// A queue, for a task of its own.
    Queue(Arc<Queue>),
}

/// What user code asked for: for one channel, or for all that fit a pattern.
pub(super) struct Registration {
    pattern: Option<Pattern>,
    call: Call,
    removed: AtomicBool,
}

impl Registration {
    pub(super) const fn new(pattern: Option<Pattern>, call: Call) -> Self {
        Self {
            pattern,
            call,
            removed: AtomicBool::new(false),
        }
    }

    pub(super) fn fits(&self, channel: &ChannelName) -> bool {
        let pattern = self.pattern.as_ref();
        pattern.is_some_and(|pattern| pattern.matches(channel))
    }

    pub(super) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
    }
}

/// Listeners of patterns, for channels that are made later.
#[derive(Default)]
pub(super) struct Patterns(RwLock<Vec<Arc<Registration>>>);

impl Patterns {
    pub(super) fn add(&self, registration: &Arc<Registration>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.push(Arc::clone(registration));
    }

    fn remove(&self, registration: &Arc<Registration>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| !Arc::ptr_eq(known, registration));
    }

    pub(super) fn fitting(&self, channel: &ChannelName) -> Vec<Arc<Registration>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let fitting = known.iter().filter(|known| known.fits(channel));
        fitting.cloned().collect()
    }
}

/// A cursor in one channel for a registration.
pub(super) struct Listener {
    registration: Arc<Registration>,
    /// Touched only by who took `due` from 0, or has taken the listener from its queue.
    cursor: AtomicU64,
    /// Publications that were not looked at for this listener yet. Who raises it from 0 calls the closure until it is 0 again, or puts the
    /// listener into its queue once: so calls are in order, one at a time, and a closure that publishes to its own channel does not deadlock.
    due: AtomicUsize,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl Listener {
    pub(super) const fn new(cursor: Offset, registration: Arc<Registration>) -> Self {
        Self {
            registration,
            cursor: AtomicU64::new(cursor),
            due: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_of(&self, registration: &Arc<Registration>) -> bool {
        Arc::ptr_eq(&self.registration, registration)
    }

    pub(super) fn is_of_pattern(&self) -> bool {
        self.registration.pattern.is_some()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.registration.removed.load(Ordering::Acquire)
    }

    /// Whether its channel is to be kept for it.
    pub(super) fn keeps(&self) -> bool {
        !self.is_of_pattern() || self.due.load(Ordering::Acquire) > 0
    }

    /// Calls the closure for all that stands after its cursor, or sees to it that the queue's reader looks.
    pub(super) fn pump(self: &Arc<Self>, channel: &Arc<Channel>) {
        if self.is_removed() || self.due.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        match &self.registration.call {
            Call::Queue(queue) => queue.put(Arc::clone(channel), Arc::clone(self)),
            Call::Inline(call) => loop {
                let seen = self.due.load(Ordering::Acquire);
                self.drain(channel, call);
                if self.rest(seen) {
                    return;
                }
            },
        }
    }

    /// Ends a turn that looked at what was due then; whether nothing came since.
    fn rest(&self, seen: usize) -> bool {
        let rest = self
            .due
            .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire);
        rest.is_ok()
    }

    fn drain(&self, channel: &Channel, call: &(dyn Fn(Received) + Send + Sync)) {
        let mut heard = VecDeque::new();
        while self.read(channel, &mut heard) {
            for received in heard.drain(..) {
                if self.is_removed() {
                    return;
                }
                if catch_unwind(AssertUnwindSafe(|| call(received))).is_err() {
                    tracing::error!(channel = %channel.name, "a listener panicked");
                }
            }
        }
    }

    /// A turn of the queue's reader: what one read gives; whether there may be more.
    pub(super) fn turn(&self, channel: &Channel, heard: &mut VecDeque<Received>) -> bool {
        if self.is_removed() {
            return false;
        }
        let seen = self.due.load(Ordering::Acquire);
        self.read(channel, heard) || !self.rest(seen)
    }

    /// Takes what one read gives; whether that was anything.
    fn read(&self, channel: &Channel, heard: &mut VecDeque<Received>) -> bool {
        let received = |session, user, delivery| Received {
            channel: channel.name.clone(),
            epoch: channel.epoch,
            session,
            user,
            delivery,
        };
        let (mut frames, mut origins) = (Vec::new(), VecDeque::<(Offset, Origin)>::new());
        let cursor = self.cursor.load(Ordering::Relaxed);
        match channel.hear(cursor, &mut frames, &mut origins) {
            Next::Read(Read::Frames { cursor }) => {
                self.cursor.store(cursor, Ordering::Relaxed);
                for frame in frames {
                    let mut publication = match draft::open_publication(&frame) {
                        Ok(publication) => publication,
                        Err(error) => {
                            tracing::error!(channel = %channel.name, %error, "a frame of our own does not decode");
                            continue;
                        }
                    };
                    // One of each publication at most, in the same order.
                    let known = origins.front().map(|(offset, _)| *offset);
                    let origin = match known {
                        Some(offset) if offset == publication.offset => origins.pop_front(),
                        _ => None,
                    };
                    let (session, user) = match origin {
                        Some((_, origin)) => (origin.session, origin.user),
                        None => {
                            let publisher = publication.publisher.as_deref();
                            (None, publisher.and_then(|user| UserId::parse(user).ok()))
                        }
                    };
                    publication.publisher = user.as_ref().map(ToString::to_string);
                    heard.push_back(received(session, user, Delivery::Publication(publication)));
                }
                true
            }
            Next::Read(Read::Lagged { from, to }) => {
                self.cursor.store(to, Ordering::Relaxed);
                heard.push_back(received(None, None, Delivery::Lagged { from, to }));
                true
            }
            // It wants everything.
            Next::Read(Read::AtHead | Read::Skipped { .. } | Read::Own { .. }) | Next::Ended => {
                false
            }
        }
    }
}

/// Keeps a listener; dropping it removes the listener. A call that is under way on another thread may still finish.
#[derive(Debug)]
#[must_use = "dropping the guard removes the listener"]
pub struct ListenerGuard {
    pub(super) channel: Arc<Channel>,
    pub(super) listener: Arc<Listener>,
}

impl Drop for ListenerGuard {
    fn drop(&mut self) {
        self.listener.registration.remove();
        self.channel.remove_listener(&self.listener);
    }
}

/// Keeps a listener of a pattern; dropping it removes the listener from every channel. Calls that are under way on other threads may still
/// finish.
#[must_use = "dropping the guard removes the listener"]
pub struct PatternGuard {
    pub(super) patterns: Arc<Patterns>,
    pub(super) registration: Arc<Registration>,
}

impl Drop for PatternGuard {
    /// Channels forget it at the next sweep.
    fn drop(&mut self) {
        self.registration.remove();
        self.patterns.remove(&self.registration);
    }
}

impl fmt::Debug for PatternGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternGuard")
            .field("pattern", &self.registration.pattern)
            .finish_non_exhaustive()
    }
}

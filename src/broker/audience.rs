//! Readers that one worker serves. A publication reaches the worker once, however many of its readers it is for: the channel's
//! section goes onto the audience's list, and the worker tells the readers when it comes round.
//!
//! Lock order: channel, then section; and section, then what [`Due::due`] takes, which is nothing of the broker.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

use slab::Slab;

/// Who is told that a reader may have something to read.
pub(crate) trait Due: Send + Sync + 'static {
    /// Called while the section is locked: it may not subscribe, unsubscribe or read, only take note of `key`.
    fn due(&self, key: u32);
}

/// One worker's readers. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Audience(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sections with something new; each stands here once.
    due: Vec<Arc<Section>>,
    worker: Option<Waker>,
    /// Nobody looks at the list any more.
    closed: bool,
}

/// The readers that one audience has in one channel.
pub(super) struct Section {
    audience: Arc<Shared>,
    /// It stands on the audience's list.
    raised: AtomicBool,
    members: Mutex<Slab<Member>>,
}

struct Member {
    due: Arc<dyn Due>,
    key: u32,
}

/// A reader's place; [`Channel::stand_up`](super::channel::Channel::stand_up) is owed.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) section: Arc<Section>,
    pub(super) place: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Audience {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
        }))
    }

    /// The worker ends: nobody is told any more. Sections on the list would hold the audience, which holds them.
    pub(crate) fn close(&self) {
        let due = {
            let mut state = lock(&self.0.state);
            state.closed = true;
            std::mem::take(&mut state.due)
        };
        drop(due);
    }

    /// Tells every reader whose channel has something new; the worker's task is woken when there is more. Says whether
    /// there was any such channel.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> bool {
        let mut due = {
            let mut state = lock(&self.0.state);
            if !state
                .worker
                .as_ref()
                .is_some_and(|known| known.will_wake(cx.waker()))
            {
                state.worker = Some(cx.waker().clone());
            }
            if state.due.is_empty() {
                return false;
            }
            std::mem::take(&mut state.due)
        };
        for section in due.drain(..) {
            // Before the readers are told: what is published from here on raises it again.
            section.raised.store(false, Ordering::SeqCst);
            for (_, member) in &*lock(&section.members) {
                member.due.due(member.key);
            }
        }
        let mut state = lock(&self.0.state);
        if state.due.is_empty() {
            state.due = due;
        }
        true
    }
}

impl Section {
    pub(super) fn new(audience: &Audience) -> Arc<Self> {
        Arc::new(Self {
            audience: Arc::clone(&audience.0),
            raised: AtomicBool::new(false),
            members: Mutex::default(),
        })
    }

    pub(super) fn is_of(&self, audience: &Audience) -> bool {
        Arc::ptr_eq(&self.audience, &audience.0)
    }

    /// Its channel has something new.
    pub(super) fn raise(self: &Arc<Self>) {
        if self.raised.swap(true, Ordering::SeqCst) {
            return;
        }
        let worker = {
            let mut state = lock(&self.audience.state);
            if state.closed {
                return;
            }
            state.due.push(Arc::clone(self));
            // Whoever put the first one there woke it.
            if state.due.len() == 1 {
                state.worker.take()
            } else {
                None
            }
        };
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    pub(super) fn take(&self, due: Arc<dyn Due>, key: u32) -> usize {
        lock(&self.members).insert(Member { due, key })
    }

    /// Whether nobody is left.
    pub(super) fn free(&self, place: usize) -> bool {
        let mut members = lock(&self.members);
        members.remove(place);
        if members.capacity() > 64 && members.len() < members.capacity() / 4 {
            members.shrink_to_fit();
        }
        members.is_empty()
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience").finish_non_exhaustive()
    }
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section")
            .field("members", &lock(&self.members).len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Due for Nobody {
        fn due(&self, _: u32) {}
    }

    #[test]
    fn an_audience_that_closes_with_something_due_is_given_back() {
        let audience = Audience::new();
        let section = Section::new(&audience);
        section.take(Arc::new(Nobody), 0);
        section.raise();
        let shared = Arc::downgrade(&audience.0);
        audience.close();
        section.raise();
        drop((audience, section));
        assert!(shared.upgrade().is_none());
    }
}

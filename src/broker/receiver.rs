//! Listeners that run in a task of their own: a queue of channels to look at, not of publications.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::Stream;

use super::{
    channel::Channel,
    listener::{Listener, ListenerGuard, PatternGuard, Received},
};

/// Channels in which there is something to read, each once: as many as the broker has channels, at most, since a channel with something
/// unread is not evicted.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    due: VecDeque<(Arc<Channel>, Arc<Listener>)>,
    waker: Option<Waker>,
    /// The receiver was dropped.
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, channel: Arc<Channel>, listener: Arc<Listener>) {
        let waker = {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.due.push_back((channel, listener));
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets go of the channels, which would otherwise hold the queue through their listeners.
    fn close(&self) {
        let due = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.due)
        };
        // Outside of the lock: a channel may end with it.
        drop(due);
    }

    fn poll_next(&self, cx: &Context<'_>) -> Poll<(Arc<Channel>, Arc<Listener>)> {
        let mut state = self.lock();
        match state.due.pop_front() {
            Some(due) => Poll::Ready(due),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What keeps the listener.
#[derive(Debug)]
pub(super) enum Guard {
    Channel(#[allow(dead_code, reason = "its drop counts")] ListenerGuard),
    Pattern(#[allow(dead_code, reason = "its drop counts")] PatternGuard),
}

/// A listener as a [`Stream`] of [`Received`], to be read in a task of its own: publishers do not wait for it. It does not end by itself;
/// dropping it removes the listener.
///
/// Its bound is that of the channels' logs ([`Retention`](super::Retention)): what a log no longer holds when its turn comes is told as
/// [`Delivery::Lagged`](super::Delivery::Lagged). A batch (64 publications, 64 KiB) is held beside. Publications of one channel come in
/// order, and channels take turns. A channel is not evicted for being idle while something in it is unread. Cancel safe.
#[must_use = "dropping the receiver removes the listener"]
pub struct Receiver {
    queue: Arc<Queue>,
    ready: VecDeque<Received>,
    _guard: Guard,
}

impl Receiver {
    pub(super) const fn new(queue: Arc<Queue>, guard: Guard) -> Self {
        Self {
            queue,
            ready: VecDeque::new(),
            _guard: guard,
        }
    }

    /// The next publication, or word of what was missed. Cancel safe.
    pub async fn recv(&mut self) -> Received {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Received> {
        loop {
            if let Some(received) = self.ready.pop_front() {
                return Poll::Ready(received);
            }
            let (channel, listener) = std::task::ready!(self.queue.poll_next(cx));
            if listener.turn(&channel, &mut self.ready) {
                self.queue.put(channel, listener);
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Stream for Receiver {
    type Item = Received;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        self.get_mut().poll_recv(cx).map(Some)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("guard", &self._guard)
            .finish_non_exhaustive()
    }
}

//! Closures that are called for each publication, as an application framework's message hub has them.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    channel::{Channel, Next},
    log::{Read, Wanted},
    subscription::Delivery,
};
use crate::wire::{Offset, draft};

/// A closure with a cursor of its own.
pub(super) struct Listener {
    call: Box<dyn Fn(Delivery) + Send + Sync>,
    /// Touched only by the thread that took `due` from 0.
    cursor: AtomicU64,
    /// Publications that nobody has looked at for this listener yet. Whoever raises it from 0 calls the closure until it is
    /// 0 again, so calls are in order, one at a time, and a closure that publishes to its own channel does not deadlock.
    due: AtomicUsize,
    removed: AtomicBool,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl Listener {
    pub(super) fn new(cursor: Offset, call: Box<dyn Fn(Delivery) + Send + Sync>) -> Self {
        Self {
            call,
            cursor: AtomicU64::new(cursor),
            due: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
        }
    }

    /// Calls the closure for all that stands after its cursor.
    pub(super) fn pump(&self, channel: &Channel) {
        if self.due.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut seen = 1;
        loop {
            self.drain(channel);
            match self
                .due
                .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn drain(&self, channel: &Channel) {
        let mut frames = Vec::new();
        loop {
            let cursor = self.cursor.load(Ordering::Relaxed);
            match channel.read(cursor, Wanted::ALL, &mut frames) {
                Next::Read(Read::Frames { cursor }) => {
                    self.cursor.store(cursor, Ordering::Relaxed);
                    for frame in frames.drain(..) {
                        match draft::open_publication(&frame) {
                            Ok(publication) => {
                                self.call(channel, Delivery::Publication(publication));
                            }
                            Err(error) => {
                                tracing::error!(channel = %channel.name, %error, "a frame of our own does not decode");
                            }
                        }
                    }
                }
                Next::Read(Read::Lagged { from, to }) => {
                    self.cursor.store(to, Ordering::Relaxed);
                    self.call(channel, Delivery::Lagged { from, to });
                }
                // It wants everything.
                Next::Read(Read::AtHead | Read::Skipped { .. } | Read::Own { .. })
                | Next::Ended => {
                    return;
                }
            }
        }
    }

    fn call(&self, channel: &Channel, delivery: Delivery) {
        if self.removed.load(Ordering::Acquire) {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| (self.call)(delivery))).is_err() {
            tracing::error!(channel = %channel.name, "a listener panicked");
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
        self.listener.removed.store(true, Ordering::Release);
        self.channel.remove_listener(&self.listener);
    }
}

//! A subscription: a private cursor into a channel's log.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::futures::OwnedNotified;

use super::{
    log::Wanted,
    reader::{Batch, Cursor},
};
use crate::wire::{ChannelName, Offset, Position, Publication, draft};

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The next publication.
    Publication(Publication),
    /// The reader was too slow: the log no longer holds these offsets, both ends included.
    Lagged {
        /// First offset missed.
        from: Offset,
        /// Last offset missed.
        to: Offset,
    },
}

/// One reader of one channel. As a [`Stream`] it gives each publication after the subscription began, in order, or says what
/// it misses; it ends when nothing can follow.
///
/// It holds no queue: only a cursor, and one batch (64 publications, 64 KiB) that it is handing out. Dropping it leaves the
/// channel. Cancel safe: a delivery that was not returned is not lost.
pub struct Subscription {
    cursor: Cursor,
    waiting: Option<Pin<Box<OwnedNotified>>>,
    /// Read from the log and not handed out yet; only the `Stream` uses it.
    ready: VecDeque<Bytes>,
}

impl Subscription {
    /// The cursor's start is what [`Channel::join`](super::channel::Channel::join) gave: the subscription owes one
    /// [`Channel::leave`](super::channel::Channel::leave).
    pub(super) const fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            waiting: None,
            ready: VecDeque::new(),
        }
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.cursor.channel.name
    }

    /// Where it began: the first publication has the next offset.
    #[must_use]
    pub fn position(&self) -> Position {
        self.cursor.position()
    }

    /// Whether it began after the position that was asked for, with nothing missing: see
    /// [`Broker::subscribe_from`](super::Broker::subscribe_from).
    #[must_use]
    pub const fn recovered(&self) -> bool {
        self.cursor.recovered()
    }

    /// The next frames, shared with every other reader.
    pub(crate) async fn next_batch(&mut self, out: &mut Vec<Bytes>) -> Batch {
        poll_fn(|cx| self.poll_batch(cx, out)).await
    }

    /// The same without waiting: `None` at the head.
    pub(crate) fn try_batch(&mut self, out: &mut Vec<Bytes>) -> Option<Batch> {
        let batch = self.cursor.try_batch(Wanted::ALL, out)?;
        self.waiting = None;
        Some(batch)
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, out: &mut Vec<Bytes>) -> Poll<Batch> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            if let Some(batch) = self.try_batch(out) {
                return Poll::Ready(batch);
            }
            // It counts from its creation on; a head that moved before is seen by the second look.
            self.waiting = Some(Box::pin(
                Arc::clone(self.cursor.channel.head()).notified_owned(),
            ));
            if let Some(batch) = self.try_batch(out) {
                return Poll::Ready(batch);
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let this = self.get_mut();
        loop {
            if let Some(frame) = this.ready.pop_front() {
                match draft::open_publication(&frame) {
                    Ok(publication) => {
                        return Poll::Ready(Some(Delivery::Publication(publication)));
                    }
                    Err(error) => {
                        tracing::error!(channel = %this.channel(), %error, "a frame of our own does not decode");
                    }
                }
                continue;
            }
            let mut frames = Vec::new();
            match ready!(this.poll_batch(cx, &mut frames)) {
                Batch::Frames => this.ready.extend(frames),
                Batch::Lagged { from, to } => {
                    return Poll::Ready(Some(Delivery::Lagged { from, to }));
                }
                // It wants everything.
                Batch::Skipped { .. } | Batch::Own { .. } => {}
                Batch::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cursor.channel.leave();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

//! What a subscription is told, until it looks.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use super::{datagram::Merge, lane::Frames};
use crate::wire::{Code, Position, frame::Header};

/// A stream with its header read.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) header: Header,
    pub(super) reader: Frames,
    /// Number of its connection: ids of subscriptions begin anew with each.
    pub(super) connection: u64,
    /// Where its publications come as datagrams, too.
    pub(super) datagrams: Option<Box<Merge>>,
}

impl Incoming {
    /// Where it begins: all there is to know of a stream that nobody asked for.
    pub(super) const fn position(&self) -> Position {
        Position {
            epoch: self.header.epoch,
            offset: self.header.first.saturating_sub(1),
        }
    }
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
    /// How far its reader came: where the next connection takes it up.
    reached: Mutex<Option<Position>>,
    feeds: Mutex<VecDeque<Feed>>,
    arrived: Notify,
}

/// A reader that sleeps through more connections than this keeps the first stream and the latest ones, 256 KiB each.
const MAILBOX: usize = 4;

impl Mailbox {
    /// The position of what was given to the reader last, or where it began.
    pub(super) fn reached(&self) -> Option<Position> {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was given to the reader has this position.
    pub(super) fn reach(&self, position: Position) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    }

    /// Where the reader begins, unless it has begun.
    pub(super) fn begin(&self, position: Position) {
        self.reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(position);
    }

    pub(super) fn put(&self, feed: Feed) {
        {
            let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
            if feeds.len() == MAILBOX {
                feeds.remove(1);
            }
            feeds.push_back(feed);
        }
        self.arrived.notify_one();
    }

    /// The streams in it.
    pub(super) fn streams(&self) -> Vec<Incoming> {
        let feeds = std::mem::take(&mut *self.feeds.lock().unwrap_or_else(PoisonError::into_inner));
        let stream = |feed| match feed {
            Feed::Stream(stream) => Some(stream),
            Feed::End(..) => None,
        };
        feeds.into_iter().filter_map(stream).collect()
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

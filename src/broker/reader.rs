//! A private read point in a channel's log, and a reader that its [`Audience`](super::Audience) wakes.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{
    audience::Seat,
    channel::{Begin, Channel, Next},
    hub::Counters,
    log::Read,
};
use crate::wire::{ChannelName, Offset, Position};

/// What a reader found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Encoded publications were appended to the output.
    Frames,
    /// These offsets are gone.
    Lagged { from: Offset, to: Offset },
    /// Nothing will follow.
    Ended,
}

/// Where in a channel somebody reads.
pub(super) struct Cursor {
    pub(super) channel: Arc<Channel>,
    counters: Arc<Counters>,
    start: Begin,
    at: Offset,
}

impl Cursor {
    pub(super) fn new(channel: Arc<Channel>, start: Begin, counters: Arc<Counters>) -> Self {
        counters.subscribed();
        Self {
            channel,
            counters,
            start,
            at: start.at,
        }
    }

    /// Where it began: the first publication has the next offset.
    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.channel.epoch,
            offset: self.start.at,
        }
    }

    /// Whether it began where it was asked to continue.
    pub(super) const fn recovered(&self) -> bool {
        self.start.recovered
    }

    /// The next frames, shared with every other reader; `None` at the head.
    pub(super) fn try_batch(&mut self, out: &mut Vec<Bytes>) -> Option<Batch> {
        match self.channel.read(self.at, out) {
            Next::Read(Read::AtHead) => None,
            Next::Read(Read::Frames { cursor }) => {
                self.at = cursor;
                Some(Batch::Frames)
            }
            Next::Read(Read::Lagged { from, to }) => {
                self.at = to;
                self.counters.lagged(to - from + 1);
                Some(Batch::Lagged { from, to })
            }
            Next::Ended => Some(Batch::Ended),
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.counters.unsubscribed();
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("channel", &self.channel.name)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// One reader of one channel that does not wait: whoever made it is told when it is due. Dropping it leaves the channel.
#[derive(Debug)]
pub(crate) struct Reader {
    cursor: Cursor,
    seat: Seat,
}

impl Reader {
    /// The subscription owes one [`Channel::stand_up`] for its seat.
    pub(super) const fn new(cursor: Cursor, seat: Seat) -> Self {
        Self { cursor, seat }
    }

    pub(crate) fn channel(&self) -> &ChannelName {
        &self.cursor.channel.name
    }

    /// Where it began: the first publication has the next offset.
    pub(crate) fn position(&self) -> Position {
        self.cursor.position()
    }

    /// Whether it began where it was asked to continue.
    pub(crate) const fn recovered(&self) -> bool {
        self.cursor.recovered()
    }

    /// The next frames, shared with every other reader; `None` at the head.
    pub(crate) fn try_batch(&mut self, out: &mut Vec<Bytes>) -> Option<Batch> {
        self.cursor.try_batch(out)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.cursor.channel.stand_up(&self.seat);
    }
}

//! A private read point in a channel's log, and a reader that its [`Audience`](super::Audience) wakes.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    audience::Seat,
    channel::{Begin, Channel, Next},
    clock::Uptime,
    hub::Counters,
    log::{Leave, Read, Wanted},
    presence::Present,
};
use crate::wire::{ChannelName, Offset, Position};

/// What a reader found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Encoded publications were appended to the output.
    Frames,
    /// These offsets are gone.
    Lagged { from: Offset, to: Offset },
    /// The reader does not want these.
    Skipped { from: Offset, to: Offset },
    /// The reader's session published these and did not want them back.
    Own { from: Offset, to: Offset },
    /// Nothing will follow.
    Ended,
}

/// Where in a channel somebody reads.
pub(super) struct Cursor {
    pub(super) channel: Arc<Channel>,
    counters: Arc<Counters>,
    start: Begin,
    at: Offset,
    /// Publications that it was told it missed, and that were left out for it.
    lagged: u64,
    skipped: u64,
}

impl Cursor {
    pub(super) fn new(channel: Arc<Channel>, start: Begin, counters: Arc<Counters>) -> Self {
        counters.subscribed();
        Self {
            channel,
            counters,
            start,
            at: start.at,
            lagged: 0,
            skipped: 0,
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
    pub(super) fn try_batch(&mut self, wanted: Wanted, out: &mut Vec<Bytes>) -> Option<Batch> {
        match self.channel.read(self.at, wanted, out) {
            Next::Read(Read::AtHead) => None,
            Next::Read(Read::Frames { cursor }) => {
                self.at = cursor;
                Some(Batch::Frames)
            }
            Next::Read(Read::Lagged { from, to }) => {
                self.at = to;
                self.lagged += to - from + 1;
                self.counters.lagged(to - from + 1);
                Some(Batch::Lagged { from, to })
            }
            Next::Read(Read::Skipped { from, to }) => {
                self.at = to;
                self.skipped += to - from + 1;
                self.counters.skipped(to - from + 1);
                Some(Batch::Skipped { from, to })
            }
            Next::Read(Read::Own { from, to }) => {
                self.at = to;
                Some(Batch::Own { from, to })
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
    expiry: Option<Box<Expiry>>,
    /// The session that reads.
    session: Option<u64>,
    /// Its session is seen in the channel for as long.
    present: Option<Box<Present>>,
}

/// When a publication is too old for a reader.
struct Expiry {
    uptime: Arc<dyn Fn() -> Uptime + Send + Sync>,
    /// In milliseconds.
    max_age: u64,
}

impl Reader {
    /// The subscription owes one [`Channel::stand_up`] for its seat.
    pub(super) const fn new(cursor: Cursor, seat: Seat) -> Self {
        Self {
            cursor,
            seat,
            expiry: None,
            session: None,
            present: None,
        }
    }

    /// The same, which skips what is older than `max_age` when it is read.
    pub(super) fn expiring(
        mut self,
        max_age: Duration,
        uptime: Arc<dyn Fn() -> Uptime + Send + Sync>,
    ) -> Self {
        let max_age = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        self.expiry = Some(Box::new(Expiry { uptime, max_age }));
        self
    }

    /// The same reader, which is not given what was published without an echo to this session.
    pub(crate) const fn of_session(mut self, session: u64) -> Self {
        self.session = Some(session);
        self
    }

    /// The same reader, for as long as which somebody is in the channel.
    pub(super) fn present(mut self, enter: impl FnOnce(&Arc<Channel>) -> Present) -> Self {
        self.present = Some(Box::new(enter(&self.cursor.channel)));
        self
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
        let wanted = Wanted {
            session: self.session,
            ..Wanted::ALL
        };
        self.cursor.try_batch(wanted, out)
    }

    /// The next frame of those that are not too old and not left out for newer ones; `None` at the head.
    pub(crate) fn try_one(&mut self, leave: Leave, out: &mut Vec<Bytes>) -> Option<Batch> {
        let since = self
            .expiry
            .as_ref()
            .map_or(0, |expiry| (expiry.uptime)().saturating_sub(expiry.max_age));
        let wanted = Wanted {
            since,
            leave,
            count: 1,
            session: self.session,
        };
        self.cursor.try_batch(wanted, out)
    }

    /// What was read last, and how many publications stand behind it.
    pub(crate) fn reached(&self) -> (Position, u64) {
        let position = Position {
            epoch: self.cursor.channel.epoch,
            offset: self.cursor.at,
        };
        (position, self.cursor.channel.behind(self.cursor.at))
    }

    /// Publications that it was told it missed, and that were left out for it.
    pub(crate) const fn losses(&self) -> (u64, u64) {
        (self.cursor.lagged, self.cursor.skipped)
    }

    /// What was read last is not read yet.
    pub(crate) const fn step_back(&mut self) {
        self.cursor.at -= 1;
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry")
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.cursor.channel.stand_up(&self.seat);
    }
}

//! What can be observed of a broker, in the order in which it happened. The checker knows nothing else.

use std::fmt;

use bytes::Bytes;

use super::{
    super::super::{PublishError, Stats},
    attempts::Once,
};
use crate::wire::{Epoch, Message, Offset, Position, Publication, Start, draft};

/// A log: of a name in the hub, or a private one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Hub(usize),
    Private(usize),
}

pub(super) type ReaderId = usize;

/// How a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// `Stream`: one at a time out of a batch in hand.
    Stream,
    /// `try_batch` and `next_batch`.
    Batch,
    /// A closure, with a batch in hand as well.
    Listener,
    /// `try_batch`, when the audience of this number says so or at any other time.
    Audience(usize),
}

/// Who is told when a reader that found nothing should look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The waker of this number.
    Waker(u64),
    Nobody,
    /// The reader, by its audience.
    Reader,
    /// It did not wait: who was to be told before still is.
    AsBefore,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    /// Room for a publication that was not accepted.
    Nothing,
    /// A channel came into the hub.
    Made {
        log: Key,
        epoch: Epoch,
    },
    /// `sent` has the acknowledged offset, and the broker's clock at the time.
    Accepted {
        log: Key,
        epoch: Epoch,
        sent: Seen,
        /// The clock that is never set, at the time.
        at: u64,
    },
    /// What the next event says is the answer to a publication with a key.
    Keyed(Once),
    /// It stands there already.
    Duplicate {
        log: Key,
        epoch: Epoch,
        offset: Offset,
    },
    Refused {
        log: Key,
        size: usize,
        error: PublishError,
    },
    Joined {
        log: Key,
        reader: ReaderId,
        via: Via,
        /// Where it asked to begin.
        start: Start,
        position: Position,
        recovered: bool,
    },
    /// No room for a reader's channel.
    JoinRefused {
        log: Key,
    },
    Left {
        reader: ReaderId,
    },
    Batch {
        reader: ReaderId,
        seen: Vec<Seen>,
    },
    Handed {
        reader: ReaderId,
        seen: Seen,
    },
    Lagged {
        reader: ReaderId,
        from: Offset,
        to: Offset,
    },
    /// A reader is about to look for one publication: the newest alone, or none that is older than `since`.
    Wants {
        reader: ReaderId,
        newest: bool,
        since: u64,
    },
    /// A reader is told that these are left out, as it wants.
    Skipped {
        reader: ReaderId,
        from: Offset,
        to: Offset,
    },
    /// It takes the last one back: it will look at it again.
    SteppedBack {
        reader: ReaderId,
    },
    Waiting {
        reader: ReaderId,
        told: Told,
    },
    Woken {
        reader: ReaderId,
        waker: u64,
    },
    Ended {
        reader: ReaderId,
    },
    /// A worker's waker was woken. `at_once`: it polls before the call returns.
    Called {
        audience: usize,
        waker: u64,
        at_once: bool,
    },
    /// A worker begins to poll its audience. `amid`: while somebody publishes.
    Polling {
        audience: usize,
        waker: u64,
        amid: bool,
    },
    /// A reader is told by its audience.
    Due {
        reader: ReaderId,
    },
    Polled {
        audience: usize,
    },
    /// A private log's poster is about to go.
    Closed {
        log: Key,
    },
    Swept {
        now: u64,
        evicted: usize,
    },
    Looked {
        log: Key,
        found: Option<Found>,
    },
    Counted(Stats),
    /// A step is over and no call is under way.
    Settled {
        step: usize,
        action: &'static str,
    },
    /// Everybody left, and another broker came.
    Restarted,
    /// Everybody left, and the idle time went by.
    Over,
}

/// What the broker says of a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) position: Position,
    pub(super) readers: usize,
    pub(super) bytes: usize,
}

/// A publication that is short to print.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Seen(pub(super) Publication);

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Publication {
            offset,
            time,
            message,
            ..
        } = &self.0;
        match tag(message) {
            Some(tag) => write!(f, "{offset}@{time}#{tag}+{}", message.size()),
            None => write!(f, "{offset}@{time}{message:?}"),
        }
    }
}

pub(super) fn opened(frames: &[Bytes]) -> Vec<Seen> {
    frames
        .iter()
        .map(|frame| Seen(draft::open_publication(frame).expect("a frame decodes")))
        .collect()
}

/// A message that no other is equal to.
pub(super) fn tagged(tag: u64, padding: usize) -> Message {
    let text = format!("{tag}.{}", "x".repeat(padding));
    match tag % 5 {
        0 => Message::notification(text, tag),
        1 => Message::announcement(text, tag),
        _ => Message::text(text),
    }
}

/// The number that [`tagged`] was given.
pub(super) fn tag(message: &Message) -> Option<u64> {
    message.as_text()?.split('.').next()?.parse().ok()
}

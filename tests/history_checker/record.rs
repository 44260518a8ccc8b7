//! What the clients of a channel did and saw, in one order.
//!
//! A [`Recorder`] is shared by all threads. An event that somebody caused is noted before it is caused, one that somebody saw after it
//! was seen: so what stands earlier in the record and had an answer did happen earlier.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::{Arc, Mutex};

use tidings::wire::{Offset, Position};

/// Number of a call to publish.
pub(crate) type CallId = usize;
/// Number of a reader; one that is killed and begins again is another or resumes, as it sees itself.
pub(crate) type ReaderId = usize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A server is about to serve: the one before is gone.
    Started,
    /// The server is about to be ended, with all that it has in memory.
    Stopping,
    /// Somebody is about to publish this text, which no other message of the channel has but one with the same key.
    Invoked {
        call: CallId,
        key: Option<String>,
        text: String,
    },
    Acknowledged {
        call: CallId,
        position: Position,
        duplicate: bool,
    },
    /// Whether it was carried out is not known.
    Unknown { call: CallId },
    /// The server said that it did not do it.
    Refused { call: CallId },
    /// A subscription stands: the next publication has the next offset.
    Subscribed {
        reader: ReaderId,
        position: Position,
    },
    /// A reader is gone, and does not come back before this.
    Cut { reader: ReaderId },
    /// It goes on after `after`; `before` is what it had seen last.
    Resumed {
        reader: ReaderId,
        before: Position,
        after: Position,
        recovered: bool,
    },
    Delivered {
        reader: ReaderId,
        position: Position,
        text: String,
    },
    Lagged {
        reader: ReaderId,
        from: Offset,
        to: Offset,
    },
    Skipped {
        reader: ReaderId,
        from: Offset,
        to: Offset,
    },
    /// Its subscription is over, and not because the test wants so.
    Ended { reader: ReaderId },
    /// It waited for all that was acknowledged until now.
    Finished { reader: ReaderId },
}

impl Event {
    /// Who saw it, where it is a reader.
    pub(crate) const fn reader(&self) -> Option<ReaderId> {
        match self {
            Self::Subscribed { reader, .. }
            | Self::Cut { reader }
            | Self::Resumed { reader, .. }
            | Self::Delivered { reader, .. }
            | Self::Lagged { reader, .. }
            | Self::Skipped { reader, .. }
            | Self::Ended { reader }
            | Self::Finished { reader } => Some(*reader),
            _ => None,
        }
    }
}

/// The record of one channel. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    events: Vec<Event>,
    calls: CallId,
    readers: ReaderId,
}

impl Recorder {
    pub(crate) fn note(&self, event: Event) {
        self.0.lock().unwrap().events.push(event);
    }

    /// Somebody is about to publish.
    pub(crate) fn invoke(&self, key: Option<&str>, text: &str) -> CallId {
        let mut record = self.0.lock().unwrap();
        record.calls += 1;
        let call = record.calls;
        record.events.push(Event::Invoked {
            call,
            key: key.map(str::to_owned),
            text: text.to_owned(),
        });
        call
    }

    /// A number for another reader.
    pub(crate) fn reader(&self) -> ReaderId {
        let mut record = self.0.lock().unwrap();
        record.readers += 1;
        record.readers
    }

    /// All of it until now.
    pub(crate) fn history(&self) -> Vec<Event> {
        self.0.lock().unwrap().events.clone()
    }

    /// Acknowledgements until now.
    pub(crate) fn acknowledged(&self) -> usize {
        let record = self.0.lock().unwrap();
        let acknowledged = |event: &&Event| matches!(event, Event::Acknowledged { .. });
        record.events.iter().filter(acknowledged).count()
    }
}

//! What the registry knows of one name.

use std::sync::Arc;

use super::Answer;
use crate::{
    client::mailbox::{Feed, Incoming, Mailbox},
    wire::{Position, Start, frame::Source},
};

#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The reader; `None` for what came unasked and was not taken up yet.
    pub(super) claimed: Option<(u64, Arc<Mailbox>)>,
    /// Where a reader that has not begun wants to.
    pub(super) start: Start,
    /// A call that waits to hear that the subscription stands.
    pub(super) answer: Option<Answer>,
    /// Id and beginning on this connection.
    pub(super) current: Option<(u64, Position)>,
    /// The stream of `current` has arrived.
    pub(super) arrived: bool,
    /// Asked for on this connection, or made by the server.
    pub(super) asked: bool,
    /// Arrived and not handed over: unclaimed, or ahead of `Subscribed`. Bounded by the streams that the server may open,
    /// and the parts that a lane may have.
    pub(super) waiting: Vec<Incoming>,
}

impl Slot {
    pub(super) fn is_of(&self, claim: u64) -> bool {
        self.claimed
            .as_ref()
            .is_some_and(|(number, _)| *number == claim)
    }

    /// Where its reader is to be taken up.
    pub(super) fn start(&self) -> Start {
        let reached = self
            .claimed
            .as_ref()
            .and_then(|(_, mailbox)| mailbox.reached());
        reached.map_or(self.start, Start::AfterOrOldest)
    }

    /// Whether the server is to be asked for another beginning than `position`, where it began by itself.
    pub(super) fn wants_another(&self, position: Position) -> bool {
        match self.start() {
            Start::Head => false,
            Start::After(reached) => {
                reached.epoch == position.epoch && reached.offset != position.offset
            }
            // In another log, too, there may be something before the head.
            Start::AfterOrOldest(reached) => reached != position && position.offset > 0,
            _ => true,
        }
    }

    /// Brings the stream and its reader together, once both are known.
    pub(super) fn settle(&mut self, source: u8) {
        let (Some((id, position)), Some((_, mailbox))) = (self.current, &self.claimed) else {
            return;
        };
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(Ok(position));
        }
        mailbox.begin(position);
        for stream in std::mem::take(&mut self.waiting) {
            // Of a channel, only the stream that was asked for last; of user code, all that it opened, in order.
            if stream.header.subscription == id || source == Source::ENDPOINT.0 {
                self.arrived = true;
                mailbox.put(Feed::Stream(stream));
            }
        }
    }
}

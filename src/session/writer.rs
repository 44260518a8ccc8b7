//! From a cursor to a stream (PROTOCOL §5): what one subscription owes its stream. Nothing here waits: a stream that takes no more
//! is left alone until it does, which is why a stalled reader of one channel holds up nothing else.

mod reading;

use std::cmp::Reverse;

use bytes::Bytes;

use super::{
    datagram::{Datagrams, Turn},
    lanes::{Lanes, Way},
};
use crate::{
    auth::{Delivery, Priority},
    broker::Reader,
    transport::{Class, Gone, Streams, UniStream, Written},
    wire::{
        Code, Offset,
        frame::{End, Frame},
    },
};

/// One subscription and its stream.
pub(super) struct Writer {
    way: Way,
    /// `None` once nothing more is read.
    reader: Option<Reader>,
    until: Until,
    /// Handed out by the log or made here, and not taken by the stream yet.
    pending: Vec<Bytes>,
    phase: Phase,
    delivery: Delivery,
    /// The stream takes no more for now.
    blocked: bool,
    /// It would, but what is pending may not go out yet.
    held: bool,
    /// It took no more since the last look at what waits: that may not be worth its way any more.
    stalled: bool,
    /// Something newer may stand behind what is to be read.
    behind: bool,
    /// What is told as left out at the end of `pending`, before a publication, where that may still become more.
    left_out: Option<(Offset, Offset)>,
    /// Length of the publication at the end of `pending`, where it may still be replaced.
    whole: usize,
    /// The turn in which it last wrote, or began to write a fresh publication.
    served: u64,
    /// Where its publications travel as datagrams.
    datagrams: Option<Box<Datagrams>>,
}

/// What a writer is given to write with.
pub(super) struct Round<'a, 's> {
    pub(super) streams: &'a mut Streams<'s>,
    pub(super) lanes: &'a mut Lanes,
    /// Its place and its subscription.
    pub(super) seat: (u32, u64),
    pub(super) turn: u64,
    /// The server goes away: whoever must come to an end does at the head.
    pub(super) drains: bool,
}

/// How far a writer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be another batch.
    More,
    /// Nothing is left to be written.
    AtHead,
    /// Its stream takes no more for now.
    Blocked,
}

/// Where a draining writer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// At the head of a log: the broker takes nothing any more.
    Head,
    /// At the end of a log that is still written to while it drains, with what was accepted before.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Live,
    /// `End` is to be written after what is pending.
    Ending(Code),
    /// `End` is written or pending; then the stream is finished.
    Last,
    /// Finished: the client has not acknowledged all of it yet.
    Finished,
}

impl Writer {
    pub(super) fn new(
        way: Way,
        reader: Reader,
        until: Until,
        delivery: Delivery,
        first: impl IntoIterator<Item = Bytes>,
    ) -> Self {
        Self {
            way,
            reader: Some(reader),
            until,
            pending: first.into_iter().collect(),
            phase: Phase::Live,
            delivery,
            blocked: false,
            held: false,
            stalled: false,
            behind: false,
            left_out: None,
            whole: 0,
            served: 0,
            datagrams: None,
        }
    }

    /// The same, whose publications travel as datagrams.
    pub(super) fn with_datagrams(mut self, datagrams: Option<Box<Datagrams>>) -> Self {
        self.datagrams = datagrams;
        self
    }

    /// Whether they do.
    pub(super) const fn sends_datagrams(&self) -> bool {
        self.datagrams.is_some()
    }

    pub(super) const fn way(&self) -> Way {
        self.way
    }

    /// Its stream, where that is its own.
    pub(super) const fn own(&self) -> Option<UniStream> {
        match self.way {
            Way::Own(stream) => Some(stream),
            Way::Lane(_) => None,
        }
    }

    /// All is written; on a lane nobody waits until the client has it.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// The stream takes more again.
    pub(super) const fn unblock(&mut self) {
        (self.blocked, self.held) = (false, false);
    }

    /// It waits for the time at which more may go out.
    pub(super) const fn is_held(&self) -> bool {
        self.held
    }

    /// Nothing is read any more: `End` with `code` is owed. Says whether the stream can take it; where it cannot, it is to be reset.
    pub(super) fn end(&mut self, code: Code) -> bool {
        if self.phase == Phase::Live {
            self.phase = Phase::Ending(code);
            self.reader = None;
            // What only datagrams carried may be lost: whoever did not ask for the end, and may have it, has the newest in the end.
            let wanted = !matches!(code, Code::UNSUBSCRIBED | Code::PERMISSION_DENIED);
            if wanted && let Some(datagrams) = &mut self.datagrams {
                self.pending.extend(datagrams.keyframe(true));
            }
        }
        !self.blocked || self.held
    }

    /// Whose turn it is first: by priority, then a fresh publication that was begun or what a lane took in part, then who last wrote in
    /// the earliest turn.
    pub(super) fn order(&self) -> (Reverse<Priority>, bool, u64) {
        let holds = self.own().is_none() && !self.pending.is_empty();
        (
            Reverse(self.delivery.priority),
            !holds && !self.has_begun(),
            self.served,
        )
    }

    /// Nothing is read for it any more.
    pub(super) fn is_ending(&self) -> bool {
        self.phase != Phase::Live
    }

    pub(super) const fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }

    /// Bytes that wait for the stream.
    pub(super) fn waiting(&self) -> usize {
        self.pending.iter().map(Bytes::len).sum()
    }

    /// Number of the turn in which its stream last took something.
    pub(super) const fn served(&self) -> u64 {
        self.served
    }

    /// Bytes that its stream does not take, because the client has not acknowledged or read enough.
    pub(super) fn stuck(&self) -> usize {
        if self.blocked && !self.held {
            self.waiting()
        } else {
            0
        }
    }

    /// A fresh publication is written in part.
    fn has_begun(&self) -> bool {
        let last = self.pending.last().map_or(0, Bytes::len);
        0 < last && last < self.whole
    }

    pub(super) const fn priority(&self) -> Priority {
        self.delivery.priority
    }

    /// Sends and writes a batch of what there is, as far as the network and its stream or its lane take it.
    ///
    /// # Errors
    /// [`Gone`]: the client does not want the stream any more.
    pub(super) fn fill(&mut self, round: &mut Round<'_, '_>) -> Result<Step, Gone> {
        // The header before what it is about.
        if self.datagrams.is_some() && !self.pending.is_empty() {
            self.write(round)?;
        }
        let sent = self.send(round);
        let written = self.write(round)?;
        // Whoever has nothing left for its lane does not keep it from others.
        if let Way::Lane(number) = self.way
            && self.pending.is_empty()
        {
            round.lanes.let_go(number, round.seat.0);
        }
        if let Some(datagrams) = &self.datagrams
            && let Some(at) = datagrams.due_at()
            && !self.blocked
        {
            round.streams.wake_at(at);
        }
        Ok(if sent == Step::AtHead { written } else { sent })
    }

    /// Sends a datagram.
    fn send(&mut self, round: &mut Round<'_, '_>) -> Step {
        let (Some(datagrams), Some(reader)) = (&mut self.datagrams, &mut self.reader) else {
            return Step::AtHead;
        };
        let idle = !self.blocked && self.pending.is_empty();
        let priority = rank(self.delivery.priority);
        match datagrams.turn(reader, round.streams, priority, idle, &mut self.pending) {
            Turn::Sent => self.served = round.turn,
            Turn::Stream(frame) => {
                self.whole = frame.len();
                self.pending.push(frame);
            }
            Turn::Late => return Step::Blocked,
            Turn::AtHead => return Step::AtHead,
        }
        Step::More
    }

    fn write(&mut self, round: &mut Round<'_, '_>) -> Result<Step, Gone> {
        // What waits is a batch, too.
        let mut read = !self.pending.is_empty();
        while self.phase != Phase::Finished {
            if !self.blocked
                && let Way::Lane(number) = self.way
            {
                self.blocked = !round.lanes.admits(number, round.seat.0)?;
            }
            if self.blocked {
                return Ok(Step::Blocked);
            }
            if std::mem::take(&mut self.stalled) {
                self.reconsider();
                read = !self.pending.is_empty();
                continue;
            }
            if !self.pending.is_empty() {
                let (begun, size) = (self.has_begun(), self.waiting());
                let fresh = self.delivery.is_fresh();
                let written = match self.way {
                    Way::Own(stream) => {
                        let priority = rank(self.delivery.priority);
                        let class = Class { priority, fresh };
                        round.streams.write(stream, class, &mut self.pending)?
                    }
                    Way::Lane(number) => {
                        let pending = &mut self.pending;
                        round
                            .lanes
                            .write(number, round.seat, round.streams, fresh, pending)?
                    }
                };
                self.blocked = written != Written::All;
                self.held = written == Written::Held;
                self.stalled = self.blocked;
                let begins = if self.whole > 0 {
                    !begun && (!self.blocked || self.has_begun())
                } else {
                    self.waiting() < size
                };
                if begins {
                    self.served = round.turn;
                }
                if !self.blocked {
                    (self.left_out, self.whole) = (None, 0);
                }
                continue;
            }
            match self.phase {
                Phase::Ending(code) => {
                    let reason = reason(code).to_owned();
                    self.pending
                        .push(Frame::from(End { code, reason }).encode());
                    self.phase = Phase::Last;
                }
                Phase::Last => {
                    if let Way::Own(stream) = self.way {
                        round.streams.finish(stream);
                    }
                    self.phase = Phase::Finished;
                }
                Phase::Live if read => return Ok(Step::More),
                Phase::Live => match self.read(round.drains) {
                    Some(code) => {
                        self.end(code);
                    }
                    None if self.pending.is_empty() => break,
                    None => read = true,
                },
                Phase::Finished => {}
            }
        }
        // Nothing stands behind what was read.
        self.behind = false;
        // An idle subscription holds no room for what it once wrote.
        if self.pending.is_empty() && self.pending.capacity() > 4 {
            self.pending = Vec::new();
        }
        Ok(Step::AtHead)
    }
}

/// Priority of a stream: requests and their answers stand above every one.
pub(super) const fn rank(priority: Priority) -> i32 {
    match priority {
        Priority::Low => -1,
        Priority::Normal => 0,
        Priority::High => 1,
        Priority::Urgent => 2,
    }
}

const fn reason(code: Code) -> &'static str {
    match code {
        Code::GOING_AWAY => "the server is shutting down",
        Code::UNSUBSCRIBED => "as the client asked",
        Code::PERMISSION_DENIED => "the session's credentials no longer allow this channel",
        Code::LAGGED => "the reader was too slow, and the channel's rule ends it then",
        _ => "ended by the server",
    }
}

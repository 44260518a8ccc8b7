//! From a cursor to a stream (PROTOCOL §5): what one subscription owes its stream. Nothing here waits: a stream that takes no more
//! is left alone until it does, which is why a stalled reader of one channel holds up nothing else.

use std::cmp::Reverse;

use bytes::Bytes;

use crate::{
    auth::{Delivery, OnLag, Priority},
    broker::{Batch, Reader},
    transport::{Gone, Streams, UniStream},
    wire::{
        Code,
        frame::{End, Frame, Lagged, Skipped},
    },
};

/// One subscription and its stream.
pub(super) struct Writer {
    stream: UniStream,
    /// `None` once nothing more is read.
    reader: Option<Reader>,
    until: Until,
    /// Handed out by the log or made here, and not taken by the stream yet.
    pending: Vec<Bytes>,
    phase: Phase,
    delivery: Delivery,
    /// The stream takes no more for now.
    blocked: bool,
    /// It took no more since the last look at what waits: that may not be worth its way any more.
    stalled: bool,
    /// Something newer may stand behind what is to be read.
    behind: bool,
    /// Length of the publication at the end of `pending`, where it may still be replaced.
    whole: usize,
    /// The turn in which it last wrote, and the present one.
    served: u64,
    turn: u64,
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
        stream: UniStream,
        reader: Reader,
        until: Until,
        delivery: Delivery,
        first: impl IntoIterator<Item = Bytes>,
    ) -> Self {
        Self {
            stream,
            reader: Some(reader),
            until,
            pending: first.into_iter().collect(),
            phase: Phase::Live,
            delivery,
            blocked: false,
            stalled: false,
            behind: false,
            whole: 0,
            served: 0,
            turn: 0,
        }
    }

    pub(super) const fn stream(&self) -> UniStream {
        self.stream
    }

    /// The stream takes more again.
    pub(super) const fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Nothing is read any more: `End` with `code` is owed. Says whether the stream can take it; where it cannot, it is to be reset.
    pub(super) fn end(&mut self, code: Code) -> bool {
        if self.phase == Phase::Live {
            self.phase = Phase::Ending(code);
            self.reader = None;
        }
        !self.blocked
    }

    /// Whose turn it is first: by priority, then who last wrote in the earliest turn. What it writes from now on is of this one.
    pub(super) const fn begin_turn(&mut self, turn: u64) -> (Reverse<Priority>, u64) {
        self.turn = turn;
        (Reverse(self.delivery.priority), self.served)
    }

    pub(super) const fn priority(&self) -> Priority {
        self.delivery.priority
    }

    /// Writes a batch of what there is, as far as the stream takes it. Whoever must come to an end while the server `drains` ends at
    /// the head.
    ///
    /// # Errors
    /// [`Gone`]: the client does not want the stream any more.
    pub(super) fn fill(&mut self, streams: &mut Streams<'_>, drains: bool) -> Result<Step, Gone> {
        let mut read = false;
        while self.phase != Phase::Finished {
            if self.blocked {
                return Ok(Step::Blocked);
            }
            if std::mem::take(&mut self.stalled) {
                self.reconsider();
                continue;
            }
            if !self.pending.is_empty() {
                let size = self.pending.iter().map(Bytes::len).sum::<usize>();
                self.blocked = !streams.write(self.stream, &mut self.pending)?;
                self.stalled = self.blocked;
                if self.pending.iter().map(Bytes::len).sum::<usize>() < size {
                    self.served = self.turn;
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
                    streams.finish(self.stream);
                    self.phase = Phase::Finished;
                }
                Phase::Live if read => return Ok(Step::More),
                Phase::Live => match self.read(drains) {
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

    /// The stream took no more for a while: a publication of which nothing is written yet is read again, if it is still wanted.
    fn reconsider(&mut self) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        let last = self.pending.last();
        if self.whole > 0 && last.is_some_and(|last| last.len() == self.whole) {
            self.pending.pop();
            reader.step_back();
        }
        self.whole = 0;
        self.behind = self.delivery.on_lag == OnLag::Latest;
    }

    /// The next batch; the code with which to end, where nothing follows.
    fn read(&mut self, drains: bool) -> Option<Code> {
        let ended = if drains {
            Code::GOING_AWAY
        } else {
            Code::ENDED
        };
        let Some(reader) = &mut self.reader else {
            return Some(ended);
        };
        let batch = if self.delivery.is_fresh() {
            // One at a time: what is not read can still be left out.
            reader.try_one(self.behind, &mut self.pending)
        } else {
            reader.try_batch(&mut self.pending)
        };
        match batch {
            Some(Batch::Frames) => {
                if self.delivery.is_fresh() {
                    self.whole = self.pending.last().map_or(0, Bytes::len);
                    self.behind = false;
                }
                None
            }
            Some(Batch::Lagged { from, to }) => {
                tracing::debug!(channel = %reader.channel(), from, to, "a reader lags");
                if self.delivery.on_lag == OnLag::Cut {
                    return Some(Code::LAGGED);
                }
                self.pending.push(Frame::from(Lagged { from, to }).encode());
                None
            }
            Some(Batch::Skipped { from, to }) => {
                self.pending
                    .push(Frame::from(Skipped { from, to }).encode());
                None
            }
            Some(Batch::Ended) => Some(ended),
            // The broker was closed before the sessions were told: who is at the head now has everything.
            None if drains && self.until == Until::Head => Some(Code::GOING_AWAY),
            None => None,
        }
    }
}

const fn reason(code: Code) -> &'static str {
    match code {
        Code::GOING_AWAY => "the server is shutting down",
        Code::UNSUBSCRIBED => "as the client asked",
        Code::LAGGED => "the reader was too slow, and the channel's rule ends it then",
        _ => "ended by the server",
    }
}

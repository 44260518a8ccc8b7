//! From a cursor to a stream (PROTOCOL §5): what one subscription owes its stream. Nothing here waits: a stream that takes no more
//! is left alone until it does, which is why a stalled reader of one channel holds up nothing else.

use bytes::Bytes;

use crate::{
    broker::{Batch, Reader},
    transport::{Gone, Streams, UniStream},
    wire::{
        Code,
        frame::{End, Frame, Lagged},
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
    /// The stream takes no more for now.
    blocked: bool,
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
        first: impl IntoIterator<Item = Bytes>,
    ) -> Self {
        Self {
            stream,
            reader: Some(reader),
            until,
            pending: first.into_iter().collect(),
            phase: Phase::Live,
            blocked: false,
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

    /// The turn in which it last wrote; what it writes from now on is of this one.
    pub(super) const fn begin_turn(&mut self, turn: u64) -> u64 {
        self.turn = turn;
        self.served
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
            if !self.pending.is_empty() {
                let size = self.pending.iter().map(Bytes::len).sum::<usize>();
                self.blocked = !streams.write(self.stream, &mut self.pending)?;
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
        // An idle subscription holds no room for what it once wrote.
        if self.pending.is_empty() && self.pending.capacity() > 4 {
            self.pending = Vec::new();
        }
        Ok(Step::AtHead)
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
        match reader.try_batch(&mut self.pending) {
            Some(Batch::Frames) => None,
            Some(Batch::Lagged { from, to }) => {
                tracing::debug!(channel = %reader.channel(), from, to, "a reader lags");
                self.pending.push(Frame::from(Lagged { from, to }).encode());
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
        _ => "ended by the server",
    }
}

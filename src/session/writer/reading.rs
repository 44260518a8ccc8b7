//! What a writer reads for its stream: batches, or one publication at a time where it is to be fresh.

use bytes::Bytes;

use super::{Phase, Until, Writer};
use crate::{
    auth::OnLag,
    broker::{Batch, Leave, Reader},
    wire::{
        Code, Offset,
        frame::{Frame, Lagged, Own, Skipped},
    },
};

impl Writer {
    /// One publication, with what is left out before it: what is not read can still be left out.
    fn read_fresh(&mut self) -> Option<Batch> {
        let reader = self.reader.as_mut()?;
        let leave = match self.delivery.on_lag {
            OnLag::Latest if self.behind => Leave::AllButNewest,
            OnLag::LatestPerKey if self.behind => Leave::Superseded,
            _ => Leave::Nothing,
        };
        let batch = loop {
            match reader.try_one(leave, &mut self.pending) {
                Some(Batch::Skipped { from, to }) => {
                    let from = self.left_out.map_or(from, |(from, _)| from);
                    self.left_out = Some((from, to));
                }
                batch => break batch,
            }
        };
        let publication = match batch {
            Some(Batch::Frames) => self.pending.pop(),
            _ => None,
        };
        if let Some((from, to)) = self.left_out {
            self.pending.push(skipped(from, to));
        }
        match publication {
            Some(publication) => {
                self.whole = publication.len();
                self.pending.push(publication);
            }
            None => self.left_out = None,
        }
        // What follows the newest is new; what follows the newest of one key may not be.
        self.behind &= leave == Leave::Superseded;
        batch
    }

    /// The stream took no more for a while: a publication of which nothing is written yet is read again, if it is still wanted.
    pub(super) fn reconsider(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            let last = self.pending.last().map_or(0, Bytes::len);
            let live = self.phase == Phase::Live;
            if live && last > 0 && last == self.whole && datagrams.replaces() {
                self.pending.pop();
                self.whole = 0;
            }
            return;
        }
        let Some(reader) = &mut self.reader else {
            return;
        };
        let told = self.left_out.take();
        let last = self.pending.last().map_or(0, Bytes::len);
        if last > 0 && last == self.whole {
            self.pending.pop();
            self.whole = 0;
            reader.step_back();
            // Before it stands what was left out, if none of that is written either: there may be more of it now.
            if let (Some((from, to)), Some(frame)) = (told, self.pending.last())
                && frame.len() == skipped(from, to).len()
            {
                self.pending.pop();
                self.left_out = told;
            }
        }
        self.behind = true;
    }

    /// What the stream has where datagrams carry the rest; whether that is the end.
    fn keyframe(&mut self, drains: bool) -> bool {
        let (Some(datagrams), Some(reader)) = (&mut self.datagrams, &self.reader) else {
            return true;
        };
        // Who drains is at the head of a log that nothing is added to: see below.
        let at_end = || drains && self.until == Until::Head && reader.reached().1 == 0;
        let end = datagrams.is_ended() || at_end();
        let Some(frame) = datagrams.keyframe(end) else {
            return end;
        };
        self.whole = frame.len();
        self.pending.push(frame);
        false
    }

    /// The next batch; the code with which to end, where nothing follows.
    pub(super) fn read(&mut self, drains: bool) -> Option<Code> {
        let ended = if drains {
            Code::GOING_AWAY
        } else {
            Code::ENDED
        };
        if self.datagrams.is_some() {
            return self.keyframe(drains).then_some(ended);
        }
        let batch = match &mut self.reader {
            None => return Some(ended),
            Some(_) if self.delivery.is_fresh() => self.read_fresh(),
            Some(reader) => reader.try_batch(&mut self.pending),
        };
        match batch {
            Some(Batch::Frames) => None,
            Some(Batch::Lagged { from, to }) => {
                let channel = self.reader.as_ref().map(Reader::channel);
                tracing::debug!(?channel, from, to, "a reader lags");
                if self.delivery.on_lag == OnLag::Cut {
                    return Some(Code::LAGGED);
                }
                self.pending.push(Frame::from(Lagged { from, to }).encode());
                None
            }
            // It is told with what follows.
            Some(Batch::Skipped { .. }) => None,
            Some(Batch::Own { from, to }) => {
                self.pending.push(Frame::from(Own { from, to }).encode());
                None
            }
            Some(Batch::Ended) => Some(ended),
            // The broker was closed before the sessions were told: who is at the head now has everything.
            None if drains && self.until == Until::Head => Some(Code::GOING_AWAY),
            None => None,
        }
    }
}

fn skipped(from: Offset, to: Offset) -> Bytes {
    Frame::from(Skipped { from, to }).encode()
}

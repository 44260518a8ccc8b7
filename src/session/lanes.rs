//! Streams that several subscriptions share (PROTOCOL §5.7): what a session has instead of a refusal where its client permits few
//! streams. A few streams are kept back, one for a lane of each priority; who finds no other gets a place on the lane of its own.
//! What a lane carries is what the subscriptions' own streams would, frame by frame, so that nothing is encoded twice.

use std::collections::VecDeque;

use bytes::Bytes;

use super::writer::rank;
use crate::{
    auth::Priority,
    transport::{Class, Gone, OpenError, Streams, UniStream, Written},
    wire::{
        Code,
        frame::{Frame, Lane as First, Turn},
    },
};

/// Streams kept back for lanes: one for each priority.
const RESERVE: usize = 4;

/// Where the bytes of a subscription go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Onto a stream of its own.
    Own(UniStream),
    /// Onto a lane, by its number.
    Lane(u64),
}

/// The lanes of a session.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// The client knows what a lane is.
    known: bool,
    /// Number of the last that was opened.
    last: u64,
    /// Opened in the order in which they are used, so that the client sees none before it is: a stream shows itself by the first byte
    /// on it, or on one that was opened later.
    spare: VecDeque<UniStream>,
    open: Vec<Lane>,
}

/// One shared stream.
#[derive(Debug)]
struct Lane {
    number: u64,
    stream: UniStream,
    priority: Priority,
    /// What stands before everything else and is not handed to the stream yet.
    preamble: Vec<Bytes>,
    /// The subscription whose frames come next, without a further word.
    turn: u64,
    /// The place whose batch the stream took in part: nobody else's bytes may come before the rest.
    holder: Option<u32>,
    /// Places that found it taken, each once: they are due when it is free.
    waiting: Vec<u32>,
    finished: bool,
}

impl Lanes {
    pub(super) fn new(known: bool) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// A way for a subscription of this priority, and what is to be written on it first.
    pub(super) fn way(
        &mut self,
        priority: Priority,
        streams: &mut Streams<'_>,
    ) -> Result<(Way, Option<Bytes>), OpenError> {
        if !self.known {
            return Ok((Way::Own(streams.open()?), streams.prefix()));
        }
        while self.spare.len() <= RESERVE {
            match streams.open() {
                Ok(stream) => self.spare.push_back(stream),
                Err(OpenError::NoStreamLeft) => break,
                Err(OpenError::Closed) => return Err(OpenError::Closed),
            }
        }
        let kept_back = RESERVE - self.open.len().min(RESERVE);
        if self.spare.len() > kept_back
            && let Some(stream) = self.spare.pop_front()
        {
            return Ok((Way::Own(stream), streams.prefix()));
        }
        let distance = |lane: &Lane| (rank(lane.priority) - rank(priority)).abs();
        let open = self.open.iter().filter(|lane| !lane.finished);
        let nearest = open.min_by_key(|lane| distance(lane));
        if let Some(lane) = nearest
            && (distance(lane) == 0 || self.spare.is_empty())
        {
            return Ok((Way::Lane(lane.number), None));
        }
        let stream = self.spare.pop_front().ok_or(OpenError::NoStreamLeft)?;
        streams.set_priority(stream, rank(priority));
        self.last += 1;
        let first = Frame::from(First { lane: self.last }).encode();
        self.open.push(Lane {
            number: self.last,
            stream,
            priority,
            preamble: streams.prefix().into_iter().chain([first]).collect(),
            turn: 0,
            holder: None,
            waiting: Vec::new(),
            finished: false,
        });
        Ok((Way::Lane(self.last), None))
    }

    fn find(&mut self, number: u64) -> Option<&mut Lane> {
        self.open.iter_mut().find(|lane| lane.number == number)
    }

    /// Whether this place may write on the lane now; if not, it is told when it may.
    pub(super) fn admits(&mut self, number: u64, key: u32) -> Result<bool, Gone> {
        let lane = self.find(number).ok_or(Gone)?;
        let admitted = lane.holder.is_none_or(|holder| holder == key);
        if !admitted {
            lane.waiting.push(key);
        }
        Ok(admitted)
    }

    /// Writes for a place what [`Streams::write`] writes for a stream of its own.
    pub(super) fn write(
        &mut self,
        number: u64,
        (key, subscription): (u32, u64),
        streams: &mut Streams<'_>,
        fresh: bool,
        chunks: &mut Vec<Bytes>,
    ) -> Result<Written, Gone> {
        let lane = self.find(number).ok_or(Gone)?;
        if lane.turn != subscription {
            lane.turn = subscription;
            let turn = Frame::from(Turn { subscription }).encode();
            chunks.splice(0..0, lane.preamble.drain(..).chain([turn]));
        }
        let priority = rank(lane.priority);
        let written = streams.write(lane.stream, Class { priority, fresh }, chunks)?;
        lane.holder = (written != Written::All).then_some(key);
        Ok(written)
    }

    /// This place has nothing left to write.
    pub(super) fn let_go(&mut self, number: u64, key: u32) {
        if let Some(lane) = self.find(number) {
            lane.holder.take_if(|holder| *holder == key);
        }
    }

    /// Whoever waits for the lane, where nobody holds it.
    pub(super) fn freed(&mut self, number: u64) -> Vec<u32> {
        match self.find(number) {
            Some(lane) if lane.holder.is_none() => std::mem::take(&mut lane.waiting),
            _ => Vec::new(),
        }
    }

    /// The number of the lane that is this stream.
    pub(super) fn number(&self, stream: UniStream) -> Option<u64> {
        Some(self.of(stream)?.number)
    }

    /// Who goes on where this stream, a lane, takes more again.
    pub(super) fn holder(&self, stream: UniStream) -> Option<u32> {
        self.of(stream)?.holder
    }

    fn of(&self, stream: UniStream) -> Option<&Lane> {
        self.open.iter().find(|lane| lane.stream == stream)
    }

    /// Says that nothing follows on the lanes on which nobody is `seated`.
    pub(super) fn finish(&mut self, seated: impl Fn(u64) -> bool, streams: &mut Streams<'_>) {
        for lane in &mut self.open {
            if !lane.finished && !seated(lane.number) {
                lane.finished = true;
                streams.finish(lane.stream);
            }
        }
    }

    /// Forgets a lane that is over.
    pub(super) fn remove(&mut self, number: u64) {
        self.open.retain(|lane| lane.number != number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Resets a lane, if it is there.
    pub(super) fn reset(&mut self, number: u64, code: Code, streams: &mut Streams<'_>) {
        if let Some(lane) = self.find(number) {
            streams.reset(lane.stream, code);
            self.remove(number);
        }
    }

    /// Nothing is written on them any more.
    pub(super) fn close(&mut self) {
        self.open.clear();
    }
}

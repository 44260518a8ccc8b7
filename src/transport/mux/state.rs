//! The state of one connection: what came, what is to go out, and how much of each. No I/O and no clock.

mod incoming;
mod outgoing;

use std::{collections::HashMap, task::Waker};

use bytes::Bytes;
use quinn_proto::{Dir, Side, StreamId};

use super::{
    frame::{Frame, Malformed, Parameters, RECORD},
    recv::{Read, Recv},
    send::Send,
};
use crate::{
    transport::{Closed, cut_off},
    wire::Code,
};

/// Errors of the multiplexer (RFC 9000 §20.1).
pub(super) mod code {
    pub(in crate::transport::mux) const FLOW_CONTROL: u64 = 0x03;
    pub(in crate::transport::mux) const STREAM_LIMIT: u64 = 0x04;
    pub(in crate::transport::mux) const STREAM_STATE: u64 = 0x05;
    pub(in crate::transport::mux) const FINAL_SIZE: u64 = 0x06;
    pub(in crate::transport::mux) const FRAME_ENCODING: u64 = 0x07;
    pub(in crate::transport::mux) const VIOLATION: u64 = 0x0a;
}

/// Bytes of all streams that may wait for their records: what is written later is chosen later.
const QUEUE: u64 = 64 * 1024;
/// The same where something is to be fresh.
#[cfg(any(feature = "server", test))]
const SHORT_QUEUE: u64 = 8 * 1024;
/// Beyond these for what goes before all others: an answer to a request waits for no subscription.
const RESERVE: u64 = 64 * 1024;
/// What one side permits the other.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport) struct Config {
    /// Streams that the peer may have open at a time.
    pub(in crate::transport) bidi_streams: u64,
    pub(in crate::transport) uni_streams: u64,
    /// Bytes that came and were not read: of all streams, and of one.
    pub(in crate::transport) window: u64,
    pub(in crate::transport) stream_window: u64,
}

/// What the peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    code: u64,
    reason: &'static str,
}

impl Fault {
    pub(super) const fn new(code: u64, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

impl From<Malformed> for Fault {
    fn from(Malformed(reason): Malformed) -> Self {
        Self::new(code::FRAME_ENCODING, reason)
    }
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Closed,
    Accept(Dir),
    Open(Dir),
    Readable(StreamId),
    Writable(StreamId),
    /// The peer stopped the stream, or all of it is on its way.
    Stopped(StreamId),
    /// The socket is gone.
    Gone,
}

/// Streams of one direction that one side opens.
#[derive(Debug, Default, Clone, Copy)]
struct Opening {
    opened: u64,
    max: u64,
    /// Of the peer's: those that are over, and whether it is to be told that it may open more.
    over: u64,
    due: bool,
}

#[derive(Debug)]
pub(super) struct State {
    side: Side,
    config: Config,
    /// What is to be said first.
    hello: Option<Parameters>,
    peer: Option<Parameters>,
    sends: HashMap<StreamId, Send>,
    recvs: HashMap<StreamId, Recv>,
    ours: [Opening; 2],
    theirs: [Opening; 2],
    accepted: [u64; 2],
    /// Bytes that the peer takes of all streams, and those that were written and are not given up.
    limit: u64,
    written: u64,
    /// Bytes that wait for their records, and how many may.
    queued: u64,
    queue: u64,
    /// Streams with something for a record, each once, and those that found no room.
    due: Vec<StreamId>,
    blocked: Vec<StreamId>,
    /// The same of what we are sent.
    received: u64,
    read: u64,
    announced: u64,
    window: u64,
    /// Streams whose reader has something to tell the peer.
    telling: Vec<StreamId>,
    ping: Option<u64>,
    pong: Option<u64>,
    /// The number of the ping that is not answered.
    pub(super) pinged: Option<u64>,
    /// The peer's last words are to be ours.
    last: Option<Frame>,
    /// How it ended.
    pub(super) error: Option<Closed>,
    /// The socket is gone.
    pub(super) gone: bool,
    /// For whoever writes by hand or by turns.
    pub(super) events: Vec<Interest>,
    waiting: Vec<(Interest, Waker)>,
    /// Records that came.
    pub(super) heard: u64,
}

const fn index(dir: Dir) -> usize {
    match dir {
        Dir::Bi => 0,
        Dir::Uni => 1,
    }
}

impl State {
    pub(super) fn new(side: Side, config: Config, idle: u64) -> Self {
        let permitted = |max| Opening {
            max,
            ..Opening::default()
        };
        Self {
            side,
            config,
            hello: Some(Parameters {
                idle,
                data: config.window,
                bidi_local: config.stream_window,
                bidi_remote: config.stream_window,
                uni: config.stream_window,
                streams_bidi: config.bidi_streams,
                streams_uni: config.uni_streams,
                record: RECORD as u64,
            }),
            peer: None,
            sends: HashMap::new(),
            recvs: HashMap::new(),
            ours: [Opening::default(); 2],
            theirs: [
                permitted(config.bidi_streams),
                permitted(config.uni_streams),
            ],
            accepted: [0; 2],
            limit: 0,
            written: 0,
            queued: 0,
            queue: QUEUE,
            due: Vec::new(),
            blocked: Vec::new(),
            received: 0,
            read: 0,
            announced: config.window,
            window: config.window,
            telling: Vec::new(),
            ping: None,
            pong: None,
            pinged: None,
            last: None,
            error: None,
            gone: false,
            events: Vec::new(),
            waiting: Vec::new(),
            heard: 0,
        }
    }

    // Who waits.

    pub(super) fn wait(&mut self, interest: Interest, waker: &Waker) {
        let known =
            |(other, known): &(Interest, Waker)| *other == interest && known.will_wake(waker);
        if !self.waiting.iter().any(known) {
            self.waiting.push((interest, waker.clone()));
        }
    }

    /// Whether anybody waited.
    pub(super) fn wake(&mut self, interest: Interest, wakers: &mut Vec<Waker>) -> bool {
        let before = wakers.len();
        let told = self.waiting.extract_if(.., |(other, _)| *other == interest);
        wakers.extend(told.map(|(_, waker)| waker));
        wakers.len() > before
    }

    /// It is over; the first reason counts.
    pub(super) fn end(&mut self, error: Closed) -> Vec<Waker> {
        self.error.get_or_insert(error);
        let gone = self.gone;
        let told = self
            .waiting
            .extract_if(.., |(interest, _)| gone || *interest != Interest::Gone);
        told.map(|(_, waker)| waker).collect()
    }

    /// Ends it from this side: what waits is given up, and the peer is told.
    pub(super) fn close(&mut self, code: Code, reason: &str) -> Vec<Waker> {
        if self.error.is_none() {
            self.last = Some(Frame::Close {
                code: code.0.into(),
                reason: reason.to_owned(),
            });
        }
        self.end(cut_off())
    }

    // Streams.

    /// The next stream that the peer opened.
    pub(super) fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        let accepted = &mut self.accepted[index(dir)];
        (*accepted < self.theirs[index(dir)].opened).then(|| {
            *accepted += 1;
            StreamId::new(!self.side, dir, *accepted - 1)
        })
    }

    pub(super) fn open(&mut self, dir: Dir) -> Option<StreamId> {
        let ours = &mut self.ours[index(dir)];
        let peer = self.peer.as_ref().filter(|_| ours.opened < ours.max)?;
        let id = StreamId::new(self.side, dir, ours.opened);
        ours.opened += 1;
        let limit = match dir {
            Dir::Uni => peer.uni,
            Dir::Bi => {
                self.recvs.insert(id, Recv::new(self.config.stream_window));
                peer.bidi_remote
            }
        };
        self.sends.insert(id, Send::new(limit));
        Some(id)
    }

    /// Writes what finds room; each chunk is replaced by what is left of it. `None` where the stream takes nothing any more, otherwise
    /// whether all was written.
    pub(super) fn write(&mut self, id: StreamId, chunks: &mut [Bytes]) -> Option<bool> {
        let send = self.sends.get_mut(&id).filter(|send| send.is_open())?;
        if self.error.is_some() {
            return None;
        }
        let wanted: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let reserve = if send.priority == i32::MAX {
            RESERVE
        } else {
            0
        };
        let room = (self.queue + reserve).saturating_sub(self.queued);
        let room = room.min(self.limit - self.written).min(send.room());
        let taken = wanted.min(room);
        send.write(chunks, taken);
        self.queued += taken;
        self.written += taken;
        let all = taken == wanted;
        if !all && !send.blocked {
            send.blocked = true;
            self.blocked.push(id);
        }
        if taken > 0 {
            self.list(id);
        }
        Some(all)
    }

    /// Whoever found no room is told where there is some again.
    fn unblock(&mut self) {
        let room = |send: &Send| {
            let reserve = if send.priority == i32::MAX {
                RESERVE
            } else {
                0
            };
            // Not for every few bytes.
            self.queued < self.queue / 2 + reserve && self.limit > self.written && send.room() > 0
        };
        let (sends, events) = (&mut self.sends, &mut self.events);
        self.blocked.retain(|id| {
            let Some(send) = sends.get_mut(id) else {
                return false;
            };
            let free = room(send);
            if free {
                send.blocked = false;
                events.push(Interest::Writable(*id));
            }
            !free
        });
    }

    fn list(&mut self, id: StreamId) {
        if !self.due.contains(&id) {
            self.due.push(id);
        }
    }

    pub(super) fn finish(&mut self, id: StreamId) {
        if let Some(send) = self.sends.get_mut(&id) {
            send.finish();
            self.list(id);
        }
    }

    pub(super) fn reset(&mut self, id: StreamId, code: Code) {
        if let Some(send) = self.sends.get_mut(&id) {
            let given_up = send.reset(code.0.into());
            self.queued -= given_up;
            self.written -= given_up;
            self.list(id);
            self.unblock();
        }
    }

    pub(super) fn set_priority(&mut self, id: StreamId, priority: i32) {
        if let Some(send) = self.sends.get_mut(&id) {
            send.priority = priority;
        }
    }

    /// Why the peer does not want a stream, where it is there; `Err` where it is over.
    pub(super) fn stopped(&self, id: StreamId) -> Result<Option<u64>, ()> {
        let send = self.sends.get(&id).ok_or(())?;
        Ok(send.stopped)
    }

    pub(super) fn read(&mut self, id: StreamId, max: usize) -> Read {
        let Some(recv) = self.recvs.get_mut(&id) else {
            return Read::Finished;
        };
        let read = recv.read(max);
        let bytes = match &read {
            Read::Bytes(bytes) => bytes.len() as u64,
            _ => 0,
        };
        self.consumed(id, bytes);
        read
    }

    /// Nobody reads on.
    pub(super) fn stop(&mut self, id: StreamId, code: Code) {
        if let Some(recv) = self.recvs.get_mut(&id) {
            let unread = recv.stop(code.0.into());
            self.consumed(id, unread);
        }
    }

    /// Bytes of a stream will not be held any more; the peer may send as many, in the end.
    fn consumed(&mut self, id: StreamId, bytes: u64) {
        self.read += bytes;
        if !self.telling.contains(&id) {
            self.telling.push(id);
        }
        if self.recvs.get(&id).is_some_and(Recv::is_over) {
            // Its last word may be due: that nobody reads on.
            self.retire(id);
        }
    }

    /// Forgets what is over of a stream.
    fn retire(&mut self, id: StreamId) {
        if self.recvs.get(&id).is_some_and(Recv::is_over) {
            self.recvs.remove(&id);
        }
        if self.sends.get(&id).is_some_and(Send::is_over) {
            self.sends.remove(&id);
        }
        let gone = !self.recvs.contains_key(&id) && !self.sends.contains_key(&id);
        if gone && id.initiator() != self.side {
            let theirs = &mut self.theirs[index(id.dir())];
            theirs.over += 1;
            theirs.due = true;
        }
    }

    /// The peer may have as many bytes unread.
    #[cfg(feature = "server")]
    pub(super) fn set_window(&mut self, bytes: u64) {
        self.window = bytes;
    }

    /// Little is to wait below what streams take.
    #[cfg(any(feature = "server", test))]
    pub(super) const fn hurry(&mut self) {
        self.queue = SHORT_QUEUE;
    }

    pub(super) const fn ping(&mut self, number: u64) {
        self.ping = Some(number);
        self.pinged = Some(number);
    }

    pub(super) const fn is_begun(&self) -> bool {
        self.peer.is_some()
    }

    /// Halves of streams that are known.
    #[cfg(test)]
    pub(super) fn streams(&self) -> usize {
        self.sends.len() + self.recvs.len()
    }
}

//! Streams that several subscriptions share (PROTOCOL §5.7), taken apart: each subscription reads its part as it would a stream of its
//! own. A part that is not read holds up nobody: above [`PART_BYTES`] it ends here, and its subscription is made anew from where its
//! reader is, once that has read what there is. Above [`LANE_BYTES`] the largest part is given up with what is in it: it is read again.

use std::{
    collections::{HashMap, VecDeque},
    mem::size_of,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, task::coop::consume_budget};

use super::{VIOLATIONS, mailbox::Incoming};
use crate::{
    transport::{FrameError, FrameReader, peer_log::throttled},
    wire::{
        Code,
        codec::RawFrame,
        frame::{Frame, Header},
    },
};

/// Most bytes of a part that wait for their reader, but for a single frame that is larger: as many as a stream of its own holds.
const PART_BYTES: usize = 256 * 1024;
/// The same for all parts of a lane together.
const LANE_BYTES: usize = 16 * 1024 * 1024;
/// Most parts of a lane that are read, or wait to be.
const PARTS: usize = 65_536;
const FEW_PARTS: usize = 64;

/// Bytes that a frame takes here.
const fn cost(frame: &RawFrame) -> usize {
    size_of::<RawFrame>() + frame.body.len()
}

/// What a subscription reads.
#[derive(Debug)]
pub(super) enum Frames {
    /// A stream of its own.
    Own(FrameReader),
    /// Its part of a lane.
    Lane(Part),
}

impl Frames {
    /// The next frame; `None` where nothing follows. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<RawFrame>, FrameError> {
        match self {
            Self::Own(reader) => reader.next().await,
            Self::Lane(part) => Ok(part.next().await),
        }
    }

    /// Tells the server that nobody reads on. On a lane the end of the subscription does.
    pub(super) fn stop(&mut self, code: Code) {
        if let Self::Own(reader) = self {
            reader.stop(code);
        }
    }

    /// It ended because it was not read: the server is told, and nothing is to be waited for.
    pub(super) fn overflowed(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Lane(part) => lock(&part.0).end == Some(PartEnd::Overflow),
        }
    }
}

/// The reader's side of a part; dropping it gives the part up.
#[derive(Debug)]
pub(super) struct Part(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// For the reader.
    changed: Notify,
    /// Bytes of all parts of the lane.
    held: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<RawFrame>,
    bytes: usize,
    /// Nothing follows.
    end: Option<PartEnd>,
    /// Nobody reads.
    given_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartEnd {
    /// The server ended it, or the lane is over.
    Over,
    /// It was not read.
    Overflow,
}

fn lock(shared: &Shared) -> MutexGuard<'_, Queue> {
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    async fn next(&self) -> Option<RawFrame> {
        loop {
            {
                let mut queue = lock(&self.0);
                if let Some(frame) = queue.frames.pop_front() {
                    self.0.take_out(&mut queue, cost(&frame));
                    return Some(frame);
                }
                if queue.end.is_some() {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        lock(&self.0).given_up = true;
        self.0.clear();
    }
}

impl Shared {
    fn take_out(&self, queue: &mut Queue, bytes: usize) {
        queue.bytes -= bytes;
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn clear(&self) {
        let frames = {
            let mut queue = lock(self);
            let bytes = queue.bytes;
            self.take_out(&mut queue, bytes);
            std::mem::take(&mut queue.frames)
        };
        drop(frames);
    }

    /// Whether there was room, and somebody to read it. What follows the end is nobody's.
    fn push(&self, frame: RawFrame) -> bool {
        let taken = {
            let mut queue = lock(self);
            let bytes = cost(&frame);
            match queue.end {
                _ if queue.given_up => return false,
                Some(_) => return true,
                None if queue.bytes + bytes > PART_BYTES && !queue.frames.is_empty() => {
                    queue.end = Some(PartEnd::Overflow);
                    false
                }
                None => {
                    queue.bytes += bytes;
                    self.held.fetch_add(bytes, Ordering::Relaxed);
                    queue.frames.push_back(frame);
                    true
                }
            }
        };
        self.changed.notify_one();
        taken
    }

    fn end(&self, end: PartEnd) {
        lock(self).end.get_or_insert(end);
        self.changed.notify_one();
    }
}

/// A lane that is read; dropping it ends what is left of its parts.
pub(super) struct Lane {
    reader: FrameReader,
    /// Whose the next frame is.
    turn: u64,
    /// Those that are over stay until nobody reads them, or room is needed.
    parts: HashMap<u64, Arc<Shared>>,
    held: Arc<AtomicUsize>,
    /// With so many parts, it is looked whose readers are gone.
    crowded: usize,
}

/// What a lane has to tell.
pub(super) enum Told {
    /// A subscription begins on it.
    Begins(Incoming),
    /// A subscription that is not read any more is to be ended.
    Unwanted(u64),
    /// Nothing follows.
    Over,
}

impl Lane {
    /// A stream whose first frame said that it is one.
    pub(super) fn new(reader: FrameReader) -> Self {
        Self {
            reader,
            turn: 0,
            parts: HashMap::new(),
            held: Arc::default(),
            crowded: FEW_PARTS,
        }
    }

    /// Hands frames on until there is something to tell. Cancel safe.
    pub(super) async fn read(&mut self) -> Told {
        loop {
            // A lane that never runs dry does not keep other tasks from their turn.
            consume_budget().await;
            let raw = match self.reader.next().await {
                Ok(Some(raw)) => raw,
                Ok(None) | Err(FrameError::Reset(_) | FrameError::Closed) => return Told::Over,
                Err(FrameError::Decode(error)) => return self.violated(&error.to_string()),
            };
            let ends = match Frame::decode(&raw) {
                Ok(Some(Frame::Turn(turn))) => {
                    self.turn = turn.subscription;
                    continue;
                }
                Ok(Some(Frame::Header(header))) => match self.begin(header) {
                    Some(incoming) => return Told::Begins(incoming),
                    None => return self.violated("a header out of place"),
                },
                Ok(Some(Frame::Lane(_))) => return self.violated("a lane in a lane"),
                Ok(Some(frame)) => matches!(frame, Frame::End(_)),
                Ok(None) => continue,
                Err(error) => return self.violated(&error.to_string()),
            };
            let Some(part) = self.parts.get(&self.turn) else {
                // It was given up; the server will hear of it or has.
                continue;
            };
            let taken = part.push(raw);
            if ends {
                part.end(PartEnd::Over);
            }
            if !taken {
                self.parts.remove(&self.turn);
                if !ends {
                    return Told::Unwanted(self.turn);
                }
            }
            if self.held.load(Ordering::Relaxed) > LANE_BYTES
                && let Some(largest) = self.give_up_largest()
            {
                return Told::Unwanted(largest);
            }
        }
    }

    fn give_up_largest(&mut self) -> Option<u64> {
        let sizes = self.parts.iter().map(|(id, part)| (lock(part).bytes, *id));
        let (_, id) = sizes.max()?;
        let part = self.parts.remove(&id)?;
        {
            let mut queue = lock(&part);
            queue.end = Some(PartEnd::Overflow);
        }
        part.clear();
        part.changed.notify_one();
        Some(id)
    }

    fn begin(&mut self, header: Header) -> Option<Incoming> {
        let id = header.subscription;
        if self.parts.len() >= self.crowded {
            self.parts.retain(|_, part| !lock(part).given_up);
            self.crowded = (2 * self.parts.len()).clamp(FEW_PARTS, PARTS);
        }
        if id != self.turn || self.parts.contains_key(&id) || self.parts.len() >= PARTS {
            return None;
        }
        let part = Arc::new(Shared {
            held: Arc::clone(&self.held),
            ..Shared::default()
        });
        self.parts.insert(id, Arc::clone(&part));
        Some(Incoming {
            header,
            reader: Frames::Lane(Part(part)),
            connection: 0,
            datagrams: None,
        })
    }

    fn violated(&mut self, what: &str) -> Told {
        throttled!(
            VIOLATIONS,
            warn,
            what,
            "a lane of the server breaks the protocol"
        );
        self.reader.stop(Code::PROTOCOL_VIOLATION);
        Told::Over
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for part in self.parts.values() {
            part.end(PartEnd::Over);
        }
    }
}

//! The sending half of one stream.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// What stands at the end of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Nothing follows; the peer is to be told.
    Finished,
    /// What was not sent is given up; the peer is to be told why.
    Reset(u64),
    /// The peer knows.
    Told,
}

/// Bytes that were written and wait for their record.
#[derive(Debug)]
pub(super) struct Send {
    chunks: VecDeque<Bytes>,
    /// Bytes of them.
    queued: u64,
    /// Bytes that are in records.
    sent: u64,
    /// Up to here the peer takes bytes.
    limit: u64,
    end: End,
    /// Why the peer wants no more.
    pub(super) stopped: Option<u64>,
    /// Those with a higher one go first.
    pub(super) priority: i32,
    /// A write found no room.
    pub(super) blocked: bool,
}

/// A part of a stream for a record.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) data: Vec<Bytes>,
    pub(super) size: usize,
    pub(super) fin: bool,
}

impl Send {
    pub(super) const fn new(limit: u64) -> Self {
        Self {
            chunks: VecDeque::new(),
            queued: 0,
            sent: 0,
            limit,
            end: End::Open,
            stopped: None,
            priority: 0,
            blocked: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.end == End::Open && self.stopped.is_none()
    }

    /// Nothing will be sent on it any more.
    pub(super) fn is_over(&self) -> bool {
        self.end == End::Told
    }

    /// Bytes that the peer takes beyond those that were written.
    pub(super) const fn room(&self) -> u64 {
        self.limit.saturating_sub(self.sent + self.queued)
    }

    pub(super) fn raise(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Takes the first `bytes` of these; each chunk is replaced by what is left of it.
    pub(super) fn write(&mut self, chunks: &mut [Bytes], mut bytes: u64) {
        for chunk in chunks {
            let size = usize::try_from(bytes).map_or(chunk.len(), |bytes| bytes.min(chunk.len()));
            if size > 0 {
                self.chunks.push_back(chunk.split_to(size));
                self.queued += size as u64;
                bytes -= size as u64;
            }
            if bytes == 0 {
                break;
            }
        }
    }

    pub(super) fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Finished;
        }
    }

    /// Gives up what waits, and returns its size.
    pub(super) fn reset(&mut self, code: u64) -> u64 {
        if matches!(self.end, End::Told | End::Reset(_)) {
            return 0;
        }
        self.end = End::Reset(code);
        self.chunks.clear();
        std::mem::take(&mut self.queued)
    }

    /// Whether there is something for a record.
    pub(super) fn is_due(&self) -> bool {
        self.queued > 0 || matches!(self.end, End::Finished | End::Reset(_))
    }

    /// The reset that the peer is to be told, with the size of what was sent.
    pub(super) fn take_reset(&mut self) -> Option<(u64, u64)> {
        let End::Reset(code) = self.end else {
            return None;
        };
        self.end = End::Told;
        Some((code, self.sent))
    }

    /// At most `max` bytes for a record, and the end where it follows.
    pub(super) fn take(&mut self, max: usize) -> Part {
        let offset = self.sent;
        let (mut data, mut size) = (Vec::new(), 0);
        while let Some(first) = self.chunks.front_mut() {
            let part = first.len().min(max - size);
            if part == 0 {
                break;
            }
            size += part;
            if part == first.len() {
                data.extend(self.chunks.pop_front());
            } else {
                data.push(first.slice(..part));
                first.advance(part);
            }
        }
        self.sent += size as u64;
        self.queued -= size as u64;
        let fin = self.chunks.is_empty() && self.end == End::Finished;
        if fin {
            self.end = End::Told;
        }
        Part {
            offset,
            data,
            size,
            fin,
        }
    }
}

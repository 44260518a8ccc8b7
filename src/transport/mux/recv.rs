//! The receiving half of one stream.

use std::collections::VecDeque;

use bytes::Bytes;

use super::state::{Fault, code};

/// Chunks below this are copied.
const SMALL: usize = 2048;

/// Bytes that came and were not read.
#[derive(Debug)]
pub(super) struct Recv {
    chunks: VecDeque<Bytes>,
    received: u64,
    read: u64,
    /// Up to here the peer may send.
    limit: u64,
    window: u64,
    end: End,
    /// Nobody reads on: what comes is passed over.
    stopped: bool,
    /// The peer is to be told that nobody does.
    stop: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Finished,
    Reset(u64),
    /// The reader knows.
    Told,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(Bytes),
    Finished,
    Reset(u64),
    /// Nothing yet.
    Blocked,
}

impl Recv {
    pub(super) const fn new(window: u64) -> Self {
        Self {
            chunks: VecDeque::new(),
            received: 0,
            read: 0,
            limit: window,
            window,
            end: End::Open,
            stopped: false,
            stop: None,
        }
    }

    /// Nothing will come, and nobody is to be told of it.
    pub(super) fn is_over(&self) -> bool {
        match self.end {
            End::Open => false,
            End::Told => true,
            End::Finished | End::Reset(_) => self.stopped,
        }
    }

    /// Bytes came. Returns how many of them nobody will read.
    pub(super) fn receive(&mut self, offset: u64, data: Bytes, fin: bool) -> Result<u64, Fault> {
        if self.end != End::Open {
            return Err(Fault::new(
                code::STREAM_STATE,
                "bytes behind a stream's end",
            ));
        }
        if offset != self.received {
            return Err(Fault::new(code::VIOLATION, "a hole in a stream"));
        }
        let size = data.len() as u64;
        self.received += size;
        if self.received > self.limit {
            return Err(Fault::new(
                code::FLOW_CONTROL,
                "more than a stream may have",
            ));
        }
        if fin {
            self.end = End::Finished;
        }
        if self.stopped {
            return Ok(size);
        }
        if size > 0 {
            self.keep(data);
        }
        Ok(0)
    }

    /// A few bytes do not hold the whole record that they came in, and many of them do not stand one by one.
    fn keep(&mut self, data: Bytes) {
        if data.len() >= SMALL {
            self.chunks.push_back(data);
            return;
        }
        match self.chunks.back_mut().filter(|last| last.len() < SMALL) {
            Some(last) => *last = [&last[..], &data].concat().into(),
            None => self.chunks.push_back(Bytes::copy_from_slice(&data)),
        }
    }

    /// The peer gives up. Returns how many of its bytes nobody will read.
    pub(super) fn reset(&mut self, code: u64, size: u64) -> Result<u64, Fault> {
        if size != self.received {
            return Err(Fault::new(code::FINAL_SIZE, "a reset of another size"));
        }
        if self.end != End::Open {
            // All is here already.
            return Ok(0);
        }
        self.end = End::Reset(code);
        Ok(self.drop_unread())
    }

    /// Nobody reads on. Returns how many bytes nobody will read.
    pub(super) fn stop(&mut self, code: u64) -> u64 {
        if self.stopped || self.end == End::Told {
            return 0;
        }
        self.stopped = true;
        if self.end == End::Open {
            self.stop = Some(code);
        }
        self.drop_unread()
    }

    fn drop_unread(&mut self) -> u64 {
        let unread = self.chunks.drain(..).map(|chunk| chunk.len() as u64).sum();
        self.read += unread;
        unread
    }

    /// At most `max` bytes.
    pub(super) fn read(&mut self, max: usize) -> Read {
        if let Some(first) = self.chunks.front_mut() {
            let size = first.len().min(max);
            let bytes = first.split_to(size);
            if first.is_empty() {
                self.chunks.pop_front();
            }
            self.read += size as u64;
            return Read::Bytes(bytes);
        }
        match self.end {
            End::Open if self.stopped => Read::Finished,
            End::Open => Read::Blocked,
            End::Finished | End::Told => {
                self.end = End::Told;
                Read::Finished
            }
            End::Reset(code) => {
                self.end = End::Told;
                Read::Reset(code)
            }
        }
    }

    pub(super) fn take_stop(&mut self) -> Option<u64> {
        self.stop.take()
    }

    /// A higher limit for the peer, where it would come to an end soon.
    pub(super) fn take_limit(&mut self) -> Option<u64> {
        let reach = self.read + self.window;
        if self.end != End::Open || self.stopped || reach < self.limit + self.window / 2 {
            return None;
        }
        self.limit = reach;
        Some(reach)
    }
}

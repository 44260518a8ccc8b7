//! The retained part of a channel: pure, the clock is an argument.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::wire::{Offset, Timestamp};

/// How much of a channel is kept: the first bound that is reached trims the oldest. The newest publication is always kept,
/// so that it can be delivered at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Most publications. Default 4096.
    pub count: usize,
    /// Most bytes of frames. Default 2 MiB. It bounds what a slow reader can make the server hold.
    pub bytes: usize,
    /// Oldest age, to the millisecond. Default 60 s.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            count: 4096,
            bytes: 2 << 20,
            age: Duration::from_secs(60),
        }
    }
}

/// Most publications in one [`Log::read`]: it bounds how long the channel is locked (about 1 µs for 64 reference counts).
const BATCH_COUNT: usize = 64;
/// Most bytes in one [`Log::read`], but for a single publication that is larger: what a writer that is stopped midway still
/// holds after the log has dropped it.
const BATCH_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Log {
    /// Offset of the oldest entry; of the next publication when there is none.
    first: Offset,
    entries: VecDeque<Entry>,
    bytes: usize,
    retention: Retention,
}

#[derive(Debug)]
struct Entry {
    time: Timestamp,
    frame: Bytes,
}

/// What stands after a cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Frames were appended to the output; the cursor moves here.
    Frames { cursor: Offset },
    /// Nothing yet.
    AtHead,
    /// These offsets are gone; the cursor moves to `to`.
    Lagged { from: Offset, to: Offset },
}

impl Log {
    pub(super) const fn new(retention: Retention) -> Self {
        Self {
            first: 1,
            entries: VecDeque::new(),
            bytes: 0,
            retention,
        }
    }

    /// Offset of the newest publication, 0 before the first.
    pub(super) fn head(&self) -> Offset {
        self.first + self.entries.len() as Offset - 1
    }

    /// Appends the frame that `seal` makes of the next offset and a time that never runs backwards.
    pub(super) fn append(
        &mut self,
        now: Timestamp,
        seal: impl FnOnce(Offset, Timestamp) -> Bytes,
    ) -> Offset {
        let time = self
            .entries
            .back()
            .map_or(now, |newest| now.max(newest.time));
        let offset = self.head() + 1;
        let frame = seal(offset, time);
        self.bytes += frame.len();
        self.entries.push_back(Entry { time, frame });
        self.trim(now);
        offset
    }

    /// Drops what is beyond the retention at `now`.
    pub(super) fn trim(&mut self, now: Timestamp) {
        let age = u64::try_from(self.retention.age.as_millis()).unwrap_or(u64::MAX);
        // The newest stays, and is not looked at: most channels have no other when a sweep comes by.
        while self.entries.len() > 1 {
            let Some(oldest) = self.entries.front() else {
                break;
            };
            let over = self.entries.len() > self.retention.count
                || self.bytes > self.retention.bytes
                || now.saturating_sub(oldest.time) > age;
            if !over {
                break;
            }
            self.bytes -= oldest.frame.len();
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// Reads on from `cursor`, the last offset that the reader has seen.
    pub(super) fn read(&self, cursor: Offset, out: &mut Vec<Bytes>) -> Read {
        if cursor >= self.head() {
            return Read::AtHead;
        }
        if cursor + 1 < self.first {
            return Read::Lagged {
                from: cursor + 1,
                to: self.first - 1,
            };
        }
        let mut bytes = 0;
        let mut cursor = cursor;
        let skip = (cursor + 1 - self.first) as usize;
        for entry in self.entries.range(skip..).take(BATCH_COUNT) {
            bytes += entry.frame.len();
            if bytes > BATCH_BYTES && bytes != entry.frame.len() {
                break;
            }
            out.push(entry.frame.clone());
            cursor += 1;
        }
        Read::Frames { cursor }
    }

    /// Bytes of the frames held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(count: usize, bytes: usize, age: u64) -> Log {
        Log::new(Retention {
            count,
            bytes,
            age: Duration::from_millis(age),
        })
    }

    fn append(log: &mut Log, now: Timestamp, size: usize) -> Offset {
        log.append(now, |offset, _| Bytes::from(vec![offset as u8; size]))
    }

    #[test]
    fn offsets_count_from_one_and_reads_follow_them() {
        let mut log = log(10, 1000, 1000);
        let mut out = Vec::new();
        assert_eq!(log.head(), 0);
        assert_eq!(log.read(0, &mut out), Read::AtHead);
        assert_eq!(append(&mut log, 0, 1), 1);
        assert_eq!(append(&mut log, 0, 1), 2);
        assert_eq!(log.read(0, &mut out), Read::Frames { cursor: 2 });
        assert_eq!(out.len(), 2);
        assert_eq!(log.read(2, &mut out), Read::AtHead);
    }

    #[test]
    fn count_bytes_and_age_trim_the_oldest() {
        let mut by_count = log(2, 1000, 1000);
        let mut by_bytes = log(10, 250, 1000);
        let mut by_age = log(10, 1000, 5);
        for now in 0..4 {
            append(&mut by_count, now, 100);
            append(&mut by_bytes, now, 100);
            append(&mut by_age, now * 3, 100);
        }
        for log in [&by_count, &by_bytes, &by_age] {
            let mut out = Vec::new();
            assert_eq!(log.read(0, &mut out), Read::Lagged { from: 1, to: 2 });
            assert_eq!(log.read(2, &mut out), Read::Frames { cursor: 4 });
        }
        by_age.trim(1_000_000);
        assert_eq!(
            (by_age.head(), by_age.bytes()),
            (4, 100),
            "the newest stays"
        );
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let mut log = log(1000, 10 << 20, 1000);
        append(&mut log, 0, 200_000);
        for _ in 0..200 {
            append(&mut log, 0, 10);
        }
        let mut out = Vec::new();
        assert_eq!(log.read(0, &mut out), Read::Frames { cursor: 1 });
        assert_eq!(log.read(1, &mut out), Read::Frames { cursor: 65 });
    }

    #[test]
    fn time_does_not_run_backwards() {
        let mut log = log(10, 1000, 1000);
        append(&mut log, 50, 1);
        let mut seen = 0;
        log.append(20, |_, time| {
            seen = time;
            Bytes::from_static(b"x")
        });
        assert_eq!(seen, 50);
    }
}

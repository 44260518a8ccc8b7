//! The retained part of a channel: pure, the clock is an argument.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    clock::{Now, Uptime},
    marks::{Left, Mark, Marks, View},
    quota::{Account, MARK, PUBLICATION},
};
use crate::wire::{Epoch, HistoryQuery, Kept, Offset, Position, Start, Timestamp};

/// How much of a channel is kept: the first bound that is reached trims the oldest. By count and bytes the newest publication is never
/// trimmed, so that it can be delivered at all; by age it is, unless the latest is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Most publications. Default 4096.
    pub count: usize,
    /// Most bytes of frames. Default 2 MiB. It bounds what a slow reader can make the server hold.
    pub bytes: usize,
    /// Oldest age, to the millisecond. Default 60 s. A channel is not evicted before its newest publication has this age.
    pub age: Duration,
    /// Whether the newest publication is kept beyond the age, for as long as the channel has readers: for channels of states. Default false.
    pub keep_latest: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            count: 4096,
            bytes: 2 << 20,
            age: Duration::from_secs(60),
            keep_latest: false,
        }
    }
}

/// Most publications in one [`Log::read`]: it bounds how long the channel is locked (about 1 µs for 64 reference counts).
const BATCH_COUNT: usize = 64;
/// Most bytes in one [`Log::read`], but for a single publication that is larger: what a writer that is stopped midway still
/// holds after the log has dropped it.
const BATCH_BYTES: usize = 64 * 1024;

/// Most publications in one [`Page`] (PROTOCOL §4.11).
const PAGE_COUNT: usize = 256;
/// Most bytes in one [`Page`], but for a single publication that is larger (PROTOCOL §4.11).
const PAGE_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Log {
    /// Offset of the oldest entry; of the next publication when there is none.
    first: Offset,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Time of day of the newest publication, held or not.
    time: Timestamp,
    /// When the newest message was appended.
    message_at: Option<Uptime>,
    retention: Retention,
    /// Where there is anything to remember beside the frames.
    marks: Option<Box<Marks>>,
}

#[derive(Debug)]
struct Entry {
    at: Uptime,
    frame: Bytes,
    /// The account that it is charged to.
    payer: Option<Arc<Account>>,
}

impl Entry {
    fn new(at: Uptime, frame: Bytes, payer: Option<Arc<Account>>) -> Self {
        let entry = Self { at, frame, payer };
        if let Some(payer) = &entry.payer {
            payer.charge(entry.size());
        }
        entry
    }

    /// Estimated bytes.
    const fn size(&self) -> usize {
        self.frame.len() + PUBLICATION
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(payer) = &self.payer {
            payer.release(self.size());
        }
    }
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
    /// The reader does not want these; the cursor moves to `to`.
    Skipped { from: Offset, to: Offset },
    /// The reader's session published these and did not want them back; the cursor moves to `to`.
    Own { from: Offset, to: Offset },
}

/// What a reader wants of what it has not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Nothing that was published before.
    pub(super) since: Uptime,
    pub(super) leave: Leave,
    /// Most publications at once.
    pub(super) count: usize,
    /// The session that reads, if one does.
    pub(super) session: Option<u64>,
}

/// What a reader leaves out because something newer makes it worthless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Nothing,
    /// Everything but the newest.
    AllButNewest,
    /// Of the publications with one conflation key all but the newest.
    Superseded,
}

impl Wanted {
    /// As much as one read gives.
    pub(super) const ALL: Self = Self {
        since: 0,
        leave: Leave::Nothing,
        count: BATCH_COUNT,
        session: None,
    };
}

/// A part of a log, with encoded publications.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) kept: Option<Kept>,
    /// Nothing is missing between the position that was asked for and the frames.
    pub(crate) complete: bool,
    pub(crate) frames: Vec<Bytes>,
}

impl Page {
    fn fill<'a>(&mut self, limit: u64, entries: impl Iterator<Item = &'a Entry>) {
        let count = usize::try_from(limit).map_or(PAGE_COUNT, |limit| limit.min(PAGE_COUNT));
        let mut bytes = 0;
        for entry in entries.take(count) {
            bytes += entry.frame.len();
            if bytes > PAGE_BYTES && !self.frames.is_empty() {
                break;
            }
            self.frames.push(entry.frame.clone());
        }
    }
}

impl Log {
    pub(super) const fn new(retention: Retention) -> Self {
        Self {
            first: 1,
            entries: VecDeque::new(),
            bytes: 0,
            time: 0,
            message_at: None,
            retention,
            marks: None,
        }
    }

    /// Offset of the newest publication, 0 before the first.
    pub(super) fn head(&self) -> Offset {
        self.first + self.entries.len() as Offset - 1
    }

    /// Offset of the oldest publication held; of the next one where there is none.
    pub(super) const fn first(&self) -> Offset {
        self.first
    }

    /// Publications held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Appends a message: the frame that `seal` makes of the next offset and a time that never runs backwards.
    pub(super) fn append(
        &mut self,
        now: Now,
        mark: Mark,
        payer: Option<Arc<Account>>,
        seal: impl FnOnce(Offset, Timestamp) -> Bytes,
    ) -> Offset {
        self.message_at = Some(now.uptime);
        self.push(now, mark, payer, seal)
    }

    /// Appends presence: like a message, but it does not keep the channel.
    pub(super) fn append_presence(
        &mut self,
        now: Now,
        seal: impl FnOnce(Offset, Timestamp) -> Bytes,
    ) -> Offset {
        self.push(now, Mark::default(), None, seal)
    }

    fn push(
        &mut self,
        now: Now,
        mark: Mark,
        payer: Option<Arc<Account>>,
        seal: impl FnOnce(Offset, Timestamp) -> Bytes,
    ) -> Offset {
        self.time = self.time.max(now.time);
        let offset = self.head() + 1;
        let frame = seal(offset, self.time);
        self.bytes += frame.len() + mark.bytes();
        self.entries.push_back(Entry::new(now.uptime, frame, payer));
        if self.marks.is_some() || !mark.is_empty() {
            self.marks.get_or_insert_default().push(offset, mark);
        }
        self.trim(now.uptime);
        offset
    }

    /// Drops what is beyond the retention at `now`.
    pub(super) fn trim(&mut self, now: Uptime) {
        let age = self.age();
        while let Some(oldest) = self.entries.front() {
            let aged = now.saturating_sub(oldest.at) > age;
            let over = match self.entries.len() {
                1 => aged && !self.retention.keep_latest,
                length => {
                    aged || length > self.retention.count || self.bytes > self.retention.bytes
                }
            };
            if !over {
                break;
            }
            self.drop_oldest();
        }
        self.shrink();
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= oldest.frame.len();
            self.first += 1;
            if let Some(marks) = &mut self.marks {
                self.bytes -= marks.trim(self.first);
            }
        }
    }

    /// Gives back the room of what was dropped.
    fn shrink(&mut self) {
        self.marks.take_if(|marks| marks.is_empty());
        let (length, capacity) = (self.entries.len(), self.entries.capacity());
        if capacity > 64 && length < capacity / 4 {
            self.entries.shrink_to(length * 2);
        }
    }

    /// Drops the oldest publications of `payer`, or of everybody, so that one of `size` takes their place; false, and nothing is dropped,
    /// where they are smaller than it.
    pub(super) fn make_room(&mut self, size: usize, payer: Option<&Arc<Account>>) -> bool {
        let is_of = |entry: &Entry| {
            payer.is_none_or(|payer| {
                let of = entry.payer.as_ref();
                of.is_some_and(|of| Arc::ptr_eq(of, payer))
            })
        };
        let (mut freed, mut count) = (0, 0);
        for entry in self.entries.iter().take_while(|entry| is_of(entry)) {
            freed += entry.size();
            count += 1;
            if freed >= size {
                (0..count).for_each(|_| self.drop_oldest());
                return true;
            }
        }
        false
    }

    /// Drops the oldest until the estimate is `bytes`, or one publication is left.
    pub(super) fn shed(&mut self, bytes: usize) {
        while self.entries.len() > 1 && self.size() > bytes {
            self.drop_oldest();
        }
        self.shrink();
    }

    /// Estimated bytes of publications, and of what is remembered of them.
    pub(super) fn size(&self) -> usize {
        let marks = self.marks.as_ref().map_or(0, |marks| marks.len() * MARK);
        self.bytes + self.entries.len() * PUBLICATION + marks
    }

    /// Whether the newest message is still within the retention's age.
    pub(super) fn holds_young(&self, now: Uptime) -> bool {
        let newest = self.message_at;
        newest.is_some_and(|at| now.saturating_sub(at) <= self.age())
    }

    /// The retention's age in milliseconds.
    fn age(&self) -> u64 {
        u64::try_from(self.retention.age.as_millis()).unwrap_or(u64::MAX)
    }

    /// The cursor of a reader that begins at `start`, and whether that is where it asked to continue.
    pub(super) fn begin(&self, epoch: Epoch, start: Start) -> (Offset, bool) {
        let head = self.head();
        match start {
            Start::After(Position { epoch: of, offset })
            | Start::AfterOrOldest(Position { epoch: of, offset })
                if of == epoch && offset <= head && offset + 1 >= self.first =>
            {
                (offset, true)
            }
            Start::Head | Start::After(_) => (head, false),
            Start::AfterOrOldest(_) => (self.first - 1, false),
            Start::Latest(count) => (head - count.min(self.entries.len() as u64), false),
        }
    }

    /// What `query` asks for.
    pub(super) fn page(&self, epoch: Epoch, query: &HistoryQuery) -> Page {
        let kept = Kept {
            epoch,
            first: self.first,
            last: self.head(),
        };
        let complete = query.from.is_none_or(|from| {
            let follows = if query.reverse {
                from.offset <= kept.last + 1
            } else {
                from.offset <= kept.last && from.offset + 1 >= kept.first
            };
            from.epoch == epoch && follows
        });
        let mut page = Page {
            kept: Some(kept),
            complete,
            frames: Vec::new(),
        };
        if !complete {
            return page;
        }
        let entries = self.entries.len();
        let index = |offset: Offset| (offset.saturating_sub(self.first) as usize).min(entries);
        if query.reverse {
            let end = query.from.map_or(entries, |from| index(from.offset));
            page.fill(query.limit, self.entries.range(..end).rev());
        } else {
            let start = query.from.map_or(0, |from| index(from.offset + 1));
            page.fill(query.limit, self.entries.range(start..));
        }
        page
    }

    /// Reads on from `cursor`, the last offset that the reader has seen.
    pub(super) fn read(&self, cursor: Offset, wanted: Wanted, out: &mut Vec<Bytes>) -> Read {
        if cursor >= self.head() {
            return Read::AtHead;
        }
        if wanted.leave == Leave::AllButNewest && cursor + 1 < self.head() {
            return Read::Skipped {
                from: cursor + 1,
                to: self.head() - 1,
            };
        }
        if cursor + 1 < self.first {
            return Read::Lagged {
                from: cursor + 1,
                to: self.first - 1,
            };
        }
        if wanted.since > 0 {
            // The clock never runs backwards.
            let old = self
                .entries
                .partition_point(|entry| entry.at < wanted.since);
            let to = self.first - 1 + old as Offset;
            if to > cursor {
                let from = cursor + 1;
                return Read::Skipped { from, to };
            }
        }
        let mut most = wanted.count;
        if let Some(marks) = &self.marks {
            let from = cursor + 1;
            let view = View {
                session: wanted.session,
                conflated: wanted.leave == Leave::Superseded,
            };
            match marks.left(from, BATCH_COUNT, view) {
                Left::Superseded(to) => return Read::Skipped { from, to },
                Left::Own(to) => return Read::Own { from, to },
                Left::Until(until) => {
                    most = most.min(usize::try_from(until - from).unwrap_or(usize::MAX));
                }
            }
        }
        let mut bytes = 0;
        let mut cursor = cursor;
        let skip = (cursor + 1 - self.first) as usize;
        for entry in self.entries.range(skip..).take(most) {
            bytes += entry.frame.len();
            if bytes > BATCH_BYTES && bytes != entry.frame.len() {
                break;
            }
            out.push(entry.frame.clone());
            cursor += 1;
        }
        Read::Frames { cursor }
    }

    /// Bytes of the frames held, and of their conflation keys.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;

//! The retained part of a channel: pure, the clock is an argument.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::wire::{Epoch, HistoryQuery, Kept, Offset, Position, Start, Timestamp};

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
    /// The reader does not want these; the cursor moves to `to`.
    Skipped { from: Offset, to: Offset },
}

/// What a reader wants of what it has not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Nothing that was published before.
    pub(super) since: Timestamp,
    /// Nothing but the newest.
    pub(super) newest: bool,
    /// Most publications at once.
    pub(super) count: usize,
}

impl Wanted {
    /// As much as one read gives.
    pub(super) const ALL: Self = Self {
        since: 0,
        newest: false,
        count: BATCH_COUNT,
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

    /// The cursor of a reader that begins at `start`, and whether that is where it asked to continue.
    pub(super) fn begin(&self, epoch: Epoch, start: Start) -> (Offset, bool) {
        let head = self.head();
        match start {
            Start::After(Position { epoch: of, offset })
                if of == epoch && offset <= head && offset + 1 >= self.first =>
            {
                (offset, true)
            }
            Start::Head | Start::After(_) => (head, false),
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
        if wanted.newest && cursor + 1 < self.head() {
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
            // Times never run backwards.
            let old = self
                .entries
                .partition_point(|entry| entry.time < wanted.since);
            let to = self.first - 1 + old as Offset;
            if to > cursor {
                let from = cursor + 1;
                return Read::Skipped { from, to };
            }
        }
        let mut bytes = 0;
        let mut cursor = cursor;
        let skip = (cursor + 1 - self.first) as usize;
        for entry in self.entries.range(skip..).take(wanted.count) {
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
        assert_eq!(log.read(0, Wanted::ALL, &mut out), Read::AtHead);
        assert_eq!(append(&mut log, 0, 1), 1);
        assert_eq!(append(&mut log, 0, 1), 2);
        assert_eq!(
            log.read(0, Wanted::ALL, &mut out),
            Read::Frames { cursor: 2 }
        );
        assert_eq!(out.len(), 2);
        assert_eq!(log.read(2, Wanted::ALL, &mut out), Read::AtHead);
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
            assert_eq!(
                log.read(0, Wanted::ALL, &mut out),
                Read::Lagged { from: 1, to: 2 }
            );
            assert_eq!(
                log.read(2, Wanted::ALL, &mut out),
                Read::Frames { cursor: 4 }
            );
        }
        by_age.trim(1_000_000);
        assert_eq!(
            (by_age.head(), by_age.bytes()),
            (4, 100),
            "the newest stays"
        );
    }

    #[test]
    fn a_reader_continues_where_nothing_is_missing_and_nowhere_else() {
        let epoch = Epoch(7);
        let mut log = log(3, 1000, 1000);
        let after = |log: &Log, epoch, offset| {
            log.begin(
                epoch,
                Start::After(Position {
                    epoch: Epoch(7),
                    offset,
                }),
            )
        };
        assert_eq!(after(&log, epoch, 0), (0, true));
        assert_eq!(after(&log, epoch, 1), (0, false), "it was never there");
        for _ in 0..5 {
            append(&mut log, 0, 1);
        }
        // 3, 4 and 5 are kept.
        for (offset, begins) in [
            (0, None),
            (1, None),
            (2, Some(2)),
            (5, Some(5)),
            (6, None),
            (u64::MAX, None),
        ] {
            let expected = begins.map_or((5, false), |cursor| (cursor, true));
            assert_eq!(after(&log, epoch, offset), expected, "{offset}");
        }
        assert_eq!(after(&log, Epoch(8), 3), (5, false), "another log");
        assert_eq!(log.begin(epoch, Start::Head), (5, false));
        for (count, cursor) in [(0, 5), (1, 4), (3, 2), (4, 2), (u64::MAX, 2)] {
            assert_eq!(
                log.begin(epoch, Start::Latest(count)),
                (cursor, false),
                "{count}"
            );
        }
    }

    #[test]
    fn a_page_is_what_was_asked_for_or_nothing() {
        let epoch = Epoch(7);
        let mut log = log(4, 1000, 1000);
        let page = |log: &Log, query: HistoryQuery| {
            let page = log.page(epoch, &query);
            let offsets: Vec<_> = page.frames.iter().map(|frame| frame[0]).collect();
            (page.complete, offsets)
        };
        let from = |offset| Position { epoch, offset };
        assert_eq!(page(&log, HistoryQuery::oldest(9)), (true, vec![]));
        assert_eq!(
            page(&log, HistoryQuery::newest(9).from(from(1))),
            (true, vec![])
        );
        for _ in 0..6 {
            append(&mut log, 0, 1);
        }
        // 3, 4, 5 and 6 are kept.
        let kept = Kept {
            epoch,
            first: 3,
            last: 6,
        };
        let whole = log.page(epoch, &HistoryQuery::oldest(0));
        assert_eq!((whole.kept, whole.frames.len()), (Some(kept), 0));
        let (oldest, newest) = (HistoryQuery::oldest, HistoryQuery::newest);
        for (query, complete, offsets) in [
            (oldest(u64::MAX), true, vec![3, 4, 5, 6]),
            (oldest(2), true, vec![3, 4]),
            (oldest(2).from(from(4)), true, vec![5, 6]),
            (oldest(2).from(from(2)), true, vec![3, 4]),
            (oldest(2).from(from(6)), true, vec![]),
            (oldest(2).from(from(1)), false, vec![]),
            (oldest(2).from(from(7)), false, vec![]),
            (oldest(2).from(from(u64::MAX)), false, vec![]),
            (newest(u64::MAX), true, vec![6, 5, 4, 3]),
            (newest(2), true, vec![6, 5]),
            (newest(2).from(from(5)), true, vec![4, 3]),
            (newest(2).from(from(7)), true, vec![6, 5]),
            (newest(2).from(from(3)), true, vec![]),
            (newest(2).from(from(0)), true, vec![]),
            (newest(2).from(from(8)), false, vec![]),
        ] {
            assert_eq!(page(&log, query), (complete, offsets), "{query:?}");
        }
        let other = Position {
            epoch: Epoch(8),
            offset: 4,
        };
        for query in [oldest(2).from(other), newest(2).from(other)] {
            assert_eq!(page(&log, query), (false, vec![]), "another log");
        }
    }

    #[test]
    fn a_page_is_bounded_but_never_empty() {
        let mut log = log(1000, 10 << 20, 1000);
        append(&mut log, 0, 300_000);
        for _ in 0..300 {
            append(&mut log, 0, 10);
        }
        let count = |query| log.page(Epoch(1), &query).frames.len();
        assert_eq!(count(HistoryQuery::oldest(1000)), 1);
        assert_eq!(count(HistoryQuery::newest(1000)), PAGE_COUNT);
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let mut log = log(1000, 10 << 20, 1000);
        append(&mut log, 0, 200_000);
        for _ in 0..200 {
            append(&mut log, 0, 10);
        }
        let mut out = Vec::new();
        assert_eq!(
            log.read(0, Wanted::ALL, &mut out),
            Read::Frames { cursor: 1 }
        );
        assert_eq!(
            log.read(1, Wanted::ALL, &mut out),
            Read::Frames { cursor: 65 }
        );
    }

    #[test]
    fn what_a_reader_does_not_want_is_skipped_and_told() {
        let mut log = log(5, 1000, 1_000_000);
        for now in 1..=8 {
            append(&mut log, now * 10, 1);
        }
        // 4 to 8 are kept, of the times 40 to 80.
        let mut out = Vec::new();
        let mut read = |cursor, wanted| {
            out.clear();
            (log.read(cursor, wanted, &mut out), out.len())
        };
        let skipped = |from, to| (Read::Skipped { from, to }, 0);
        let since = |since| Wanted {
            since,
            ..Wanted::ALL
        };
        assert_eq!(read(4, since(61)), skipped(5, 6));
        assert_eq!(read(6, since(61)), (Read::Frames { cursor: 8 }, 2));
        assert_eq!(read(5, since(60)), (Read::Frames { cursor: 8 }, 3));
        assert_eq!(read(3, since(1000)), skipped(4, 8));
        assert_eq!(read(1, since(1000)), (Read::Lagged { from: 2, to: 3 }, 0));
        assert_eq!(read(8, since(1000)), (Read::AtHead, 0));
        let newest = Wanted {
            newest: true,
            ..Wanted::ALL
        };
        assert_eq!(read(1, newest), skipped(2, 7), "lost or not");
        assert_eq!(read(3, newest), skipped(4, 7));
        assert_eq!(read(7, newest), (Read::Frames { cursor: 8 }, 1));
        assert_eq!(read(8, newest), (Read::AtHead, 0));
        let both = Wanted {
            since: 85,
            newest: true,
            count: 1,
        };
        assert_eq!(read(7, both), skipped(8, 8));
        let one = Wanted {
            count: 1,
            ..Wanted::ALL
        };
        assert_eq!(read(3, one), (Read::Frames { cursor: 4 }, 1));
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

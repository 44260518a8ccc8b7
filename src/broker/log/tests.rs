//! What is kept, read and skipped, by an argument for a clock.

use super::*;

fn log(count: usize, bytes: usize, age: u64) -> Log {
    Log::new(Retention {
        count,
        bytes,
        age: Duration::from_millis(age),
        keep_latest: false,
    })
}

fn at(uptime: u64) -> Now {
    Now { time: 0, uptime }
}

fn append(log: &mut Log, uptime: u64, size: usize) -> Offset {
    log.append(at(uptime), Mark::default(), None, |offset, _| {
        Bytes::from(vec![offset as u8; size])
    })
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
    // The last two are of 6 and 9.
    by_age.trim(11);
    assert_eq!((by_age.len(), by_age.bytes()), (2, 200));
    by_age.trim(14);
    assert_eq!((by_age.len(), by_age.holds_young(14)), (1, true));
}

#[test]
fn newest_publication_expires_by_age_unless_the_latest_is_kept() {
    let mut expiring = log(10, 1000, 5);
    let mut keeping = Log::new(Retention {
        keep_latest: true,
        ..expiring.retention
    });
    for log in [&mut expiring, &mut keeping] {
        append(log, 0, 100);
        append(log, 1, 100);
        log.trim(7);
        assert!(!log.holds_young(7));
    }
    assert_eq!((keeping.len(), keeping.bytes()), (1, 100));
    assert_eq!((expiring.len(), expiring.bytes()), (0, 0));
    let mut out = Vec::new();
    assert_eq!(expiring.head(), 2, "offsets go on");
    assert_eq!(
        expiring.read(1, Wanted::ALL, &mut out),
        Read::Lagged { from: 2, to: 2 }
    );
    assert_eq!(expiring.read(2, Wanted::ALL, &mut out), Read::AtHead);
    assert_eq!(append(&mut expiring, 8, 1), 3);
    assert_eq!(
        expiring.read(2, Wanted::ALL, &mut out),
        Read::Frames { cursor: 3 }
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
        leave: Leave::AllButNewest,
        ..Wanted::ALL
    };
    assert_eq!(read(1, newest), skipped(2, 7), "lost or not");
    assert_eq!(read(3, newest), skipped(4, 7));
    assert_eq!(read(7, newest), (Read::Frames { cursor: 8 }, 1));
    assert_eq!(read(8, newest), (Read::AtHead, 0));
    let both = Wanted {
        since: 85,
        leave: Leave::AllButNewest,
        count: 1,
        ..Wanted::ALL
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
    let now = |time| Now { time, uptime: 0 };
    let seal = |_, _| Bytes::from_static(b"x");
    log.append(now(50), Mark::default(), None, seal);
    let mut seen = 0;
    log.append(now(20), Mark::default(), None, |_, time| {
        seen = time;
        Bytes::from_static(b"x")
    });
    assert_eq!(seen, 50);
}

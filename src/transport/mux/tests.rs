//! Two sides in memory, and what they may do to each other.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use quinn_proto::{Dir, Side, StreamId};

use super::{
    frame::{Frame, Parameters, RECORD},
    recv::Read,
    state::{Config, Interest, State},
};
use crate::wire::Code;

const CONFIG: Config = Config {
    bidi_streams: 2,
    uni_streams: 3,
    window: 20_000,
    stream_window: 8_000,
};

fn pair() -> [State; 2] {
    let mut sides = [Side::Client, Side::Server].map(|side| State::new(side, CONFIG, 30_000));
    exchange(&mut sides);
    sides
}

/// Everything that either side has to say arrives.
fn exchange(sides: &mut [State; 2]) {
    loop {
        let mut quiet = true;
        for from in 0..2 {
            while let Some(record) = sides[from].transmit() {
                assert!(record.len() <= RECORD, "{} bytes", record.len());
                sides[1 - from].receive(record);
                quiet = false;
            }
        }
        if quiet {
            return;
        }
    }
}

fn read_all(state: &mut State, id: StreamId) -> (Vec<u8>, Read) {
    let mut bytes = Vec::new();
    loop {
        match state.read(id, 1000) {
            Read::Bytes(part) => bytes.extend(part),
            end => return (bytes, end),
        }
    }
}

/// A write of this many bytes; how many were taken.
fn write(state: &mut State, id: StreamId, size: usize) -> usize {
    let mut chunks = [Bytes::from(vec![7; size])];
    let all = state
        .write(id, &mut chunks)
        .expect("the stream takes bytes");
    assert_eq!(all, chunks[0].is_empty());
    size - chunks[0].len()
}

#[test]
fn nobody_may_open_more_streams_than_permitted_until_some_are_over() {
    let mut sides = pair();
    let ids: Vec<_> = std::iter::from_fn(|| sides[1].open(Dir::Uni)).collect();
    assert_eq!(ids.len(), 3);
    for id in &ids {
        sides[1].finish(*id);
    }
    exchange(&mut sides);
    assert_eq!(sides[1].open(Dir::Uni), None, "nobody has read the ends");
    for id in &ids {
        assert_eq!(sides[0].accept(Dir::Uni), Some(*id));
        assert_eq!(sides[0].read(*id, 10), Read::Finished);
    }
    exchange(&mut sides);
    let more: Vec<_> = std::iter::from_fn(|| sides[1].open(Dir::Uni)).collect();
    assert_eq!(more.len(), 3);
}

#[test]
fn a_stream_that_is_not_read_takes_its_window_and_holds_up_no_other() {
    let mut sides = pair();
    let (slow, fast) = (
        sides[1].open(Dir::Uni).unwrap(),
        sides[1].open(Dir::Uni).unwrap(),
    );
    assert_eq!(write(&mut sides[1], slow, 10_000), 8_000);
    for _ in 0..10 {
        assert_eq!(write(&mut sides[1], fast, 5_000), 5_000);
        exchange(&mut sides);
        assert_eq!(read_all(&mut sides[0], fast).0.len(), 5_000);
        exchange(&mut sides);
    }
    sides[1].events.clear();
    assert_eq!(read_all(&mut sides[0], slow).0.len(), 8_000);
    exchange(&mut sides);
    assert!(sides[1].events.contains(&Interest::Writable(slow)));
    assert_eq!(write(&mut sides[1], slow, 2_000), 2_000);
}

#[test]
fn what_is_written_is_bounded_and_an_answer_finds_room_beyond() {
    let mut sides = [
        State::new(
            Side::Client,
            Config {
                window: 1 << 30,
                stream_window: 1 << 30,
                ..CONFIG
            },
            0,
        ),
        State::new(Side::Server, CONFIG, 0),
    ];
    exchange(&mut sides);
    let bulk = sides[1].open(Dir::Uni).unwrap();
    assert_eq!(write(&mut sides[1], bulk, 1 << 20), 64 * 1024);
    assert_eq!(write(&mut sides[1], bulk, 1), 0);
    let control = sides[1].open(Dir::Uni).unwrap();
    sides[1].set_priority(control, i32::MAX);
    assert_eq!(write(&mut sides[1], control, 100), 100);
    let record = sides[1].transmit().unwrap();
    sides[0].receive(record.clone());
    let first = Frame::decode(&mut record.clone()).unwrap();
    assert!(
        matches!(first, Some(Frame::Stream { id, .. }) if id == control),
        "{first:?}"
    );
    sides[1].hurry();
    exchange(&mut sides);
    assert_eq!(write(&mut sides[1], bulk, 1 << 20), 8 * 1024);
}

#[test]
fn a_reset_gives_back_what_was_not_sent_and_a_stop_is_heard() {
    let mut sides = pair();
    let id = sides[1].open(Dir::Uni).unwrap();
    write(&mut sides[1], id, 6_000);
    sides[1].reset(id, Code::GOING_AWAY);
    assert_eq!(sides[1].stopped(id), Ok(None));
    exchange(&mut sides);
    assert_eq!(sides[1].stopped(id), Err(()), "it is over");
    assert_eq!(
        read_all(&mut sides[0], id),
        (vec![], Read::Reset(Code::GOING_AWAY.0.into()))
    );
    let other = sides[1].open(Dir::Uni).unwrap();
    write(&mut sides[1], other, 5_000);
    exchange(&mut sides);
    sides[0].stop(other, Code::UNSUBSCRIBED);
    exchange(&mut sides);
    assert_eq!(
        sides[1].stopped(other),
        Ok(Some(Code::UNSUBSCRIBED.0.into()))
    );
    assert_eq!(sides[1].write(other, &mut [Bytes::from_static(b"x")]), None);
    sides[1].reset(other, Code::UNSUBSCRIBED);
    exchange(&mut sides);
    // The whole of the connection's window is there again.
    for _ in 0..10 {
        let id = sides[1].open(Dir::Uni).expect("a stream is free again");
        assert_eq!(write(&mut sides[1], id, 8_000), 8_000);
        sides[1].finish(id);
        exchange(&mut sides);
        assert_eq!(read_all(&mut sides[0], id).0.len(), 8_000);
        exchange(&mut sides);
    }
}

#[test]
fn a_code_and_a_reason_arrive_and_nothing_after_them() {
    let mut sides = pair();
    let id = sides[1].open(Dir::Uni).unwrap();
    write(&mut sides[1], id, 100);
    sides[1].close(Code::REVOKED, "enough");
    exchange(&mut sides);
    let closed = sides[0].error.clone().expect("it is over");
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(Code::REVOKED), "enough")
    );
    assert_eq!(sides[0].accept(Dir::Uni), None);
    assert!(sides[1].transmit().is_none() && sides[0].transmit().is_none());
}

#[test]
fn who_breaks_the_rules_is_told_how() {
    let client = |index| StreamId::new(Side::Client, Dir::Bi, index);
    let bytes = |id, offset, size, fin| Frame::Stream {
        id,
        offset,
        data: Bytes::from(vec![0; size]),
        fin,
    };
    let cases: Vec<(&str, Vec<Frame>)> = vec![
        ("a hole in a stream", vec![bytes(client(0), 1, 1, false)]),
        (
            "more than a stream may have",
            vec![bytes(client(0), 0, 8_001, false)],
        ),
        ("more than all streams may have", {
            let each = |index| bytes(client(index), 0, 8_000, false);
            vec![
                each(0),
                each(1),
                bytes(StreamId::new(Side::Client, Dir::Uni, 0), 0, 8_000, false),
            ]
        }),
        (
            "more streams than permitted",
            vec![bytes(client(2), 0, 1, false)],
        ),
        (
            "bytes behind a stream's end",
            vec![bytes(client(0), 0, 1, true), bytes(client(0), 1, 1, false)],
        ),
        (
            "a reset of another size",
            vec![
                bytes(client(0), 0, 1, false),
                Frame::Reset {
                    id: client(0),
                    code: 0,
                    size: 2,
                },
            ],
        ),
        (
            "a stream that is over or none",
            vec![bytes(StreamId::new(Side::Server, Dir::Bi, 0), 0, 1, false)],
        ),
        (
            "about a stream that is none",
            vec![Frame::Stop {
                id: StreamId::new(Side::Server, Dir::Uni, 9),
                code: 0,
            }],
        ),
        (
            "parameters twice",
            vec![Frame::Parameters(Parameters::default())],
        ),
    ];
    for (wanted, frames) in cases {
        let mut server = State::new(Side::Server, CONFIG, 0);
        let mut record = BytesMut::new();
        Frame::Parameters(Parameters::default()).encode(&mut record);
        frames.iter().for_each(|frame| frame.encode(&mut record));
        server.transmit();
        server.receive(record.freeze());
        let closed = server
            .error
            .clone()
            .unwrap_or_else(|| panic!("{wanted}: it lives"));
        assert!(
            closed.reason.contains(wanted),
            "{wanted}: {}",
            closed.reason
        );
        let mut last = server.transmit().expect("a last word");
        let told = Frame::decode(&mut last);
        assert!(
            matches!(&told, Ok(Some(Frame::Violation { reason, .. })) if reason.contains(wanted)),
            "{wanted}: {told:?}"
        );
    }
    let mut server = State::new(Side::Server, CONFIG, 0);
    let mut record = BytesMut::new();
    Frame::Ping(1).encode(&mut record);
    server.receive(record.freeze());
    assert!(server.error.is_some(), "a frame before the parameters");
}

#[test]
fn a_flood_of_words_makes_no_queue() {
    let mut sides = pair();
    for number in 0..10_000 {
        let mut record = BytesMut::new();
        Frame::Ping(number).encode(&mut record);
        Frame::MaxData(number).encode(&mut record);
        sides[1].receive(record.freeze());
        sides[1].events.clear();
    }
    let mut record = sides[1].transmit().expect("an answer");
    assert_eq!(Frame::decode(&mut record), Ok(Some(Frame::Pong(9_999))));
    assert!(record.is_empty() && sides[1].transmit().is_none());
    // Streams that are opened and reset at once, as many as it takes.
    for index in 0..5_000 {
        let id = StreamId::new(Side::Client, Dir::Bi, index);
        let mut record = BytesMut::new();
        Frame::Reset {
            id,
            code: 0,
            size: 0,
        }
        .encode(&mut record);
        sides[1].receive(record.freeze());
        assert_eq!(sides[1].error, None, "stream {index}");
        assert_eq!(sides[1].accept(Dir::Bi), Some(id));
        assert_eq!(sides[1].read(id, 1), Read::Reset(0));
        sides[1].reset(id, Code::UNEXPECTED_FRAME);
        while sides[1].transmit().is_some() {}
        sides[1].events.clear();
    }
    assert_eq!(sides[1].streams(), 0);
}

#[test]
fn small_pieces_hold_no_large_record_and_a_late_reset_is_no_fault() {
    let mut sides = pair();
    let id = StreamId::new(Side::Client, Dir::Bi, 0);
    let piece = |offset, fin| Frame::Stream {
        id,
        offset,
        data: Bytes::from_static(b"x"),
        fin,
    };
    for offset in 0..3_000 {
        let mut record = BytesMut::new();
        piece(offset, offset == 2_999).encode(&mut record);
        record.resize(8_000, 0);
        sides[1].receive(record.freeze());
        sides[1].events.clear();
    }
    let mut reads = 0;
    let mut size = 0;
    while let Read::Bytes(bytes) = sides[1].read(id, usize::MAX) {
        reads += 1;
        size += bytes.len();
    }
    assert_eq!(size, 3_000);
    assert!(reads <= 3, "{reads} pieces");
    let mut record = BytesMut::new();
    let reset = Frame::Reset {
        id,
        code: 7,
        size: 3_000,
    };
    reset.encode(&mut record);
    sides[1].receive(record.freeze());
    assert_eq!(sides[1].error, None, "all was here already");
}

#[derive(Debug, Clone)]
enum Step {
    Open,
    Write(usize, usize),
    Finish(usize),
    Reset(usize),
    Stop(usize),
    Read(usize, usize),
    Transmit(usize),
    Receive(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = || 0..8usize;
    let step = prop_oneof![
        2 => Just(Step::Open),
        6 => (stream(), 0..9_000usize).prop_map(|(stream, size)| Step::Write(stream, size)),
        1 => stream().prop_map(Step::Finish),
        1 => stream().prop_map(Step::Reset),
        1 => stream().prop_map(Step::Stop),
        6 => (stream(), 1..9_000usize).prop_map(|(stream, size)| Step::Read(stream, size)),
        6 => (0..2usize).prop_map(Step::Transmit),
        6 => (0..2usize).prop_map(Step::Receive),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_bytes_come_in_order_and_nothing_is_left(steps in steps()) {
        let mut sides = pair();
        let mut way: [std::collections::VecDeque<Bytes>; 2] = Default::default();
        // Of each stream: bytes written, bytes read, whether its end was read.
        let mut known: Vec<StreamId> = Vec::new();
        let mut streams: HashMap<StreamId, (u64, u64, bool)> = HashMap::new();

        let mut arrived = std::collections::HashSet::new();
        let number = |at: u64| (at.wrapping_mul(2_654_435_761) >> 7) as u8;
        for step in steps {
            while let Some(id) = sides[0].accept(Dir::Uni) {
                arrived.insert(id);
            }
            let pick = |at: usize| known.iter().rev().nth(at).copied();
            let pick_arrived = |at: usize| pick(at).filter(|id| arrived.contains(id));
            match step {
                Step::Open => {
                    if let Some(id) = sides[1].open(Dir::Uni) {
                        known.push(id);
                        streams.insert(id, (0, 0, false));
                    }
                }
                Step::Write(at, size) => if let Some(id) = pick(at) {
                    let written = &mut streams.get_mut(&id).unwrap().0;
                    let data: Vec<u8> = (0..size as u64).map(|index| number(*written + index)).collect();
                    let mut chunks = [Bytes::from(data)];
                    if sides[1].write(id, &mut chunks).is_some() {
                        *written += (size - chunks[0].len()) as u64;
                    }
                },
                Step::Finish(at) => if let Some(id) = pick(at) {
                    sides[1].finish(id);

                },
                Step::Reset(at) => if let Some(id) = pick(at) {
                    sides[1].reset(id, Code::ENDED);
                },
                Step::Stop(at) => if let Some(id) = pick_arrived(at) {
                    sides[0].stop(id, Code::UNSUBSCRIBED);
                },
                Step::Read(at, size) => if let Some(id) = pick_arrived(at) {
                    let (written, read, end) = streams.get_mut(&id).unwrap();
                    match sides[0].read(id, size) {
                        Read::Bytes(bytes) => {
                            for byte in bytes {
                                prop_assert_eq!(byte, number(*read));
                                *read += 1;
                            }
                            prop_assert!(read <= written && !*end);
                        }
                        Read::Blocked => {}
                        Read::Finished | Read::Reset(_) => *end = true,
                    }
                },
                Step::Transmit(side) => way[side].extend(sides[side].transmit()),
                Step::Receive(side) => if let Some(record) = way[1 - side].pop_front() {
                    sides[side].receive(record);
                },
            }
            prop_assert_eq!(&sides[0].error, &None);
            prop_assert_eq!(&sides[1].error, &None);
        }
        // All that is on the way arrives, and what was not ended ends.
        for side in 0..2 {
            while let Some(record) = way[1 - side].pop_front() {
                sides[side].receive(record);
            }
        }
        for id in &known {
            sides[1].finish(*id);
        }
        for _ in 0..100 {
            exchange(&mut sides);
            for id in &known {
                read_all(&mut sides[0], *id);
                if let Ok(Some(code)) = sides[1].stopped(*id) {
                    sides[1].reset(*id, Code(code as u32));
                }
            }
        }
        while sides[0].accept(Dir::Uni).is_some() {}
        prop_assert_eq!(&sides[0].error, &None);
        prop_assert_eq!(sides[0].streams() + sides[1].streams(), 0);
        // And all that is permitted is there again.
        let fresh: Vec<_> = std::iter::from_fn(|| sides[1].open(Dir::Uni)).collect();
        prop_assert_eq!(fresh.len(), 3);
        prop_assert_eq!(write(&mut sides[1], fresh[0], 9_000), 8_000);
    }

    #[test]
    fn no_record_panics(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..5)) {
        let mut sides = pair();
        for record in records {
            sides[1].receive(record.into());
            while sides[1].transmit().is_some() {}
        }
    }
}

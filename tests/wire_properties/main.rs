//! What holds for any bytes and any names: frames come back from any chunks, nothing panics or loops, and what is allocated is
//! bounded by what came in.

mod datagrams;
mod heap;
mod names;
mod strategies;

use proptest::{collection::vec, prelude::*, sample::select};
use tidings::wire::{
    DecodeError, Decoder, Message, Publication,
    codec::RawFrame,
    frame::{AutoSubscription, Frame, Hello, Limits, Welcome},
};

use strategies::{change, frame, pieces, position};

/// The most that decoding a body of so many bytes may hold at once: see `src/wire/reader.rs`.
const fn decode_bound(body: usize) -> usize {
    72 * body + 1024
}

/// The most that a decoder of this limit may hold at once, fed in chunks of this many bytes and emptied after each: a buffer that
/// doubled while the old one was still there.
const fn buffer_bound(limit: usize, chunk: usize) -> usize {
    3 * (limit + 9 + chunk) + 1024
}

#[test]
fn a_claim_allocates_nothing() {
    for (kind, start) in [
        (0x01, &[1, 0, 0][..]),         // the features of Hello
        (0x01, &[1, 1]),                // its token
        (0x02, &[1, 0, 0]),             // the features of Welcome
        (0x02, &[1, 0, 0, 0, 1, 1, 1]), // its subscriptions
        (0x10, &[1]),                   // a channel
        (0x12, &[1, 1, b'c', 2, 0]),    // the bytes of Data
    ] {
        for claim in [1_u64 << 14, 1 << 20, 1 << 27, 1 << 40, 1 << 62, u64::MAX] {
            for padding in [0, 20, 1_100, 20_000, 300_000] {
                let body = [start, &[253], &claim.to_le_bytes(), &vec![0; padding]].concat();
                let raw = raw(kind, body);
                let (result, peak) = heap::peak(|| Frame::decode(&raw));
                let bound = decode_bound(raw.body.len());
                assert!(
                    peak <= bound,
                    "{kind:#x} {claim} {padding}: {peak} of {bound}"
                );
                assert!(
                    result.is_err() || claim <= padding as u64,
                    "{kind:#x} {claim} {padding}"
                );
            }
        }
    }
}

#[test]
fn the_densest_lists_decode_within_the_bound() {
    let smallest = AutoSubscription {
        subscription: 0,
        channel: String::new(),
        position: position(0, 0),
    };
    for items in [1, 100, 1_000, 16_000, 43_690, 43_691, 100_000, 400_000] {
        let mut frames = vec![
            Frame::from(welcome(vec![String::new(); items], Vec::new())),
            Frame::from(welcome(Vec::new(), vec![smallest.clone(); items])),
            Frame::from(welcome(
                vec![String::new(); items],
                vec![smallest.clone(); items],
            )),
        ];
        frames.push(Frame::from(Hello {
            version: 1,
            token: None,
            client: String::new(),
            features: vec![String::new(); items],
        }));
        for frame in frames {
            let raw = only(&frame.encode());
            let (result, peak) = heap::peak(|| Frame::decode(&raw));
            let bound = decode_bound(raw.body.len());
            assert!(result == Ok(Some(frame)), "{items} items");
            assert!(peak <= bound, "{items} items: {peak} of {bound}");
        }
    }
}

/// The buffer is bounded by the limit, not by what went through it.
#[test]
fn a_long_stream_goes_through_a_small_buffer() {
    let frame = Frame::from(Publication {
        offset: 1,
        time: 2,
        publisher: None,
        message: Message::data("a/b", vec![7; 1_000]),
    })
    .encode();
    let stream = frame.repeat(2_000);
    for size in [1, 100, 1_000, 1_500, 64_000] {
        let (count, peak) = heap::peak(|| cut(&stream, &[size], frame.len()));
        assert_eq!(count, 2_000, "chunks of {size}");
        let bound = buffer_bound(frame.len(), size);
        assert!(peak <= bound, "chunks of {size}: {peak} of {bound}");
    }
}

/// A value of an application that is far larger in memory than on the wire is decoded all the same.
#[test]
fn what_an_application_encodes_it_decodes() {
    let numbers = vec![1_u128; 200_000];
    let message = Message::of(&numbers).unwrap();
    let (back, peak) = heap::peak(|| message.decode::<Vec<u128>>());
    assert!(back == Ok(numbers));
    assert!(peak <= decode_bound(message.size()), "{peak}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn frames_come_back_from_any_chunks(
        frames in vec(frame(), 1..6),
        cuts in vec(1..600_usize, 1..8),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let outcome = read(&stream, &cuts, stream.len());
        prop_assert_eq!(outcome.error, None);
        prop_assert!(outcome.whole);
        prop_assert_eq!(outcome.frames, frames);
    }

    #[test]
    fn a_request_tells_its_id(frame in frame()) {
        let id = match &frame {
            Frame::Subscribe(body) => Some(body.request),
            Frame::Unsubscribe(body) => Some(body.request),
            Frame::Publish(body) => Some(body.request),
            Frame::Ping(body) => Some(body.request),
            Frame::SubscribeFrom(body) => Some(body.request),
            Frame::ReadHistory(body) => Some(body.request),
            Frame::PublishOnce(body) => Some(body.request),
            Frame::PublishWith(body) => Some(body.request),
            Frame::Refresh(body) => Some(body.request),
            Frame::ReadPresence(body) => Some(body.request),
            _ => None,
        };
        prop_assert_eq!(Frame::request_id(&only(&frame.encode())), id);
    }

    #[test]
    fn perturbed_frames_are_read_within_the_bounds(
        frames in vec(frame(), 1..6),
        changes in vec(change(), 1..8),
        cuts in vec(1..600_usize, 1..8),
        limit in select(&[0, 1, 16, 1_000, 16_384][..]),
    ) {
        let mut stream = frames.iter().flat_map(Frame::encode).collect();
        for change in changes {
            change.apply(&mut stream);
        }
        within_bounds(&stream, &cuts, limit)?;
    }

    #[test]
    fn arbitrary_bytes_are_read_within_the_bounds(
        stream in vec(any::<u8>(), 0..2_000),
        cuts in vec(1..600_usize, 1..8),
        limit in select(&[0, 1, 16, 1_000, 16_384][..]),
    ) {
        within_bounds(&stream, &cuts, limit)?;
    }

    #[test]
    fn bodies_of_plausible_pieces_are_read_within_the_bounds(
        kind in select(Frame::TYPES),
        body in pieces(),
    ) {
        let raw = raw(kind.1, body);
        decoded_within_bounds(&raw)?;
    }
}

/// What a reader gets out of a stream.
struct Outcome {
    raws: Vec<RawFrame>,
    frames: Vec<Frame>,
    /// No part of a frame is left over.
    whole: bool,
    error: Option<DecodeError>,
}

/// Reads `stream` in chunks of `cuts`, again and again, up to the first error.
fn read(stream: &[u8], cuts: &[usize], limit: usize) -> Outcome {
    let mut decoder = Decoder::new(limit);
    let mut outcome = Outcome {
        raws: Vec::new(),
        frames: Vec::new(),
        whole: false,
        error: None,
    };
    for chunk in chunks(stream, cuts) {
        decoder.extend(chunk);
        loop {
            let raw = match decoder.next_frame() {
                Ok(Some(raw)) => raw,
                Ok(None) => break,
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            };
            match Frame::decode(&raw) {
                Ok(frame) => outcome.frames.extend(frame),
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
            outcome.raws.push(raw);
        }
    }
    outcome.whole = decoder.is_empty();
    outcome
}

/// How many frames a decoder cuts out of `stream` before the first error.
fn cut(stream: &[u8], cuts: &[usize], limit: usize) -> usize {
    let mut decoder = Decoder::new(limit);
    let mut count = 0;
    for chunk in chunks(stream, cuts) {
        decoder.extend(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(_)) => count += 1,
                Ok(None) => break,
                Err(_) => return count,
            }
        }
    }
    count
}

fn chunks<'s>(stream: &'s [u8], cuts: &'s [usize]) -> impl Iterator<Item = &'s [u8]> {
    let mut rest = stream;
    cuts.iter().cycle().map_while(move |cut| {
        let (chunk, tail) = rest.split_at_checked(*cut).unwrap_or((rest, &[]));
        rest = tail;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Whatever the bytes are: each frame takes two of them or more, buffering and decoding hold no more than they may, a frame that
/// decodes is written and read again as itself, and chunks make no difference.
fn within_bounds(stream: &[u8], cuts: &[usize], limit: usize) -> Result<(), TestCaseError> {
    let largest = cuts.iter().copied().max().unwrap_or(0).min(stream.len());
    let (count, peak) = heap::peak(|| cut(stream, cuts, limit));
    let bound = buffer_bound(limit, largest);
    prop_assert!(peak <= bound, "{} bytes of {}", peak, bound);
    prop_assert!(
        2 * count <= stream.len(),
        "{} frames in {} bytes",
        count,
        stream.len()
    );

    let outcome = read(stream, cuts, limit);
    for raw in &outcome.raws {
        decoded_within_bounds(raw)?;
    }
    let bytewise = read(stream, &[1], limit);
    prop_assert_eq!(outcome.raws, bytewise.raws);
    prop_assert_eq!(outcome.error, bytewise.error);
    prop_assert_eq!(outcome.whole, bytewise.whole);
    Ok(())
}

fn decoded_within_bounds(raw: &RawFrame) -> Result<(), TestCaseError> {
    let (result, peak) = heap::peak(|| Frame::decode(raw));
    let bound = decode_bound(raw.body.len());
    prop_assert!(peak <= bound, "{} bytes of {}", peak, bound);
    if let Ok(Some(frame)) = result {
        let written = only(&frame.encode());
        prop_assert!(written.body.len() <= raw.body.len());
        prop_assert_eq!(Frame::decode(&written), Ok(Some(frame)));
    }
    Ok(())
}

fn raw(kind: u64, body: Vec<u8>) -> RawFrame {
    RawFrame {
        kind,
        body: body.into(),
    }
}

/// The only frame in `bytes`.
fn only(bytes: &[u8]) -> RawFrame {
    let mut decoder = Decoder::new(bytes.len());
    decoder.extend(bytes);
    let raw = decoder.next_frame().unwrap().unwrap();
    assert!(decoder.is_empty());
    raw
}

fn welcome(features: Vec<String>, subscriptions: Vec<AutoSubscription>) -> Welcome {
    Welcome {
        session: 1,
        user: None,
        server: String::new(),
        features,
        limits: Limits {
            message: 1,
            frame: 2,
            subscriptions: 3,
        },
        subscriptions,
        expires: None,
        idle_timeout: 4,
        refused: Vec::new(),
    }
}

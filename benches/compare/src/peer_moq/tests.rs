use super::*;
use crate::stream_load::testing::{Seen, feed_whole_and_split};

const RELAY: quinn_proto::Side = quinn_proto::Side::Server;
const PUBLICATIONS: [&[u8]; 3] = [b"one", b"", b"three"];

/// What is written on the streams that the codec opened, in their order, and whether they end.
fn written(moq: &Moq) -> Vec<(Dir, Vec<u8>, bool)> {
    let streams = moq.streams.iter();
    streams
        .map(|stream| (stream.dir, stream.outgoing.clone(), stream.ends))
        .collect()
}

/// A codec that has begun, with a stream of the relay's that is read next.
fn begun(channels: usize, dir: Dir) -> Moq {
    let mut moq = Moq::new(0, channels);
    moq.open(&mut Vec::new());
    let inlet = moq.inlet(StreamId::new(RELAY, dir, 0));
    moq.enter(inlet);
    moq
}

/// Gives a codec bytes of the stream that it reads; true where that makes it ready.
fn feed(moq: &mut Moq, bytes: &[u8]) -> Result<bool> {
    let mut ready = false;
    let used = moq.read(bytes, &mut Vec::new(), &mut |event| {
        ready |= matches!(event, Event::Ready);
    })?;
    assert_eq!(used, bytes.len(), "{bytes:?} is whole");
    Ok(ready)
}

#[test]
fn a_subscriber_waits_for_the_announcement_and_for_every_confirmation() {
    let mut moq = Moq::new(0, 2);
    moq.open(&mut Vec::new());
    let setup = (Dir::Uni, b"\x01\x04\x01\x03\x01\x02".to_vec(), true);
    let announcements = (Dir::Bi, b"\x01\x01\x00".to_vec(), false);
    assert_eq!(written(&moq), [setup, announcements]);

    moq.enter(1);
    assert!(!feed(&mut moq, b"\x02\x05\x01\x00\x09\x05other\x00\x01\x01").unwrap());
    assert_eq!(written(&moq).len(), 2, "another broadcast is none of ours");
    assert!(!feed(&mut moq, b"\x00\x08\x04load\x00\x01\x01").unwrap());
    let subscribe = |channel: u8| {
        let body = [
            b"\x02\x0f",
            &[channel][..],
            b"\x04load\x02c",
            &[b'0' + channel],
            b"\x7f\0\0\0\0\0",
        ];
        (Dir::Bi, body.concat(), false)
    };
    assert_eq!(written(&moq)[2..], [subscribe(0), subscribe(1)]);

    for (inlet, is_last) in [(2, false), (3, true)] {
        moq.enter(inlet);
        assert_eq!(feed(&mut moq, b"\x00\x01\x00").unwrap(), is_last);
        assert!(!feed(&mut moq, b"\x00\x01\x00").unwrap(), "once is enough");
    }
}

#[test]
fn frames_are_found_wherever_the_bytes_are_split() {
    let mut bytes = b"\x00\x03\x01\x00\x00".to_vec();
    for payload in PUBLICATIONS {
        bytes.extend_from_slice(b"\x80\x01\x00\x00");
        text(std::str::from_utf8(payload).unwrap(), &mut bytes);
    }
    let seen = feed_whole_and_split(|| begun(2, Dir::Uni), &bytes, b"");
    assert_eq!(
        seen,
        PUBLICATIONS.map(|payload| Seen::Message(1, payload.to_vec()))
    );
}

#[test]
fn a_publisher_announces_tells_of_its_track_and_sends_frames_in_one_group() {
    let mut moq = begun(0, Dir::Bi);
    assert!(feed(&mut moq, b"\x01\x01\x00").unwrap());
    assert_eq!(
        moq.streams[1].outgoing,
        b"\x02\x00\x01\x00\x08\x04load\x00\x00\x00"
    );
    let again = moq.inlet(StreamId::new(RELAY, Dir::Bi, 9));
    moq.enter(again);
    assert!(!feed(&mut moq, b"\x01\x01\x00").unwrap(), "once is enough");

    let inlet = moq.inlet(StreamId::new(RELAY, Dir::Bi, 1));
    moq.enter(inlet);
    feed(&mut moq, b"\x06\x08\x04load\x02c1").unwrap();
    assert_eq!(moq.streams[inlet].outgoing, b"\x05\x7f\x53\x88\x43\xe8");
    assert!(moq.streams[inlet].ends);

    moq.publish(1, b"before", &mut Vec::new());
    let inlet = moq.inlet(StreamId::new(RELAY, Dir::Bi, 2));
    moq.enter(inlet);
    feed(&mut moq, b"\x02\x0f\x07\x04load\x02c1\x7f\0\0\0\0\0").unwrap();
    assert_eq!(moq.streams[inlet].outgoing, b"\x00\x01\x00");
    for payload in PUBLICATIONS {
        moq.publish(1, payload, &mut Vec::new());
    }
    let (dir, bytes, ends) = written(&moq).pop().unwrap();
    assert_eq!((dir, ends), (Dir::Uni, false));
    let mut group = Reader::new(&bytes);
    assert_eq!(group.number(), Some(push::GROUP));
    assert_eq!(group.message().unwrap().whole_number().unwrap(), 7);
    assert_eq!(PUBLICATIONS.map(|_| group.frame().unwrap()), PUBLICATIONS);
    assert_eq!(group.len(), 0);
}

#[test]
fn what_does_not_matter_is_read_all_the_same() {
    feed(&mut begun(1, Dir::Uni), b"\x01\x04\x01\x03\x01\x02").unwrap();
}

#[test]
fn what_is_unknown_or_over_is_told() {
    for (dir, bytes) in [
        (Dir::Uni, &b"\x09"[..]),
        (Dir::Uni, b"\x00\x03\x01\x00\x00"),
        (Dir::Uni, b"\x00\x00"),
        (Dir::Bi, b"\x05\x00"),
        (Dir::Bi, b"\x03\x00"),
        (Dir::Bi, b"\x02\x0f\x07\x04load\x02x1\x7f\0\0\0\0\0"),
    ] {
        assert!(feed(&mut begun(1, dir), bytes).is_err(), "{bytes:?}");
    }
    let mut moq = begun(1, Dir::Uni);
    feed(&mut moq, b"\x00\x03\x00\x00\x00").unwrap();
    assert!(moq.ended(moq.inlet).is_err());
    assert!(moq.ended(0).is_ok());
}

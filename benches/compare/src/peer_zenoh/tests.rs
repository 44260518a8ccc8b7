use super::*;
use crate::stream_load::testing::{Seen, feed_whole_and_split};

fn batches(messages: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        batch(&mut bytes, |out| out.extend_from_slice(message));
    }
    bytes
}

#[test]
fn a_session_is_opened_and_messages_are_found_wherever_the_bytes_are_split() {
    let init = b"\xe1\x09\x30abcd\x0a\xff\xff\x03xyz\x27\x01";
    let open = b"\x62\x0a\x05";
    let name = b"\x25\x05\x1e\x20\x07\x00\x02c1";
    let answer = b"\x25\x06\xbe\x01\x21\x08\x1a";
    let named = b"\x25\x07\x5d\x07\x21\x81\x01\x02ab\x03one";
    let spelled = b"\x25\x08\xbd\x00\x02c0\x21\x0d\x01\x04zero\x3d\x00\x02c0\x01\x00";
    let bytes = batches(&[init, open, name, answer, b"\x04", named, spelled]);
    let opened = b"\x42\x90\x1c\x00\x03xyz";
    let subscribed = b"\x25\x00\x1e\x22\x00\x00\x02c0\x1e\x22\x01\x00\x02c1\x39\x01\x08";
    let seen = feed_whole_and_split(|| Zenoh::new(0, 2), &bytes, &batches(&[opened, subscribed]));
    let messages: [(usize, &[u8]); 3] = [(1, b"one"), (0, b"zero"), (0, b"")];
    let messages = messages.map(|(channel, payload)| Seen::Message(channel, payload.to_vec()));
    assert_eq!(seen[0], Seen::Ready);
    assert_eq!(seen[1..], messages);
}

#[test]
fn a_publisher_declares_a_channel_before_its_first_publication() {
    let (mut publisher, mut out) = (Zenoh::new(0, 0), Vec::new());
    publisher.publish(2, b"a", &mut out);
    publisher.publish(2, b"b", &mut out);
    let first = b"\x25\x00\x1e\x20\x03\x00\x02c2\xdd\x03\x21\x0d\x01\x01a";
    let second = b"\x25\x01\xdd\x03\x21\x0d\x01\x01b";
    assert_eq!(out, batches(&[first, second]));
}

#[test]
fn connections_have_different_identities() {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    Zenoh::new(1, 1).open(&mut one);
    Zenoh::new(2, 1).open(&mut two);
    assert_eq!(one[..5], [20, 0, 0x81, 9, 0xf2]);
    assert_eq!(one[21..], [1]);
    assert_ne!(one[5..], two[5..]);
}

#[test]
fn a_close_and_what_is_unknown_are_told() {
    for message in [
        &b"\x03\x02"[..],
        b"\x25\x00\x1b",
        b"\x25\x00\x5d\x09\x01\x00",
        b"\x25\x00\x3d\x00\x01",
    ] {
        let mut zenoh = Zenoh::new(0, 1);
        assert!(
            zenoh
                .read(&batches(&[message]), &mut Vec::new(), &mut |_| {})
                .is_err(),
            "{message:?}"
        );
    }
}

//! What the tests of codecs and of carriers share.

use clap::Parser;

use super::*;

/// An [`Event`] to compare with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    StartTls,
    Ready,
    Message(usize, Vec<u8>),
}

/// What a codec finds in `bytes` and answers to them, which is the same wherever they are split.
pub(crate) fn feed_whole_and_split<C: Codec>(
    codec: impl Fn() -> C,
    bytes: &[u8],
    answer: &[u8],
) -> Vec<Seen> {
    let whole = feed(codec(), &[bytes]);
    for at in 0..bytes.len() {
        let (front, back) = bytes.split_at(at);
        assert_eq!(feed(codec(), &[front, back]), whole, "split at {at}");
    }
    assert_eq!(whole.1, answer);
    whole.0
}

fn feed<C: Codec>(mut codec: C, parts: &[&[u8]]) -> (Vec<Seen>, Vec<u8>) {
    let (mut seen, mut out, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        unread.extend_from_slice(part);
        let used = codec.read(&unread, &mut out, &mut |event| {
            seen.push(match event {
                Event::StartTls => Seen::StartTls,
                Event::Ready => Seen::Ready,
                Event::Message { channel, payload } => Seen::Message(channel, payload.to_vec()),
            });
        });
        unread.drain(..used.expect("the bytes are right"));
    }
    assert!(unread.is_empty(), "{unread:?} is left over");
    (seen, out)
}

/// A protocol for the tests of carriers. A subscriber says `S` and hears `R`; a publisher says `P`, hears `R`, and goes on with
/// messages: the channel and the payload's length, a byte each, and the payload. Subscribers get the same. `GREETED`: before
/// all, in clear, the server says `G`.
#[derive(Debug)]
pub(crate) struct Toy<const GREETED: bool> {
    channels: usize,
    words: Vec<u8>,
}

impl<const GREETED: bool> Codec for Toy<GREETED> {
    const TLS_FIRST: bool = !GREETED;

    fn new(_index: usize, channels: usize) -> Self {
        let words = if GREETED {
            vec![b'R', b'G']
        } else {
            vec![b'R']
        };
        Self { channels, words }
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        out.push(if self.channels == 0 { b'P' } else { b'S' });
    }

    fn read(
        &mut self,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize> {
        let mut used = 0;
        while let Some(word) = self.words.last().filter(|_| used < bytes.len()) {
            ensure!(bytes[used] == *word, "{} is not {word}", bytes[used]);
            on(if *word == b'G' {
                Event::StartTls
            } else {
                Event::Ready
            });
            self.words.pop();
            used += 1;
        }
        while let Some([channel, length, rest @ ..]) = bytes.get(used..) {
            let Some(payload) = rest.get(..usize::from(*length)) else {
                break;
            };
            on(Event::Message {
                channel: usize::from(*channel),
                payload,
            });
            used += 2 + payload.len();
        }
        Ok(used)
    }

    fn publish(&mut self, channel: usize, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&[channel as u8, payload.len() as u8]);
        out.extend_from_slice(payload);
    }
}

/// A short load for a toy server.
pub(crate) fn options(address: SocketAddr, more: &[&str]) -> Options {
    let address = address.to_string();
    let words = [
        "load",
        "--peer",
        "nats",
        "--address",
        &address,
        "--connections",
        "3",
        "--channels",
        "2",
    ];
    let pace = [
        "--interval-us",
        "2000",
        "--group",
        "4",
        "--warmup",
        "0.02",
        "--duration",
        "0.1",
    ];
    Options::parse_from([&words[..], &pace, more].concat())
}

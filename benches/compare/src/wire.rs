//! The part of the Tidings protocol that a load and a floor need (PROTOCOL §3 to §5), on its own: what is measured must not
//! read with the code that it measures.

use anyhow::{Context, Result, bail, ensure};

/// ALPN of raw QUIC (PROTOCOL §2.1).
pub const ALPN: &str = "tidings/1";
/// The user of the run's token: it stands in every publication.
pub const USER: &str = "load";
/// What every message says of its bytes.
const CONTENT_TYPE: &str = "application/octet-stream";

/// Types of frames (PROTOCOL §8).
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the protocol")]
    pub const HELLO: u64 = 0x01;
    pub const WELCOME: u64 = 0x02;
    pub const GO_AWAY: u64 = 0x03;
    pub const SUBSCRIBE: u64 = 0x10;
    pub const UNSUBSCRIBE: u64 = 0x11;
    pub const PUBLISH: u64 = 0x12;
    pub const FAILED: u64 = 0x40;
    pub const SUBSCRIBED: u64 = 0x41;
    pub const UNSUBSCRIBED: u64 = 0x42;
    pub const PUBLISHED: u64 = 0x43;
    pub const HEADER: u64 = 0x60;
    pub const PUBLICATION: u64 = 0x61;
    pub const LAGGED: u64 = 0x62;
    pub const END: u64 = 0x63;
}

/// The name of a channel of a run.
#[must_use]
pub fn channel(number: u64) -> String {
    format!("bench-{number}")
}

/// Builds one frame.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(Vec::with_capacity(64))
    }

    fn integer(mut self, value: u64) -> Self {
        put_integer(&mut self.0, value);
        self
    }

    fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn bytes(mut self, value: &[u8]) -> Self {
        put_integer(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn data(self, payload: &[u8]) -> Self {
        self.integer(2)
            .bytes(CONTENT_TYPE.as_bytes())
            .bytes(payload)
    }

    fn frame(self, kind: u64) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.0.len() + 8);
        // Every type is below 251: one byte.
        put_integer(&mut head, self.0.len() as u64 + 1);
        put_integer(&mut head, kind);
        head.extend_from_slice(&self.0);
        head
    }
}

/// PROTOCOL §4.1.
#[must_use]
pub fn hello(token: Option<&str>) -> Vec<u8> {
    let writer = Writer::new().integer(1);
    let writer = match token {
        Some(token) => writer.byte(1).bytes(token.as_bytes()),
        None => writer.byte(0),
    };
    writer.bytes(b"load").integer(0).frame(kind::HELLO)
}

/// PROTOCOL §4.2, as a server without limits of its own says it.
#[must_use]
pub fn welcome(session: u64) -> Vec<u8> {
    let writer = Writer::new()
        .integer(session)
        .byte(1)
        .bytes(USER.as_bytes());
    let writer = writer.bytes(b"floor/0.1.0").integer(0);
    let writer = writer.integer(65_536).integer(131_072).integer(128);
    writer.integer(0).frame(kind::WELCOME)
}

/// PROTOCOL §4.4.
#[must_use]
pub fn subscribe(request: u64, channel: &str) -> Vec<u8> {
    let writer = Writer::new().integer(request);
    writer.bytes(channel.as_bytes()).frame(kind::SUBSCRIBE)
}

/// PROTOCOL §4.4: before the first publication.
#[must_use]
pub fn subscribed(request: u64, subscription: u64) -> Vec<u8> {
    let writer = Writer::new().integer(request).integer(subscription);
    writer.integer(EPOCH).integer(0).frame(kind::SUBSCRIBED)
}

/// PROTOCOL §4.5.
#[must_use]
pub fn unsubscribe(request: u64, subscription: u64) -> Vec<u8> {
    let writer = Writer::new().integer(request).integer(subscription);
    writer.frame(kind::UNSUBSCRIBE)
}

/// PROTOCOL §4.6.
#[must_use]
pub fn publish(request: u64, channel: &str, payload: &[u8]) -> Vec<u8> {
    let writer = Writer::new().integer(request).bytes(channel.as_bytes());
    writer.data(payload).frame(kind::PUBLISH)
}

/// PROTOCOL §5.1: a stream from the first publication on.
#[must_use]
pub fn header(subscription: u64, channel: &str) -> Vec<u8> {
    let writer = Writer::new().integer(subscription).byte(0);
    let writer = writer.bytes(channel.as_bytes()).integer(EPOCH).integer(1);
    writer.byte(0).byte(0).frame(kind::HEADER)
}

/// PROTOCOL §5.2: a publication as the server puts it on the wire. `time` is in milliseconds since 1970.
#[must_use]
pub fn publication(offset: u64, time: u64, payload: &[u8]) -> Vec<u8> {
    let writer = Writer::new().integer(offset).integer(time).byte(1);
    let writer = writer.bytes(USER.as_bytes());
    writer.data(payload).frame(kind::PUBLICATION)
}

/// Any epoch of the width of a random one.
const EPOCH: u64 = 0x9e37_79b9_7f4a_7c15;

/// Reads bodies from their beginning.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next integer (PROTOCOL §3.6).
    ///
    /// # Errors
    /// There is none.
    pub fn integer(&mut self) -> Result<u64> {
        let (value, width) = peek_integer(self.0)?.context("a body ends inside an integer")?;
        self.0 = &self.0[width..];
        Ok(value)
    }

    /// The next byte.
    ///
    /// # Errors
    /// There is none.
    pub fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().context("a body ends too early")?;
        self.0 = rest;
        Ok(*first)
    }

    /// The next string or bytes.
    ///
    /// # Errors
    /// There are fewer than it says.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.integer()?)?;
        let split = self.0.split_at_checked(length);
        let (bytes, rest) = split.context("a body ends inside its bytes")?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Offset and payload of the body of a publication with data.
    ///
    /// # Errors
    /// It is something else.
    pub fn publication(mut self) -> Result<(u64, &'a [u8])> {
        let offset = self.integer()?;
        self.integer()?;
        if self.byte()? == 1 {
            self.bytes()?;
        }
        ensure!(self.byte()? == 2, "a publication that is not data");
        self.bytes()?;
        let payload = self.bytes()?;
        ensure!(self.0.is_empty(), "bytes after a publication's end");
        Ok((offset, payload))
    }
}

/// Cuts a stream into frames, wherever its pieces end.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
}

impl Frames {
    /// Takes a piece of the stream; `on_frame` gets type and body of every frame that it completes.
    ///
    /// # Errors
    /// Bytes that are no frame, or what `on_frame` says.
    pub fn read(
        &mut self,
        piece: &[u8],
        mut on_frame: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.rest.is_empty() {
            let used = cut(piece, &mut on_frame)?;
            self.rest.extend_from_slice(&piece[used..]);
            // A stream that is silent for long holds no room for what it once had in it.
            return Ok(());
        }
        self.rest.extend_from_slice(piece);
        let used = cut(&self.rest, &mut on_frame)?;
        self.rest.drain(..used);
        Ok(())
    }
}

/// Whole frames at the beginning of `bytes`, and how long they are.
fn cut(bytes: &[u8], on_frame: &mut impl FnMut(u64, &[u8]) -> Result<()>) -> Result<usize> {
    let mut used = 0;
    loop {
        let rest = &bytes[used..];
        let Some((length, width)) = peek_integer(rest)? else {
            return Ok(used);
        };
        let end = width + usize::try_from(length)?;
        let Some(frame) = rest.get(width..end) else {
            return Ok(used);
        };
        let mut frame = Reader(frame);
        let kind = frame.integer()?;
        on_frame(kind, frame.0)?;
        used += end;
    }
}

fn peek_integer(bytes: &[u8]) -> Result<Option<(u64, usize)>> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let width = match first {
        0..=250 => return Ok(Some((u64::from(first), 1))),
        251 => 2,
        252 => 4,
        253 => 8,
        _ => bail!("{first:#04x} begins no integer"),
    };
    Ok(bytes.get(1..=width).map(|tail| {
        let mut value = [0; 8];
        value[..width].copy_from_slice(tail);
        (u64::from_le_bytes(value), width + 1)
    }))
}

fn put_integer(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    let (marker, width) = match value {
        0..=250 => return out.push(bytes[0]),
        251..=0xffff => (251, 2),
        0x1_0000..=0xffff_ffff => (252, 4),
        _ => (253, 8),
    };
    out.push(marker);
    out.extend_from_slice(&bytes[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example at the end of PROTOCOL.md.
    #[test]
    fn a_request_is_what_the_specification_shows() {
        let bytes = subscribe(1, "global");
        assert_eq!(bytes, b"\x09\x10\x01\x06global");
    }

    #[test]
    fn frames_are_read_wherever_they_are_cut() {
        let stream = [
            header(7, "bench-0"),
            publication(1, 1_700_000_000_000, &[7; 200]),
            publication(70_000, 1_700_000_000_000, &[8; 300]),
        ]
        .concat();
        for size in 1..stream.len() {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                let read = frames.read(piece, |kind, body| {
                    if kind == kind::PUBLICATION {
                        let (offset, payload) = Reader(body).publication()?;
                        seen.push((offset, payload.to_vec()));
                    } else {
                        assert_eq!(kind, kind::HEADER);
                    }
                    Ok(())
                });
                read.unwrap();
            }
            assert_eq!(seen, [(1, vec![7; 200]), (70_000, vec![8; 300])], "{size}");
        }
    }

    #[test]
    fn bytes_that_are_no_frame_are_an_error() {
        let read = Frames::default().read(&[255], |_, _| Ok(()));
        assert!(read.is_err());
        assert!(Reader(&[1, 1, 0, 1]).publication().is_err());
    }
}

//! Framing and encoding (PROTOCOL §3.5, §3.6). The only file that uses bincode, for writing; `reader.rs` reads.
//!
//! bincode 2.0.1 is unmaintained; the format is ours by specification, so it can be replaced here alone.

use std::ops::RangeInclusive;

use bincode::config::{Configuration, LittleEndian, Varint};
use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::reader;

/// Requests: a type in this range begins its body with the request's id, so that even an unknown one can be answered
/// (PROTOCOL §4.3).
pub const REQUESTS: RangeInclusive<u64> = 0x10..=0x3f;

/// Longest head of a frame: two integers of nine bytes.
pub(super) const MAX_HEAD: usize = 18;

/// Bytes that are not what the specification says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// An integer begins with a marker that the protocol does not use.
    #[error("{0:#04x} does not begin a frame's length or type")]
    Integer(u8),
    /// A frame with a length of zero: it has no type.
    #[error("a frame of no bytes")]
    Empty,
    /// A frame above the limit. Nothing of it was buffered.
    #[error("a frame of {length} bytes, {max} are allowed")]
    TooLarge {
        /// What its head claims.
        length: u64,
        /// The limit.
        max: usize,
    },
    /// The body is not of its type, or goes on after it.
    #[error("the body of {frame} does not decode: {reason}")]
    Body {
        /// The frame's name.
        frame: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The stream ended inside a frame, or a frame inside its type.
    #[error("the stream ended inside a frame, or a frame inside its type")]
    Truncated,
}

/// A value whose own `Serialize` failed, or one that bincode cannot write (a sequence of unknown length, say).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be encoded: {0}")]
pub struct EncodeError(pub(super) String);

/// A frame as it stands: type and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// Its type.
    pub kind: u64,
    /// Its body, not looked at yet.
    pub body: Bytes,
}

/// Cuts a stream of bytes into frames. Its buffer never holds more than one frame of `max` bytes and what one
/// [`extend`](Self::extend) added.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    max: usize,
}

impl Decoder {
    /// A decoder that refuses frames whose length is above `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            max,
        }
    }

    /// Changes the limit for the frames that follow.
    pub const fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Adds what the stream gave.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the stream may end here: no part of a frame is left over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole frame, or `None` where more bytes are needed.
    ///
    /// # Errors
    /// [`DecodeError::Integer`], [`Empty`](DecodeError::Empty) and [`TooLarge`](DecodeError::TooLarge); the stream cannot be
    /// read on after one.
    pub fn next_frame(&mut self) -> Result<Option<RawFrame>, DecodeError> {
        let Some((length, width)) = peek_integer(&self.buffer)? else {
            return Ok(None);
        };
        if length == 0 {
            return Err(DecodeError::Empty);
        }
        let max = self.max;
        let size = usize::try_from(length).ok().filter(|size| *size <= max);
        let Some(size) = size else {
            return Err(DecodeError::TooLarge { length, max });
        };
        if self.buffer.len() < width + size {
            return Ok(None);
        }
        self.buffer.advance(width);
        let mut frame = if self.buffer.len() == size {
            // Nothing is left: an idle stream holds no buffer.
            std::mem::take(&mut self.buffer).freeze()
        } else {
            self.buffer.split_to(size).freeze()
        };
        match peek_integer(&frame)? {
            Some((kind, width)) => {
                frame.advance(width);
                Ok(Some(RawFrame { kind, body: frame }))
            }
            None => Err(DecodeError::Truncated),
        }
    }
}

/// The integer at the start of `bytes` with its width in bytes; `None` where it is cut off (PROTOCOL §3.5).
pub(crate) fn peek_integer(bytes: &[u8]) -> Result<Option<(u64, usize)>, DecodeError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let width = match first {
        0..=250 => return Ok(Some((u64::from(first), 1))),
        251 => 2,
        252 => 4,
        253 => 8,
        _ => return Err(DecodeError::Integer(first)),
    };
    Ok(bytes.get(1..=width).map(|tail| {
        let mut value = [0; 8];
        value[..width].copy_from_slice(tail);
        (u64::from_le_bytes(value), width + 1)
    }))
}

pub(super) fn push_integer(out: &mut [u8; 9], value: u64) -> &[u8] {
    let bytes = value.to_le_bytes();
    let (marker, width) = match value {
        0..=250 => {
            return {
                out[0] = bytes[0];
                &out[..1]
            };
        }
        251..=0xffff => (251, 2),
        0x1_0000..=0xffff_ffff => (252, 4),
        _ => (253, 8),
    };
    out[0] = marker;
    out[1..=width].copy_from_slice(&bytes[..width]);
    &out[..=width]
}

const CONFIG: Configuration<LittleEndian, Varint> = bincode::config::standard();

/// Writes a frame: one allocation, the head put in front of the body afterwards.
pub(crate) fn encode_frame<T: Serialize>(kind: u64, body: &T) -> Bytes {
    let mut out = vec![0; MAX_HEAD];
    out.reserve(64);
    append(&mut out, body);
    put_head(out, MAX_HEAD, &[], kind)
}

/// Writes a body behind what is there. The types of the protocol have known lengths and derived impls, and a `Vec` takes every
/// byte, so it cannot fail.
pub(super) fn append<T: Serialize>(out: &mut Vec<u8>, body: &T) {
    bincode::serde::encode_into_std_write(body, out, CONFIG).expect("a body always encodes");
}

/// Puts `length | type | middle` right before byte `room` of `out`.
pub(super) fn put_head(mut out: Vec<u8>, room: usize, middle: &[u8], kind: u64) -> Bytes {
    let body = out.len() - room + middle.len();
    let (mut kind_buffer, mut length_buffer) = ([0; 9], [0; 9]);
    let kind = push_integer(&mut kind_buffer, kind);
    let length = push_integer(&mut length_buffer, (kind.len() + body) as u64);
    let mut start = room;
    for piece in [middle, kind, length] {
        start -= piece.len();
        out[start..start + piece.len()].copy_from_slice(piece);
    }
    Bytes::from(out).slice(start..)
}

/// Reads a body to its last byte. What it holds at once is bounded by the body: see [`reader::read`].
pub(crate) fn decode_body<T: DeserializeOwned>(
    frame: &'static str,
    body: &[u8],
) -> Result<T, DecodeError> {
    reader::read(body).map_err(|reason| DecodeError::Body {
        frame,
        reason: reason.to_string(),
    })
}

pub(crate) fn encode_value<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    bincode::serde::encode_to_vec(value, CONFIG).map_err(|error| EncodeError(error.to_string()))
}

pub(crate) fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_body("message", bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_the_width_of_the_specification() {
        for (value, hex) in [
            (0, "00"),
            (250, "fa"),
            (251, "fbfb00"),
            (0xffff, "fbffff"),
            (0x1_0000, "fc00000100"),
            (u64::from(u32::MAX), "fcffffffff"),
            (1 << 32, "fd0000000001000000"),
        ] {
            let mut out = [0; 9];
            let bytes = push_integer(&mut out, value).to_vec();
            assert_eq!(
                bytes.iter().map(|b| format!("{b:02x}")).collect::<String>(),
                hex
            );
            assert_eq!(
                bytes,
                bincode::serde::encode_to_vec(value, CONFIG).unwrap(),
                "bincode agrees on {value}"
            );
            assert_eq!(peek_integer(&bytes), Ok(Some((value, bytes.len()))));
            assert_eq!(peek_integer(&bytes[..bytes.len() - 1]), Ok(None));
        }
        assert_eq!(peek_integer(&[254]), Err(DecodeError::Integer(254)));
    }

    #[test]
    fn a_length_inside_a_body_allocates_nothing() {
        // A string of 2^62 bytes in nine bytes.
        let mut body = vec![253];
        body.extend_from_slice(&(1_u64 << 62).to_le_bytes());
        let error = decode_body::<String>("test", &body).unwrap_err();
        assert!(
            matches!(error, DecodeError::Body { frame: "test", .. }),
            "{error}"
        );
    }

    #[test]
    fn a_body_ends_where_its_type_ends() {
        let error = decode_body::<u64>("test", &[1, 2]).unwrap_err();
        assert!(
            error.to_string().contains("1 bytes after its end"),
            "{error}"
        );
    }

    #[test]
    fn the_decoder_waits_for_whole_frames_and_refuses_long_ones() {
        let frame = encode_frame(0x11, &(7_u64, 9_u64));
        let mut decoder = Decoder::new(16);
        for byte in &frame[..frame.len() - 1] {
            decoder.extend(&[*byte]);
            assert_eq!(decoder.next_frame(), Ok(None));
        }
        decoder.extend(&frame[frame.len() - 1..]);
        assert_eq!(
            decoder.next_frame(),
            Ok(Some(RawFrame {
                kind: 0x11,
                body: Bytes::from_static(&[7, 9])
            }))
        );
        assert!(decoder.is_empty());
        decoder.extend(&[17]);
        assert_eq!(
            decoder.next_frame(),
            Err(DecodeError::TooLarge {
                length: 17,
                max: 16
            })
        );
        let mut empty = Decoder::new(16);
        empty.extend(&[0]);
        assert_eq!(empty.next_frame(), Err(DecodeError::Empty));
    }
}

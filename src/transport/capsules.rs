//! What the peer says on the CONNECT stream (RFC 9297 §3, PROTOCOL §2.2), read within a bound: only the close capsule is kept,
//! and no more of it than it may have.

use std::ops::RangeInclusive;

use web_transport_quinn::proto::{Capsule, Frame, VarInt};

use super::{Closed, MAX_REASON};
use crate::wire::Code;

/// CLOSE_WEBTRANSPORT_SESSION.
const CLOSE: u64 = 0x2843;
/// Bytes of a close capsule: the code, and the reason.
const CLOSE_LENGTH: RangeInclusive<u64> = 4..=4 + MAX_REASON as u64;

/// Two QUIC integers that arrive in pieces: a kind and a length, or a stream's kind and its session.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Two integers have 16 bytes at most.
    bytes: [u8; 16],
    length: usize,
}

/// Reads HTTP/3 frames, and the capsules in those of data. Frames and capsules of other kinds are skipped without a word: they
/// cost the peer as much as us.
#[derive(Debug, Default)]
pub(super) struct Capsules {
    frame_head: Head,
    frame: Option<Body>,
    capsule_head: Head,
    capsule: Option<Body>,
    /// Of the close capsule.
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Body {
    kind: u64,
    /// Bytes that have not come yet.
    left: u64,
}

/// The close capsule, in a frame of data.
pub(super) fn close_frame(code: Code, reason: &str) -> Vec<u8> {
    let mut capsule = Vec::new();
    Capsule::CloseWebTransportSession {
        code: code.0,
        reason: reason.to_owned(),
    }
    .encode(&mut capsule);
    let mut frame = Vec::new();
    Frame::DATA.encode(&mut frame);
    // A reason of at most 1,024 bytes makes it fit.
    let length = u32::try_from(capsule.len()).unwrap_or(u32::MAX);
    VarInt::from_u32(length).encode(&mut frame);
    frame.extend_from_slice(&capsule);
    frame
}

impl Head {
    /// Takes bytes until both integers are there.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Option<(u64, u64)> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            // Both are complete before the room is used up.
            *self.bytes.get_mut(self.length)? = byte;
            self.length += 1;
            let mut head = &self.bytes[..self.length];
            if let Ok(kind) = VarInt::decode(&mut head)
                && let Ok(length) = VarInt::decode(&mut head)
            {
                self.length = 0;
                return Some((kind.into_inner(), length.into_inner()));
            }
        }
        None
    }
}

impl Body {
    /// What of `bytes` belongs to it.
    fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (mine, rest) = bytes.split_at(length);
        *bytes = rest;
        self.left -= length as u64;
        mine
    }
}

impl Capsules {
    /// Takes the next bytes of the stream; says so when they end the session.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<Closed> {
        while !bytes.is_empty() {
            let Some(frame) = &mut self.frame else {
                let (kind, left) = self.frame_head.take(&mut bytes)?;
                self.frame = (left > 0).then_some(Body { kind, left });
                continue;
            };
            let part = frame.take(&mut bytes);
            let data = frame.kind == Frame::DATA.0.into_inner();
            if frame.left == 0 {
                self.frame = None;
            }
            if data && let Some(closed) = self.read_data(part) {
                return Some(closed);
            }
        }
        None
    }

    /// Bytes that it holds room for.
    #[cfg(all(test, feature = "client"))]
    pub(super) const fn kept(&self) -> usize {
        self.payload.capacity()
    }

    fn read_data(&mut self, mut bytes: &[u8]) -> Option<Closed> {
        while !bytes.is_empty() {
            let Some(capsule) = &mut self.capsule else {
                let (kind, left) = self.capsule_head.take(&mut bytes)?;
                // Judged before a byte of it is kept.
                if kind == CLOSE && !CLOSE_LENGTH.contains(&left) {
                    return Some(violation(&format!("a close capsule of {left} bytes")));
                }
                self.capsule = (left > 0).then_some(Body { kind, left });
                continue;
            };
            let part = capsule.take(&mut bytes);
            let (close, complete) = (capsule.kind == CLOSE, capsule.left == 0);
            if close {
                self.payload.extend_from_slice(part);
            }
            if complete {
                self.capsule = None;
            }
            if close && complete {
                return Some(closed(&self.payload));
            }
        }
        None
    }
}

fn closed(payload: &[u8]) -> Closed {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return violation("a close capsule without a code");
    };
    match std::str::from_utf8(reason) {
        Ok(reason) => Closed {
            code: Some(Code(u32::from_be_bytes(*code))),
            reason: reason.to_owned(),
        },
        Err(_) => violation("a close capsule whose reason is no UTF-8"),
    }
}

fn violation(what: &str) -> Closed {
    Closed {
        code: Some(Code::PROTOCOL_VIOLATION),
        reason: format!("the CONNECT stream has {what}"),
    }
}

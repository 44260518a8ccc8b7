//! Frames of QMux (draft-ietf-quic-qmux-02): those of QUIC, without packets. A record is one message of the WebSocket.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn_proto::{StreamId, VarInt};

/// Largest record that everybody takes, and that we announce.
pub(in crate::transport) const RECORD: usize = 16_382;

/// A type, a stream, an offset and a length.
pub(super) const STREAM_HEAD: usize = 1 + 8 + 8 + 4;

/// Type of the frame that comes first.
const PARAMETERS: u64 = 0x3f51_5330_0d0a_0d0a;
const PING: u64 = 0x348c_6752_9ef8_c7bd;
const PONG: u64 = 0x348c_6752_9ef8_c7be;
/// Transport parameters (RFC 9000 §18.2).
const IDLE: u64 = 0x01;
const DATA: u64 = 0x04;
const STREAM_DATA_BIDI_LOCAL: u64 = 0x05;
const STREAM_DATA_BIDI_REMOTE: u64 = 0x06;
const STREAM_DATA_UNI: u64 = 0x07;
const STREAMS_BIDI: u64 = 0x08;
const STREAMS_UNI: u64 = 0x09;
const MAX_RECORD: u64 = 0x0571_c594_29cd_0845;

/// What a peer says of itself at the beginning. What it does not say is 0, but for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Milliseconds of silence after which it gives up; 0 for never.
    pub(super) idle: u64,
    /// Bytes of all streams together that it takes unread.
    pub(super) data: u64,
    /// The same of a bidirectional stream that it opens, one that we open, and a unidirectional one.
    pub(super) bidi_local: u64,
    pub(super) bidi_remote: u64,
    pub(super) uni: u64,
    /// Streams that we may open.
    pub(super) streams_bidi: u64,
    pub(super) streams_uni: u64,
    /// Largest record that it takes.
    pub(super) record: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            idle: 0,
            data: 0,
            bidi_local: 0,
            bidi_remote: 0,
            uni: 0,
            streams_bidi: 0,
            streams_uni: 0,
            record: RECORD as u64,
        }
    }
}

/// One frame. Those that only tell what their sender waits for are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Parameters(Parameters),
    Stream {
        id: StreamId,
        offset: u64,
        data: Bytes,
        fin: bool,
    },
    Reset {
        id: StreamId,
        code: u64,
        size: u64,
    },
    Stop {
        id: StreamId,
        code: u64,
    },
    MaxData(u64),
    MaxStreamData {
        id: StreamId,
        max: u64,
    },
    MaxStreamsBidi(u64),
    MaxStreamsUni(u64),
    Ping(u64),
    Pong(u64),
    /// Of the application.
    Close {
        code: u64,
        reason: String,
    },
    /// Of the multiplexer: the peer broke its rules.
    Violation {
        code: u64,
        reason: String,
    },
}

/// The bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const SHORT: Malformed = Malformed("a frame ends early");

fn integer(bytes: &mut Bytes) -> Result<u64, Malformed> {
    let first = *bytes.first().ok_or(SHORT)?;
    let length = 1 << (first >> 6);
    if bytes.len() < length {
        return Err(SHORT);
    }
    let mut value = u64::from(first & 0x3f);
    for byte in &bytes[1..length] {
        value = value << 8 | u64::from(*byte);
    }
    bytes.advance(length);
    Ok(value)
}

fn stream(bytes: &mut Bytes) -> Result<StreamId, Malformed> {
    let id = integer(bytes)?;
    // Two bits say how many bytes it has, so it fits.
    Ok(StreamId::from(VarInt::from_u64(id).unwrap_or(VarInt::MAX)))
}

fn counted(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = integer(bytes)?;
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => Ok(bytes.split_to(length)),
        _ => Err(SHORT),
    }
}

fn text(bytes: &mut Bytes) -> Result<String, Malformed> {
    Ok(String::from_utf8_lossy(&counted(bytes)?).into_owned())
}

impl Frame {
    /// Takes the next frame out of a record; `None` for one that says nothing that is needed.
    pub(super) fn decode(bytes: &mut Bytes) -> Result<Option<Self>, Malformed> {
        let kind = integer(bytes)?;
        Ok(Some(match kind {
            0x00 => return Ok(None),
            0x04 => Self::Reset {
                id: stream(bytes)?,
                code: integer(bytes)?,
                size: integer(bytes)?,
            },
            0x05 => Self::Stop {
                id: stream(bytes)?,
                code: integer(bytes)?,
            },
            0x08..=0x0f => {
                let id = stream(bytes)?;
                let offset = match kind & 0x04 {
                    0 => 0,
                    _ => integer(bytes)?,
                };
                let data = match kind & 0x02 {
                    0 => bytes.split_to(bytes.len()),
                    _ => counted(bytes)?,
                };
                let fin = kind & 0x01 != 0;
                Self::Stream {
                    id,
                    offset,
                    data,
                    fin,
                }
            }
            0x10 => Self::MaxData(integer(bytes)?),
            0x11 => Self::MaxStreamData {
                id: stream(bytes)?,
                max: integer(bytes)?,
            },
            0x12 => Self::MaxStreamsBidi(integer(bytes)?),
            0x13 => Self::MaxStreamsUni(integer(bytes)?),
            0x14 | 0x16 | 0x17 => {
                integer(bytes)?;
                return Ok(None);
            }
            0x15 => {
                integer(bytes)?;
                integer(bytes)?;
                return Ok(None);
            }
            0x1c => {
                let code = integer(bytes)?;
                integer(bytes)?;
                let reason = text(bytes)?;
                Self::Violation { code, reason }
            }
            0x1d => Self::Close {
                code: integer(bytes)?,
                reason: text(bytes)?,
            },
            PARAMETERS => Self::Parameters(Parameters::decode(counted(bytes)?)?),
            PING => Self::Ping(integer(bytes)?),
            PONG => Self::Pong(integer(bytes)?),
            _ => return Err(Malformed("a frame of an unknown type")),
        }))
    }

    /// Appends it.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Parameters(parameters) => {
                let body = parameters.encode();
                put(out, &[PARAMETERS, body.len() as u64]);
                out.put_slice(&body);
            }
            Self::Stream {
                id,
                offset,
                data,
                fin,
            } => {
                stream_head(out, *id, *offset, data.len(), *fin);
                out.put_slice(data);
            }
            Self::Reset { id, code, size } => put(out, &[0x04, (*id).into(), *code, *size]),
            Self::Stop { id, code } => put(out, &[0x05, (*id).into(), *code]),
            Self::MaxData(max) => put(out, &[0x10, *max]),
            Self::MaxStreamData { id, max } => put(out, &[0x11, (*id).into(), *max]),
            Self::MaxStreamsBidi(max) => put(out, &[0x12, *max]),
            Self::MaxStreamsUni(max) => put(out, &[0x13, *max]),
            Self::Ping(number) => put(out, &[PING, *number]),
            Self::Pong(number) => put(out, &[PONG, *number]),
            Self::Close { code, reason } => {
                put(out, &[0x1d, *code, reason.len() as u64]);
                out.put_slice(reason.as_bytes());
            }
            Self::Violation { code, reason } => {
                put(out, &[0x1c, *code, 0, reason.len() as u64]);
                out.put_slice(reason.as_bytes());
            }
        }
    }
}

/// What stands before `length` bytes of a stream: at most [`STREAM_HEAD`].
pub(super) fn stream_head(out: &mut BytesMut, id: StreamId, offset: u64, length: usize, fin: bool) {
    let kind = 0x08 | 0x04 | 0x02 | u64::from(fin);
    put(out, &[kind, id.into(), offset, length as u64]);
}

impl Parameters {
    fn decode(mut bytes: Bytes) -> Result<Self, Malformed> {
        let mut parameters = Self::default();
        let mut seen = Vec::new();
        while !bytes.is_empty() {
            let (id, mut value) = (integer(&mut bytes)?, counted(&mut bytes)?);
            let place = match id {
                IDLE => &mut parameters.idle,
                DATA => &mut parameters.data,
                STREAM_DATA_BIDI_LOCAL => &mut parameters.bidi_local,
                STREAM_DATA_BIDI_REMOTE => &mut parameters.bidi_remote,
                STREAM_DATA_UNI => &mut parameters.uni,
                STREAMS_BIDI => &mut parameters.streams_bidi,
                STREAMS_UNI => &mut parameters.streams_uni,
                MAX_RECORD => &mut parameters.record,
                // Of QUIC itself, and not of this.
                0x00 | 0x02 | 0x03 | 0x0a..=0x10 => {
                    return Err(Malformed("a transport parameter that QMux does not have"));
                }
                _ => continue,
            };
            *place = integer(&mut value)?;
            if !value.is_empty() || seen.contains(&id) {
                return Err(Malformed(
                    "a transport parameter that is no integer, or twice",
                ));
            }
            seen.push(id);
        }
        if parameters.record < RECORD as u64 {
            return Err(Malformed("records below 16,382 bytes"));
        }
        Ok(parameters)
    }

    fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        for (id, value) in [
            (IDLE, self.idle),
            (DATA, self.data),
            (STREAM_DATA_BIDI_LOCAL, self.bidi_local),
            (STREAM_DATA_BIDI_REMOTE, self.bidi_remote),
            (STREAM_DATA_UNI, self.uni),
            (STREAMS_BIDI, self.streams_bidi),
            (STREAMS_UNI, self.streams_uni),
            (MAX_RECORD, self.record),
        ] {
            put(&mut out, &[id, size(value) as u64, value]);
        }
        out
    }
}

/// Bytes of an integer (RFC 9000 §16).
const fn size(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Integers of 62 bits; of more the lower ones.
fn put(out: &mut BytesMut, values: &[u64]) {
    for value in values {
        match size(*value) {
            1 => out.put_u8(*value as u8),
            2 => out.put_u16(*value as u16 | 0x4000),
            4 => out.put_u32(*value as u32 | 0x8000_0000),
            _ => out.put_u64(*value | 0xc000_0000_0000_0000),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quinn_proto::{Dir, Side};

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let number = || prop_oneof![0..0x50u64, 0x3ff0..0x4010u64, 0..1u64 << 62];
        let id = || {
            (any::<bool>(), any::<bool>(), 0..1u64 << 60).prop_map(|(server, uni, index)| {
                let side = if server { Side::Server } else { Side::Client };
                StreamId::new(side, if uni { Dir::Uni } else { Dir::Bi }, index)
            })
        };
        let data = || prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        prop_oneof![
            (id(), number(), data(), any::<bool>()).prop_map(|(id, offset, data, fin)| {
                Frame::Stream {
                    id,
                    offset,
                    data,
                    fin,
                }
            }),
            (id(), number(), number()).prop_map(|(id, code, size)| Frame::Reset { id, code, size }),
            (id(), number()).prop_map(|(id, code)| Frame::Stop { id, code }),
            number().prop_map(Frame::MaxData),
            (id(), number()).prop_map(|(id, max)| Frame::MaxStreamData { id, max }),
            number().prop_map(Frame::MaxStreamsBidi),
            number().prop_map(Frame::MaxStreamsUni),
            number().prop_map(Frame::Ping),
            number().prop_map(Frame::Pong),
            (number(), ".*").prop_map(|(code, reason)| Frame::Close { code, reason }),
            (number(), ".*").prop_map(|(code, reason)| Frame::Violation { code, reason }),
            (number(), number(), number(), number()).prop_map(|(idle, data, uni, streams_uni)| {
                Frame::Parameters(Parameters {
                    idle,
                    data,
                    uni,
                    streams_uni,
                    ..Parameters::default()
                })
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frames in prop::collection::vec(frames(), 0..5)) {
            let mut record = BytesMut::new();
            frames.iter().for_each(|frame| frame.encode(&mut record));
            let mut record = record.freeze();
            for frame in frames {
                prop_assert_eq!(Frame::decode(&mut record), Ok(Some(frame)));
            }
            prop_assert!(record.is_empty());
        }

        #[test]
        fn no_bytes_panic_and_each_frame_takes_some(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut record = Bytes::from(bytes);
            while !record.is_empty() {
                let before = record.len();
                if Frame::decode(&mut record).is_err() {
                    break;
                }
                prop_assert!(record.len() < before);
            }
        }
    }
}

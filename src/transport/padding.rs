//! Padding that is left out where the anti-amplification limit does not permit it (RFC 9000 §8.2.1).
//!
//! quinn-proto pads each datagram with a PATH_CHALLENGE or PATH_RESPONSE frame to 1200 bytes, however little came from that address. A packet
//! with a short header ends with its datagram and states no length, so its padding can be removed just before it is encrypted.

use std::cell::Cell;

use quinn_proto::crypto::PacketKey;

thread_local! {
    /// Bytes above which packets lose their padding.
    static LIMIT: Cell<u64> = const { Cell::new(u64::MAX) };
    /// Bytes by which a packet was shortened.
    static REMOVED: Cell<usize> = const { Cell::new(0) };
}

/// Runs `make`, which makes one datagram at most, and leaves out padding of a path validation packet above `limit` bytes. The bytes by which
/// the datagram is shorter than its maker knows are returned too.
pub(super) fn limited<T>(limit: u64, make: impl FnOnce() -> T) -> (T, usize) {
    LIMIT.set(limit);
    REMOVED.set(0);
    let made = make();
    LIMIT.set(u64::MAX);
    (made, REMOVED.take())
}

/// Encrypts a packet like `key` does, without its padding where that is above the limit.
pub(super) fn encrypt(key: &impl PacketKey, packet: u64, buffer: &mut [u8], header: usize) {
    /// A packet with a long header, RFC 9000 §17.2.
    const LONG: u8 = 0x80;
    let whole = buffer.len();
    let mut length = whole;
    if whole as u64 > LIMIT.get()
        && buffer[0] & LONG == 0
        && let Some(end) = path_validation(&buffer[header..whole - key.tag_len()])
    {
        length = header + end + key.tag_len();
        REMOVED.set(whole - length);
    }
    key.encrypt(packet, &mut buffer[..length], header);
}

/// Length of the frames of a path validation packet without the padding behind them; `None` for other packets. A PATH_CHALLENGE alone is
/// quinn-proto's question to the previous path, which is validated.
fn path_validation(payload: &[u8]) -> Option<usize> {
    const PADDING: u8 = 0x00;
    const PATH_CHALLENGE: u64 = 0x1a;
    const PATH_RESPONSE: u64 = 0x1b;
    let (mut end, mut challenge, mut response, mut others) = (0, false, false, false);
    let mut rest = payload;
    while let Some(&first) = rest.first() {
        if first == PADDING {
            rest = &rest[1..];
            continue;
        }
        let kind = varint(&mut rest)?;
        match kind {
            PATH_CHALLENGE => challenge = true,
            PATH_RESPONSE => response = true,
            _ => others = true,
        }
        skip_frame(kind, &mut rest)?;
        end = payload.len() - rest.len();
    }
    (response || challenge && others).then_some(end)
}

/// Skips the fields of a frame (RFC 9000 §19, RFC 9221 §4, and the frames of ACK frequency). `None` where its end is not known.
fn skip_frame(kind: u64, rest: &mut &[u8]) -> Option<()> {
    let integers = |rest: &mut &[u8], count: u64| {
        for _ in 0..count {
            varint(rest)?;
        }
        Some(())
    };
    match kind {
        // PING, HANDSHAKE_DONE, IMMEDIATE_ACK
        0x01 | 0x1e | 0x1f => Some(()),
        // ACK
        0x02 | 0x03 => {
            integers(rest, 2)?;
            let ranges = varint(rest)?;
            let counters = if kind == 0x03 { 3 } else { 0 };
            integers(rest, 1 + ranges.checked_mul(2)? + counters)
        }
        // RESET_STREAM; STOP_SENDING, MAX_STREAM_DATA, STREAM_DATA_BLOCKED
        0x04 => integers(rest, 3),
        0x05 | 0x11 | 0x15 => integers(rest, 2),
        // CRYPTO; NEW_TOKEN and a DATAGRAM with its length
        0x06 => {
            varint(rest)?;
            counted(rest)
        }
        0x07 | 0x31 => counted(rest),
        // STREAM; without a length it has no padding behind it.
        0x08..=0x0f if kind & 0x02 != 0 => {
            integers(rest, 1 + u64::from(kind & 0x04 != 0))?;
            counted(rest)
        }
        // MAX_DATA, MAX_STREAMS, DATA_BLOCKED, STREAMS_BLOCKED, RETIRE_CONNECTION_ID
        0x10 | 0x12 | 0x13 | 0x14 | 0x16 | 0x17 | 0x19 => integers(rest, 1),
        // NEW_CONNECTION_ID
        0x18 => {
            integers(rest, 2)?;
            let (&length, after) = rest.split_first()?;
            *rest = after;
            skip(rest, usize::from(length) + 16)
        }
        // PATH_CHALLENGE, PATH_RESPONSE
        0x1a | 0x1b => skip(rest, 8),
        // ACK_FREQUENCY
        0xaf => integers(rest, 4),
        _ => None,
    }
}

fn skip(rest: &mut &[u8], bytes: usize) -> Option<()> {
    *rest = rest.get(bytes..)?;
    Some(())
}

/// Skips as many bytes as stand in front of them.
fn counted(rest: &mut &[u8]) -> Option<()> {
    let length = varint(rest)?;
    skip(rest, usize::try_from(length).ok()?)
}

/// A variable-length integer, RFC 9000 §16.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let &first = rest.first()?;
    let (bytes, after) = rest.split_at_checked(1 << (first >> 6))?;
    *rest = after;
    let value = bytes[1..]
        .iter()
        .fold(u64::from(first & 0x3f), |value, &byte| {
            value << 8 | u64::from(byte)
        });
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &[u8] = &[0x1a, 1, 2, 3, 4, 5, 6, 7, 0];
    const RESPONSE: &[u8] = &[0x1b, 1, 2, 3, 4, 5, 6, 7, 0];
    const ACK: &[u8] = &[0x02, 0x40, 0x80, 0x10, 1, 3, 0, 0];

    fn padded(frames: &[&[u8]]) -> Vec<u8> {
        let mut payload = frames.concat();
        payload.resize(1150, 0);
        payload
    }

    #[test]
    fn padding_behind_path_validation_frames_is_found() {
        for frames in [
            &[RESPONSE][..],
            &[RESPONSE, CHALLENGE],
            &[&[0x01], ACK, CHALLENGE],
            // ACK with ECN counters that end with 0, RETIRE_CONNECTION_ID
            &[&[0x03, 5, 0, 0, 5, 1, 0, 0], CHALLENGE, &[0x19, 0]],
            // A stream's data that ends with 0; MAX_STREAM_DATA
            &[CHALLENGE, &[0x0e, 3, 0, 4, 9, 9, 0, 0], &[0x11, 3, 0]],
            &[CHALLENGE, &[0x18, 1, 0, 2, 7, 7], &[0; 16]],
        ] {
            let length = frames.concat().len();
            assert_eq!(
                path_validation(&padded(frames)),
                Some(length),
                "{frames:x?}"
            );
        }
    }

    #[test]
    fn other_packets_keep_their_padding() {
        for frames in [
            // The MTU probe, the question to the previous path, an acknowledgement
            &[&[0x01][..]][..],
            &[CHALLENGE],
            &[ACK],
            // A stream's data to the end of the packet, a frame that is not known, and one that is cut off
            &[CHALLENGE, &[0x08, 3, 9]],
            &[CHALLENGE, &[0x40, 0xee]],
            &[CHALLENGE, &[0x06, 0, 0x7f, 0xff]],
        ] {
            assert_eq!(path_validation(&padded(frames)), None, "{frames:x?}");
        }
        assert_eq!(path_validation(&CHALLENGE[..5]), None);
    }
}

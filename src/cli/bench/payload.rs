//! What a publication of a run says: which run, which publication, and when it was due.

use bytes::{BufMut, Bytes, BytesMut};

/// Four numbers of eight bytes.
pub(super) const HEADER: usize = 32;

/// The content of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload {
    /// The run, so that the publications of another are noticed.
    pub(super) run: u64,
    /// Its number among those of its publisher, from 0.
    pub(super) number: u64,
    /// Its number among those of its channel, from 1.
    pub(super) sequence: u64,
    /// When it was due, or sent where there is no timetable: nanoseconds since the run's origin.
    pub(super) time: u64,
}

impl Payload {
    /// With padding up to `size` bytes, [`HEADER`] or more.
    pub(super) fn encode(self, size: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(size);
        for number in [self.run, self.number, self.sequence, self.time] {
            bytes.put_u64_le(number);
        }
        bytes.resize(size, 0);
        bytes.freeze()
    }

    /// `None` where this is none of the run's.
    pub(super) fn decode(bytes: &[u8], run: u64) -> Option<Self> {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        let payload = Self {
            run: number(0)?,
            number: number(8)?,
            sequence: number(16)?,
            time: number(24)?,
        };
        (payload.run == run).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_in_its_own_run_only() {
        let payload = Payload {
            run: u64::MAX - 1,
            number: 2,
            sequence: 3,
            time: 4,
        };
        for size in [HEADER, 100] {
            let bytes = payload.encode(size);
            assert_eq!(bytes.len(), size);
            assert_eq!(Payload::decode(&bytes, payload.run), Some(payload));
            assert_eq!(Payload::decode(&bytes, 5), None);
        }
        assert_eq!(Payload::decode(b"short", 0), None);
    }
}

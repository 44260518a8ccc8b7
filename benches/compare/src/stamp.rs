//! What stands in the first bytes of every payload.

use crate::clock::Nanos;

/// Which publication it is, and when it was meant to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// 1, 2, 3 … per channel.
    pub sequence: u64,
    /// When its tick was due.
    pub intended: Nanos,
    /// The number of its channel, from 0.
    pub channel: u32,
}

impl Stamp {
    /// Bytes of it: a payload has no fewer.
    pub const SIZE: usize = 20;

    /// A payload of `size` bytes with this stamp.
    #[must_use]
    pub fn payload(self, size: usize) -> Vec<u8> {
        let mut payload = vec![b'.'; size.max(Self::SIZE)];
        self.write(&mut payload);
        payload
    }

    /// Writes it into the first bytes of a payload that is there.
    pub fn write(self, payload: &mut [u8]) {
        payload[..8].copy_from_slice(&self.sequence.to_le_bytes());
        payload[8..16].copy_from_slice(&self.intended.to_le_bytes());
        payload[16..20].copy_from_slice(&self.channel.to_le_bytes());
    }

    /// Reads it from a payload.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (sequence, rest) = payload.split_first_chunk()?;
        let (intended, rest) = rest.split_first_chunk()?;
        let (channel, _) = rest.split_first_chunk()?;
        Some(Self {
            sequence: u64::from_le_bytes(*sequence),
            intended: u64::from_le_bytes(*intended),
            channel: u32::from_le_bytes(*channel),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp {
            sequence: 1 << 40,
            intended: 123_456_789_012,
            channel: 7,
        };
        let payload = stamp.payload(200);
        assert_eq!(payload.len(), 200);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..Stamp::SIZE - 1]), None);
    }
}

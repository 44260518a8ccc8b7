//! Where a publication stands: epoch, offset, and the pair (PROTOCOL §3.3).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 UTC.
pub type Timestamp = u64;

/// Number of a publication in its channel's log: 1, 2, 3 … without a hole. 0 stands before the first one.
pub type Offset = u64;

/// Identity of one channel's log: 64 random bits, drawn when the log is created.
///
/// Two positions can be compared only within one epoch. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// Text that is not 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an epoch is 16 hexadecimal digits")]
pub struct InvalidEpoch;

impl FromStr for Epoch {
    type Err = InvalidEpoch;

    fn from_str(text: &str) -> Result<Self, InvalidEpoch> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidEpoch);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| InvalidEpoch)
    }
}

/// A place in a channel: which log, and the number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The log.
    pub epoch: Epoch,
    /// The publication in it; 0 before the first.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// Text that is not an epoch, a colon and an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a position is EPOCH:OFFSET, such as 00c0ffee00c0ffee:7: 16 hexadecimal digits, a colon and a number"
)]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, offset) = text.split_once(':').ok_or(InvalidPosition)?;
        if !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidPosition);
        }
        Ok(Self {
            epoch: epoch.parse().map_err(|InvalidEpoch| InvalidPosition)?,
            offset: offset.parse().map_err(|_| InvalidPosition)?,
        })
    }
}

/// Where a subscription begins (PROTOCOL §4.10).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Start {
    /// At the head: with what is published from now on.
    #[default]
    Head,
    /// After this position, if the log still has everything that follows it; otherwise at the head.
    After(Position),
    /// With the newest publications that the log has, as many as this at most. 1 is the latest value and what follows it.
    Latest(u64),
    /// As [`After`](Self::After); but where that cannot be continued, with the oldest publication that the log has.
    AfterOrOldest(Position),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_text_round_trips_and_keeps_leading_zeros() {
        let epoch = Epoch(0x2a);
        assert_eq!(epoch.to_string(), "000000000000002a");
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        assert_eq!("2a".parse::<Epoch>(), Err(InvalidEpoch));
        assert_eq!("+00000000000002a".parse::<Epoch>(), Err(InvalidEpoch));
    }

    #[test]
    fn position_text_round_trips() {
        let position = Position {
            epoch: Epoch(0x2a),
            offset: u64::MAX,
        };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in [
            "",
            "2a:1",
            "000000000000002a",
            "000000000000002a:",
            "000000000000002a:+1",
            "000000000000002a:1:2",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }
}

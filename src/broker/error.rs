//! Why the broker does not take something.

use crate::wire::Code;

/// Why nothing was published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The message is above [`Config::max_message`](super::Config::max_message).
    #[error("the message has {size} bytes, {max} are allowed")]
    TooLarge {
        /// Its size in bytes, as PROTOCOL §3.4 counts them.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The channel is new and there are [`Config::max_channels`](super::Config::max_channels).
    #[error("there are {max} channels, and no room for another now")]
    TooManyChannels {
        /// The limit.
        max: usize,
    },
    /// The key is empty or too long.
    #[error("the key has {length} bytes: it may have 1 to {max}")]
    InvalidKey {
        /// Its length in bytes.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// The publisher has used the key for another message.
    #[error("another message was published with this key")]
    KeyReused,
    /// The message is of a kind that only the server itself makes.
    #[error("messages of the kind {0} are made by the server alone")]
    Reserved(&'static str),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Closed,
    /// The reader of a session's own stream is gone.
    #[error("nobody can read this any more")]
    Ended,
}

impl PublishError {
    /// Its code in PROTOCOL §7.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::MESSAGE_TOO_LARGE,
            Self::TooManyChannels { .. } => Code::TOO_MANY_CHANNELS,
            Self::InvalidKey { .. } => Code::INVALID_KEY,
            Self::KeyReused => Code::KEY_REUSED,
            Self::Reserved(_) => Code::RESERVED_MESSAGE,
            Self::Closed => Code::GOING_AWAY,
            Self::Ended => Code::ENDED,
        }
    }
}

/// The channel is new and there are [`Config::max_channels`](super::Config::max_channels). Code: [`Code::TOO_MANY_CHANNELS`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are {max} channels, and no room for another now")]
pub struct TooManyChannels {
    /// The limit.
    pub max: usize,
}

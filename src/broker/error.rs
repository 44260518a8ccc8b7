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
    /// The channel is new, and the session or its user has created as many as it may:
    /// [`Config::session_channels`](super::Config::session_channels), [`Config::user_channels`](super::Config::user_channels).
    #[error(
        "{max} channels of this session or user are there, and no room for another before one of them is evicted"
    )]
    ChannelQuota {
        /// The limit.
        max: usize,
    },
    /// What the user published and is still retained has [`Config::user_memory`](super::Config::user_memory), and nothing older of the
    /// same user can make room in this channel.
    #[error(
        "{max} bytes that this user published are still retained, and no room for more before some of them expire"
    )]
    MemoryQuota {
        /// The limit in bytes.
        max: usize,
    },
    /// The memory is at its limit ([`Config::memory`](super::Config::memory)), and nothing older can make room in this channel.
    #[error("the memory for channels is used up: try again later")]
    Overloaded,
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
            Self::TooManyChannels { .. } | Self::ChannelQuota { .. } => Code::TOO_MANY_CHANNELS,
            Self::MemoryQuota { .. } | Self::Overloaded => Code::OVERLOADED,
            Self::InvalidKey { .. } => Code::INVALID_KEY,
            Self::KeyReused => Code::KEY_REUSED,
            Self::Reserved(_) => Code::RESERVED_MESSAGE,
            Self::Closed => Code::GOING_AWAY,
            Self::Ended => Code::ENDED,
        }
    }
}

impl From<NoRoom> for PublishError {
    fn from(error: NoRoom) -> Self {
        match error {
            NoRoom::TooManyChannels { max } => Self::TooManyChannels { max },
            NoRoom::ChannelQuota { max } => Self::ChannelQuota { max },
            NoRoom::Overloaded => Self::Overloaded,
        }
    }
}

/// Why there is no room for a channel that does not exist yet, or for a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoRoom {
    /// There are [`Config::max_channels`](super::Config::max_channels), or, for a client, all but the reserve.
    #[error("there are {max} channels, and no room for another now")]
    TooManyChannels {
        /// The limit.
        max: usize,
    },
    /// The session or its user has created as many channels as it may:
    /// [`Config::session_channels`](super::Config::session_channels), [`Config::user_channels`](super::Config::user_channels).
    #[error(
        "{max} channels of this session or user are there, and no room for another before one of them is evicted"
    )]
    ChannelQuota {
        /// The limit.
        max: usize,
    },
    /// The memory is at its limit ([`Config::memory`](super::Config::memory)).
    #[error("the memory for channels is used up: try again later")]
    Overloaded,
}

impl NoRoom {
    /// Its code in PROTOCOL §7.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooManyChannels { .. } | Self::ChannelQuota { .. } => Code::TOO_MANY_CHANNELS,
            Self::Overloaded => Code::OVERLOADED,
        }
    }
}

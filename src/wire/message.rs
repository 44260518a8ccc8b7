//! What applications send, and what subscribers receive (PROTOCOL §3.4, §5.2).

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    codec,
    codec::DecodeError,
    position::{Offset, Timestamp},
    presence::Presence,
};

/// What an application sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// For one user.
    Notification(Notification),
    /// For everybody.
    Announcement(Announcement),
    /// Anything else: opaque to the server.
    Data(Data),
    /// Who came and went, in a channel whose rule has presence. Only the server makes it.
    Presence(Presence),
}

/// A line for one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The line.
    pub text: String,
    /// When its author wrote it.
    pub timestamp: Timestamp,
}

/// A line for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The line.
    pub text: String,
    /// When its author wrote it.
    pub timestamp: Timestamp,
}

/// Bytes with a content type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// A media type such as `application/json`. The server does not read it.
    pub content_type: String,
    /// The bytes. Cloning shares them.
    pub bytes: Bytes,
}

/// Content type of [`Message::of`].
pub const BINCODE: &str = "application/bincode";
/// Content type of [`Message::text`].
pub const TEXT: &str = "text/plain; charset=utf-8";
/// Content type of JSON.
pub const JSON: &str = "application/json";

impl Message {
    /// A notification.
    pub fn notification(text: impl Into<String>, timestamp: Timestamp) -> Self {
        Self::Notification(Notification {
            text: text.into(),
            timestamp,
        })
    }

    /// An announcement.
    pub fn announcement(text: impl Into<String>, timestamp: Timestamp) -> Self {
        Self::Announcement(Announcement {
            text: text.into(),
            timestamp,
        })
    }

    /// Bytes with a content type.
    pub fn data(content_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::Data(Data {
            content_type: content_type.into(),
            bytes: bytes.into(),
        })
    }

    /// Plain text as [`Data`].
    pub fn text(text: impl Into<String>) -> Self {
        Self::data(TEXT, text.into())
    }

    /// Any serde type as [`Data`]: its bincode, with content type [`BINCODE`]. [`Message::decode`] gives it back.
    ///
    /// # Errors
    /// [`EncodeError`](codec::EncodeError) where the type's own `Serialize` fails.
    pub fn of<T: Serialize>(value: &T) -> Result<Self, codec::EncodeError> {
        Ok(Self::data(BINCODE, codec::encode_value(value)?))
    }

    /// The value that [`Message::of`] was given.
    ///
    /// # Errors
    /// [`DecodeError::Body`] where this is another kind of message or another type's bytes, where lists or structs are nested more
    /// than 128 deep, or where the items of a list take no bytes, as in `Vec<()>`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        match self {
            Self::Data(data) if data.content_type == BINCODE => codec::decode_value(&data.bytes),
            _ => Err(DecodeError::Body {
                frame: "message",
                reason: format!("not of content type {BINCODE}"),
            }),
        }
    }

    /// The readable text: of a notification, an announcement, or of data that is UTF-8 and says so by its content type.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Notification(Notification { text, .. })
            | Self::Announcement(Announcement { text, .. }) => Some(text),
            Self::Data(data)
                if data.content_type.starts_with("text/") || data.content_type == JSON =>
            {
                std::str::from_utf8(&data.bytes).ok()
            }
            Self::Data(_) | Self::Presence(_) => None,
        }
    }

    /// `notification`, `announcement`, `data` or `presence`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Notification(_) => "notification",
            Self::Announcement(_) => "announcement",
            Self::Data(_) => "data",
            Self::Presence(_) => "presence",
        }
    }

    /// What counts against the message limit, in bytes: its text, or its content type and bytes (PROTOCOL §3.4). It
    /// does not count what the server alone makes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Notification(Notification { text, .. })
            | Self::Announcement(Announcement { text, .. }) => text.len(),
            Self::Data(data) => data.content_type.len() + data.bytes.len(),
            Self::Presence(_) => 0,
        }
    }
}

/// One message in a channel: the body of frame `Publication` (PROTOCOL §5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Its number in the channel's log.
    pub offset: Offset,
    /// When the server accepted it.
    pub time: Timestamp,
    /// Who published it; `None` when it was the server itself.
    pub publisher: Option<String>,
    /// The message.
    pub message: Message,
}

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

    /// Any serde type as [`Data`]: its JSON, with content type [`JSON`], which browsers, the HTTP API and every language read.
    /// [`Message::as_json`] gives it back. Needs the feature `server` or `client`.
    ///
    /// # Errors
    /// [`EncodeError`](codec::EncodeError) where the type's own `Serialize` fails, or a map has keys that are no strings.
    #[cfg(feature = "_net")]
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, codec::EncodeError> {
        let bytes = serde_json::to_vec(value);
        let bytes = bytes.map_err(|error| codec::EncodeError(error.to_string()))?;
        Ok(Self::data(JSON, bytes))
    }

    /// The value in [`Data`] whose content type is [`JSON`] or ends with `+json`, with or without parameters.
    ///
    /// # Errors
    /// [`DecodeError::Body`] where this is another kind of message, or not the JSON of this type.
    #[cfg(feature = "_net")]
    pub fn as_json<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let body = |reason| DecodeError::Body {
            frame: "message",
            reason,
        };
        match self {
            Self::Data(data) if is_json(&data.content_type) => {
                serde_json::from_slice(&data.bytes).map_err(|error| body(error.to_string()))
            }
            _ => Err(body(format!("not of content type {JSON}"))),
        }
    }

    /// Any serde type as [`Data`]: its bincode, with content type [`BINCODE`]. [`Message::decode`] gives it back. It is smaller than JSON,
    /// and read by Rust alone: for browsers use [`Message::json`].
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

/// Whether a media type says that the bytes are JSON (RFC 6839 §3.1).
#[cfg(feature = "_net")]
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == JSON || essence.ends_with("+json")
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

#[cfg(all(test, feature = "_net"))]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Move {
        from: String,
        to: (u8, u8),
        capture: Option<bool>,
    }

    #[test]
    fn json_is_what_browsers_read_and_comes_back() {
        let value = Move {
            from: "\u{fc}\"e2".to_owned(),
            to: (5, 4),
            capture: None,
        };
        let message = Message::json(&value).unwrap();
        let text = message.as_text().unwrap();
        assert_eq!(text, r#"{"from":"ü\"e2","to":[5,4],"capture":null}"#);
        assert_eq!(message.as_json::<Move>().unwrap(), value);
        assert_eq!(
            Message::json("x").unwrap().as_json::<String>().unwrap(),
            "x"
        );
    }

    #[test]
    fn json_is_decoded_by_its_content_type_alone() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/problem+json",
        ] {
            assert_eq!(
                Message::data(good, "1").as_json::<u8>().unwrap(),
                1,
                "{good}"
            );
        }
        for bad in ["", "text/plain", "application/jsonp", "application/bincode"] {
            Message::data(bad, "1").as_json::<u8>().unwrap_err();
        }
        Message::of(&1_u8).unwrap().as_json::<u8>().unwrap_err();
        Message::notification("1", 0).as_json::<u8>().unwrap_err();
        Message::json(&1_u8).unwrap().decode::<u8>().unwrap_err();
    }

    #[test]
    fn what_is_no_json_is_an_error_and_no_panic() {
        for bad in ["", "{", "nul", "1 2", "\u{0}", "256", "\"a\""] {
            Message::data(JSON, bad).as_json::<u8>().unwrap_err();
        }
        Message::data(JSON, vec![0xff])
            .as_json::<String>()
            .unwrap_err();
        Message::data(JSON, "[".repeat(100_000))
            .as_json::<serde_json::Value>()
            .unwrap_err();
        let keys = HashMap::from([((1, 2), 3)]);
        Message::json(&keys).unwrap_err();
    }
}

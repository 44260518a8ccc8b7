//! The frames: one type each, with its number (PROTOCOL §4, §5, §8).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    code::Code,
    codec::{self, DecodeError, RawFrame},
    history::{HistoryQuery, Kept},
    message::{Message, Publication},
    position::{Position, Start, Timestamp},
    presence::Member,
};

mod stream;

pub use stream::{Delivery, End, Header, Lagged, Lane, Own, Skipped, Source, Turn};

macro_rules! frames {
    ($($number:literal $name:ident $doc:literal)*) => {
        /// Any frame of this version.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Frame {
            $(#[doc = $doc] $name($name),)*
        }

        impl Frame {
            /// The frame, or `None` where its type is unknown and it is to be skipped (PROTOCOL §3.5).
            ///
            /// # Errors
            /// [`DecodeError::Body`] where the body is not of its type to the last byte.
            pub fn decode(raw: &RawFrame) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match raw.kind {
                    $($number => Self::$name(codec::decode_body(stringify!($name), &raw.body)?),)*
                    _ => return Ok(None),
                }))
            }

            /// Its bytes: length, type, body.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                match self {
                    $(Self::$name(body) => codec::encode_frame($number, body),)*
                }
            }

            /// Its name in the specification.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// Every type of this version with its number.
            pub const TYPES: &'static [(&'static str, u64)] = &[$((stringify!($name), $number)),*];
        }

        $(impl From<$name> for Frame {
            fn from(body: $name) -> Self {
                Self::$name(body)
            }
        })*
    };
}

frames! {
    0x01 Hello "PROTOCOL §4.1"
    0x02 Welcome "PROTOCOL §4.2"
    0x03 GoAway "PROTOCOL §4.9"
    0x10 Subscribe "PROTOCOL §4.4"
    0x11 Unsubscribe "PROTOCOL §4.5"
    0x12 Publish "PROTOCOL §4.6"
    0x13 Ping "PROTOCOL §4.7"
    0x14 SubscribeFrom "PROTOCOL §4.10"
    0x15 ReadHistory "PROTOCOL §4.11"
    0x16 PublishOnce "PROTOCOL §4.12"
    0x17 Refresh "PROTOCOL §4.13"
    0x18 PublishWith "PROTOCOL §4.14"
    0x19 ReadPresence "PROTOCOL §4.15"
    0x40 Failed "PROTOCOL §4.8"
    0x41 Subscribed "PROTOCOL §4.4"
    0x42 Unsubscribed "PROTOCOL §4.5"
    0x43 Published "PROTOCOL §4.6"
    0x44 Pong "PROTOCOL §4.7"
    0x45 HistoryPage "PROTOCOL §4.11"
    0x46 PublishedOnce "PROTOCOL §4.12"
    0x47 Refreshed "PROTOCOL §4.13"
    0x48 PresencePage "PROTOCOL §4.15"
    0x60 Header "PROTOCOL §5.1"
    0x61 Publication "PROTOCOL §5.2"
    0x62 Lagged "PROTOCOL §5.3"
    0x63 End "PROTOCOL §5.4"
    0x64 Skipped "PROTOCOL §5.5"
    0x65 Lane "PROTOCOL §5.7"
    0x66 Turn "PROTOCOL §5.7"
    0x67 Own "PROTOCOL §5.8"
}

impl Frame {
    /// The request id of a request, known or not (PROTOCOL §4.3).
    #[must_use]
    pub fn request_id(raw: &RawFrame) -> Option<u64> {
        if !codec::REQUESTS.contains(&raw.kind) {
            return None;
        }
        codec::peek_integer(&raw.body)
            .ok()
            .flatten()
            .map(|(id, _)| id)
    }
}

/// First frame of the client: who it is (PROTOCOL §4.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`](super::VERSION).
    pub version: u16,
    /// The credentials.
    pub token: Option<String>,
    /// Name and version of the client, for people who read logs.
    pub client: String,
    /// Optional parts of the protocol that the client knows.
    pub features: Vec<String>,
}

impl std::fmt::Debug for Hello {
    /// Without the token, which belongs in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("version", &self.version)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("client", &self.client)
            .field("features", &self.features)
            .finish()
    }
}

/// The server's answer to a good [`Hello`] (PROTOCOL §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Identity of the session in logs: 64 random bits.
    pub session: u64,
    /// The authenticated user.
    pub user: Option<String>,
    /// Name and version of the server.
    pub server: String,
    /// Optional parts of the protocol that both know.
    pub features: Vec<String>,
    /// What the server takes.
    pub limits: Limits,
    /// What the session is subscribed to without having asked.
    pub subscriptions: Vec<AutoSubscription>,
    /// End of the session's credentials, in milliseconds since 1970; absent for never.
    pub expires: Option<Timestamp>,
    /// Idle timeout of the server, in milliseconds: it ends a connection on which nothing arrived for so long.
    pub idle_timeout: u64,
    /// Automatic subscriptions that the server could not make.
    pub refused: Vec<RefusedSubscription>,
}

/// What the server takes from a client (PROTOCOL §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest message, in bytes as PROTOCOL §3.4 counts them.
    pub message: u64,
    /// Largest length of a frame, in bytes.
    pub frame: u64,
    /// Most subscriptions of a session.
    pub subscriptions: u64,
}

/// A subscription that the server made by itself (PROTOCOL §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoSubscription {
    /// Its id, as in the header of its stream.
    pub subscription: u64,
    /// Its channel.
    pub channel: String,
    /// The channel's position when the subscription began.
    pub position: Position,
}

/// An automatic subscription that the server could not make (PROTOCOL §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSubscription {
    /// Name of the channel.
    pub channel: String,
    /// Cause, as a `Subscribe` would have failed.
    pub code: Code,
    /// Cause in words.
    pub reason: String,
}

/// The server will close the connection (PROTOCOL §4.9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// Why.
    pub code: Code,
    /// How long it waits for streams to drain, in milliseconds.
    pub grace: u64,
}

/// Request: a subscription (PROTOCOL §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Id of the request.
    pub request: u64,
    /// The channel.
    pub channel: String,
}

/// Request: a subscription that begins elsewhere than at the head (PROTOCOL §4.10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeFrom {
    /// Id of the request.
    pub request: u64,
    /// The channel.
    pub channel: String,
    /// Where it begins.
    pub start: Start,
}

/// Answer to [`Subscribe`] and [`SubscribeFrom`]: whatever is accepted for publication after this was sent is delivered (PROTOCOL §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// Id of the request.
    pub request: u64,
    /// Id of the subscription, as in the header of its stream.
    pub subscription: u64,
    /// Where the subscription begins: the first publication on its stream has the next offset.
    pub position: Position,
}

/// Request: the end of a subscription (PROTOCOL §4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// Id of the request.
    pub request: u64,
    /// The subscription.
    pub subscription: u64,
}

/// Answer to [`Unsubscribe`] (PROTOCOL §4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribed {
    /// Id of the request.
    pub request: u64,
}

/// Request: a publication (PROTOCOL §4.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Id of the request.
    pub request: u64,
    /// The channel.
    pub channel: String,
    /// The message.
    pub message: Message,
}

/// Answer to [`Publish`] (PROTOCOL §4.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Id of the request.
    pub request: u64,
    /// Where the publication stands.
    pub position: Position,
    /// How safely it is kept.
    pub level: Level,
}

/// How safely an acknowledged publication is kept: a number, of which 0 is known now (PROTOCOL §4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(pub u8);

impl Level {
    /// In the server's memory.
    pub const MEMORY: Self = Self(0);
}

/// Request: a sign of life (PROTOCOL §4.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Id of the request.
    pub request: u64,
}

/// Answer to [`Ping`] (PROTOCOL §4.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Id of the request.
    pub request: u64,
    /// The server's clock.
    pub time: Timestamp,
}

/// Request: a part of a channel's log (PROTOCOL §4.11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadHistory {
    /// Id of the request.
    pub request: u64,
    /// The channel.
    pub channel: String,
    /// Which part.
    pub query: HistoryQuery,
}

/// Answer to [`ReadHistory`]: the publications follow it, each as a frame (PROTOCOL §4.11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// Id of the request.
    pub request: u64,
    /// What the log holds; absent where there is no such channel now.
    pub kept: Option<Kept>,
    /// Whether nothing is missing between the position that was asked for and what follows.
    pub complete: bool,
    /// How many publications follow.
    pub count: u64,
}

/// Request: a publication that is stored once, however often it is asked for (PROTOCOL §4.12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishOnce {
    /// Id of the request.
    pub request: u64,
    /// The channel.
    pub channel: String,
    /// What the publisher calls it.
    pub key: String,
    /// The message.
    pub message: Message,
}

/// Request: a publication with more to say about it (PROTOCOL §4.14). Its answer is [`PublishedOnce`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishWith {
    /// Id of the request.
    pub request: u64,
    /// The channel.
    pub channel: String,
    /// As in [`PublishOnce`].
    pub key: Option<String>,
    /// Which of the channel's states the message is: the next with the same takes its place (PROTOCOL §5.5).
    pub conflation_key: Option<String>,
    /// Whether this connection is sent it, too, where it is subscribed.
    pub echo: bool,
    /// The message.
    pub message: Message,
}

/// Answer to [`PublishOnce`] (PROTOCOL §4.12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedOnce {
    /// Id of the request.
    pub request: u64,
    /// Where the publication stands.
    pub position: Position,
    /// How safely it is kept.
    pub level: Level,
    /// It stood there already.
    pub duplicate: bool,
}

/// Request: new credentials for this session (PROTOCOL §4.13).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// Id of the request.
    pub request: u64,
    /// The credentials.
    pub token: String,
}

impl std::fmt::Debug for Refresh {
    /// Without the token, which belongs in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresh")
            .field("request", &self.request)
            .field("token", &"…")
            .finish()
    }
}

/// Answer to [`Refresh`] (PROTOCOL §4.13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// Id of the request.
    pub request: u64,
    /// When the session ends unless it is refreshed again; absent for never.
    pub expires: Option<Timestamp>,
}

/// Request: who is in a channel (PROTOCOL §4.15).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPresence {
    /// Id of the request.
    pub request: u64,
    /// The channel.
    pub channel: String,
    /// Most members that are wanted. An answer lists fewer where the server's own bound is lower.
    pub limit: u64,
}

/// Answer to [`ReadPresence`] (PROTOCOL §4.15).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresencePage {
    /// Id of the request.
    pub request: u64,
    /// As of when; absent where there is no such channel now.
    pub position: Option<Position>,
    /// Sessions in the channel.
    pub connections: u64,
    /// Different users of theirs.
    pub users: u64,
    /// Those that are listed.
    pub members: Vec<Member>,
    /// Whether that is everybody.
    pub complete: bool,
}

/// A request was refused (PROTOCOL §4.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Id of the request.
    pub request: u64,
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub reason: String,
}

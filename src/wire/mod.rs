//! Floor 0: bytes to types and back. PROTOCOL.md is the specification.
//!
//! No I/O, no clock, no logging: what comes in is a slice, what goes out is a value or an error. This module alone is what
//! `--no-default-features` builds, so that a tool can read and write the protocol without a runtime.

pub mod channel;
pub mod code;
pub mod codec;
pub mod datagram;
#[cfg(feature = "server")]
pub(crate) mod draft;
pub mod frame;
pub mod history;
pub mod message;
pub mod pattern;
pub mod position;
pub mod presence;
pub mod publish;
mod reader;
mod transport;

pub use channel::{ChannelName, InvalidChannel, UserId};
pub use code::{Code, Fault, Retry};
pub use codec::{DecodeError, Decoder};
pub use history::{History, HistoryQuery, Kept};
pub use message::{Announcement, Data, Message, Notification, Publication};
pub use pattern::{InvalidPattern, Pattern};
pub use position::{Epoch, Offset, Position, Start, Timestamp};
pub use presence::{Attendance, Member, Presence};
pub use publish::PublishOptions;
pub use transport::Transport;

/// ALPN of the protocol over raw QUIC (PROTOCOL §2.1).
pub const ALPN: &str = "tidings/1";
/// WebTransport subprotocol, the counterpart of [`ALPN`] (PROTOCOL §2.2).
pub const SUBPROTOCOL: &str = "tidings.v1";
/// Path of the WebTransport CONNECT (PROTOCOL §2.2).
pub const WEBTRANSPORT_PATH: &str = "/tidings";
/// Version that `Hello` carries (PROTOCOL §4.1).
pub const VERSION: u16 = 1;
/// Feature of a client that knows lanes (PROTOCOL §4.1, §5.7).
pub const LANES: &str = "lanes";

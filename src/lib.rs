//! Tidings: a real-time server over QUIC and WebTransport.
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod endpoint;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
mod session;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(feature = "_net")]
pub mod transport;
pub mod wire;

pub use wire::{ChannelName, Code, Message, UserId};

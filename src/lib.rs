//! Tidings: a real-time server over QUIC and WebTransport.
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "server")]
mod session;
#[cfg(feature = "_net")]
mod transport;
pub mod wire;

//! Tidings: a real-time server over QUIC and WebTransport.
#[cfg(feature = "server")]
pub mod broker;
pub mod wire;

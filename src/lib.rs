//! Tidings: a real-time server over QUIC and WebTransport.
pub mod wire;

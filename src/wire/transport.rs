//! The three transports of the protocol (PROTOCOL §2).

/// Transport of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Raw QUIC (PROTOCOL §2.1).
    Quic,
    /// WebTransport over HTTP/3 (PROTOCOL §2.2).
    WebTransport,
    /// A WebSocket over TCP (PROTOCOL §2.4).
    WebSocket,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
            Self::WebSocket => "websocket",
        })
    }
}

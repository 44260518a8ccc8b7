//! Bounds of a server, with their defaults.

/// Bounds of a server. Each overflow is a code that the client gets (PROTOCOL §7).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Sessions. Default 100,000. At the limit a newcomer takes the place of the newest session of the user or address that has the
    /// most, where that has more than the newcomer's; otherwise it is refused. Both are told `too_many_sessions`. An address is an
    /// IPv4 address or the /64 of an IPv6 address; connections of [`Builder::plain_websockets`](super::Builder::plain_websockets) have none, as theirs is the proxy's.
    pub sessions: usize,
    /// Sessions of one user. Default: no limit but the share of [`sessions`](Self::sessions). Above: `too_many_sessions`.
    pub sessions_per_user: Option<usize>,
    /// Sessions of one address. Default: no limit but the share of [`sessions`](Self::sessions), as many users may share an address.
    /// Above: `too_many_sessions`.
    pub sessions_per_address: Option<usize>,
    /// Subscriptions of one session. Default 512. Above: `too_many_subscriptions`.
    pub subscriptions: u64,
    /// Bytes of one message (PROTOCOL §3.4). Default 64 KiB. Above: `message_too_large`; 64 KiB further up the frame closes
    /// the connection with `frame_too_large`.
    pub message: usize,
    /// Channels. Default 1,000,000. Above: `too_many_channels`. A tenth of them, rounded up where the limit is above 1, is reserved for
    /// the server: for automatic subscriptions, the HTTP API and user code.
    pub channels: usize,
    /// Channels that one session has created, by subscribing or publishing, and that are still there. Default 10,000. Above:
    /// `too_many_channels`.
    pub session_channels: usize,
    /// The same for all sessions of one user. Default 20,000. Above: `too_many_channels`.
    pub user_channels: usize,
    /// Bytes of memory for channels, publications, deduplication keys, presence and sessions, as estimated. At the limit nothing grows:
    /// a publication makes room by trimming its own channel, and is refused with `overloaded` where that does not do; new channels and
    /// sessions are refused with `overloaded`. From seven eighths on, the largest logs are trimmed every 5 s. The last sixteenth is for
    /// the server's own channels and publications. Default `None`: half of the smallest of the machine's memory, the limits of this
    /// process's control groups, and its limits of address space and data.
    pub memory: Option<usize>,
    /// Bytes of memory of what one user published and that is still retained; of what one session did where it has no user. At the limit
    /// a publication makes room by trimming older ones of the same user from its channel, and is refused with `overloaded` where that
    /// does not do. Default `None`: 128 MiB, and a quarter of `memory` at most.
    pub user_memory: Option<usize>,
    /// Handshakes in flight above which a client must first prove its address, by a QUIC Retry. Default 256.
    pub soft_handshakes: usize,
    /// Handshakes in flight, over UDP and over each TCP port. Default 1024. At the limit a newcomer takes the place of the oldest one
    /// of the address, or of the UDP socket, that has the most, where that has more than the newcomer's; otherwise it is refused, and
    /// over TCP takes the place of the oldest one of its address.
    pub hard_handshakes: usize,
    /// TCP connections of WebSockets, of all ports together. Default: what the limit of open files leaves beside a quarter (at most 1088)
    /// for the HTTP API. At the limit a newcomer takes the place of the newest one of the address that has the most, where that has more
    /// than the newcomer's; otherwise it is refused.
    pub tcp_connections: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 100_000,
            sessions_per_user: None,
            sessions_per_address: None,
            subscriptions: 512,
            message: 64 * 1024,
            channels: 1_000_000,
            session_channels: 10_000,
            user_channels: 20_000,
            memory: None,
            user_memory: None,
            soft_handshakes: 256,
            hard_handshakes: 1024,
            tcp_connections: None,
        }
    }
}

//! Floor 2: bytes in, bytes out, over QUIC, WebTransport and WebSockets. Knows no channel.
//!
//! The only folder that names types of quinn and web-transport. `Connection` is one type for all transports: after the
//! handshake nothing above can tell them apart, and nothing needs to.

#[cfg(feature = "server")]
mod admission;
#[cfg(feature = "server")]
mod capsules;
#[cfg(feature = "server")]
mod congestion;
#[cfg(feature = "server")]
mod connect;
#[cfg(feature = "server")]
mod crypto;
#[cfg(feature = "server")]
pub(crate) mod descriptors;
#[cfg(feature = "server")]
mod driver;
mod framed;
#[cfg(feature = "server")]
mod http3;
mod mux;
#[cfg(feature = "server")]
mod origin;
#[cfg(feature = "server")]
mod padding;
pub(crate) mod peer_log;
mod quiet;
#[cfg(feature = "server")]
mod served;
#[cfg(feature = "server")]
mod shares;
#[cfg(feature = "server")]
pub(crate) mod sockets;
#[cfg(feature = "server")]
mod source;
mod stream;
#[cfg(feature = "server")]
mod tcp;
mod tls;
#[cfg(feature = "server")]
mod upgrade;

#[cfg(feature = "client")]
pub(crate) mod dial;
#[cfg(feature = "server")]
pub(crate) mod listener;
pub(crate) mod websocket;

#[cfg(feature = "server")]
pub(crate) use admission::Permit;
#[cfg(feature = "server")]
pub(crate) use driver::Class;
#[cfg(feature = "server")]
pub use listener::BindError;
#[cfg(feature = "server")]
pub(crate) use origin::Allowed;
#[cfg(feature = "server")]
pub use origin::{InvalidOrigin, Origins};
#[cfg(feature = "server")]
pub(crate) use shares::{Prefix, Shares};
#[cfg(feature = "server")]
pub(crate) use source::{Gone, Prompt, Source, Streams, UniStream, Written};

#[cfg(feature = "server")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "client")]
use bytes::Bytes;
use web_transport_quinn::{SessionError, WebTransportError};

use crate::wire::Code;

pub use crate::wire::Transport;
pub(crate) use framed::{FrameError, FrameReader};
pub(crate) use stream::{RecvStream, SendStream, StreamError};
#[cfg(feature = "server")]
pub(crate) use tcp::Caller;
#[cfg(feature = "server")]
pub use tls::Certificate;
#[cfg(feature = "client")]
pub use tls::Trust;
pub use tls::{InvalidTls, Sha256};
#[cfg(feature = "server")]
pub(crate) use upgrade::Upgrade;

/// First bytes of a WebTransport stream that the server opens: stream type 0x54 and session 0, each a QUIC integer. The
/// session's id is that of the CONNECT stream, and that is the first bidirectional stream of its connection: we take no
/// other.
#[cfg(feature = "server")]
const WEBTRANSPORT_UNI: &[u8] = &[0x40, 0x54, 0x00];

/// Longest reason of a close, in bytes: what WebTransport allows, and what fits the one packet that QUIC has for it.
const MAX_REASON: usize = 1024;

/// Time that the last words of an end may take to reach the peer.
const LINGER: Duration = Duration::from_secs(1);

/// A connection of either kind. Cloning shares it; it closes when [`close`](Self::close) is called or the last clone and
/// the last stream are dropped; over the server's WebTransport the last clone is enough.
#[derive(Clone)]
pub(crate) struct Connection(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "client")]
    Client(Box<dial::Dialled>),
    /// The server's raw QUIC.
    #[cfg(feature = "server")]
    Quic(driver::Connection),
    /// The server's WebTransport.
    #[cfg(feature = "server")]
    Http3(Arc<http3::Http3>),
    /// A WebSocket of either side.
    Mux(mux::Connection),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The code, where the peer's protocol gave one.
    pub(crate) code: Option<Code>,
    /// For people.
    pub(crate) reason: String,
}

/// No stream was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg(feature = "server")]
pub(crate) enum OpenError {
    /// The peer permits no further one now.
    NoStreamLeft,
    /// The connection is over.
    Closed,
}

impl Connection {
    pub(crate) fn transport(&self) -> Transport {
        match &self.0 {
            #[cfg(feature = "client")]
            Kind::Client(dialled) => dialled.transport,
            #[cfg(feature = "server")]
            Kind::Quic(_) => Transport::Quic,
            #[cfg(feature = "server")]
            Kind::Http3(_) => Transport::WebTransport,
            Kind::Mux(_) => Transport::WebSocket,
        }
    }

    /// Closes with a code and a reason, of which 1,024 bytes are told. What was written just before may be lost: finish streams
    /// and wait for them first. A browser may not learn the code: see [`close_and_linger`](Self::close_and_linger).
    #[cfg(feature = "client")]
    pub(crate) fn close(&self, code: Code, reason: &str) {
        let reason = cut(reason);
        match &self.0 {
            #[cfg(feature = "client")]
            Kind::Client(dialled) => dialled.session.close(code.0, reason.as_bytes()),
            #[cfg(feature = "server")]
            Kind::Quic(connection) => connection.close(code, reason),
            #[cfg(feature = "server")]
            Kind::Http3(session) => session.close(code, reason),
            Kind::Mux(connection) => connection.close(code, reason),
        }
    }

    /// Closes, and waits until that is on its way: over WebTransport the code travels on a stream of its own, which the end
    /// of the connection would overtake.
    pub(crate) async fn close_and_linger(&self, code: Code, reason: &str) {
        let reason = cut(reason);
        match &self.0 {
            #[cfg(feature = "client")]
            Kind::Client(dialled) => {
                dialled.session.close(code.0, reason.as_bytes());
                // Bounded by the library's own wait; the timer is for the case that it changes.
                let _ = tokio::time::timeout(LINGER, async {
                    dialled.session.closed().await;
                    if let Some(endpoint) = &dialled.endpoint {
                        endpoint.wait_idle().await;
                    }
                })
                .await;
            }
            #[cfg(feature = "server")]
            Kind::Quic(connection) => connection.close(code, reason),
            #[cfg(feature = "server")]
            Kind::Http3(session) => Box::pin(session.close_and_linger(code, reason)).await,
            Kind::Mux(connection) => connection.close_and_linger(code, reason).await,
        }
    }

    /// Waits for the end. Cancel safe. Over WebTransport the server learns of the peer's close only while somebody waits here.
    pub(crate) async fn closed(&self) -> Closed {
        match &self.0 {
            #[cfg(feature = "client")]
            Kind::Client(dialled) => closed(dialled.session.closed().await),
            #[cfg(feature = "server")]
            Kind::Quic(connection) => ended(connection.closed().await),
            #[cfg(feature = "server")]
            // Apart, so that a raw connection's session needs no room for it.
            Kind::Http3(session) => Box::pin(session.closed()).await,
            Kind::Mux(connection) => connection.closed().await,
        }
    }
}

#[cfg(feature = "client")]
impl Connection {
    /// Opens a bidirectional stream; waits where the peer permits none now.
    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        if let Kind::Mux(connection) = &self.0 {
            let (send, recv) = connection.open_bi().await?;
            return Ok((send.into(), recv.into()));
        }
        let (send, recv) = self.session()?.open_bi().await.map_err(closed)?;
        Ok((SendStream::client(send), RecvStream::client(recv)))
    }

    /// The next unidirectional stream of the peer. Cancel safe.
    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, Closed> {
        if let Kind::Mux(connection) = &self.0 {
            return Ok(connection.accept_uni().await?.into());
        }
        let stream = self.session()?.accept_uni().await.map_err(closed)?;
        Ok(RecvStream::client(stream))
    }

    /// Frames with content that came from the peer.
    pub(crate) fn heard(&self) -> u64 {
        if let Kind::Mux(connection) = &self.0 {
            return connection.heard();
        }
        let Ok(session) = self.session() else {
            return 0;
        };
        let connection: &quinn::Connection = session;
        let frames = connection.stats().frame_rx;
        frames.stream + frames.datagram
    }

    /// Silence after which the server gives up, where it was said in the handshake and this side is to take care of it.
    pub(crate) fn peer_idle(&self) -> Option<Duration> {
        match &self.0 {
            Kind::Client(dialled) => dialled.peer_idle(),
            #[cfg(feature = "server")]
            Kind::Quic(_) | Kind::Http3(_) => None,
            Kind::Mux(_) => None,
        }
    }

    /// Sends a datagram with so many bytes that say nothing, which the server passes over (PROTOCOL §5.6); `false` where it takes none.
    pub(crate) fn send_filler(&self, bytes: usize) -> bool {
        let filler = Bytes::from(vec![0; bytes]);
        let session = self.session();
        session.is_ok_and(|session| session.send_datagram(filler).is_ok())
    }

    /// The next datagram of the peer. One that is none of the session's is passed over. Cancel safe.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Closed> {
        if let Kind::Mux(connection) = &self.0 {
            // There are none.
            return Err(connection.closed().await);
        }
        loop {
            match self.session()?.read_datagram().await {
                Ok(datagram) => return Ok(datagram),
                Err(SessionError::WebTransportError(WebTransportError::UnknownSession)) => {}
                Err(error) => return Err(closed(error)),
            }
        }
    }

    fn session(&self) -> Result<&web_transport_quinn::Session, Closed> {
        match &self.0 {
            Kind::Client(dialled) => Ok(&dialled.session),
            #[cfg(feature = "server")]
            Kind::Quic(_) | Kind::Http3(_) => Err(other_side()),
            Kind::Mux(_) => Err(other_side()),
        }
    }
}

/// As much of a reason as is told.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

/// How raw QUIC ended: codes are ours as they are (PROTOCOL §2.1), and one that is wider than ours is none that anybody knows.
#[cfg(feature = "server")]
fn ended(error: quinn::ConnectionError) -> Closed {
    match &error {
        quinn::ConnectionError::ApplicationClosed(close) => Closed {
            code: Some(Code(
                u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
            )),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        _ => closed(error.into()),
    }
}

/// The end of a connection that says nothing.
fn cut_off() -> Closed {
    Closed {
        code: None,
        reason: "the connection was cut off".to_owned(),
    }
}

/// What one side does, asked of the other: nobody does.
#[cfg(feature = "client")]
fn other_side() -> Closed {
    Closed {
        code: None,
        reason: "this is for the other side of a connection".to_owned(),
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport())
            .finish_non_exhaustive()
    }
}

fn closed(error: SessionError) -> Closed {
    match error {
        SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => Closed {
            code: Some(Code(code)),
            reason,
        },
        // Over WebTransport the client's library says so too when the CONNECT stream ends without a word (PROTOCOL §2.2): an abrupt end.
        SessionError::ConnectionError(quinn::ConnectionError::LocallyClosed) => cut_off(),
        SessionError::ConnectionError(quinn::ConnectionError::TimedOut) => Closed {
            code: None,
            reason: "nothing was heard from the peer within the idle timeout".to_owned(),
        },
        other => Closed {
            code: None,
            reason: other.to_string(),
        },
    }
}

//! Floor 2: bytes in, bytes out, over QUIC and WebTransport. Knows no channel.
//!
//! The only folder that names types of quinn and web-transport. `Connection` is one type for both transports: after the
//! handshake nothing above can tell them apart, and nothing needs to.

#[cfg(feature = "server")]
mod capsules;
mod framed;
#[cfg(feature = "server")]
mod http3;
mod stream;
mod tls;

#[cfg(feature = "client")]
pub(crate) mod dial;
#[cfg(feature = "server")]
pub(crate) mod listener;

#[cfg(feature = "server")]
pub(crate) use listener::Permit;
#[cfg(feature = "server")]
pub use listener::{BindError, Origins};

#[cfg(feature = "server")]
use std::sync::Arc;
use std::{net::SocketAddr, time::Duration};

#[cfg(feature = "server")]
use futures_util::FutureExt;
use web_transport_quinn::{Session, SessionError, WebTransportError};

use crate::wire::Code;

pub(crate) use framed::{FrameError, FrameReader};
pub(crate) use stream::{RecvStream, SendStream, StreamError};
#[cfg(feature = "server")]
pub use tls::Certificate;
#[cfg(feature = "client")]
pub use tls::Trust;
pub use tls::{InvalidTls, Sha256};

/// Which of the two a connection is (PROTOCOL §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Raw QUIC (PROTOCOL §2.1).
    Quic,
    /// WebTransport over HTTP/3 (PROTOCOL §2.2).
    WebTransport,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
        })
    }
}

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
pub(crate) struct Connection {
    kind: Kind,
    transport: Transport,
    /// Of the connecting side: it says when the last packet is out.
    endpoint: Option<quinn::Endpoint>,
}

#[derive(Clone)]
enum Kind {
    /// Raw QUIC, and the client's WebTransport.
    Library(Box<Session>),
    /// The server's WebTransport.
    #[cfg(feature = "server")]
    Http3(Arc<http3::Http3>),
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
    pub(crate) fn raw(connection: quinn::Connection) -> Self {
        Self {
            kind: Kind::Library(Box::new(Session::raw(connection))),
            transport: Transport::Quic,
            endpoint: None,
        }
    }

    #[cfg(feature = "client")]
    pub(crate) fn webtransport(session: Session) -> Self {
        Self {
            kind: Kind::Library(Box::new(session)),
            transport: Transport::WebTransport,
            endpoint: None,
        }
    }

    #[cfg(feature = "server")]
    fn http3(session: http3::Http3) -> Self {
        Self {
            kind: Kind::Http3(Arc::new(session)),
            transport: Transport::WebTransport,
            endpoint: None,
        }
    }

    #[cfg(feature = "client")]
    pub(crate) fn kept_by(mut self, endpoint: quinn::Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    pub(crate) const fn transport(&self) -> Transport {
        self.transport
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.quic().remote_address()
    }

    fn quic(&self) -> &quinn::Connection {
        match &self.kind {
            Kind::Library(session) => session,
            #[cfg(feature = "server")]
            Kind::Http3(session) => &session.connection,
        }
    }

    /// The next bidirectional stream of the peer. Cancel safe.
    #[cfg(feature = "server")]
    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        match &self.kind {
            // Not through the session, which is the server's of raw QUIC here and would add nothing.
            Kind::Library(session) => match quinn::Connection::accept_bi(session).await {
                Ok((send, recv)) => Ok((
                    SendStream::direct(send, &[], false),
                    RecvStream::direct(recv, false),
                )),
                Err(_) => Err(self.closed().await),
            },
            Kind::Http3(session) => session.accept_bi().await,
        }
    }

    /// Opens a bidirectional stream; waits where the peer permits none now.
    #[cfg(feature = "client")]
    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        match &self.kind {
            Kind::Library(session) => {
                let (send, recv) = session.open_bi().await.map_err(closed)?;
                Ok((SendStream::wrapped(send), RecvStream::wrapped(recv)))
            }
            #[cfg(feature = "server")]
            Kind::Http3(_) => Err(no_client()),
        }
    }

    /// The next unidirectional stream of the peer. Cancel safe.
    #[cfg(feature = "client")]
    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, Closed> {
        match &self.kind {
            Kind::Library(session) => session
                .accept_uni()
                .await
                .map(RecvStream::wrapped)
                .map_err(closed),
            #[cfg(feature = "server")]
            Kind::Http3(_) => Err(no_client()),
        }
    }

    /// Opens a unidirectional stream, or says at once that there is none: `quinn::Connection::open_uni` would wait until the
    /// peer permits more, which may be never.
    #[cfg(feature = "server")]
    pub(crate) fn try_open_uni(&self) -> Result<SendStream, OpenError> {
        let http3 = self.transport == Transport::WebTransport;
        let prefix = if http3 { WEBTRANSPORT_UNI } else { &[] };
        match self.quic().open_uni().now_or_never() {
            Some(Ok(stream)) => Ok(SendStream::direct(stream, prefix, http3)),
            Some(Err(_)) => Err(OpenError::Closed),
            None => Err(OpenError::NoStreamLeft),
        }
    }

    /// Closes with a code and a reason, of which 1,024 bytes are told. What was written just before may be lost: finish streams
    /// and wait for them first. A browser may not learn the code: see [`close_and_linger`](Self::close_and_linger).
    #[cfg(any(feature = "client", test))]
    pub(crate) fn close(&self, code: Code, reason: &str) {
        let reason = cut(reason);
        match &self.kind {
            Kind::Library(session) => session.close(code.0, reason.as_bytes()),
            #[cfg(feature = "server")]
            Kind::Http3(session) => session.close(code, reason),
        }
    }

    /// Closes, and waits until that is on its way: over WebTransport the code travels on a stream of its own, which the end
    /// of the connection would overtake.
    pub(crate) async fn close_and_linger(&self, code: Code, reason: &str) {
        let reason = cut(reason);
        match &self.kind {
            Kind::Library(session) => {
                session.close(code.0, reason.as_bytes());
                // Bounded by the library's own wait; the timer is for the case that it changes.
                let _ = tokio::time::timeout(LINGER, async {
                    session.closed().await;
                    if let Some(endpoint) = &self.endpoint {
                        endpoint.wait_idle().await;
                    }
                })
                .await;
            }
            #[cfg(feature = "server")]
            Kind::Http3(session) => session.close_and_linger(code, reason).await,
        }
    }

    /// Waits for the end. Cancel safe. Over WebTransport the server learns of the peer's close only while somebody waits here.
    pub(crate) async fn closed(&self) -> Closed {
        match &self.kind {
            Kind::Library(session) => closed(session.closed().await),
            #[cfg(feature = "server")]
            Kind::Http3(session) => session.closed().await,
        }
    }

    /// Bytes that the peer may send on all streams together and we have not read.
    #[cfg(feature = "server")]
    pub(crate) fn set_receive_window(&self, bytes: u32) {
        self.quic().set_receive_window(bytes.into());
    }
}

/// As much of a reason as is told.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

/// The end of a connection that says nothing.
fn cut_off() -> Closed {
    Closed {
        code: None,
        reason: "the connection was cut off".to_owned(),
    }
}

/// What a client does, asked of a server's connection: nobody does.
#[cfg(all(feature = "client", feature = "server"))]
fn no_client() -> Closed {
    Closed {
        code: None,
        reason: "this is the server's side".to_owned(),
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport)
            .field("remote", &self.remote_address())
            .finish()
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

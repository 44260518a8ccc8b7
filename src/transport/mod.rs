//! Floor 2: bytes in, bytes out, over QUIC and WebTransport. Knows no channel.
//!
//! The only folder that names types of quinn and web-transport. `Connection` is one type for both transports: after the
//! handshake nothing above can tell them apart, and nothing needs to.

#[cfg(feature = "server")]
mod capsules;
#[cfg(feature = "server")]
mod congestion;
#[cfg(feature = "server")]
mod connect;
#[cfg(feature = "server")]
mod crypto;
#[cfg(feature = "server")]
mod driver;
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
pub use connect::Origins;
#[cfg(feature = "server")]
pub(crate) use driver::{Class, Gone, Permit, Prompt, Source, Streams, UniStream, Written};
#[cfg(feature = "server")]
pub use listener::BindError;

#[cfg(feature = "server")]
use std::net::SocketAddr;
#[cfg(feature = "server")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "client")]
use bytes::Bytes;
use web_transport_quinn::{SessionError, WebTransportError};

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
        }
    }
}

#[cfg(feature = "client")]
impl Connection {
    /// Opens a bidirectional stream; waits where the peer permits none now.
    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        let (send, recv) = self.session()?.open_bi().await.map_err(closed)?;
        Ok((SendStream::client(send), RecvStream::client(recv)))
    }

    /// The next unidirectional stream of the peer. Cancel safe.
    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, Closed> {
        let stream = self.session()?.accept_uni().await.map_err(closed)?;
        Ok(RecvStream::client(stream))
    }

    /// Frames with content that came from the peer.
    pub(crate) fn heard(&self) -> u64 {
        let Ok(session) = self.session() else {
            return 0;
        };
        let connection: &quinn::Connection = session;
        let frames = connection.stats().frame_rx;
        frames.stream + frames.datagram
    }

    /// The next datagram of the peer. One that is none of the session's is passed over. Cancel safe.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Closed> {
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
        }
    }
}

#[cfg(feature = "server")]
impl Connection {
    fn http3(session: http3::Http3) -> Self {
        Self(Kind::Http3(Arc::new(session)))
    }

    fn quic(&self) -> Option<&driver::Connection> {
        match &self.0 {
            #[cfg(feature = "client")]
            Kind::Client(_) => None,
            Kind::Quic(connection) => Some(connection),
            Kind::Http3(session) => Some(&session.connection),
        }
    }

    /// Where the client is now.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        const NOWHERE: SocketAddr =
            SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        self.quic()
            .map_or(NOWHERE, driver::Connection::remote_address)
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Duration {
        self.quic().map_or(Duration::ZERO, driver::Connection::rtt)
    }

    /// The next bidirectional stream of the client. Cancel safe.
    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        match &self.0 {
            #[cfg(feature = "client")]
            Kind::Client(_) => Err(other_side()),
            Kind::Quic(connection) => match connection.accept_bi().await {
                Ok((send, recv)) => Ok((
                    SendStream::server(send, false),
                    RecvStream::server(recv, false),
                )),
                Err(error) => Err(ended(error)),
            },
            Kind::Http3(session) => Box::pin(session.accept_bi()).await,
        }
    }

    /// Prepares unidirectional streams, on which nothing is written yet.
    pub(crate) fn arrange<T>(
        &self,
        work: impl FnOnce(&mut Streams<'_>) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let connection = self.quic().ok_or(OpenError::Closed)?;
        connection.arrange(work)
    }

    /// Whether the peer takes datagrams (RFC 9221; over WebTransport its SETTINGS said so too, or there would be no session).
    pub(crate) fn takes_datagrams(&self) -> bool {
        self.quic().is_some_and(driver::Connection::takes_datagrams)
    }

    /// Who writes the unidirectional streams from now on; the first call counts.
    pub(crate) fn set_source(&self, source: std::sync::Weak<dyn Source>) {
        if let Some(connection) = self.quic() {
            connection.set_source(source);
        }
    }

    /// What asks the source; `None` on the client's side.
    pub(crate) fn prompt(&self) -> Option<Prompt> {
        self.quic().map(driver::Connection::prompt)
    }

    /// The unidirectional streams, outside of [`Source::fill`].
    pub(crate) fn with_streams(&self, work: impl FnOnce(&mut Streams<'_>)) {
        if let Some(connection) = self.quic() {
            connection.with_streams(work);
        }
    }

    /// Bytes that the peer may send on all streams together and we have not read.
    pub(crate) fn set_receive_window(&self, bytes: u32) {
        if let Some(connection) = self.quic() {
            connection.set_receive_window(bytes.into());
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
#[cfg(all(feature = "client", feature = "server"))]
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

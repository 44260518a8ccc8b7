//! The accept side: one UDP port, our own accept loop over `quinn::Endpoint`, the ALPN split (PROTOCOL §2).

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quinn::{
    EndpointConfig, IdleTimeout, Runtime, TransportConfig,
    crypto::rustls::{HandshakeData, QuicServerConfig},
};
use tokio::time::timeout;
use web_transport_quinn::{
    http::{HeaderValue, StatusCode, header},
    proto::{ConnectRequest, ConnectResponse},
};

use super::{
    Connection,
    http3::{self, Request},
    tls::{Certificate, CertificateStore, InvalidTls, server_crypto},
};
use crate::wire::{ALPN, Code, SUBPROTOCOL, WEBTRANSPORT_PATH};

/// Bounds of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Which pages may connect.
    pub(crate) origins: Origins,
    /// Handshakes in flight above which a client must first prove its address (Retry).
    pub(crate) soft_handshakes: usize,
    /// Handshakes in flight above which a client is refused.
    pub(crate) hard_handshakes: usize,
    /// Total time for the QUIC handshake, and again for the WebTransport CONNECT.
    pub(crate) deadline: Duration,
    /// Silence after which a connection is given up.
    pub(crate) idle: Duration,
}

/// Which pages may connect over WebTransport. A request without `Origin` comes from no page and is not judged by it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages with one of these origins, such as `https://example.org` or `http://localhost:8080`. An entry that ends in `:*`
    /// takes every port.
    List(Vec<String>),
}

impl Origins {
    fn allow(&self, origin: &str) -> bool {
        let Self::List(list) = self else { return true };
        list.iter().any(|entry| match entry.strip_suffix(":*") {
            Some(host) => origin.strip_prefix(host).is_some_and(|port| {
                port.is_empty()
                    || port.strip_prefix(':').is_some_and(|port| {
                        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
                    })
            }),
            None => entry.eq_ignore_ascii_case(origin),
        })
    }
}

/// Most bytes that a client may have in flight to us before it is authenticated.
const RECEIVE_WINDOW: u32 = 256 * 1024;
/// The same for one stream: the control stream's only.
const STREAM_RECEIVE_WINDOW: u32 = 128 * 1024;
/// Unacknowledged bytes a connection may hold. More of it lets a slow reader hold memory and puts stale data below the log's
/// own policy; less of it limits a fast reader far away (1 MiB is 160 Mbit/s at 50 ms).
const SEND_WINDOW: u64 = 1024 * 1024;
/// The control stream, WebTransport's CONNECT, and one to refuse politely.
const BIDI_STREAMS: u32 = 3;
/// HTTP/3's control stream and two of QPACK. quinn allocates a slot for each permitted stream.
const UNI_STREAMS: u32 = 3;

/// A bound port.
#[derive(Debug)]
pub(crate) struct Listener {
    endpoint: quinn::Endpoint,
    socket: Weak<dyn quinn::AsyncUdpSocket>,
    certificates: Arc<CertificateStore>,
    config: Arc<Config>,
    in_flight: Arc<AtomicUsize>,
}

/// The port cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The operating system says no.
    #[error("cannot listen on UDP {address}: {source}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] InvalidTls),
}

/// A client that has not finished its handshake. It counts against the limits until it is dropped.
#[derive(Debug)]
pub(crate) struct Arrival {
    connecting: quinn::Connecting,
    config: Arc<Config>,
    permit: Permit,
}

/// Counts one handshake in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why an arrival did not become a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the handshake took too long")]
    TimedOut,
    #[error("the QUIC handshake failed: {0}")]
    Quic(String),
    #[error("the WebTransport handshake failed: {0}")]
    WebTransport(String),
    #[error("refused with HTTP {status}: {reason}")]
    Refused { status: u16, reason: String },
}

impl Listener {
    /// Binds a UDP port; 0 takes a free one.
    pub(crate) fn bind(
        address: SocketAddr,
        certificate: Certificate,
        config: Config,
    ) -> Result<Self, BindError> {
        let certificates = Arc::new(CertificateStore::new(certificate));
        let crypto = QuicServerConfig::try_from(server_crypto(Arc::clone(&certificates))?)
            .map_err(|error| InvalidTls::Rustls(rustls::Error::General(error.to_string())))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(transport(&config)))
            .max_incoming(1024)
            .incoming_buffer_size(8 * 1024)
            .incoming_buffer_size_total(4 * 1024 * 1024);
        let fail = |source| BindError::Socket { address, source };
        let socket = UdpSocket::bind(address).map_err(fail)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let socket = runtime.wrap_udp_socket(socket).map_err(fail)?;
        let held = Arc::downgrade(&socket);
        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            Some(server),
            socket,
            runtime,
        )
        .map_err(fail)?;
        Ok(Self {
            endpoint,
            socket: held,
            certificates,
            config: Arc::new(config),
            in_flight: Arc::default(),
        })
    }

    pub(crate) fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Shows another certificate from the next handshake on.
    pub(crate) fn set_certificate(&self, certificate: Certificate) {
        self.certificates.set(certificate);
    }

    /// The next client that is let in; `None` when the listener is closed. Cancel safe.
    ///
    /// The ladder: below the soft limit everybody; above it only who has proved its address, the others are sent a Retry,
    /// which costs us no memory; above the hard one nobody.
    pub(crate) async fn accept(&self) -> Option<Arrival> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let in_flight = self.in_flight.load(Ordering::Relaxed);
            if in_flight >= self.config.hard_handshakes {
                incoming.refuse();
            } else if in_flight >= self.config.soft_handshakes && incoming.may_retry() {
                // It may retry, so this does not fail.
                let _ = incoming.retry();
            } else {
                match incoming.accept() {
                    Ok(connecting) => {
                        self.in_flight.fetch_add(1, Ordering::Relaxed);
                        return Some(Arrival {
                            connecting,
                            config: Arc::clone(&self.config),
                            permit: Permit(Arc::clone(&self.in_flight)),
                        });
                    }
                    Err(error) => tracing::debug!(%error, "first packet refused"),
                }
            }
        }
    }

    /// Refuses newcomers from now on; connections live on.
    pub(crate) fn stop_accepting(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Ends the port: what is still connected is closed with `code`.
    pub(crate) fn close(&self, code: Code, reason: &str) {
        self.endpoint.close(code.0.into(), reason.as_bytes());
    }

    /// Waits until every connection has said its last word.
    pub(crate) async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }

    /// Waits until the port is free again, once nothing else holds the listener: quinn's own task has the socket a moment
    /// longer.
    pub(crate) async fn release(self) {
        let Self {
            endpoint, socket, ..
        } = self;
        drop(endpoint);
        while socket.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Arrival {
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.connecting.remote_address()
    }

    /// Finishes the handshakes, each within its deadline. The permit is to be kept until the client is authenticated.
    pub(crate) async fn handshake(self) -> Result<(Connection, Permit), HandshakeError> {
        let Self {
            connecting,
            config,
            permit,
        } = self;
        let connection = timeout(config.deadline, connecting)
            .await
            .map_err(|_| HandshakeError::TimedOut)?
            .map_err(|error| HandshakeError::Quic(error.to_string()))?;
        let protocol = connection
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok())
            .and_then(|data| data.protocol);
        // rustls lets nothing else through than what `server_crypto` lists.
        let connection = if protocol.as_deref() == Some(ALPN.as_bytes()) {
            Connection::raw(connection)
        } else {
            let deadline = config.deadline;
            match timeout(deadline, webtransport(connection.clone(), &config.origins)).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => {
                    // Where it was answered with a status, it is closed already.
                    let reason = error.to_string();
                    http3::close(&connection, Code::PROTOCOL_VIOLATION, &reason);
                    return Err(error);
                }
                Err(_) => {
                    let reason = format!("no CONNECT within {} s", deadline.as_secs_f32());
                    http3::close(&connection, Code::HELLO_TIMEOUT, &reason);
                    return Err(HandshakeError::TimedOut);
                }
            }
        };
        Ok((connection, permit))
    }
}

fn transport(config: &Config) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(BIDI_STREAMS.into())
        .max_concurrent_uni_streams(UNI_STREAMS.into())
        .receive_window(RECEIVE_WINDOW.into())
        .stream_receive_window(STREAM_RECEIVE_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(64 * 1024))
        .datagram_send_buffer_size(64 * 1024)
        .max_idle_timeout(IdleTimeout::try_from(config.idle).ok());
    transport
}

/// An error with what caused it: web-transport's own text leaves the cause out.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// PROTOCOL §2.2.
async fn webtransport(
    connection: quinn::Connection,
    origins: &Origins,
) -> Result<Connection, HandshakeError> {
    let request = Request::accept(connection)
        .await
        .map_err(HandshakeError::WebTransport)?;
    if let Err((status, reason)) = judge(&request.connect, origins) {
        request.reject(status).await;
        return Err(HandshakeError::Refused {
            status: status.as_u16(),
            reason,
        });
    }
    let response = if request.connect.protocols.is_empty() {
        ConnectResponse::OK
    } else {
        ConnectResponse::OK.with_protocol(SUBPROTOCOL)
    };
    let session = request
        .respond(response)
        .await
        .map_err(HandshakeError::WebTransport)?;
    Ok(Connection::http3(session))
}

fn judge(request: &ConnectRequest, origins: &Origins) -> Result<(), (StatusCode, String)> {
    if request.url.path() != WEBTRANSPORT_PATH {
        return Err((
            StatusCode::NOT_FOUND,
            format!("the path is not {WEBTRANSPORT_PATH}"),
        ));
    }
    if let Some(origin) = request.headers.get(header::ORIGIN) {
        let allowed = HeaderValue::to_str(origin).is_ok_and(|origin| origins.allow(origin));
        if !allowed {
            return Err((
                StatusCode::FORBIDDEN,
                format!("origin {origin:?} is not on the list"),
            ));
        }
    }
    if !request.protocols.is_empty() && !request.protocols.iter().any(|known| known == SUBPROTOCOL)
    {
        return Err((
            StatusCode::BAD_REQUEST,
            format!("no subprotocol {SUBPROTOCOL} was offered"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Origins;

    #[test]
    fn origins_match_whole_and_with_any_port() {
        let origins = Origins::List(vec![
            "https://example.org".into(),
            "http://localhost:*".into(),
        ]);
        for good in [
            "https://example.org",
            "http://localhost",
            "http://localhost:8080",
        ] {
            assert!(origins.allow(good), "{good}");
        }
        for bad in [
            "https://example.org.evil.example",
            "http://example.org",
            "https://example.org:8443",
            "http://localhost:",
            "http://localhost.evil.example",
            "http://localhost:80.evil.example",
            "null",
            "",
        ] {
            assert!(!origins.allow(bad), "{bad}");
        }
        assert!(Origins::Any.allow("https://evil.example"));
    }
}

//! The connecting side.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig},
};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpSocket,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use url::Url;
use web_transport_quinn::{
    ClientError, ConnectError, Session,
    proto::{self, ConnectRequest},
};

use super::{
    Connection, Kind, Transport,
    tls::{HTTP, InvalidTls, Trust, client_crypto},
    websocket,
};
use crate::wire::{ALPN, SUBPROTOCOL, WEBTRANSPORT_PATH};

/// Port of a URL without one.
const PORT: u16 = 4433;
/// Head start of one address over the next, as RFC 8305 §5 recommends.
const STAGGER: Duration = Duration::from_millis(250);
/// Bytes of one stream that the server may send and nobody has read. Far below the connection's window, which is unlimited
/// and so bounded by this times the streams: a channel that is not read holds up no other.
pub(super) const STREAM_RECEIVE_WINDOW: u32 = 256 * 1024;
/// Well below the server's idle timeout of 30 s.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Asked of the system for what arrives at a socket that clients share. What it gives unasked was too little for 31 of them that are told
/// the same at once: a lost CONNECTION_CLOSE is noticed after 10 s.
const SHARED_BUFFER: usize = 4 << 20;
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// A server's address: `quic://host[:port]`, or `https://host[:port][/tidings]` for WebTransport, or the same with `wss://` for a
/// WebSocket, with `ws://` for one without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    host: String,
    port: u16,
    url: Url,
}

/// A connection that this side made.
#[derive(Clone)]
pub(super) struct Dialled {
    pub(super) session: Session,
    pub(super) transport: Transport,
    /// It says when the last packet is out, where it is this connection's alone.
    pub(super) endpoint: Option<quinn::Endpoint>,
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The URL cannot be used.
    #[error("{url:?} is no address of a server: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The trust anchors cannot be used.
    #[error("{0}")]
    Tls(Arc<InvalidTls>),
    /// The name has no address.
    #[error("the name {host:?} cannot be resolved: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// No address answered in time.
    #[error("no answer from {0} in time: is the server running, and does UDP get through?")]
    TimedOut(String),
    /// The certificate is not trusted.
    #[error("the certificate of {host} is not trusted: {reason}")]
    Untrusted {
        /// The server.
        host: String,
        /// Why.
        reason: String,
    },
    /// The HTTP/3 CONNECT was answered by another status than 200 (PROTOCOL §2.2), or the WebSocket's request by another than 101
    /// (PROTOCOL §2.4).
    #[error("the server refused the session with HTTP {0}")]
    Refused(u16),
    /// Anything else.
    #[error("cannot connect to {host}: {reason}")]
    Failed {
        /// The server.
        host: String,
        /// Why.
        reason: String,
    },
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, DialError> {
        let fail = |reason: &str| DialError::Url {
            url: text.to_owned(),
            reason: reason.to_owned(),
        };
        let mut url = Url::parse(text).map_err(|error| fail(&error.to_string()))?;
        let transport = match url.scheme() {
            "quic" => Transport::Quic,
            "https" => Transport::WebTransport,
            "wss" | "ws" => Transport::WebSocket,
            _ => return Err(fail("the scheme is quic://, https://, wss:// or ws://")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fail("credentials go into the token, not into the URL"));
        }
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| fail("it has no host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = match (transport, url.port()) {
            (_, Some(port)) => port,
            (Transport::Quic, None) => PORT,
            (_, None) => url.port_or_known_default().unwrap_or(443),
        };
        if transport != Transport::Quic && url.path() == "/" {
            url.set_path(WEBTRANSPORT_PATH);
        }
        Ok(Self {
            transport,
            host,
            port,
            url,
        })
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        let fail = |reason: String| DialError::Resolve {
            host: self.host.clone(),
            reason,
        };
        let found: Vec<_> = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| fail(error.to_string()))?
            .collect();
        if found.is_empty() {
            return Err(fail("no address".to_owned()));
        }
        Ok(found)
    }
}

/// How packets or bytes get there.
#[derive(Clone)]
enum Way {
    Quic(ClientConfig),
    /// With TLS, where it is not `ws://`.
    Tcp(Option<TlsConnector>),
}

/// What connects to one server, again and again. It keeps the TLS configuration, and in it the server's session tickets: the
/// next connection resumes the TLS session of the one before. 0-RTT is not used.
#[derive(Clone)]
pub(crate) struct Dialer {
    target: Target,
    way: Way,
    max_streams: u32,
    keep_alive: Duration,
    /// Where it is absent, each attempt has a socket of its own.
    socket: Option<Socket>,
}

impl Dialer {
    pub(crate) fn new(
        target: Target,
        trust: &Trust,
        max_streams: u32,
        keep_alive: Duration,
        socket: Option<Socket>,
    ) -> Result<Self, DialError> {
        let tls = |error| DialError::Tls(Arc::new(error));
        let way = match target.transport {
            Transport::WebSocket if target.url.scheme() == "ws" => Way::Tcp(None),
            Transport::WebSocket => {
                let crypto = client_crypto(trust, HTTP.as_bytes()).map_err(tls)?;
                Way::Tcp(Some(Arc::new(crypto).into()))
            }
            transport => Way::Quic(client_config(transport, trust, max_streams, keep_alive)?),
        };
        Ok(Self {
            target,
            way,
            max_streams,
            keep_alive,
            socket,
        })
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    /// Connects within `deadline`: all addresses of the name, each a moment after the one before, and the first that answers
    /// wins.
    pub(crate) async fn dial(&self, deadline: Duration) -> Result<Connection, DialError> {
        let target = &self.target;
        // The most telling of the answers, should time run out while another address is silent.
        let mut told = DialError::TimedOut(target.to_string());
        let all = async {
            let addresses = target.resolve().await?;
            let mut attempts: FuturesUnordered<_> = addresses
                .into_iter()
                .zip(0..)
                .map(|(address, turn)| async move {
                    sleep(STAGGER * turn).await;
                    self.attempt(address).await
                })
                .collect();
            while let Some(done) = attempts.next().await {
                match done {
                    Ok(connection) => return Ok(Some(connection)),
                    Err(error) if error.weight() >= told.weight() => told = error,
                    Err(_) => {}
                }
            }
            Ok(None)
        };
        match timeout(deadline, all).await {
            Ok(Ok(Some(connection))) => Ok(connection),
            Ok(Ok(None)) | Err(_) => Err(told),
            Ok(Err(error)) => Err(error),
        }
    }

    async fn attempt(&self, address: SocketAddr) -> Result<Connection, DialError> {
        match &self.way {
            Way::Quic(config) => self.attempt_quic(address, config).await,
            Way::Tcp(tls) => self.attempt_tcp(address, tls.as_ref()).await,
        }
    }

    async fn attempt_tcp(
        &self,
        address: SocketAddr,
        tls: Option<&TlsConnector>,
    ) -> Result<Connection, DialError> {
        let target = &self.target;
        let fail = |reason: String| DialError::Failed {
            host: target.host.clone(),
            reason,
        };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(|error| fail(format!("no TCP socket: {error}")))?;
        // What is left of the connection for a minute keeps no server of this machine from its port.
        let _ = socket.set_reuseaddr(true);
        let socket = socket.connect(address).await;
        let socket = socket.map_err(|error| fail(error.to_string()))?;
        let _ = socket.set_nodelay(true);
        let (url, streams, every) = (&target.url, self.max_streams, self.keep_alive);
        let Some(tls) = tls else {
            let opened = websocket::connect(socket, url, address, streams, every, fail).await?;
            return Ok(opened);
        };
        let name = ServerName::try_from(target.host.clone());
        let name = name.map_err(|error| fail(error.to_string()))?;
        let secured = tls.connect(name, socket).await;
        let socket = secured.map_err(|error| untrusted(target, &error))?;
        websocket::connect(socket, url, address, streams, every, fail).await
    }

    async fn attempt_quic(
        &self,
        address: SocketAddr,
        config: &ClientConfig,
    ) -> Result<Connection, DialError> {
        let target = &self.target;
        let fail = |reason: String| DialError::Failed {
            host: target.host.clone(),
            reason,
        };
        let endpoint = match &self.socket {
            Some(socket) => socket.endpoint(address),
            None => bind(address, None),
        };
        let endpoint = endpoint.map_err(|error| fail(format!("no UDP socket: {error}")))?;
        let connection = endpoint
            .connect_with(config.clone(), address, &target.host)
            .map_err(|error| fail(error.to_string()))?
            .await
            .map_err(|error| judge(target, error))?;
        let session = match target.transport {
            Transport::Quic => Session::raw(connection),
            Transport::WebTransport | Transport::WebSocket => {
                let request = ConnectRequest::new(target.url.clone()).with_protocol(SUBPROTOCOL);
                match Session::connect(connection, request).await {
                    Ok(session) => session,
                    Err(ClientError::HttpError(ConnectError::ProtoError(
                        proto::ConnectError::WrongStatus(Some(status)),
                    ))) => return Err(DialError::Refused(status.as_u16())),
                    Err(error) => return Err(fail(error.to_string())),
                }
            }
        };
        Ok(Connection(Kind::Client(Box::new(Dialled {
            session,
            transport: target.transport,
            // It is idle when all that share it are: no connection waits for the others.
            endpoint: self.socket.is_none().then_some(endpoint),
        }))))
    }
}

/// A UDP socket that clients share: [`Builder::socket`](crate::client::Builder::socket). Without it each client has one of its
/// own, which costs a file descriptor and a task. Cloning shares it.
///
/// It is bound to a free port when the first client connects, one for IPv4 and one for IPv6, and lives as long as a clone of it
/// or a client that uses it. It belongs to the tokio runtime of that first client.
#[derive(Debug, Clone, Default)]
pub struct Socket {
    bound: Arc<Mutex<Bound>>,
}

#[derive(Debug, Default)]
struct Bound {
    v4: Option<quinn::Endpoint>,
    v6: Option<quinn::Endpoint>,
}

impl Socket {
    /// A socket that nobody uses yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until none of its clients is connected and the last of them has told its server so:
    /// [`Client::close`](crate::client::Client::close) does not wait for that on a shared socket. Cancel safe.
    pub async fn idle(&self) {
        let (v4, v6) = {
            let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
            (bound.v4.clone(), bound.v6.clone())
        };
        for endpoint in [v4, v6].into_iter().flatten() {
            endpoint.wait_idle().await;
        }
    }

    /// The one that reaches this address.
    fn endpoint(&self, address: SocketAddr) -> io::Result<quinn::Endpoint> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let Bound { v4, v6 } = &mut *bound;
        let place = if address.is_ipv4() { v4 } else { v6 };
        match place {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(place.insert(bind(address, Some(SHARED_BUFFER))?).clone()),
        }
    }
}

/// A socket on a free port that reaches this address, with room for so many bytes that arrive, or as many as the system allows.
fn bind(address: SocketAddr, room: Option<usize>) -> io::Result<quinn::Endpoint> {
    let any: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let Some(room) = room else {
        return quinn::Endpoint::client(any);
    };
    let socket = UdpSocket::bind(any)?;
    let state = quinn::udp::UdpSocketState::new((&socket).into())?;
    let _ = state.set_recv_buffer_size((&socket).into(), room);
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(EndpointConfig::default(), None, socket, runtime)
}

impl DialError {
    /// How much it says about the server.
    const fn weight(&self) -> u8 {
        match self {
            Self::Untrusted { .. } | Self::Refused(_) => 2,
            Self::TimedOut(_) => 0,
            _ => 1,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn client_config(
    transport: Transport,
    trust: &Trust,
    max_streams: u32,
    keep_alive: Duration,
) -> Result<ClientConfig, DialError> {
    let alpn = match transport {
        Transport::Quic => ALPN,
        Transport::WebTransport | Transport::WebSocket => web_transport_quinn::ALPN,
    };
    let tls = |error| DialError::Tls(Arc::new(error));
    let crypto = client_crypto(trust, alpn.as_bytes()).map_err(tls)?;
    let crypto = QuicClientConfig::try_from(crypto).map_err(|error: NoInitialCipherSuite| {
        tls(InvalidTls::Rustls(rustls::Error::General(
            error.to_string(),
        )))
    })?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut settings = TransportConfig::default();
    settings
        // Three for HTTP/3 itself.
        .max_concurrent_uni_streams(VarInt::from_u32(max_streams.saturating_add(3)))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_RECEIVE_WINDOW.into())
        .datagram_receive_buffer_size(Some(64 * 1024))
        .datagram_send_buffer_size(64 * 1024)
        .keep_alive_interval(Some(keep_alive))
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok());
    config.transport_config(Arc::new(settings));
    Ok(config)
}

/// What became of a TLS handshake over TCP.
fn untrusted(target: &Target, error: &io::Error) -> DialError {
    let host = target.host.clone();
    let reason = error.to_string();
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => DialError::Untrusted { host, reason },
        _ => DialError::Failed { host, reason },
    }
}

/// The reason in words that help.
fn judge(target: &Target, error: quinn::ConnectionError) -> DialError {
    let host = target.host.clone();
    match error {
        quinn::ConnectionError::TimedOut => DialError::TimedOut(format!("{host}:{}", target.port)),
        quinn::ConnectionError::TransportError(error)
            if error.code == quinn::TransportErrorCode::crypto(120) =>
        {
            DialError::Failed {
                host,
                reason: "no protocol in common: it does not speak Tidings on this port".to_owned(),
            }
        }
        // TLS alerts from bad_certificate (42) to unknown_ca (48), access_denied (49: a pinned hash that does not match) and
        // decrypt_error (51: a bad signature), raised on this side.
        quinn::ConnectionError::TransportError(error)
            if [42, 43, 44, 45, 46, 47, 48, 49, 51]
                .into_iter()
                .any(|alert| error.code == quinn::TransportErrorCode::crypto(alert)) =>
        {
            DialError::Untrusted {
                host,
                reason: error.reason,
            }
        }
        quinn::ConnectionError::ConnectionClosed(close)
            if close.error_code == quinn::TransportErrorCode::crypto(120) =>
        {
            DialError::Failed {
                host,
                reason: "no protocol in common: it does not speak Tidings on this port".to_owned(),
            }
        }
        quinn::ConnectionError::ConnectionClosed(close)
            if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED =>
        {
            DialError::Failed {
                host,
                reason: "the server refuses connections now: it is overloaded or shutting down"
                    .to_owned(),
            }
        }
        other => DialError::Failed {
            host,
            reason: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_picks_the_transport_and_the_default_port() {
        let quic = Target::parse("quic://example.org").unwrap();
        assert_eq!(
            (quic.transport, quic.port, quic.host.as_str()),
            (Transport::Quic, 4433, "example.org")
        );
        let web = Target::parse("https://[::1]:4433").unwrap();
        assert_eq!(
            (web.transport, web.port, web.host.as_str()),
            (Transport::WebTransport, 4433, "::1")
        );
        assert_eq!(web.url.path(), "/tidings");
        assert_eq!(Target::parse("https://example.org").unwrap().port, 443);
    }

    #[test]
    fn a_url_that_cannot_be_used_says_why() {
        for (url, wanted) in [
            ("example.org", "relative URL"),
            ("http://example.org", "quic://, https://"),
            ("quic://u:p@example.org", "token"),
            ("quic://", "no host"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(
                error.contains(wanted) && error.contains(url),
                "{url}: {error}"
            );
        }
    }
}

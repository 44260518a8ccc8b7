//! QUIC, and WebTransport over it (PROTOCOL §2.1, §2.2).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig},
};
use web_transport_quinn::{
    ClientError, ConnectError, Session,
    proto::{self, ConnectRequest},
};

use super::{
    DialError, Dialer, IDLE, STREAM_RECEIVE_WINDOW, Target,
    idle::{Crypto, PeerIdle},
};
use crate::{
    transport::{
        Connection, Kind, Transport,
        quiet::quietly,
        tls::{InvalidTls, Trust, client_crypto, plain},
    },
    wire::{ALPN, SUBPROTOCOL},
};

/// Asked of the system for what arrives at a socket that clients share. What it gives unasked was too little for 31 of them that are told
/// the same at once: a lost CONNECTION_CLOSE is noticed after 10 s.
const SHARED_BUFFER: usize = 4 << 20;

/// A connection that this side made.
#[derive(Clone)]
pub(in crate::transport) struct Dialled {
    pub(in crate::transport) session: Session,
    pub(in crate::transport) transport: Transport,
    /// It says when the last packet is out, where it is this connection's alone.
    pub(in crate::transport) endpoint: Option<quinn::Endpoint>,
    idle: PeerIdle,
}

impl Dialled {
    /// Silence after which the server gives up.
    pub(in crate::transport) fn peer_idle(&self) -> Option<Duration> {
        self.idle.get().copied()
    }
}

/// What the connections of a dialer share.
#[derive(Clone)]
pub(super) struct Config {
    crypto: Arc<QuicClientConfig>,
    transport: Arc<TransportConfig>,
}

impl Config {
    /// For one connection.
    fn client(&self, idle: &PeerIdle) -> ClientConfig {
        let mut config = ClientConfig::new(Arc::new(Crypto {
            config: Arc::clone(&self.crypto),
            idle: Arc::clone(idle),
        }));
        config.transport_config(Arc::clone(&self.transport));
        config
    }
}

impl Dialer {
    pub(super) async fn attempt_quic(
        &self,
        address: SocketAddr,
        config: &Config,
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
        let idle = PeerIdle::default();
        let connection = endpoint
            .connect_with(config.client(&idle), address, &target.host)
            .map_err(|error| fail(error.to_string()))?
            .await
            .map_err(|error| judge(target, error))?;
        let session = match target.transport {
            Transport::Quic => Session::raw(connection),
            Transport::WebTransport | Transport::WebSocket => {
                let request = ConnectRequest::new(target.url.clone()).with_protocol(SUBPROTOCOL);
                match quietly(Session::connect(connection, request)).await {
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
            idle,
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

pub(super) fn client_config(
    transport: Transport,
    trust: &Trust,
    max_streams: u32,
    keep_alive: Duration,
) -> Result<Config, DialError> {
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
    Ok(Config {
        crypto: Arc::new(crypto),
        transport: Arc::new(settings),
    })
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
                reason: plain(&error.reason).to_owned(),
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

//! The accept side: one port for all workers, and the ALPN split (PROTOCOL §2).

mod bind;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use quinn_proto::{IdleTimeout, TransportConfig};
use tokio::time::timeout;

use super::{
    Connection, Kind, Upgrade,
    admission::{Admission, Permit},
    congestion, connect,
    crypto::{QUIC_V1, ServerCrypto},
    driver::{self, Arrived, Driver, Port},
    origin::Allowed,
    tcp::{self, Caller, Door},
    tls::{Certificate, CertificateStore, InvalidTls, server_crypto},
};
use crate::wire::Code;
use bind::Ports;

/// Bounds of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Which pages may connect.
    pub(crate) origins: Allowed,
    /// Handshakes in flight above which a client must first prove its address (Retry).
    pub(crate) soft_handshakes: usize,
    /// Handshakes in flight above which a client takes the place of another, or is refused.
    pub(crate) hard_handshakes: usize,
    /// TCP connections that may be open.
    pub(crate) tcp_connections: usize,
    /// Total time for the QUIC handshake, and again for the WebTransport CONNECT.
    pub(crate) deadline: Duration,
    /// Silence after which a connection is given up.
    pub(crate) idle: Duration,
    /// WebSockets are served on the same port over TCP.
    pub(crate) websockets: bool,
    /// Where they are served without TLS.
    pub(crate) plain: Option<SocketAddr>,
}

/// Most bytes that a client may have in flight to us before it is authenticated.
pub(super) const RECEIVE_WINDOW: u32 = 256 * 1024;
/// The same for one stream: the control stream's only.
pub(super) const STREAM_RECEIVE_WINDOW: u32 = 128 * 1024;
/// Unacknowledged bytes a connection may hold. More of it lets a slow reader hold memory and puts stale data below the log's
/// own policy; less of it limits a fast reader far away (1 MiB is 160 Mbit/s at 50 ms).
const SEND_WINDOW: u64 = 1024 * 1024;
/// The control stream, WebTransport's CONNECT, and one to refuse politely.
pub(super) const BIDI_STREAMS: u32 = 3;
/// HTTP/3's control stream and two of QPACK. quinn allocates a slot for each permitted stream.
const UNI_STREAMS: u32 = 3;

/// Bytes of a datagram that clients are told to send at most, the least that QUIC allows (RFC 9000 §18.2). Clients send little; told
/// more, those with quinn look for the path's limit with four large datagrams each, which cost us 20 µs of a handshake's 150.
const LARGEST_FROM_CLIENTS: u16 = 1200;

/// A bound port, whose workers are served by a [`Worker`] each.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    plain: Option<SocketAddr>,
    certificates: Arc<CertificateStore>,
    ports: Vec<Arc<Port>>,
}

/// One worker's part of a port, before it runs.
pub(crate) struct Binding {
    socket: UdpSocket,
    endpoint: quinn_proto::EndpointConfig,
    server: Arc<quinn_proto::ServerConfig>,
    port: Arc<Port>,
    tcp: Vec<tcp::Port>,
    config: Arc<Config>,
}

/// One worker's part of a port: everything happens in its [`poll`](Self::poll). Dropping it frees its part of the port.
pub(crate) struct Worker {
    driver: Driver,
    tcp: Vec<Door>,
    config: Arc<Config>,
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
    /// The operating system says no to the same port over TCP, which is for WebSockets.
    #[error("cannot listen on TCP {address}: {source}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The operating system says no to the port for WebSockets without TLS.
    #[error("cannot listen on TCP {address}, for WebSockets without TLS: {source}")]
    PlainTcp {
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
    connection: driver::Connection,
    config: Arc<Config>,
    permit: Permit,
}

/// A client's connection during its handshakes.
#[derive(Debug)]
pub(crate) struct Unfinished(driver::Connection);

/// Why an arrival did not become a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the handshake took too long")]
    TimedOut,
    #[error("the QUIC handshake failed: {0}")]
    Quic(String),
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    #[error("the WebTransport handshake failed: {0}")]
    WebTransport(String),
    #[error("refused with HTTP {status}: {reason}")]
    Refused { status: u16, reason: String },
}

impl Listener {
    /// Binds a UDP port for `workers` workers; 0 takes a free port.
    pub(crate) fn bind(
        address: SocketAddr,
        certificate: Certificate,
        config: Config,
        workers: u8,
    ) -> Result<(Self, Vec<Binding>), BindError> {
        let certificates = Arc::new(CertificateStore::new(certificate.clone()));
        let Ports {
            bound,
            udp,
            tcp,
            plain,
        } = Ports::bind(address, workers, &config, &certificates)?;
        let resets = certificate.reset_key(&bind::place(bound));
        let crypto = server_crypto(Arc::clone(&certificates))?;
        let crypto = ServerCrypto::new(crypto).map_err(InvalidTls::Rustls)?;
        let mut server = quinn_proto::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(transport(&config)))
            .max_incoming(1024)
            .incoming_buffer_size(8 * 1024)
            .incoming_buffer_size_total(4 * 1024 * 1024);
        let server = Arc::new(server);
        let config = Arc::new(config);
        // With one key for all, so that each worker's stateless resets are those of the port.
        let mut endpoint = quinn_proto::EndpointConfig::new(Arc::new(resets));
        endpoint.supported_versions(vec![QUIC_V1]);
        // After a restart everybody asks at once, and who gets no answer asks again ever later. An answer is smaller than what asked
        // for it, and costs less than the Retry that every first packet may ask for.
        endpoint.min_reset_interval(Duration::ZERO);
        endpoint
            .max_udp_payload_size(LARGEST_FROM_CLIENTS)
            .unwrap_or_else(|_| unreachable!("it is what QUIC requires"));
        let admission = Admission::new(config.soft_handshakes, config.hard_handshakes);
        let ports = Port::all(workers, &admission);
        let bindings = udp.into_iter().zip(&ports).map(|(socket, port)| Binding {
            socket,
            endpoint: endpoint.clone(),
            server: Arc::clone(&server),
            port: Arc::clone(port),
            tcp: tcp.clone(),
            config: Arc::clone(&config),
        });
        let bindings = bindings.collect();
        let listener = Self {
            address: bound,
            plain,
            certificates,
            ports,
        };
        Ok((listener, bindings))
    }

    pub(crate) const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Where WebSockets are served without TLS.
    pub(crate) const fn plain_address(&self) -> Option<SocketAddr> {
        self.plain
    }

    /// Shows another certificate from the next handshake on.
    pub(crate) fn set_certificate(&self, certificate: Certificate) {
        self.certificates.set(certificate);
    }

    /// Refuses newcomers from now on; connections live on.
    pub(crate) fn stop_accepting(&self) {
        for port in &self.ports {
            port.refuse();
        }
    }
}

impl Binding {
    /// To be called in the worker's tokio runtime, which needs I/O and time.
    pub(crate) fn start(self) -> std::io::Result<Worker> {
        let Self {
            socket,
            endpoint,
            server,
            port,
            tcp,
            config,
        } = self;
        let driver = Driver::new(socket, endpoint, server, port, idle(&config))?;
        let tcp = tcp
            .into_iter()
            .map(tcp::Port::start)
            .collect::<Result<_, _>>()?;
        Ok(Worker {
            driver,
            tcp,
            config,
        })
    }
}

impl Worker {
    /// Does what there is to do, and wakes the task when there is more.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        self.driver.poll(cx);
    }

    /// What the system is made to say.
    #[cfg(all(test, feature = "client"))]
    pub(super) const fn faults(&mut self) -> &mut driver::Faults {
        self.driver.faults()
    }

    /// The next client that is let in; `None` until a later [`poll`](Self::poll).
    pub(crate) fn next_arrival(&mut self) -> Option<Arrival> {
        let Arrived { connection, permit } = self.driver.next_arrival()?;
        Some(Arrival {
            connection,
            config: Arc::clone(&self.config),
            permit,
        })
    }

    /// The next client that is let in over TCP; `None` until the task is woken.
    pub(crate) fn next_caller(&mut self, cx: &mut Context<'_>) -> Option<Caller> {
        self.tcp
            .iter_mut()
            .find_map(|door| match door.poll_accept(cx) {
                Poll::Ready(caller) => Some(caller),
                Poll::Pending => None,
            })
    }

    /// Lets nobody in over TCP any more: the system refuses who comes when the last worker has said so.
    pub(crate) fn close_tcp(&mut self) {
        self.tcp.clear();
    }

    /// Closes what is still connected with `code`, and refuses whoever comes.
    pub(crate) fn close(&mut self, code: Code, reason: &str) {
        self.driver.close(code, reason);
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.driver.is_flushed()
    }

    /// Whether every connection has said its last word.
    pub(crate) const fn is_idle(&self) -> bool {
        self.driver.open() == 0
    }
}

impl Unfinished {
    /// Ends it, if it has not ended.
    pub(crate) fn close(&self, code: Code, reason: &str) {
        self.0.close(code, reason);
    }
}

impl Arrival {
    /// A handle to end it by while it finishes its handshakes. It keeps the connection open: to be dropped with them.
    pub(crate) fn unfinished(&self) -> Unfinished {
        Unfinished(self.connection.clone())
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Finishes the handshakes, each within its deadline. The permit is to be kept until the client is authenticated. Raw QUIC has no
    /// request.
    pub(crate) async fn handshake(
        self,
    ) -> Result<(Connection, Permit, Option<Upgrade>), HandshakeError> {
        let Self {
            connection,
            config,
            permit,
        } = self;
        timeout(config.deadline, connection.connected())
            .await
            .map_err(|_| HandshakeError::TimedOut)?
            .map_err(|error| HandshakeError::Quic(error.to_string()))?;
        let (connection, upgrade) = if !connection.speaks_http3() {
            (Connection(Kind::Quic(connection)), None)
        } else {
            let deadline = config.deadline;
            match timeout(
                deadline,
                connect::accept(connection.clone(), &config.origins),
            )
            .await
            {
                Ok(Ok((connection, upgrade))) => (connection, Some(upgrade)),
                Ok(Err(error)) => {
                    // Where it was answered with a status, it is closed already.
                    let reason = error.to_string();
                    connection.close(Code::PROTOCOL_VIOLATION, &reason);
                    return Err(error);
                }
                Err(_) => {
                    let reason = format!("no CONNECT within {} s", deadline.as_secs_f32());
                    connection.close(Code::HELLO_TIMEOUT, &reason);
                    return Err(HandshakeError::TimedOut);
                }
            }
        };
        Ok((connection, permit, upgrade))
    }
}

/// The idle timeout. QUIC takes none for unlimited, and so are longer ones.
fn idle(config: &Config) -> Duration {
    /// A year.
    const LONGEST: Duration = Duration::from_secs(365 * 86_400);
    match config.idle {
        Duration::ZERO => LONGEST,
        idle => idle.min(LONGEST),
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
        .congestion_controller_factory(Arc::new(congestion::Config))
        .datagram_receive_buffer_size(Some(64 * 1024))
        .datagram_send_buffer_size(driver::SEND_BUFFER)
        .max_idle_timeout(IdleTimeout::try_from(idle(config)).ok());
    transport
}

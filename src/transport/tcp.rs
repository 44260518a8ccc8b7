//! TCP, for networks that let no UDP through (PROTOCOL §2.4): with TLS on the same port number, and without it behind a proxy.

use std::{
    io,
    net::{SocketAddr, TcpListener as Bound},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;

use super::{
    admission::{Admission, Eviction, Permit, Tie},
    listener::HandshakeError,
    peer_log::{Throttle, throttled},
    shares::Prefix,
    sockets,
    tls::{CertificateStore, InvalidTls, handshake_failure, https_crypto},
};

/// Pause after the system refused to accept: it has no file descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(500);
/// Time from one warning of a shortage to the next, which counts what was refused meanwhile.
const AGAIN: Duration = Duration::from_secs(60);
/// Bytes that the system takes beyond what the network does: what waits there can no longer be chosen.
#[cfg(target_os = "linux")]
const NOT_SENT: u32 = 16 * 1024;

/// A bound port, to be shared by the workers.
#[derive(Clone)]
pub(super) struct Port {
    listener: Arc<Bound>,
    /// None behind a proxy that ends TLS.
    acceptor: Option<TlsAcceptor>,
    admission: Admission,
    /// Bound of open connections, for as long as they live; that of all ports.
    connections: Admission,
    shortage: Arc<Shortage>,
}

/// One worker's part of it.
pub(super) struct Door {
    listener: TcpListener,
    port: Port,
    pause: Option<Pin<Box<Sleep>>>,
}

/// A client that has not said yet what it wants. It counts against the limits until it is dropped.
pub(crate) struct Caller {
    stream: TcpStream,
    pub(crate) peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    permit: Permit,
    open: Permit,
}

/// What a client's bytes come over.
pub(crate) type Secured = Either<TlsStream<TcpStream>, TcpStream>;

impl Port {
    /// With TLS, and with bounds of its own: who floods it keeps nobody from the other port.
    pub(super) fn bind(
        address: SocketAddr,
        certificates: Arc<CertificateStore>,
        admission: Admission,
        connections: Admission,
    ) -> Result<Self, PortError> {
        let crypto = https_crypto(certificates).map_err(PortError::Tls)?;
        Ok(Self {
            acceptor: Some(Arc::new(crypto).into()),
            ..Self::listen(address, admission, connections).map_err(PortError::Socket)?
        })
    }

    /// The same without TLS.
    pub(super) fn plain(
        address: SocketAddr,
        admission: &Admission,
        connections: &Admission,
    ) -> io::Result<Self> {
        let (admission, connections) = (admission.behind_proxy(), connections.behind_proxy());
        Self::listen(address, admission, connections)
    }

    fn listen(
        address: SocketAddr,
        admission: Admission,
        connections: Admission,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: Arc::new(sockets::listen(address)?),
            acceptor: None,
            admission,
            connections,
            shortage: Arc::default(),
        })
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// To be called in the worker's tokio runtime.
    pub(super) fn start(self) -> io::Result<Door> {
        let listener = self.listener.try_clone()?;
        Ok(Door {
            listener: TcpListener::from_std(listener)?,
            port: self,
            pause: None,
        })
    }
}

/// Why a port is none.
pub(super) enum PortError {
    Socket(io::Error),
    Tls(InvalidTls),
}

/// Limit of the log lines about clients beyond the limit of handshakes.
pub(super) static FULL: Throttle = Throttle::new("handshakes beyond the limit");

impl Door {
    /// The next client that is let in.
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Caller> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(cx)) {
                Ok((stream, peer)) => {
                    let peer = sockets::canonical(peer);
                    // First, so that a connection that is refused ends no handshake.
                    let Some(open) = self.port.connections.enter(peer, Tie::Refuse) else {
                        self.port.shortage.refused();
                        continue;
                    };
                    let Some(permit) = self.port.admission.enter(peer, Tie::EndOldest) else {
                        // With a limit of 0.
                        throttled!(FULL, info, %peer, "refused: no TCP connection may be in its handshake");
                        continue;
                    };
                    adjust(&stream);
                    return Poll::Ready(Caller {
                        stream,
                        peer,
                        acceptor: self.port.acceptor.clone(),
                        permit,
                        open,
                    });
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                    ) => {}
                Err(error) => {
                    self.port.shortage.failed(&error);
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}

/// Connections that found no place or no descriptor: one warning, then a count.
#[derive(Default)]
struct Shortage(Mutex<Short>);

#[derive(Default)]
struct Short {
    warned: Option<Instant>,
    refused: u64,
}

impl Shortage {
    fn refused(&self) {
        self.count(
            "refused: all file descriptors for TCP connections are in use; raise the limit of open files (ulimit -n)",
        );
    }

    fn failed(&self, error: &io::Error) {
        self.count(&format!(
            "cannot accept a TCP connection, trying again: {error}"
        ));
    }

    fn count(&self, what: &str) {
        let now = Instant::now();
        let refused = {
            let mut short = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            short.refused += 1;
            let due = short.warned.is_none_or(|warned| now >= warned + AGAIN);
            if !due {
                return;
            }
            short.warned = Some(now);
            std::mem::take(&mut short.refused)
        };
        tracing::warn!(refused, "{what}");
    }
}

/// Small messages go at once, and what is written late is chosen late. A failure shows again when the socket is used.
pub(super) fn adjust(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT);
}

impl Caller {
    /// Handles that set what ends the connection: when its place is taken before there is a session, and when its descriptor is needed.
    pub(crate) fn evictions(&self) -> [Eviction; 2] {
        [self.permit.eviction(), self.open.eviction()]
    }

    /// Network address that limits count it by; `None` behind a proxy, which has one for all its clients.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        self.acceptor.is_some().then(|| self.peer.into())
    }

    /// The TLS handshake, where there is to be one. The first permit is to be kept until the client is authenticated, the
    /// second for as long as the connection.
    pub(crate) async fn secure(
        self,
        deadline: Duration,
    ) -> Result<(Secured, Permit, Permit), HandshakeError> {
        let Some(acceptor) = self.acceptor else {
            return Ok((Either::Right(self.stream), self.permit, self.open));
        };
        let accepted = timeout(deadline, acceptor.accept(self.stream)).await;
        let stream = accepted
            .map_err(|_| HandshakeError::TimedOut)?
            .map_err(|error| HandshakeError::Tls(handshake_failure(&error)))?;
        Ok((Either::Left(stream), self.permit, self.open))
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

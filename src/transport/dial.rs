//! The connecting side.

mod idle;
mod quic;
mod target;
mod tcp;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

pub(super) use self::quic::Dialled;
pub(crate) use self::target::Target;
pub use self::{quic::Socket, target::DialError};
use super::{
    Connection, Transport,
    tls::{HTTP, Trust, client_crypto},
};

/// Head start of one address over the next, as RFC 8305 §5 recommends.
const STAGGER: Duration = Duration::from_millis(250);
/// Bytes of one stream that the server may send and nobody has read. Far below the connection's window, which is unlimited
/// and so bounded by this times the streams: a channel that is not read holds up no other.
pub(super) const STREAM_RECEIVE_WINDOW: u32 = 256 * 1024;
/// Well below the server's idle timeout of 30 s.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// A server that gives up sooner is not sent signs of life more often than every third of this.
pub(crate) const SHORTEST_IDLE: Duration = Duration::from_millis(300);

/// How packets or bytes get there.
#[derive(Clone)]
enum Way {
    Quic(quic::Config),
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
        // This side has an idle timeout, too.
        let keep_alive = keep_alive.min(IDLE / 3);
        let tls = |error| DialError::Tls(Arc::new(error));
        let way = match target.transport {
            Transport::WebSocket if target.url.scheme() == "ws" => Way::Tcp(None),
            Transport::WebSocket => {
                let crypto = client_crypto(trust, HTTP.as_bytes()).map_err(tls)?;
                Way::Tcp(Some(Arc::new(crypto).into()))
            }
            transport => Way::Quic(quic::client_config(
                transport,
                trust,
                max_streams,
                keep_alive,
            )?),
        };
        Ok(Self {
            target,
            way,
            max_streams,
            keep_alive,
            socket,
        })
    }

    /// Silence after which a connection sends a PING.
    pub(crate) const fn keep_alive(&self) -> Duration {
        self.keep_alive
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
}

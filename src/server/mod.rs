//! Floor 4: everything that listens, put together.
//!
//! [`Builder`] takes the parts, [`Server`] runs until a future that the caller gives is ready, then drains. It spawns
//! nothing that it does not join: sessions live on the threads of its workers, the rest on the caller's runtime.

#[cfg(feature = "web")]
mod assets;
mod builder;
mod certificates;
#[cfg_attr(
    not(feature = "http"),
    allow(dead_code, reason = "the HTTP API alone checks heartbeats")
)]
mod heartbeat;
mod host;
#[cfg(feature = "http")]
pub mod http;
mod limits;
mod memory;
mod tcp;
mod worker;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Broker,
    session::Context,
    transport::{Sha256, listener::Listener, peer_log},
};

pub use crate::session::{Revocation, Sessions, TooManyRevocations};
pub use crate::transport::{BindError, Certificate, InvalidOrigin, InvalidTls, Origins};
pub use builder::Builder;
pub use certificates::CertificateFiles;
pub use limits::Limits;

use certificates::Certificates;
use worker::Workers;

/// How often idle channels are looked for. A channel so lives up to this much longer than its idle time; a sweep of
/// 100,000 channels takes a few milliseconds.
const SWEEP: Duration = Duration::from_secs(5);
/// How long those who come and go are gathered before they are told: a channel has four such publications a second at most.
const PRESENCE: Duration = Duration::from_millis(250);
/// Channels that are told of in one go before other tasks have their turn: a few microseconds each, a few milliseconds where a crowd
/// comes or goes.
const PRESENCE_BATCH: usize = 64;
/// For requests of the HTTP API in flight: what the API itself gives them, and a little more.
const HTTP_GRACE: Duration = Duration::from_secs(6);
/// Beyond the grace: for last words of sessions and of connections.
const WORKERS_LATE: Duration = Duration::from_secs(5);

/// A server that is bound to its ports.
#[derive(Debug)]
pub struct Server {
    listener: Arc<Listener>,
    context: Arc<Context>,
    certificates: Certificates,
    workers: Workers,
    begin: CancellationToken,
    #[cfg(feature = "http")]
    http: Option<builder::Http>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The UDP port or the certificate cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No certificate was given.
    #[error("a server needs a certificate: Builder::certificate, certificate_files or self_signed")]
    NoCertificate,
    /// No authenticator was given.
    #[error("a server needs an authenticator: a JwtAuthenticator, your own, or AllowAnonymous")]
    NoAuthenticator,
    /// A certificate file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate file cannot be used.
    #[error("{chain} and {key}: {source}", chain = .chain.display(), key = .key.display())]
    Certificate {
        /// The chain's file.
        chain: std::path::PathBuf,
        /// The key's file.
        key: std::path::PathBuf,
        /// Why.
        source: InvalidTls,
    },
    /// The TCP port of the HTTP API cannot be used.
    #[error("cannot listen on TCP {address}: {source}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// An entry of the list of origins cannot match.
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
    /// A worker's thread cannot be started.
    #[error("cannot start a worker: {0}")]
    Worker(std::io::Error),
}

impl Server {
    /// A server in the making.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Where QUIC and WebTransport are served: one UDP port for both; and WebSockets, on the TCP port of the same number.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.listener.local_address()
    }

    /// Where WebSockets are served without TLS, where they are.
    #[must_use]
    pub fn plain_websocket_address(&self) -> Option<SocketAddr> {
        self.listener.plain_address()
    }

    /// Where the HTTP API is served, where there is one.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
            .as_ref()
            .and_then(|http| http.listener.local_addr().ok())
    }

    /// SHA-256 of the certificate that is shown at the start.
    #[must_use]
    pub fn certificate_sha256(&self) -> Sha256 {
        self.certificates.first().sha256()
    }

    /// The broker: publish and subscribe in this process.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.context.broker
    }

    /// The open sessions: subscribe, unsubscribe, end and revoke them from outside.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.context.sessions
    }

    /// Exchanges the certificate for the handshakes that follow.
    pub fn set_certificate(&self, certificate: Certificate) {
        self.listener.set_certificate(certificate);
    }

    /// Serves until `shutdown` is ready, then drains: no newcomer is let in, no publication accepted, every session is told
    /// (`GoAway`), every stream is written to its end, for as long as [`Builder::grace`] allows; then all is closed with `going_away`.
    /// Whatever was accepted before is delivered to who reads in that time. When
    /// this returns the ports are free, unless user code still holds a `Session`. Dropping the future instead ends everything at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            listener,
            context,
            certificates,
            mut workers,
            begin,
            ..
        } = self;
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        tasks.spawn(sweep(context.broker.clone(), stop.clone()));
        tasks.spawn(presence(context.broker.clone(), stop.clone()));
        tasks.spawn(stalls(Arc::clone(&context), stop.clone()));
        tasks.spawn(certificates.watch(Arc::clone(&listener), stop.clone()));
        #[cfg(feature = "http")]
        if let Some(http) = self.http {
            let served = http::Served {
                broker: context.broker.clone(),
                sessions: context.sessions.clone(),
                rules: context.rules.clone(),
                heartbeats: workers.heartbeats(),
            };
            tasks.spawn(http.run(served, stop.clone()));
        }
        begin.cancel();

        tokio::select! {
            () = shutdown => tracing::info!("draining"),
            () = workers.one_ended() => tracing::error!("a worker ended by itself; draining"),
        }
        listener.stop_accepting();
        // First the broker, then the readers: who is at the head after this has everything.
        context.broker.close();
        context.drain.cancel();
        stop.cancel();
        // Workers bound themselves; who is late here is blocked by user code.
        let late = context.config.grace.saturating_add(WORKERS_LATE);
        let _ = timeout(late, workers.all_ended()).await;
        drop(workers);
        let _ = timeout(HTTP_GRACE, async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a task of the server failed");
                }
            }
        })
        .await;
        peer_log::report();
    }
}

async fn sweep(broker: Broker, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        peer_log::report();
        let evicted = broker.sweep();
        if evicted > 0 {
            tracing::debug!(evicted, "idle channels evicted");
        }
    }
}

/// Ends sessions whose clients take nothing.
async fn stalls(context: Arc<Context>, stop: CancellationToken) {
    let limit = context.config.stalled;
    let mut ticks = tokio::time::interval((limit / 8).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let mut last = context.sessions.end_stalled(None, limit);
        while last.is_some() {
            tokio::task::yield_now().await;
            last = context.sessions.end_stalled(last, limit);
        }
    }
}

/// Sleeps while nobody comes or goes.
async fn presence(broker: Broker, stop: CancellationToken) {
    let rounds = async {
        loop {
            broker.presence_changed().await;
            tokio::time::sleep(PRESENCE).await;
            // What changes from here on is of the next round.
            let mut due = broker.presence_due();
            while due > 0 {
                let batch = due.min(PRESENCE_BATCH);
                broker.tell_presence(batch);
                due -= batch;
                tokio::task::yield_now().await;
            }
        }
    };
    stop.run_until_cancelled(rounds).await;
}

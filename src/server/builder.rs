//! The parts of a server.

use std::{
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroU8,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::{
    Server, ServerError,
    certificates::{CertificateFiles, Certificates},
    limits::Limits,
    memory, tcp,
    worker::{self, Workers},
};
#[cfg(feature = "http")]
use crate::transport::sockets;
#[cfg(feature = "web")]
use crate::wire::WEBTRANSPORT_PATH;
use crate::{
    auth::{Authenticator, Rules},
    broker::{self, Broker, Retention, Shown, Shows},
    endpoint::Endpoint,
    session::{self, Context},
    transport::{
        BindError, Certificate, Origins, descriptors,
        listener::{self, Listener},
    },
    wire::{ChannelName, frame},
};

/// Default of [`Limits::user_memory`], unless that is more than a quarter of the memory.
const DEFAULT_USER_MEMORY: usize = 128 << 20;

/// What a frame may have beyond the message in it: channel, content type, and room for a message slightly above its limit to
/// be answered instead of closing the connection.
const FRAME_OVERHEAD: usize = 64 * 1024;

/// A [`Server`] in the making. A clone makes another server of the same parts.
#[derive(Clone)]
#[must_use = "a builder does nothing until it is bound"]
pub struct Builder {
    listen: SocketAddr,
    certificates: Option<Source>,
    authenticator: Option<Arc<dyn Authenticator>>,
    rules: Rules,
    limits: Limits,
    origins: Origins,
    endpoint: Option<Arc<dyn Endpoint>>,
    deadline: Duration,
    grace: Duration,
    idle: Duration,
    stalled: Duration,
    websockets: bool,
    plain_websockets: Option<SocketAddr>,
    channel_idle: Duration,
    workers: Option<NonZeroU8>,
    retention: Arc<dyn Fn(&ChannelName) -> Retention + Send + Sync>,
    #[cfg(feature = "http")]
    http: Option<(SocketAddr, super::http::ApiKey)>,
    #[cfg(feature = "web")]
    development: Option<(crate::auth::TokenIssuer, String)>,
}

#[derive(Clone)]
enum Source {
    Fixed(Certificate),
    Files(CertificateFiles),
    SelfSigned,
}

/// Where the HTTP API is served.
#[cfg(feature = "http")]
#[derive(Debug)]
pub(super) struct Http {
    pub(super) listener: tokio::net::TcpListener,
    key: super::http::ApiKey,
    body_limit: usize,
    connections: usize,
    pages: axum::Router,
}

#[cfg(feature = "http")]
impl Http {
    pub(super) async fn run(self, served: super::http::Served, stop: CancellationToken) {
        let Self {
            listener,
            key,
            body_limit,
            connections,
            pages,
        } = self;
        let bounds = (body_limit, connections);
        let served = super::http::serve(listener, served, key, bounds, pages, stop).await;
        if let Err(error) = served {
            tracing::error!(%error, "the HTTP API ended");
        }
    }
}

/// Names of a self-signed certificate.
const LOCAL_NAMES: &[&str] = &["localhost", "127.0.0.1", "::1"];
/// Validity of a self-signed certificate: a day less than browsers allow for one that is pinned.
const SELF_SIGNED: Duration = Duration::from_secs(13 * 24 * 3600);

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            listen: (Ipv6Addr::UNSPECIFIED, 4433).into(),
            certificates: None,
            authenticator: None,
            rules: Rules::default(),
            limits: Limits::default(),
            origins: Origins::List(Vec::new()),
            endpoint: None,
            deadline: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            stalled: Duration::from_secs(30),
            websockets: true,
            plain_websockets: None,
            channel_idle: Duration::from_secs(60),
            workers: None,
            retention: Arc::new(|_| Retention::default()),
            #[cfg(feature = "http")]
            http: None,
            #[cfg(feature = "web")]
            development: None,
        }
    }

    /// Address for QUIC and WebTransport over UDP and for [WebSockets](Self::websockets) over TCP; port 0 takes one that is free over
    /// both. Default `[::]:4433`.
    pub const fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// The certificate to show.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificates = Some(Source::Fixed(certificate));
        self
    }

    /// The certificate to show, from files that are read again when they change.
    pub fn certificate_files(mut self, files: CertificateFiles) -> Self {
        self.certificates = Some(Source::Files(files));
        self
    }

    /// A new self-signed certificate for `localhost`, `127.0.0.1` and `::1`, valid for 13 days: for development and tests.
    pub fn self_signed(mut self) -> Self {
        self.certificates = Some(Source::SelfSigned);
        self
    }

    /// Who may come in. There is no default: use a [`JwtAuthenticator`](crate::auth::JwtAuthenticator), your own, or, so that
    /// everybody may, [`AllowAnonymous`](crate::auth::AllowAnonymous).
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// Who may subscribe and publish to what. Default: [`Rules::default`].
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Bounds.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Which pages may connect over WebTransport and WebSockets. Default: none; clients that are no page always may.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// User code for each session. Default: none.
    pub fn endpoint(mut self, endpoint: impl Endpoint) -> Self {
        self.endpoint = Some(Arc::new(endpoint));
        self
    }

    /// Total time for each of the QUIC handshake, the WebTransport CONNECT, `Hello`, authentication and
    /// [`Endpoint::session_opened`]. Default 5 s.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Time for streams to drain at shutdown. Default 10 s.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Silence of a client after which its connection is given up, whatever is sent to it meanwhile: then its session leaves
    /// [`Server::sessions`](super::Server::sessions) and its channels with presence, which publish that within 250 ms. Default 30 s; zero is
    /// no limit. Clients
    /// send something in each third of it.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Time after which a client is disconnected, with `stalled`, that acknowledges or reads nothing while data waits for it, whatever else it
    /// sends. A client that takes a part in that time stays. Default 30 s.
    pub const fn stalled(mut self, stalled: Duration) -> Self {
        self.stalled = stalled;
        self
    }

    /// Whether WebSockets are served, on the TCP port of the same number, for networks that let no UDP through (PROTOCOL §2.4). Default:
    /// they are.
    pub const fn websockets(mut self, websockets: bool) -> Self {
        self.websockets = websockets;
        self
    }

    /// Serves WebSockets without TLS on this TCP address, too, for a proxy in front that ends TLS; port 0 takes a free one. A session's
    /// address is then the proxy's. Default: not served.
    pub const fn plain_websockets(mut self, address: SocketAddr) -> Self {
        self.plain_websockets = Some(address);
        self
    }

    /// Idle timeout of a channel: how long it is kept without readers and new publications, at least. A channel that holds publications
    /// younger than its [`Retention::age`] is kept longer. Default 60 s; it is looked for every 5 s.
    pub const fn channel_idle(mut self, idle: Duration) -> Self {
        self.channel_idle = idle;
        self
    }

    /// Threads that serve connections, each with its part of the port. Default: one for each core that this process may use, at most
    /// 64; one where the system cannot share a port among sockets (it is not Linux).
    pub const fn workers(mut self, workers: NonZeroU8) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How much of which channel is kept. Default: [`Retention::default`] of each. Where a rule delivers only the newest publications
    /// ([`OnLag::Latest`](crate::auth::OnLag::Latest), [`OnLag::LatestPerKey`](crate::auth::OnLag::LatestPerKey), datagrams), the latest is
    /// kept in any case.
    pub fn retention(
        mut self,
        retention: impl Fn(&ChannelName) -> Retention + Send + Sync + 'static,
    ) -> Self {
        self.retention = Arc::new(retention);
        self
    }

    /// Serves the HTTP publish API on this TCP address; port 0 takes a free one. Default: not served.
    #[cfg(feature = "http")]
    pub fn http(mut self, address: SocketAddr, key: super::http::ApiKey) -> Self {
        self.http = Some((address, key));
        self
    }

    /// Serves a page to try the server with, at `/` of the [HTTP API](Self::http). **For development only**: whoever reaches that address
    /// from this machine is given a token for any user, signed by `issuer`, and `key`, which is to be that of the API. Default: not served.
    #[cfg(feature = "web")]
    pub fn development(mut self, issuer: crate::auth::TokenIssuer, key: impl Into<String>) -> Self {
        self.development = Some((issuer, key.into()));
        self
    }

    /// The addresses that a server of these parts was bound to, in place of those that were asked for.
    #[cfg(feature = "test-util")]
    pub(crate) fn at(mut self, server: &Server) -> Self {
        self.listen = server.local_address();
        self.plain_websockets = server.plain_websocket_address();
        #[cfg(feature = "http")]
        if let (Some((address, _)), Some(bound)) = (&mut self.http, server.http_address()) {
            *address = bound;
        }
        self
    }

    /// Binds the ports. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`ServerError`] says which part is missing or cannot be used.
    pub async fn bind(self) -> Result<Server, ServerError> {
        let authenticator = self.authenticator.ok_or(ServerError::NoAuthenticator)?;
        let certificates = match self.certificates.ok_or(ServerError::NoCertificate)? {
            Source::Fixed(certificate) => Certificates::fixed(certificate),
            Source::Files(files) => Certificates::files(files)?,
            Source::SelfSigned => {
                let (certificate, ..) =
                    Certificate::self_signed(LOCAL_NAMES, SystemTime::now(), SELF_SIGNED)
                        .map_err(BindError::Tls)?;
                Certificates::fixed(certificate)
            }
        };
        let origins = self.origins.compile()?;
        let workers = self.workers.map_or_else(default_workers, NonZeroU8::get);
        let descriptors = descriptors::Budget::new(workers);
        let (listener, bindings) = Listener::bind(
            self.listen,
            certificates.first().clone(),
            listener::Config {
                origins: origins.clone(),
                websockets: self.websockets,
                plain: self.plain_websockets,
                soft_handshakes: self.limits.soft_handshakes,
                hard_handshakes: self.limits.hard_handshakes,
                tcp_connections: self.limits.tcp_connections.unwrap_or(descriptors.clients),
                deadline: self.deadline,
                idle: self.idle,
            },
            workers,
        )?;
        #[cfg(feature = "http")]
        let http = match self.http {
            Some((address, key)) => Some(Http {
                listener: sockets::listen(sockets::supported(address))
                    .and_then(tokio::net::TcpListener::from_std)
                    .map_err(|source| ServerError::Http { address, source })?,
                key,
                // JSON may write a byte of text as six, and something stands around it.
                body_limit: self.limits.message * 6 + 4096,
                connections: descriptors.api,
                #[cfg(feature = "web")]
                // Beyond this machine nobody is given keys, whatever a request says of its host.
                pages: super::http::pages::router(self.development.filter(|_| address.ip().is_loopback()).map(|(issuer, api_key)| {
                    super::http::pages::Development {
                        url: format!("https://{}{WEBTRANSPORT_PATH}", listener.local_address()),
                        websocket: listener.plain_address().map(|plain| format!("http://{plain}{WEBTRANSPORT_PATH}")),
                        certificate: certificates.first().sha256(),
                        issuer,
                        api_key,
                    }
                })),
                #[cfg(not(feature = "web"))]
                pages: axum::Router::new(),
            }),
            None => None,
        };
        let memory = self.limits.memory.unwrap_or_else(memory::default_limit);
        let user_memory = self.limits.user_memory;
        let broker = Broker::new(broker::Config {
            max_channels: self.limits.channels,
            session_channels: self.limits.session_channels,
            user_channels: self.limits.user_channels,
            memory,
            user_memory: user_memory.unwrap_or_else(|| DEFAULT_USER_MEMORY.min(memory / 4)),
            max_message: self.limits.message,
            idle: self.channel_idle,
            retention: retained(self.rules.clone(), self.retention),
            presence: shown(self.rules.clone()),
            ..broker::Config::default()
        });
        let context = Context {
            broker,
            authenticator,
            rules: self.rules,
            config: session::Config {
                limits: frame::Limits {
                    message: self.limits.message as u64,
                    frame: (self.limits.message + FRAME_OVERHEAD) as u64,
                    subscriptions: self.limits.subscriptions,
                },
                deadline: self.deadline,
                grace: self.grace,
                stalled: self.stalled,
                idle: self.idle,
            },
            opened: self.endpoint.map(|endpoint| -> session::Opened {
                Arc::new(move |session| {
                    let endpoint = Arc::clone(&endpoint);
                    Box::pin(async move { endpoint.session_opened(&session).await })
                })
            }),
            sessions: session::Sessions::new(session::SessionLimits {
                total: self.limits.sessions,
                per_user: self.limits.sessions_per_user,
                per_address: self.limits.sessions_per_address,
            }),
            drain: CancellationToken::new(),
        };
        let context = Arc::new(context);
        let begin = CancellationToken::new();
        let common = worker::Common {
            context: Arc::clone(&context),
            tcp: Arc::new(tcp::Config {
                origins,
                deadline: self.deadline,
                idle: self.idle,
            }),
            begin: begin.clone(),
            abort: CancellationToken::new(),
        };
        Ok(Server {
            workers: Workers::start(bindings, common).map_err(ServerError::Worker)?,
            listener: Arc::new(listener),
            context,
            certificates,
            begin,
            #[cfg(feature = "http")]
            http,
        })
    }
}

/// The retention of each channel, which keeps the latest publication where a rule delivers only the newest.
fn retained(
    rules: Rules,
    retention: Arc<dyn Fn(&ChannelName) -> Retention + Send + Sync>,
) -> Arc<dyn Fn(&ChannelName) -> Retention + Send + Sync> {
    Arc::new(move |channel| {
        let mut retention = retention(channel);
        let rule = rules.matching(channel);
        retention.keep_latest |= rule.is_some_and(|rule| rule.delivery.is_of_states());
        retention
    })
}

/// What the rules tell of who is in a channel.
fn shown(rules: Rules) -> Arc<Shows> {
    Arc::new(move |channel| {
        let rule = rules.matching(channel).filter(|rule| rule.presence)?;
        Some(if rule.hide_publisher {
            Shown::Numbers
        } else {
            Shown::Users
        })
    })
}

/// A worker for each core: it sleeps where nothing is to be done, and there is no more to share out.
fn default_workers() -> u8 {
    const MAX: usize = 64;
    if !cfg!(target_os = "linux") {
        return 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    cores.min(MAX) as u8
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("listen", &self.listen)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

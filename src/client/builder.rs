//! The parts of a client.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Client, ClientError, Shared, State, Welcomed, backoff,
    driver::{self, Driver},
    line::Line,
    link::Link,
    paths::Paths,
    registry::Registry,
    token::{Token, TokenError},
};
use crate::{
    transport::{
        Trust,
        dial::{DialError, Dialer, KEEP_ALIVE, Socket, Target},
    },
    wire::Retry,
};

/// A [`Client`] in the making.
///
/// ```
/// use std::time::Duration;
/// use tidings::{
///     Message,
///     client::{Client, TokenError, Transport, Trust},
///     testing::TestServer,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = TestServer::start().await;
/// # let issued = server.token("ann");
/// let client = Client::builder(server.url(Transport::Quic))
///     .trust(Trust::Hashes(vec![server.certificate_sha256()]))
///     // Asked for each connection, and before a token ends.
///     .token_provider(move || {
///         let signed_in = Some(issued.clone());
///         async move { signed_in.ok_or(TokenError::SignedOut) }
///     })
///     .deadline(Duration::from_secs(5))
///     .connect()
///     .await?;
/// let mut room = client.subscribe("chat-room-1").await?;
/// client.publish("chat-room-1", Message::text("hello")).await?;
/// let publication = room.next_publication().await.ok_or("it ended")?;
/// assert_eq!(publication.publisher.as_deref(), Some("ann"));
/// client.close().await;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it connects"]
#[derive(Debug)]
pub struct Builder {
    url: String,
    trust: Trust,
    max_streams: u32,
    keep_alive: Duration,
    socket: Option<Socket>,
    fallback: Option<String>,
    retry: Option<Duration>,
    settings: Settings,
}

/// What every session of a client begins with.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) token: Token,
    pub(super) name: String,
    pub(super) deadline: Duration,
    pub(super) max_frame: usize,
    pub(super) reconnect: bool,
    /// In place of a fixed token, since it was refreshed.
    pub(super) refreshed: Arc<Mutex<Option<String>>>,
}

impl Builder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            trust: Trust::System,
            max_streams: 256,
            keep_alive: KEEP_ALIVE,
            socket: None,
            fallback: None,
            retry: None,
            settings: Settings {
                token: Token::None,
                name: concat!("tidings-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
                deadline: Duration::from_secs(10),
                max_frame: 16 << 20,
                reconnect: true,
                refreshed: Arc::default(),
            },
        }
    }

    /// Another URL than [`Client::builder`] was given: with a query that the server's authenticator reads, for example.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// The token to show, on every connection.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Token::Fixed(token.into());
        self
    }

    /// Source of tokens, asked before each connection, and some time before a token ends, so that the session goes on: 60 to 90 s
    /// before, or 20 to 30 % of the lifetime where that is less. A token of 3 s or less is not renewed; its session ends, and is
    /// followed by another. An error is tried again after a pause: see [`token_provider`](Self::token_provider) for one that is final.
    pub fn token_from<F>(self, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        self.token_provider(move || {
            let asked = ask();
            async move { asked.await.map_err(TokenError::Unavailable) }
        })
    }

    /// Source of tokens as for [`token_from`](Self::token_from), which may also say [`TokenError::SignedOut`]: then
    /// [`connect`](Self::connect) fails with [`ClientError::SignedOut`], and a client that is connected ends.
    pub fn token_provider<F>(mut self, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        self.settings.token = Token::Asked(Arc::new(move || Box::pin(ask())));
        self
    }

    /// Which server to believe. Default: the system's roots.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// How this client calls itself in the server's logs. Default: the library's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Total time for one attempt to connect, up to the server's `Welcome`. Default 10 s.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// Streams that the server may have open. Default 256: one a subscription, and beyond that subscriptions share the last four (PROTOCOL
    /// §5.7). Each that is not read holds up to 256 KiB, a shared one up to 16 MiB.
    pub const fn max_streams(mut self, streams: u32) -> Self {
        self.max_streams = streams;
        self
    }

    /// Silence after which the client sends a PING. Default and maximum 10 s; at least 1 ms. A third of the server's idle timeout replaces it
    /// where that is less (30 s unless it is configured). It is what a client that only reads needs to notice that its server was killed and started again; where its
    /// connection was busy, it asks after a silence of a second or two by itself.
    pub fn keep_alive(mut self, silence: Duration) -> Self {
        self.keep_alive = silence.max(Duration::from_millis(1));
        self
    }

    /// The UDP socket to use, which other clients may share. Default: one of its own for each connection.
    pub fn socket(mut self, socket: &Socket) -> Self {
        self.socket = Some(socket.clone());
        self
    }

    /// Longest frame that is taken from the server, in bytes. Default 16 MiB.
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.settings.max_frame = bytes;
        self
    }

    /// Whether to connect again when the connection breaks. Default: yes, with full jitter, as the codes allow.
    pub const fn reconnect(mut self, reconnect: bool) -> Self {
        self.settings.reconnect = reconnect;
        self
    }

    /// Second URL of the same server, such as `wss://host`, for networks that let no UDP through. It enters a race half a second after the
    /// first URL, or when that failed; a server that refuses or is not trusted is not asked again over the other. What won goes first for
    /// ten minutes of the client's life. Default: none.
    pub fn fallback(mut self, url: impl Into<String>) -> Self {
        self.fallback = Some(url.into());
        self
    }

    /// Tries the first connection again for so long, with full jitter, where another attempt may help: not after a wrong URL, a
    /// certificate that is not trusted, or a code that forbids it. Default: one attempt.
    pub const fn retry_connect(mut self, limit: Duration) -> Self {
        self.retry = Some(limit);
        self
    }

    /// Connects, in one attempt unless [`retry_connect`](Self::retry_connect) asks for more. What once worked is made again by itself.
    ///
    /// # Errors
    /// [`ClientError::Dial`], [`Refused`](ClientError::Refused) with the server's code, [`Token`](ClientError::Token),
    /// [`Protocol`](ClientError::Protocol).
    pub async fn connect(self) -> Result<Client, ClientError> {
        let dialer = |url: &str| {
            Dialer::new(
                Target::parse(url)?,
                &self.trust,
                self.max_streams,
                self.keep_alive,
                self.socket.clone(),
            )
        };
        let fallback = self.fallback.as_deref().map(dialer).transpose()?;
        let paths = Paths::new(dialer(&self.url)?, fallback);
        let (link, welcomed) = match self.retry {
            None => Link::connect(&paths, &self.settings).await?,
            Some(limit) => connect_within(limit, &paths, &self.settings).await?,
        };
        let line = Arc::new(Line::default());
        let (state, states) = watch::channel(State::Connected(welcomed));
        let registry = Arc::new(Registry::default());
        let close = CancellationToken::new();
        let driver = Driver {
            paths,
            settings: self.settings,
            registry: Arc::clone(&registry),
            line: Arc::clone(&line),
            state,
            close: close.clone(),
        };
        // Owned by `Shared`, which aborts it.
        let driver = tokio::spawn(driver::run(driver, link)).abort_handle();
        Ok(Client {
            shared: Arc::new(Shared {
                line,
                registry,
                state: states,
                close,
                driver,
            }),
        })
    }
}

/// Attempts until one succeeds, another is useless, or the time is over; then the error of the last.
async fn connect_within(
    limit: Duration,
    paths: &Paths,
    settings: &Settings,
) -> Result<(Link, Welcomed), ClientError> {
    // What a clock cannot show is for ever.
    let end = Instant::now().checked_add(limit);
    let mut last = None;
    let attempts = async {
        for attempt in 1.. {
            match Link::connect(paths, settings).await {
                Ok(connected) => return Ok(connected),
                Err(error) if !settings.may_retry(error.retry_of_first()) => return Err(error),
                Err(error) => {
                    tracing::debug!(attempt, %error, "not connected");
                    last = Some(error);
                }
            }
            sleep(backoff::wait(attempt, rand::random())).await;
        }
        unreachable!("attempts have no end")
    };
    let connected = match end {
        Some(end) => timeout_at(end, attempts).await,
        None => Ok(attempts.await),
    };
    let timed_out = || ClientError::Dial(DialError::TimedOut(paths.target().to_string()));
    connected.unwrap_or_else(|_| Err(last.unwrap_or_else(timed_out)))
}

impl Settings {
    pub(super) const fn may_retry(&self, retry: Retry) -> bool {
        match retry {
            Retry::No => false,
            Retry::Backoff => true,
            Retry::WithNewCredentials => matches!(self.token, Token::Asked(_)),
        }
    }
}

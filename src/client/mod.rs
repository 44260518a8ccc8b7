//! Floor 3: the native client. No server code.
//!
//! [`Builder`] connects, [`Client`] subscribes and publishes, [`Subscription`] is a stream of [`Event`]s. A connection that breaks is
//! made again by itself, as the codes of PROTOCOL §7 allow, and every reader is told of the break.

mod arrivals;
mod backoff;
mod builder;
mod datagram;
mod driver;
mod greet;
mod lane;
mod line;
mod link;
mod mailbox;
mod paths;
mod publish;
mod registry;
mod shared;
mod subscription;
mod token;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{oneshot, watch},
    task::AbortHandle,
};
use tokio_util::sync::CancellationToken;

use crate::transport::peer_log::Throttle;
use crate::wire::{
    Attendance, ChannelName, Code, History, HistoryQuery, InvalidChannel, Position, Retry, Start,
    UserId,
    frame::{Level, Limits, RefusedSubscription, Source},
};

pub use crate::transport::{
    InvalidTls, Sha256, Transport, Trust,
    dial::{DialError, Socket},
};
pub use builder::Builder;
pub use shared::SharedSubscription;
pub use subscription::{Event, Subscription};
pub use token::TokenError;

use driver::Command;
use line::{Line, Place};
use registry::Registry;

/// Limit of the log lines about servers that break the protocol.
static VIOLATIONS: Throttle = Throttle::new("violations of the protocol by servers");

/// A connection to a server that is made again when it breaks. Cloning shares it. The connection ends when the last
/// clone and the last [`Subscription`] are dropped, or with [`close`](Self::close).
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    line: Arc<Line>,
    registry: Arc<Registry>,
    state: watch::Receiver<State>,
    close: CancellationToken,
    driver: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.driver.abort();
        self.registry.end(Code::CLOSED, "the client was dropped");
    }
}

/// What a client is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Connected.
    Connected(Welcomed),
    /// Between connections.
    Reconnecting {
        /// Attempts since the break.
        attempt: u32,
        /// Why the last one failed, or the connection broke.
        reason: String,
    },
    /// Over: [`Client::close`] was called, or a code says not to come back.
    Closed {
        /// Why, for programs, where there is a code.
        code: Option<Code>,
        /// Why, for people.
        reason: String,
    },
}

/// What the server said at the beginning of a connection (PROTOCOL §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Welcomed {
    /// Identity of the session in the server's logs: 16 hexadecimal digits.
    pub session: String,
    /// Who this client is.
    pub user: Option<UserId>,
    /// The server's name and version.
    pub server: String,
    /// What the server takes.
    pub limits: Limits,
    /// Channels that the server subscribed this client to by itself. [`Client::subscribe`] takes them up.
    pub subscriptions: Vec<ChannelName>,
    /// How it is connected.
    pub transport: Transport,
    /// End of the session's credentials, also after a refresh; `None` for never. With [`Builder::token_from`] the client shows a new token
    /// before.
    pub expires: Option<SystemTime>,
    /// Idle timeout of the server: it ends a connection on which nothing arrived for so long.
    pub idle_timeout: Duration,
    /// Automatic subscriptions that the server could not make, with the cause.
    pub refused: Vec<RefusedSubscription>,
}

/// Where a publication stands (PROTOCOL §4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acknowledgement {
    /// Its position.
    pub position: Position,
    /// How safely it is kept.
    pub level: Level,
    /// It stood there already: see [`Client::publish_once`].
    pub duplicate: bool,
}

/// Why a client could not do something.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no connection to the server.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server refused the session, or ended it.
    #[error("the server says {code}: {reason}")]
    Refused {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        reason: String,
    },
    /// The server refused this request (PROTOCOL §4.8).
    #[error("the server refuses the request with {code}: {reason}")]
    Request {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        reason: String,
    },
    /// The channel's name breaks the grammar.
    #[error("{0:?} is no channel name: {1}")]
    Channel(String, InvalidChannel),
    /// The message is above the server's limit. Nothing was sent.
    #[error("the message has {size} bytes, the server takes {max}")]
    TooLarge {
        /// Its size, as PROTOCOL §3.4 counts it.
        size: usize,
        /// The limit.
        max: u64,
    },
    /// This client reads the channel already: a [`Subscription`] has one reader, and [`Subscription::share`] makes one for several.
    #[error("this client is subscribed to {0} already: share that subscription")]
    AlreadySubscribed(ChannelName),
    /// The connection broke before the answer came: whether the request was carried out is not known.
    #[error(
        "the connection broke before the answer came ({0}): whether the request was carried out is not known"
    )]
    Interrupted(String),
    /// The connection broke before the server let this client in.
    #[error("the connection was lost before the server answered: {0}")]
    Lost(String),
    /// The server does not speak the protocol.
    #[error("the server does not speak the protocol: {0}")]
    Protocol(String),
    /// The token could not be had.
    #[error("no token: {0}")]
    Token(String),
    /// The token source said [`TokenError::SignedOut`].
    #[error("the user is signed out")]
    SignedOut,
    /// The client is closed.
    #[error("the client is closed: {0}")]
    Closed(String),
}

impl ClientError {
    /// The code of PROTOCOL §7, where the server gave one.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } | Self::Request { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The same for a client that was never connected: what a person has to put right does not pass by itself.
    fn retry_of_first(&self) -> Retry {
        match self {
            Self::Dial(DialError::Refused(status)) if *status < 500 && *status != 429 => Retry::No,
            Self::Dial(DialError::Url { .. } | DialError::Tls(_) | DialError::Untrusted { .. })
            | Self::Protocol(_) => Retry::No,
            _ => self.retry(),
        }
    }

    /// Whether a further attempt to connect is worth it.
    fn retry(&self) -> Retry {
        match self {
            Self::SignedOut => Retry::No,
            _ => self.code().map_or(Retry::Backoff, Code::retry),
        }
    }
}

impl Client {
    /// A client in the making, for `quic://host[:port]` (raw QUIC, port 4433) `https://host[:port]` (WebTransport, port 443) or
    /// `wss://host[:port]` (a WebSocket, for networks that let no UDP through, port 443).
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Subscribes to a channel, or takes up a subscription that the server made by itself. When this returns, the subscription
    /// stands: whatever is accepted for publication from now on is delivered.
    ///
    /// While the client is between two connections this waits for the next one.
    ///
    /// # Errors
    /// [`ClientError::Channel`], [`AlreadySubscribed`](ClientError::AlreadySubscribed),
    /// [`Request`](ClientError::Request) with the server's code, [`Closed`](ClientError::Closed).
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, ClientError> {
        self.subscribe_from(channel, Start::Head).await
    }

    /// The same from elsewhere on: after a position that was reached before, or with the newest publications that the server keeps.
    /// Where it began says [`Subscription::position`]: at the position that was asked for if nothing is missing, otherwise at the
    /// head.
    ///
    /// # Errors
    /// As for [`subscribe`](Self::subscribe).
    pub async fn subscribe_from(
        &self,
        channel: &str,
        start: Start,
    ) -> Result<Subscription, ClientError> {
        let name = parse(channel)?;
        let (answer, answered) = oneshot::channel();
        let claim = self
            .shared
            .registry
            .claim(Source::CHANNEL, &name, start, Some(answer))
            .ok_or_else(|| ClientError::AlreadySubscribed(name.clone()))?;
        // Dropping this before the answer gives the subscription up.
        let mut subscription = Subscription::new(claim, Arc::clone(&self.shared));
        let _place = self.ask(Command::Subscribe)?;
        let position = answered.await.map_err(|_| self.over())??;
        subscription.start_at(position);
        Ok(subscription)
    }

    /// Reads a stream that user code on the server opens for this client under this name (PROTOCOL §5.1, source 1). It need not
    /// be there yet.
    ///
    /// # Errors
    /// [`ClientError::Channel`], [`AlreadySubscribed`](ClientError::AlreadySubscribed).
    pub fn stream(&self, name: &str) -> Result<Subscription, ClientError> {
        let name = parse(name)?;
        let claim = self
            .shared
            .registry
            .claim(Source::ENDPOINT, &name, Start::Head, None)
            .ok_or(ClientError::AlreadySubscribed(name))?;
        Ok(Subscription::new(claim, Arc::clone(&self.shared)))
    }

    /// Reads a part of a channel's log: 256 publications and 256 KiB at most, and the next from [`History::next`] on. A subscription is
    /// not needed.
    ///
    /// # Errors
    /// [`ClientError::Channel`], [`Request`](ClientError::Request) with the server's code,
    /// [`Interrupted`](ClientError::Interrupted), [`Closed`](ClientError::Closed).
    pub async fn history(
        &self,
        channel: &str,
        query: HistoryQuery,
    ) -> Result<History, ClientError> {
        let name = parse(channel)?;
        let (answer, answered) = oneshot::channel();
        let _place = self.ask(Command::History {
            name,
            query,
            answer,
        })?;
        answered.await.map_err(|_| self.over())?
    }

    /// Asks who is in a channel, `limit` and 256 of them listed at most. The client must be allowed to subscribe; it need not have done
    /// so. [`Attendance::apply`] keeps it up to date with what a subscription hears.
    ///
    /// # Errors
    /// [`ClientError::Channel`], [`Request`](ClientError::Request) with the server's code, which is [`Code::PERMISSION_DENIED`] also where
    /// the channel's rule has no presence, [`Interrupted`](ClientError::Interrupted), [`Closed`](ClientError::Closed).
    pub async fn presence(&self, channel: &str, limit: u64) -> Result<Attendance, ClientError> {
        let name = parse(channel)?;
        let (answer, answered) = oneshot::channel();
        let _place = self.ask(Command::Presence {
            name,
            limit,
            answer,
        })?;
        answered.await.map_err(|_| self.over())?
    }

    /// Shows the server a new token of the same user, in place of the one before, without a new connection: from now on the session may
    /// what this one says, and lives as long. Subscriptions that it does not allow end with [`Code::PERMISSION_DENIED`]. Later connections
    /// show it too, unless [`Builder::token_from`] is asked.
    ///
    /// Returns when the session ends unless it is refreshed again; `None` for never.
    ///
    /// # Errors
    /// [`ClientError::Request`] with the server's code: the session goes on as before.
    /// [`Interrupted`](ClientError::Interrupted), [`Closed`](ClientError::Closed).
    pub async fn refresh(
        &self,
        token: impl Into<String>,
    ) -> Result<Option<SystemTime>, ClientError> {
        let (answer, answered) = oneshot::channel();
        let _place = self.ask(Command::Refresh {
            token: token.into(),
            answer,
        })?;
        let expires = answered.await.map_err(|_| self.over())??;
        let since_1970 = expires.map(Duration::from_millis);
        Ok(since_1970.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)))
    }

    /// Asks the server for a sign of life; the time until it came.
    ///
    /// # Errors
    /// [`ClientError::Interrupted`], [`Closed`](ClientError::Closed).
    pub async fn ping(&self) -> Result<Duration, ClientError> {
        let start = tokio::time::Instant::now();
        let (answer, answered) = oneshot::channel();
        let _place = self.ask(Command::Ping { answer })?;
        answered.await.map_err(|_| self.over())??;
        Ok(start.elapsed())
    }

    /// What the client is doing now.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state.borrow().clone()
    }

    /// The state, to wait for changes of.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<State> {
        self.shared.state.clone()
    }

    /// What the server said at the beginning of this connection; `None` between two of them.
    #[must_use]
    pub fn welcome(&self) -> Option<Welcomed> {
        match self.state() {
            State::Connected(welcomed) => Some(welcomed),
            _ => None,
        }
    }

    /// Waits until the client is over; why. Cancel safe.
    pub async fn closed(&self) -> (Option<Code>, String) {
        let mut state = self.shared.state.clone();
        let closed = state
            .wait_for(|state| matches!(state, State::Closed { .. }))
            .await;
        match closed.as_deref() {
            Ok(State::Closed { code, reason }) => (*code, reason.clone()),
            _ => (None, "the client is closed".to_owned()),
        }
    }

    /// Ends the connection and every subscription; returns when the server has been told or, on a shared
    /// [`Socket`], is about to be: [`Socket::idle`] waits for that.
    pub async fn close(self) {
        self.shared.close.cancel();
        self.closed().await;
    }

    fn ask(&self, command: Command) -> Result<Place<'_>, ClientError> {
        let joined = self.shared.line.join(command);
        joined.map_err(|line::Closed| self.over())
    }

    fn over(&self) -> ClientError {
        match self.state() {
            State::Closed { reason, .. } => ClientError::Closed(reason),
            _ => ClientError::Closed("its task is gone".to_owned()),
        }
    }
}

fn parse(channel: &str) -> Result<ChannelName, ClientError> {
    ChannelName::parse(channel).map_err(|error| ClientError::Channel(channel.to_owned(), error))
}

//! Floor 1: who gets what. A channel is a bounded log with a head to wait on, a subscription is a cursor into it.
//!
//! No socket, no task, and no `await` while a lock is held. A publication is encoded once, here, and shared by every
//! subscriber. See ARCHITECTURE.md, "The one idea".

mod audience;
mod channel;
mod clock;
mod config;
mod error;
mod hub;
mod keys;
mod list;
mod listener;
mod listening;
mod log;
mod marks;
mod poster;
mod presence;
mod publishing;
mod quota;
mod reader;
mod receiver;
mod subscription;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub(crate) use self::{
    audience::{Audience, Due},
    log::{Leave, Page},
    poster::Poster,
    publishing::Publisher,
    quota::Tenancy,
    reader::{Batch, Reader},
};
use self::{
    channel::{Begin, Channel},
    clock::Now,
    hub::{Counters, Hub},
    keys::Tokens,
    listener::Patterns,
    presence::Changed,
    quota::{Accounts, Ledger, Quotas},
    reader::Cursor,
};
pub use self::{
    config::Config,
    error::{NoRoom, PublishError},
    listener::{ListenerGuard, PatternGuard, Received},
    log::Retention,
    presence::{Shown, Shows},
    publishing::{Published, Terms},
    receiver::Receiver,
    subscription::{Delivery, Subscription},
};

use crate::wire::{ChannelName, History, HistoryQuery, Position, Start, Timestamp, UserId, draft};

/// The local front door: publish, subscribe, listen. Cloning shares it.
///
/// ```
/// use futures_util::StreamExt;
/// use tidings::{
///     Message,
///     broker::{Broker, Config, Delivery},
///     wire::HistoryQuery,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // That of a server is `Server::broker`.
/// let broker = Broker::new(Config::default());
/// let room = "chat-1".parse()?;
/// let mut subscription = broker.subscribe(&room)?;
/// // Every room, on the thread that publishes; in a task of its own with `pattern_receiver`.
/// let guard = broker.listen_pattern(&"chat-*".parse()?, |received| {
///     println!("{:?} in {}", received.user, received.channel);
/// });
/// let position = broker.post(&room, Message::json(&["e2", "e4"])?)?;
/// let Some(Delivery::Publication(publication)) = subscription.next().await else {
///     panic!("nothing came")
/// };
/// assert_eq!(publication.message.as_json::<[String; 2]>()?, ["e2", "e4"]);
/// assert_eq!(publication.offset, position.offset);
/// assert_eq!(broker.history(&room, &HistoryQuery::newest(10)).publications.len(), 1);
/// drop(guard);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Hub,
    counters: Arc<Counters>,
    ledger: Arc<Ledger>,
    accounts: Accounts,
    tokens: Tokens,
    /// Listeners of channels that are made later.
    patterns: Arc<Patterns>,
    /// Channels whose members are to be told.
    changed: Arc<Changed>,
    config: Config,
    closed: AtomicBool,
}

/// How much there is, and what happened since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Channels now.
    pub channels: usize,
    /// Subscriptions now, those of sessions and of this process.
    pub subscriptions: usize,
    /// Publications accepted.
    pub publications: u64,
    /// Publications that subscribers were told they missed.
    pub lagged: u64,
    /// Publications that subscribers were told were left out for them, by a rule of their channel.
    pub skipped: u64,
    /// Estimated memory of channels, publications and sessions, in bytes: what [`Config::memory`] limits.
    pub memory: usize,
}

/// How a channel is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Its name.
    pub name: ChannelName,
    /// Its newest publication.
    pub position: Position,
    /// Subscriptions and listeners.
    pub readers: usize,
    /// Publications that are kept.
    pub publications: usize,
    /// Bytes of their frames.
    pub bytes: usize,
}

impl Broker {
    /// A broker without channels.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                hub: Hub::new(config.max_channels),
                counters: Arc::default(),
                ledger: Arc::new(Ledger::new(config.memory)),
                accounts: Accounts::default(),
                tokens: Tokens::default(),
                patterns: Arc::default(),
                changed: Arc::default(),
                config,
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// Reads a channel from its head on. Whatever is accepted for publication after this returned is delivered.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn subscribe(&self, channel: &ChannelName) -> Result<Subscription, NoRoom> {
        self.subscribe_from(channel, Start::Head)
    }

    /// The same from elsewhere on: after a position (see [`Subscription::recovered`]), or with the newest that are kept. What follows
    /// the beginning is given without a hole, or told as [`Delivery::Lagged`].
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn subscribe_from(
        &self,
        channel: &ChannelName,
        start: Start,
    ) -> Result<Subscription, NoRoom> {
        loop {
            let found = self.channel(channel, None)?;
            if let Ok(start) = found.join(start) {
                return Ok(Subscription::new(self.cursor(found, start)));
            }
        }
    }

    /// The same for a reader that `audience` wakes: `due` is told `key` whenever there may be something to read. Where the channel is new it
    /// is created for `tenancy`, whose quotas hold, or for the server.
    pub(crate) fn read(
        &self,
        channel: &ChannelName,
        tenancy: Option<&Tenancy>,
        audience: &Audience,
        due: &Arc<dyn Due>,
        key: u32,
        start: Start,
    ) -> Result<Reader, NoRoom> {
        loop {
            let found = self.channel(channel, tenancy)?;
            if let Ok((start, seat)) = found.sit(audience, Arc::clone(due), key, start) {
                return Ok(Reader::new(self.cursor(found, start), seat));
            }
        }
    }

    /// The same reader, which skips what is older than `max_age` when its turn comes.
    pub(crate) fn expiring(&self, reader: Reader, max_age: Duration) -> Reader {
        reader.expiring(max_age, Arc::clone(&self.inner.config.uptime))
    }

    fn cursor(&self, channel: Arc<Channel>, start: Begin) -> Cursor {
        Cursor::new(channel, start, Arc::clone(&self.inner.counters))
    }

    /// A log of its own for one reader, outside the hub: what user code writes to a stream of one client. `name` need not
    /// be unique.
    pub(crate) fn private(&self, name: &ChannelName) -> Poster {
        let retention = (self.inner.config.retention)(name);
        Poster {
            channel: Arc::new(Channel::new(
                name.clone(),
                (self.inner.config.epochs)(),
                retention,
                None,
                &self.inner.ledger,
            )),
            broker: self.clone(),
        }
    }

    /// Takes no publication any more, nor what user code posts to one client. What was accepted before this returns stands in the
    /// logs: a reader that then finds itself at the head has everything.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
    }

    /// Where a channel stands, or `None` where this node has no such channel now.
    #[must_use]
    pub fn position(&self, channel: &ChannelName) -> Option<Position> {
        self.inner
            .hub
            .find(channel)
            .map(|channel| channel.position())
    }

    /// A part of a channel's log: 256 publications and 256 KiB at most, and the next from [`History::next`] on. It makes no channel.
    #[must_use]
    pub fn history(&self, channel: &ChannelName, query: &HistoryQuery) -> History {
        let page = self.page(channel, query);
        let open = |frame| {
            draft::open_publication(frame)
                .map_err(
                    |error| tracing::error!(%channel, %error, "a frame of our own does not decode"),
                )
                .ok()
        };
        let publications = page.frames.iter().filter_map(open).collect();
        History::new(page.kept, page.complete, publications)
    }

    /// The same, encoded.
    pub(crate) fn page(&self, channel: &ChannelName, query: &HistoryQuery) -> Page {
        match self.inner.hub.find(channel) {
            Some(found) => found.page(query),
            None => Page {
                complete: query.from.is_none(),
                ..Page::default()
            },
        }
    }

    /// Subscriptions and listeners of a channel now.
    #[must_use]
    pub fn readers(&self, channel: &ChannelName) -> usize {
        self.inner
            .hub
            .find(channel)
            .map_or(0, |channel| channel.readers())
    }

    /// The first `limit` of this node's channels behind `after`, by name. It looks at the names of all of them: some ten milliseconds for
    /// 100,000.
    #[must_use]
    pub fn channels(&self, after: Option<&ChannelName>, limit: usize) -> Vec<ChannelStats> {
        let page = self.inner.hub.page(after, limit);
        page.iter().map(|channel| channel.stats()).collect()
    }

    /// Bytes of frames that a channel holds now.
    #[must_use]
    pub fn retained_bytes(&self, channel: &ChannelName) -> usize {
        self.inner
            .hub
            .find(channel)
            .map_or(0, |channel| channel.bytes())
    }

    /// Trims logs by age and evicts idle channels; the number of those. To be called every few seconds: `Server` does.
    pub fn sweep(&self) -> usize {
        let idle = u64::try_from(self.inner.config.idle.as_millis()).unwrap_or(u64::MAX);
        let evicted = self.inner.hub.sweep((self.inner.config.uptime)(), idle);
        self.inner.hub.relieve(&self.inner.ledger);
        self.inner.accounts.sweep();
        evicted
    }

    /// A place for a session of this user, or of none.
    pub(crate) fn open_tenancy(&self, user: Option<&UserId>) -> Result<Tenancy, NoRoom> {
        let config = &self.inner.config;
        let quotas = Quotas {
            session_channels: config.session_channels,
            user_channels: config.user_channels,
            user_memory: config.user_memory,
        };
        let account = self.inner.accounts.open(quotas, user);
        Tenancy::new(account, &self.inner.ledger)
    }

    /// How much there is, and what happened since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let memory = self.inner.ledger.used();
        self.inner.counters.read(self.inner.hub.len(), memory)
    }

    /// Largest message in bytes, as PROTOCOL §3.4 counts them.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.inner.config.max_message
    }

    /// The broker's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.inner.config.clock)()
    }

    /// The present by both clocks. The time of day is read first.
    fn present(&self) -> Now {
        Now {
            time: self.now(),
            uptime: (self.inner.config.uptime)(),
        }
    }

    fn channel(
        &self,
        name: &ChannelName,
        tenancy: Option<&Tenancy>,
    ) -> Result<Arc<Channel>, NoRoom> {
        let Inner {
            config,
            ledger,
            hub,
            patterns,
            ..
        } = &*self.inner;
        let creator = tenancy.map(|tenancy| &tenancy.account);
        hub.find_or_insert(name, creator, ledger, || {
            let (epoch, retention) = ((config.epochs)(), (config.retention)(name));
            Channel::new(name.clone(), epoch, retention, creator.cloned(), ledger)
                .heard_by(patterns.fitting(name).into_iter())
        })
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("stats", &self.stats())
            .field("config", &self.inner.config)
            .finish()
    }
}

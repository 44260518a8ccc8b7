//! Floor 1: who gets what. A channel is a bounded log with a head to wait on, a subscription is a cursor into it.
//!
//! No socket, no task, and no `await` while a lock is held. A publication is encoded once, here, and shared by every
//! subscriber. See ARCHITECTURE.md, "The one idea".

mod audience;
mod channel;
mod config;
mod error;
mod hub;
mod keys;
mod list;
mod listener;
mod log;
mod poster;
mod presence;
mod reader;
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
    log::Page,
    poster::Poster,
    reader::{Batch, Reader},
};
use self::{
    channel::{Begin, Channel},
    hub::{Counters, Hub},
    keys::{Token, Tokens},
    listener::Listener,
    presence::Changed,
    reader::Cursor,
};
pub use self::{
    config::Config,
    error::{PublishError, TooManyChannels},
    listener::ListenerGuard,
    log::Retention,
    presence::{Shown, Shows},
    subscription::{Delivery, Subscription},
};

use crate::wire::{
    ChannelName, History, HistoryQuery, Message, Position, Start, Timestamp, UserId,
    draft::{self, Draft},
};

/// The local front door: publish, subscribe, listen. Cloning shares it.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    hub: Hub,
    counters: Arc<Counters>,
    tokens: Tokens,
    /// Channels whose members are to be told.
    changed: Arc<Changed>,
    config: Config,
    closed: AtomicBool,
}

/// What became of a publication with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Where it stands.
    pub position: Position,
    /// It stood there already.
    pub duplicate: bool,
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
}

impl Broker {
    /// A broker without channels.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                hub: Hub::new(config.max_channels),
                counters: Arc::default(),
                tokens: Tokens::default(),
                changed: Arc::default(),
                config,
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// Publishes in the server's name. Returns when the publication stands in the log; delivery goes on by itself.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn post(
        &self,
        channel: &ChannelName,
        message: impl Into<Message>,
    ) -> Result<Position, PublishError> {
        self.publish(channel, None, &message.into())
    }

    /// Posts a [`Notification`](crate::wire::Notification) to `user-{user}`: every device of the user gets it.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn notify(&self, user: &UserId, text: impl Into<String>) -> Result<Position, PublishError> {
        let message = Message::notification(text, self.now());
        self.publish(&ChannelName::of_user(user), None, &message)
    }

    /// Posts an [`Announcement`](crate::wire::Announcement) to `global`: everybody gets it.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn announce(&self, text: impl Into<String>) -> Result<Position, PublishError> {
        let message = Message::announcement(text, self.now());
        self.publish(&ChannelName::global(), None, &message)
    }

    /// Publishes in a user's name, or in the server's (`None`). Whether the publisher may is the caller's to check.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn publish(
        &self,
        channel: &ChannelName,
        publisher: Option<&UserId>,
        message: &Message,
    ) -> Result<Position, PublishError> {
        let published = self.append(channel, publisher, message, None)?;
        Ok(published.position)
    }

    /// The same with a key of the publisher's own, 1 to 128 bytes, with which it may try again: within five minutes, or the channel's
    /// next 16,383 such publications, the message is stored once, and the later calls get the position of the first.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published. [`PublishError::KeyReused`] where the publisher has used the key for another message.
    pub fn publish_once(
        &self,
        channel: &ChannelName,
        publisher: Option<&UserId>,
        key: &str,
        message: &Message,
    ) -> Result<Published, PublishError> {
        self.publish_once_as(channel, publisher, publisher, key, message)
    }

    /// The same where subscribers are told another publisher than the key's owner.
    pub(crate) fn publish_once_as(
        &self,
        channel: &ChannelName,
        publisher: Option<&UserId>,
        owner: Option<&UserId>,
        key: &str,
        message: &Message,
    ) -> Result<Published, PublishError> {
        let (length, max) = (key.len(), keys::MAX_KEY);
        if !(1..=max).contains(&length) {
            return Err(PublishError::InvalidKey { length, max });
        }
        refuse_reserved(message)?;
        let owner = owner.map(UserId::as_str);
        let token = self.inner.tokens.token(owner, key, message);
        self.append(channel, publisher, message, Some(token))
    }

    fn append(
        &self,
        channel: &ChannelName,
        publisher: Option<&UserId>,
        message: &Message,
        once: Option<Token>,
    ) -> Result<Published, PublishError> {
        refuse_reserved(message)?;
        self.check_size(message)?;
        let mut draft = Draft::new(publisher.map(UserId::as_str), message);
        loop {
            let found = self
                .channel(channel)
                .map_err(|TooManyChannels { max }| PublishError::TooManyChannels { max })?;
            match found.publish(self.now(), draft, once, &self.inner.closed) {
                Ok(channel::Accepted {
                    position,
                    duplicate,
                }) => {
                    if !duplicate {
                        self.inner.counters.published();
                    }
                    return Ok(Published {
                        position,
                        duplicate,
                    });
                }
                // Evicted since the look-up: the next one finds or makes its successor.
                Err(channel::Refused::Evicted(back)) => draft = back,
                Err(channel::Refused::Closed) => return Err(PublishError::Closed),
                Err(channel::Refused::KeyReused) => return Err(PublishError::KeyReused),
            }
        }
    }

    /// Reads a channel from its head on. Whatever is accepted for publication after this returned is delivered.
    ///
    /// # Errors
    /// [`TooManyChannels`].
    pub fn subscribe(&self, channel: &ChannelName) -> Result<Subscription, TooManyChannels> {
        self.subscribe_from(channel, Start::Head)
    }

    /// The same from elsewhere on: after a position (see [`Subscription::recovered`]), or with the newest that are kept. What follows
    /// the beginning is given without a hole, or told as [`Delivery::Lagged`].
    ///
    /// # Errors
    /// [`TooManyChannels`].
    pub fn subscribe_from(
        &self,
        channel: &ChannelName,
        start: Start,
    ) -> Result<Subscription, TooManyChannels> {
        loop {
            let found = self.channel(channel)?;
            if let Ok(start) = found.join(start) {
                return Ok(Subscription::new(self.cursor(found, start)));
            }
        }
    }

    /// The same for a reader that `audience` wakes: `due` is told `key` whenever there may be something to read.
    pub(crate) fn read(
        &self,
        channel: &ChannelName,
        audience: &Audience,
        due: &Arc<dyn Due>,
        key: u32,
        start: Start,
    ) -> Result<Reader, TooManyChannels> {
        loop {
            let found = self.channel(channel)?;
            if let Ok((start, seat)) = found.sit(audience, Arc::clone(due), key, start) {
                return Ok(Reader::new(self.cursor(found, start), seat));
            }
        }
    }

    /// The same reader, which skips what is older than `max_age` when its turn comes.
    pub(crate) fn expiring(&self, reader: Reader, max_age: Duration) -> Reader {
        reader.expiring(max_age, Arc::clone(&self.inner.config.clock))
    }

    fn cursor(&self, channel: Arc<Channel>, start: Begin) -> Cursor {
        Cursor::new(channel, start, Arc::clone(&self.inner.counters))
    }

    /// Calls `call` for each publication from now on, in order, one at a time, on the thread that publishes: so it should
    /// be short. It may publish, to its own channel too. A panic is caught and logged; later publications are still given.
    ///
    /// # Errors
    /// [`TooManyChannels`].
    pub fn add_listener(
        &self,
        channel: &ChannelName,
        call: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<ListenerGuard, TooManyChannels> {
        let mut call: Option<Box<dyn Fn(Delivery) + Send + Sync>> = Some(Box::new(call));
        loop {
            let found = self.channel(channel)?;
            let added = found.add_listener(|cursor| {
                let call = call.take().unwrap_or_else(|| Box::new(drop));
                Arc::new(Listener::new(cursor, call))
            });
            if let Ok(listener) = added {
                return Ok(ListenerGuard {
                    channel: found,
                    listener,
                });
            }
        }
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
        self.inner.hub.sweep(self.now(), idle)
    }

    /// How much there is, and what happened since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.counters.read(self.inner.hub.len())
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

    fn check_size(&self, message: &Message) -> Result<(), PublishError> {
        let (size, max) = (message.size(), self.inner.config.max_message);
        if size > max {
            return Err(PublishError::TooLarge { size, max });
        }
        Ok(())
    }

    fn channel(&self, name: &ChannelName) -> Result<Arc<Channel>, TooManyChannels> {
        let config = &self.inner.config;
        self.inner
            .hub
            .find_or_insert(name, || {
                Channel::new(name.clone(), (config.epochs)(), (config.retention)(name))
            })
            .map_err(|hub::Full| TooManyChannels {
                max: config.max_channels,
            })
    }
}

/// What the server alone makes nobody publishes, whoever it is.
fn refuse_reserved(message: &Message) -> Result<(), PublishError> {
    match message {
        Message::Presence(_) => Err(PublishError::Reserved(message.kind())),
        _ => Ok(()),
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

//! What user code holds of a session, and what the session's own parts share.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use futures_util::FutureExt;
use tokio::sync::{oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Close, Context,
    subscribe::{self, SubscribeError},
    writer::Until,
};
use crate::{
    auth::Grant,
    broker::{Batch, Broker, Poster, PublishError},
    transport::{Connection, Transport},
    wire::{
        ChannelName, Code, Message, Position, Publication, UserId, draft,
        frame::{AutoSubscription, Source},
    },
};

/// A client's session, for user code on the server. Cloning shares it; dropping it changes nothing.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

/// What the parts of a session share.
pub(super) struct Inner {
    pub(super) id: u64,
    pub(super) connection: Connection,
    pub(super) context: Arc<Context>,
    pub(super) grant: Grant,
    client: String,
    /// Every task of the session.
    pub(super) tasks: TaskTracker,
    /// The session is over or is to end; why stands in `close`.
    pub(super) ended: CancellationToken,
    /// The server goes away. A child of the server's token: so many sessions do not meet on one lock.
    pub(super) drain: CancellationToken,
    close: OnceLock<Close>,
    register: Mutex<Register>,
    /// Number of writers.
    writers: watch::Sender<usize>,
}

#[derive(Default)]
struct Register {
    last: u64,
    entries: HashMap<u64, Registered>,
}

struct Registered {
    source: Source,
    name: ChannelName,
    /// Where it began, once its cursor stands.
    position: Option<Position>,
    /// Taken when the subscription is told to end; its writer may still have last words.
    end: Option<oneshot::Sender<Code>>,
}

impl Inner {
    pub(super) fn new(
        connection: Connection,
        context: Arc<Context>,
        grant: Grant,
        client: String,
    ) -> Self {
        Self {
            id: rand::random(),
            connection,
            drain: context.drain.child_token(),
            context,
            grant,
            client,
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
            close: OnceLock::new(),
            register: Mutex::default(),
            writers: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a stream, with the receiver that will say when it is to end.
    pub(super) fn register(
        &self,
        source: Source,
        name: &ChannelName,
    ) -> Result<(u64, oneshot::Receiver<Code>), SubscribeError> {
        if self.ended.is_cancelled() {
            return Err(SubscribeError::Closed);
        }
        let mut register = self.lock();
        let taken = |known: &Registered| {
            known.end.is_some() && known.source == source && known.name == *name
        };
        if register.entries.values().any(taken) {
            return Err(SubscribeError::AlreadySubscribed(name.clone()));
        }
        let max = self.context.config.limits.subscriptions;
        let live = register
            .entries
            .values()
            .filter(|known| known.end.is_some());
        // What was told to end no longer counts, though its last words may be on the way. There may be as many of those again
        // and no more, so that they are bounded too.
        if live.count() as u64 >= max || register.entries.len() as u64 >= max.saturating_mul(2) {
            return Err(SubscribeError::TooManySubscriptions(max));
        }
        register.last += 1;
        let id = register.last;
        let (end, ended) = oneshot::channel();
        register.entries.insert(
            id,
            Registered {
                source,
                name: name.clone(),
                position: None,
                end: Some(end),
            },
        );
        self.writers.send_modify(|count| *count += 1);
        Ok((id, ended))
    }

    /// The cursor of a subscription stands.
    pub(super) fn started(&self, id: u64, position: Position) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.position = Some(position);
        }
    }

    /// The channels that the session is subscribed to.
    pub(super) fn subscriptions(&self) -> Vec<AutoSubscription> {
        let register = self.lock();
        let mut found: Vec<_> = register
            .entries
            .iter()
            .filter(|(_, entry)| entry.source == Source::CHANNEL && entry.end.is_some())
            .filter_map(|(id, entry)| {
                Some(AutoSubscription {
                    subscription: *id,
                    channel: entry.name.to_string(),
                    position: entry.position?,
                })
            })
            .collect();
        found.sort_unstable_by_key(|made| made.subscription);
        found
    }

    /// Tells a writer to end; says whether there was one that had not been told.
    pub(super) fn unregister(&self, id: u64) -> bool {
        let end = self
            .lock()
            .entries
            .get_mut(&id)
            .and_then(|entry| entry.end.take());
        end.is_some_and(|end| end.send(Code::UNSUBSCRIBED).is_ok())
    }

    /// The writer is done.
    pub(super) fn forget(&self, id: u64) {
        self.lock().entries.remove(&id);
        self.writers.send_modify(|count| *count -= 1);
    }

    pub(super) async fn writers_done(&self) {
        // The sender lives in `self`.
        let _ = self.writers.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Orders the end. The first reason stays.
    pub(super) fn end(&self, close: &Close) {
        let _ = self.close.set(close.clone());
        self.ended.cancel();
    }

    pub(super) fn close_order(&self) -> Option<Close> {
        self.close.get().cloned()
    }

    /// The code of the end.
    pub(super) fn close_code(&self) -> Code {
        self.close.get().map_or(Code::ENDED, |close| close.code)
    }

    /// How the peer left.
    pub(super) async fn left(&self) -> Close {
        let closed = self.connection.closed().await;
        Close::new(closed.code.unwrap_or(Code::CLOSED), closed.reason)
    }
}

impl Session {
    pub(super) fn new(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(super) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Identity of the session in logs: 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:016x}", self.inner.id)
    }

    /// The authenticated user, or `None` for an anonymous session.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.inner.grant.user.as_ref()
    }

    /// What authentication yielded.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.inner.grant
    }

    /// How the client calls itself.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.inner.client
    }

    /// Raw QUIC or WebTransport.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.inner.connection.transport()
    }

    /// Where the client is now; it may change while the session lives.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.inner.connection.remote_address()
    }

    /// The server's broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.inner.context.broker
    }

    /// Subscribes the client to a channel, whatever its grant says. The client sees a stream like any other; what is subscribed in
    /// [`session_opened`](crate::endpoint::Endpoint::session_opened) stands in its `Welcome`.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn subscribe(&self, channel: &ChannelName) -> Result<Position, SubscribeError> {
        subscribe::subscribe(&self.inner, channel).map(|(_, position)| position)
    }

    /// Forwards a channel, as it is, onto a stream of this client that is called `stream` (PROTOCOL §5.1, source 1). The encoded
    /// publications are shared with every other subscriber.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn forward(
        &self,
        channel: &ChannelName,
        stream: &ChannelName,
    ) -> Result<Position, SubscribeError> {
        let opened = subscribe::open(&self.inner, Source::ENDPOINT, stream, Until::Head, || {
            self.broker()
                .subscribe(channel)
                .map_err(|_| SubscribeError::TooManyChannels)
        });
        opened.map(|(_, position)| position)
    }

    /// Forwards what `transform` makes of each publication of a channel onto a stream of this client; `None` leaves one out. The
    /// publisher stays. What the forwarder itself misses, because the client is slow, it tells in the log. A panic of
    /// `transform` ends the stream.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn forward_with(
        &self,
        channel: &ChannelName,
        stream: &ChannelName,
        mut transform: impl FnMut(&Publication) -> Option<Message> + Send + 'static,
    ) -> Result<(), SubscribeError> {
        let mut source = self
            .broker()
            .subscribe(channel)
            .map_err(|_| SubscribeError::TooManyChannels)?;
        let poster = self.open_stream(stream, Until::End)?;
        let drain = self.inner.drain.clone();
        self.spawn(async move {
            let mut frames = Vec::new();
            loop {
                let batch = match source.try_batch(&mut frames) {
                    Some(batch) => batch,
                    None if drain.is_cancelled() => match source.try_batch(&mut frames) {
                        Some(batch) => batch,
                        None => return,
                    },
                    None => tokio::select! {
                        batch = source.next_batch(&mut frames) => batch,
                        () = drain.cancelled() => continue,
                    },
                };
                match batch {
                    Batch::Frames => {}
                    Batch::Lagged { from, to } => {
                        tracing::warn!(channel = %source.channel(), from, to, "a forwarder lags");
                    }
                    Batch::Ended => return,
                }
                for frame in frames.drain(..) {
                    let Ok(publication) = draft::open_publication(&frame) else {
                        continue;
                    };
                    let Some(message) = transform(&publication) else {
                        continue;
                    };
                    match poster.post(publication.publisher.as_deref(), &message) {
                        Ok(_) => {}
                        Err(PublishError::Ended) => return,
                        Err(error) => {
                            tracing::warn!(%error, "a transformed message was not forwarded")
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// Opens a stream of this client that is called `name` (PROTOCOL §5.1, source 1), to post to from user code.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn stream(&self, name: &ChannelName) -> Result<PostStream, SubscribeError> {
        self.open_stream(name, Until::Head).map(PostStream)
    }

    fn open_stream(&self, name: &ChannelName, until: Until) -> Result<Poster, SubscribeError> {
        let (poster, subscription) = self.broker().private(name);
        subscribe::open(&self.inner, Source::ENDPOINT, name, until, || {
            Ok(subscription)
        })?;
        Ok(poster)
    }

    /// Runs a future as a part of the session: it is dropped when the session ends. A panic is logged.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let ended = self.inner.ended.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                done = AssertUnwindSafe(future).catch_unwind() => {
                    if done.is_err() {
                        tracing::error!("a task of user code panicked");
                    }
                }
            }
        });
    }

    /// Ends the session; the client is told `code` and `reason`. The first call counts. [`Code::APPLICATION`] begins the codes
    /// that are free for applications.
    pub fn close(&self, code: Code, reason: &str) {
        self.inner.end(&Close::new(code, reason));
    }

    /// Waits until the session is over or is about to be. Cancel safe.
    pub async fn closed(&self) {
        self.inner.ended.cancelled().await;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("user", &self.user())
            .field("transport", &self.transport())
            .finish_non_exhaustive()
    }
}

/// A stream of one client that user code posts to. It is a bounded log of its own with the client as its reader: a client that
/// is too slow is told what it missed. Dropping it ends the stream after its last message.
#[derive(Debug)]
pub struct PostStream(Poster);

impl PostStream {
    /// Posts a message.
    ///
    /// # Errors
    /// [`PublishError`]: the message is too large, or the client is gone.
    pub fn post(&self, message: impl Into<Message>) -> Result<Position, PublishError> {
        self.0.post(None, &message.into())
    }
}

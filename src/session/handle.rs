//! What user code holds of a session.

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::timeout;

use super::{
    Close, FORWARDERS,
    inner::Inner,
    refresh,
    subscribe::{self, SubscribeError},
    writer::Until,
};
use crate::{
    auth::{Delivery, Grant},
    broker::{Batch, Broker, Poster, PublishError},
    transport::{Transport, peer_log::throttled},
    wire::{
        ChannelName, Code, Message, Position, Publication, Start, UserId, draft, frame::Source,
    },
};

tokio::task_local! {
    /// Set in a task of [`Session::spawn`] when [`Session::closed`] completes in it.
    static SAW_THE_END: Arc<AtomicBool>;
}

/// How far a subscription of a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The channel, or the name that user code gave the stream.
    pub name: ChannelName,
    /// Whether it is a channel's.
    pub of_channel: bool,
    /// The last publication that was read for it.
    pub position: Position,
    /// How many publications stand behind that.
    pub behind: u64,
    /// Bytes that were read for it and not taken by its stream yet.
    pub waiting_bytes: u64,
    /// Publications that it was told are lost because it was too slow.
    pub lagged: u64,
    /// Publications that were left out for it by the channel's rule.
    pub skipped: u64,
}

/// A client's session, for user code on the server. Cloning shares it; dropping it changes nothing.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
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

    /// The same as a number: what [`Terms::exclude`](crate::broker::Terms::exclude) asks for.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.inner.id
    }

    /// The authenticated user, or `None` for an anonymous session.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.inner.user.as_ref()
    }

    /// What authentication yielded, or the last refresh did.
    #[must_use]
    pub fn grant(&self) -> Arc<Grant> {
        self.inner.grant()
    }

    /// Data of the application that the grant carries: what [`Grant::with_data`] was given. A refresh replaces it with that of the new
    /// grant.
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.inner.grant().data.share()
    }

    /// Lets another grant hold from now on, whatever the token says: subscriptions that it does not allow any more end with
    /// [`Code::PERMISSION_DENIED`], and the session ends when it expires. Its user is ignored: a session stays whose it is. The client may
    /// still show a token (PROTOCOL §4.13), which then decides again: revoke what it must not show.
    pub fn set_grant(&self, mut grant: Grant) {
        grant.user.clone_from(&self.inner.user);
        refresh::replace(&self.inner, grant);
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

    /// The smoothed round trip to the client.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.inner.connection.rtt()
    }

    /// The client's subscriptions, and how far each is.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Progress> {
        self.inner.writers.progress()
    }

    /// The server's broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.inner.context.broker
    }

    /// Subscribes the client to a channel, whatever its grant says. The client sees a stream like any other; what is subscribed in
    /// [`session_opened`](crate::endpoint::Endpoint::session_opened) stands in its `Welcome`.
    ///
    /// From then on the session may ask for the channel by itself, and so may other sessions of the same user while this one is open and
    /// for two minutes after it was lost: a client that comes back goes on where it was. That ends with
    /// [`unsubscribe`](Self::unsubscribe), with [`close`](Self::close), and where the grant of the session denies the channel. A session
    /// without a user has nobody to inherit it: subscribe that in `session_opened`.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn subscribe(&self, channel: &ChannelName) -> Result<Position, SubscribeError> {
        subscribe::subscribe(&self.inner, channel).map(|(_, position)| position)
    }

    /// Ends the client's subscription to a channel with [`Code::ENDED`]; whether there was one. It may subscribe again where its grant or
    /// a rule lets it: what [`subscribe`](Self::subscribe) gave is taken back from every session of the user, whose subscriptions go on.
    pub fn unsubscribe(&self, channel: &ChannelName) -> bool {
        self.inner.take_back(channel);
        let found = self.inner.writers.find_channel(channel);
        found.is_some_and(|id| subscribe::end(&self.inner, id, Code::ENDED))
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
        subscribe::read(
            &self.inner,
            Source::ENDPOINT,
            stream,
            channel,
            Start::Head,
            None,
        )
        .map(|(_, position)| position)
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
        let mut source = self.broker().subscribe(channel)?;
        let poster = self.open_stream(stream, Until::End)?;
        let home = Arc::clone(&self.inner.home);
        self.spawn(async move {
            let drain = &home.drain;
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
                        throttled!(FORWARDERS, warn, channel = %source.channel(), from, to, "a forwarder lags");
                    }
                    // It wants everything.
                    Batch::Skipped { .. } | Batch::Own { .. } => {}
                    Batch::Ended => return,
                }
                for frame in frames.drain(..) {
                    let Ok(publication) = draft::open_publication(&frame) else {
                        continue;
                    };
                    let Some(message) = transform(&publication) else {
                        continue;
                    };
                    match poster.relay(publication.publisher.as_deref(), &message) {
                        Ok(_) => {}
                        Err(PublishError::Ended) => return,
                        Err(error) => {
                            throttled!(FORWARDERS, warn, %error, "a transformed message was not forwarded");
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
        let poster = self.broker().private(name);
        let delivery = Delivery::default();
        subscribe::open(
            &self.inner,
            Source::ENDPOINT,
            name,
            until,
            delivery,
            |due, key| {
                poster
                    .reader(&self.inner.home.audience, due, key)
                    .ok_or(SubscribeError::Closed)
            },
        )?;
        Ok(poster)
    }

    /// Runs a future as a part of the session, on the worker that serves it; it should not block. A panic is logged.
    ///
    /// At the end of the session, in this order: [`closed`](Self::closed) completes; a future that waited for it runs on and has 5 s
    /// (`Builder::deadline`) to finish; any other is dropped at once. So a task that has something to do at the end waits for `closed`
    /// beside its work, as with `select!`. It is not waited for where the server itself ends at once.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let cut_off = self.inner.cut_off.clone();
        let grace = self.inner.context.config.deadline;
        let waits = Arc::new(AtomicBool::new(false));
        let saw_the_end = Arc::clone(&waits);
        let task = async move {
            let future = AssertUnwindSafe(future).catch_unwind();
            let mut future = std::pin::pin!(future);
            let done = tokio::select! {
                // It is polled after `closed` has woken it, before it is cut off.
                biased;
                done = &mut future => Some(done),
                () = cut_off.cancelled() => None,
            };
            let done = match done {
                None if saw_the_end.load(Ordering::Relaxed) => timeout(grace, future).await.ok(),
                done => done,
            };
            if let Some(Err(_)) = done {
                tracing::error!("a task of user code panicked");
            }
        };
        let task = SAW_THE_END.scope(waits, task);
        self.inner.tasks.spawn_on(task, &self.inner.home.runtime);
    }

    /// Ends the session; the client is told `code` and `reason`. The first call counts. [`Code::APPLICATION`] begins the codes
    /// that are free for applications.
    pub fn close(&self, code: Code, reason: &str) {
        self.inner.end(&Close::new(code, reason));
    }

    /// Waits until the session is over or is about to be, however it ends: the client leaves or vanishes, its token expires, or the server
    /// ends it. A client that vanished is noticed after the idle timeout. Cancel safe.
    pub async fn closed(&self) {
        self.inner.ended.cancelled().await;
        let _ = SAW_THE_END.try_with(|saw| saw.store(true, Ordering::Relaxed));
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
    /// Posts a message. What is accepted before the server begins to drain is delivered; from then on nothing is accepted.
    ///
    /// # Errors
    /// [`PublishError`]: the message is too large, the server is shutting down, or the client is gone.
    pub fn post(&self, message: impl Into<Message>) -> Result<Position, PublishError> {
        self.0.post(None, &message.into())
    }
}

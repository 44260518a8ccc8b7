//! What the parts of a session share.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Close, Context, Home, stall::Stall, writers::Writers};
use crate::{
    auth::{Grant, Request},
    broker::Tenancy,
    transport::{Connection, Source},
    wire::{ChannelName, Code, UserId},
};

/// Features that both sides know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    pub(super) lanes: bool,
    pub(super) datagrams: bool,
}

pub(super) struct Inner {
    pub(super) id: u64,
    pub(super) connection: Connection,
    pub(super) context: Arc<Context>,
    pub(super) home: Arc<Home>,
    /// Whose it is: a refresh changes what it may, never whose it is.
    pub(super) user: Option<UserId>,
    grant: RwLock<Arc<Grant>>,
    /// Told when the grant is another.
    pub(super) refreshed: Notify,
    pub(super) client: String,
    /// What an authenticator that reads it is shown again at a refresh.
    pub(super) request: Option<Box<Request>>,
    /// The client takes publications as datagrams (PROTOCOL §5.6).
    pub(super) datagrams: bool,
    /// The session's quotas, and its part of the memory.
    pub(super) tenancy: Tenancy,
    /// Every task of the session but its own.
    pub(super) tasks: TaskTracker,
    pub(super) writers: Arc<Writers>,
    /// The session is over or is to end; why stands in `close`.
    pub(super) ended: CancellationToken,
    /// Set after `ended`: tasks of user code that do not wait for the end are dropped.
    pub(super) cut_off: CancellationToken,
    close: OnceLock<Close>,
    pub(super) stall: Stall,
    /// Channels that user code or an order subscribed the session to.
    given: Mutex<Vec<ChannelName>>,
}

impl Inner {
    #[allow(clippy::too_many_arguments, reason = "each is a part of one session")]
    pub(super) fn new(
        connection: Connection,
        context: Arc<Context>,
        home: Arc<Home>,
        grant: Grant,
        client: String,
        request: Option<Box<Request>>,
        features: Features,
        tenancy: Tenancy,
    ) -> Self {
        let Features { lanes, datagrams } = features;
        let max = context.config.limits.subscriptions;
        let writers = Arc::new(Writers::new(connection.prompt(), max, lanes));
        let source: Arc<dyn Source> = Arc::clone(&writers) as _;
        connection.set_source(Arc::downgrade(&source));
        Self {
            id: rand::random(),
            connection,
            context,
            home,
            user: grant.user.clone(),
            grant: RwLock::new(Arc::new(grant)),
            refreshed: Notify::new(),
            client,
            request,
            datagrams,
            tenancy,
            tasks: TaskTracker::new(),
            writers,
            ended: CancellationToken::new(),
            cut_off: CancellationToken::new(),
            close: OnceLock::new(),
            stall: Stall::default(),
            given: Mutex::default(),
        }
    }

    /// Shared, so that no lock is held while it is used.
    pub(super) fn grant(&self) -> Arc<Grant> {
        Arc::clone(&self.grant.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_grant(&self, grant: Grant) {
        *self.grant.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(grant);
        self.refreshed.notify_one();
    }

    /// The server subscribed the session to a channel by itself: it may ask for that again, whatever its grant says, as long as no more
    /// others were given since than it may have subscriptions.
    pub(super) fn give(&self, channel: &ChannelName) {
        let mut given = self.lock_given();
        if !given.contains(channel) {
            if given.len() as u64 >= self.context.config.limits.subscriptions {
                given.remove(0);
            }
            given.push(channel.clone());
        }
    }

    pub(super) fn may_subscribe(&self, channel: &ChannelName) -> bool {
        self.context.rules.may_subscribe(&self.grant(), channel)
            || self.was_given(channel)
            || self.inherits(channel)
    }

    pub(super) fn was_given(&self, channel: &ChannelName) -> bool {
        self.lock_given().contains(channel)
    }

    /// Another session of the same user was given the channel, which is open or was just lost: a client that comes back, often before its
    /// old connection is found to be dead, goes on with what it had. What the grant denies by itself stays denied.
    fn inherits(&self, channel: &ChannelName) -> bool {
        let denied = self.grant().subscribe.decide(channel) == Some(false);
        let user = self.user.as_ref().filter(|_| !denied);
        user.is_some_and(|user| self.context.sessions.has_given(user, channel))
    }

    /// What the server gave by itself it takes back, from every session of the user.
    pub(super) fn take_back(&self, channel: &ChannelName) {
        self.forget_given(channel);
        if let Some(user) = &self.user {
            self.context.sessions.take_back(user, channel);
        }
    }

    pub(super) fn forget_given(&self, channel: &ChannelName) {
        self.lock_given().retain(|known| known != channel);
    }

    /// The session is lost, and not by an order of the server: the user's next may have what this one was given.
    pub(super) fn leave_given(&self) {
        if let Some(user) = &self.user {
            let given = self.lock_given().clone();
            self.context.sessions.keep_given(user, given);
        }
    }

    fn lock_given(&self) -> MutexGuard<'_, Vec<ChannelName>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders the end. The first reason stays.
    pub(super) fn end(&self, close: &Close) {
        let _ = self.close.set(close.clone());
        self.ended.cancel();
        // In this order: a task that waits for the end is woken before it is cut off.
        self.cut_off.cancel();
    }

    pub(super) fn close_order(&self) -> Option<Close> {
        self.close.get().cloned()
    }

    /// Writes on no stream any more.
    pub(super) fn end_streams(&self) {
        // Not beside a writer that writes.
        self.connection.with_streams(|_| self.writers.close());
    }

    /// How the peer left.
    pub(super) async fn left(&self) -> Close {
        let closed = self.connection.closed().await;
        Close::new(closed.code.unwrap_or(Code::CLOSED), closed.reason)
    }
}

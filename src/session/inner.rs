//! What the parts of a session share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Close, Context, Home, writers::Writers};
use crate::{
    auth::{Grant, Request},
    transport::{Connection, Source},
    wire::{ChannelName, Code, UserId},
};

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
    /// Every task of the session but its own.
    pub(super) tasks: TaskTracker,
    pub(super) writers: Arc<Writers>,
    /// The session is over or is to end; why stands in `close`.
    pub(super) ended: CancellationToken,
    close: OnceLock<Close>,
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
        lanes: bool,
        datagrams: bool,
    ) -> Self {
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
            tasks: TaskTracker::new(),
            writers,
            ended: CancellationToken::new(),
            close: OnceLock::new(),
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
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if !given.contains(channel) {
            if given.len() as u64 >= self.context.config.limits.subscriptions {
                given.remove(0);
            }
            given.push(channel.clone());
        }
    }

    pub(super) fn may_subscribe(&self, channel: &ChannelName) -> bool {
        let given = || self.given.lock().unwrap_or_else(PoisonError::into_inner);
        self.context.rules.may_subscribe(&self.grant(), channel) || given().contains(channel)
    }

    /// What the server gave by itself it takes back.
    pub(super) fn take_back(&self, channel: &ChannelName) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|known| known != channel);
    }

    /// Orders the end. The first reason stays.
    pub(super) fn end(&self, close: &Close) {
        let _ = self.close.set(close.clone());
        self.ended.cancel();
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

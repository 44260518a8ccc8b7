//! Subscriptions of a session: each a cursor, a stream and the task that brings them together (PROTOCOL §4.4, §4.5, §5).

use std::sync::Arc;

use super::{
    control::Refusal,
    handle::Inner,
    writer::{self, Until},
};
use crate::{
    broker::Subscription,
    transport::OpenError,
    wire::{
        ChannelName, Code, Position,
        frame::{Delivery, Frame, Header, Source},
    },
};

/// Why a session was not subscribed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// It is already.
    #[error("the session is subscribed to {0} already")]
    AlreadySubscribed(ChannelName),
    /// It has as many streams as it may have.
    #[error("a session has at most {0} subscriptions")]
    TooManySubscriptions(u64),
    /// The client permits no further stream.
    #[error("the client permits no further stream from the server")]
    NoStreamLeft,
    /// The server has as many channels as it may have.
    #[error("the server has no room for another channel now")]
    TooManyChannels,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    GoingAway,
    /// The session is over.
    #[error("the session is over")]
    Closed,
}

impl SubscribeError {
    /// Its code in PROTOCOL §7.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::AlreadySubscribed(_) => Code::ALREADY_SUBSCRIBED,
            Self::TooManySubscriptions(_) => Code::TOO_MANY_SUBSCRIPTIONS,
            Self::NoStreamLeft => Code::NO_STREAM_LEFT,
            Self::TooManyChannels => Code::TOO_MANY_CHANNELS,
            Self::GoingAway => Code::GOING_AWAY,
            Self::Closed => Code::ENDED,
        }
    }
}

/// `Subscribe`, with the checks that a client's wish needs.
pub(super) fn request(inner: &Arc<Inner>, channel: &str) -> Result<(u64, Position), Refusal> {
    let channel = ChannelName::parse(channel)
        .map_err(|error| Refusal::new(Code::INVALID_CHANNEL, error.to_string()))?;
    if !inner.context.rules.may_subscribe(&inner.grant, &channel) {
        let reason =
            format!("neither a rule nor the token lets this session subscribe to {channel}");
        return Err(Refusal::new(Code::PERMISSION_DENIED, reason));
    }
    subscribe(inner, &channel).map_err(|error| Refusal::new(error.code(), error.to_string()))
}

/// Subscribes without asking whether the session may. When this returns, the cursor stands: whatever is accepted for
/// publication from now on is delivered (PROTOCOL §4.4).
pub(super) fn subscribe(
    inner: &Arc<Inner>,
    channel: &ChannelName,
) -> Result<(u64, Position), SubscribeError> {
    open(inner, Source::CHANNEL, channel, Until::Head, || {
        inner
            .context
            .broker
            .subscribe(channel)
            .map_err(|_| SubscribeError::TooManyChannels)
    })
}

/// Opens a stream with the name and the source that the client is told, and starts its writer.
pub(super) fn open(
    inner: &Arc<Inner>,
    source: Source,
    name: &ChannelName,
    until: Until,
    reader: impl FnOnce() -> Result<Subscription, SubscribeError>,
) -> Result<(u64, Position), SubscribeError> {
    if inner.drain.is_cancelled() {
        return Err(SubscribeError::GoingAway);
    }
    let (id, ended) = inner.register(source, name)?;
    // From here on every way out leaves the register through this guard.
    let entry = Entry {
        inner: Arc::clone(inner),
        id,
    };
    let stream = inner
        .connection
        .try_open_uni()
        .map_err(|error| match error {
            OpenError::NoStreamLeft => SubscribeError::NoStreamLeft,
            OpenError::Closed => SubscribeError::Closed,
        })?;
    let subscription = reader()?;
    let position = subscription.position();
    inner.started(id, position);
    let header = Header {
        subscription: id,
        source,
        name: name.to_string(),
        epoch: position.epoch,
        first: position.offset + 1,
        recovered: false,
        delivery: Delivery::ORDERED,
    };
    let work = writer::Work {
        stream,
        header: Frame::from(header).encode(),
        subscription,
        until,
        ended,
        drain: inner.drain.clone(),
        session: Arc::clone(inner),
    };
    inner.tasks.spawn(async move {
        let _entry = entry;
        writer::run(work).await;
    });
    Ok((id, position))
}

/// `Unsubscribe`.
pub(super) fn unsubscribe(inner: &Inner, subscription: u64) -> Result<(), Refusal> {
    if inner.unregister(subscription) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::NOT_SUBSCRIBED,
        format!("the session has no subscription {subscription}"),
    ))
}

/// A place in the session's register, kept as long as its writer runs.
struct Entry {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.inner.forget(self.id);
    }
}

//! Subscriptions of a session: each a cursor, a stream and the writer that brings them together (PROTOCOL §4.4, §4.5, §5).

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    control::Refusal,
    datagram::{self, Datagrams},
    history,
    inner::Inner,
    lanes::Way,
    writer::{Until, Writer, rank},
};
use crate::{
    auth::Delivery,
    broker::{Due, NoRoom, Reader, Tenancy},
    transport::OpenError,
    wire::{
        ChannelName, Code, Position, Start,
        frame::{self, Frame, Header, Source},
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
    /// The client permits no further stream, and knows no lanes (PROTOCOL §5.7) or permits none for one, either.
    #[error("the client permits no further stream from the server")]
    NoStreamLeft,
    /// The channel is new, and there is no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
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
            Self::NoRoom(error) => error.code(),
            Self::GoingAway => Code::GOING_AWAY,
            Self::Closed => Code::ENDED,
        }
    }
}

/// `Subscribe` and `SubscribeFrom`, with the checks that a client's wish needs.
pub(super) fn request(
    inner: &Arc<Inner>,
    channel: &str,
    start: Start,
) -> Result<(u64, Position), Refusal> {
    let channel = ChannelName::parse(channel)
        .map_err(|error| Refusal::new(Code::INVALID_CHANNEL, error.to_string()))?;
    let reason =
        || format!("neither a rule nor the token lets this session subscribe to {channel}");
    if !inner.may_subscribe(&channel) {
        return Err(Refusal::new(Code::PERMISSION_DENIED, reason()));
    }
    if matches!(start, Start::Latest(_)) {
        history::permit(inner, &channel)?;
    }
    let tenancy = Some(&inner.tenancy);
    let made = read(inner, Source::CHANNEL, &channel, &channel, start, tenancy)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    // Its grant may have become another meanwhile, and what that ended did not know of this one.
    if !inner.may_subscribe(&channel) {
        end(inner, made.0, Code::PERMISSION_DENIED);
        return Err(Refusal::new(Code::PERMISSION_DENIED, reason()));
    }
    if !inner.context.rules.may_subscribe(&inner.grant(), &channel) {
        // It outlives the session that was given it first.
        inner.give(&channel);
    }
    Ok(made)
}

/// Subscribes without asking whether the session may. When this returns, the cursor stands: whatever is accepted for
/// publication from now on is delivered (PROTOCOL §4.4).
pub(super) fn subscribe(
    inner: &Arc<Inner>,
    channel: &ChannelName,
) -> Result<(u64, Position), SubscribeError> {
    let made = read(inner, Source::CHANNEL, channel, channel, Start::Head, None);
    if matches!(made, Ok(_) | Err(SubscribeError::AlreadySubscribed(_))) {
        inner.give(channel);
    }
    made
}

/// The same for what a rule gives: for as long as the session may have it.
pub(super) fn by_rule(
    inner: &Arc<Inner>,
    channel: &ChannelName,
) -> Result<(u64, Position), SubscribeError> {
    read(inner, Source::CHANNEL, channel, channel, Start::Head, None)
}

/// Brings a channel onto a stream. Where it is new, it is created for `tenancy`, or for the server.
pub(super) fn read(
    inner: &Arc<Inner>,
    source: Source,
    name: &ChannelName,
    channel: &ChannelName,
    start: Start,
    tenancy: Option<&Tenancy>,
) -> Result<(u64, Position), SubscribeError> {
    let delivery = datagram::delivery(inner, channel);
    let start = datagram::start(inner, channel, start);
    open(inner, source, name, Until::Head, delivery, |due, key| {
        let broker = &inner.context.broker;
        let reader = broker
            .read(channel, tenancy, &inner.home.audience, due, key, start)?
            .of_session(inner.id);
        let reader = if source == Source::CHANNEL {
            broker.attended(reader, inner.id, inner.user.as_ref())
        } else {
            reader
        };
        Ok(match delivery.max_age {
            Some(max_age) => broker.expiring(reader, max_age),
            None => reader,
        })
    })
}

/// Opens a stream with the name and the source that the client is told, for a reader that says through `Due` when it is due.
pub(super) fn open(
    inner: &Arc<Inner>,
    source: Source,
    name: &ChannelName,
    until: Until,
    delivery: Delivery,
    reader: impl FnOnce(&Arc<dyn Due>, u32) -> Result<Reader, SubscribeError>,
) -> Result<(u64, Position), SubscribeError> {
    if inner.home.drain.is_cancelled() {
        return Err(SubscribeError::GoingAway);
    }
    if inner.ended.is_cancelled() {
        return Err(SubscribeError::Closed);
    }
    // From here on every way out frees the place.
    let place = inner.writers.take(source, name)?;
    let reader = reader(&inner.writers.due(), place.key)?;
    let opened = inner.connection.arrange(|streams| {
        let (way, prefix) = inner.writers.way(delivery.priority, streams)?;
        if delivery.is_impatient() {
            if let Way::Own(stream) = way {
                streams.set_priority(stream, rank(delivery.priority));
            }
            streams.hurry();
        }
        Ok((way, prefix))
    });
    let (way, prefix) = opened.map_err(|error| match error {
        OpenError::NoStreamLeft => SubscribeError::NoStreamLeft,
        OpenError::Closed => SubscribeError::Closed,
    })?;
    let (id, position) = (place.id, reader.position());
    let header = Header {
        subscription: id,
        source,
        name: name.to_string(),
        epoch: position.epoch,
        first: position.offset + 1,
        recovered: reader.recovered(),
        delivery: if delivery.datagrams.is_some() {
            frame::Delivery::DATAGRAM
        } else if delivery.is_fresh() {
            frame::Delivery::FRESH
        } else {
            frame::Delivery::ORDERED
        },
    };
    let header = Frame::from(header).encode();
    let first = prefix.into_iter().chain([header]);
    let datagrams = delivery
        .datagrams
        .map(|keyframes| Datagrams::new(id, keyframes, reader.reached().1 > 0));
    let writer = Writer::new(way, reader, until, delivery, first).with_datagrams(datagrams);
    if !place.keep(writer, position) {
        if let Way::Own(stream) = way {
            inner
                .connection
                .with_streams(|streams| streams.reset(stream, Code::ENDED));
        }
        return Err(SubscribeError::Closed);
    }
    Ok((id, position))
}

/// Time that the last frame of an unsubscribed stream may take, before it is reset instead.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// `Unsubscribe`.
pub(super) fn unsubscribe(inner: &Arc<Inner>, subscription: u64) -> Result<(), Refusal> {
    if end(inner, subscription, Code::UNSUBSCRIBED) {
        return Ok(());
    }
    let reason = format!("the session has no subscription {subscription}");
    Err(Refusal::new(Code::NOT_SUBSCRIBED, reason))
}

/// Ends a subscription with `code`; whether there was one.
pub(super) fn end(inner: &Arc<Inner>, subscription: u64, code: Code) -> bool {
    let mut told = None;
    inner
        .connection
        .with_streams(|streams| told = inner.writers.end(subscription, code, streams));
    let Some(last_words) = told else {
        return false;
    };
    if last_words {
        let task = {
            let inner = Arc::clone(inner);
            async move {
                tokio::select! {
                    () = inner.ended.cancelled() => {}
                    () = sleep(LAST_WORDS) => inner
                        .connection
                        .with_streams(|streams| inner.writers.give_up(subscription, code, streams)),
                }
            }
        };
        inner.tasks.spawn_on(task, &inner.home.runtime);
    }
    true
}

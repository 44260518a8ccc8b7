//! `Publish` and `PublishOnce` (PROTOCOL §4.6, §4.12).

use super::{control::Refusal, inner::Inner};
use crate::{
    broker::PublishError,
    wire::{
        ChannelName, Code, UserId,
        frame::{Frame, Level, Publish, PublishOnce, Published, PublishedOnce},
    },
};

pub(super) fn publish(inner: &Inner, publish: Publish) -> Result<Frame, Refusal> {
    let channel = permitted(inner, &publish.channel)?;
    let published =
        inner
            .context
            .broker
            .publish(&channel, shown(inner, &channel), &publish.message);
    Ok(Published {
        request: publish.request,
        position: published.map_err(refusal)?,
        level: Level::MEMORY,
    }
    .into())
}

pub(super) fn publish_once(inner: &Inner, publish: PublishOnce) -> Result<Frame, Refusal> {
    let channel = permitted(inner, &publish.channel)?;
    let (key, owner) = (&publish.key, inner.user.as_ref());
    let broker = &inner.context.broker;
    let published = broker
        .publish_once_as(
            &channel,
            shown(inner, &channel),
            owner,
            key,
            &publish.message,
        )
        .map_err(refusal)?;
    Ok(PublishedOnce {
        request: publish.request,
        position: published.position,
        level: Level::MEMORY,
        duplicate: published.duplicate,
    }
    .into())
}

/// Whom subscribers are told as the publisher.
fn shown<'a>(inner: &'a Inner, channel: &ChannelName) -> Option<&'a UserId> {
    inner
        .user
        .as_ref()
        .filter(|_| !inner.context.rules.hides_publisher(channel))
}

fn permitted(inner: &Inner, channel: &str) -> Result<ChannelName, Refusal> {
    let channel = ChannelName::parse(channel)
        .map_err(|error| Refusal::new(Code::INVALID_CHANNEL, error.to_string()))?;
    if !inner.context.rules.may_publish(&inner.grant(), &channel) {
        let reason = format!("neither a rule nor the token lets this session publish to {channel}");
        return Err(Refusal::new(Code::PERMISSION_DENIED, reason));
    }
    Ok(channel)
}

fn refusal(error: PublishError) -> Refusal {
    Refusal::new(error.code(), error.to_string())
}

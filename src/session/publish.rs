//! `Publish`, `PublishOnce` and `PublishWith` (PROTOCOL §4.6, §4.12, §4.14).

use super::{control::Refusal, inner::Inner};
use crate::{
    broker::{PublishError, Publisher, Terms},
    wire::{
        ChannelName, Code, Message,
        frame::{Frame, Level, Publish, PublishOnce, PublishWith, Published, PublishedOnce},
    },
};

pub(super) fn publish(inner: &Inner, publish: Publish) -> Result<Frame, Refusal> {
    let channel = permitted(inner, &publish.channel)?;
    let published = inner
        .context
        .broker
        .publish_as(
            &channel,
            publisher(inner, &channel),
            &publish.message,
            Terms::new(),
        )
        .map_err(refusal)?;
    Ok(Published {
        request: publish.request,
        position: published.position,
        level: Level::MEMORY,
    }
    .into())
}

pub(super) fn publish_once(inner: &Inner, publish: PublishOnce) -> Result<Frame, Refusal> {
    let terms = Terms::new().key(&publish.key);
    let (request, channel) = (publish.request, &publish.channel);
    on_terms(inner, request, channel, terms, &publish.message)
}

pub(super) fn publish_with(inner: &Inner, publish: PublishWith) -> Result<Frame, Refusal> {
    let mut terms = Terms::new();
    terms.key = publish.key.as_deref();
    terms.conflation_key = publish.conflation_key.as_deref();
    terms.exclude = (!publish.echo).then_some(inner.id);
    let (request, channel) = (publish.request, &publish.channel);
    on_terms(inner, request, channel, terms, &publish.message)
}

fn on_terms(
    inner: &Inner,
    request: u64,
    channel: &str,
    terms: Terms<'_>,
    message: &Message,
) -> Result<Frame, Refusal> {
    let channel = permitted(inner, channel)?;
    let broker = &inner.context.broker;
    let published = broker
        .publish_as(&channel, publisher(inner, &channel), message, terms)
        .map_err(refusal)?;
    Ok(PublishedOnce {
        request,
        position: published.position,
        level: Level::MEMORY,
        duplicate: published.duplicate,
    }
    .into())
}

fn publisher<'a>(inner: &'a Inner, channel: &ChannelName) -> Publisher<'a> {
    let owner = inner.user.as_ref();
    Publisher {
        shown: owner.filter(|_| !inner.context.rules.hides_publisher(channel)),
        user: owner,
        session: Some(inner.id),
        tenancy: Some(&inner.tenancy),
    }
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

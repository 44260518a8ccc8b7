//! `Publish` (PROTOCOL §4.6).

use super::{control::Refusal, inner::Inner};
use crate::wire::{
    ChannelName, Code,
    frame::{Frame, Level, Publish, Published},
};

pub(super) fn publish(inner: &Inner, publish: Publish) -> Result<Frame, Refusal> {
    let channel = ChannelName::parse(&publish.channel)
        .map_err(|error| Refusal::new(Code::INVALID_CHANNEL, error.to_string()))?;
    if !inner.context.rules.may_publish(&inner.grant, &channel) {
        let reason = format!("neither a rule nor the token lets this session publish to {channel}");
        return Err(Refusal::new(Code::PERMISSION_DENIED, reason));
    }
    let position = inner
        .context
        .broker
        .publish(&channel, inner.grant.user.as_ref(), &publish.message)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    Ok(Published {
        request: publish.request,
        position,
        level: Level::MEMORY,
    }
    .into())
}

//! `ReadPresence` (PROTOCOL §4.15).

use super::{control::Refusal, inner::Inner};
use crate::wire::{
    ChannelName, Code,
    frame::{Frame, PresencePage, ReadPresence},
};

/// Whoever may subscribe may know who did, where the channel's rule tells that at all.
pub(super) fn read(inner: &Inner, wanted: &ReadPresence) -> Result<Frame, Refusal> {
    let channel = ChannelName::parse(&wanted.channel)
        .map_err(|error| Refusal::new(Code::INVALID_CHANNEL, error.to_string()))?;
    if !inner.may_subscribe(&channel) {
        let reason = format!(
            "neither a rule nor the token lets this session subscribe to {channel}, nor know who does"
        );
        return Err(Refusal::new(Code::PERMISSION_DENIED, reason));
    }
    let Some(found) = inner.context.broker.presence(&channel, wanted.limit) else {
        let reason = format!("the rule of {channel} tells nobody who is in it: it has no presence");
        return Err(Refusal::new(Code::PERMISSION_DENIED, reason));
    };
    Ok(PresencePage {
        request: wanted.request,
        position: found.position,
        connections: found.connections,
        users: found.users,
        members: found.members,
        complete: found.complete,
    }
    .into())
}

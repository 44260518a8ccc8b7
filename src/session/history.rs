//! `ReadHistory` (PROTOCOL §4.11).

use bytes::Bytes;

use super::{control::Refusal, inner::Inner};
use crate::wire::{
    ChannelName, Code,
    frame::{Frame, HistoryPage, ReadHistory},
};

/// The page, and after it its publications as they are encoded already.
pub(super) fn read(
    inner: &Inner,
    wanted: &ReadHistory,
    out: &mut Vec<Bytes>,
) -> Result<(), Refusal> {
    let channel = ChannelName::parse(&wanted.channel)
        .map_err(|error| Refusal::new(Code::INVALID_CHANNEL, error.to_string()))?;
    permit(inner, &channel)?;
    let page = inner.context.broker.page(&channel, &wanted.query);
    let head = HistoryPage {
        request: wanted.request,
        kept: page.kept,
        complete: page.complete,
        count: page.frames.len() as u64,
    };
    out.push(Frame::from(head).encode());
    out.extend(page.frames);
    Ok(())
}

/// Whether the session may read what is kept of a channel.
pub(super) fn permit(inner: &Inner, channel: &ChannelName) -> Result<(), Refusal> {
    if inner
        .context
        .rules
        .may_read_history(&inner.grant(), channel)
    {
        return Ok(());
    }
    let reason =
        format!("neither a rule nor the token lets this session read the history of {channel}");
    Err(Refusal::new(Code::PERMISSION_DENIED, reason))
}

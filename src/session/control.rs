//! The control stream: requests in, answers out, in order (PROTOCOL §4.3).

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    Close, REQUESTS as REFUSED, Session, handshake::protocol_fault, history, inner::Inner,
    is_about_credentials, presence, publish, refresh, stall, subscribe,
};
use crate::{
    transport::{
        FrameError, FrameReader, SendStream, StreamError,
        peer_log::{Excerpt, throttled},
    },
    wire::{
        Code, Start,
        codec::{REQUESTS, RawFrame},
        frame::{
            Failed, Frame, GoAway, Pong, Refresh, Subscribe, SubscribeFrom, Subscribed,
            Unsubscribed,
        },
    },
};

pub(super) struct Control {
    reader: FrameReader,
    writer: SendStream,
    /// The answer that is being written, a page of history at most; kept here so that a cancelled write goes on where it stopped.
    outgoing: Vec<Bytes>,
    told_to_leave: bool,
}

/// A request that was refused; the connection lives on.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

impl Control {
    pub(super) const fn new(reader: FrameReader, writer: SendStream) -> Self {
        Self {
            reader,
            writer,
            outgoing: Vec::new(),
            told_to_leave: false,
        }
    }

    /// Answers requests until the session is to be closed. One request is answered before the next is read, so a client that
    /// does not read its answers is not read either: nothing queues up here.
    pub(super) async fn run(&mut self, session: &Session) -> Close {
        let inner = session.inner();
        let mut drained = pin!(inner.home.drain.cancelled());
        loop {
            match self.answer(inner.context.config.stalled).await {
                Ok(()) => {}
                Err(Some(StreamError::Peer(_))) => {
                    return Close::new(Code::CLOSED, "the client stopped the control stream");
                }
                Err(Some(StreamError::Closed)) => return inner.left().await,
                Err(None) => return stall::stalled(inner.context.config.stalled),
            }
            self.outgoing.clear();
            // A client that never stops asking is one task among many.
            tokio::task::coop::consume_budget().await;
            tokio::select! {
                biased;
                () = &mut drained, if !self.told_to_leave => self.tell_to_leave(session),
                read = self.reader.next() => match read {
                    Ok(Some(raw)) => match handle(session, &raw, &mut self.outgoing) {
                        Ok(None) => {}
                        Ok(Some(refresh)) => {
                            let request = refresh.request;
                            let answer = Box::pin(refresh::refresh(inner, refresh)).await;
                            self.outgoing.push(encode(request, answer));
                        }
                        Err(close) => return close,
                    },
                    Ok(None) => return Close::new(Code::CLOSED, "the client ended the control stream"),
                    Err(FrameError::Decode(error)) => return protocol_fault(&error),
                    Err(FrameError::Reset(_)) => return Close::new(Code::CLOSED, "the client reset the control stream"),
                    Err(FrameError::Closed) => return inner.left().await,
                },
            }
        }
    }

    /// Writes the answer. The error is `None` where the client took nothing of it for as long as `limit`.
    async fn answer(&mut self, limit: Duration) -> Result<(), Option<StreamError>> {
        loop {
            let left = |outgoing: &[Bytes]| outgoing.iter().map(Bytes::len).sum::<usize>();
            let before = left(&self.outgoing);
            match timeout(limit, self.writer.write_all(&mut self.outgoing)).await {
                Ok(written) => return written.map_err(Some),
                Err(_) if left(&self.outgoing) == before => return Err(None),
                Err(_) => {}
            }
        }
    }

    fn tell_to_leave(&mut self, session: &Session) {
        self.told_to_leave = true;
        let grace = session.inner().context.config.grace;
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let code = Code::GOING_AWAY;
        self.outgoing
            .push(Frame::from(GoAway { code, grace }).encode());
    }

    /// The last words before a close: the answer in flight, `GoAway` if it was not sent yet, and the end of the stream; returns when
    /// the client has it all. A publish that was accepted so has its acknowledgement.
    pub(super) async fn finish(&mut self, session: &Session) {
        if !self.told_to_leave {
            self.tell_to_leave(session);
        }
        if self.writer.write_all(&mut self.outgoing).await.is_ok() {
            self.writer.finish();
            self.writer.acknowledged().await;
        }
    }
}

/// Answers one frame, where it is to be answered; but for a `Refresh`, which takes its time.
fn handle(
    session: &Session,
    raw: &RawFrame,
    out: &mut Vec<Bytes>,
) -> Result<Option<Refresh>, Close> {
    let Some(frame) = Frame::decode(raw).map_err(|error| protocol_fault(&error))? else {
        out.extend(unknown(raw)?);
        return Ok(None);
    };
    let inner = session.inner();
    let (request, answer) = match frame {
        Frame::Publish(publish) => (publish.request, publish::publish(inner, publish)),
        Frame::PublishOnce(publish) => (publish.request, publish::publish_once(inner, publish)),
        Frame::PublishWith(publish) => (publish.request, publish::publish_with(inner, publish)),
        Frame::Subscribe(Subscribe { request, channel }) => {
            (request, subscribed(inner, request, &channel, Start::Head))
        }
        Frame::SubscribeFrom(SubscribeFrom {
            request,
            channel,
            start,
        }) => (request, subscribed(inner, request, &channel, start)),
        Frame::Unsubscribe(unsubscribe) => (
            unsubscribe.request,
            subscribe::unsubscribe(inner, unsubscribe.subscription).map(|()| {
                Frame::from(Unsubscribed {
                    request: unsubscribe.request,
                })
            }),
        ),
        Frame::ReadHistory(wanted) => match history::read(inner, &wanted, out) {
            Ok(()) => return Ok(None),
            Err(refusal) => (wanted.request, Err(refusal)),
        },
        Frame::ReadPresence(wanted) => (wanted.request, presence::read(inner, &wanted)),
        Frame::Refresh(refresh) => return Ok(Some(refresh)),
        Frame::Ping(ping) => (
            ping.request,
            Ok(Frame::from(Pong {
                request: ping.request,
                time: inner.context.broker.now(),
            })),
        ),
        other => {
            let reason = format!("{} is not for a client to send now", other.name());
            return Err(Close::new(Code::UNEXPECTED_FRAME, reason));
        }
    };
    out.push(encode(request, answer));
    Ok(None)
}

fn encode(request: u64, answer: Result<Frame, Refusal>) -> Bytes {
    match answer {
        Ok(answer) => answer.encode(),
        Err(refusal) => refuse(request, refusal),
    }
}

fn subscribed(
    inner: &Arc<Inner>,
    request: u64,
    channel: &str,
    start: Start,
) -> Result<Frame, Refusal> {
    let (subscription, position) = subscribe::request(inner, channel, start)?;
    Ok(Frame::from(Subscribed {
        request,
        subscription,
        position,
    }))
}

/// An unknown request is answered (PROTOCOL §4.3), any other unknown frame skipped (PROTOCOL §3.5).
fn unknown(raw: &RawFrame) -> Result<Option<Bytes>, Close> {
    if !REQUESTS.contains(&raw.kind) {
        return Ok(None);
    }
    let Some(request) = Frame::request_id(raw) else {
        let reason = format!("a request of type {:#04x} without an id", raw.kind);
        return Err(Close::new(Code::PROTOCOL_VIOLATION, reason));
    };
    let reason = format!("this server knows no request of type {:#04x}", raw.kind);
    Ok(Some(refuse(
        request,
        Refusal::new(Code::UNKNOWN_REQUEST, reason),
    )))
}

fn refuse(request: u64, refusal: Refusal) -> Bytes {
    let (code, reason) = (refusal.code, Excerpt(&refusal.reason));
    if is_about_credentials(code) {
        throttled!(REFUSED, info, request, %code, %reason, "request refused");
    } else {
        tracing::debug!(request, %code, %reason, "request refused");
    }
    Frame::from(Failed {
        request,
        code: refusal.code,
        reason: refusal.reason,
    })
    .encode()
}

/// Refuses every bidirectional stream after the control stream (PROTOCOL §2.3) until the connection is over; how it ended.
pub(super) async fn refuse_streams(inner: &Inner) -> Close {
    while let Ok((mut send, mut recv)) = inner.connection.accept_bi().await {
        send.reset(Code::UNEXPECTED_FRAME);
        recv.stop(Code::UNEXPECTED_FRAME);
    }
    inner.left().await
}

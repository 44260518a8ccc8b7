//! From a cursor to a stream (PROTOCOL §5): one small loop for each subscription, which is why a stalled reader of one channel
//! holds up nothing else.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

use super::handle::Inner;
use crate::{
    broker::{Batch, Subscription},
    transport::{SendStream, StreamError},
    wire::{
        Code,
        frame::{End, Frame, Lagged},
    },
};

/// What a writer works with.
pub(super) struct Work {
    pub(super) stream: SendStream,
    pub(super) header: Bytes,
    pub(super) subscription: Subscription,
    pub(super) until: Until,
    /// Says that this subscription alone is to end, or is dropped for the same reason.
    pub(super) ended: oneshot::Receiver<Code>,
    /// The server goes away: write what there is, then end.
    pub(super) drain: CancellationToken,
    /// When the session is over, the writer stops at once.
    pub(super) session: Arc<Inner>,
}

/// Where a draining writer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// At the head of a channel: the broker takes nothing any more.
    Head,
    /// At the end of a log that somebody still writes to while it drains.
    End,
}

/// Time that the last frame of an unsubscribed stream may take, before it is reset instead.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) async fn run(work: Work) {
    let Work {
        mut stream,
        header,
        mut subscription,
        until,
        mut ended,
        drain,
        session,
    } = work;
    let mut chunks = vec![header];
    let mut stopped = pin!(stream.stopped());
    let code = loop {
        // Stopping and ending are seen while a stalled reader blocks the write: the frame in flight is then cut off by a reset.
        let write = async {
            let written = stream.write_all(&mut chunks).await;
            chunks.clear();
            written
        };
        tokio::select! {
            biased;
            () = session.ended.cancelled() => return stream.reset(session.close_code()),
            written = write => match written {
                Ok(()) => {}
                Err(StreamError::Peer(_) | StreamError::Closed) => return stream.reset(Code::UNSUBSCRIBED),
            },
            // Only while the write is blocked: what is told to end between two frames gets an `End`.
            code = &mut ended => return stream.reset(code.unwrap_or(Code::UNSUBSCRIBED)),
            _ = &mut stopped => return stream.reset(Code::UNSUBSCRIBED),
        }
        if let Ok(code) = ended.try_recv() {
            break code;
        }
        let batch = match subscription.try_batch(&mut chunks) {
            Some(batch) => batch,
            None if drain.is_cancelled() && until == Until::Head => {
                // Once more, now that the broker is known to be closed: what was accepted before is in the log.
                match subscription.try_batch(&mut chunks) {
                    Some(batch) => batch,
                    None => break Code::GOING_AWAY,
                }
            }
            None => tokio::select! {
                biased;
                () = session.ended.cancelled() => return stream.reset(session.close_code()),
                code = &mut ended => break code.unwrap_or(Code::UNSUBSCRIBED),
                // The client stopped it, or the connection is over.
                _ = &mut stopped => return stream.reset(Code::UNSUBSCRIBED),
                batch = subscription.next_batch(&mut chunks) => batch,
                () = drain.cancelled(), if until == Until::Head => continue,
            },
        };
        match batch {
            Batch::Frames => {}
            Batch::Lagged { from, to } => {
                tracing::debug!(channel = %subscription.channel(), from, to, "a reader lags");
                chunks.push(Frame::from(Lagged { from, to }).encode());
            }
            Batch::Ended => {
                break if drain.is_cancelled() {
                    Code::GOING_AWAY
                } else {
                    Code::ENDED
                };
            }
        }
    };
    drop(subscription);
    let end = Frame::from(End {
        code,
        reason: reason(code).to_owned(),
    })
    .encode();
    let last_words = async {
        if stream.write_all(&mut [end]).await.is_ok() {
            stream.finish();
        }
        // Until the peer has it all.
        let _ = stopped.await;
    };
    if code != Code::UNSUBSCRIBED {
        // Somebody wants the rest. When the server goes away, the session is over at the end of the grace.
        tokio::select! {
            () = session.ended.cancelled() => {}
            () = last_words => {}
        }
    } else if timeout(LAST_WORDS, last_words).await.is_err() {
        stream.reset(code);
    }
}

const fn reason(code: Code) -> &'static str {
    match code {
        Code::GOING_AWAY => "the server is shutting down",
        Code::UNSUBSCRIBED => "as the client asked",
        _ => "ended by the server",
    }
}

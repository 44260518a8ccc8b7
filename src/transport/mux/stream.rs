//! Streams that a task reads and writes.

use std::task::{Context, Poll};

use bytes::Bytes;
use quinn_proto::StreamId;

use super::{Connection, Interest, recv::Read};
use crate::{transport::StreamError, wire::Code};

/// Bytes out. Dropping it leaves the stream as it is: see `transport::SendStream`.
#[derive(Debug)]
pub(in crate::transport) struct SendStream {
    connection: Connection,
    id: StreamId,
}

fn peer(code: u64) -> StreamError {
    StreamError::Peer(Code(u32::try_from(code).unwrap_or(u32::MAX)))
}

impl SendStream {
    pub(super) const fn new(connection: Connection, id: StreamId) -> Self {
        Self { connection, id }
    }

    /// Writes all chunks. Each is replaced by what is left of it, so a cancelled call can be taken up again with the same slice.
    pub(in crate::transport) async fn write_all(
        &self,
        chunks: &mut [Bytes],
    ) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.poll_write(cx, chunks)).await
    }

    fn poll_write(&self, cx: &Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<(), StreamError>> {
        let written = self
            .connection
            .with(|state| match state.write(self.id, chunks) {
                Some(true) => Ok(true),
                Some(false) => {
                    state.wait(Interest::Writable(self.id), cx.waker());
                    Ok(false)
                }
                None => Err(match state.stopped(self.id) {
                    Ok(Some(code)) if state.error.is_none() => peer(code),
                    _ => StreamError::Closed,
                }),
            });
        match written {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(in crate::transport) fn finish(&self) {
        self.connection.with(|state| state.finish(self.id));
    }

    pub(in crate::transport) fn reset(&self, code: Code) {
        self.connection.with(|state| state.reset(self.id, code));
    }

    pub(in crate::transport) fn set_priority(&self, priority: i32) {
        self.connection.lock().set_priority(self.id, priority);
    }

    /// Waits until the peer has stopped the stream, or all of a finished one is on its way, or the connection is over. Cancel safe.
    #[cfg(feature = "server")]
    pub(in crate::transport) async fn stopped(&self) {
        let id = self.id;
        let stopped =
            self.connection
                .until(Interest::Stopped(id), |state| match state.stopped(id) {
                    Ok(None) => None,
                    Ok(Some(_)) | Err(_) => Some(()),
                });
        let _ = stopped.await;
    }
}

/// Bytes in. Dropping it leaves the stream as it is: see `transport::RecvStream`.
#[derive(Debug)]
pub(in crate::transport) struct RecvStream {
    connection: Connection,
    id: StreamId,
}

impl RecvStream {
    pub(super) const fn new(connection: Connection, id: StreamId) -> Self {
        Self { connection, id }
    }

    /// The next bytes, at most `max`; `None` at the end. Cancel safe.
    pub(in crate::transport) async fn read(
        &self,
        max: usize,
    ) -> Result<Option<Bytes>, StreamError> {
        std::future::poll_fn(|cx| self.poll_read(cx, max)).await
    }

    fn poll_read(&self, cx: &Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, StreamError>> {
        let (read, over) = self.connection.with(|state| {
            let read = state.read(self.id, max);
            if read == Read::Blocked {
                state.wait(Interest::Readable(self.id), cx.waker());
            }
            (read, state.error.is_some())
        });
        match read {
            Read::Bytes(bytes) => Poll::Ready(Ok(Some(bytes))),
            Read::Finished => Poll::Ready(Ok(None)),
            Read::Reset(code) => Poll::Ready(Err(peer(code))),
            Read::Blocked if over => Poll::Ready(Err(StreamError::Closed)),
            Read::Blocked => Poll::Pending,
        }
    }

    pub(in crate::transport) fn stop(&self, code: Code) {
        self.connection.with(|state| state.stop(self.id, code));
    }
}

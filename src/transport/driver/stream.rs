//! Streams that a task reads and writes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use quinn_proto::{ReadableError, StreamId, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Connection, Interest};

/// Why a stream takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) enum WriteError {
    /// The peer stopped it.
    Stopped(VarInt),
    /// The connection is over, or this side ended the stream.
    Closed,
}

/// Why a stream gives no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) enum ReadError {
    /// The peer reset it.
    Reset(VarInt),
    /// The connection is over, or this side ended the stream.
    Closed,
}

/// Writes all chunks; each is replaced by what is left of it.
pub(super) fn write_all(
    stream: &mut quinn_proto::SendStream<'_>,
    chunks: &mut [Bytes],
) -> Result<(), quinn_proto::WriteError> {
    let mut rest = chunks;
    while let Some(first) = rest.first() {
        if first.is_empty() {
            rest = &mut rest[1..];
            continue;
        }
        let written = stream.write_chunks(rest)?;
        rest = &mut rest[written.chunks..];
    }
    Ok(())
}

/// Bytes out. Dropping it leaves the stream as it is: see `transport::SendStream`.
#[derive(Debug)]
pub(in crate::transport) struct SendStream {
    connection: Connection,
    id: StreamId,
}

impl SendStream {
    pub(super) const fn new(connection: Connection, id: StreamId) -> Self {
        Self { connection, id }
    }

    /// Writes all chunks without copying. Each chunk is replaced by what is left of it, so a cancelled call can be taken up again
    /// with the same slice.
    pub(in crate::transport) async fn write_chunks(
        &mut self,
        chunks: &mut [Bytes],
    ) -> Result<(), WriteError> {
        std::future::poll_fn(|cx| self.poll_write_chunks(cx, chunks)).await
    }

    fn poll_write_chunks(
        &self,
        cx: &Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<(), WriteError>> {
        let mut state = self.connection.lock();
        if state.error.is_some() {
            return Poll::Ready(Err(WriteError::Closed));
        }
        let written = write_all(&mut state.proto.send_stream(self.id), chunks);
        state.tried(self.id);
        if matches!(written, Err(quinn_proto::WriteError::Blocked)) {
            state.wait(Interest::Writable(self.id), cx);
        }
        drop(state);
        self.connection.drive();
        match written {
            Ok(()) => Poll::Ready(Ok(())),
            Err(quinn_proto::WriteError::Blocked) => Poll::Pending,
            Err(quinn_proto::WriteError::Stopped(code)) => {
                Poll::Ready(Err(WriteError::Stopped(code)))
            }
            Err(quinn_proto::WriteError::ClosedStream) => Poll::Ready(Err(WriteError::Closed)),
        }
    }

    pub(in crate::transport) fn finish(&mut self) {
        let mut state = self.connection.lock();
        let _ = state.proto.send_stream(self.id).finish();
        state.tried(self.id);
        drop(state);
        self.connection.drive();
    }

    pub(in crate::transport) fn reset(&mut self, code: VarInt) {
        let mut state = self.connection.lock();
        let _ = state.proto.send_stream(self.id).reset(code);
        state.tried(self.id);
        drop(state);
        self.connection.drive();
    }

    pub(in crate::transport) fn set_priority(&self, priority: i32) {
        let mut state = self.connection.lock();
        let _ = state.proto.send_stream(self.id).set_priority(priority);
    }

    /// Waits until the peer has stopped the stream (its code), or has all of a finished one or the connection is over (`None`).
    /// Cancel safe.
    pub(in crate::transport) async fn stopped(&self) -> Option<VarInt> {
        let id = self.id;
        let stopped = self.connection.until(Interest::Stopped(id), |state| {
            match state.proto.send_stream(id).stopped() {
                Ok(None) => None,
                Ok(Some(code)) => Some(Some(code)),
                Err(_) => Some(None),
            }
        });
        stopped.await.ok().flatten()
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.connection.lock();
        if state.error.is_some() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        let written = state.proto.send_stream(self.id).write(bytes);
        state.tried(self.id);
        let blocked = matches!(written, Err(quinn_proto::WriteError::Blocked));
        if blocked {
            state.wait(Interest::Writable(self.id), cx);
        }
        drop(state);
        self.connection.drive();
        if blocked {
            return Poll::Pending;
        }
        Poll::Ready(written.map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

/// Bytes in. Dropping it leaves the stream as it is: see `transport::RecvStream`.
#[derive(Debug)]
pub(in crate::transport) struct RecvStream {
    connection: Connection,
    id: StreamId,
    /// At its end, by either side.
    over: bool,
}

impl RecvStream {
    pub(super) const fn new(connection: Connection, id: StreamId) -> Self {
        Self {
            connection,
            id,
            over: false,
        }
    }

    /// The next bytes, at most `max`; `None` at the end. Cancel safe.
    pub(in crate::transport) async fn read_chunk(
        &mut self,
        max: usize,
    ) -> Result<Option<Bytes>, ReadError> {
        std::future::poll_fn(|cx| self.poll_chunk(cx, max)).await
    }

    fn poll_chunk(
        &mut self,
        cx: &Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        if self.over {
            return Poll::Ready(Ok(None));
        }
        let mut state = self.connection.lock();
        let mut stream = state.proto.recv_stream(self.id);
        let mut chunks = match stream.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                return Poll::Ready(Err(ReadError::Closed));
            }
        };
        let next = chunks.next(max);
        let transmit = chunks.finalize().should_transmit();
        let read = match next {
            Ok(chunk) => {
                self.over = chunk.is_none();
                Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes)))
            }
            Err(quinn_proto::ReadError::Reset(code)) => {
                self.over = true;
                Poll::Ready(Err(ReadError::Reset(code)))
            }
            Err(quinn_proto::ReadError::Blocked) if state.error.is_some() => {
                Poll::Ready(Err(ReadError::Closed))
            }
            Err(quinn_proto::ReadError::Blocked) => {
                state.wait(Interest::Readable(self.id), cx);
                Poll::Pending
            }
        };
        drop(state);
        if transmit {
            self.connection.drive();
        }
        read
    }

    pub(in crate::transport) fn stop(&mut self, code: VarInt) {
        if !std::mem::replace(&mut self.over, true) {
            let _ = self.connection.lock().proto.recv_stream(self.id).stop(code);
            self.connection.drive();
        }
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        self.poll_chunk(cx, room).map(|read| match read {
            Ok(Some(bytes)) => {
                buffer.put_slice(&bytes);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(ReadError::Reset(_)) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(ReadError::Closed) => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

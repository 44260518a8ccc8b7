//! One stream, of either transport.

use bytes::Bytes;
#[cfg(feature = "server")]
use web_transport_quinn::proto::{error_from_http3, error_to_http3};

#[cfg(feature = "server")]
use super::driver;
use super::mux;
use crate::wire::Code;

/// Bytes out. **Dropping it resets the stream** unless [`finish`](Self::finish) was called: quinn's own would say that all
/// was sent, so that a cancelled task looked like a finished one.
#[derive(Debug)]
pub(crate) struct SendStream {
    inner: Sink,
    finished: bool,
}

#[derive(Debug)]
enum Sink {
    /// The server's; over WebTransport codes are mapped.
    #[cfg(feature = "server")]
    Server {
        stream: driver::SendStream,
        http3: bool,
    },
    #[cfg(feature = "client")]
    Client(web_transport_quinn::SendStream),
    /// Of either side.
    Mux(mux::SendStream),
}

impl From<mux::SendStream> for SendStream {
    fn from(stream: mux::SendStream) -> Self {
        Self {
            inner: Sink::Mux(stream),
            finished: false,
        }
    }
}

impl From<mux::RecvStream> for RecvStream {
    fn from(stream: mux::RecvStream) -> Self {
        Self(Source::Mux(stream))
    }
}

/// Why a stream takes or gives no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// The peer stopped or reset it.
    Peer(Code),
    /// The connection is over, or this side ended the stream.
    Closed,
}

#[cfg_attr(
    not(feature = "server"),
    allow(
        dead_code,
        reason = "a client writes only its control stream, and never finishes it"
    )
)]
impl SendStream {
    #[cfg(feature = "client")]
    pub(super) const fn client(stream: web_transport_quinn::SendStream) -> Self {
        Self {
            inner: Sink::Client(stream),
            finished: false,
        }
    }

    #[cfg(feature = "server")]
    pub(super) const fn server(stream: driver::SendStream, http3: bool) -> Self {
        Self {
            inner: Sink::Server { stream, http3 },
            finished: false,
        }
    }

    /// Writes all chunks, without copying them. Each chunk is replaced by what is left of it, so a cancelled call can be
    /// taken up again with the same slice; dropping the stream instead resets it.
    pub(crate) async fn write_all(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamError> {
        match &mut self.inner {
            #[cfg(feature = "server")]
            Sink::Server { stream, http3 } => {
                let http3 = *http3;
                let written = stream.write_chunks(chunks).await;
                written.map_err(|error| match error {
                    driver::WriteError::Stopped(code) => {
                        StreamError::Peer(code_of(code.into_inner(), http3))
                    }
                    driver::WriteError::Closed => StreamError::Closed,
                })
            }
            #[cfg(feature = "client")]
            Sink::Client(stream) => client::write_all(stream, chunks).await,
            Sink::Mux(stream) => stream.write_all(chunks).await,
        }
    }

    /// Says that nothing follows. What was written is still delivered.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        match &mut self.inner {
            #[cfg(feature = "server")]
            Sink::Server { stream, .. } => stream.finish(),
            #[cfg(feature = "client")]
            Sink::Client(stream) => drop(stream.finish()),
            Sink::Mux(stream) => stream.finish(),
        }
    }

    /// Gives up what was not delivered yet and tells the peer why.
    pub(crate) fn reset(&mut self, code: Code) {
        self.finished = true;
        match &mut self.inner {
            #[cfg(feature = "server")]
            Sink::Server { stream, http3 } => stream.reset(code_for(code, *http3)),
            #[cfg(feature = "client")]
            Sink::Client(stream) => drop(stream.reset(code.0)),
            Sink::Mux(stream) => stream.reset(code),
        }
    }

    /// Resets a stream that is none of ours, with a code of HTTP/3.
    #[cfg(feature = "server")]
    pub(super) fn reset_unmapped(&mut self, code: u32) {
        self.finished = true;
        match &mut self.inner {
            Sink::Server { stream, .. } => stream.reset(code.into()),
            #[cfg(feature = "client")]
            Sink::Client(_) => {}
            Sink::Mux(_) => {}
        }
    }

    /// Streams with a higher number go first when a connection cannot send all at once. 0 by default.
    pub(crate) fn set_priority(&self, priority: i32) {
        match &self.inner {
            #[cfg(feature = "server")]
            Sink::Server { stream, .. } => stream.set_priority(priority),
            #[cfg(feature = "client")]
            Sink::Client(stream) => drop(stream.set_priority(priority)),
            Sink::Mux(stream) => stream.set_priority(priority),
        }
    }
}

#[cfg(feature = "server")]
impl SendStream {
    /// Waits until the peer has all of a finished stream, has stopped it, or is gone.
    pub(crate) async fn acknowledged(&self) {
        match &self.inner {
            Sink::Server { stream, .. } => drop(stream.stopped().await),
            #[cfg(feature = "client")]
            Sink::Client(stream) => drop(stream.stopped().await),
            Sink::Mux(stream) => stream.stopped().await,
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.finished {
            self.reset(Code::ENDED);
        }
    }
}

#[cfg(feature = "server")]
pub(super) fn code_for(code: Code, http3: bool) -> quinn::VarInt {
    if http3 {
        quinn::VarInt::from_u64(error_to_http3(code.0)).unwrap_or(quinn::VarInt::MAX)
    } else {
        code.0.into()
    }
}

#[cfg(feature = "server")]
fn code_of(code: u64, http3: bool) -> Code {
    let code = if http3 {
        error_from_http3(code)
    } else {
        u32::try_from(code).ok()
    };
    Code(code.unwrap_or(u32::MAX))
}

/// Bytes in. Dropping it stops the stream: the peer learns that nobody reads on.
#[derive(Debug)]
pub(crate) struct RecvStream(Source);

#[derive(Debug)]
enum Source {
    /// The server's; over WebTransport codes are mapped.
    #[cfg(feature = "server")]
    Server {
        stream: driver::RecvStream,
        http3: bool,
    },
    #[cfg(feature = "client")]
    Client(web_transport_quinn::RecvStream),
    /// Of either side.
    Mux(mux::RecvStream),
}

impl RecvStream {
    #[cfg(feature = "client")]
    pub(super) const fn client(stream: web_transport_quinn::RecvStream) -> Self {
        Self(Source::Client(stream))
    }

    #[cfg(feature = "server")]
    pub(super) const fn server(stream: driver::RecvStream, http3: bool) -> Self {
        Self(Source::Server { stream, http3 })
    }

    /// The next bytes, at most `max`; `None` at the end. Cancel safe.
    pub(crate) async fn read(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        match &mut self.0 {
            #[cfg(feature = "server")]
            Source::Server { stream, http3 } => {
                let http3 = *http3;
                stream.read_chunk(max).await.map_err(|error| match error {
                    driver::ReadError::Reset(code) => {
                        StreamError::Peer(code_of(code.into_inner(), http3))
                    }
                    driver::ReadError::Closed => StreamError::Closed,
                })
            }
            #[cfg(feature = "client")]
            Source::Client(stream) => client::read(stream, max).await,
            Source::Mux(stream) => stream.read(max).await,
        }
    }

    /// Tells the peer that nobody reads on.
    pub(crate) fn stop(&mut self, code: Code) {
        match &mut self.0 {
            #[cfg(feature = "server")]
            Source::Server { stream, http3 } => stream.stop(code_for(code, *http3)),
            #[cfg(feature = "client")]
            Source::Client(stream) => drop(stream.stop(code.0)),
            Source::Mux(stream) => stream.stop(code),
        }
    }

    /// Stops a stream that is none of ours, with a code of HTTP/3.
    #[cfg(feature = "server")]
    pub(super) fn stop_unmapped(&mut self, code: u32) {
        match &mut self.0 {
            Source::Server { stream, .. } => stream.stop(code.into()),
            #[cfg(feature = "client")]
            Source::Client(_) => {}
            Source::Mux(_) => {}
        }
    }
}

impl Drop for RecvStream {
    /// quinn's own stop would say 0, which is no code in HTTP/3's space. A stream that is stopped or at its end is not stopped
    /// again.
    fn drop(&mut self) {
        #[cfg(feature = "client")]
        if matches!(self.0, Source::Client(_)) {
            return;
        }
        self.stop(Code::ENDED);
    }
}

#[cfg(feature = "client")]
mod client {
    use bytes::Bytes;
    use web_transport_quinn::{ReadError, RecvStream, SendStream, WriteError};

    use super::StreamError;
    use crate::wire::Code;

    pub(super) async fn write_all(
        stream: &mut SendStream,
        chunks: &mut [Bytes],
    ) -> Result<(), StreamError> {
        let mut rest = chunks;
        while let Some(first) = rest.first() {
            if first.is_empty() {
                // Written by a call that was cancelled.
                rest = &mut rest[1..];
                continue;
            }
            let written = stream
                .write_chunks(rest)
                .await
                .map_err(|error| match error {
                    WriteError::Stopped(code) => StreamError::Peer(Code(code)),
                    WriteError::InvalidStopped(_) => StreamError::Peer(Code(u32::MAX)),
                    WriteError::SessionError(_) | WriteError::ClosedStream => StreamError::Closed,
                })?;
            rest = &mut rest[written.chunks..];
        }
        Ok(())
    }

    pub(super) async fn read(
        stream: &mut RecvStream,
        max: usize,
    ) -> Result<Option<Bytes>, StreamError> {
        match stream.read_chunk(max, true).await {
            Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
            Err(ReadError::Reset(code)) => Err(StreamError::Peer(Code(code))),
            Err(ReadError::InvalidReset(_)) => Err(StreamError::Peer(Code(u32::MAX))),
            Err(_) => Err(StreamError::Closed),
        }
    }
}

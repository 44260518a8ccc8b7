//! One stream, of either transport.

use bytes::Bytes;
#[cfg(feature = "client")]
use web_transport_quinn::ReadError;
use web_transport_quinn::{
    WriteError,
    proto::{error_from_http3, error_to_http3},
};

use crate::wire::Code;

/// Bytes out. **Dropping it resets the stream** unless [`finish`](Self::finish) was called: quinn's own would say that all
/// was sent, so that a cancelled task looked like a finished one.
#[derive(Debug)]
pub(crate) struct SendStream {
    inner: Inner,
    /// Goes out before the first bytes.
    prefix: &'static [u8],
    finished: bool,
}

#[cfg_attr(
    not(feature = "server"),
    allow(
        dead_code,
        reason = "a client writes only its control stream, and never finishes it"
    )
)]
#[derive(Debug)]
enum Inner {
    /// Without the library's header: raw QUIC, or WebTransport whose codes are mapped here.
    Direct {
        stream: quinn::SendStream,
        http3: bool,
    },
    /// A client's.
    #[cfg_attr(not(feature = "client"), allow(dead_code))]
    Wrapped(web_transport_quinn::SendStream),
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
    pub(super) fn wrapped(stream: web_transport_quinn::SendStream) -> Self {
        Self {
            inner: Inner::Wrapped(stream),
            prefix: &[],
            finished: false,
        }
    }

    #[cfg(feature = "server")]
    pub(super) const fn direct(
        stream: quinn::SendStream,
        prefix: &'static [u8],
        http3: bool,
    ) -> Self {
        Self {
            inner: Inner::Direct { stream, http3 },
            prefix,
            finished: false,
        }
    }

    /// Writes all chunks, without copying them. Each chunk is replaced by what is left of it, so a cancelled call can be
    /// taken up again with the same slice; dropping the stream instead resets it.
    pub(crate) async fn write_all(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamError> {
        if !self.prefix.is_empty() {
            self.write_prefix().await?;
        }
        let mut rest = chunks;
        while let Some(first) = rest.first() {
            if first.is_empty() {
                // Written by a call that was cancelled.
                rest = &mut rest[1..];
                continue;
            }
            let written = match &mut self.inner {
                Inner::Direct { stream, http3 } => {
                    let http3 = *http3;
                    stream
                        .write_chunks(rest)
                        .await
                        .map_err(|error| direct_error(&error, http3))?
                }
                Inner::Wrapped(stream) => stream.write_chunks(rest).await.map_err(wrapped_error)?,
            };
            rest = &mut rest[written.chunks..];
        }
        Ok(())
    }

    async fn write_prefix(&mut self) -> Result<(), StreamError> {
        while let Inner::Direct { stream, http3 } = &mut self.inner {
            if self.prefix.is_empty() {
                break;
            }
            let http3 = *http3;
            let written = stream
                .write(self.prefix)
                .await
                .map_err(|error| direct_error(&error, http3))?;
            self.prefix = &self.prefix[written..];
        }
        Ok(())
    }

    /// Says that nothing follows. What was written is still delivered.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        match &mut self.inner {
            Inner::Direct { stream, .. } => drop(stream.finish()),
            Inner::Wrapped(stream) => drop(stream.finish()),
        }
    }

    /// Gives up what was not delivered yet and tells the peer why.
    pub(crate) fn reset(&mut self, code: Code) {
        self.finished = true;
        match &mut self.inner {
            Inner::Direct { stream, http3 } => drop(stream.reset(code_for(code, *http3))),
            Inner::Wrapped(stream) => drop(stream.reset(code.0)),
        }
    }

    /// Resets a stream that is none of ours, with a code of HTTP/3.
    #[cfg(feature = "server")]
    pub(super) fn reset_unmapped(&mut self, code: u32) {
        if let Inner::Direct { stream, .. } = &mut self.inner {
            self.finished = true;
            drop(stream.reset(code.into()));
        }
    }

    /// Streams with a higher number go first when a connection cannot send all at once. 0 by default.
    pub(crate) fn set_priority(&self, priority: i32) {
        match &self.inner {
            Inner::Direct { stream, .. } => drop(stream.set_priority(priority)),
            Inner::Wrapped(stream) => drop(stream.set_priority(priority)),
        }
    }

    /// Waits until the peer has stopped the stream (its code), or has acknowledged all of a finished one (`None`), or the
    /// connection is over (`None`). It does not borrow the stream. Cancel safe.
    #[cfg(feature = "server")]
    pub(crate) fn stopped(&self) -> impl Future<Output = Option<Code>> + Send + 'static {
        let direct = match &self.inner {
            Inner::Direct { stream, http3 } => Some((stream.stopped(), *http3)),
            Inner::Wrapped(_) => None,
        };
        async move {
            match direct {
                Some((stopped, http3)) => match stopped.await {
                    Ok(Some(code)) => Some(code_of(code.into_inner(), http3)),
                    Ok(None) | Err(_) => None,
                },
                // Only a client's are wrapped, and nobody asks them.
                None => None,
            }
        }
    }
}

#[cfg(feature = "server")]
impl SendStream {
    /// Waits until the peer has all of a finished stream, has stopped it, or is gone.
    pub(crate) async fn acknowledged(&self) {
        match &self.inner {
            Inner::Direct { stream, .. } => drop(stream.stopped().await),
            Inner::Wrapped(stream) => drop(stream.stopped().await),
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

fn code_for(code: Code, http3: bool) -> quinn::VarInt {
    if http3 {
        quinn::VarInt::from_u64(error_to_http3(code.0)).unwrap_or(quinn::VarInt::MAX)
    } else {
        code.0.into()
    }
}

fn code_of(code: u64, http3: bool) -> Code {
    let code = if http3 {
        error_from_http3(code)
    } else {
        u32::try_from(code).ok()
    };
    Code(code.unwrap_or(u32::MAX))
}

fn direct_error(error: &quinn::WriteError, http3: bool) -> StreamError {
    match error {
        quinn::WriteError::Stopped(code) => StreamError::Peer(code_of(code.into_inner(), http3)),
        _ => StreamError::Closed,
    }
}

fn wrapped_error(error: WriteError) -> StreamError {
    match error {
        WriteError::Stopped(code) => StreamError::Peer(Code(code)),
        WriteError::InvalidStopped(_) => StreamError::Peer(Code(u32::MAX)),
        WriteError::SessionError(_) | WriteError::ClosedStream => StreamError::Closed,
    }
}

/// Bytes in. Dropping it stops the stream: the peer learns that nobody reads on.
#[derive(Debug)]
pub(crate) struct RecvStream(Source);

#[derive(Debug)]
enum Source {
    /// Of the server: raw QUIC, or WebTransport whose codes are mapped here.
    #[cfg(feature = "server")]
    Direct {
        stream: quinn::RecvStream,
        http3: bool,
    },
    #[cfg(feature = "client")]
    Wrapped(web_transport_quinn::RecvStream),
}

impl RecvStream {
    #[cfg(feature = "client")]
    pub(super) const fn wrapped(stream: web_transport_quinn::RecvStream) -> Self {
        Self(Source::Wrapped(stream))
    }

    #[cfg(feature = "server")]
    pub(super) const fn direct(stream: quinn::RecvStream, http3: bool) -> Self {
        Self(Source::Direct { stream, http3 })
    }

    /// The next bytes, at most `max`; `None` at the end. Cancel safe.
    pub(crate) async fn read(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        match &mut self.0 {
            #[cfg(feature = "server")]
            Source::Direct { stream, http3 } => {
                let http3 = *http3;
                match stream.read_chunk(max, true).await {
                    Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
                    Err(quinn::ReadError::Reset(code)) => {
                        Err(StreamError::Peer(code_of(code.into_inner(), http3)))
                    }
                    Err(_) => Err(StreamError::Closed),
                }
            }
            #[cfg(feature = "client")]
            Source::Wrapped(stream) => match stream.read_chunk(max, true).await {
                Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
                Err(ReadError::Reset(code)) => Err(StreamError::Peer(Code(code))),
                Err(ReadError::InvalidReset(_)) => Err(StreamError::Peer(Code(u32::MAX))),
                Err(_) => Err(StreamError::Closed),
            },
        }
    }

    /// Tells the peer that nobody reads on.
    pub(crate) fn stop(&mut self, code: Code) {
        match &mut self.0 {
            #[cfg(feature = "server")]
            Source::Direct { stream, http3 } => drop(stream.stop(code_for(code, *http3))),
            #[cfg(feature = "client")]
            Source::Wrapped(stream) => drop(stream.stop(code.0)),
        }
    }

    /// Stops a stream that is none of ours, with a code of HTTP/3.
    #[cfg(feature = "server")]
    pub(super) fn stop_unmapped(&mut self, code: u32) {
        #[cfg(feature = "client")]
        let Source::Direct { stream, .. } = &mut self.0 else {
            return;
        };
        #[cfg(not(feature = "client"))]
        let Source::Direct { stream, .. } = &mut self.0;
        drop(stream.stop(code.into()));
    }
}

#[cfg(feature = "server")]
impl Drop for RecvStream {
    /// quinn's own stop would say 0, which is no code in HTTP/3's space. A stream that is stopped or at its end is not stopped
    /// again.
    fn drop(&mut self) {
        #[cfg(feature = "client")]
        if matches!(self.0, Source::Wrapped(_)) {
            return;
        }
        self.stop(Code::ENDED);
    }
}

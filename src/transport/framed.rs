//! Frames out of a stream.

use super::{RecvStream, StreamError};
use crate::wire::{Code, DecodeError, Decoder, codec::RawFrame};

/// Bytes asked of a stream at a time: a few packets.
const CHUNK: usize = 16 * 1024;

/// Reads a stream frame by frame. Holds at most one frame and one chunk (16 KiB).
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: RecvStream,
    decoder: Decoder,
}

/// Why there is no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The bytes are no frame; the stream cannot be read on.
    Decode(DecodeError),
    /// The peer reset the stream.
    Reset(Code),
    /// The connection is over.
    Closed,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream, max_frame: usize) -> Self {
        Self {
            stream,
            decoder: Decoder::new(max_frame),
        }
    }

    pub(crate) const fn set_max_frame(&mut self, max_frame: usize) {
        self.decoder.set_max(max_frame);
    }

    /// The next frame; `None` when the stream ended between two frames. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<RawFrame>, FrameError> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(FrameError::Decode)? {
                return Ok(Some(frame));
            }
            match self.stream.read(CHUNK).await {
                Ok(Some(bytes)) => self.decoder.extend(&bytes),
                Ok(None) if self.decoder.is_empty() => return Ok(None),
                Ok(None) => return Err(FrameError::Decode(DecodeError::Truncated)),
                Err(StreamError::Peer(code)) => return Err(FrameError::Reset(code)),
                Err(StreamError::Closed) => return Err(FrameError::Closed),
            }
        }
    }

    /// Tells the peer that nobody reads on.
    #[cfg(feature = "client")]
    pub(crate) fn stop(&mut self, code: Code) {
        self.stream.stop(code);
    }
}

//! What writes the unidirectional streams of a connection, and how.

use bytes::Bytes;
use quinn_proto::{Dir, StreamId};

use super::{datagram::Datagrams, stream::write_all};
use crate::{
    transport::{OpenError, WEBTRANSPORT_UNI, stream::code_for},
    wire::Code,
};

/// Who writes the unidirectional streams that the server opened on a connection. Everything is called by the connection's
/// worker, while the connection is locked: it may not touch the connection but through `streams`.
pub(crate) trait Source: Send + Sync + 'static {
    /// Called just before packets are made, after [`Prompt::prompt`](super::Prompt::prompt) or when a stream takes more again (see
    /// [`writable`](Self::writable)).
    fn fill(&self, streams: &mut Streams<'_>);
    /// A stream that took no more takes more now; [`fill`](Self::fill) follows.
    fn writable(&self, stream: UniStream);
    /// The peer does not want a stream any more.
    fn stopped(&self, stream: UniStream, streams: &mut Streams<'_>);
    /// There is room for datagrams again, or the time has come that was asked for; [`fill`](Self::fill) follows.
    fn resume(&self) {}
    /// The peer has all of a finished stream.
    fn finished(&self, stream: UniStream);
}

/// A unidirectional stream that the server opened: a name only, without a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UniStream(pub(super) StreamId);

/// The streams of a connection that is locked.
pub(crate) struct Streams<'a> {
    pub(super) proto: &'a mut quinn_proto::Connection,
    pub(super) hurry: &'a mut Hurry,
    pub(super) http3: bool,
}

/// How much may wait for the peer where it is to be fresh.
#[derive(Debug, Default)]
pub(super) struct Hurry {
    /// It matters at all.
    pub(super) on: bool,
    /// Bytes that may wait to be acknowledged, and bytes of a packet.
    pub(super) window: u64,
    pub(super) packet: u64,
    /// Once datagrams were sent.
    pub(super) datagrams: Option<Box<Datagrams>>,
}

impl Hurry {
    /// What may wait when bytes of this priority are written: each level leaves the ones above a packet or two, so that they need not
    /// wait for an acknowledgement, and the one below the usual leaves the queues on the way empty.
    pub(super) fn window(&self, priority: i32) -> u64 {
        let packets = i64::from(2 * priority.max(0) + priority.min(0));
        let reserve = packets.saturating_mul(self.packet as i64);
        self.window
            .saturating_add_signed(reserve)
            .max(2 * self.packet)
    }

    /// The same for streams, which leave datagrams their share.
    pub(super) fn stream_window(&self, priority: i32) -> u64 {
        let window = self.window(priority);
        let share = self
            .datagrams
            .as_ref()
            .map(|known| known.share(window, self.packet));
        (window - share.unwrap_or(0)).max(2 * self.packet)
    }
}

/// The stream takes nothing any more: it was stopped or reset, or the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl<'a> Streams<'a> {
    pub(super) const fn new(
        proto: &'a mut quinn_proto::Connection,
        hurry: &'a mut Hurry,
        http3: bool,
    ) -> Self {
        Self {
            proto,
            hurry,
            http3,
        }
    }

    /// Writes as much as the stream takes, of bytes of this priority, without copying, and takes it out of `chunks`; whether that is all.
    /// [`Source::writable`] is called when it takes more.
    pub(crate) fn write(
        &mut self,
        stream: UniStream,
        priority: i32,
        chunks: &mut Vec<Bytes>,
    ) -> Result<bool, Gone> {
        if self.hurry.on {
            self.proto
                .set_send_window(self.hurry.stream_window(priority));
        }
        let mut stream = self.proto.send_stream(stream.0);
        match write_all(&mut stream, chunks) {
            Ok(()) => {
                chunks.clear();
                Ok(true)
            }
            Err(quinn_proto::WriteError::Blocked) => {
                chunks.retain(|chunk| !chunk.is_empty());
                Ok(false)
            }
            Err(_) => Err(Gone),
        }
    }

    /// Opens a stream, or says at once that there is none: the client may never permit more.
    pub(crate) fn open(&mut self) -> Result<UniStream, OpenError> {
        match self.proto.streams().open(Dir::Uni) {
            Some(stream) => Ok(UniStream(stream)),
            None if self.proto.is_closed() => Err(OpenError::Closed),
            None => Err(OpenError::NoStreamLeft),
        }
    }

    /// What goes out before the first bytes of a stream, if anything.
    pub(crate) const fn prefix(&self) -> Option<Bytes> {
        match self.http3 {
            true => Some(const { Bytes::from_static(WEBTRANSPORT_UNI) }),
            false => None,
        }
    }

    /// Whose bytes go first: 0 is usual, higher goes before lower.
    pub(crate) fn set_priority(&mut self, stream: UniStream, priority: i32) {
        let _ = self.proto.send_stream(stream.0).set_priority(priority);
    }

    /// From now on little waits below what the streams take: they take more when the network does, and what is written then is
    /// chosen then.
    pub(crate) const fn hurry(&mut self) {
        self.hurry.on = true;
    }

    /// Says that nothing follows.
    pub(crate) fn finish(&mut self, stream: UniStream) {
        let _ = self.proto.send_stream(stream.0).finish();
    }

    /// Gives up what was not delivered and tells the peer why.
    pub(crate) fn reset(&mut self, stream: UniStream, code: Code) {
        let code = code_for(code, self.http3);
        let _ = self.proto.send_stream(stream.0).reset(code);
    }
}

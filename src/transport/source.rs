//! What writes the unidirectional streams of a connection of any kind.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::StreamId;

use super::{
    OpenError,
    driver::{self, Class},
    mux,
};
use crate::wire::Code;

/// Who writes the unidirectional streams that the server opened on a connection. Everything is called by the connection's
/// worker, while the connection is locked: it may not touch the connection but through `streams`.
pub(crate) trait Source: Send + Sync + 'static {
    /// Called just before packets are made, after [`Prompt::prompt`](Prompt::prompt) or when a stream takes more again (see
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

/// What became of bytes that were to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// All are.
    All,
    /// The stream takes no more: [`Source::writable`] is called when it does.
    Blocked,
    /// The rest may not go out yet: [`Source::resume`] is called when it may.
    Held,
}

/// The stream takes nothing any more: it was stopped or reset, or the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Asks for a connection's source to be asked. It does not keep the connection.
#[derive(Debug, Clone)]
pub(crate) struct Prompt(Ask);

#[derive(Debug, Clone)]
enum Ask {
    Quic(driver::Prompt),
    Mux(mux::Prompt),
}

impl Prompt {
    /// [`Source::fill`] is called soon.
    pub(crate) fn prompt(&self) {
        match &self.0 {
            Ask::Quic(prompt) => prompt.prompt(),
            Ask::Mux(prompt) => prompt.prompt(),
        }
    }
}

impl From<driver::Prompt> for Prompt {
    fn from(prompt: driver::Prompt) -> Self {
        Self(Ask::Quic(prompt))
    }
}

impl From<mux::Prompt> for Prompt {
    fn from(prompt: mux::Prompt) -> Self {
        Self(Ask::Mux(prompt))
    }
}

/// The streams of a connection that is locked.
pub(crate) struct Streams<'a>(Over<'a>);

enum Over<'a> {
    Quic(driver::Streams<'a>),
    Mux(mux::Streams<'a>),
}

impl<'a> From<driver::Streams<'a>> for Streams<'a> {
    fn from(streams: driver::Streams<'a>) -> Self {
        Self(Over::Quic(streams))
    }
}

impl<'a> From<mux::Streams<'a>> for Streams<'a> {
    fn from(streams: mux::Streams<'a>) -> Self {
        Self(Over::Mux(streams))
    }
}

impl Streams<'_> {
    /// Writes as much of this class as may go out now and the stream takes, without copying, and takes it out of `chunks`.
    pub(crate) fn write(
        &mut self,
        stream: UniStream,
        class: Class,
        chunks: &mut Vec<Bytes>,
    ) -> Result<Written, Gone> {
        match &mut self.0 {
            Over::Quic(streams) => streams.write(stream, class, chunks),
            Over::Mux(streams) => streams.write(stream, chunks),
        }
    }

    /// Opens a stream, or says at once that there is none: the client may never permit more.
    pub(crate) fn open(&mut self) -> Result<UniStream, OpenError> {
        match &mut self.0 {
            Over::Quic(streams) => streams.open(),
            Over::Mux(streams) => streams.open(),
        }
    }

    /// What goes out before the first bytes of a stream, if anything.
    pub(crate) const fn prefix(&self) -> Option<Bytes> {
        match &self.0 {
            Over::Quic(streams) => streams.prefix(),
            Over::Mux(_) => None,
        }
    }

    /// Whose bytes go first: 0 is usual, higher goes before lower.
    pub(crate) fn set_priority(&mut self, stream: UniStream, priority: i32) {
        match &mut self.0 {
            Over::Quic(streams) => streams.set_priority(stream, priority),
            Over::Mux(streams) => streams.set_priority(stream, priority),
        }
    }

    /// From now on little waits below what the streams take: they take more when the network does, and what is written then is
    /// chosen then.
    pub(crate) const fn hurry(&mut self) {
        match &mut self.0 {
            Over::Quic(streams) => streams.hurry(),
            Over::Mux(streams) => streams.hurry(),
        }
    }

    /// Says that nothing follows.
    pub(crate) fn finish(&mut self, stream: UniStream) {
        match &mut self.0 {
            Over::Quic(streams) => streams.finish(stream),
            Over::Mux(streams) => streams.finish(stream),
        }
    }

    /// Gives up what was not delivered and tells the peer why.
    pub(crate) fn reset(&mut self, stream: UniStream, code: Code) {
        match &mut self.0 {
            Over::Quic(streams) => streams.reset(stream, code),
            Over::Mux(streams) => streams.reset(stream, code),
        }
    }

    /// Whether the network takes a datagram of this priority now. Where it does not, [`Source::resume`] is called when it does. For
    /// connections that [hurry](Self::hurry).
    pub(crate) fn has_room(&mut self, priority: i32) -> bool {
        match &mut self.0 {
            Over::Quic(streams) => streams.has_room(priority),
            // They have none to send.
            Over::Mux(_) => true,
        }
    }

    /// As many bytes for the network go another way.
    pub(crate) fn spend(&mut self, bytes: usize) {
        if let Over::Quic(streams) = &mut self.0 {
            streams.spend(bytes);
        }
    }

    /// Sends a datagram: `head` and `body`, one behind the other. `false` where the path or the peer takes none of this size.
    pub(crate) fn send_datagram(&mut self, priority: i32, head: &[u8], body: &Bytes) -> bool {
        match &mut self.0 {
            Over::Quic(streams) => streams.send_datagram(priority, head, body),
            Over::Mux(_) => false,
        }
    }

    /// [`Source::resume`] is called at this time at the latest.
    pub(crate) fn wake_at(&mut self, at: Instant) {
        if let Over::Quic(streams) = &mut self.0 {
            streams.wake_at(at);
        }
    }
}

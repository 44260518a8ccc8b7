//! How the unidirectional streams of a connection are written.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::Dir;

use super::{
    datagram::Datagrams,
    pace::{Class, Paces},
    stream::write_all,
};
use crate::{
    transport::{
        OpenError, WEBTRANSPORT_UNI,
        source::{Gone, UniStream, Written},
        stream::code_for,
    },
    wire::Code,
};

/// The streams of a connection that is locked.
pub(in crate::transport) struct Streams<'a> {
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
    /// Bytes that the network carries in a second, where that is known.
    pub(super) rate: Option<f64>,
    /// Once that is.
    pub(super) paces: Option<Box<Paces>>,
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

    /// Writes as much of this class as may go out now and the stream takes, without copying, and takes it out of `chunks`.
    pub(in crate::transport) fn write(
        &mut self,
        stream: UniStream,
        class: Class,
        chunks: &mut Vec<Bytes>,
    ) -> Result<Written, Gone> {
        if self.hurry.on {
            let window = self.hurry.stream_window(class.priority);
            self.proto.set_send_window(window);
            if let Some(rate) = self.hurry.rate
                && class.is_paced()
            {
                return self.write_paced(stream, class, rate, chunks);
            }
        }
        // Only where it counts.
        let wanted = self.hurry.rate.map(|_| size(chunks));
        let written = write_all(&mut self.proto.send_stream(stream.0), chunks);
        if let Some(wanted) = wanted {
            let (sent, packet) = (wanted - size(chunks), self.hurry.packet);
            let paces = self.hurry.paces.get_or_insert_default();
            paces.sent(Instant::now(), class, sent, packet);
        }
        match written {
            Ok(()) => {
                chunks.clear();
                Ok(Written::All)
            }
            Err(quinn_proto::WriteError::Blocked) => {
                chunks.retain(|chunk| !chunk.is_empty());
                Ok(Written::Blocked)
            }
            Err(_) => Err(Gone),
        }
    }

    fn write_paced(
        &mut self,
        stream: UniStream,
        class: Class,
        rate: f64,
        chunks: &mut Vec<Bytes>,
    ) -> Result<Written, Gone> {
        let packet = self.hurry.packet;
        let paces = self.hurry.paces.get_or_insert_default();
        let now = Instant::now();
        loop {
            let wanted = size(chunks);
            if wanted == 0 {
                chunks.clear();
                return Ok(Written::All);
            }
            let admitted = paces.admits(now, class, rate, packet, wanted);
            if admitted == 0 {
                return Ok(Written::Held);
            }
            let mut part = first(chunks, admitted);
            let written = write_all(&mut self.proto.send_stream(stream.0), &mut part);
            let sent = admitted - size(&part);
            paces.sent(now, class, sent, packet);
            skip(chunks, sent);
            match written {
                Ok(()) => {}
                Err(quinn_proto::WriteError::Blocked) => return Ok(Written::Blocked),
                Err(_) => return Err(Gone),
            }
        }
    }

    /// Opens a stream, or says at once that there is none: the client may never permit more.
    pub(in crate::transport) fn open(&mut self) -> Result<UniStream, OpenError> {
        match self.proto.streams().open(Dir::Uni) {
            Some(stream) => Ok(UniStream(stream)),
            None if self.proto.is_closed() => Err(OpenError::Closed),
            None => Err(OpenError::NoStreamLeft),
        }
    }

    /// What goes out before the first bytes of a stream, if anything.
    pub(in crate::transport) const fn prefix(&self) -> Option<Bytes> {
        match self.http3 {
            true => Some(const { Bytes::from_static(WEBTRANSPORT_UNI) }),
            false => None,
        }
    }

    /// Whose bytes go first: 0 is usual, higher goes before lower.
    pub(in crate::transport) fn set_priority(&mut self, stream: UniStream, priority: i32) {
        let _ = self.proto.send_stream(stream.0).set_priority(priority);
    }

    /// From now on little waits below what the streams take: they take more when the network does, and what is written then is
    /// chosen then.
    pub(in crate::transport) const fn hurry(&mut self) {
        self.hurry.on = true;
    }

    /// Says that nothing follows.
    pub(in crate::transport) fn finish(&mut self, stream: UniStream) {
        let _ = self.proto.send_stream(stream.0).finish();
    }

    /// Gives up what was not delivered and tells the peer why.
    pub(in crate::transport) fn reset(&mut self, stream: UniStream, code: Code) {
        let code = code_for(code, self.http3);
        let _ = self.proto.send_stream(stream.0).reset(code);
    }
}

fn size(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// The first `bytes` of these.
fn first(chunks: &[Bytes], bytes: u64) -> Vec<Bytes> {
    let mut rest = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut first = Vec::new();
    for chunk in chunks {
        let part = chunk.slice(..chunk.len().min(rest));
        rest -= part.len();
        first.push(part);
        if rest == 0 {
            break;
        }
    }
    first
}

/// Takes the first `bytes` out of these.
fn skip(chunks: &mut Vec<Bytes>, mut bytes: u64) {
    chunks.retain_mut(|chunk| {
        let part = bytes.min(chunk.len() as u64);
        bytes -= part;
        let _ = chunk.split_to(part as usize);
        !chunk.is_empty()
    });
}

//! Datagrams that a connection's [`Source`](super::Source) sends (RFC 9221, and over WebTransport RFC 9297), and the time at which it
//! wants to be asked.
//!
//! What is handed to QUIC cannot be taken back, so little is: a datagram is taken only while what the network holds has room for it and
//! at most a packet or two wait to be sent. Whoever finds no room is told when there is some, and chooses then what to send.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    pace::Class,
    source::{Hurry, Streams},
};
use crate::transport::congestion;

/// Bytes of datagrams that QUIC holds back at most. [`QUEUE`] keeps it far below; beyond it the oldest would go.
pub(in crate::transport) const SEND_BUFFER: usize = 16 * 1024;
/// Packets of datagrams that may wait to be sent.
const QUEUE: u64 = 2;
/// In front of a datagram over WebTransport: the quarter of the session's stream id (RFC 9297 §2.1), which is 0 as our only session is.
const QUARTER_STREAM_ID: &[u8] = &[0];

/// What a connection with datagrams knows of them; one without has none of it.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    /// The highest priority of those that found no room.
    late: Option<i32>,
    /// When the source wants to be asked.
    wake: Option<Instant>,
    /// Bytes in flight when the source was asked.
    in_flight: u64,
    /// When this round trip began, and the bytes of datagrams in it and in the one before.
    round: Option<Instant>,
    sent: u64,
    before: u64,
}

impl Datagrams {
    /// The time goes on.
    pub(super) fn turn(&mut self, now: Instant, round_trip: Duration) {
        let Some(round) = self.round else {
            return;
        };
        let since = now.saturating_duration_since(round);
        if since >= round_trip {
            self.before = if since < 2 * round_trip { self.sent } else { 0 };
            self.sent = 0;
            self.round = (self.before > 0).then_some(now);
        }
    }

    /// Bytes of `window` that streams leave to datagrams: as many as those of late need, more where some wait, and half of it at most.
    /// Streams and datagrams so share what the network holds, and neither waits for the other to end.
    pub(super) fn share(&self, window: u64, packet: u64) -> u64 {
        let waiting = self.late.map_or(0, |_| QUEUE * packet);
        (self.sent.max(self.before) + waiting).min(window / 2)
    }
}

impl Hurry {
    /// Looks at what the connection is about to send; whether its source is to be asked: the time it named has come, or there is room
    /// again.
    pub(super) fn resumes(&mut self, proto: &mut quinn_proto::Connection) -> bool {
        let now = Instant::now();
        let paced = self.paces.as_mut().is_some_and(|paces| paces.due(now));
        let Some(datagrams) = &mut self.datagrams else {
            return paced;
        };
        datagrams.in_flight = congestion::in_flight(proto.congestion_state());
        datagrams.turn(now, proto.rtt());
        let woken = datagrams.wake.take_if(|wake| *wake <= now).is_some();
        let resumes = self.may_resume(proto);
        if resumes && let Some(datagrams) = &mut self.datagrams {
            datagrams.late = None;
        }
        paced || woken || resumes
    }

    /// Whether somebody who found no room would find some now.
    pub(super) fn may_resume(&self, proto: &mut quinn_proto::Connection) -> bool {
        let late = self.datagrams.as_ref().and_then(|known| known.late);
        late.is_some_and(|priority| {
            let in_flight = congestion::in_flight(proto.congestion_state());
            self.has_room(proto, priority, in_flight)
        })
    }

    /// When the source wants to be asked.
    pub(super) fn wake(&self) -> Option<Instant> {
        let datagrams = self.datagrams.as_ref().and_then(|known| known.wake);
        let paces = self.paces.as_ref().and_then(|paces| paces.wake());
        datagrams.into_iter().chain(paces).min()
    }

    /// Whether a datagram of this priority may go out now. They are small packets, most of them, and fresh; only what gives way is held back.
    fn admits(&mut self, priority: i32) -> bool {
        let class = Class {
            priority,
            fresh: false,
        };
        let rate = self.rate.filter(|_| class.is_paced());
        rate.is_none_or(|rate| {
            let now = Instant::now();
            let paces = self.paces.get_or_insert_default();
            paces.admits(now, class, rate, self.packet, self.packet) > 0
        })
    }

    fn has_room(&self, proto: &mut quinn_proto::Connection, priority: i32, in_flight: u64) -> bool {
        let queued = SEND_BUFFER.saturating_sub(proto.datagrams().send_buffer_space()) as u64;
        queued < QUEUE * self.packet && in_flight + queued < self.window(priority)
    }
}

impl Streams<'_> {
    /// Whether the network takes a datagram of this priority now. Where it does not, [`Source::resume`](crate::transport::Source::resume) is called
    /// when it does. For connections that [hurry](Self::hurry).
    pub(in crate::transport) fn has_room(&mut self, priority: i32) -> bool {
        let in_flight = self.hurry.datagrams.get_or_insert_default().in_flight;
        let room = self.hurry.has_room(self.proto, priority, in_flight);
        if room && !self.hurry.admits(priority) {
            return false;
        }
        if !room && let Some(datagrams) = &mut self.hurry.datagrams {
            datagrams.late = datagrams.late.max(Some(priority));
        }
        room
    }

    /// As many bytes for the network go another way.
    pub(in crate::transport) fn spend(&mut self, bytes: usize) {
        self.hurry.datagrams.get_or_insert_default().in_flight += bytes as u64;
    }

    /// Sends a datagram: `head` and `body`, one behind the other. `false` where the path or the peer takes none of this size.
    pub(in crate::transport) fn send_datagram(
        &mut self,
        priority: i32,
        head: &[u8],
        body: &Bytes,
    ) -> bool {
        let session = if self.http3 { QUARTER_STREAM_ID } else { &[] };
        let size = session.len() + head.len() + body.len();
        let max = self.proto.datagrams().max_size();
        if max.is_none_or(|max| size > max) {
            return false;
        }
        // QUIC takes a datagram in one piece, and it begins otherwise for every subscriber.
        let mut datagram = BytesMut::with_capacity(size);
        datagram.put_slice(session);
        datagram.put_slice(head);
        datagram.put_slice(body);
        // It is not too large, so it is taken; what is older would go first.
        let sent = self.proto.datagrams().send(datagram.freeze(), true).is_ok();
        let datagrams = self.hurry.datagrams.get_or_insert_default();
        datagrams.sent += size as u64;
        datagrams.round.get_or_insert_with(Instant::now);
        if self.hurry.rate.is_some() {
            let class = Class {
                priority,
                fresh: false,
            };
            let (now, packet) = (Instant::now(), self.hurry.packet);
            let paces = self.hurry.paces.get_or_insert_default();
            paces.sent(now, class, size as u64, packet);
        }
        sent
    }

    /// [`Source::resume`](crate::transport::Source::resume) is called at this time at the latest.
    pub(in crate::transport) fn wake_at(&mut self, at: Instant) {
        let wake = &mut self.hurry.datagrams.get_or_insert_default().wake;
        *wake = Some(wake.map_or(at, |wake| wake.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(50);

    #[test]
    fn streams_leave_datagrams_what_they_need_and_half_at_most() {
        let begin = Instant::now();
        let mut datagrams = Datagrams {
            round: Some(begin),
            sent: 3_000,
            ..Datagrams::default()
        };
        assert_eq!(datagrams.share(10_000, 1_000), 3_000);
        assert_eq!(datagrams.share(4_000, 1_000), 2_000);
        datagrams.turn(begin + ROUND_TRIP / 2, ROUND_TRIP);
        datagrams.turn(begin + ROUND_TRIP, ROUND_TRIP);
        assert_eq!(
            datagrams.share(10_000, 1_000),
            3_000,
            "for another round trip"
        );
        datagrams.sent = 500;
        datagrams.turn(begin + 2 * ROUND_TRIP, ROUND_TRIP);
        assert_eq!(datagrams.share(10_000, 1_000), 500);
        datagrams.turn(begin + 5 * ROUND_TRIP, ROUND_TRIP);
        assert_eq!(datagrams.share(10_000, 1_000), 0, "nothing was sent since");
        assert_eq!(datagrams.round, None);
        datagrams.late = Some(0);
        assert_eq!(datagrams.share(10_000, 1_000), 2_000, "somebody waits");
    }
}

//! What the way carries, measured while a queue stands on it that is ours: then acknowledgements come as fast as it carries (as in BBR,
//! where that is the highest of late).

use std::time::{Duration, Instant};

/// Packets from whose acknowledgements it is measured, at least.
const LEAST: u64 = 8;
/// Packets behind one another, for a round trip, by which a queue is seen where more was tried.
const FEW: u64 = 3;
/// Round trips behind a queue after which it is measured again.
const ROUND_TRIPS: u32 = 4;
/// Microseconds, or the share of the lowest round trip, by which all of them are longer.
const QUEUE: (f64, f64) = (5_000.0, 1.0 / 8.0);
/// The same while it is not known how much longer a full packet takes by itself.
const CLEAR_QUEUE: (f64, f64) = (10_000.0, 1.0 / 4.0);
/// A silence of so much, or of a round trip, is none of the way's pace: it carried nothing at all.
const STALL: Duration = Duration::from_millis(200);
/// Time without a queue after which the way may have become wider, and by how much more is tried then.
const HOLD: Duration = Duration::from_secs(30);
const TRY: f64 = 1.25;
/// The same, at first, where it carried more than this many times as much: whoever took the rest may be gone. It doubles with each try
/// that finds a queue.
const SOON: Duration = Duration::from_secs(1);
const MUCH: f64 = 1.25;
/// Round trips after which there would be a queue.
const ANSWER: u32 = 8;

#[derive(Debug, Clone, Default)]
pub(super) struct Rate {
    /// Bytes a second.
    rate: Option<f64>,
    queued: Option<Queued>,
    /// When more is tried.
    tries: Option<Instant>,
    /// What it was before more was tried.
    before: Option<f64>,
    /// Time from a measurement to the next try, and what the way carried when that was last as long as it may be.
    hold: Duration,
    known: f64,
}

/// Acknowledgements of which each stood behind a queue.
#[derive(Debug, Clone, Copy)]
struct Queued {
    first: Instant,
    last: Instant,
    /// Of those after the first.
    bytes: u64,
    /// Microseconds of the shortest round trip.
    shortest: u32,
    /// As much as may be was on the way all the time.
    full: bool,
}

impl Rate {
    /// Bytes a second, once they were measured.
    pub(super) const fn measured(&self) -> Option<f64> {
        self.rate
    }

    /// Whether a packet that took so many microseconds may have stood in a queue, on a way of which nothing is known.
    pub(super) fn is_queued(round_trip: u32, lowest: u32) -> bool {
        Self::exceeds(round_trip.into(), lowest, CLEAR_QUEUE)
    }

    /// The same of a full one, that takes its time on a way that carries as much.
    fn stood(round_trip: u32, lowest: u32, packet: u64, rate: f64) -> bool {
        let alone = packet as f64 / rate * 1e6;
        Self::exceeds(f64::from(round_trip) - alone, lowest, QUEUE)
    }

    fn exceeds(round_trip: f64, lowest: u32, (least, share): (f64, f64)) -> bool {
        let lowest = f64::from(lowest);
        round_trip >= lowest + least.max(share * lowest)
    }

    /// So many bytes are acknowledged at once, the last of them after as many microseconds; the lowest are of a small packet.
    pub(super) fn acknowledge(
        &mut self,
        now: Instant,
        (round_trip, bytes): (u32, u32),
        lowest: u32,
        packet: u64,
        full: bool,
    ) {
        let stood = match self.rate {
            Some(rate) => Self::stood(round_trip, lowest, packet, rate),
            None => Self::is_queued(round_trip, lowest),
        };
        let silence = STALL.max(Duration::from_micros(lowest.into()));
        let stalled = |queued: &Queued| now.saturating_duration_since(queued.last) > silence;
        if (!stood || self.queued.as_ref().is_some_and(stalled))
            && let Some(queued) = self.queued.take()
        {
            self.measure(queued, lowest, packet);
        }
        if !stood {
            return;
        }
        let Some(queued) = &mut self.queued else {
            self.queued = Some(Queued {
                first: now,
                last: now,
                bytes: 0,
                shortest: round_trip,
                full,
            });
            return;
        };
        queued.last = now;
        queued.bytes += u64::from(bytes);
        queued.shortest = queued.shortest.min(round_trip);
        queued.full &= full;
        let queued = *queued;
        // The way did not become wider.
        let time = now.saturating_duration_since(queued.first);
        let shortest = Duration::from_micros(lowest.into());
        if queued.bytes >= FEW * packet && time >= shortest && self.before.is_some() {
            self.rate = self.before.take();
            self.hold = HOLD.min(2 * self.hold);
            if self.hold == HOLD {
                self.known = self.rate.unwrap_or_default();
            }
            self.tries = Some(now + self.hold);
        }
        if time > ROUND_TRIPS * shortest && self.measure(queued, lowest, packet) {
            self.queued = None;
        }
    }

    fn measure(&mut self, queued: Queued, lowest: u32, packet: u64) -> bool {
        let time = queued.last.saturating_duration_since(queued.first);
        // What comes at once may have waited somewhere.
        if queued.bytes < LEAST * packet || time < Duration::from_micros(lowest.into()) {
            return false;
        }
        let measured = queued.bytes as f64 / time.as_secs_f64();
        // Before it is known, what a packet takes by itself looks like a queue.
        if !Self::stood(queued.shortest, lowest, packet, measured) {
            return true;
        }
        // Behind the queue of somebody else, whoever sends little measures that.
        if !queued.full && self.rate.is_none_or(|rate| measured < rate) {
            return true;
        }
        let rate = (self.rate.unwrap_or(measured) + measured) / 2.0;
        self.rate = Some(rate);
        if self.known == 0.0 {
            self.hold = HOLD;
        } else if self.hold == HOLD && MUCH * rate < self.known {
            self.hold = SOON;
        }
        self.known = self.known.max(rate);
        self.tries = Some(queued.last + self.hold);
        true
    }

    /// A round trip is over, of which so many bytes were on their way at most.
    pub(super) fn look(&mut self, now: Instant, most: u64, lowest: u32) {
        let (Some(tries), Some(rate)) = (self.tries, self.rate) else {
            return;
        };
        let lowest = Duration::from_micros(lowest.into());
        // Nothing is learned from what is not used.
        let used = most as f64 >= rate * lowest.as_secs_f64() / 2.0;
        if now >= tries {
            self.before = None;
        }
        if now >= tries && used {
            // What stood in a queue before says nothing of this one.
            self.queued = None;
            self.before = self.rate;
            self.rate = Some(TRY * rate);
            self.known = self.known.max(rate);
            self.tries = Some(now + lowest * ANSWER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1_200;
    /// Microseconds without a queue, and bytes a second: a packet in ten milliseconds.
    const LOWEST: u32 = 50_000;
    const CARRIES: f64 = 120_000.0;

    /// A way on which packets of full size stand in a queue.
    struct Way {
        rate: Rate,
        begin: Instant,
        now: Instant,
        round: Instant,
        carries: f64,
        queue: f64,
        /// Milliseconds of a queue of others.
        others: f64,
        /// What is sent fills the way.
        full: bool,
    }

    impl Way {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                rate: Rate::default(),
                begin: now,
                now,
                round: now,
                carries: CARRIES,
                queue: 0.0,
                others: 0.0,
                full: true,
            }
        }

        /// For so long as many bytes a second are sent.
        fn send(&mut self, time: Duration, bytes: f64) {
            let until = self.now + time;
            while self.now < until {
                // What comes in the time in which a packet goes, or at the pace of what is sent where that is slower.
                let carried = PACKET as f64 / self.carries;
                let gap = if self.queue > 0.0 {
                    carried
                } else {
                    carried.max(PACKET as f64 / bytes)
                };
                self.now += Duration::from_secs_f64(gap);
                self.queue = (self.queue + gap * (bytes - self.carries)).max(0.0);
                let waited = (self.queue + PACKET as f64) / self.carries;
                let round_trip = LOWEST + (waited * 1e6 + self.others * 1e3) as u32;
                let answer = (round_trip, PACKET as u32);
                self.rate
                    .acknowledge(self.now, answer, LOWEST, PACKET, self.full);
                if self.now >= self.round + Duration::from_micros(LOWEST.into()) {
                    self.round = self.now;
                    self.rate.look(self.now, (bytes * 0.05) as u64, LOWEST);
                }
            }
        }

        fn measures(&self, expected: f64) {
            let measured = self.rate.measured().unwrap();
            let off = (measured / expected - 1.0).abs();
            assert!(
                off < 0.05,
                "{measured} instead of {expected}, after {:?}",
                self.now - self.begin
            );
        }
    }

    #[test]
    fn it_is_measured_behind_a_queue_and_only_there() {
        let mut way = Way::new();
        way.send(Duration::from_secs(5), 0.9 * CARRIES);
        assert_eq!(way.rate.measured(), None);
        way.send(Duration::from_secs(1), 1.2 * CARRIES);
        way.measures(CARRIES);
        // Whoever sends less learns nothing.
        way.send(Duration::from_secs(9), 0.5 * CARRIES);
        way.measures(CARRIES);
    }

    #[test]
    fn the_queue_of_others_measures_nothing() {
        let mut way = Way::new();
        (way.others, way.full) = (100.0, false);
        way.send(Duration::from_secs(9), 0.2 * CARRIES);
        assert_eq!(way.rate.measured(), None);
        (way.others, way.full) = (0.0, true);
        way.send(Duration::from_secs(1), 1.2 * CARRIES);
        (way.others, way.full) = (100.0, false);
        way.send(Duration::from_secs(9), 0.2 * CARRIES);
        way.measures(CARRIES);
    }

    #[test]
    fn whoever_was_held_up_by_others_is_soon_as_fast_as_before() {
        let mut way = Way::new();
        way.send(Duration::from_secs(1), 1.1 * CARRIES);
        way.carries = CARRIES / 4.0;
        way.send(Duration::from_secs(4), CARRIES / 3.0);
        way.measures(CARRIES / 4.0);
        (way.carries, way.queue) = (CARRIES, 0.0);
        let freed = way.now;
        while way.rate.measured().unwrap() < 0.9 * CARRIES {
            let rate = way.rate.measured().unwrap();
            way.send(Duration::from_millis(50), 0.95 * rate);
        }
        let time = way.now - freed;
        assert!(time < Duration::from_secs(5), "{time:?}");
    }

    #[test]
    fn few_packets_measure_nothing() {
        let mut rate = Rate::default();
        let begin = Instant::now();
        for packet in 0..LEAST {
            let now = begin + Duration::from_millis(packet);
            rate.acknowledge(now, (90_000, PACKET as u32), LOWEST, PACKET, true);
        }
        rate.acknowledge(
            begin + Duration::from_secs(1),
            (50_000, PACKET as u32),
            LOWEST,
            PACKET,
            true,
        );
        assert_eq!(rate.measured(), None);
    }

    #[test]
    fn a_way_that_carries_nothing_for_a_while_is_not_slow() {
        let mut way = Way::new();
        way.send(Duration::from_secs(1), 1.1 * CARRIES);
        for _ in 0..20 {
            way.now += Duration::from_secs(5);
            way.send(Duration::from_millis(500), 1.2 * CARRIES);
            way.measures(CARRIES);
        }
    }

    #[test]
    fn a_way_that_becomes_narrower_is_found_at_once() {
        let mut way = Way::new();
        way.send(Duration::from_secs(1), 1.1 * CARRIES);
        way.carries = CARRIES / 2.0;
        way.send(Duration::from_secs(4), CARRIES);
        way.measures(CARRIES / 2.0);
    }

    #[test]
    fn a_way_that_becomes_wider_is_found_after_a_while() {
        let mut way = Way::new();
        way.send(Duration::from_secs(1), 1.1 * CARRIES);
        way.queue = 0.0;
        way.carries = 2.0 * CARRIES;
        way.send(HOLD / 2, CARRIES);
        way.measures(CARRIES);
        for _ in 0..60 {
            let rate = way.rate.measured().unwrap();
            way.send(HOLD / 30, rate);
        }
        assert!(
            way.rate.measured().unwrap() > 1.8 * CARRIES,
            "{:?}",
            way.rate
        );
    }

    #[test]
    fn what_did_not_become_wider_is_as_before_and_no_more_is_tried_for_a_while() {
        let mut way = Way::new();
        way.send(Duration::from_secs(1), 1.1 * CARRIES);
        let mut tried = 0;
        for _ in 0..3_000 {
            let rate = way.rate.measured().unwrap();
            tried += u32::from(rate > 1.1 * CARRIES);
            way.send(Duration::from_millis(30), rate * 0.95);
        }
        way.measures(CARRIES);
        // Ninety seconds: three times, and each time for little longer than a queue needs to grow.
        assert!((2..60).contains(&tried), "{tried}");
    }

    #[test]
    fn nothing_is_tried_where_little_is_sent() {
        let mut way = Way::new();
        way.send(Duration::from_secs(1), 1.1 * CARRIES);
        way.queue = 0.0;
        way.send(3 * HOLD, 0.1 * CARRIES);
        way.measures(CARRIES);
    }
}

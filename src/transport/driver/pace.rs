//! What goes out packet by packet, as fast as the network was seen to carry: what is to be fresh, and what gives way.
//!
//! An acknowledgement is often of two packets, and two go out for it. Where a packet takes long, whatever comes next stands behind both.

use std::time::{Duration, Instant};

/// What may go out at once, in time. Where that is more than a few packets, a timer would hold up more than the queue that it avoids.
const QUANTUM: Duration = Duration::from_millis(2);
const MANY: u64 = 4;
/// How late whoever was held back may be asked without losing what it might have sent.
const LATE: Duration = Duration::from_millis(10);
/// Bytes of a packet that are no stream's, about, and of what is written at once.
const OVERHEAD: u64 = 40;
const FRAMING: u64 = 6;
/// Where something went first within this time, all together use so much of what the network carries: no queue stands on the way that
/// the next would find.
const RECENT: Duration = Duration::from_secs(10);
const USED: f64 = 0.9;
/// The same of what is to be fresh: at the full rate a queue that once stood there would stay.
const FRESH: f64 = 0.95;

/// How bytes of one kind go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    /// 0 is usual, higher goes before lower; what is lower gives way.
    pub(crate) priority: i32,
    /// A newer one may take its place until it goes out.
    pub(crate) fresh: bool,
}

impl Class {
    /// Whether it goes out packet by packet.
    pub(super) const fn is_paced(self) -> bool {
        self.priority < 0 || self.fresh
    }
}

/// The paces of a connection.
#[derive(Debug, Default)]
pub(super) struct Paces {
    low: Pace,
    fresh: Pace,
    /// When something was written that goes first.
    first: Option<Instant>,
}

/// Bytes that may go out now; they grow with time up to a packet and a quantum.
#[derive(Debug, Default)]
struct Pace {
    bytes: f64,
    /// Until when they have grown.
    grown: Option<Instant>,
    /// When somebody who found too few is to be asked again.
    wake: Option<Instant>,
    /// When it was to be, and is now.
    woken: Option<Instant>,
}

impl Paces {
    /// Bytes of a [paced](Class::is_paced) class that may go out now where the network carries `rate` bytes a second: of the `wanted` ones a packet, or what is
    /// left of them. Where there are none, [`due`](Self::due) is when.
    pub(super) fn admits(
        &mut self,
        now: Instant,
        class: Class,
        rate: f64,
        packet: u64,
        wanted: u64,
    ) -> u64 {
        let first = |first| now.saturating_duration_since(first) < RECENT;
        if class.priority < 0 {
            let used = if self.first.is_some_and(first) {
                USED
            } else {
                1.0
            };
            self.low.admits(now, rate * used, packet, wanted)
        } else {
            self.fresh.admits(now, rate * FRESH, packet, wanted)
        }
    }

    /// So many bytes of this class went out.
    pub(super) fn sent(&mut self, now: Instant, class: Class, bytes: u64, packet: u64) {
        if bytes == 0 {
            return;
        }
        let bytes = on_the_way(bytes, packet);
        self.low.bytes -= bytes;
        if class.priority >= 0 {
            self.first = Some(now);
            if class.fresh {
                self.fresh.bytes -= bytes;
            }
        }
    }

    /// When whoever was held back is to be asked.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.low.wake.into_iter().chain(self.fresh.wake).min()
    }

    /// Whether that time has come.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        let due = |pace: &mut Pace| {
            let woken = pace.wake.take_if(|wake| *wake <= now);
            pace.woken = woken.or(pace.woken);
            woken.is_some()
        };
        due(&mut self.low) | due(&mut self.fresh)
    }
}

impl Pace {
    fn admits(&mut self, now: Instant, rate: f64, packet: u64, wanted: u64) -> u64 {
        let late = self.woken.take().map_or(Duration::ZERO, |woken| {
            now.saturating_duration_since(woken).min(LATE)
        });
        let quantum = rate * QUANTUM.as_secs_f64();
        if quantum >= (MANY * packet) as f64 {
            return wanted;
        }
        let most = (packet + FRAMING) as f64 + quantum + rate * late.as_secs_f64();
        let since = self.grown.replace(now);
        let grown = since.map_or(most, |since| {
            rate * now.saturating_duration_since(since).as_secs_f64()
        });
        // Whoever goes first may take more than there is, but nothing of what is far ahead.
        if grown > 0.0 {
            self.bytes = (self.bytes.max(-most) + grown).min(most);
        }
        let part = wanted.min(packet.saturating_sub(OVERHEAD));
        let needed = on_the_way(part, packet);
        if self.bytes >= needed {
            return part;
        }
        let at = now + Duration::from_secs_f64((needed - self.bytes) / rate);
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        0
    }
}

/// What so many bytes of a stream take on the way: they may share a packet with others.
fn on_the_way(bytes: u64, packet: u64) -> f64 {
    (bytes + FRAMING) as f64 + (bytes * OVERHEAD) as f64 / packet.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1_240;
    const FULL: u64 = PACKET - OVERHEAD;
    /// A packet in ten milliseconds.
    const RATE: f64 = 124_000.0;
    const LOW: Class = Class {
        priority: -1,
        fresh: false,
    };
    const NEWEST: Class = Class {
        priority: 0,
        fresh: true,
    };
    const USUAL: Class = Class {
        priority: 0,
        fresh: false,
    };

    /// Bytes of a class that is asked every millisecond, of a second, and most at once; `others` send so many bytes in between.
    fn second(paces: &mut Paces, class: Class, others: u64) -> (u64, u64) {
        let begin = Instant::now();
        let (mut sum, mut most) = (0, 0);
        for milli in 0..1_000 {
            let now = begin + Duration::from_millis(milli);
            let bytes = paces.admits(now, class, RATE, PACKET, 10 * PACKET);
            paces.sent(now, class, bytes, PACKET);
            (sum, most) = (sum + bytes, most.max(bytes));
            paces.sent(now, USUAL, others, PACKET);
        }
        (sum, most)
    }

    #[test]
    fn a_packet_goes_when_the_one_before_it_has_arrived() {
        for class in [LOW, NEWEST] {
            let mut paces = Paces::default();
            let now = Instant::now();
            assert_eq!(paces.admits(now, class, RATE, PACKET, 10 * PACKET), FULL);
            paces.sent(now, class, FULL, PACKET);
            assert_eq!(paces.admits(now, class, RATE, PACKET, 10 * PACKET), 0);
            let wake = paces.wake().unwrap();
            assert!(wake > now + Duration::from_millis(7), "{:?}", wake - now);
            assert!(!paces.due(wake - Duration::from_nanos(1)));
            assert!(paces.due(wake));
            assert_eq!(paces.wake(), None);
            assert!(
                paces.admits(
                    wake + Duration::from_nanos(1),
                    class,
                    RATE,
                    PACKET,
                    10 * PACKET
                ) > 0
            );
        }
        let (sum, most) = second(&mut Paces::default(), LOW, 0);
        assert!((118_000..=122_000).contains(&sum), "{sum}");
        assert_eq!(most, FULL);
    }

    #[test]
    fn what_is_left_of_a_message_is_a_packet_too() {
        let mut paces = Paces::default();
        let now = Instant::now();
        assert_eq!(paces.admits(now, LOW, RATE, PACKET, 7), 7);
        paces.sent(now, LOW, 7, PACKET);
        assert_eq!(paces.admits(now, LOW, RATE, PACKET, 1_000), 1_000);
    }

    #[test]
    fn what_gives_way_has_what_others_leave_of_nine_tenths() {
        // 47 with what is around them, of 111.6 bytes a millisecond.
        let (sum, most) = second(&mut Paces::default(), LOW, 40);
        assert!((60_000..=64_000).contains(&sum), "{sum}");
        assert_eq!(most, FULL);
        let (sum, _) = second(&mut Paces::default(), LOW, 200);
        assert!(sum <= FULL, "{sum}: nothing is left");
        let (sum, _) = second(&mut Paces::default(), NEWEST, 200);
        assert!(
            sum > 112_000,
            "{sum}: that is shared by the streams' window"
        );
    }

    #[test]
    fn who_is_asked_late_loses_nothing() {
        let (mut paces, begin, rate) = (Paces::default(), Instant::now(), 4.0 * RATE);
        let mut sum = 0;
        for look in 0..100 {
            // A packet takes two and a half.
            let now = begin + Duration::from_millis(6 * look);
            paces.due(now);
            loop {
                let bytes = paces.admits(now, LOW, rate, PACKET, 10 * PACKET);
                if bytes == 0 {
                    break;
                }
                paces.sent(now, LOW, bytes, PACKET);
                sum += bytes;
            }
        }
        let all = 0.6 * rate * FULL as f64 / PACKET as f64;
        assert!(sum as f64 > 0.9 * all, "{sum} of {all}");
    }

    #[test]
    fn a_debt_is_soon_forgotten() {
        let mut paces = Paces::default();
        let now = Instant::now();
        paces.sent(now, USUAL, 1_000_000, PACKET);
        paces.admits(now, LOW, RATE, PACKET, PACKET);
        let wake = paces.wake().unwrap();
        assert!(wake < now + Duration::from_millis(30), "{:?}", wake - now);
    }

    #[test]
    fn a_fast_way_needs_no_pace() {
        let rate = 1.1 * (MANY * PACKET) as f64 / QUANTUM.as_secs_f64();
        let mut paces = Paces::default();
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(paces.admits(now, NEWEST, rate, PACKET, 99_999), 99_999);
            paces.sent(now, NEWEST, 99_999, PACKET);
        }
        assert_eq!(paces.wake(), None);
    }
}

//! Virtual time, without a connection.

use std::time::{Duration, Instant};

use quinn_proto::congestion::Controller;

use super::{BETA, Discerning, INITIAL_WINDOW, unanswered_since};

const MTU: u64 = 1200;

/// A flow in virtual time that always has as much to send as it may, up to `need` packets.
struct Flow {
    cc: Discerning,
    now: Instant,
    need: u64,
}

impl Flow {
    fn new(need: u64) -> Self {
        let now = Instant::now();
        let cc = Discerning::new(now, MTU as u16);
        Self { cc, now, need }
    }

    fn packets(&self) -> u64 {
        self.cc.window() / MTU
    }

    /// Some round trips of so many milliseconds, in each of which the first so many packets are lost.
    fn rounds(&mut self, rounds: u32, millis: u64, lost: u64) {
        for _ in 0..rounds {
            let (sent, count) = (self.now, self.packets().min(self.need));
            let round_trip = Duration::from_millis(millis);
            self.now += round_trip;
            self.cc.on_sent(sent, count * MTU, 0);
            for packet in 0..count {
                if packet >= lost {
                    self.cc.acknowledge(self.now, sent, MTU, round_trip);
                }
            }
            if lost > 0 {
                self.cc.lose(self.now, sent, false, lost * MTU);
            }
            self.cc.on_end_acks(self.now, 0, false, None);
            self.now += Duration::from_micros(1);
        }
    }
}

#[test]
fn chance_takes_nothing_and_still_lets_it_grow() {
    let mut flow = Flow::new(30);
    flow.rounds(100, 50, 1);
    assert!((60..=90).contains(&flow.packets()), "{}", flow.packets());
}

#[test]
fn a_loss_with_a_queue_takes_three_tenths_once_a_round_trip() {
    let mut flow = Flow::new(30);
    flow.rounds(10, 50, 0);
    let before = flow.cc.window;
    flow.rounds(1, 53, 1);
    assert!(flow.cc.window >= before, "no queue");
    let before = flow.cc.window;
    // Half of the way from jitter (50 / 16) to a queue (50 / 4).
    flow.rounds(1, 58, 1);
    assert!((flow.cc.window / before - (1.0 + BETA) / 2.0).abs() < 0.02);
    let before = flow.cc.window;
    flow.rounds(1, 63, 1);
    assert!((flow.cc.window / before - BETA).abs() < 0.02);
    let (after, answered) = (flow.cc.window, flow.now - Duration::from_micros(1));
    flow.cc.lose(answered, answered, false, MTU);
    assert_eq!(flow.cc.window, after);
}

#[test]
fn many_losses_shrink_it_and_few_of_few_do_not() {
    let mut flow = Flow::new(30);
    flow.rounds(10, 50, 0);
    let before = flow.packets();
    flow.rounds(30, 50, 6);
    assert!(flow.packets() < before / 2, "{}", flow.packets());
    let mut flow = Flow::new(10);
    flow.rounds(1, 50, 2);
    assert_eq!(flow.packets(), 18);
}

#[test]
fn marks_and_persistent_congestion_leave_no_doubt() {
    let mut flow = Flow::new(30);
    flow.rounds(10, 50, 0);
    let before = flow.cc.window;
    flow.cc.on_congestion_event(flow.now, flow.now, false, 0);
    assert_eq!(flow.cc.window, before * BETA);
    flow.now += Duration::from_millis(1);
    flow.cc.on_congestion_event(flow.now, flow.now, true, MTU);
    assert_eq!(flow.packets(), 2);
}

#[test]
fn a_queue_ends_slow_start() {
    let mut flow = Flow::new(u64::MAX);
    flow.rounds(3, 50, 0);
    assert_eq!(flow.packets(), 80);
    flow.rounds(1, 80, 0);
    assert!((80..84).contains(&flow.packets()), "{}", flow.packets());
}

#[test]
fn what_is_not_used_does_not_grow() {
    let mut flow = Flow::new(4);
    flow.rounds(100, 50, 0);
    assert_eq!(flow.cc.window, INITIAL_WINDOW);
}

#[test]
fn a_longer_way_is_no_queue_for_ever() {
    let mut flow = Flow::new(30);
    flow.rounds(10, 50, 0);
    flow.rounds(50, 100, 0);
    assert_eq!(flow.cc.queue, 1.0);
    flow.rounds(200, 100, 0);
    assert_eq!(flow.cc.queue, 0.0);
}

#[test]
fn it_regrows_as_cubic_does() {
    let mut flow = Flow::new(u64::MAX);
    flow.rounds(6, 50, 0);
    flow.rounds(1, 80, 1);
    let flat = flow.cc.window / BETA / MTU as f64;
    // RFC 9438 §4.2, in round trips of 50 ms.
    let until_flat = (flat * 0.3 / 0.4).cbrt() / 0.05;
    flow.rounds((until_flat * 0.7) as u32, 50, 0);
    assert!((flow.packets() as f64) < 0.999 * flat, "{}", flow.packets());
    flow.rounds((until_flat * 0.3) as u32, 50, 0);
    let regrown = flow.packets() as f64 / flat;
    assert!((0.97..1.01).contains(&regrown), "{regrown}");
    flow.rounds(until_flat as u32, 50, 0);
    let beyond = flow.packets() as f64 / flat;
    assert!((1.25..1.35).contains(&beyond), "{beyond}");
}

#[test]
fn it_is_small() {
    let size = size_of::<Discerning>();
    assert!(size <= 192, "{size}");
}

/// A way of 50 ms that carries two packets in 10 ms, always given as many as may be on it: how long a round trip takes then.
fn saturate(flow: &mut Flow, rounds: u32) -> u64 {
    let mut round_trip = 50;
    for _ in 0..rounds {
        let packets = (flow.cc.fresh_window() / MTU).min(1000);
        round_trip = 50.max(packets * 5);
        flow.need = packets;
        flow.rounds(1, round_trip, 0);
    }
    round_trip
}

#[test]
fn what_is_to_be_fresh_stands_in_no_queue() {
    let mut flow = Flow::new(30);
    flow.rounds(5, 50, 0);
    // It holds ten packets, and one may stand.
    let round_trip = saturate(&mut flow, 100);
    assert!((50..=65).contains(&round_trip), "{round_trip} ms");
    let packets = flow.cc.fresh_window() / MTU;
    assert!((10..=13).contains(&packets), "{packets} packets");
    assert!(flow.packets() > 20, "Cubic would let more queue up");
}

#[test]
fn what_is_to_be_fresh_takes_what_comes_free() {
    let mut flow = Flow::new(30);
    flow.rounds(5, 50, 0);
    saturate(&mut flow, 100);
    // The way carries three times as much.
    for _ in 0..60 {
        flow.need = flow.cc.fresh_window() / MTU;
        let round_trip = 50.max(flow.need * 5 / 3);
        flow.rounds(1, round_trip, 0);
    }
    let packets = flow.cc.fresh_window() / MTU;
    assert!((25..=36).contains(&packets), "{packets} packets");
}

#[test]
fn single_packets_that_are_acknowledged_late_are_no_queue() {
    let mut flow = Flow::new(1);
    flow.rounds(3, 50, 0);
    // The peer may wait 25 ms for a second packet.
    flow.rounds(100, 75, 0);
    assert!(
        flow.cc.fresh_window() >= 12_000,
        "{}",
        flow.cc.fresh_window()
    );
}

#[test]
fn the_lowest_priority_finds_its_way_wider_too() {
    let mut flow = Flow::new(30);
    flow.rounds(5, 50, 0);
    saturate(&mut flow, 100);
    for _ in 0..100 {
        // It leaves a packet unused.
        flow.need = (flow.cc.fresh_window() / MTU - 1).max(2);
        flow.rounds(1, 50, 0);
    }
    assert!(
        flow.cc.fresh_window() > 100 * MTU / 2,
        "{}",
        flow.cc.fresh_window()
    );
}

#[test]
fn what_is_to_be_fresh_is_bounded() {
    let mut flow = Flow::new(100_000);
    flow.rounds(20, 50, 0);
    assert!(flow.cc.window() > 2 << 20);
    assert_eq!(flow.cc.fresh_window(), 1 << 20);
}

#[test]
fn time_without_an_acknowledgement_begins_with_the_first_packet_in_flight() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut controller = Discerning::new(start, 1200);
    assert_eq!(unanswered_since(&controller), None);
    controller.on_sent(at(1), 1200, 0);
    controller.on_sent(at(2), 1200, 1);
    assert_eq!(unanswered_since(&controller), Some(at(1)));
    controller.on_end_acks(at(3), 0, false, None);
    assert_eq!(unanswered_since(&controller), None);
    controller.on_sent(at(9), 1200, 2);
    assert_eq!(unanswered_since(&controller), Some(at(9)));
}

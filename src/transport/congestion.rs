//! How much may be in flight to a client: Cubic, which gives way to congestion and not to chance.
//!
//! Cubic (RFC 9438) takes every loss for congestion. Where a radio link loses some packets whatever is sent, its window falls below
//! what live messages need, and all of them are late. Here a loss counts only with evidence that the way is full:
//! - a queue: the round trip stands well above the lowest of late (as in TCP Veno, or in Copa), or
//! - many losses: more than a share, so that a policer or a short queue is obeyed, too (as in BBRv3), or
//! - what leaves no doubt: an ECN mark, or persistent congestion (RFC 9002 §7.6).
//!
//! A queue ends slow start before anything is lost (as in HyStart++, RFC 9406). The window grows only while at least half of it is
//! used (as in RFC 7661): what was never sent proves nothing.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use rate::Rate;

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory},
};

/// By how much a round trip is longer than the lowest, as a share of that one and in microseconds at least: up to `JITTER` it may be
/// the ends and the radio, from `QUEUE` on it is a queue; in between a loss takes the part that a queue is likely.
const JITTER: (f32, f32) = (1.0 / 16.0, 2_000.0);
const QUEUE: (f32, f32) = (1.0 / 4.0, 5_000.0);
/// The lowest round trip is that of the last one to two of these. A way that became longer looks like a queue for as long; a queue
/// that stands as long would look like the way, but whoever fills it by Cubic drains it by a third now and then.
const LOWEST_AGE: Duration = Duration::from_secs(10);
/// More than one byte lost in ten is congestion, from four packets on.
const LOSS_SHARE: u64 = 10;
const LEAST_LOST: u64 = 4 * 1200;
/// A round trip forgets an eighth of what was counted before: the share is one of about eight round trips.
const MEMORY: u64 = 8;
/// Ten packets, as in RFC 9002 §7.2.
const INITIAL_WINDOW: f64 = 12_000.0;
/// Below sixteen packets a queue does not end slow start: so few measure badly.
const LEAST_MEASURED: f64 = 16.0 * 1200.0;
/// Microseconds, or the share of the lowest round trip, from which on a queue stands where it is to be fresh; and packets that may stand
/// in it: an acknowledgement may wait for the second.
const STANDING: (f64, f64) = (5_000.0, 1.0 / 8.0);
const SPARE: f64 = 1.0;
/// Packets that may always be on their way, and bytes that never are more, where it is to be fresh.
const LEAST_FRESH: f64 = 4.0;
const MOST_FRESH: f64 = 1_048_576.0;
/// Round trips without a queue after which what is to be fresh grows faster.
const CLEAR: u8 = 8;
/// RFC 9438: what is left of the window, packets a second³, and packets a round trip by which a flow like Reno's regrows.
const BETA: f64 = 0.7;
const C: f64 = 0.4;
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// Makes a controller for each way of each connection.
#[derive(Debug)]
pub(super) struct Config;

impl ControllerFactory for Config {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Discerning::new(now, mtu))
    }
}

/// Bytes that may wait to be acknowledged where what is sent is to be fresh: what the way holds without a queue. What is written beyond
/// that would only wait, here or in a queue on the way.
///
/// And bytes that the way carries in a second, once that was seen.
pub(super) fn fresh_window(controller: &dyn Controller) -> (u64, Option<f64>) {
    let window = controller.window();
    match controller.clone_box().into_any().downcast::<Discerning>() {
        Ok(controller) => (controller.fresh_window(), controller.carries()),
        Err(_) => (window, None),
    }
}

/// Bytes in flight.
pub(super) fn in_flight(controller: &dyn Controller) -> u64 {
    match controller.clone_box().into_any().downcast::<Discerning>() {
        Ok(controller) => controller.in_flight,
        Err(_) => 0,
    }
}

/// Time since which the peer acknowledged nothing of what is in flight; `None` where nothing is.
pub(super) fn unanswered_since(controller: &dyn Controller) -> Option<Instant> {
    let controller = controller
        .clone_box()
        .into_any()
        .downcast::<Discerning>()
        .ok()?;
    (controller.in_flight > 0).then_some(controller.unanswered)
}

#[derive(Debug, Clone)]
struct Discerning {
    /// Bytes that may be in flight: doubled with each round trip up to the threshold, above it on Cubic's curve.
    window: f64,
    threshold: f64,
    /// The curve: the window where it is flat, seconds until there, seconds that it was followed, and what Reno would have.
    flat: f64,
    until_flat: f32,
    followed: f32,
    reno: f64,
    /// What was sent until then has been answered for.
    recovery: Option<Instant>,
    /// When this round trip ends, and when `lowest` moves one place on.
    round: Instant,
    aging: Instant,
    /// Microseconds of the lowest round trips: since it moved, and before.
    lowest: [u32; 2],
    /// Bytes of the last round trips.
    acknowledged: u64,
    lost: u64,
    /// Bytes in flight, and the most of this round trip and of the last.
    in_flight: u64,
    most: [u64; 2],
    mtu: u16,
    /// Bytes that the way holds without a queue, and microseconds of the fastest round trip since that was looked at.
    fresh: f64,
    fastest: u32,
    /// Of what the peer acknowledges at once: microseconds of the fastest round trip, since the others waited for it, and bytes.
    answer: (u32, u32),
    /// Round trips without a queue since the last.
    clear: u8,
    /// What the way carries, once there was a queue.
    rate: Option<Box<Rate>>,
    /// When the peer last acknowledged something, or the first of what is in flight was sent.
    unanswered: Instant,
    /// How likely there was a queue when the peer was last heard, from 0 to 1.
    queue: f32,
}

impl Discerning {
    const fn new(now: Instant, mtu: u16) -> Self {
        Self {
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            flat: 0.0,
            until_flat: 0.0,
            followed: 0.0,
            reno: 0.0,
            recovery: None,
            round: now,
            aging: now,
            lowest: [u32::MAX; 2],
            acknowledged: 0,
            lost: 0,
            in_flight: 0,
            most: [0; 2],
            mtu,
            fresh: f64::INFINITY,
            fastest: u32::MAX,
            answer: (u32::MAX, 0),
            clear: 0,
            rate: None,
            unanswered: now,
            queue: 0.0,
        }
    }

    fn acknowledge(&mut self, now: Instant, sent: Instant, bytes: u64, smoothed: Duration) {
        // The smoothed one is late, this one has the peer's delays in it.
        let round_trip = now.saturating_duration_since(sent);
        let micros = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        self.fastest = self.fastest.min(micros);
        self.look_for_queue(now, round_trip.min(smoothed));
        self.answer.0 = self.answer.0.min(micros);
        self.answer.1 = self.answer.1.saturating_add(bytes as u32);
        let lowest = self.lowest[0].min(self.lowest[1]);
        if self.queue >= 1.0 && self.window < self.threshold && self.window >= LEAST_MEASURED {
            self.threshold = self.window;
            self.follow(self.window);
        }
        let used = 2.0 * self.most[0].max(self.most[1]) as f64 >= self.window;
        if now >= self.round {
            if let Some(rate) = &mut self.rate {
                rate.look(now, self.most[0].max(self.most[1]), lowest);
            }
            self.refresh();
            let late = now.saturating_duration_since(self.round).min(smoothed);
            self.round = now + smoothed;
            self.acknowledged -= self.acknowledged / MEMORY;
            self.lost -= self.lost / MEMORY;
            self.most = [self.in_flight, self.most[0]];
            // RFC 9438 §5.8: not while the application is short of messages.
            if used {
                self.followed += (smoothed + late).as_secs_f32();
            }
        }
        if self.is_answered(sent) {
            return;
        }
        self.acknowledged += bytes;
        if used {
            self.grow(bytes as f64, smoothed);
        }
    }

    fn look_for_queue(&mut self, now: Instant, round_trip: Duration) {
        if now >= self.aging {
            self.aging = now + LOWEST_AGE;
            self.lowest = [u32::MAX, self.lowest[0]];
        }
        let round_trip = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        self.lowest[0] = self.lowest[0].min(round_trip);
        let lowest = self.lowest[0].min(self.lowest[1]);
        let above = (round_trip - lowest) as f32;
        let [jitter, queue] =
            [JITTER, QUEUE].map(|(share, least)| least.max(share * lowest as f32));
        self.queue = ((above - jitter) / (queue - jitter)).clamp(0.0, 1.0);
    }

    fn grow(&mut self, bytes: f64, round_trip: Duration) {
        if self.window < self.threshold {
            self.window += bytes;
            return;
        }
        // RFC 9438 §4.2 to 4.5.
        let share = bytes / self.window;
        let time = f64::from(self.followed - self.until_flat) + round_trip.as_secs_f64();
        let curve = self.flat + C * time.powi(3) * f64::from(self.mtu);
        let target = curve.clamp(self.window, 1.5 * self.window);
        let alpha = if self.reno < self.flat { ALPHA } else { 1.0 };
        self.reno += alpha * f64::from(self.mtu) * share;
        self.window = (self.window + (target - self.window) * share).max(self.reno);
    }

    /// Begins a curve at today's window.
    fn follow(&mut self, flat: f64) {
        self.flat = flat;
        self.until_flat = ((flat - self.window).max(0.0) / f64::from(self.mtu) / C).cbrt() as f32;
        self.followed = 0.0;
        self.reno = self.window;
    }

    fn lose(&mut self, now: Instant, sent: Instant, persistent: bool, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        if self.is_answered(sent) {
            return;
        }
        self.lost += bytes;
        let many = self.lost > LEAST_LOST.max((self.acknowledged + self.lost) / LOSS_SHARE);
        let marked = bytes == 0;
        let likely = if many || marked || persistent {
            1.0
        } else {
            f64::from(self.queue)
        };
        if likely == 0.0 {
            return;
        }
        let left = 1.0 - (1.0 - BETA) * likely;
        if likely == 1.0 {
            (self.acknowledged, self.lost) = (0, 0);
        }
        // RFC 9438 §4.7: a flow that has to shrink makes room for others.
        let shrinks = self.window < self.flat;
        let flat = self.window * if shrinks { (1.0 + left) / 2.0 } else { 1.0 };
        self.threshold = (self.window * left).max(self.least());
        self.window = if persistent {
            self.least()
        } else {
            self.threshold
        };
        self.recovery = (!persistent).then_some(now);
        self.follow(flat);
    }

    /// Of what was on the way, the part stood in a queue by which the round trip was longer than the lowest: the rest is what the way
    /// holds (as in TCP Vegas). Without a queue it may hold more.
    fn refresh(&mut self) {
        let lowest = self.lowest[0].min(self.lowest[1]) as f64;
        let fastest = f64::from(std::mem::replace(&mut self.fastest, u32::MAX));
        let (mtu, most) = (f64::from(self.mtu), self.most[0].max(self.most[1]) as f64);
        // Few packets say nothing: acknowledgements of single ones are late by themselves. The lowest priority leaves one unused.
        if most + mtu < 0.75 * self.fresh.min(self.window) {
            return;
        }
        if fastest > lowest + STANDING.0.max(STANDING.1 * lowest) {
            let holds = self.fresh.min(most) * lowest / fastest;
            self.fresh = (holds + SPARE * mtu).max(LEAST_FRESH * mtu).min(self.fresh);
            self.clear = 0;
        } else {
            // In small steps at first, which a queue answers soon; if it does not, the way has become wider.
            let wider = self.clear >= CLEAR;
            self.clear = self.clear.saturating_add(1);
            self.fresh += (mtu / 4.0).max(self.fresh / if wider { 4.0 } else { 16.0 });
        }
    }

    /// A little more than may be sent, so that an acknowledgement finds something. Where packets were lost of late, what arrived behind
    /// them waits to be acknowledged, too.
    fn fresh_window(&self) -> u64 {
        let lossy = self.lost >= u64::from(self.mtu) / 2;
        let may_be_sent = self.fresh.min(1.25 * self.window);
        (may_be_sent * if lossy { 1.5 } else { 1.0 }).min(MOST_FRESH) as u64
    }

    /// Bytes a second, once that was seen.
    fn carries(&self) -> Option<f64> {
        self.rate.as_ref()?.measured()
    }

    fn is_answered(&self, sent: Instant) -> bool {
        self.recovery.is_some_and(|recovery| sent <= recovery)
    }

    /// RFC 9002 §7.2.
    fn least(&self) -> f64 {
        2.0 * f64::from(self.mtu)
    }
}

impl Controller for Discerning {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        if self.in_flight == 0 {
            self.unanswered = now;
        }
        self.in_flight += bytes;
        self.most[0] = self.most[0].max(self.in_flight);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _: bool, rtt: &RttEstimator) {
        self.unanswered = now;
        self.acknowledge(now, sent, bytes, rtt.get());
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _: bool, _: Option<u64>) {
        self.in_flight = in_flight;
        let lowest = self.lowest[0].min(self.lowest[1]);
        let answer = std::mem::replace(&mut self.answer, (u32::MAX, 0));
        if answer.1 > 0 && (self.rate.is_some() || Rate::is_queued(answer.0, lowest)) {
            let rate = self.rate.get_or_insert_default();
            // What was on the way until now, and the packet that may be left unused.
            let most = in_flight as f64 + f64::from(answer.1) + f64::from(self.mtu);
            let fills = most >= 0.75 * self.fresh.min(self.window);
            rate.acknowledge(now, answer, lowest, self.mtu.into(), fills);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        self.lose(now, sent, persistent, lost);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.window = self.window.max(self.least());
    }

    fn window(&self) -> u64 {
        self.window as u64
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW as u64
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

mod rate;
#[cfg(test)]
mod tests;

//! One direction of a link. Pure: `now` is an argument, and nothing here waits.
//!
//! A packet meets, in this order, the **rate** (a token bucket with a queue in front, which drops what would wait too long), the
//! **loss** (so a lost packet has used the rate, as on a real wire) and the **delay**. Packets leave in the order in which
//! they came.

use std::{collections::VecDeque, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use serde::Serialize;

use crate::units::{Rate, Share};

/// What one direction does to packets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Config {
    /// Time that every packet takes.
    pub delay: Duration,
    /// Share of packets that is lost.
    pub loss: Share,
    /// Bits a second, IP headers included; `None` is as fast as the machine.
    pub rate: Option<Rate>,
    /// Longest time that a packet waits for the rate before the queue drops it.
    pub queue: Duration,
    /// What the random numbers are drawn from.
    pub seed: u64,
}

/// Which of the two directions of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the server to the client.
    ToClient,
    /// From the client to the server.
    ToServer,
}

/// What a direction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets that entered.
    pub offered: u64,
    /// Bytes of them, IP headers included.
    pub offered_bytes: u64,
    /// Packets that left.
    pub delivered: u64,
    /// Bytes of them.
    pub delivered_bytes: u64,
    /// Packets that the seed lost.
    pub lost: u64,
    /// Packets that the queue dropped, because they would have waited too long for the rate.
    pub overflowed: u64,
    /// Packets dropped because the link held [`MAX_HELD`] bytes. Not 0: the link was not what was asked for.
    pub held_back: u64,
    /// The longest packet that entered, in bytes.
    pub largest: usize,
}

/// Tokens that a silent link saves up: one full packet, so that a packet that comes alone does not wait for its own length.
const BURST: usize = 1500;
/// Bytes that one direction may hold, so that no flood takes the machine's memory: 5 s at 100 Mbit/s.
pub const MAX_HELD: usize = 64 * 1024 * 1024;

/// One direction of a link, and the packets on it.
#[derive(Debug)]
pub struct Path {
    config: Config,
    bucket: Bucket,
    loss: Coin,
    travelling: VecDeque<Packet>,
    held: usize,
    counters: Counters,
}

/// A packet on its way.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it is to arrive.
    pub due: Duration,
    /// The IP packet.
    pub bytes: Vec<u8>,
}

impl Path {
    /// A direction without packets.
    #[must_use]
    pub fn new(config: Config, direction: Direction) -> Self {
        Self {
            config,
            bucket: Bucket::default(),
            loss: Coin::new(config.loss, config.seed, direction, Purpose::Loss),
            travelling: VecDeque::new(),
            held: 0,
            counters: Counters::default(),
        }
    }

    /// A packet enters. `now` never goes back.
    pub fn offer(&mut self, now: Duration, bytes: Vec<u8>) {
        self.counters.offered += 1;
        self.counters.offered_bytes += bytes.len() as u64;
        self.counters.largest = self.counters.largest.max(bytes.len());
        // Drawn for every packet, whatever becomes of it: so the seed alone says which numbers are lost.
        let lost = self.loss.toss();
        let Some(departure) = self.departure(now, bytes.len()) else {
            self.counters.overflowed += 1;
            return;
        };
        if lost {
            self.counters.lost += 1;
        } else if self.held + bytes.len() > MAX_HELD {
            self.counters.held_back += 1;
        } else {
            self.held += bytes.len();
            self.travelling.push_back(Packet {
                due: departure + self.config.delay,
                bytes,
            });
        }
    }

    /// When the next packet is to arrive.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.travelling.front().map(|packet| packet.due)
    }

    /// The next packet that has arrived by `now`.
    pub fn take_due(&mut self, now: Duration) -> Option<Packet> {
        if self.next_due()? > now {
            return None;
        }
        let packet = self.travelling.pop_front()?;
        self.held -= packet.bytes.len();
        self.counters.delivered += 1;
        self.counters.delivered_bytes += packet.bytes.len() as u64;
        Some(packet)
    }

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// When a packet of this length has passed the rate; `None` when the queue drops it.
    fn departure(&mut self, now: Duration, length: usize) -> Option<Duration> {
        let Some(rate) = self.config.rate else {
            return Some(now);
        };
        let departure = self.bucket.ask(now, rate, length);
        if departure.saturating_sub(now) > self.config.queue {
            return None;
        }
        self.bucket.take(now, rate, length);
        Some(departure)
    }
}

/// A token bucket, told by the one time at which it is full again.
#[derive(Debug, Default)]
struct Bucket {
    full: Duration,
}

impl Bucket {
    /// When there are tokens for a packet.
    fn ask(&self, now: Duration, rate: Rate, length: usize) -> Duration {
        let full = self.full.max(now) + rate.time_of(length);
        full.saturating_sub(rate.time_of(BURST)).max(now)
    }

    fn take(&mut self, now: Duration, rate: Rate, length: usize) {
        self.full = self.full.max(now) + rate.time_of(length);
    }
}

/// What random numbers are for. Each purpose has numbers of its own, so that one more impairment does not move the others.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Loss = 0,
}

/// Falls on one side with a given share.
#[derive(Debug)]
struct Coin {
    numbers: ChaCha8Rng,
    /// Below it, of 2^64.
    threshold: u128,
}

impl Coin {
    fn new(share: Share, seed: u64, direction: Direction, purpose: Purpose) -> Self {
        let mut numbers = ChaCha8Rng::seed_from_u64(seed);
        numbers.set_stream(purpose as u64 * 2 + direction as u64);
        Self {
            numbers,
            threshold: (share.get() * 2f64.powi(64)) as u128,
        }
    }

    fn toss(&mut self) -> bool {
        u128::from(self.numbers.next_u64()) < self.threshold
    }
}

/// Which packets of one direction a seed loses: for each number from 0, whether.
pub fn lost(share: Share, seed: u64, direction: Direction) -> impl Iterator<Item = bool> + use<> {
    let mut coin = Coin::new(share, seed, direction, Purpose::Loss);
    std::iter::repeat_with(move || coin.toss())
}

#[cfg(test)]
mod tests;

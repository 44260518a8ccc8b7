//! What one seed plays with: a generator, and the bounds and habits drawn from it.

use std::time::Duration;

use super::super::super::Retention;
use super::event::{Key, Via};

/// SplitMix64: the same numbers for the same seed, everywhere.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound - 1`.
    pub(super) const fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    pub(super) const fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Bounds that the broker is made with and the checker judges by, and the load.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) steps: usize,
    /// Names that are played with; more than `max_channels` in many seeds.
    pub(super) names: usize,
    pub(super) max_channels: usize,
    pub(super) max_message: usize,
    /// Milliseconds.
    pub(super) idle: u64,
    retentions: Vec<Retention>,
    private: Retention,
    /// Percentage of messages that are large.
    pub(super) large: usize,
    /// Most readers at a time.
    pub(super) readers: usize,
    /// How those read, and whether there are listeners.
    pub(super) vias: Vec<Via>,
    pub(super) audiences: usize,
    /// Some publish with keys.
    pub(super) keys: bool,
    /// Another broker comes in the place of this one.
    pub(super) restarts: bool,
}

/// Seeds below it read by batches alone, which end. So a broker whose own loops would not end is found out before it loops.
const PLAIN_SEEDS: u64 = 40;

impl Plan {
    pub(super) fn draw(seed: u64, dice: &mut Dice) -> Self {
        let names = 1 + dice.below(6);
        let audiences = dice.below(3);
        let mut vias = match seed {
            0..PLAIN_SEEDS => vec![Via::Batch],
            _ => vec![Via::Batch, Via::Stream, Via::Listener],
        };
        vias.extend((0..audiences).map(Via::Audience));
        Self {
            steps: 150 + dice.below(250),
            names,
            max_channels: 1 + dice.below(names + 1),
            max_message: dice.pick(&[120, 1000, 50_000]),
            idle: dice.pick(&[0, 1, 20, 300, 5_000]),
            retentions: (0..names).map(|_| retention(dice)).collect(),
            private: retention(dice),
            large: dice.pick(&[0, 0, 0, 0, 1, 10, 40]),
            readers: 1 + dice.below(12),
            vias,
            audiences,
            keys: dice.percent(30),
            restarts: dice.percent(30),
        }
    }

    pub(super) fn retention(&self, log: Key) -> Retention {
        match log {
            Key::Hub(name) => self.retentions[name],
            Key::Private(_) => self.private,
        }
    }
}

/// Milliseconds for which a log keeps a publication at most.
pub(super) const LONGEST_AGE: u64 = 10_000;

/// One of the three is small more often than not.
fn retention(dice: &mut Dice) -> Retention {
    let mut retention = Retention {
        count: 1000,
        bytes: 1 << 20,
        age: Duration::from_millis(LONGEST_AGE),
        keep_latest: dice.percent(30),
    };
    if dice.percent(50) {
        retention.count = dice.pick(&[0, 1, 2, 5, 30, 100]);
    }
    if dice.percent(40) {
        retention.bytes = dice.pick(&[0, 40, 200, 1000, 5_000, 80_000]);
    }
    if dice.percent(60) {
        retention.age = Duration::from_millis(dice.pick(&[0, 3, 40, 500]));
    }
    retention
}

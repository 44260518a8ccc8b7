//! What everybody in a run counts together, while it runs.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio_util::sync::CancellationToken;

use super::plan::Who;

/// Three significant digits, in nanoseconds.
const DIGITS: u8 = 3;
/// Longest latency that is told from a longer one.
const LONGEST: u64 = 3_600_000_000_000;
/// Deliveries are counted in as many places, so that readers do not wait for each other.
const SHARDS: usize = 16;

/// A histogram of times.
#[derive(Debug, Clone)]
pub(super) struct Times(pub(super) Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self(times.unwrap_or_else(|_| unreachable!("these bounds and digits are allowed")))
    }

    pub(super) fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds.max(1));
    }

    pub(super) fn add(&mut self, other: &Self) {
        // All have the same bounds, so all of the other fits.
        let _ = self.0.add(&other.0);
    }
}

/// The clock and the timetable of a run. Publishers and readers are in one process, so one monotonic clock does for all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// When the timetable begins, and the warm-up.
    pub(super) begin: Instant,
    /// When measuring begins and ends, from `begin`.
    pub(super) measured: (Duration, Duration),
}

impl Clock {
    /// Nanoseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        nanoseconds(Instant::now().saturating_duration_since(self.begin))
    }

    /// Whether a publication that was due then is measured.
    pub(super) fn measures(&self, time: u64) -> bool {
        nanoseconds(self.measured.0) <= time && time < nanoseconds(self.measured.1)
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is counted.
#[derive(Debug)]
pub(super) struct Tally {
    shards: Vec<Shard>,
    /// Publications that the server acknowledged.
    pub(super) acknowledged: AtomicU64,
    lost: Mutex<BTreeMap<String, String>>,
    /// A connection is lost: no figure after that means much.
    pub(super) broken: CancellationToken,
}

/// A part of the deliveries.
#[derive(Debug)]
pub(super) struct Shard {
    /// Deliveries.
    received: AtomicU64,
    /// Deliveries, and those that are known to be missing.
    accounted: AtomicU64,
    latency: Mutex<Times>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let shard = |_| Shard {
            received: AtomicU64::new(0),
            accounted: AtomicU64::new(0),
            latency: Mutex::new(Times::new()),
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            acknowledged: AtomicU64::new(0),
            lost: Mutex::default(),
            broken: CancellationToken::new(),
        }
    }

    /// The place where this reader counts.
    pub(super) fn shard(&self, reader: usize) -> &Shard {
        &self.shards[reader % SHARDS]
    }

    pub(super) fn received(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.received.load(Relaxed))
            .sum()
    }

    pub(super) fn accounted(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.accounted.load(Relaxed))
            .sum()
    }

    /// All latencies.
    pub(super) fn latency(&self) -> Times {
        let mut all = Times::new();
        for shard in &self.shards {
            all.add(&shard.latency.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    /// Somebody has no connection any more, and why.
    pub(super) fn lose(&self, who: Who, reason: String) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.entry(who.to_string()).or_insert(reason);
        drop(lost);
        self.broken.cancel();
    }

    /// Who has no connection any more, and why.
    pub(super) fn lost(&self) -> BTreeMap<String, String> {
        self.lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Shard {
    /// A delivery came; `accounted` is how many more of its channel's publications are accounted for.
    pub(super) fn deliver(&self, accounted: u64) {
        self.received.fetch_add(1, Relaxed);
        self.accounted.fetch_add(accounted, Relaxed);
    }

    pub(super) fn record(&self, latency: u64) {
        let mut all = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        all.record(latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_readers_record_comes_together_with_three_digits() {
        let tally = Tally::new();
        for (reader, latency) in [(0, 1_000_000), (1, 2_000_000), (17, 3_000_000)] {
            tally.shard(reader).record(latency);
            tally.shard(reader).deliver(1);
        }
        let times = tally.latency().0;
        assert_eq!(times.len(), 3);
        for (quantile, wanted) in [(0.3, 1e6), (0.5, 2e6), (1.0, 3e6)] {
            let got = times.value_at_quantile(quantile) as f64;
            assert!((got / wanted - 1.0).abs() < 0.001, "{got}");
        }
        let mut long = Times::new();
        long.record(u64::MAX);
        long.record(0);
        assert_eq!((long.0.len(), long.0.min()), (2, 1));
        assert_eq!((tally.received(), tally.accounted()), (3, 3));
    }
}

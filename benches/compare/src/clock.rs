//! One clock for every process of a run: nanoseconds of `CLOCK_MONOTONIC`, which the whole machine shares. A floor and its
//! client read the same one, so the time between a publication's intended sending and its arrival is a difference.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub type Nanos = u64;

/// A second.
pub const SECOND: Nanos = 1_000_000_000;

/// Now.
#[must_use]
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// Seconds of a command line as nanoseconds.
#[must_use]
pub fn seconds(value: f64) -> Nanos {
    (value * SECOND as f64) as Nanos
}

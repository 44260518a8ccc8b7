//! Two clocks: publications carry the time of day, ages and idle times follow a clock that is never set.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::wire::Timestamp;

/// Milliseconds since a fixed moment, by a monotonic clock.
pub(super) type Uptime = u64;

/// The present by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    /// Time of day, as publications carry it.
    pub(super) time: Timestamp,
    /// Monotonic time, by which ages are measured.
    pub(super) uptime: Uptime,
}

/// The system's time of day; 0 for a clock before 1970.
pub(super) fn system_time() -> Timestamp {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as Timestamp)
}

/// The system's monotonic clock, from this call on.
pub(super) fn system_uptime() -> impl Fn() -> Uptime + Send + Sync {
    let start = Instant::now();
    move || start.elapsed().as_millis() as Uptime
}

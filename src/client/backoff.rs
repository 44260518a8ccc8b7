//! Full jitter (PROTOCOL §6).

use std::time::Duration;

/// Bound of the first wait, doubled for each further one.
const FIRST: Duration = Duration::from_millis(400);
/// Bound of every wait.
const MOST: Duration = Duration::from_secs(20);

/// Wait before attempt number `attempt` (from 1) after a break: `draw` of the bound, where `draw` is in 0..1.
pub(super) fn wait(attempt: u32, draw: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    FIRST
        .saturating_mul(1 << doublings)
        .min(MOST)
        .mul_f64(draw.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_its_limit() {
        let bounds: Vec<_> = (1..=8)
            .map(|attempt| wait(attempt, 1.0).as_millis())
            .collect();
        assert_eq!(bounds, [400, 800, 1600, 3200, 6400, 12800, 20000, 20000]);
        assert_eq!(wait(u32::MAX, 1.0), MOST);
        assert_eq!(
            wait(5, 0.0),
            Duration::ZERO,
            "full jitter begins at nothing"
        );
        assert_eq!(wait(1, 0.5), Duration::from_millis(200));
    }
}

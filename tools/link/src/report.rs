//! What a link has carried.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::path::Counters;

/// The counters of a link.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// From the server to the client.
    pub to_client: Flow,
    /// From the client to the server.
    pub to_server: Flow,
    /// How much later than asked packets were handed on.
    pub lateness: Lateness,
    /// Whether the link's thread runs before ordinary ones.
    pub punctual: bool,
}

/// The counters of one direction.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Flow {
    /// What the link did.
    #[serde(flatten)]
    pub path: Counters,
    /// Packets that the receiving device did not take. Not 0: something is wrong with the machine.
    pub refused: u64,
}

/// Times in steps of 10 µs up to 10 ms; what is above counts as 10 ms, but for the longest.
#[derive(Debug, Clone)]
pub struct Lateness {
    steps: Vec<u64>,
    longest: Duration,
}

const STEP: Duration = Duration::from_micros(10);
const STEPS: usize = 1000;

impl Default for Lateness {
    fn default() -> Self {
        Self {
            steps: vec![0; STEPS + 1],
            longest: Duration::ZERO,
        }
    }
}

impl Lateness {
    pub(crate) fn add(&mut self, time: Duration) {
        let step = usize::try_from(time.as_nanos() / STEP.as_nanos()).unwrap_or(STEPS);
        self.steps[step.min(STEPS)] += 1;
        self.longest = self.longest.max(time);
    }

    /// The time that this share of the packets did not pass, rounded up to a step. Zero without packets.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let count: u64 = self.steps.iter().sum();
        let wanted = (count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (step, packets) in (1u32..).zip(&self.steps) {
            seen += packets;
            if seen >= wanted && seen > 0 {
                return (STEP * step).min(self.longest);
            }
        }
        self.longest
    }

    /// The longest time.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.longest
    }
}

impl Serialize for Lateness {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let mut fields = serializer.serialize_struct("Lateness", 3)?;
        fields.serialize_field("p50_ms", &milliseconds(self.quantile(0.5)))?;
        fields.serialize_field("p99_ms", &milliseconds(self.quantile(0.99)))?;
        fields.serialize_field("max_ms", &milliseconds(self.longest))?;
        fields.end()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, flow) in [
            ("to client", &self.to_client),
            ("to server", &self.to_server),
        ] {
            let path = &flow.path;
            write!(
                f,
                "{name}: {} packets, {} bytes; delivered {}, lost {}, overflowed {}",
                path.offered, path.offered_bytes, path.delivered, path.lost, path.overflowed
            )?;
            for (wrong, count) in [("held back", path.held_back), ("refused", flow.refused)] {
                if count > 0 {
                    write!(f, ", {wrong} {count}")?;
                }
            }
            writeln!(f)?;
        }
        write!(
            f,
            "handed on late by: median {:?}, p99 {:?}, at most {:?}",
            self.lateness.quantile(0.5),
            self.lateness.quantile(0.99),
            self.lateness.longest
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_steps_and_the_longest_is_exact() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.quantile(0.99), Duration::ZERO);
        for microseconds in 0..100 {
            lateness.add(Duration::from_micros(microseconds * 10));
        }
        assert_eq!(lateness.quantile(0.5), Duration::from_micros(500));
        lateness.add(Duration::from_secs(1));
        assert_eq!(lateness.quantile(1.0), Duration::from_millis(10) + STEP);
        assert_eq!(lateness.longest(), Duration::from_secs(1));
    }
}

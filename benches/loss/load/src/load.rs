//! What is sent, and when.

use std::{thread, time::Duration};

use clap::Args;
use rustix::time::{ClockId, clock_gettime};

/// The flows of a run: so many small ones, and one with large messages where it is asked for.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Small flows.
    #[arg(long, default_value_t = 10)]
    pub(crate) flows: u16,
    /// Messages a second in each small flow.
    #[arg(long, default_value_t = 100)]
    pub(crate) rate: u32,
    /// Bytes of a small message.
    #[arg(long, default_value_t = 500)]
    pub(crate) size: usize,
    /// Messages a second in the large flow; 0 is no such flow.
    #[arg(long, default_value_t = 0)]
    pub(crate) bulk_rate: u32,
    /// Bytes of a large message.
    #[arg(long, default_value_t = 64_000)]
    pub(crate) bulk_size: usize,
    /// How long is published.
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u32,
    /// How much of it at the beginning is not judged.
    #[arg(long, default_value_t = 2)]
    pub(crate) warm_up: u32,
}

/// One message to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) flow: u16,
    pub(crate) number: u32,
    /// When it is to be sent.
    pub(crate) due: Duration,
    pub(crate) size: usize,
}

/// Flow, number and time.
pub(crate) const HEADER: usize = 2 + 4 + 8;
/// From the plan to the first message: every part of the publisher is there by then.
const LEAD: Duration = Duration::from_millis(200);

/// The machine's monotonic clock, the same for every process on it.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    // Both are never negative on this clock.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

impl Load {
    /// All flows, the large one last.
    pub(crate) fn all_flows(&self) -> u16 {
        self.flows + u16::from(self.bulk_rate > 0)
    }

    /// How many messages a flow has.
    pub(crate) fn messages(&self, flow: u16) -> u32 {
        self.rate_of(flow) * self.seconds
    }

    fn rate_of(&self, flow: u16) -> u32 {
        if flow < self.flows {
            self.rate
        } else {
            self.bulk_rate
        }
    }

    /// Every message in the order of its time. Flows are evenly out of step, as independent publishers are: two messages in one packet
    /// would share its loss.
    pub(crate) fn plan(&self, begin: Duration) -> Vec<Message> {
        let mut plan = Vec::new();
        for flow in 0..self.all_flows() {
            let every = Duration::from_secs(1) / self.rate_of(flow);
            let phase = every * u32::from(flow) / u32::from(self.all_flows());
            let size = if flow < self.flows {
                self.size
            } else {
                self.bulk_size
            };
            plan.extend((0..self.messages(flow)).map(|number| Message {
                flow,
                number,
                due: begin + phase + every * number,
                size: size.max(HEADER),
            }));
        }
        plan.sort_by_key(|message| message.due);
        plan
    }

    /// Calls `send` for every message when its time has come. One that is called late is not skipped, and its time stays.
    pub(crate) fn each_due<E>(
        &self,
        mut send: impl FnMut(Message) -> Result<(), E>,
    ) -> Result<(), E> {
        for message in self.plan(now() + LEAD) {
            thread::sleep(message.due.saturating_sub(now()));
            send(message)?;
        }
        Ok(())
    }
}

impl Message {
    /// Header and zeroes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size);
        bytes.extend(self.flow.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        // Nanoseconds of 500 years of uptime.
        bytes.extend((self.due.as_nanos() as u64).to_be_bytes());
        bytes.resize(self.size, 0);
        bytes
    }

    /// `None` when it is too short to be one of ours.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (flow, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (due, _) = rest.split_first_chunk()?;
        Some(Self {
            flow: u16::from_be_bytes(*flow),
            number: u32::from_be_bytes(*number),
            due: Duration::from_nanos(u64::from_be_bytes(*due)),
            size: bytes.len(),
        })
    }
}

#[cfg(test)]
pub(crate) fn example() -> Load {
    Load {
        flows: 10,
        rate: 100,
        size: 500,
        bulk_rate: 4,
        bulk_size: 64_000,
        seconds: 20,
        warm_up: 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_has_every_message_at_its_time_and_no_two_together() {
        let begin = Duration::from_secs(1000);
        let load = Load {
            bulk_rate: 0,
            ..example()
        };
        let plan = load.plan(begin);
        assert_eq!(plan.len(), 20_000);
        assert_eq!(plan[0].due, begin);
        for pair in plan.windows(2) {
            assert_eq!(pair[1].due - pair[0].due, Duration::from_millis(1));
        }
        let bulk = example().plan(begin);
        let large = bulk.iter().filter(|message| message.size == 64_000);
        assert_eq!(large.count(), 80);
        assert_eq!(bulk.len(), 20_080);
    }

    #[test]
    fn a_message_reads_as_it_was_written() {
        let message = example().plan(Duration::from_secs(5))[77];
        assert_eq!(Message::decode(&message.encode()), Some(message));
        assert_eq!(Message::decode(&[0; HEADER - 1]), None);
    }
}

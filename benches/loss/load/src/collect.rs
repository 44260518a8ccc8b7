//! What arrived, and how late.

use std::{io::BufRead, time::Duration};

use serde::Serialize;

use crate::{
    Failure,
    load::{Load, Message, now},
};

/// Judges every message of a run.
#[derive(Debug)]
pub(crate) struct Collector {
    load: Load,
    delay: Duration,
    /// The next number of each flow.
    next: Vec<u32>,
    missing: u64,
    latencies: Vec<Duration>,
    bulk_latencies: Vec<Duration>,
}

/// A message that must not be there: the run means nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("a message of {0} bytes is none of this load")]
    Foreign(usize),
    #[error(
        "flow {flow} goes on with message {got} where {due} is due: a gap, a duplicate or another order"
    )]
    Order { flow: u16, due: u32, got: u32 },
    #[error("flow {0} is not part of this load")]
    Flow(u16),
}

/// The result of a run, of the small flows unless it says otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Messages judged: those after the warm-up.
    pub(crate) judged: usize,
    /// Share of them delivered more than one round trip after their one-way delay.
    pub(crate) late: f64,
    /// Share of them later than so many round trips.
    pub(crate) later_than: Vec<(f64, f64)>,
    /// Milliseconds beyond the one-way delay.
    pub(crate) beyond_ms: Quantiles,
    /// The same of the large flow.
    pub(crate) bulk_beyond_ms: Option<Quantiles>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Collector {
    pub(crate) fn new(load: &Load, delay_ms: f64) -> Self {
        Self {
            delay: Duration::from_secs_f64(delay_ms / 1e3),
            next: vec![0; usize::from(load.all_flows())],
            missing: (0..load.all_flows())
                .map(|flow| u64::from(load.messages(flow)))
                .sum(),
            latencies: Vec::new(),
            bulk_latencies: Vec::new(),
            load: load.clone(),
        }
    }

    /// Takes a message that arrives now; whether it was the last one.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<bool, Wrong> {
        self.take_at(bytes, now())
    }

    fn take_at(&mut self, bytes: &[u8], now: Duration) -> Result<bool, Wrong> {
        let message = Message::decode(bytes).ok_or(Wrong::Foreign(bytes.len()))?;
        self.judge(message, now)
    }

    /// The same of a message that arrived at this time.
    fn judge(&mut self, message: Message, arrived: Duration) -> Result<bool, Wrong> {
        let flow = message.flow;
        let next = self
            .next
            .get_mut(usize::from(flow))
            .ok_or(Wrong::Flow(flow))?;
        if message.number != *next || message.number >= self.load.messages(flow) {
            return Err(Wrong::Order {
                flow,
                due: *next,
                got: message.number,
            });
        }
        *next += 1;
        self.missing -= 1;
        let rate = self.load.messages(flow) / self.load.seconds;
        if message.number >= rate * self.load.warm_up {
            let latencies = if flow < self.load.flows {
                &mut self.latencies
            } else {
                &mut self.bulk_latencies
            };
            latencies.push(arrived.saturating_sub(message.due));
        }
        Ok(self.missing == 0)
    }

    /// Takes what another program saw arrive, until it is the last message: a line for each, with the time in nanoseconds of the
    /// monotonic clock, and the first bytes of the message in hexadecimal.
    pub(crate) fn read(&mut self, arrivals: impl BufRead) -> Result<(), Failure> {
        for line in arrivals.lines() {
            let line = line?;
            let arrival = parse(&line).ok_or_else(|| format!("{line:?} is no arrival"))?;
            if self.judge(arrival.1, arrival.0)? {
                return Ok(());
            }
        }
        Err(format!("{} messages are missing", self.missing).into())
    }

    pub(crate) fn summary(mut self) -> Summary {
        self.latencies.sort();
        self.bulk_latencies.sort();
        let round_trip = 2 * self.delay;
        let later = |round_trips: f64| {
            let limit = self.delay + round_trip.mul_f64(round_trips);
            let first = self.latencies.partition_point(|latency| *latency <= limit);
            (self.latencies.len() - first) as f64 / self.latencies.len().max(1) as f64
        };
        Summary {
            judged: self.latencies.len(),
            late: later(1.0),
            later_than: [0.5, 1.0, 1.5, 2.0, 4.0, 20.0]
                .map(|round_trips| (round_trips, later(round_trips)))
                .to_vec(),
            beyond_ms: quantiles(&self.latencies, self.delay).unwrap_or_default(),
            bulk_beyond_ms: quantiles(&self.bulk_latencies, self.delay),
        }
    }
}

fn parse(line: &str) -> Option<(Duration, Message)> {
    let (time, digits) = line.split_once(' ')?;
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect::<Option<_>>()?;
    let time = Duration::from_nanos(time.parse().ok()?);
    Some((time, Message::decode(&bytes)?))
}

impl Default for Quantiles {
    fn default() -> Self {
        Self {
            p50: f64::NAN,
            p90: f64::NAN,
            p99: f64::NAN,
            p999: f64::NAN,
            max: f64::NAN,
        }
    }
}

fn quantiles(sorted: &[Duration], delay: Duration) -> Option<Quantiles> {
    let last = sorted.len().checked_sub(1)?;
    let at = |share: f64| {
        let latency = sorted[(last as f64 * share).round() as usize];
        (latency.as_secs_f64() - delay.as_secs_f64()) * 1e3
    };
    Some(Quantiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{HEADER, example};

    fn run(change: impl Fn(&mut Vec<Message>)) -> Result<Summary, Wrong> {
        let load = Load {
            seconds: 4,
            ..example()
        };
        let mut collector = Collector::new(&load, 25.0);
        let mut plan = load.plan(Duration::from_secs(7));
        change(&mut plan);
        let mut done = false;
        for message in &plan {
            // One in ten of the first flow is 75.1 ms on its way, the others 75 ms.
            let late = message.flow == 0 && message.number % 10 == 0;
            let latency = Duration::from_micros(if late { 75_100 } else { 75_000 });
            done = collector.take_at(&message.encode(), message.due + latency)?;
        }
        assert!(done);
        Ok(collector.summary())
    }

    #[test]
    fn late_is_more_than_a_round_trip_beyond_the_delay() {
        let summary = run(|_| {}).unwrap();
        assert_eq!(summary.judged, 2000);
        assert!((summary.late - 0.01).abs() < 1e-9, "{}", summary.late);
        assert!((summary.beyond_ms.p50 - 50.0).abs() < 1e-6);
        assert!((summary.beyond_ms.max - 50.1).abs() < 1e-6);
        assert!(summary.bulk_beyond_ms.is_some());
    }

    #[test]
    fn what_another_program_saw_is_judged_alike() {
        let load = Load {
            seconds: 1,
            warm_up: 0,
            ..example()
        };
        let lines = |plan: &[Message]| -> String {
            plan.iter()
                .map(|message| {
                    let time = (message.due + Duration::from_millis(80)).as_nanos();
                    let bytes = &message.encode()[..HEADER];
                    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("{time} {digits}\n")
                })
                .collect()
        };
        let plan = load.plan(Duration::from_secs(7));
        let read = |lines: &str| {
            let mut collector = Collector::new(&load, 25.0);
            collector
                .read(lines.as_bytes())
                .map(|()| collector.summary())
        };
        let summary = read(&lines(&plan)).unwrap();
        assert_eq!(summary.judged, 1000);
        assert!((summary.late - 1.0).abs() < 1e-9, "{}", summary.late);
        assert!((summary.beyond_ms.p50 - 55.0).abs() < 1e-6);
        assert!(read(&lines(&plan[1..])).is_err());
        assert!(read(&lines(&plan[..plan.len() - 1])).is_err());
        assert!(read("12 0g\n").is_err());
    }

    #[test]
    fn gaps_duplicates_and_other_orders_are_told() {
        let gap = |plan: &mut Vec<Message>| {
            plan.remove(5);
        };
        let duplicate = |plan: &mut Vec<Message>| plan.insert(5, plan[4]);
        let order = |plan: &mut Vec<Message>| {
            let other = plan
                .iter()
                .rposition(|message| message.flow == plan[0].flow)
                .unwrap();
            plan.swap(0, other);
        };
        assert!(matches!(run(gap), Err(Wrong::Order { .. })));
        assert!(matches!(run(duplicate), Err(Wrong::Order { .. })));
        assert!(matches!(run(order), Err(Wrong::Order { .. })));
    }
}

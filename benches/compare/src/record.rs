//! Checks every delivery and counts it.
//!
//! An adapter makes a [`Recorder`] before it connects and says [`connected`](Recorder::connected) when all connections are there
//! and [`begin`](Recorder::begin) when it starts its schedule (a floor's client learns the start from the first delivery). It
//! gives the recorder every payload, and calls [`observe`](Recorder::observe) whenever it wakes, at [`next`](Recorder::next) at
//! the latest: the recorder reads what was used at the edges of the measured time. When [`is_complete`](Recorder::is_complete),
//! it makes the [`Report`].

use std::{collections::HashSet, io};

use hdrhistogram::Histogram;

use crate::{
    clock::{Nanos, SECOND, seconds},
    meter::{MemoryMeter, Meter},
    options::Options,
    process::Process,
    report::{Latency, Report},
    schedule::Schedule,
    stamp::Stamp,
};

/// Longest time to wait for deliveries after the last publication was due; whatever has not come by then is missing.
const PATIENCE: Nanos = 5 * SECOND;
/// Latencies are kept with three digits, up to a minute.
const LONGEST: u64 = 60 * SECOND;
/// A rate below this part of what was intended was not reached.
const REACHED: f64 = 0.98;

/// Checks every delivery and counts it.
#[derive(Debug)]
pub struct Recorder {
    options: Options,
    memory: Option<MemoryMeter>,
    /// Per connection and channel.
    cursors: Vec<Cursor>,
    /// Cursors that wait for more.
    unfinished: usize,
    phase: Phase,
    histogram: Histogram<u64>,
    received: u64,
    duplicates: u64,
    disorders: u64,
    strangers: u64,
}

/// What one connection has read of one channel.
#[derive(Debug, Default)]
struct Cursor {
    last: u64,
    missing: HashSet<u64>,
    ignored: bool,
}

/// How far a run is.
#[derive(Debug)]
enum Phase {
    Connecting,
    WarmUp(Window),
    Measuring(Window, Start),
    /// The measured time is over: what was published in it may still be under way.
    Over(Window, Box<Report>),
}

/// The measured time.
#[derive(Debug, Clone, Copy)]
struct Window {
    start: Nanos,
    end: Nanos,
}

/// Counts at the start of the measured time.
#[derive(Debug)]
struct Start {
    meter: Meter,
    received: u64,
    datagrams: u64,
}

impl Recorder {
    /// Reads the server's memory, so it comes before the connections.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn new(options: &Options) -> io::Result<Self> {
        let count = options.connections * options.channels;
        let server = options.server();
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
        Ok(Self {
            options: options.clone(),
            memory: server.map(MemoryMeter::start).transpose()?,
            cursors: (0..count).map(|_| Cursor::default()).collect(),
            unfinished: count,
            phase: Phase::Connecting,
            histogram: histogram.map_err(io::Error::other)?,
            received: 0,
            duplicates: 0,
            disorders: 0,
            strangers: 0,
        })
    }

    /// All connections are there, with their subscriptions.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn connected(&mut self) -> io::Result<()> {
        self.memory.as_mut().map_or(Ok(()), MemoryMeter::connected)
    }

    /// The schedule begins at `start`.
    pub fn begin(&mut self, start: Nanos) {
        let start = start + seconds(self.options.pace.warmup);
        let end = start + seconds(self.options.pace.duration);
        self.phase = Phase::WarmUp(Window { start, end });
    }

    /// A delivery on a connection, which arrived at `now`. What one read gave may share one time.
    pub fn received(&mut self, connection: usize, payload: &[u8], now: Nanos) {
        let channels = self.options.channels;
        let stamp = Stamp::read(payload)
            .filter(|stamp| (stamp.channel as usize) < channels)
            .filter(|_| payload.len() == self.options.pace.size);
        let Some(stamp) = stamp else {
            self.strangers += 1;
            return;
        };
        if matches!(self.phase, Phase::Connecting) {
            self.begin(stamp.intended);
        }
        self.received += 1;
        let cursor = &mut self.cursors[connection * channels + stamp.channel as usize];
        if stamp.sequence > cursor.last {
            cursor.missing.extend(cursor.last + 1..stamp.sequence);
            cursor.last = stamp.sequence;
        } else if cursor.missing.remove(&stamp.sequence) {
            self.disorders += 1;
        } else {
            self.duplicates += 1;
            return;
        }
        if cursor.ignored {
            return;
        }
        self.unfinished -= usize::from(stamp.sequence == self.options.pace.publications());
        let (Phase::WarmUp(window) | Phase::Measuring(window, _) | Phase::Over(window, _)) =
            &self.phase
        else {
            return;
        };
        if (window.start..window.end).contains(&stamp.intended) {
            let late = now.saturating_sub(stamp.intended);
            self.histogram.saturating_record(late);
        }
    }

    /// This connection reads no more, as is meant: what it misses is no fault.
    pub fn ignore(&mut self, connection: usize) {
        let channels = self.options.channels;
        for cursor in &mut self.cursors[connection * channels..(connection + 1) * channels] {
            if !cursor.ignored && cursor.last < self.options.pace.publications() {
                self.unfinished -= 1;
            }
            cursor.ignored = true;
        }
    }

    /// When something is to be observed next: the adapter wakes up by then.
    #[must_use]
    pub const fn next(&self) -> Option<Nanos> {
        match &self.phase {
            Phase::Connecting => None,
            Phase::WarmUp(window) => Some(window.start),
            Phase::Measuring(window, _) => Some(window.end),
            Phase::Over(window, _) => Some(window.end + PATIENCE),
        }
    }

    /// Takes what is due at `now`. `datagrams` is how many of UDP the adapter has received, or 0. True when the measured time
    /// began in this call.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn observe(&mut self, now: Nanos, datagrams: u64) -> io::Result<bool> {
        match &self.phase {
            Phase::WarmUp(window) if now >= window.start => {
                let start = Start {
                    meter: Meter::start(self.options.server())?,
                    received: self.received,
                    datagrams,
                };
                self.phase = Phase::Measuring(*window, start);
                Ok(true)
            }
            Phase::Measuring(window, start) if now >= window.end => {
                let mut report = start.meter.report(self.received - start.received)?;
                let datagrams = datagrams - start.datagrams;
                if datagrams > 0 {
                    report.datagrams = Some(datagrams);
                    report.per_datagram = Some(report.deliveries as f64 / datagrams as f64);
                }
                let memory = self.memory.as_ref();
                report.memory = memory
                    .map(|memory| memory.report(self.options.connections))
                    .transpose()?;
                self.phase = Phase::Over(*window, Box::new(report));
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Whether nothing more is to come, or has to be waited for.
    #[must_use]
    pub const fn is_complete(&self, now: Nanos) -> bool {
        match &self.phase {
            Phase::Over(window, _) => self.unfinished == 0 || now > window.end + PATIENCE,
            _ => false,
        }
    }

    /// The result. `schedule` is that of the load, where it published.
    #[must_use]
    pub fn report(self, schedule: Option<&Schedule>) -> Report {
        let (mut void, latency, offered) = (self.faults(), self.latency(), self.offered());
        let Phase::Over(_, report) = self.phase else {
            void.push("the measured time did not end".to_owned());
            return Report {
                void,
                ..Report::default()
            };
        };
        let mut report = *report;
        report.void = void;
        report.latency = Some(latency);
        report.offered = Some(offered);
        // A tick at an end of the measured time may be delivered on either side of it.
        let tick = offered * self.options.pace.interval_us as f64 / 1e6;
        let intended = offered * self.options.pace.duration * REACHED - tick;
        report.reached = Some(report.deliveries as f64 >= intended);
        if let Some(schedule) = schedule.filter(|schedule| schedule.is_behind()) {
            let late = schedule.latest() / 1_000_000;
            let reason = format!("the publisher was up to {late} ms late");
            report.client_bound.push(reason);
        }
        report
    }

    /// Deliveries per second that were intended, without those of connections that do not read.
    fn offered(&self) -> f64 {
        let pace = &self.options.pace;
        let readers = self.cursors.iter().filter(|cursor| !cursor.ignored).count();
        readers as f64 * pace.group as f64 * 1e6 / pace.interval_us as f64
    }

    fn faults(&self) -> Vec<String> {
        let readers = self.cursors.iter().filter(|cursor| !cursor.ignored);
        let published = self.options.pace.publications();
        let missing: u64 = readers
            .map(|cursor| published.saturating_sub(cursor.last) + cursor.missing.len() as u64)
            .sum();
        [
            (missing, "deliveries are missing"),
            (self.duplicates, "deliveries are duplicates"),
            (self.disorders, "deliveries are out of order"),
            (self.strangers, "deliveries are of something else"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }

    fn latency(&self) -> Latency {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Latency {
            mean: self.histogram.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.histogram.max() as f64 / 1000.0,
        }
    }
}

impl Options {
    /// The server's process, where it is known.
    #[must_use]
    pub fn server(&self) -> Option<Process> {
        self.server_pid.map(Process::new)
    }
}

#[cfg(test)]
mod tests;

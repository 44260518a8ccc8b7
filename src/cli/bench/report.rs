//! What came of a run, for people and for programs.

mod human;

pub(super) use human::time;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    arguments::Rate,
    measure::{Measured, Snapshot},
    plan::Plan,
    process::{Cpu, Process},
    tally::Times,
};
use crate::cli::{Failure, output::grouped};

/// All of it; the names of the fields are those of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether the figures are worth nothing, and why.
    pub(super) void: bool,
    reasons: Vec<String>,
    /// What was wrong first.
    first_fault: Option<String>,
    /// Ended from outside: the figures are those of a part.
    pub(super) interrupted: bool,
    pub(super) load: Load,
    connect_seconds: f64,
    /// Seconds that were measured.
    pub(super) seconds: f64,
    published: Published,
    pub(super) deliveries: Deliveries,
    pub(super) latency: Option<Latency>,
    /// How late publications were sent after their time, which is a part of their latency.
    send_delay: Option<Latency>,
    faults: Faults,
    server: Server,
    /// Cores that this process kept busy.
    client_cores: Option<f64>,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    run: String,
    pub(super) url: String,
    pub(super) transport: &'static str,
    pub(super) clients: usize,
    pub(super) subscriptions: usize,
    pub(super) channels: usize,
    publishers: usize,
    pub(super) size: usize,
    /// Publications per second; absent where it is as fast as everybody keeps up.
    pub(super) rate: Option<f64>,
    /// Publications of one publisher on their way at a time; absent where there is a timetable.
    window: Option<usize>,
    warmup_seconds: f64,
    duration_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Published {
    /// In the whole run.
    total: u64,
    acknowledged: u64,
    refused: u64,
    unanswered: u64,
    /// Due, but never sent: this machine could not keep up.
    unsent: u64,
    /// Acknowledged, in the time that was measured.
    per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Deliveries {
    /// In the whole run.
    total: u64,
    expected: u64,
    /// In the time that was measured.
    measured: u64,
    pub(super) per_second: Option<f64>,
}

/// Times in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    /// What it is counted from: the time at which a publication was due, or was sent.
    pub(super) from: &'static str,
    count: u64,
    min_us: f64,
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p99_9_us: f64,
    max_us: f64,
}

#[derive(Debug, Serialize)]
struct Faults {
    gaps: u64,
    duplicates: u64,
    disorder: u64,
    /// Publications of somebody else.
    foreign: u64,
    /// What the server says it dropped because a reader was too slow; counted in the gaps, too.
    lagged: u64,
    breaks: u64,
    /// Who lost its connection, and why.
    lost: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Server {
    pid: Option<u32>,
    /// Why there is nothing about it.
    absent: Option<String>,
    cpu_us_per_delivery: Option<f64>,
    cores: Option<f64>,
    memory_before: Option<u64>,
    memory_after: Option<u64>,
    memory_per_connection: Option<u64>,
}

/// The server's memory in bytes, before anybody connected and when everybody was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) before: Option<u64>,
    pub(super) after: Option<u64>,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        url: &str,
        connected: Duration,
        server: &Result<Process, String>,
        memory: Memory,
        measured: &Measured,
    ) -> Self {
        let Measured {
            first,
            last,
            totals,
            wrong,
            lost,
            ..
        } = measured;
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        let per_second = |count: u64| (count > 0 && seconds > 0.0).then(|| count as f64 / seconds);
        let deliveries = last.received - first.received;
        let faults = wrong.faults;
        let mut report = Self {
            void: false,
            reasons: Vec::new(),
            first_fault: wrong.first.clone(),
            interrupted: measured.interrupted,
            load: Load::new(plan, url),
            connect_seconds: connected.as_secs_f64(),
            seconds,
            published: Published {
                total: totals.sent,
                acknowledged: totals.acknowledged,
                refused: totals.refused,
                unanswered: totals.unanswered,
                unsent: totals.unsent,
                per_second: per_second(last.acknowledged - first.acknowledged),
            },
            deliveries: Deliveries {
                total: totals.received,
                expected: totals.expected,
                measured: deliveries,
                per_second: per_second(deliveries),
            },
            latency: Latency::new(
                &measured.latency,
                if plan.rate == Rate::Max {
                    "send"
                } else {
                    "timetable"
                },
            ),
            send_delay: (plan.rate != Rate::Max)
                .then(|| Latency::new(&measured.late, "timetable"))
                .flatten(),
            faults: Faults {
                gaps: faults.gaps,
                duplicates: faults.duplicates,
                disorder: faults.disorder,
                foreign: faults.foreign,
                lagged: faults.lagged,
                breaks: wrong.breaks,
                lost: lost.clone(),
            },
            server: Server::new(plan, server, memory, first, last),
            client_cores: cores(first.own.as_ref(), last.own.as_ref(), seconds)
                .map(|(cores, _)| cores),
        };
        report.reasons = report.why_void(totals.refusal.as_deref());
        report.void = !report.reasons.is_empty();
        report
    }

    /// One object.
    pub(super) fn json(&self) -> String {
        // Only maps with keys that are no text could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// How the command ends.
    pub(super) fn judge(&self) -> Result<(), Failure> {
        if self.void {
            return Err(Failure::void(format!("the run is VOID: {}", self.why())));
        }
        if self.interrupted {
            return Err(Failure::new(format!(
                "interrupted: {:.1} of {} s were measured",
                self.seconds, self.load.duration_seconds
            )));
        }
        Ok(())
    }

    /// Why it is void, on one line.
    fn why(&self) -> String {
        let mut why = self.reasons.join("; ");
        if let Some(first) = &self.first_fault {
            why += &format!(" (first: {first})");
        }
        why
    }

    fn why_void(&self, refusal: Option<&str>) -> Vec<String> {
        let faults = &self.faults;
        let mut reasons = Vec::new();
        if let Some((who, why)) = faults.lost.first_key_value() {
            let more = match faults.lost.len() - 1 {
                0 => String::new(),
                more => format!(" and {} more", grouped(more as u64)),
            };
            reasons.push(format!("{who}{more} lost the connection: {why}"));
        }
        if faults.gaps > 0 {
            let lagged = match faults.lagged {
                0 => String::new(),
                lagged => format!(
                    ", {} of them because a reader was too slow",
                    grouped(lagged)
                ),
            };
            reasons.push(format!(
                "{} deliveries are missing{lagged}",
                grouped(faults.gaps)
            ));
        }
        let counted = [
            (faults.duplicates, "deliveries came twice"),
            (faults.disorder, "deliveries came out of order"),
            (faults.foreign, "deliveries are of somebody else"),
            (faults.breaks, "connections broke"),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        reasons.extend(counted.map(|(count, what)| format!("{} {what}", grouped(count))));
        if self.published.refused > 0 {
            reasons.push(format!(
                "{} publications were refused: {}",
                grouped(self.published.refused),
                refusal.unwrap_or("no reason was given")
            ));
        }
        if self.published.unanswered > 0 && faults.lost.is_empty() {
            let count = grouped(self.published.unanswered);
            reasons.push(format!("{count} publications were never acknowledged"));
        }
        if reasons.is_empty() && !self.interrupted && self.latency.is_none() {
            reasons.push("nothing was delivered in the time that was measured".to_owned());
        }
        reasons
    }
}

impl Load {
    fn new(plan: &Plan, url: &str) -> Self {
        let (rate, window) = match plan.rate {
            Rate::PerSecond(rate) => (Some(rate), None),
            Rate::Max => (None, Some(plan.window)),
        };
        Self {
            run: plan.name(),
            url: url.to_owned(),
            transport: match url.split(':').next() {
                Some("https") => "webtransport",
                Some("wss" | "ws") => "websocket",
                _ => "quic",
            },
            clients: plan.clients,
            subscriptions: plan.subscriptions,
            channels: plan.channels.len(),
            publishers: plan.publishers,
            size: plan.size,
            rate,
            window,
            warmup_seconds: plan.warmup.as_secs_f64(),
            duration_seconds: plan.duration.as_secs_f64(),
        }
    }
}

impl Latency {
    fn new(times: &Times, from: &'static str) -> Option<Self> {
        let all = &times.0;
        if all.is_empty() {
            return None;
        }
        let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let at = |quantile: f64| us(all.value_at_quantile(quantile));
        Some(Self {
            from,
            count: all.len(),
            min_us: us(all.min()),
            mean_us: all.mean() / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: us(all.max()),
        })
    }
}

impl Server {
    fn new(
        plan: &Plan,
        process: &Result<Process, String>,
        memory: Memory,
        first: &Snapshot,
        last: &Snapshot,
    ) -> Self {
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        let spent = cores(first.server.as_ref(), last.server.as_ref(), seconds);
        let deliveries = last.received - first.received;
        let connections = (plan.clients + plan.publishers) as u64;
        let grown = match (memory.before, memory.after) {
            (Some(before), Some(after)) => after.checked_sub(before),
            _ => None,
        };
        let each = grown.map(|grown| grown / connections);
        let absent = match process {
            Err(why) => Some(why.clone()),
            Ok(_) if last.server.is_none() => Some("its process has ended".to_owned()),
            Ok(_) => None,
        };
        Self {
            pid: process.as_ref().ok().map(|process| process.pid),
            absent,
            cpu_us_per_delivery: spent
                .filter(|_| deliveries > 0)
                .map(|(_, cpu)| cpu.as_secs_f64() * 1e6 / deliveries as f64),
            cores: spent.map(|(cores, _)| cores),
            memory_before: memory.before,
            memory_after: memory.after,
            memory_per_connection: each.filter(|&each| each >= CREDIBLE),
        }
    }
}

/// Bytes below which a connection cannot be: the state of QUIC alone takes more. A server that grows by less uses memory that
/// earlier clients left.
const CREDIBLE: u64 = 8 * 1024;

/// CPU time between two looks, and how many cores that is.
fn cores(first: Option<&Cpu>, last: Option<&Cpu>, seconds: f64) -> Option<(f64, Duration)> {
    let spent = last?.since(first?);
    (seconds > 0.0).then(|| (spent.as_secs_f64() / seconds, spent))
}

//! What is told of a run. Times are seconds after the server was back, or was told to close the sessions.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{crowd::Crowd, record::Record};

/// The bound of the client's first wait before it connects again (PROTOCOL §6).
const BACK_OFF: f64 = 0.4;
/// How much longer than its parts the whole may take.
const FACTOR: f64 = 1.5;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// All clients connect and subscribe, in the same run.
    pub(crate) handshakes: f64,
    /// All clients, connected, get as many messages, in the same run: the median of three times.
    pub(crate) delivery: f64,
    /// What it may take: one and a half times both, and one back-off.
    pub(crate) bound: f64,
    /// The last client had everything.
    pub(crate) caught_up: f64,
    /// The publisher was connected, and all that is to be caught up on was acknowledged.
    pub(crate) published: f64,
    pub(crate) clients: Clients,
    /// Seconds of CPU time that the server used until then.
    pub(crate) server_cpu: Option<f64>,
    /// Datagrams that the machine lost because the socket that they were for had no room: of the server's sockets since it started, and of all
    /// others during that.
    pub(crate) dropped_at_server: Option<u64>,
    pub(crate) dropped_elsewhere: Option<u64>,
    /// Of a minute, at the end of the run.
    pub(crate) load_average: Option<f64>,
}

/// The clients, each once.
#[derive(Debug, Serialize)]
pub(crate) struct Clients {
    all: usize,
    /// When they noticed that their connection was gone.
    left: Option<Spread>,
    /// When they had another.
    came_back: Option<Spread>,
    /// When they had everything.
    caught_up: Option<Spread>,
    /// How many attempts to connect failed.
    failed_attempts: u64,
    /// Clients of which at least one did.
    failed_once: usize,
    /// Why, and how many of them for that reason the last time.
    failures: BTreeMap<String, usize>,
    /// Clients that went on where they were, and clients that found another log.
    recovered: usize,
    anew: usize,
    /// Publications that never came, that came twice, and that died with the server that had them; of all clients together.
    lost: u64,
    duplicated: u64,
    died: u64,
}

#[derive(Debug, Serialize)]
struct Spread {
    first: f64,
    median: f64,
    last: f64,
}

pub(crate) fn bound(handshakes: Duration, delivery: Duration) -> f64 {
    FACTOR * (handshakes + delivery).as_secs_f64() + BACK_OFF
}

/// Seconds from one to the other; negative where the other was before.
pub(crate) fn since(back: Instant, at: Instant) -> f64 {
    match at.checked_duration_since(back) {
        Some(after) => after.as_secs_f64(),
        None => -back.duration_since(at).as_secs_f64(),
    }
}

/// Datagrams that the machine lost so far for want of room in a socket.
pub(crate) fn dropped() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, counts) = (lines.next()?, lines.next()?);
    let mut fields = names.split(' ').zip(counts.split(' '));
    let (_, count) = fields.find(|(name, _)| *name == "RcvbufErrors")?;
    count.parse().ok()
}

/// Those of them that the sockets of a port lost.
pub(crate) fn dropped_at(port: u16) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/udp").ok()?;
    let port = format!(":{port:04X}");
    let drops = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(1)?.ends_with(&port).then_some(())?;
        fields.last()?.parse::<u64>().ok()
    });
    Some(drops.sum())
}

/// The load average of the last minute.
pub(crate) fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

impl Clients {
    pub(crate) fn new(crowd: &Crowd, back: Instant) -> Self {
        let spread = |what: fn(&Record) -> Option<Instant>| {
            Spread::of(crowd.records(|record| what(record).map(|at| since(back, at))))
        };
        let sum = |what: fn(&Record) -> u64| {
            crowd
                .records(|record| Some(what(record)))
                .into_iter()
                .sum::<u64>()
        };
        let count =
            |what: fn(&Record) -> bool| crowd.records(|record| what(record).then_some(())).len();
        Self {
            all: count(|_| true),
            left: spread(|record| record.left),
            came_back: spread(|record| record.came_back),
            caught_up: spread(|record| record.caught_up),
            failed_attempts: sum(|record| record.failed.into()),
            failed_once: count(|record| record.failed > 0),
            failures: failures(crowd),
            recovered: count(|record| record.recovered > 0),
            anew: count(|record| record.anew > 0),
            lost: sum(|record| record.lost),
            duplicated: sum(|record| record.duplicated),
            died: sum(|record| record.died),
        }
    }

    /// What is counted over the whole run, once more at its end.
    pub(crate) fn recount(&mut self, crowd: &Crowd) {
        let now = Self::new(crowd, Instant::now());
        (self.lost, self.duplicated, self.died) = (now.lost, now.duplicated, now.died);
    }
}

fn failures(crowd: &Crowd) -> BTreeMap<String, usize> {
    let mut failures = BTreeMap::new();
    for why in crowd.records(|record| record.failure.clone()) {
        *failures.entry(why).or_default() += 1;
    }
    failures
}

impl Spread {
    fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        Some(Self {
            first: *times.first()?,
            median: times[times.len() / 2],
            last: *times.last()?,
        })
    }
}

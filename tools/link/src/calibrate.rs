//! What a link really gives, measured by real sockets at its ends, against what was asked.
//!
//! Two links are brought up: one as asked, for round trips, loss and the rate for UDP; and one without its loss, for TCP, whose own
//! rate under loss says more of its congestion control than of the link.

use std::{fmt, io, time::Duration};

use serde::Serialize;

use crate::{
    link::{Config, Link, LinkError},
    path::{self, Direction},
    units::{Rate, Share},
};

mod probe;

/// The result of a calibration.
#[derive(Debug, Clone, Serialize)]
pub struct Calibration {
    /// What was asked.
    pub asked: Config,
    /// What was measured.
    pub rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it is a figure of.
    pub what: String,
    /// What it should be, in `unit`.
    pub asked: f64,
    /// What it is.
    pub measured: f64,
    /// The least that passes.
    pub least: f64,
    /// The most that passes.
    pub most: f64,
    /// `ms`, `%`, `mbit/s` or nothing.
    pub unit: &'static str,
    /// Whether it passes.
    pub passed: bool,
}

/// Why a calibration came to no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// There is no link to measure.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A socket failed.
    #[error("cannot measure {what} on the link: {source}")]
    Probe {
        /// What was to be measured.
        what: &'static str,
        /// Why it could not be.
        source: io::Error,
    },
}

/// Tolerances. The link's own share is its thread's wake-up, which `lateness` bounds; the rest is the kernel and the probes,
/// which a busy machine makes late.
mod tolerance {
    use std::time::Duration;

    /// A packet that is early was not delayed: only rounding may take it below.
    pub(super) const RTT_EARLY: Duration = Duration::from_micros(20);
    /// Four wake-ups (link, echo, link, probe) and eight trips through the kernel of about 20 µs each.
    pub(super) const RTT_MIN: Duration = Duration::from_micros(300);
    /// The same on a machine that also does other things.
    pub(super) const RTT_MEDIAN: Duration = Duration::from_micros(600);
    /// One probe in a hundred meets a pause of the machine.
    pub(super) const RTT_P99: Duration = Duration::from_millis(3);
    /// The link's own timer keeps 0.1 to 0.4 ms where the processors stay awake: little beside the delays that are asked of it.
    pub(super) const LATENESS_P99: Duration = Duration::from_millis(2);
    /// Standard deviations of a binomial: 1 in 16,000 fails by chance, and a seed fails always or never.
    pub(super) const LOSS_SIGMAS: f64 = 4.0;
    /// Of the rate, for UDP.
    pub(super) const UDP: f64 = 0.03;
    /// Of the rate, for TCP: congestion control leaves some of it unused.
    pub(super) const TCP_LEAST: f64 = 0.12;
    /// TCP cannot be faster than the link, but for rounding.
    pub(super) const TCP_MOST: f64 = 0.02;
}

/// What a link without a rate must carry at least, so that it does not shape what runs over it.
const UNSHAPED: u64 = 40_000_000;

/// Measures. Takes a quarter of a minute.
///
/// # Errors
/// Where there can be no link, or a socket fails. That a figure is out of tolerance is no error: [`Calibration::passed`].
pub fn run(asked: &Config) -> Result<Calibration, CalibrationError> {
    let mut rows = Vec::new();
    let link = Link::up(asked)?;
    let fail = |what| move |source| CalibrationError::Probe { what, source };
    rtt(&link, asked, &mut rows).map_err(fail("the round-trip time"))?;
    loss(&link, asked, &mut rows).map_err(fail("the loss"))?;
    udp_rate(&link, asked, &mut rows).map_err(fail("the rate for UDP"))?;
    lateness(&link, &mut rows);
    drop(link);

    let lossless = Config {
        name: asked.name.as_ref().map(|name| format!("{name}-tcp")),
        path: path::Config {
            loss: Share::NONE,
            ..asked.path
        },
        ..asked.clone()
    };
    let link = Link::up(&lossless)?;
    segments(&link, &mut rows).map_err(fail("the packets of a UDP GSO send"))?;
    tcp_rate(&link, asked, &mut rows).map_err(fail("the rate for TCP"))?;
    longest(&link, &mut rows);
    Ok(Calibration {
        asked: asked.clone(),
        rows,
    })
}

impl Calibration {
    /// Whether every figure is within its tolerance.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
    }
}

impl Row {
    fn new(
        what: impl Into<String>,
        asked: f64,
        measured: f64,
        range: [f64; 2],
        unit: &'static str,
    ) -> Self {
        let [least, most] = range;
        Self {
            what: what.into(),
            asked,
            measured,
            least,
            most,
            unit,
            passed: (least..=most).contains(&measured),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn rtt(link: &Link, asked: &Config, rows: &mut Vec<Row>) -> io::Result<()> {
    let times = probe::round_trips(link)?;
    let rtt = 2 * asked.path.delay;
    let least = milliseconds(rtt.saturating_sub(tolerance::RTT_EARLY));
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    for (what, share, over) in [
        ("RTT, min", 0.0, tolerance::RTT_MIN),
        ("RTT, median", 0.5, tolerance::RTT_MEDIAN),
        ("RTT, p99", 0.99, tolerance::RTT_P99),
    ] {
        let range = [least, milliseconds(rtt + over)];
        rows.push(Row::new(
            what,
            milliseconds(rtt),
            milliseconds(at(share)),
            range,
            "ms",
        ));
    }
    Ok(())
}

fn loss(link: &Link, asked: &Config, rows: &mut Vec<Row>) -> io::Result<()> {
    let share = asked.path.loss.get();
    let before = link.report();
    let [to_client, to_server] = probe::losses(link, asked.path.rate)?;
    for (what, direction, before, arrived) in [
        (
            "to client",
            Direction::ToClient,
            before.to_client,
            to_client,
        ),
        (
            "to server",
            Direction::ToServer,
            before.to_server,
            to_server,
        ),
    ] {
        let count = arrived.len() as f64;
        let lost = arrived.iter().filter(|arrived| !**arrived).count() as f64;
        let spread = tolerance::LOSS_SIGMAS * (share * (1.0 - share) / count).sqrt();
        let range = [(share - spread) * 100.0, (share + spread) * 100.0];
        rows.push(Row::new(
            format!("loss, {what}"),
            share * 100.0,
            lost / count * 100.0,
            range,
            "%",
        ));
        let before = usize::try_from(before.path.offered).unwrap_or(usize::MAX);
        let otherwise = path::lost(asked.path.loss, asked.path.seed, direction)
            .skip(before)
            .zip(&arrived)
            .filter(|(lost, arrived)| lost == *arrived)
            .count();
        rows.push(Row::new(
            format!("not as the seed says, {what}"),
            0.0,
            otherwise as f64,
            [0.0, 0.0],
            "",
        ));
    }
    Ok(())
}

fn udp_rate(link: &Link, asked: &Config, rows: &mut Vec<Row>) -> io::Result<()> {
    let rate = asked.path.rate.map_or(UNSHAPED, Rate::bits);
    // A link without a rate passes on what is offered.
    let offered = if asked.path.rate.is_some() {
        rate / 4 * 5
    } else {
        rate
    };
    let measured = probe::udp_rate(link, offered)?;
    let expected = rate as f64 * (1.0 - asked.path.loss.get()) / 1e6;
    let range = [1.0 - tolerance::UDP, 1.0 + tolerance::UDP].map(|share| share * expected);
    rows.push(Row::new(
        "rate, UDP",
        expected,
        measured / 1e6,
        range,
        "mbit/s",
    ));
    Ok(())
}

fn tcp_rate(link: &Link, asked: &Config, rows: &mut Vec<Row>) -> io::Result<()> {
    let measured = probe::tcp_rate(link)? / 1e6;
    rows.push(match asked.path.rate {
        Some(rate) => {
            let rate = rate.bits() as f64 / 1e6;
            let range = [1.0 - tolerance::TCP_LEAST, 1.0 + tolerance::TCP_MOST];
            Row::new(
                "rate, TCP without loss",
                rate,
                measured,
                range.map(|share| share * rate),
                "mbit/s",
            )
        }
        None => {
            let least = UNSHAPED as f64 / 1e6;
            Row::new(
                "rate, TCP without loss",
                least,
                measured,
                [least, f64::MAX],
                "mbit/s",
            )
        }
    });
    Ok(())
}

/// One send that the kernel cuts crosses the link in pieces. On a link that has carried nothing.
fn segments(link: &Link, rows: &mut Vec<Row>) -> io::Result<()> {
    probe::segments(link)?;
    let (asked, packets) = (
        f64::from(probe::SEGMENTS),
        link.report().to_client.path.offered as f64,
    );
    rows.push(Row::new(
        "packets of a UDP GSO send",
        asked,
        packets,
        [asked, asked],
        "",
    ));
    Ok(())
}

/// After a transfer by TCP: its packets are full, and none is put together of several.
fn longest(link: &Link, rows: &mut Vec<Row>) {
    let longest = link.report().to_client.path.largest as f64;
    let mtu = crate::namespace::MTU as f64;
    rows.push(Row::new(
        "longest packet, bytes",
        mtu,
        longest,
        [mtu, mtu],
        "",
    ));
}

fn lateness(link: &Link, rows: &mut Vec<Row>) {
    let late = milliseconds(link.report().lateness.quantile(0.99));
    let most = milliseconds(tolerance::LATENESS_P99);
    rows.push(Row::new(
        "handed on late by, p99",
        0.0,
        late,
        [0.0, most],
        "ms",
    ));
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:>10} {:>10} {:>22}",
            "", "asked", "measured", "tolerated"
        )?;
        for row in &self.rows {
            let digits = if row.unit.is_empty() { 0 } else { 3 };
            let most = if row.most == f64::MAX {
                "more".to_owned()
            } else {
                format!("{:.digits$}", row.most)
            };
            let name = if row.unit.is_empty() {
                row.what.clone()
            } else {
                format!("{}, {}", row.what, row.unit)
            };
            writeln!(
                f,
                "{name:<34} {:>10.digits$} {:>10.digits$} {:>22}  {}",
                row.asked,
                row.measured,
                format!("{:.digits$} to {most}", row.least.max(0.0)),
                if row.passed { "ok" } else { "FAILED" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_outside_its_tolerance_fails_the_whole() {
        let config = Config {
            name: None,
            path: path::Config {
                delay: Duration::from_millis(25),
                loss: Share::NONE,
                rate: None,
                queue: Duration::ZERO,
                seed: 1,
            },
            tcp_congestion: "cubic".to_owned(),
        };
        let calibration = |measured| Calibration {
            asked: config.clone(),
            rows: vec![
                Row::new("good", 1.0, 1.0, [1.0, 1.0], ""),
                Row::new("RTT, min", 50.0, measured, [49.98, 50.3], "ms"),
            ],
        };
        assert!(calibration(50.1).passed());
        for bad in [49.9, 50.4, f64::NAN] {
            let calibration = calibration(bad);
            assert!(!calibration.passed(), "{bad}");
            assert!(calibration.to_string().contains("FAILED"));
        }
    }
}

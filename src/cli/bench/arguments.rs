//! What `tidings bench` can be told.

use std::{path::PathBuf, time::Duration};

use crate::{cli::connect, cli::units, transport::Transport};

/// Measure a server: publish, and time every delivery
///
/// Connects clients with subscriptions, publishes to their channels, and prints what arrived, how fast, and what that cost the
/// server. The channels are chat-room-bench-RUN-0 and so on, with a RUN that is drawn anew each time; by the default rules every
/// user may use them. Without --user and --token each client is a user of its own, on the server that `tidings serve --dev` runs in
/// this directory.
///
/// At a rate the publications have a timetable (open loop), and latency is counted from the time at which each was due, so that
/// a server that stalls cannot hide it by stalling the load, too. With --rate max the next publication waits until one of the last
/// --window is delivered to everybody (closed loop), and latency is counted from the send.
///
/// Every delivery is checked. A run in which one is missing, comes twice, out of order or from somebody else, or in which a
/// client loses its connection, is VOID: it says so, and why, and ends with code 3. A channel whose rule has presence cannot be
/// measured: what the server says there of who comes and goes is of somebody else.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(in crate::cli) struct Arguments {
    /// Clients that read.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) clients: u32,
    /// Channels that each of them reads, each a stream of its own.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) subscriptions: u32,
    /// Channels in all; the clients spread over them evenly. Default: 10, or as many as one client reads.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) channels: Option<u32>,
    /// Connections that publish. Each has channels of its own, so that their order can be checked.
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) publishers: u32,
    /// Publications per second, over all channels; or `max`.
    #[arg(long, value_name = "PER_SECOND", default_value = "1000", value_parser = rate)]
    pub(super) rate: Rate,
    /// With --rate max: publications of one publisher that are on their way at a time.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) window: u32,
    /// Bytes of a publication; 32 of them say what it is.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(32..))]
    pub(super) size: u32,
    /// Seconds that are measured.
    #[arg(long, value_name = "S", default_value = "5", value_parser = some_seconds)]
    pub(super) duration: Duration,
    /// Seconds before that, which are checked but not measured.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    pub(super) warmup: Duration,
    /// quic, webtransport or websocket. Default: what --url says, or quic.
    #[arg(long, value_name = "NAME", value_parser = transport)]
    pub(super) transport: Option<Transport>,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
    /// Write latency by percentile to this file, as a picture.
    #[arg(long, value_name = "FILE.svg")]
    pub(super) plot: Option<PathBuf>,
    /// The server's process on this machine, to read its CPU time and memory. Default: that of `tidings serve --dev` in this
    /// directory.
    #[arg(long, value_name = "PID")]
    pub(super) server_pid: Option<u32>,
    #[command(flatten)]
    pub(super) connection: connect::Arguments,
}

const EXAMPLES: &str = "\
Examples:
  tidings bench                                          against `tidings serve --dev` in this directory
  tidings bench --clients 1000 --subscriptions 10        10,000 streams
  tidings bench --rate max --transport webtransport      as fast as everybody keeps up
  tidings bench --rate 5000 --json --plot latency.svg    for a script, with a picture
  tidings bench --url quic://example.org --token \"$TOKEN\"

Exit codes: 0 measured, 1 failed or interrupted (what there is, is printed), 2 wrong command line, 3 the run is VOID.";

/// How fast to publish.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rate {
    /// By a timetable: this many a second.
    PerSecond(f64),
    /// As fast as everybody keeps up.
    Max,
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    // A timetable in nanoseconds has room for no more.
    match text.parse() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(Rate::PerSecond(rate)),
        _ => Err(format!(
            "{text:?} is no rate: a number of publications per second, from 0.001 to 10000000, or max"
        )),
    }
}

fn transport(text: &str) -> Result<Transport, String> {
    let known = [
        Transport::Quic,
        Transport::WebTransport,
        Transport::WebSocket,
    ];
    let found = known
        .into_iter()
        .find(|transport| transport.to_string() == text);
    found.ok_or_else(|| format!("{text:?} is no transport: quic, webtransport or websocket"))
}

/// Longest time of a run: a week.
const LONGEST: f64 = 7.0 * 86_400.0;

/// Seconds, or a time with a unit.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(seconds) if (0.0..=LONGEST).contains(&seconds) => Duration::from_secs_f64(seconds),
        Ok(_) => {
            return Err(format!(
                "{text} seconds are less than none or more than a week"
            ));
        }
        Err(_) => units::duration(text)?,
    };
    if time.as_secs_f64() > LONGEST {
        return Err(format!("{text} is more than a week"));
    }
    Ok(time)
}

fn some_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("it must be more than nothing".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_max() {
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("0.5"), Ok(Rate::PerSecond(0.5)));
        for text in ["0", "-1", "NaN", "inf", "fast", ""] {
            assert!(rate(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_are_seconds_unless_they_say_otherwise() {
        for (text, millis) in [("5", 5000), ("0.5", 500), ("2m", 120_000), ("0", 0)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["-1", "NaN", "8d", "1e9", "soon"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
        assert!(some_seconds("0").is_err());
    }
}

//! What a load is to do: its command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, ValueEnum};

use crate::{
    clock::{Nanos, seconds},
    schedule::Schedule,
};

/// Connects to a server of some kind, subscribes, publishes on a schedule that waits for nobody, checks every delivery, and
/// prints one JSON object
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// What kind of server it is.
    #[arg(long, value_enum)]
    pub peer: Peer,
    /// Where it listens.
    #[arg(long, value_name = "IP:PORT")]
    pub address: SocketAddr,
    /// What is measured.
    #[arg(long, value_enum, default_value = "deliver")]
    pub mode: Mode,
    /// Connections that subscribe. Publications come from one more.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub connections: usize,
    /// Channels that each connection subscribes to: the same for all.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub channels: usize,
    /// When publications are due.
    #[command(flatten)]
    pub pace: Pace,
    /// The server's process, whose CPU time and memory are read.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// A file with the token that the server takes, where it takes one.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Connection attempts that wait for an answer at once. More of them than servers take at once (quinn refuses above its
    /// limits) would measure refusals.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub parallel: usize,
    /// Resume TLS sessions, in mode handshake.
    #[arg(long)]
    pub resume: bool,
    /// Connections that stop reading when the measured time begins.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub stalled: usize,
    /// Seconds of silence before memory is read, in mode idle.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub settle: f64,
}

/// When publications are due, the same flags for floors, which publish themselves.
#[derive(Debug, Clone, Parser)]
pub struct Pace {
    /// Microseconds from one tick to the next. At each tick every channel gets `--group` publications.
    #[arg(
        long = "interval-us",
        value_name = "MICROSECONDS",
        default_value_t = 20_000
    )]
    pub interval_us: u64,
    /// Publications back to back for a channel at a tick.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub group: u64,
    /// Bytes of a publication's payload, the stamp included.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub size: usize,
    /// Seconds of publications before the measured time.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds of the measured time.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub duration: f64,
}

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// `tidings serve` over QUIC.
    Tidings,
    /// `tidings serve` over WebTransport.
    TidingsWebtransport,
    /// quinn with no broker.
    FloorQuinn,
    /// The datagrams alone.
    FloorUdp,
    /// rustls over TCP with no broker.
    FloorTls,
    /// nats-server over TLS.
    Nats,
    /// Any of the WebSocket servers (ws, uWebSockets.js) over TLS.
    Websocket,
    /// MQTT 3.1.1 over TLS (mosquitto).
    Mqtt,
    /// zenoh's router over QUIC.
    Zenoh,
    /// moq-relay over QUIC.
    Moq,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Deliveries on a schedule: CPU of the server per delivery, latency.
    Deliver,
    /// Memory of the server with connections that do nothing.
    Idle,
    /// Connections that come, authenticate, subscribe and go.
    Handshake,
    /// Publications that nobody reads: `--channels` in turn.
    Publish,
    /// Subscriptions that come and go on open connections.
    Churn,
}

impl Pace {
    /// The schedule that begins at `start`.
    #[must_use]
    pub fn schedule(&self, start: Nanos) -> Schedule {
        let interval = self.interval_us * 1000;
        Schedule::new(start, interval, self.ticks())
    }

    /// Ticks of the whole run, warm-up included.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        seconds(self.warmup + self.duration).div_ceil(self.interval_us * 1000)
    }

    /// Publications that each channel gets.
    #[must_use]
    pub fn publications(&self) -> u64 {
        self.ticks() * self.group
    }
}

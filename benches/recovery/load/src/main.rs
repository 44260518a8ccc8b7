//! A crowd of clients that loses its server, or its connections: see `benches/recovery/run`, which repeats it.
//!
//! Publishers and readers are in one process, and so on one clock. Every publication of a channel has a number; every reader checks that
//! they come one after the other.

mod crowd;
mod publishers;
mod record;
mod report;
mod server;
mod storm;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

/// Lets a crowd of clients lose its server, and measures until everybody has everything again; prints a line of JSON
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// The `tidings` command.
    #[arg(long, value_name = "FILE")]
    tidings: PathBuf,
    /// What happens.
    #[arg(long, value_enum, default_value = "killed")]
    strike: Strike,
    /// Seconds that a killed server is away.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    down: f64,
    /// Clients that read one channel each.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    clients: usize,
    /// Channels, over which the clients spread evenly.
    #[arg(long, value_name = "N", default_value_t = 20)]
    channels: usize,
    /// Publications to each channel that everybody has to catch up on.
    #[arg(long, value_name = "N", default_value_t = 100)]
    messages: u64,
    /// Publications a second to each channel, before and afterwards.
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    rate: f64,
    /// Bytes of a publication.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(8..))]
    size: u32,
    /// Over WebTransport instead of raw QUIC.
    #[arg(long)]
    webtransport: bool,
    /// Seconds of silence after which a client sends a PING, by which it notices that its server is another one. Default: the client's own.
    #[arg(long, value_name = "S")]
    keep_alive: Option<f64>,
    /// Longest time for everybody to have everything, in seconds.
    #[arg(long, value_name = "S", default_value_t = 120.0)]
    patience: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Strike {
    /// The server is killed (SIGKILL), and another one starts on its port with its certificate.
    Killed,
    /// The server closes every reader's session, with a code that says to come back.
    Cut,
}

/// What ends the program, for people.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let run = || -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let report = runtime.block_on(storm::run(&Arguments::parse()))?;
        println!("{}", serde_json::to_string(&report)?);
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recovery-load: {error}");
            ExitCode::FAILURE
        }
    }
}

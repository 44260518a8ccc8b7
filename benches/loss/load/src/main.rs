//! Publisher, subscriber and a TLS floor for the head-of-line benchmark: see `benches/loss/run`, which runs them at the ends of a link.
//!
//! A message says which flow it belongs to, its number in it and when it was meant to be sent; publisher and subscriber share the
//! machine's monotonic clock.

mod collect;
mod floor;
mod load;
mod nats;
mod observe;
mod tidings;
mod tls;

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use collect::Collector;
use load::Load;

/// Publisher, subscriber and a TLS floor for the head-of-line benchmark
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Publish every flow on one connection; prints "published" when all is written
    Publish {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        load: Load,
    },
    /// Subscribe to every flow on one connection; prints "ready", and a line of JSON when everything has come
    Subscribe {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        load: Load,
        /// One-way delay of the link in milliseconds: what is later than three times this is late by more than a round trip.
        #[arg(long, value_name = "MS")]
        delay: f64,
    },
    /// Subscribe to every flow on one connection, and watch how old the newest message of each is; prints "ready", and a line of JSON
    /// when the time is over
    Observe {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        load: Load,
    },
    /// Judge what another subscriber saw; prints a line of JSON when everything has come. Reads lines: the time of the arrival in
    /// nanoseconds of the monotonic clock, and the first 14 bytes of the message in hexadecimal
    Judge {
        #[command(flatten)]
        load: Load,
        /// One-way delay of the link in milliseconds.
        #[arg(long, value_name = "MS")]
        delay: f64,
    },
    /// Serve one subscriber and one publisher over TLS on TCP: what arrives from one is written to the other; prints "listening"
    FloorTls {
        #[arg(long)]
        listen: SocketAddr,
        /// The certificate's chain.
        #[arg(long, value_name = "PEM")]
        certificate: PathBuf,
        /// Its key.
        #[arg(long, value_name = "PEM")]
        key: PathBuf,
    },
}

/// Whom to talk to.
#[derive(Debug, Args)]
pub(crate) struct Peer {
    #[arg(long)]
    protocol: Protocol,
    #[arg(long)]
    address: SocketAddr,
    /// The server's certificate, which is trusted; for the name localhost.
    #[arg(long, value_name = "PEM")]
    certificate: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// A stream for each flow.
    Tidings,
    /// All flows through one channel, and so one stream.
    TidingsSingle,
    /// Frames on one TLS connection.
    FloorTls,
    /// A subject for each flow, on one TLS connection.
    Nats,
}

/// What ends the program, for people.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loss-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Subcommands) -> Result<(), Failure> {
    match command {
        Subcommands::Publish { peer, load } => {
            match peer.protocol {
                Protocol::Tidings => tidings::publish(&peer, &load, false),
                Protocol::TidingsSingle => tidings::publish(&peer, &load, true),
                Protocol::FloorTls => floor::publish(&peer, &load),
                Protocol::Nats => nats::publish(&peer, &load),
            }?;
            println!("published");
        }
        Subcommands::Subscribe { peer, load, delay } => {
            let mut collector = Collector::new(&load, delay);
            match peer.protocol {
                Protocol::Tidings => tidings::subscribe(&peer, &load, false, &mut collector),
                Protocol::TidingsSingle => tidings::subscribe(&peer, &load, true, &mut collector),
                Protocol::FloorTls => floor::subscribe(&peer, &mut collector),
                Protocol::Nats => nats::subscribe(&peer, &mut collector),
            }?;
            println!("{}", serde_json::to_string(&collector.summary())?);
        }
        Subcommands::Judge { load, delay } => {
            let mut collector = Collector::new(&load, delay);
            collector.read(io::stdin().lock())?;
            println!("{}", serde_json::to_string(&collector.summary())?);
        }
        Subcommands::Observe { peer, load } => println!("{}", observe::observe(&peer, &load)?),
        Subcommands::FloorTls {
            listen,
            certificate,
            key,
        } => floor::serve(listen, &certificate, &key)?,
    }
    Ok(())
}

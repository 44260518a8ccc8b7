//! The client side of every peer. `load --help` says what it takes; it prints one JSON object.

use anyhow::{Context, Result};
use clap::Parser;
use tidings_compare::{
    options::{Options, Peer},
    peer_floor_tls::FloorTls,
    peer_moq,
    peer_mqtt::Mqtt,
    peer_nats::Nats,
    peer_tidings, peer_udp,
    peer_websocket::WebSocket,
    peer_zenoh::{self, Zenoh},
    quic_stream,
    report::Report,
    tcp,
};

fn main() -> Result<()> {
    let options = Options::parse();
    let report = run(&options).with_context(|| format!("load for {:?}", options.peer))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn run(options: &Options) -> Result<Report> {
    match options.peer {
        Peer::Tidings | Peer::TidingsWebtransport | Peer::FloorQuinn => peer_tidings::run(options),
        Peer::FloorUdp => peer_udp::run(options),
        Peer::FloorTls => tcp::run::<FloorTls>(options),
        Peer::Nats => tcp::run::<Nats>(options),
        Peer::Websocket => tcp::run::<WebSocket>(options),
        Peer::Mqtt => tcp::run::<Mqtt>(options),
        Peer::Zenoh => quic_stream::run::<Zenoh>(options, peer_zenoh::ALPN, peer_zenoh::STREAMS),
        Peer::Moq => peer_moq::run(options),
    }
}

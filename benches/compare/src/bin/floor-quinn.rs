//! The floor of QUIC: quinn as it comes, without a broker. It speaks as much of the protocol as a client needs to subscribe,
//! and believes every token; then one task walks the streams and writes the same `Bytes` to each.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Parser;
use quinn::{
    Connection, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, ServerConfig,
    TransportConfig, crypto::rustls::QuicServerConfig,
};
use tidings_compare::{
    floor::{self, Options},
    tls,
    wire::{self, Frames, Reader, kind},
};
use tokio::sync::mpsc;

/// Bytes that are read of a control stream at a time.
const CHUNK: usize = 4096;
/// Ticks that may wait: a floor that is behind by more shows it in its latencies.
const WAITING: usize = 1024;

/// A client with all its streams. It ends when it is dropped.
struct Subscriber {
    connection: Connection,
    _control: (SendStream, RecvStream),
    streams: Vec<SendStream>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, options.port))?;
    let config = EndpointConfig::default();
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = Endpoint::new(config, Some(server_config()?), socket, runtime)?;
    println!("listening {}", endpoint.local_addr()?);
    let (arrived, arrivals) = mpsc::channel(WAITING);
    tokio::spawn(publish(options.clone(), arrivals));
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(serve(incoming, options.clone(), arrived.clone()));
    }
    Ok(())
}

/// As `tidings serve` sets it.
fn server_config() -> Result<ServerConfig> {
    let crypto = QuicServerConfig::try_from(tls::server(&[wire::ALPN])?)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(3_u32.into())
        .max_concurrent_uni_streams(3_u32.into())
        .receive_window((256 * 1024_u32).into())
        .stream_receive_window((128 * 1024_u32).into())
        .send_window(1024 * 1024)
        .datagram_receive_buffer_size(Some(64 * 1024))
        .datagram_send_buffer_size(64 * 1024);
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport))
        .max_incoming(1024)
        .incoming_buffer_size(8 * 1024)
        .incoming_buffer_size_total(4 * 1024 * 1024);
    Ok(server)
}

async fn serve(incoming: Incoming, options: Options, arrived: mpsc::Sender<Subscriber>) {
    // A client that fails is missed by the load, which says so.
    let Ok(subscriber) = subscribe(incoming, options.channels).await else {
        return;
    };
    if options.connections > 0 {
        let _ = arrived.send(subscriber).await;
    } else {
        subscriber.connection.closed().await;
    }
}

/// Hello, Welcome, and a stream for each Subscribe.
async fn subscribe(incoming: Incoming, channels: usize) -> Result<Subscriber> {
    let connection = incoming.await?;
    let (mut send, mut recv) = connection.accept_bi().await?;
    let (mut frames, mut streams) = (Frames::default(), Vec::with_capacity(channels));
    while streams.len() < channels {
        let chunk = recv.read_chunk(CHUNK, true).await?;
        let chunk = chunk.context("the control stream ended")?;
        let (mut answers, mut names) = (Vec::new(), Vec::new());
        frames.read(&chunk.bytes, |kind, body| {
            let mut body = Reader(body);
            if kind == kind::HELLO {
                answers.extend(wire::welcome(connection.stable_id() as u64));
            } else if kind == kind::SUBSCRIBE {
                let request = body.integer()?;
                names.push(String::from_utf8(body.bytes()?.to_vec())?);
                let subscription = (streams.len() + names.len()) as u64;
                answers.extend(wire::subscribed(request, subscription));
            }
            Ok(())
        })?;
        for name in names {
            let mut stream = connection.open_uni().await?;
            let header = wire::header(streams.len() as u64 + 1, &name);
            stream.write_chunk(header.into()).await?;
            streams.push(stream);
        }
        send.write_chunk(answers.into()).await?;
    }
    Ok(Subscriber {
        connection,
        _control: (send, recv),
        streams,
    })
}

/// When all are there: walks the streams at every tick.
async fn publish(options: Options, mut arrivals: mpsc::Receiver<Subscriber>) -> Result<()> {
    let mut subscribers = Vec::new();
    while let Some(subscriber) = arrivals.recv().await {
        subscribers.push(subscriber);
        if subscribers.len() == options.connections {
            break;
        }
    }
    let (send, mut ticks) = mpsc::channel(WAITING);
    floor::tick(options.schedule(), move |tick, intended| {
        send.blocking_send((tick, intended)).is_ok()
    })?;
    while let Some((tick, intended)) = ticks.recv().await {
        let frames: Vec<Vec<Bytes>> = options
            .frames(tick, intended)
            .into_iter()
            .map(|frames| frames.into_iter().map(Bytes::from).collect())
            .collect();
        for subscriber in &mut subscribers {
            for (stream, frames) in subscriber.streams.iter_mut().zip(&frames) {
                stream.write_all_chunks(&mut frames.clone()).await?;
            }
        }
    }
    // What was written last is on its way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let datagrams: u64 = subscribers
        .iter()
        .map(|subscriber| subscriber.connection.stats().udp_tx.datagrams)
        .sum();
    println!("{{\"datagrams\":{datagrams}}}");
    std::future::pending().await
}

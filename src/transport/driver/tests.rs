#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod amplification;

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use web_transport_quinn::proto::error_to_http3;

use super::Faults;
use crate::{
    transport::{
        Allowed, Certificate, Class, Sha256, Trust, Written,
        listener::{Arrival, Config, Listener, Unfinished},
        tls::client_crypto,
    },
    wire::{ALPN, Code},
};

const USUAL: Class = Class {
    priority: 0,
    fresh: false,
};

fn config() -> Config {
    Config {
        origins: Allowed::Any,
        soft_handshakes: 8,
        hard_handshakes: 8,
        tcp_connections: 8,
        deadline: Duration::from_secs(20),
        idle: Duration::from_secs(20),
        websockets: false,
        plain: None,
    }
}

/// One worker that serves nobody: who arrives is the test's.
struct Server {
    address: SocketAddr,
    hash: Sha256,
    arrivals: mpsc::Receiver<Arrival>,
    /// Cuts everybody off.
    close: CancellationToken,
    _listener: Listener,
    /// Ends with this.
    _running: JoinSet<()>,
}

impl Server {
    fn start(plant: impl FnOnce(&mut Faults)) -> Self {
        Self::start_with(&["localhost"], config(), plant)
    }

    /// With these names in its certificate.
    fn start_with(names: &[&str], config: Config, plant: impl FnOnce(&mut Faults)) -> Self {
        let now = std::time::SystemTime::now();
        let hour = Duration::from_secs(3600);
        let (certificate, ..) = Certificate::self_signed(names, now, hour).unwrap();
        let hash = certificate.sha256();
        let local = (Ipv4Addr::LOCALHOST, 0).into();
        let (listener, bindings) = Listener::bind(local, certificate, config, 1).unwrap();
        let mut worker = bindings.into_iter().next().unwrap().start().unwrap();
        plant(worker.faults());
        let (arrived, arrivals) = mpsc::channel(8);
        let close = CancellationToken::new();
        let closed = close.clone();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let serve = poll_fn(|cx| {
                worker.poll(cx);
                while let Some(arrival) = worker.next_arrival() {
                    arrived.try_send(arrival).unwrap();
                }
                Poll::<()>::Pending
            });
            closed.run_until_cancelled(serve).await;
            worker.close(Code::GOING_AWAY, "the end");
            poll_fn(|cx| {
                worker.poll(cx);
                Poll::<()>::Pending
            })
            .await;
        });
        Self {
            address: listener.local_address(),
            hash,
            arrivals,
            close,
            _listener: listener,
            _running: running,
        }
    }

    fn crypto(&self, alpn: &str) -> quinn::crypto::rustls::QuicClientConfig {
        let trust = Trust::Hashes(vec![self.hash]);
        let crypto = client_crypto(&trust, alpn.as_bytes()).unwrap();
        crypto.try_into().unwrap()
    }

    async fn connect(&self, endpoint: &quinn::Endpoint, alpn: &str) -> quinn::Connection {
        let config = quinn::ClientConfig::new(Arc::new(self.crypto(alpn)));
        let connecting = endpoint.connect_with(config, self.address, "localhost");
        connecting.unwrap().await.unwrap()
    }
}

fn endpoint() -> quinn::Endpoint {
    quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

/// Sends what needs many packets, to a client that checks it; how many of them were lost.
async fn lost_of_much(server: &mut Server) -> u64 {
    let endpoint = endpoint();
    let client = server.connect(&endpoint, ALPN).await;
    let arrival = server.arrivals.recv().await.unwrap();
    let (connection, _permit, _) = arrival.handshake().await.unwrap();
    let sent: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let stream = connection.arrange(|streams| streams.open()).unwrap();
    connection.with_streams(|streams| {
        let written = streams.write(stream, USUAL, &mut vec![Bytes::from(sent.clone())]);
        assert_eq!(written, Ok(Written::All));
        streams.finish(stream);
    });
    let mut stream = client.accept_uni().await.unwrap();
    assert!(stream.read_to_end(200_000).await.unwrap() == sent);
    connection.quic().unwrap().lost()
}

/// Input/output error, as a network card without segmentation has it.
const EIO: i32 = 5;

#[tokio::test]
async fn a_connection_goes_on_without_loss_where_the_system_refuses_segments() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let mut server = Server::start(|faults| {
        faults.write = Some(Box::new(move |transmit| {
            if transmit.segment_size.is_none() {
                return Ok(());
            }
            count.fetch_add(1, Ordering::Relaxed);
            Err(io::Error::from_raw_os_error(EIO))
        }));
    });
    assert_eq!(lost_of_much(&mut server).await, 0);
    assert_eq!(refused.load(Ordering::Relaxed), 1, "it is not asked again");
}

#[tokio::test]
async fn a_connection_goes_on_without_loss_where_the_socket_takes_no_more_at_times() {
    let writes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&writes);
    let mut server = Server::start(|faults| {
        faults.write = Some(Box::new(move |_| {
            match count.fetch_add(1, Ordering::Relaxed) % 3 {
                2 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        }));
    });
    assert_eq!(lost_of_much(&mut server).await, 0);
    assert!(writes.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn a_worker_outlives_a_socket_that_cannot_be_read() {
    // Some pauses long.
    const READS: usize = 30;
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    let mut server = Server::start(|faults| {
        faults.read = Some(Box::new(move || {
            match count.fetch_add(1, Ordering::Relaxed) < READS {
                true => Err(io::ErrorKind::OutOfMemory.into()),
                false => Ok(()),
            }
        }));
    });
    let endpoint = endpoint();
    let connecting = server.connect(&endpoint, ALPN);
    let client = tokio::time::timeout(Duration::from_secs(20), connecting).await;
    let _client = client.expect("it can be read again");
    let arrival = server.arrivals.recv().await.unwrap();
    let (connection, _permit, _) = arrival.handshake().await.unwrap();
    assert!(reads.load(Ordering::Relaxed) > READS);
    assert_eq!(connection.quic().unwrap().close_reason(), None);
}

/// The code of the application with which the server ended a connection.
async fn code(client: &quinn::Connection) -> u64 {
    match client.closed().await {
        quinn::ConnectionError::ApplicationClosed(closed) => closed.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

/// A client that has HTTP/3's beginning from the server and asks for no session.
async fn half_way(
    server: &mut Server,
    endpoint: &quinn::Endpoint,
) -> (quinn::Connection, JoinSet<()>, Unfinished) {
    let client = server.connect(endpoint, "h3").await;
    let arrival = server.arrivals.recv().await.unwrap();
    let unfinished = arrival.unfinished();
    let mut handshake = JoinSet::new();
    handshake.spawn(async move { drop(arrival.handshake().await) });
    client.accept_uni().await.unwrap();
    (client, handshake, unfinished)
}

#[tokio::test]
async fn what_cuts_off_a_handshake_of_http3_says_so_in_its_space() {
    let mut server = Server::start(|_| ());
    let endpoint = endpoint();
    let (client, _handshake, _unfinished) = half_way(&mut server, &endpoint).await;
    server.close.cancel();
    assert_eq!(code(&client).await, error_to_http3(Code::GOING_AWAY.0));
}

#[tokio::test]
async fn who_drops_or_ends_a_handshake_of_http3_says_so_in_its_space() {
    let mut server = Server::start(|_| ());
    let endpoint = endpoint();
    let (client, mut handshake, unfinished) = half_way(&mut server, &endpoint).await;
    drop(unfinished);
    handshake.shutdown().await;
    assert_eq!(code(&client).await, error_to_http3(Code::CLOSED.0));
    let (client, _handshake, unfinished) = half_way(&mut server, &endpoint).await;
    unfinished.close(Code::GOING_AWAY, "the end");
    assert_eq!(code(&client).await, error_to_http3(Code::GOING_AWAY.0));
}

#[tokio::test]
async fn raw_quic_keeps_its_codes_as_they_are() {
    let mut server = Server::start(|_| ());
    let endpoint = endpoint();
    let client = server.connect(&endpoint, ALPN).await;
    let arrival = server.arrivals.recv().await.unwrap();
    let _connection = arrival.handshake().await.unwrap();
    server.close.cancel();
    assert_eq!(code(&client).await, u64::from(Code::GOING_AWAY.0));
}

#[tokio::test]
async fn clients_are_told_to_send_1200_bytes_at_most() {
    const MOST: u16 = 1200;
    let mut server = Server::start(|_| ());
    let endpoint = endpoint();
    let client = server.connect(&endpoint, ALPN).await;
    let arrival = server.arrivals.recv().await.unwrap();
    let (connection, _permit, _) = arrival.handshake().await.unwrap();
    let stream = connection.arrange(|streams| streams.open()).unwrap();
    connection.with_streams(|streams| {
        let mut bytes = vec![Bytes::from(vec![7; 100_000])];
        let written = streams.write(stream, USUAL, &mut bytes).unwrap();
        assert_eq!(written, Written::All);
        streams.finish(stream);
    });
    let mut stream = client.accept_uni().await.unwrap();
    stream.read_to_end(200_000).await.unwrap();
    // A client that looks for more has done so by now: with what it says first beyond the handshake.
    let path = client.stats().path;
    assert_eq!((path.sent_plpmtud_probes, path.current_mtu), (0, MOST));
}

/// A datagram that begins a connection of a version of QUIC, as RFC 8999 has it for all of them.
fn first_datagram(version: u32) -> Vec<u8> {
    let mut datagram = vec![0xc0];
    datagram.extend(version.to_be_bytes());
    for id in [b"to-where", b"fromhere"] {
        datagram.push(id.len() as u8);
        datagram.extend(id);
    }
    datagram.resize(1200, 0);
    datagram
}

#[tokio::test]
async fn other_versions_of_quic_are_told_of_version_1() {
    /// QUIC version 2 (RFC 9369), a draft, and one that nobody knows.
    const OTHERS: [u32; 3] = [0x6b33_43cf, 0xff00_001d, 0x1234_5678];
    let server = Server::start(|_| ());
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let socket = socket.unwrap();
    for version in OTHERS {
        let first = first_datagram(version);
        socket.send_to(&first, server.address).await.unwrap();
        let mut answer = [0; 1500];
        let reading = socket.recv(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(20), reading);
        let read = read.await.expect("it answers").unwrap();
        let (head, versions) = answer[..read].split_at(23);
        assert!(head[0] & 0x80 != 0);
        assert_eq!(head[1..], *b"\0\0\0\0\x08fromhere\x08to-where");
        let versions = versions.chunks(4);
        let versions = versions.map(|four| u32::from_be_bytes(four.try_into().unwrap()));
        // Those of this form stand for nothing (RFC 9000 §6.3).
        let known: Vec<_> = versions
            .filter(|version| version & 0x0f0f_0f0f != 0x0a0a_0a0a)
            .collect();
        assert_eq!(known, [1], "asked for {version:#x}");
    }
}

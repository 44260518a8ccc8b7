//! One round of each attack. A round ends by itself: nothing waits for a server that does not answer.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use rand::{Rng, RngCore};
use tidings::{Message, client::Transport, testing::TestServer, wire::frame::Ping};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket},
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::common::{raw::Dial, websocket::secure};

/// Longest round that waits for anything.
const PATIENCE: Duration = Duration::from_secs(2);
const TRANSPORTS: [Transport; 3] = [
    Transport::Quic,
    Transport::WebTransport,
    Transport::WebSocket,
];

fn raw_dial(server: &TestServer, round: usize) -> Dial {
    Dial::new(server, TRANSPORTS[round % 2])
}

/// First packets of connections, made once: what makes them keeps memory for a while.
static INITIALS: Mutex<Vec<Vec<u8>>> = Mutex::const_new(Vec::new());

/// First packets of connections, from addresses that never answer.
pub(crate) async fn initials(server: Arc<TestServer>, _: usize) {
    let from = (Ipv4Addr::LOCALHOST, 0);
    let mut packets = INITIALS.lock().await;
    while packets.len() < 32 {
        let trap = UdpSocket::bind(from).await.unwrap();
        let dial = Dial::new(&server, Transport::Quic).to(trap.local_addr().unwrap());
        let attempt = tokio::spawn(async move { dial.quic().await.map(drop) });
        let mut packet = [0; 1500];
        let caught = timeout(PATIENCE, trap.recv(&mut packet)).await;
        attempt.abort();
        if let Ok(Ok(length)) = caught {
            packets.push(packet[..length].to_vec());
        }
    }
    let packets = packets.clone();
    let socket = UdpSocket::bind(from).await.unwrap();
    for packet in packets {
        let _ = socket.send_to(&packet, server.address()).await;
    }
}

/// Random bytes, some with the first byte of a QUIC packet.
pub(crate) async fn garbage_datagrams(server: Arc<TestServer>, _: usize) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for number in 0..100 {
        let mut bytes = vec![0; rand::rng().random_range(1..1400)];
        rand::rng().fill_bytes(&mut bytes);
        bytes[0] |= [0, 0x40, 0xc0][number % 3];
        let _ = socket.send_to(&bytes, server.address()).await;
    }
}

/// Connections that say nothing.
pub(crate) async fn idle_tcp_connections(server: Arc<TestServer>, _: usize) {
    let mut held = Vec::new();
    for _ in 0..50 {
        if let Ok(socket) = TcpStream::connect(server.address()).await {
            held.push(socket);
        }
    }
    sleep(PATIENCE).await;
}

/// Requests for a WebSocket that come a byte at a time.
pub(crate) async fn slow_websocket_requests(server: Arc<TestServer>, _: usize) {
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(secure(server.address()).await);
    }
    for byte in b"GET /tidings HTTP/1.1\r\n" {
        for socket in &mut held {
            let _ = socket.write_all(&[*byte]).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The same without TLS, where the server expects it.
pub(crate) async fn slow_http_requests(server: Arc<TestServer>, _: usize) {
    let mut held = Vec::new();
    for _ in 0..20 {
        if let Ok(socket) = TcpStream::connect(server.address()).await {
            held.push(socket);
        }
    }
    for byte in b"POST /v1/publish HTTP/1.1\r\n" {
        for socket in &mut held {
            let _ = socket.write_all(&[*byte]).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Requests without a pause; no answer is read.
pub(crate) async fn requests_of_one_session(server: Arc<TestServer>, round: usize) {
    let (mut raw, _) = raw_dial(&server, round).welcomed(server.token("bad")).await;
    for request in 0..2000 {
        if timeout(PATIENCE, raw.send(Ping { request })).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn refused_tokens(server: Arc<TestServer>, round: usize) {
    let transport = TRANSPORTS[round % TRANSPORTS.len()];
    let token = server.token("bad").replace('.', ".e");
    let refused = server.client_builder(transport).token(token).connect();
    let _ = timeout(PATIENCE, refused).await;
}

/// Many at a time in one session.
pub(crate) async fn invalid_refreshes(server: Arc<TestServer>, round: usize) {
    let transport = TRANSPORTS[round % TRANSPORTS.len()];
    let Ok(client) = server.client("bad", transport).await else {
        return;
    };
    let token = server.token("other");
    let invalid = format!("{token}x");
    let refreshes = (0..32).map(|_| client.refresh(invalid.clone()));
    let all = futures_util::future::join_all(refreshes);
    let _ = timeout(PATIENCE, all).await;
}

/// What fills a log.
pub(crate) async fn refused_channels(server: Arc<TestServer>, round: usize) {
    let transport = TRANSPORTS[round % TRANSPORTS.len()];
    let Ok(client) = server.client("bad", transport).await else {
        return;
    };
    for _ in 0..500 {
        let refused = timeout(PATIENCE, client.subscribe("user-reader")).await;
        assert!(!matches!(refused, Ok(Ok(_))), "it was subscribed");
    }
}

/// A channel is filled that its readers do not read; they only send requests.
pub(crate) async fn readers_that_never_read(server: Arc<TestServer>, round: usize) {
    let dial = raw_dial(&server, round).window(1024);
    let (mut raw, _) = dial.welcomed(server.token("bad")).await;
    if raw.subscribe("chat-room-unread").await.is_err() {
        return;
    }
    let channel = "chat-room-unread".parse().unwrap();
    let message = Message::text("x".repeat(1000));
    for request in 0..500 {
        let _ = server.broker().post(&channel, message.clone());
        if timeout(PATIENCE, raw.send(Ping { request })).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn new_channels(server: Arc<TestServer>, round: usize) {
    let transport = TRANSPORTS[round % TRANSPORTS.len()];
    let Ok(client) = server.client("bad", transport).await else {
        return;
    };
    for number in 0..500 {
        let channel = format!("chat-room-{round}-{number}");
        let published = client.publish(&channel, Message::text("x".repeat(500)));
        if timeout(PATIENCE, published).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn churn(server: Arc<TestServer>, round: usize) {
    let transport = TRANSPORTS[round % TRANSPORTS.len()];
    let connected = timeout(PATIENCE, server.client("bad", transport)).await;
    if let Ok(Ok(client)) = connected {
        client.close().await;
    }
}

/// Random bytes where frames are expected, before and after `Hello`.
pub(crate) async fn random_frames(server: Arc<TestServer>, round: usize) {
    let dial = raw_dial(&server, round);
    let mut raw = if round.is_multiple_of(4) {
        dial.open().await
    } else {
        dial.welcomed(server.token("bad")).await.0
    };
    let mut bytes = vec![0; 4096];
    rand::rng().fill_bytes(&mut bytes);
    let _ = timeout(PATIENCE, raw.write(&bytes)).await;
    let _ = timeout(PATIENCE, raw.closed()).await;
}

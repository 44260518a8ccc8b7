//! Clients that take every place of a server, and clients that come then (PROTOCOL §7).

mod common;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use common::{
    both, bounded, each,
    flood::Initials,
    raw::{Dial, client_crypto, closed},
    websocket,
};
use quinn::Endpoint;
use rustls::pki_types::ServerName;
use tidings::{
    Code, Message,
    client::{Client, Transport, Trust},
    server::Limits,
    testing::TestServer,
    wire::ALPN,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Another client than those on 127.0.0.1.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Newcomers of one attack, and the time that each may take.
const NEWCOMERS: usize = 20;
const TIME: Duration = Duration::from_secs(2);

fn limits(sessions: usize, soft: usize, hard: usize) -> Limits {
    let mut limits = Limits::default();
    limits.sessions = sessions;
    limits.soft_handshakes = soft;
    limits.hard_handshakes = hard;
    limits
}

/// Counts those that are done in time.
async fn count<F: Future<Output = bool>>(newcomer: impl Fn(usize) -> F) -> usize {
    let mut done = 0;
    for number in 0..NEWCOMERS {
        done += usize::from(timeout(TIME, newcomer(number)).await.unwrap_or(false));
    }
    done
}

/// A new user from an address, over QUIC or WebTransport, who leaves again.
async fn visits(server: &TestServer, transport: Transport, from: Ipv4Addr, user: String) -> bool {
    let endpoint = Endpoint::client((from, 0).into()).unwrap();
    let dial = Dial::new(server, transport);
    let Ok(connection) = dial.quic_from(&endpoint).await else {
        return false;
    };
    let mut raw = dial.open_on(connection).await;
    raw.greet(server.token(&user)).await;
    raw.ping().await;
    true
}

each!(sessions_of_one_user_leave_room_for_others);
async fn sessions_of_one_user_leave_room_for_others(transport: Transport) {
    let server = TestServer::start_with(|builder| builder.limits(limits(40, 256, 1024))).await;
    let mut flood = Vec::new();
    while let Ok(client) = server.client("flood", transport).await {
        flood.push(client);
        assert!(flood.len() <= 40, "no more than the server takes");
    }
    assert_eq!(flood.len(), 40);
    let mut newcomers = Vec::new();
    for number in 0..NEWCOMERS {
        let connect = timeout(TIME, server.client(&format!("user-{number}"), transport)).await;
        newcomers.extend(connect.ok().and_then(Result::ok));
    }
    assert_eq!(newcomers.len(), NEWCOMERS);
    // The flood's clients come back, and are refused.
    let again = server.client("flood", transport).await;
    assert_eq!(again.unwrap_err().code(), Some(Code::TOO_MANY_SESSIONS));
    for number in 0..NEWCOMERS {
        let user = format!("user-{number}").parse().unwrap();
        assert_eq!(server.sessions().of_user(&user).len(), 1, "{user}");
    }
}

both!(sessions_of_one_address_leave_room_for_others);
async fn sessions_of_one_address_leave_room_for_others(transport: Transport) {
    let server = TestServer::start_with(|builder| builder.limits(limits(40, 256, 1024))).await;
    let dial = Dial::new(&server, transport);
    let mut flood = Vec::new();
    for number in 0..40 {
        let token = server.token(&format!("flood-{number}"));
        flood.push(dial.welcomed(token).await);
    }
    let (code, _) = closed(&dial.session().await).await;
    assert_eq!(code, Code::TOO_MANY_SESSIONS);
    let others = Endpoint::client((OTHER, 0).into()).unwrap();
    let mut newcomers = Vec::new();
    for number in 0..19 {
        let connect = async {
            let mut raw = dial.open_on(dial.quic_from(&others).await.unwrap()).await;
            raw.greet(server.token(&format!("user-{number}"))).await;
            raw
        };
        newcomers.extend(timeout(TIME, connect).await);
    }
    assert_eq!(newcomers.len(), 19);
    for newcomer in &mut newcomers {
        newcomer.ping().await;
    }
    // The newest of the flood left, the oldest stayed.
    flood[0].0.ping().await;
    let (code, reason) = flood[39].0.closed().await;
    assert_eq!(code, Code::TOO_MANY_SESSIONS, "{reason}");
}

both!(first_packets_of_one_socket_keep_nobody_out);
async fn first_packets_of_one_socket_keep_nobody_out(transport: Transport) {
    let server = TestServer::start_with(|builder| builder.limits(limits(500, 16, 64))).await;
    // 5.7 Mbit/s at most.
    let pace = Duration::from_micros(1600);
    for proves in [true, false] {
        let flood = Initials::start(server.address(), ALPN.as_bytes(), pace, proves);
        while flood.retries() < 64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for from in [Ipv4Addr::LOCALHOST, OTHER] {
            let newcomer = |number| visits(&server, transport, from, format!("user-{number}"));
            assert_eq!(count(newcomer).await, NEWCOMERS, "from {from}, {proves}");
        }
        assert!(flood.sent() > flood.retries() / 2);
    }
}

/// What a TCP client does that opens no WebSocket.
#[derive(Debug, Clone, Copy)]
enum HalfOpen {
    /// Nothing after the connection.
    Silent,
    /// The beginning of a TLS handshake.
    Tls,
    /// TLS, and the beginning of a request.
    Request,
}

impl HalfOpen {
    async fn open(self, address: SocketAddr) -> std::io::Result<Box<dyn std::any::Any + Send>> {
        let mut socket = TcpStream::connect(address).await?;
        match self {
            Self::Silent => {}
            Self::Tls => socket.write_all(&[22, 3, 1, 2, 0, 1]).await?,
            Self::Request => {
                let connector = TlsConnector::from(Arc::new(client_crypto(&["http/1.1"])));
                let name = ServerName::try_from("localhost").unwrap();
                let mut socket = connector.connect(name, socket).await?;
                socket.write_all(b"GET /tidings HTTP/1.1\r\nHost:").await?;
                return Ok(Box::new(socket));
            }
        }
        Ok(Box::new(socket))
    }
}

/// A new WebSocket from an address.
async fn websocket_from(from: Ipv4Addr, server: SocketAddr) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let Ok(socket) = socket.connect(server).await else {
        return false;
    };
    websocket::open_on(socket, server).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_tcp_connections_keep_nobody_out() {
    const HARD: usize = 32;
    bounded(async {
        let server = TestServer::start_with(|builder| builder.limits(limits(500, 16, HARD))).await;
        let address = server.address();
        for attack in [HalfOpen::Silent, HalfOpen::Tls, HalfOpen::Request] {
            let mut held = Vec::new();
            for _ in 0..HARD + 8 {
                held.extend(attack.open(address).await);
            }
            // Others come all the time.
            let mut churn = JoinSet::new();
            churn.spawn(async move {
                let mut held = Vec::new();
                for _ in 0..5_000 {
                    held.extend(attack.open(address).await);
                    if held.len() > 2 * HARD {
                        held.remove(0);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            for from in [Ipv4Addr::LOCALHOST, OTHER] {
                let newcomer = |_| websocket_from(from, address);
                assert_eq!(count(newcomer).await, NEWCOMERS, "{attack:?}, from {from}");
            }
            let client = server.client_builder(Transport::WebSocket);
            let client = client.token(server.token("42")).connect().await.unwrap();
            client
                .publish("chat-room-1", Message::text("hello"))
                .await
                .unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_of_one_address_keeps_nobody_out() {
    bounded(async {
        let server = TestServer::start_with(|builder| builder.limits(limits(16, 4, 8))).await;
        let mut churn = JoinSet::new();
        for number in 0..8 {
            let transport = [Transport::Quic, Transport::WebSocket][number % 2];
            let (url, sha256) = (server.url(transport), server.certificate_sha256());
            let token = server.token("churn");
            churn.spawn(async move {
                let mut held = Vec::new();
                for _ in 0..5_000 {
                    let client = Client::builder(url.clone()).trust(Trust::Hashes(vec![sha256]));
                    held.extend(client.token(token.clone()).connect().await);
                    if held.len() > 4 {
                        held.clear();
                    }
                }
            });
        }
        for transport in [Transport::Quic, Transport::WebTransport] {
            let newcomer = |number| visits(&server, transport, OTHER, format!("user-{number}"));
            assert_eq!(count(newcomer).await, NEWCOMERS, "{transport}");
        }
    })
    .await;
}

//! Too many clients, and clients that never finish their handshake (PROTOCOL §2).

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    both,
    raw::{Bystander, Dial, Member, Raw, assert_refusal, closed, hello},
};
use quinn::{ConnectionError, TransportErrorCode};
use tidings::{Code, client::Transport, server::Limits, testing::TestServer};
use tokio::net::UdpSocket;

both!(more_sessions_than_the_server_takes_are_refused);
async fn more_sessions_than_the_server_takes_are_refused(transport: Transport) {
    let mut limits = Limits::default();
    limits.sessions = 3;
    let server = TestServer::start_with(|builder| builder.limits(limits)).await;
    let mut bystander = Bystander::join(&server, transport).await;
    let dial = Dial::new(&server, transport);
    let mut first = Member::join(&server, transport).await;
    let (second, _) = dial.welcomed(server.token("43")).await;
    for _ in 0..5 {
        let refusal = closed(&dial.session().await).await;
        assert_refusal(
            "the fourth",
            &refusal,
            Code::TOO_MANY_SESSIONS,
            "3 sessions",
        );
        bystander.is_undisturbed().await;
        first.works().await;
    }
    second.session.close(0, b"bye");
    // The server has to hear of it.
    let (mut third, _) = loop {
        let mut raw = match dial.try_open().await {
            Ok(raw) => raw,
            Err((code, _)) => {
                assert_eq!(code, Code::TOO_MANY_SESSIONS);
                continue;
            }
        };
        raw.send(hello(Some(server.token("44")))).await;
        match raw.frames.read().await {
            Ok(Some(frame)) => break (raw, frame),
            _ => assert_eq!(raw.closed().await.0, Code::TOO_MANY_SESSIONS),
        }
    };
    third.ping().await;
}

/// Passes datagrams on between one client and a server, and looks at them.
struct Proxy {
    address: SocketAddr,
    from_server: Arc<AtomicUsize>,
    retries: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// `answers`: whether the client gets what the server sends. Where it does not, the server gets nothing more of it either
    /// once it has answered.
    async fn start(server: SocketAddr, answers: bool) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        back.connect(server).await.unwrap();
        let address = front.local_addr().unwrap();
        let from_server = Arc::new(AtomicUsize::new(0));
        let retries = Arc::new(AtomicUsize::new(0));
        let (all, retry) = (Arc::clone(&from_server), Arc::clone(&retries));
        let task = tokio::spawn(async move {
            let (mut out, mut back_in) = ([0; 65536], [0; 65536]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((length, from)) = front.recv_from(&mut out) => {
                        client = Some(from);
                        if !answers && all.load(Ordering::SeqCst) > 0 {
                            continue;
                        }
                        drop(back.send(&out[..length]).await);
                    }
                    Ok(length) = back.recv(&mut back_in) => {
                        all.fetch_add(1, Ordering::SeqCst);
                        // RFC 9000 §17.2: long header, fixed bit, type 3.
                        if back_in[0] & 0xf0 == 0xf0 {
                            retry.fetch_add(1, Ordering::SeqCst);
                        }
                        if let Some(client) = client.filter(|_| answers) {
                            drop(front.send_to(&back_in[..length], client).await);
                        }
                    }
                }
            }
        });
        Self {
            address,
            from_server,
            retries,
            task,
        }
    }

    fn retries(&self) -> usize {
        self.retries.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn assert_connection_refused(error: &ConnectionError) {
    match error {
        ConnectionError::ConnectionClosed(close) => {
            assert_eq!(
                close.error_code,
                TransportErrorCode::CONNECTION_REFUSED,
                "{error:?}"
            );
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// Tries until the server lets it in. Refusals are all that may stand before.
async fn gets_in(server: &TestServer, dial: &Dial) -> Raw {
    loop {
        match dial.quic().await {
            Ok(connection) => {
                let mut raw = dial.open_on(connection).await;
                raw.greet(server.token("42")).await;
                return raw;
            }
            Err(error) => assert_connection_refused(&error),
        }
    }
}

both!(half_open_connections_are_bounded_and_go_at_the_deadline);
async fn half_open_connections_are_bounded_and_go_at_the_deadline(transport: Transport) {
    const SOFT: usize = 8;
    const HARD: usize = 20;
    let mut limits = Limits::default();
    limits.soft_handshakes = SOFT;
    limits.hard_handshakes = HARD;
    let server =
        TestServer::start_with(|builder| builder.limits(limits).deadline(Duration::from_secs(4)))
            .await;
    let mut bystander = Bystander::join(&server, transport).await;
    let dial = Dial::new(&server, transport);
    let mut held = Vec::new();
    for number in 0..HARD {
        let proxy = Proxy::start(server.address(), true).await;
        held.push(dial.clone().to(proxy.address).quic().await.unwrap());
        // The bystander and whoever else is welcome do not count.
        assert_eq!(
            proxy.retries(),
            usize::from(number >= SOFT),
            "number {number}"
        );
        // The proxy goes: nothing more is to be heard of this client until the server gives up.
        drop(proxy);
    }
    let mut others = tokio::task::JoinSet::new();
    for _ in HARD..200 {
        let dial = dial.clone();
        others.spawn(async move { dial.quic().await.map(drop) });
    }
    while let Some(other) = others.join_next().await {
        assert_connection_refused(&other.unwrap().unwrap_err());
    }
    bystander.is_undisturbed().await;
    // Until the deadline nobody gets in, then somebody does.
    let mut good = gets_in(&server, &dial).await;
    good.ping().await;
    bystander.is_undisturbed().await;
    drop(held);
}

both!(a_handshake_that_is_never_finished_goes_at_the_deadline);
async fn a_handshake_that_is_never_finished_goes_at_the_deadline(transport: Transport) {
    let mut limits = Limits::default();
    limits.hard_handshakes = 1;
    let server =
        TestServer::start_with(|builder| builder.limits(limits).deadline(Duration::from_secs(1)))
            .await;
    let mut bystander = Bystander::join(&server, transport).await;
    let dial = Dial::new(&server, transport);
    let proxy = Proxy::start(server.address(), false).await;
    let start = Instant::now();
    // It goes on knocking, and never hears an answer.
    let deaf = dial.clone().to(proxy.address);
    let deaf = tokio::spawn(async move { deaf.quic().await.map(drop) });
    while proxy.from_server.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    deaf.abort();
    assert_connection_refused(&dial.quic().await.unwrap_err());
    bystander.is_undisturbed().await;
    let mut good = gets_in(&server, &dial).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1), "after {took:?} already");
    good.ping().await;
    bystander.is_undisturbed().await;
}

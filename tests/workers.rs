//! Several workers share one port: each has its own connections, and a publication reaches all of them.

mod common;

use std::{net::Ipv4Addr, num::NonZeroU8, time::Duration};

use common::{both, each, publication, raw::Dial, text};
use tidings::{
    Code, Message,
    auth::AllowAnonymous,
    client::Transport,
    server::{Builder, Server, ServerError},
    testing::TestServer,
};
use tokio::time::timeout;

fn four(builder: Builder) -> Builder {
    builder.workers(NonZeroU8::new(4).unwrap())
}

/// Far below the time after which a connection is given up.
const SOON: Duration = Duration::from_secs(5);

both!(a_client_whose_address_changes_keeps_its_session);
async fn a_client_whose_address_changes_keeps_its_session(transport: Transport) {
    let server = TestServer::start_with(four).await;
    let dial = Dial::new(&server, transport);
    let local = (Ipv4Addr::LOCALHOST, 0);
    let endpoint = quinn::Endpoint::client(local.into()).unwrap();
    let mut raw = dial.open_on(dial.quic_from(&endpoint).await.unwrap()).await;
    raw.greet(server.token("42")).await;
    let subscribed = raw.subscribe("chat-room-1").await.unwrap();
    let mut room = raw.stream(subscribed.subscription).await;
    let channel = "chat-room-1".parse().unwrap();
    // The system sends each new address to a worker of its own choice: that all of these meet the first is not to be feared.
    for number in 0..12 {
        endpoint
            .rebind(std::net::UdpSocket::bind(local).unwrap())
            .unwrap();
        timeout(SOON, raw.ping()).await.expect("the same session");
        let line = format!("line {number}");
        server
            .broker()
            .post(&channel, Message::text(line.as_str()))
            .unwrap();
        timeout(SOON, room.hears(&line)).await.expect("its stream");
    }
}

each!(a_publication_reaches_the_readers_of_every_worker_in_order);
async fn a_publication_reaches_the_readers_of_every_worker_in_order(transport: Transport) {
    const LINES: usize = 50;
    let server = TestServer::start_with(four).await;
    let mut readers = Vec::new();
    for number in 0..24 {
        let user = number.to_string();
        let client = server.client(&user, transport).await.unwrap();
        readers.push((client.subscribe("chat-room-1").await.unwrap(), client));
    }
    let channel = "chat-room-1".parse().unwrap();
    for line in 0..LINES {
        // From another thread, and from a session on one of the workers.
        let line = line.to_string();
        if line.len() == 1 {
            server
                .broker()
                .post(&channel, Message::text(line.as_str()))
                .unwrap();
        } else {
            let (_, client) = &readers[line.len()];
            client
                .publish("chat-room-1", Message::text(line.as_str()))
                .await
                .unwrap();
        }
    }
    for (reader, _) in &mut readers {
        for line in 0..LINES {
            let publication = timeout(SOON, publication(reader)).await.expect("a line");
            assert_eq!(text(&publication), line.to_string());
            assert_eq!(publication.offset, line as u64 + 1);
        }
    }
}

both!(every_client_is_told_when_a_server_is_dropped);
async fn every_client_is_told_when_a_server_is_dropped(transport: Transport) {
    // More than a worker drives in one turn.
    const CLIENTS: usize = 200;
    let one = |builder: Builder| builder.workers(NonZeroU8::MIN);
    let server = TestServer::start_with(one).await;
    let dial = Dial::new(&server, transport);
    let mut sessions = Vec::new();
    for number in 0..CLIENTS {
        sessions.push(dial.welcomed(server.token(&number.to_string())).await.0);
    }
    drop(server);
    for raw in sessions {
        let ended = timeout(SOON, raw.session.closed()).await;
        ended.expect("a word, and not the idle timeout");
        // The client's library of WebTransport closes in answer, and then no longer knows why.
        if transport == Transport::Quic {
            assert_eq!(raw.closed().await.0, Code::GOING_AWAY);
        }
    }
}

#[tokio::test]
async fn a_port_that_another_server_has_is_refused_though_workers_share_it() {
    let server = TestServer::start_with(four).await;
    let second = || {
        four(Server::builder())
            .listen(server.address())
            .self_signed()
            .authenticator(AllowAnonymous::only())
            .bind()
    };
    match second().await {
        Err(ServerError::Bind(error)) => {
            assert!(error.to_string().contains(&server.address().to_string()));
        }
        other => panic!("{other:?}"),
    }
    let address = server.address();
    server.stop().await;
    std::net::UdpSocket::bind(address).expect("the port is free when the server has ended");
}

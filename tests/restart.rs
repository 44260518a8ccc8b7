//! Servers that come back on the same address, and what clients make of it.

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use common::{both, certificate, each, gate::Gate, publication, text};
use tidings::{
    ChannelName, Message,
    auth::{JwtAuthenticator, TokenIssuer, VerifyingKey},
    client::{Builder, Client, Event, State, Transport, Trust},
    server::Server,
    testing::TestServer,
    transport::Certificate,
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

const SECRET: &[u8] = b"a secret of a test, which is long enough";

/// A port that no client is given by the system, so that a server can come back to it.
fn somewhere() -> SocketAddr {
    let port = rand::random_range(20_000..32_000);
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// A server on an address of its own with a certificate of its own, so that it can come back. What was published `before` it met
/// anybody is in its first room.
async fn serve(
    address: SocketAddr,
    certificate: Certificate,
    before: &[&str],
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let authenticator = JwtAuthenticator::new(vec![VerifyingKey::hs256(SECRET).unwrap()]).unwrap();
    let server = Server::builder()
        .listen(address)
        .certificate(certificate)
        .authenticator(authenticator);
    let server = server.bind().await.unwrap();
    for text in before {
        let room = ChannelName::parse("chat-room-1").unwrap();
        server.broker().post(&room, Message::text(*text)).unwrap();
    }
    let address = server.local_address();
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    (address, stop, running)
}

/// A client of such a server.
async fn connect(transport: Transport, address: SocketAddr, pem: String) -> Client {
    builder(transport, address, pem).connect().await.unwrap()
}

fn builder(transport: Transport, address: SocketAddr, pem: String) -> Builder {
    let url = match transport {
        Transport::Quic => format!("quic://{address}"),
        Transport::WebTransport => format!("https://{address}"),
        _ => format!("wss://{address}"),
    };
    let token = TokenIssuer::new(SECRET)
        .unwrap()
        .issue(&"1".parse().unwrap(), Duration::from_secs(3600));
    Client::builder(url)
        .token(token)
        .trust(Trust::Pem(pem.into_bytes()))
}

each!(a_client_survives_a_restart_of_the_server);
async fn a_client_survives_a_restart_of_the_server(transport: Transport) {
    let (certificate, pem, _) = certificate();
    let (address, stop, running) = serve(somewhere(), certificate.clone(), &[]).await;
    let client = connect(transport, address, pem).await;
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    client
        .publish("chat-room-1", Message::text("before"))
        .await
        .unwrap();
    assert_eq!(text(&publication(&mut room).await), "before");
    stop.send(()).unwrap();
    running.await.unwrap();
    let (_, _stop, _running) = serve(address, certificate, &[]).await;
    let event = room.next().await.unwrap();
    assert!(matches!(event, Event::Break { .. }), "{event:?}");
    assert_eq!(event.missed(), None, "another epoch: it cannot be known");
    client
        .publish("chat-room-1", Message::text("after"))
        .await
        .unwrap();
    let received = publication(&mut room).await;
    assert_eq!((text(&received), received.offset), ("after", 1));
}

each!(what_another_log_still_has_is_read_from_its_oldest_on);
async fn what_another_log_still_has_is_read_from_its_oldest_on(transport: Transport) {
    let (certificate, pem, _) = certificate();
    let (address, stop, running) = serve(somewhere(), certificate.clone(), &[]).await;
    let client = connect(transport, address, pem).await;
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap();
    // Published while the client was away, to a server that knows nothing of what was before.
    let (_, _stop, _running) = serve(address, certificate, &["1", "2", "3"]).await;
    let event = room.next().await.unwrap();
    let Event::Break { before, after } = event else {
        panic!("{event:?}");
    };
    assert_ne!(before.epoch, after.epoch);
    assert_eq!(after.offset, 0);
    for number in ["1", "2", "3"] {
        assert_eq!(text(&publication(&mut room).await), number);
    }
}

each!(an_end_without_a_word_is_followed_by_another_connection);
async fn an_end_without_a_word_is_followed_by_another_connection(transport: Transport) {
    let (certificate, pem, _) = certificate();
    let (address, _stop, running) = serve(somewhere(), certificate.clone(), &[]).await;
    let client = connect(transport, address, pem).await;
    let mut global = client.subscribe("global").await.unwrap();
    // Every task of the server is dropped where it stands.
    running.abort();
    let mut states = client.states();
    states
        .wait_for(|state| matches!(state, State::Reconnecting { .. }))
        .await
        .unwrap();
    free(address).await;
    let _again = serve(address, certificate, &[]).await;
    assert!(matches!(global.next().await, Some(Event::Break { .. })));
}

/// Waits until whoever had this port is gone.
async fn free(address: SocketAddr) {
    while std::net::UdpSocket::bind(address).is_err() {
        tokio::task::yield_now().await;
    }
}

both!(who_sends_to_a_restarted_server_is_told_so);
async fn who_sends_to_a_restarted_server_is_told_so(transport: Transport) {
    let (certificate, pem, _) = certificate();
    let (address, _stop, running) = serve(somewhere(), certificate.clone(), &[]).await;
    let gate = Gate::start(address).await;
    let client = connect(transport, gate.address, pem).await;
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    // The server is gone without a word that reaches the client, and another one comes before the client notices.
    gate.hold();
    running.abort();
    free(address).await;
    let _again = serve(address, certificate, &["1"]).await;
    gate.lose();
    // By silence it would be noticed after half a minute.
    let pinged = timeout(Duration::from_secs(20), client.ping()).await;
    pinged.expect("it is told at once").unwrap_err();
    assert!(matches!(room.next().await, Some(Event::Break { .. })));
    assert_eq!(text(&publication(&mut room).await), "1");
}

each!(a_test_server_starts_again_in_the_same_place);
async fn a_test_server_starts_again_in_the_same_place(transport: Transport) {
    let mut server =
        TestServer::start_with(|builder| builder.plain_websockets((Ipv4Addr::LOCALHOST, 0).into()))
            .await;
    let (address, plain) = (server.address(), server.plain_websocket_address());
    let (hash, token) = (server.certificate_sha256(), server.token("1"));
    let client = server.client_builder(transport).token(&token);
    let client = client.connect().await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    let name = ChannelName::parse("chat-room-1").unwrap();
    for round in ["restart", "kill", "shut down"] {
        match round {
            "restart" => server.restart().await,
            "kill" => {
                server.kill().await;
                server.start_again().await;
            }
            _ => {
                server.shut_down().await;
                server.shut_down().await;
                server.start_again().await;
                server.start_again().await;
            }
        }
        assert_eq!(
            (server.address(), server.plain_websocket_address()),
            (address, plain)
        );
        assert_eq!(server.certificate_sha256(), hash);
        let event = room.next().await.unwrap();
        assert!(matches!(event, Event::Break { .. }), "{round}: {event:?}");
        let posted = server.broker().post(&name, Message::text(round)).unwrap();
        let received = publication(&mut room).await;
        assert_eq!(text(&received), round);
        assert_eq!(room.reached(), Some(posted), "the position of the new log");
    }
    // A token of before is taken, and so is a new client.
    let again = server
        .client_builder(transport)
        .token(token)
        .connect()
        .await;
    again.unwrap().ping().await.unwrap();
    server.stop().await;
}

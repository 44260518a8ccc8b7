//! From start to end: shutdown, certificates, tokens, connections that break.

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use common::{TempDir, both, bounded, publication, text};
use tidings::{
    ChannelName, Code, Message,
    auth::{JwtAuthenticator, TokenIssuer, VerifyingKey},
    client::{Client, ClientError, Event, State, Transport, Trust},
    endpoint::{Endpoint, Session},
    server::{CertificateFiles, Server},
    testing::TestServer,
    transport::Certificate,
};
use tokio::sync::oneshot;

both!(a_drain_under_load_loses_nothing_that_was_accepted);
async fn a_drain_under_load_loses_nothing_that_was_accepted(transport: Transport) {
    let mut server = TestServer::start().await;
    let builder = |user: &str| {
        server
            .client_builder(transport)
            .token(server.token(user))
            .reconnect(false)
    };
    let mut readers = Vec::new();
    for number in 0..5 {
        let client = builder(&format!("r{number}")).connect().await.unwrap();
        let mut subscription = client.subscribe("chat-room-1").await.unwrap();
        readers.push(tokio::spawn(async move {
            let mut last = 0;
            loop {
                match subscription.next().await {
                    Some(Event::Publication(publication)) => {
                        assert_eq!(publication.offset, last + 1);
                        last = publication.offset;
                    }
                    Some(Event::End { code, .. }) => return (last, code),
                    other => panic!("{other:?}"),
                }
            }
        }));
    }
    let accepted = Arc::new(AtomicUsize::new(0));
    let mut publishers = Vec::new();
    for number in 0..4 {
        let client = builder(&format!("p{number}")).connect().await.unwrap();
        let accepted = Arc::clone(&accepted);
        publishers.push(tokio::spawn(async move {
            let mut last = 0;
            loop {
                match client.publish("chat-room-1", Message::text("x")).await {
                    Ok(acknowledgement) => {
                        last = acknowledgement.position.offset;
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => return (last, error),
                }
            }
        }));
    }
    while accepted.load(Ordering::Relaxed) < 500 {
        tokio::task::yield_now().await;
    }
    server.begin_stop();
    let mut newest = 0;
    for publisher in publishers {
        let (last, error) = publisher.await.unwrap();
        newest = newest.max(last);
        let interrupted = matches!(error, ClientError::Interrupted(_) | ClientError::Closed(_));
        assert!(
            error.code() == Some(Code::GOING_AWAY) || interrupted,
            "{error}"
        );
    }
    let stats = server.broker().stats();
    assert_eq!(
        stats.publications, newest,
        "what was accepted was acknowledged"
    );
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (newest, Code::GOING_AWAY));
    }
    server.stop().await;
}

both!(an_idle_server_stops_at_once_and_lets_nobody_in);
async fn an_idle_server_stops_at_once_and_lets_nobody_in(transport: Transport) {
    let server = TestServer::start_with(|builder| builder.grace(Duration::from_secs(600))).await;
    let client = server
        .client_builder(transport)
        .token(server.token("1"))
        .reconnect(false);
    let client = client.connect().await.unwrap();
    let again = server
        .client_builder(transport)
        .token(server.token("1"))
        .deadline(Duration::from_millis(500));
    // Well within the grace, as nothing is left to drain.
    server.stop().await;
    let (code, _) = client.closed().await;
    assert_eq!(code, Some(Code::GOING_AWAY));
    assert!(matches!(again.connect().await, Err(ClientError::Dial(_))));
}

both!(a_client_that_is_closed_has_told_the_server);
async fn a_client_that_is_closed_has_told_the_server(transport: Transport) {
    let server = TestServer::start().await;
    for _ in 0..10 {
        let connecting = server
            .client_builder(transport)
            .token(server.token("42"))
            .connect();
        // As in a process of its own, which ends with the call: nothing is sent after it.
        let client = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let client = connecting.await.unwrap();
                let subscription = client.subscribe("global").await.unwrap();
                drop(subscription);
                client.close().await;
            });
            runtime.shutdown_background();
        });
        tokio::task::spawn_blocking(move || client.join().unwrap())
            .await
            .unwrap();
        // Far less than the idle timeout, after which the server would find out by itself.
        let gone = async {
            while server.broker().stats().subscriptions > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .expect("the server was told");
    }
}

both!(a_session_ends_with_its_token);
async fn a_session_ends_with_its_token(transport: Transport) {
    let server = TestServer::start().await;
    let token = server.token_for("1", Duration::from_secs(2));
    let client = server
        .client_builder(transport)
        .token(token)
        .connect()
        .await
        .unwrap();
    let mut global = client.subscribe("global").await.unwrap();
    let start = tokio::time::Instant::now();
    let (code, reason) = client.closed().await;
    assert_eq!(code, Some(Code::TOKEN_EXPIRED), "{reason}");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "within a second of its time"
    );
    assert!(matches!(
        global.next().await,
        Some(Event::End {
            code: Code::TOKEN_EXPIRED,
            ..
        })
    ));
}

both!(a_client_that_can_ask_for_tokens_outlives_them);
async fn a_client_that_can_ask_for_tokens_outlives_them(transport: Transport) {
    let server = TestServer::start().await;
    let tokens = Mutex::new(vec![
        server.token("1"),
        server.token_for("1", Duration::from_secs(1)),
    ]);
    let asked = server.client_builder(transport).token_from(move || {
        let token = tokens
            .lock()
            .unwrap()
            .pop()
            .ok_or_else(|| "asked too often".to_owned());
        async { token }
    });
    let client = asked.connect().await.unwrap();
    let mut global = client.subscribe("global").await.unwrap();
    let first = client.welcome().unwrap().session;
    let event = global.next().await.unwrap();
    assert!(matches!(event, Event::Break { .. }), "{event:?}");
    assert_eq!(
        event.missed(),
        Some(0),
        "the channel lives on, and nothing was published"
    );
    server.broker().announce("x").unwrap();
    assert_eq!(text(&publication(&mut global).await), "x");
    assert_ne!(client.welcome().unwrap().session, first);
}

/// User code that keeps the sessions, to end them from a test.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Session>>>);

#[async_trait::async_trait]
impl Endpoint for Keeper {
    async fn session_opened(&self, session: &Session) {
        self.0.lock().unwrap().push(session.clone());
    }
}

both!(a_break_is_told_with_what_it_cost);
async fn a_break_is_told_with_what_it_cost(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    let channel = ChannelName::parse("chat-room-1").unwrap();
    server
        .broker()
        .post(&channel, Message::text("before"))
        .unwrap();
    assert_eq!(text(&publication(&mut room).await), "before");
    let session = keeper.0.lock().unwrap()[0].clone();
    session.close(Code(2000), "come back");
    let mut states = client.states();
    states
        .wait_for(|state| matches!(state, State::Reconnecting { .. }))
        .await
        .unwrap();
    server
        .broker()
        .post(&channel, Message::text("missed"))
        .unwrap();
    // A publish in between waits for the next connection.
    client
        .publish("chat-room-2", Message::text("x"))
        .await
        .unwrap();
    let event = room.next().await.unwrap();
    assert!(matches!(event, Event::Break { .. }), "{event:?}");
    assert_eq!(event.missed(), Some(1));
    server
        .broker()
        .post(&channel, Message::text("after"))
        .unwrap();
    assert_eq!(text(&publication(&mut room).await), "after");
    client.close().await;
    assert!(matches!(
        room.next().await,
        Some(Event::End {
            code: Code::CLOSED,
            ..
        })
    ));
    assert_eq!(room.next().await, None);
}

both!(a_code_that_says_so_ends_a_client);
async fn a_code_that_says_so_ends_a_client(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    keeper.0.lock().unwrap()[0].close(Code(1000), "do not come back");
    let (code, reason) = client.closed().await;
    assert_eq!(
        (code, reason.as_str()),
        (Some(Code(1000)), "do not come back")
    );
    let error = client
        .publish("chat-room-1", Message::text("x"))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Closed(_)), "{error}");
    assert_eq!(keeper.0.lock().unwrap().len(), 1, "it did not come back");
}

const SECRET: &[u8] = b"a secret of a test, which is long enough";

/// A server on an address of its own with a certificate of its own, so that it can come back.
async fn serve(
    address: SocketAddr,
    certificate: Certificate,
) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let authenticator = JwtAuthenticator::new(vec![VerifyingKey::hs256(SECRET).unwrap()]).unwrap();
    let server = Server::builder()
        .listen(address)
        .certificate(certificate)
        .authenticator(authenticator);
    let server = server.bind().await.unwrap();
    let address = server.local_address().unwrap();
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    (address, stop, running)
}

fn certificate() -> (Certificate, String, String) {
    Certificate::self_signed(
        &["localhost", "127.0.0.1"],
        SystemTime::now(),
        Duration::from_secs(3600),
    )
    .unwrap()
}

both!(a_client_survives_a_restart_of_the_server);
async fn a_client_survives_a_restart_of_the_server(transport: Transport) {
    let (certificate, pem, _) = certificate();
    let (address, stop, running) = serve("127.0.0.1:0".parse().unwrap(), certificate.clone()).await;
    let url = match transport {
        Transport::Quic => format!("quic://{address}"),
        _ => format!("https://{address}"),
    };
    let token = TokenIssuer::new(SECRET)
        .unwrap()
        .issue(&"1".parse().unwrap(), Duration::from_secs(3600));
    let client = Client::builder(url)
        .token(token)
        .trust(Trust::Pem(pem.into_bytes()))
        .connect()
        .await
        .unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    client
        .publish("chat-room-1", Message::text("before"))
        .await
        .unwrap();
    assert_eq!(text(&publication(&mut room).await), "before");
    stop.send(()).unwrap();
    running.await.unwrap();
    let (_, _stop, _running) = serve(address, certificate).await;
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

both!(certificates_are_exchanged_under_connects);
async fn certificates_are_exchanged_under_connects(transport: Transport) {
    let folder = TempDir::new();
    let (chain, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let (first, first_chain, first_key) = certificate();
    let (second, second_chain, second_key) = certificate();
    std::fs::write(&chain, &first_chain).unwrap();
    std::fs::write(&key, &first_key).unwrap();
    let mut files = CertificateFiles::new(&chain, &key);
    files.interval = Duration::from_millis(10);
    let server = TestServer::start_with(|builder| builder.certificate_files(files)).await;

    let connect = |hashes| {
        server
            .client_builder(transport)
            .token(server.token("1"))
            .trust(Trust::Hashes(hashes))
            .connect()
    };
    let old_session = connect(vec![first.sha256()]).await.unwrap();
    let stop = AtomicBool::new(false);
    let connecting = async {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            // Whatever is shown, no connect fails.
            connect(vec![first.sha256(), second.sha256()])
                .await
                .unwrap();
            count += 1;
        }
        count
    };
    let exchanging = async {
        // Between the two writes the files are no pair: the old certificate stays.
        std::fs::write(&chain, &second_chain).unwrap();
        for _ in 0..5 {
            connect(vec![first.sha256()]).await.unwrap();
        }
        std::fs::write(&key, &second_key).unwrap();
        while connect(vec![second.sha256()]).await.is_err() {}
        assert!(matches!(
            connect(vec![first.sha256()]).await,
            Err(ClientError::Dial(_))
        ));
        stop.store(true, Ordering::Relaxed);
    };
    let (count, ()) = tokio::join!(connecting, exchanging);
    assert!(count > 0);
    old_session.ping().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    bounded(async {
        let folder = TempDir::new();
        let (chain, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        let load = || {
            CertificateFiles::new(&chain, &key)
                .load()
                .unwrap_err()
                .to_string()
        };
        assert!(load().contains("cert.pem"), "{}", load());
        let (_, first_chain, first_key) = certificate();
        std::fs::write(&chain, &first_chain).unwrap();
        assert!(load().contains("key.pem"), "{}", load());
        std::fs::write(&key, certificate().2).unwrap();
        assert!(
            load().contains("the private key does not belong to the certificate"),
            "{}",
            load()
        );
        std::fs::write(&key, "nothing").unwrap();
        assert!(load().contains("no private key"), "{}", load());
        std::fs::write(&chain, "nothing").unwrap();
        assert!(load().contains("no certificate"), "{}", load());
        std::fs::write(&chain, first_chain).unwrap();
        std::fs::write(&key, first_key).unwrap();
        CertificateFiles::new(&chain, &key).load().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let server = TestServer::start().await;
    let second = Server::builder()
        .listen(server.address())
        .self_signed()
        .authenticator(tidings::auth::AllowAnonymous::only())
        .bind()
        .await
        .unwrap_err();
    let text = second.to_string();
    assert!(
        text.contains(&server.address().to_string()) && text.contains("in use"),
        "{text}"
    );
}

both!(a_subscription_that_is_over_can_be_made_again);
async fn a_subscription_that_is_over_can_be_made_again(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    let again = client.subscribe("chat-room-1").await.unwrap_err();
    assert!(
        matches!(again, ClientError::AlreadySubscribed(_)),
        "{again}"
    );
    // Given up halfway, and at once asked for again.
    for _ in 0..50 {
        let half = client.subscribe("chat-room-2");
        drop(tokio::time::timeout(Duration::from_micros(50), half).await);
    }
    let mut second = client.subscribe("chat-room-2").await.unwrap();
    for (room, name) in [(&mut room, "chat-room-1"), (&mut second, "chat-room-2")] {
        client.publish(name, Message::text("x")).await.unwrap();
        assert_eq!(text(&publication(room).await), "x");
    }
}

both!(a_message_above_the_limit_harms_only_itself);
async fn a_message_above_the_limit_harms_only_itself(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    let large = Message::data("a/b", vec![0; 1_000_000]);
    let refused = client
        .publish("chat-room-1", large.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ClientError::TooLarge { max: 65536, .. }),
        "{refused}"
    );
    // Also while there is no connection whose limits could be looked at.
    keeper.0.lock().unwrap()[0].close(Code(2000), "come back");
    let mut states = client.states();
    states
        .wait_for(|state| matches!(state, State::Reconnecting { .. }))
        .await
        .unwrap();
    let refused = client.publish("chat-room-1", large).await.unwrap_err();
    assert!(matches!(refused, ClientError::TooLarge { .. }), "{refused}");
    client
        .publish("chat-room-1", Message::text("x"))
        .await
        .unwrap();
}

both!(an_end_without_a_word_is_followed_by_another_connection);
async fn an_end_without_a_word_is_followed_by_another_connection(transport: Transport) {
    let (certificate, pem, _) = certificate();
    let (address, _stop, running) =
        serve("127.0.0.1:0".parse().unwrap(), certificate.clone()).await;
    let url = match transport {
        Transport::Quic => format!("quic://{address}"),
        _ => format!("https://{address}"),
    };
    let token = TokenIssuer::new(SECRET)
        .unwrap()
        .issue(&"1".parse().unwrap(), Duration::from_secs(3600));
    let client = Client::builder(url)
        .token(token)
        .trust(Trust::Pem(pem.into_bytes()))
        .connect()
        .await
        .unwrap();
    let mut global = client.subscribe("global").await.unwrap();
    // Every task of the server is dropped where it stands.
    running.abort();
    let mut states = client.states();
    states
        .wait_for(|state| matches!(state, State::Reconnecting { .. }))
        .await
        .unwrap();
    let _again = loop {
        let bound = std::net::UdpSocket::bind(address).is_ok();
        if bound {
            break serve(address, certificate.clone()).await;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(global.next().await, Some(Event::Break { .. })));
}

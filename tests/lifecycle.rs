//! From start to end: shutdown, certificates, ports.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    TempDir, both, bounded, certificate, each,
    raw::{Dial, close_code},
};
use tidings::{
    Code, Message,
    auth::{Rule, Rules, Who},
    client::{ClientError, Event, Transport, Trust},
    server::{CertificateFiles, Server},
    testing::TestServer,
    wire::Pattern,
};

each!(a_drain_under_load_loses_nothing_that_was_accepted);
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

each!(an_idle_server_stops_at_once_and_lets_nobody_in);
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

each!(a_client_that_is_closed_has_told_the_server);
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

each!(a_session_ends_with_its_token);
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

each!(certificates_are_exchanged_under_connects);
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

each!(a_drain_acknowledges_what_it_accepted);
async fn a_drain_acknowledges_what_it_accepted(transport: Transport) {
    // Nobody reads: the drain has nothing to wait for but the answers.
    let room = Pattern::parse("chat-room-{room}").unwrap();
    let rule = Rule::new(room, Who::Authenticated, Who::Authenticated);
    let rules = Rules::new(vec![rule]).unwrap();
    let mut server = TestServer::start_with(|builder| builder.rules(rules)).await;
    let accepted = Arc::new(AtomicUsize::new(0));
    let mut publishers = Vec::new();
    for number in 0..4 {
        let client = server
            .client_builder(transport)
            .token(server.token(&number.to_string()));
        let client = client.reconnect(false).connect().await.unwrap();
        for _ in 0..8 {
            let (client, accepted) = (client.clone(), Arc::clone(&accepted));
            publishers.push(tokio::spawn(async move {
                while client
                    .publish("chat-room-1", Message::text("x"))
                    .await
                    .is_ok()
                {
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    while accepted.load(Ordering::Relaxed) < 500 {
        tokio::task::yield_now().await;
    }
    server.begin_stop();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let published = server.broker().stats().publications;
    assert_eq!(published, accepted.load(Ordering::Relaxed) as u64);
    server.stop().await;
}

both!(a_drain_tells_who_is_not_let_in_yet_to_come_back);
async fn a_drain_tells_who_is_not_let_in_yet_to_come_back(transport: Transport) {
    let mut server = TestServer::start().await;
    let connection = Dial::new(&server, transport).quic().await.unwrap();
    // QUIC is ready on both sides, and the server waits for CONNECT or Hello.
    while connection.stats().frame_rx.handshake_done == 0 {
        tokio::task::yield_now().await;
    }
    if transport == Transport::WebTransport {
        connection.accept_uni().await.unwrap();
    }
    server.begin_stop();
    let (code, reason) = close_code(&connection.closed().await, transport);
    assert_eq!(code, Code::GOING_AWAY, "{reason}");
}

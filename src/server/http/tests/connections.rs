use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Client, LONG, Server, head, patient};
use crate::{broker, server::http::Config};

const SHORT: Duration = Duration::from_millis(100);
const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: t\r\n\r\n";
const BODY: &str = r#"{"text":"x"}"#;

async fn server(config: Config) -> Server {
    Server::with(broker::Config::default(), config).await
}

/// A request whose handler is reading the body.
async fn in_flight(server: &Server) -> Client {
    let mut client = server.connect().await;
    let head = head("/v1/announce", BODY.len());
    client
        .send(&format!("{head}\r\nExpect: 100-continue\r\n\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 100);
    client
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = server(patient()).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert_eq!(client.post("/v1/announce", BODY).await.status, 200);
        // An error of ours does not end it either.
        assert_eq!(client.post("/v1/announce", "{").await.status, 400);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_head_that_is_slow_or_never_comes_ends_the_connection() {
    let server = server(Config {
        head: SHORT,
        ..patient()
    })
    .await;
    for start in [
        "",
        "GET /hea",
        "GET /health HTTP/1.1\r\nHost: t\r\nX-Slow: ",
    ] {
        let mut client = server.connect().await;
        client.send(start).await;
        assert_eq!(client.closed().await, "", "{start}");
    }
    // After an answer too.
    let mut client = server.connect().await;
    client.send(HEALTH).await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /hea").await;
    assert_eq!(client.closed().await, "");
    // A byte now and then buys no time.
    let mut client = server.connect().await;
    let drip = async {
        while client.stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await
        }
    };
    tokio::time::timeout(LONG, drip)
        .await
        .expect("the connection stays open");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_slow_is_answered_and_not_published() {
    let server = server(Config {
        request: SHORT,
        ..patient()
    })
    .await;
    for path in ["/v1/announce", "/unknown"] {
        let mut client = server.connect().await;
        client
            .send(&format!("{}\r\n\r\n{{\"te", head(path, BODY.len())))
            .await;
        let answer = client.answer().await;
        let message = answer.error(408, "request_timeout", None);
        assert!(message.contains("within 100ms"), "{message}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.closed().await, "");
    }
    assert_eq!(server.broker.stats().publications, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off() {
    let config = Config {
        head: SHORT,
        request: SHORT,
        age: SHORT * 5,
        ..patient()
    };
    assert_eq!(config.lifetime(), SHORT * 8);
    let server = server(config).await;
    let mut client = server.connect().await;
    let request = "GET /openapi.json HTTP/1.1\r\nHost: t\r\n\r\n".repeat(100);
    let flood = async { while client.stream.write_all(request.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(LONG, flood)
        .await
        .expect("the connection stays open");
    server.stop().await;
}

#[tokio::test]
async fn an_old_connection_closes_with_an_answer() {
    let server = server(Config {
        age: Duration::ZERO,
        ..patient()
    })
    .await;
    let mut client = server.connect().await;
    let answer = client.post("/v1/announce", BODY).await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(client.closed().await, "");
    server.stop().await;
}

#[tokio::test]
async fn one_connection_above_the_limit_waits_for_another_to_end() {
    let server = server(Config {
        connections: 2,
        ..patient()
    })
    .await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for client in [&mut first, &mut second] {
        client.send(HEALTH).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let mut third = server.connect().await;
    third.send(HEALTH).await;
    let early = tokio::time::timeout(SHORT, third.read_answer()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    assert_eq!(third.answer().await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_the_listener_at_once() {
    let server = server(patient()).await;
    let (mut idle, mut fresh) = (server.connect().await, server.connect().await);
    idle.send(HEALTH).await;
    assert_eq!(idle.answer().await.status, 200);
    let address = server.address;
    server.stop().await;
    assert_eq!(
        (idle.closed().await, fresh.closed().await),
        (String::new(), String::new())
    );
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn shutdown_lets_a_request_in_flight_finish() {
    let server = server(patient()).await;
    let mut client = in_flight(&server).await;
    server.shutdown.cancel();
    client.send(BODY).await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(server.broker.stats().publications, 1);
    server.stop().await;
}

#[tokio::test]
async fn shutdown_cuts_off_what_does_not_finish_in_its_grace() {
    let server = server(Config {
        grace: SHORT,
        ..patient()
    })
    .await;
    let mut client = in_flight(&server).await;
    let mut half = server.connect().await;
    half.send("GET /hea").await;
    server.stop().await;
    assert_eq!(
        (client.closed().await, half.closed().await),
        (String::new(), String::new())
    );
}

#[tokio::test]
async fn dropping_the_future_ends_every_connection() {
    let server = server(patient()).await;
    let mut client = in_flight(&server).await;
    server.task.abort();
    assert!(server.task.await.unwrap_err().is_cancelled());
    assert_eq!(client.closed().await, "");
}

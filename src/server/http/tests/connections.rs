use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::io::AsyncWriteExt;

use super::{Client, KEY, LONG, Server, head, patient};
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

/// A server that takes few connections.
async fn small(connections: usize) -> Server {
    server(Config {
        connections,
        ..patient()
    })
    .await
}

#[tokio::test]
async fn one_connection_above_the_limit_waits_where_all_have_presented_the_key() {
    let server = small(2).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for client in [&mut first, &mut second] {
        assert_eq!(client.post("/v1/announce", BODY).await.status, 200);
    }
    let mut third = server.connect().await;
    third.send(HEALTH).await;
    let early = tokio::time::timeout(SHORT, third.read_answer()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    assert_eq!(third.answer().await.status, 200);
    // A stranger makes room for the next.
    let mut fourth = server.connect().await;
    assert_eq!(fourth.post("/v1/announce", BODY).await.status, 200);
    assert_eq!(third.closed().await, "");
    assert_eq!(second.post("/v1/announce", BODY).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn connections_of_strangers_make_room_for_a_request_with_the_key() {
    const LIMIT: usize = 8;
    let wrong = head("/v1/announce", 1000).replace(KEY, "another-key-of-16-bytes");
    for start in [
        String::new(),
        "POST /v1/ann".to_owned(),
        "POST /v1/announce HTTP/1.1\r\nHost: t\r\nX-Slow: ".to_owned(),
        HEALTH.to_owned(),
        // Slow bodies, of whom a wrong key or none does not protect.
        format!("{wrong}\r\n\r\n{{\"te"),
        "POST /none HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n{".to_owned(),
    ] {
        let server = small(LIMIT).await;
        let mut known = server.connect().await;
        assert_eq!(known.post("/v1/announce", BODY).await.status, 200);
        let mut slow = in_flight(&server).await;
        let mut strangers = Vec::new();
        for _ in 0..4 * LIMIT {
            let mut stranger = server.connect().await;
            stranger.send(&start).await;
            strangers.push(stranger);
        }
        let answer = server.post_text("/v1/announce", BODY).await;
        assert_eq!(answer.status, 200, "{start}");
        // As many have ended as there were too many, and who presented the key has not.
        let too_many = 3 + 4 * LIMIT - LIMIT;
        let mut ends: FuturesUnordered<_> = strangers.iter_mut().map(Client::closed).collect();
        for _ in 0..too_many {
            ends.next().await;
        }
        drop(ends);
        assert_eq!(known.post("/v1/announce", BODY).await.status, 200);
        slow.send(BODY).await;
        assert_eq!(slow.answer().await.status, 200, "{start}");
        drop(strangers);
        drop((known, slow));
        server.stop().await;
    }
}

/// Loopback has many addresses on Linux alone.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_of_one_address_do_not_end_those_of_another() {
    const LIMIT: usize = 8;
    let server = small(LIMIT).await;
    let mut quiet = server.connect().await;
    quiet.send("GET /hea").await;
    let mut crowd = Vec::new();
    for _ in 0..4 * LIMIT {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        stream.write_all(HEALTH.as_bytes()).await.unwrap();
        crowd.push(Client {
            stream,
            unread: Vec::new(),
        });
    }
    let too_many = 1 + 4 * LIMIT - LIMIT;
    let mut ends: FuturesUnordered<_> = crowd.iter_mut().map(Client::closed).collect();
    for _ in 0..too_many {
        ends.next().await;
    }
    drop(ends);
    quiet.send("lth HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(quiet.answer().await.status, 200);
    drop((quiet, crowd));
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

//! Clients that do not get as far as a session: too slow, or at the wrong door (PROTOCOL §2, §4.1).

mod common;

use std::time::{Duration, Instant};

use common::{
    both, bounded,
    raw::{Bystander, Dial, Member, assert_refusal, close_code, closed, hello},
};
use quinn::{Connection, ConnectionError, TransportErrorCode};
use tidings::{
    Code,
    client::{Client, ClientError, DialError, Transport, Trust},
    server::Origins,
    testing::TestServer,
};
use web_transport_quinn::http::{HeaderValue, header};

const DEADLINE: Duration = Duration::from_millis(200);

async fn hasty_server() -> TestServer {
    TestServer::start_with(|builder| builder.deadline(DEADLINE)).await
}

fn deadline_was_kept(since: Instant) {
    let took = since.elapsed();
    assert!(took >= DEADLINE, "closed after {took:?} already");
    assert!(
        took < DEADLINE + Duration::from_secs(5),
        "closed after {took:?} only"
    );
}

both!(without_a_hello_in_time_the_connection_is_closed);
async fn without_a_hello_in_time_the_connection_is_closed(transport: Transport) {
    let server = hasty_server().await;
    let mut bystander = Bystander::join(&server, transport).await;
    let dial = Dial::new(&server, transport);
    let start = Instant::now();
    // One says nothing, one opens a stream, one begins a Hello, one skips and skips.
    let silent = dial.session().await;
    let stream = dial.open().await;
    let mut began = dial.open().await;
    began.write(&[200, 1, 1]).await;
    let mut skips = dial.open().await;
    skips.send_raw(0x0f, &[1]).await;
    for session in [&silent, &stream.session, &began.session, &skips.session] {
        let refusal = closed(session).await;
        assert_refusal(
            "no Hello",
            &refusal,
            Code::HELLO_TIMEOUT,
            "Hello within 0.2 s",
        );
        deadline_was_kept(start);
    }
    bystander.is_undisturbed().await;
}

both!(the_deadline_is_total_and_not_idle);
async fn the_deadline_is_total_and_not_idle(transport: Transport) {
    let server = hasty_server().await;
    let mut bystander = Bystander::join(&server, transport).await;
    let start = Instant::now();
    let mut raw = Dial::new(&server, transport).open().await;
    let bytes = tidings::wire::frame::Frame::from(hello(Some("x".repeat(8000)))).encode();
    let trickle = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        // Forty seconds of it.
        for byte in &bytes {
            ticks.tick().await;
            if raw.send.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        raw.closed().await
    };
    assert_refusal(
        "a trickle",
        &trickle.await,
        Code::HELLO_TIMEOUT,
        "no complete Hello",
    );
    deadline_was_kept(start);
    bystander.is_undisturbed().await;
}

/// The close of a connection that did not become a session.
async fn refused(connection: &Connection, transport: Transport) -> (Code, String) {
    close_code(&connection.closed().await, transport)
}

#[tokio::test]
async fn without_a_connect_in_time_a_webtransport_connection_is_closed() {
    let test = async {
        let transport = Transport::WebTransport;
        let server = hasty_server().await;
        let mut bystander = Bystander::join(&server, transport).await;
        let dial = Dial::new(&server, transport);
        let start = Instant::now();
        // One says nothing at all, one says SETTINGS, one begins a CONNECT, one lets the server say nothing.
        let silent = dial.quic().await.unwrap();
        let settings = dial.quic().await.unwrap();
        let mut control = settings.open_uni().await.unwrap();
        control.write_all(SETTINGS).await.unwrap();
        let begins = dial.quic().await.unwrap();
        let mut control = begins.open_uni().await.unwrap();
        control.write_all(SETTINGS).await.unwrap();
        let (mut request, _answer) = begins.open_bi().await.unwrap();
        request.write_all(&[1, 0x40]).await.unwrap();
        let mute = dial.clone().no_streams().quic().await.unwrap();
        for connection in [&silent, &settings, &begins, &mute] {
            let refusal = refused(connection, transport).await;
            assert_refusal(
                "no CONNECT",
                &refusal,
                Code::HELLO_TIMEOUT,
                "CONNECT within 0.2 s",
            );
            deadline_was_kept(start);
        }
        bystander.is_undisturbed().await;
    };
    bounded(test).await;
}

/// HTTP/3's control stream with SETTINGS: ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM and WebTransport of drafts 2 and 7.
const SETTINGS: &[u8] = &[
    0x00, 0x04, 18, 0x08, 1, 0x33, 1, 0xab, 0x60, 0x37, 0x42, 1, 0xc0, 0x00, 0x00, 0x00, 0xc6,
    0x71, 0x70, 0x6a, 1,
];

#[tokio::test]
async fn what_is_no_http3_is_closed_with_a_reason() {
    let test = async {
        let transport = Transport::WebTransport;
        let server = TestServer::start().await;
        let mut bystander = Bystander::join(&server, transport).await;
        let dial = Dial::new(&server, transport);
        // Where SETTINGS should be, and where CONNECT should be.
        let first = dial.quic().await.unwrap();
        let mut control = first.open_uni().await.unwrap();
        control.write_all(&[0xff; 64]).await.unwrap();
        let second = dial.quic().await.unwrap();
        let mut control = second.open_uni().await.unwrap();
        control.write_all(SETTINGS).await.unwrap();
        let (mut request, _answer) = second.open_bi().await.unwrap();
        request
            .write_all(b"GET /tidings HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        request.finish().unwrap();
        for connection in [&first, &second] {
            let refusal = refused(connection, transport).await;
            assert_refusal(
                "no HTTP/3",
                &refusal,
                Code::PROTOCOL_VIOLATION,
                "WebTransport handshake",
            );
            bystander.is_undisturbed().await;
        }
    };
    bounded(test).await;
}

#[tokio::test]
async fn an_origin_must_be_on_the_list() {
    let test = async {
        let some = Origins::List(vec![
            "https://app.example".into(),
            "http://localhost:*".into(),
        ]);
        let none = Origins::List(Vec::new());
        let cases: [(Origins, &[&str], &[&str]); 3] = [
            (
                some,
                &[
                    "https://app.example",
                    "http://localhost:8080",
                    "http://localhost",
                ],
                &[
                    "https://evil.example",
                    "http://app.example",
                    "https://app.example:8443",
                    "null",
                ],
            ),
            (none, &[], &["https://app.example", "null"]),
            (Origins::Any, &["https://evil.example", "null"], &[]),
        ];
        for (origins, good, bad) in cases {
            let server = TestServer::start_with(|builder| builder.origins(origins)).await;
            let transport = Transport::WebTransport;
            let mut bystander = Bystander::join(&server, transport).await;
            let dial = Dial::new(&server, transport);
            let from = |origin: &str| {
                let value = HeaderValue::from_str(origin).unwrap();
                dial.request().with_header(header::ORIGIN, value)
            };
            for origin in bad {
                assert_eq!(
                    dial.connect(from(origin)).await.err(),
                    Some(403),
                    "{origin}"
                );
                bystander.is_undisturbed().await;
            }
            for origin in good {
                assert_eq!(dial.connect(from(origin)).await.err(), None, "{origin}");
            }
            // What is no page has no origin, as the bystander has none.
            Member::join(&server, transport).await.works().await;
        }
    };
    bounded(test).await;
}

#[tokio::test]
async fn another_path_is_not_found() {
    let test = async {
        let transport = Transport::WebTransport;
        let server = TestServer::start().await;
        let mut bystander = Bystander::join(&server, transport).await;
        let dial = Dial::new(&server, transport);
        for path in [
            "/",
            "/Tidings",
            "/tidings/",
            "/tidings/x",
            "//tidings",
            "/x?/tidings",
        ] {
            let mut request = dial.request();
            request.url = request
                .url
                .join(&format!("https://localhost{path}"))
                .unwrap();
            assert_eq!(dial.connect(request).await.err(), Some(404), "{path}");
            bystander.is_undisturbed().await;
        }
        // The native client says it in words.
        let error = Client::builder(format!("https://{}/elsewhere", server.address()))
            .trust(Trust::Hashes(vec![server.certificate_sha256()]))
            .token(server.token("42"))
            .connect()
            .await
            .unwrap_err();
        assert!(
            matches!(error, ClientError::Dial(DialError::Refused(404))),
            "{error:?}"
        );
        assert!(error.to_string().contains("HTTP 404"), "{error}");
    };
    bounded(test).await;
}

#[tokio::test]
async fn a_client_that_offers_subprotocols_must_offer_ours() {
    let test = async {
        let transport = Transport::WebTransport;
        let server = TestServer::start().await;
        let mut bystander = Bystander::join(&server, transport).await;
        let dial = Dial::new(&server, transport);
        let offer = |protocols: &[&str]| {
            let mut request = dial.request();
            request.protocols = protocols.iter().map(ToString::to_string).collect();
            request
        };
        for bad in [
            ["tidings.v2"].as_slice(),
            &["moq-00"],
            &["TIDINGS.V1", "tidings/1"],
        ] {
            assert_eq!(dial.connect(offer(bad)).await.err(), Some(400), "{bad:?}");
            bystander.is_undisturbed().await;
        }
        let session = dial
            .connect(offer(&["tidings.v2", "tidings.v1"]))
            .await
            .unwrap();
        assert_eq!(session.protocol(), Some("tidings.v1"));
        let session = dial.connect(offer(&[])).await.unwrap();
        assert_eq!(session.protocol(), None);
    };
    bounded(test).await;
}

#[tokio::test]
async fn an_unknown_alpn_fails_the_handshake() {
    let test = async {
        let server = TestServer::start().await;
        let mut bystander = Bystander::join(&server, Transport::Quic).await;
        let dial = Dial::new(&server, Transport::Quic);
        for alpn in [
            ["tidings/2"].as_slice(),
            &["hq-interop", "h2"],
            &["TIDINGS/1"],
            &[],
        ] {
            match dial.clone().alpn(alpn).quic().await {
                Err(ConnectionError::ConnectionClosed(close)) => {
                    // TLS alert no_application_protocol.
                    assert_eq!(
                        close.error_code,
                        TransportErrorCode::crypto(120),
                        "{alpn:?}"
                    );
                }
                other => panic!("{alpn:?}: {other:?}"),
            }
            bystander.is_undisturbed().await;
        }
        dial.alpn(&["unknown", "tidings/1"]).quic().await.unwrap();
    };
    bounded(test).await;
}

//! What a server does with bad input over WebSockets (PROTOCOL §2.4), and with silence.

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{
    bounded,
    raw::{Bystander, hello},
    websocket::{last_record, on_control, open, parameters, secure},
};
use futures_util::{SinkExt, StreamExt};
use tidings::{
    Message,
    client::Transport,
    server::Origins,
    testing::TestServer,
    wire::frame::{Frame, Subscribe},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite;

/// The status and the text that this request is answered with.
async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut socket = secure(address).await;
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The answer says how long it is: TLS need not say that nothing follows.
    let _ = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no status in {answer:?}")),
        answer,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_is_answered_with_a_status_and_a_reason() {
    bounded(async {
        let origins = Origins::List(vec!["https://good.example".to_owned()]);
        let server = TestServer::start_with(|builder| builder.origins(origins)).await;
        let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
        let rest = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let offer = "Sec-WebSocket-Protocol: other, qmux-02.tidings.v1\r\n";
        for (status, word, path, headers) in [
            (404, "path", "/other", format!("{upgrade}{rest}{offer}")),
            (
                426,
                "WebSockets alone",
                "/tidings",
                format!("Connection: close\r\n{rest}{offer}"),
            ),
            (
                403,
                "evil.example",
                "/tidings",
                format!("{upgrade}{rest}{offer}Origin: https://evil.example\r\n"),
            ),
            (
                400,
                "qmux-02.tidings.v1",
                "/tidings",
                format!("{upgrade}{rest}"),
            ),
            (
                400,
                "version",
                "/tidings",
                format!("{upgrade}{offer}Sec-WebSocket-Version: 8\r\n"),
            ),
            (
                400,
                "Sec-WebSocket-Key",
                "/tidings",
                format!("{upgrade}{offer}Sec-WebSocket-Version: 13\r\n"),
            ),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            let (got, answer) = ask(server.address(), &request).await;
            assert_eq!(got, status, "{answer}");
            assert!(
                answer.contains(word),
                "{status}: {answer:?} does not say {word:?}"
            );
        }
        let good = "Origin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        let request = format!("GET /tidings HTTP/1.1\r\nHost: x\r\n{good}{rest}{offer}\r\n");
        let mut socket = secure(server.address()).await;
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 2000];
        let size = socket.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..size]).to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        // The example of RFC 6455 §1.3.
        assert!(
            answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{answer}"
        );
    })
    .await;
}

/// What a request to the port without TLS is answered with.
async fn ask_plainly(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_without_one_valid_host_opens_no_websocket() {
    bounded(async {
        let any = ([127, 0, 0, 1], 0).into();
        let server = TestServer::start_with(|builder| builder.plain_websockets(any)).await;
        let plain = server.plain_websocket_address().unwrap();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: qmux-02.tidings.v1\r\n";
        for host in [
            "",
            "Host: x\r\nHost: x\r\n",
            "Host: x\r\nhost: y\r\n",
            "Host:\r\n",
            "Host: a b\r\n",
            "Host: u@x\r\n",
            "Host: x/y\r\n",
            "Host: x:99999\r\n",
        ] {
            for target in ["/tidings", "http://x/tidings", "/sdk/index.js", "/other"] {
                let request = format!("GET {target} HTTP/1.1\r\n{host}{upgrade}\r\n");
                let (status, secure) = ask(server.address(), &request).await;
                let plain = ask_plainly(plain, &request).await;
                assert_eq!(status, 400, "{host:?} {target}: {secure}");
                assert!(plain.starts_with("HTTP/1.1 400 "), "{host:?} {target}: {plain}");
                assert!(secure.contains("`Host`") && plain.contains("`Host`"), "{plain}");
            }
        }
        let mut socket = TcpStream::connect(plain).await.unwrap();
        let request = format!("GET http://other/tidings HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_method_than_get_opens_no_websocket() {
    bounded(async {
        let server = TestServer::start().await;
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let request =
                format!("{method} /tidings HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            let (status, answer) = ask(server.address(), &request).await;
            assert_eq!(status, 405, "{answer}");
            assert!(answer.to_lowercase().contains("allow: get\r\n"), "{answer}");
        }
        let (status, answer) = ask(
            server.address(),
            "HEAD /tidings HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .await;
        assert_eq!(status, 426, "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "a body: {answer}");
    })
    .await;
}

#[cfg(feature = "web")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_is_served_with_tls_to_pages_of_everybody() {
    bounded(async {
        let server = TestServer::start().await;
        for (path, status, word) in [
            ("/sdk/index.js", 200, "access-control-allow-origin: *"),
            ("/sdk/none.js", 404, "path"),
            ("/console", 404, "path"),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let (got, answer) = ask(server.address(), &request).await;
            assert_eq!(got, status, "{path}: {answer}");
            assert!(answer.to_lowercase().contains(word), "{path}: {answer}");
        }
        let ask = async |method: &str| {
            let request =
                format!("{method} /sdk/index.js HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            let (status, answer) = ask(server.address(), &request).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (status, head.to_lowercase(), body.len())
        };
        let (_, _, length) = ask("GET").await;
        let (status, head, nothing) = ask("HEAD").await;
        assert_eq!((status, nothing), (200, 0), "{head}");
        assert!(
            head.contains(&format!("content-length: {length}")),
            "{head}"
        );
        for (method, wanted) in [("OPTIONS", 204), ("POST", 405), ("DELETE", 405)] {
            let (status, head, _) = ask(method).await;
            assert_eq!(status, wanted, "{head}");
            assert!(head.contains("allow: get,head,options"), "{head}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_qmux_ends_its_connection_alone() {
    bounded(async {
        let server = TestServer::start().await;
        let mut bystander = Bystander::join(&server, Transport::WebSocket).await;
        for message in [
            tungstenite::Message::text("hello"),
            tungstenite::Message::binary(vec![0xff; 40]),
            tungstenite::Message::binary(vec![0; 16_383]),
            // A stream before the parameters.
            tungstenite::Message::binary(vec![0x0a, 0x00, 0x01, 0x00]),
        ] {
            let mut socket = open(server.address()).await;
            let _ = socket.send(message.clone()).await;
            let last = last_record(&mut socket).await;
            assert_eq!(
                last.first(),
                Some(&0x1c),
                "no CONNECTION_CLOSE for {message:?}"
            );
            bystander.is_undisturbed().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_is_given_up() {
    bounded(async {
        let deadline = Duration::from_millis(200);
        let server = TestServer::start_with(|builder| builder.deadline(deadline)).await;
        // No TLS, no request, no Hello.
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        assert_eq!(socket.read(&mut [0; 10]).await.unwrap_or(0), 0);
        let mut socket = secure(server.address()).await;
        assert_eq!(socket.read(&mut [0; 10]).await.unwrap_or(0), 0);
        let mut socket = open(server.address()).await;
        socket.send(parameters(&[])).await.unwrap();
        let last = last_record(&mut socket).await;
        assert!(
            last.starts_with(&[0x1d, 0x41, 0x2f]),
            "not HELLO_TIMEOUT but {last:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_given_up_after_the_idle_timeout() {
    bounded(async {
        let idle = Duration::from_millis(300);
        let server = TestServer::start_with(|builder| builder.idle(idle)).await;
        let mut socket = open(server.address()).await;
        // Parameters, so that it is a connection; then nothing.
        socket.send(parameters(&[])).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_gives_up_sooner_is_given_up_sooner() {
    bounded(async {
        let idle = Duration::from_secs(600);
        let server = TestServer::start_with(|builder| builder.idle(idle)).await;
        let mut socket = open(server.address()).await;
        // max_idle_timeout (1): 3000 ms; and windows for what is said on the control stream (4, 5).
        let idle = [1, 2, 0x4b, 0xb8];
        let window = [4, 4, 0x80, 1, 0, 0, 5, 4, 0x80, 1, 0, 0];
        let hello = Frame::from(hello(Some(server.token("42")))).encode();
        // A Hello, and then not a word.
        for record in [
            parameters(&[&idle[..], &window].concat()),
            on_control(&hello),
        ] {
            socket.send(record).await.unwrap();
        }
        // Whoever is told why it ends was not given up for its silence.
        let last = last_record(&mut socket).await;
        assert_ne!(last.first(), Some(&0x1d), "{last:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_large_a_record_is_told_so_behind_what_waits() {
    bounded(async {
        let server = TestServer::start().await;
        let mut socket = open(server.address()).await;
        let hello = Frame::from(hello(Some(server.token("42")))).encode();
        let subscribe = Frame::from(Subscribe {
            request: 1,
            channel: "chat-room-7".to_owned(),
        });
        let said = [hello, subscribe.encode()].concat();
        // Ten streams (9), and 16 MiB for each and for all (4, 5, 7).
        let much = |id| [id, 4, 0x81, 0, 0, 0];
        let permitted = [&much(4)[..], &much(5), &much(7), &[9, 1, 10]].concat();
        for record in [parameters(&permitted), on_control(&said)] {
            socket.send(record).await.unwrap();
        }
        let begins = |record: &[u8]| record.windows(11).any(|part| part == b"chat-room-7");
        while !begins(&socket.next().await.unwrap().unwrap().into_data()) {}
        let room = "chat-room-7".parse().unwrap();
        // More than the system takes; nobody reads.
        for _ in 0..40 {
            let message = Message::text("x".repeat(60_000));
            server.broker().post(&room, message).unwrap();
        }
        let large = tungstenite::Message::binary(vec![0; 60_000]);
        socket.send(large).await.unwrap();
        let last = last_record(&mut socket).await;
        assert_eq!(last.first(), Some(&0x1c), "no CONNECTION_CLOSE");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_and_never_reads_is_given_up() {
    bounded(async {
        let idle = Duration::from_millis(500);
        let server = TestServer::start_with(|builder| builder.idle(idle)).await;
        let session = {
            let mut socket = open(server.address()).await;
            socket.send(parameters(&[])).await.unwrap();
            socket
        };
        // Pings without end, whose answers nobody takes: the raw socket is written and never read.
        let mut raw = session.into_inner();
        let ping = [&[0x89, 0xfd][..], &[0; 4], &[7; 125]].concat().repeat(100);
        while raw.write_all(&ping).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

//! WebSockets (PROTOCOL §2.4), as an independent implementation of QMux sees them and as hand-made bytes find them.

mod common;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    bounded, publication,
    raw::{Bystander, client_crypto, hello},
    text,
};
use futures_util::{SinkExt, StreamExt};
use qmux::{
    Config, Session, Version,
    transport::{Reader, Transport as Carrier, Writer},
};
use rustls::pki_types::ServerName;
use tidings::{
    Code, Message,
    auth::{OnLag, Rule, Rules, Who},
    client::{ClientError, DialError, Event, State, Transport},
    server::Origins,
    testing::TestServer,
    wire::{
        Decoder, Pattern,
        frame::{Frame, Subscribe},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest},
};
use web_transport_trait::{RecvStream as _, SendStream as _, Session as _};

const PROTOCOL: &str = "qmux-02.tidings.v1";

async fn secure(address: SocketAddr) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(client_crypto(&["http/1.1"])));
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, socket).await.unwrap()
}

async fn open(address: SocketAddr) -> WebSocketStream<TlsStream<TcpStream>> {
    let url = format!("wss://{address}/tidings");
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", PROTOCOL.parse().unwrap());
    let (socket, response) = client_async(request, secure(address).await).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], PROTOCOL);
    socket
}

/// What carries QMux's records for the other implementation.
struct Records(WebSocketStream<TlsStream<TcpStream>>);

struct Out(
    futures_util::stream::SplitSink<WebSocketStream<TlsStream<TcpStream>>, tungstenite::Message>,
);

struct In(futures_util::stream::SplitStream<WebSocketStream<TlsStream<TcpStream>>>);

impl Carrier for Records {
    type Writer = Out;
    type Reader = In;

    fn split(self) -> (Out, In) {
        let (sink, stream) = self.0.split();
        (Out(sink), In(stream))
    }
}

impl Writer for Out {
    async fn send(&mut self, data: Bytes) -> Result<(), qmux::Error> {
        let sent = self.0.send(tungstenite::Message::Binary(data)).await;
        sent.map_err(|_| qmux::Error::Closed)
    }

    async fn close(&mut self) -> Result<(), qmux::Error> {
        self.0.close().await.map_err(|_| qmux::Error::Closed)
    }
}

impl Reader for In {
    async fn recv(&mut self) -> Result<Bytes, qmux::Error> {
        loop {
            match self.0.next().await {
                Some(Ok(tungstenite::Message::Binary(record))) => return Ok(record),
                Some(Ok(tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_))) => {}
                // What it would make of that takes the place of the code that came before.
                _ => std::future::pending().await,
            }
        }
    }
}

async fn independent(address: SocketAddr) -> Session {
    let config = Config::negotiated(Version::QMux02, Some("tidings.v1".to_owned()));
    Session::connect(Records(open(address).await), config)
        .await
        .unwrap()
}

/// Frames of one stream.
struct Frames {
    recv: qmux::RecvStream,
    decoder: Decoder,
}

impl Frames {
    fn new(recv: qmux::RecvStream) -> Self {
        let decoder = Decoder::new(1 << 20);
        Self { recv, decoder }
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(raw) = self.decoder.next_frame().unwrap() {
                return Some(Frame::decode(&raw).unwrap().expect("a known frame"));
            }
            let chunk = self.recv.read_chunk(usize::MAX).await.ok()??;
            self.decoder.extend(&chunk);
        }
    }
}

async fn say(send: &mut qmux::SendStream, frame: impl Into<Frame>) {
    let mut bytes = frame.into().encode();
    while !bytes.is_empty() {
        send.write_buf(&mut bytes).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_implementation_of_qmux_subscribes_and_hears_each_message() {
    bounded(async {
        let server = TestServer::start().await;
        let session = independent(server.address()).await;
        let (mut send, recv) = session.open_bi().await.unwrap();
        let mut control = Frames::new(recv);
        say(&mut send, hello(Some(server.token("42")))).await;
        let Some(Frame::Welcome(welcome)) = control.next().await else {
            panic!("no Welcome");
        };
        assert_eq!(welcome.user.as_deref(), Some("42"));
        let subscribe = Subscribe {
            request: 1,
            channel: "chat-room-7".to_owned(),
        };
        say(&mut send, subscribe).await;
        let Some(Frame::Subscribed(subscribed)) = control.next().await else {
            panic!("no Subscribed");
        };
        // More than the windows of the stream and of the connection hold.
        let big = "x".repeat(50_000);
        let broker = server.broker().clone();
        let publisher = tokio::spawn(async move {
            for number in 0..30 {
                let message = Message::text(format!("{number} {big}"));
                broker
                    .post(&"chat-room-7".parse().unwrap(), message)
                    .unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut room = loop {
            let mut frames = Frames::new(session.accept_uni().await.unwrap());
            match frames.next().await {
                Some(Frame::Header(header)) if header.subscription == subscribed.subscription => {
                    break frames;
                }
                Some(Frame::Header(_)) => {}
                other => panic!("no Header but {other:?}"),
            }
        };
        for number in 0..30 {
            match room.next().await {
                Some(Frame::Publication(heard)) => {
                    assert_eq!(heard.offset, number + 1);
                    let said = heard.message.as_text().unwrap();
                    assert!(said.starts_with(&format!("{number} x")), "{}", said.len());
                }
                other => panic!("no Publication {number} but {other:?}"),
            }
        }
        publisher.await.unwrap();
        session.close(0, "enough");
        while server.sessions().count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_implementation_is_told_code_and_reason() {
    bounded(async {
        let server = TestServer::start().await;
        let session = independent(server.address()).await;
        let (mut send, _recv) = session.open_bi().await.unwrap();
        say(&mut send, hello(Some("no token".to_owned()))).await;
        let error = session.closed().await;
        let (code, reason) = told(&error);
        assert_eq!(Code(code), Code::INVALID_TOKEN, "{reason}");
    })
    .await;
}

#[track_caller]
fn told(error: &qmux::Error) -> (u32, String) {
    let told = web_transport_trait::Error::session_error(error);
    told.unwrap_or_else(|| panic!("no code, but {error:?}"))
}

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
        let session = independent(server.address()).await;
        let error = session.closed().await;
        let (code, reason) = told(&error);
        assert_eq!(Code(code), Code::HELLO_TIMEOUT, "{reason}");
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

/// The record with which a connection begins.
fn parameters(all: &[u8]) -> tungstenite::Message {
    let kind = 0xff51_5330_0d0a_0d0a_u64.to_be_bytes();
    let length = u8::try_from(all.len()).unwrap();
    tungstenite::Message::binary([&kind[..], &[length], all].concat())
}

/// A record with these bytes of the control stream.
fn on_control(bytes: &[u8]) -> tungstenite::Message {
    let length = 0x4000 | u16::try_from(bytes.len()).unwrap();
    tungstenite::Message::binary([&[0x0a, 0x00][..], &length.to_be_bytes(), bytes].concat())
}

/// The last before the end.
async fn last_record<S>(socket: &mut WebSocketStream<S>) -> Bytes
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut last = Bytes::new();
    while let Some(Ok(came)) = socket.next().await {
        if let tungstenite::Message::Binary(record) = came {
            last = record;
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_is_told_when_a_server_is_dropped() {
    bounded(async {
        let server = TestServer::start().await;
        let client = server.client("42", Transport::WebSocket).await.unwrap();
        let _inbox = client.subscribe("user-42").await.unwrap();
        let mut states = client.states();
        drop(server);
        let broken = |state: &State| matches!(state, State::Reconnecting { attempt: 0, .. });
        let told = states.wait_for(broken).await.unwrap().clone();
        let State::Reconnecting { reason, .. } = told else {
            unreachable!("it was waited for");
        };
        assert!(reason.contains("shutting down"), "{reason}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_streams_unread_do_not_keep_an_answer_from_its_client() {
    bounded(async {
        let server = TestServer::start().await;
        let client = server.client("42", Transport::WebSocket).await.unwrap();
        let mut rooms = Vec::new();
        // More than 16 MiB, which all streams together once were permitted.
        for room in 0..80 {
            let name = format!("chat-room-{room}");
            rooms.push(client.subscribe(&name).await.unwrap());
            for _ in 0..6 {
                let message = Message::text("x".repeat(60_000));
                server
                    .broker()
                    .post(&name.parse().unwrap(), message)
                    .unwrap();
            }
        }
        for _ in 0..5 {
            client.ping().await.unwrap();
            client
                .publish("chat-room-0", Message::text("hi"))
                .await
                .unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_websockets_leaves_tcp_alone() {
    bounded(async {
        let server = TestServer::start_with(|builder| builder.websockets(false)).await;
        assert!(TcpStream::connect(server.address()).await.is_err());
        let refused = server.client("42", Transport::WebSocket).await;
        assert!(matches!(
            refused,
            Err(ClientError::Dial(DialError::Failed { .. }))
        ));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_changes_the_transport_and_misses_nothing() {
    bounded(async {
        let server = TestServer::start().await;
        let channel = "chat-room-7".parse().unwrap();
        let quic = server.client("42", Transport::Quic).await.unwrap();
        let mut room = quic.subscribe("chat-room-7").await.unwrap();
        server
            .broker()
            .post(&channel, Message::text("one"))
            .unwrap();
        let one = publication(&mut room).await;
        let position = room.position().unwrap();
        quic.close().await;
        server
            .broker()
            .post(&channel, Message::text("two"))
            .unwrap();
        let socket = server.client("42", Transport::WebSocket).await.unwrap();
        let start = tidings::wire::Start::After(tidings::wire::Position {
            offset: one.offset,
            ..position
        });
        let mut room = socket.subscribe_from("chat-room-7", start).await.unwrap();
        server
            .broker()
            .post(&channel, Message::text("three"))
            .unwrap();
        for wanted in ["two", "three"] {
            assert_eq!(text(&publication(&mut room).await), wanted);
        }
        assert_eq!(socket.welcome().unwrap().transport, Transport::WebSocket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_that_wait_for_a_reader_are_passed_over_and_hold_up_no_chat() {
    bounded(async {
        let rule = |pattern: &str, on_lag| {
            let pattern = Pattern::parse(pattern).unwrap();
            Rule::new(pattern, Who::Everyone, Who::Everyone).on_lag(on_lag)
        };
        let rules = Rules::new(vec![
            rule("board-{b}", OnLag::Latest),
            rule("chat-room-{r}", OnLag::Continue),
        ]);
        let rules = rules.unwrap();
        let server = TestServer::start_with(|builder| builder.rules(rules)).await;
        let client = server.client("42", Transport::WebSocket).await.unwrap();
        let mut board = client.subscribe("board-1").await.unwrap();
        let mut chat = client.subscribe("chat-room-1").await.unwrap();
        let (board_name, chat_name) = ("board-1".parse().unwrap(), "chat-room-1".parse().unwrap());
        // Far more than the windows of the stream, the log and what lies between hold.
        let state = |number: u32| Message::text(format!("{number} {}", "x".repeat(20_000)));
        for number in 1..=200 {
            server.broker().post(&board_name, state(number)).unwrap();
            if number % 20 == 0 {
                let line = format!("line {number}");
                server
                    .broker()
                    .post(&chat_name, Message::text(&line))
                    .unwrap();
                assert_eq!(text(&publication(&mut chat).await), line);
            }
        }
        let (mut seen, mut skipped, mut last) = (0, 0, 0);
        while last < 200 {
            match board.next().await.unwrap() {
                Event::Publication(state) => (seen, last) = (seen + 1, state.offset),
                Event::Skipped { from, to } => skipped += to - from + 1,
                other => panic!("neither a state nor Skipped but {other:?}"),
            }
        }
        assert_eq!(seen + skipped, 200);
        assert!(skipped > 100, "{skipped} of 200 were passed over");
    })
    .await;
}

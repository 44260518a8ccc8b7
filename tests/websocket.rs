//! WebSockets (PROTOCOL §2.4), as an independent implementation of QMux sees them, and as clients use them.

mod common;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use common::{bounded, publication, raw::hello, text, websocket::open};
use futures_util::{SinkExt, StreamExt};
use qmux::{
    Config, Session, Version,
    transport::{Reader, Transport as Carrier, Writer},
};
use tidings::{
    Code, Message,
    auth::{OnLag, Rule, Rules, Who},
    client::{ClientError, DialError, Event, State, Transport},
    testing::TestServer,
    wire::{
        Decoder, Pattern,
        frame::{Frame, Subscribe},
    },
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{WebSocketStream, tungstenite};
use web_transport_trait::{RecvStream as _, SendStream as _, Session as _};

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

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{net::Ipv4Addr, time::Instant};

use quinn::VarInt;
use web_transport_quinn::proto::error_to_http3;

use super::*;
use crate::{
    transport::{
        Allowed, Certificate, Connection, Sha256, Trust,
        listener::{Config, Listener},
        tls::client_crypto,
    },
    wire::WEBTRANSPORT_PATH,
};

/// A session, and the client's end of it by hand.
struct Pair {
    server: Connection,
    client: quinn::Connection,
    connect: quinn::SendStream,
    answer: quinn::RecvStream,
    _settings: quinn::SendStream,
    _keep: (Listener, quinn::Endpoint, AbortOnDrop),
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pair() -> Pair {
    let now = std::time::SystemTime::now();
    let (certificate, ..) =
        Certificate::self_signed(&["localhost"], now, Duration::from_secs(3600)).unwrap();
    let hash: Sha256 = certificate.sha256();
    let config = Config {
        origins: Allowed::Any,
        soft_handshakes: 8,
        hard_handshakes: 8,
        tcp_connections: 8,
        deadline: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        websockets: false,
        plain: None,
    };
    let (listener, bindings) =
        Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate, config, 1).unwrap();
    let address = listener.local_address();
    let mut worker = bindings.into_iter().next().unwrap().start().unwrap();
    let (arrivals, mut arrived) = tokio::sync::mpsc::channel(1);
    let running = tokio::spawn(std::future::poll_fn(move |cx| {
        worker.poll(cx);
        if let Some(arrival) = worker.next_arrival() {
            arrivals.try_send(arrival).unwrap();
        }
        std::task::Poll::<()>::Pending
    }));
    let crypto = client_crypto(&Trust::Hashes(vec![hash]), b"h3").unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let served = async { arrived.recv().await.unwrap().handshake().await.unwrap() };
    let client = async {
        let client = endpoint
            .connect_with(config, address, "localhost")
            .unwrap()
            .await
            .unwrap();
        let mut control = client.open_uni().await.unwrap();
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        settings.write(&mut control).await.unwrap();
        let (mut connect, mut answer) = client.open_bi().await.unwrap();
        let url = url::Url::parse(&format!("https://localhost{WEBTRANSPORT_PATH}")).unwrap();
        let request = ConnectRequest::new(url);
        request.write(&mut connect).await.unwrap();
        ConnectResponse::read(&mut answer).await.unwrap();
        (client, control, connect, answer)
    };
    let ((server, ..), (client, control, connect, answer)) = tokio::join!(served, client);
    Pair {
        server,
        client,
        connect,
        answer,
        _settings: control,
        _keep: (listener, endpoint, AbortOnDrop(running)),
    }
}

fn integer(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let value = web_transport_quinn::proto::VarInt::from_u64(value).unwrap();
    value.encode(&mut bytes);
    bytes
}

/// A frame or a capsule.
fn element(kind: u64, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    [&integer(kind), &integer(length), payload].concat()
}

async fn ends(connection: &Connection) -> Closed {
    timeout(Duration::from_secs(5), connection.closed())
        .await
        .expect("an end")
}

fn application_code(error: &ConnectionError) -> u64 {
    match error {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_close_capsule_of_a_wrong_length_is_refused_before_what_follows() {
    for length in [0, 1, 2, 3, 1029, 1 << 40] {
        let mut pair = pair().await;
        let head = [integer(0x2843), integer(length)].concat();
        // The frame of data says that it never ends.
        let wire = [integer(0), integer(1 << 60), head].concat();
        pair.connect.write_all(&wire).await.unwrap();
        let flood = async {
            let mut sent = 0_usize;
            while pair.connect.write_all(&[0; 16 * 1024]).await.is_ok() {
                sent += 16 * 1024;
            }
            sent
        };
        let (closed, sent) = tokio::join!(ends(&pair.server), flood);
        assert_eq!(closed.code, Some(Code::PROTOCOL_VIOLATION), "{length}");
        // No more than the stream's window and what quinn's sender holds.
        assert!(sent < 16 * 1024 * 1024, "{length}: {sent}");
        assert_eq!(
            application_code(&pair.client.closed().await),
            error_to_http3(Code::PROTOCOL_VIOLATION.0)
        );
    }
}

#[test]
fn no_more_than_a_close_capsule_is_kept() {
    let mut capsules = Capsules::default();
    let start = [
        integer(0),
        integer(1 << 60),
        integer(0x99),
        integer(1 << 50),
    ]
    .concat();
    assert_eq!(capsules.read(&start), None);
    for _ in 0..1024 {
        assert_eq!(capsules.read(&[0; 4096]), None);
    }
    assert_eq!(capsules.kept(), 0);
    let mut capsules = Capsules::default();
    let start = [integer(0), integer(1 << 60), integer(0x2843), integer(1028)].concat();
    assert_eq!(capsules.read(&start), None);
    assert_eq!(capsules.read(&[b'x'; 1027]), None);
    assert!(capsules.kept() <= 2048);
    let closed = capsules.read(&[b'x'; 4096]).unwrap();
    assert_eq!(closed.reason, "x".repeat(1024));
}

#[tokio::test]
async fn unknown_frames_and_capsules_are_skipped_and_the_close_is_read() {
    let mut pair = pair().await;
    let capsules = [
        element(0x17, b"grease"),
        element(0x1234, &[0; 300]),
        element(0x99, b""),
        element(0x2843, b"\0\0\x04\xd2bye \xc3\xa9"),
    ]
    .concat();
    let (first, second) = capsules.split_at(capsules.len() - 2);
    let wire = [
        element(0x21, &[0; 100]),
        element(0, b""),
        element(0, first),
        element(0x40, b"between"),
        element(0, second),
    ]
    .concat();
    // Byte by byte for the reader, in two packets for the connection.
    let mut reader = Capsules::default();
    let ended: Vec<_> = wire.iter().filter_map(|&b| reader.read(&[b])).collect();
    pair.connect.write_all(&wire).await.unwrap();
    let closed = ends(&pair.server).await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(Code(1234)), "bye é")
    );
    assert_eq!(ended, std::slice::from_ref(&closed));
    // Told again to whoever asks, and to a clone.
    assert_eq!(ends(&pair.server.clone()).await, closed);
    assert_eq!(
        application_code(&pair.client.closed().await),
        error_to_http3(1234)
    );
}

#[tokio::test]
async fn a_connect_stream_that_ends_without_a_word_is_an_abrupt_end() {
    let mut finished = pair().await;
    finished.connect.finish().unwrap();
    assert_eq!(ends(&finished.server).await.code, None);
    let mut reset = pair().await;
    reset.connect.reset(VarInt::from_u32(0x10c)).unwrap();
    assert_eq!(ends(&reset.server).await.code, None);
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let mut pair = pair().await;
    let wire = element(0, &element(0x2843, b"\0\0\0\x07late"));
    for byte in wire {
        pair.connect.write_all(&[byte]).await.unwrap();
        let both = async { tokio::join!(pair.server.closed(), pair.server.closed()) };
        let _ = timeout(Duration::from_millis(2), both).await;
    }
    assert_eq!(ends(&pair.server).await.code, Some(Code(7)));
}

#[tokio::test]
async fn the_close_capsule_comes_before_the_end_of_the_connection() {
    let mut pair = pair().await;
    let start = Instant::now();
    let reason = "é".repeat(600);
    let client = async {
        let bytes = pair.answer.read_to_end(4096).await.unwrap();
        let closed = Capsules::default().read(&bytes).unwrap();
        (closed, pair.client.closed().await)
    };
    let closing = pair.server.close_and_linger(Code(1007), &reason);
    let ((), (closed, error)) = tokio::join!(closing, client);
    assert_eq!(
        (closed.code, closed.reason),
        (Some(Code(1007)), "é".repeat(512))
    );
    assert_eq!(application_code(&error), error_to_http3(1007));
    assert!(start.elapsed() < Duration::from_secs(3));
    // The first word counts.
    pair.server.close(Code(1008), "");
    assert_eq!(ends(&pair.server).await.code, None);
}

#[tokio::test]
async fn the_last_clone_ends_the_connection() {
    let pair = pair().await;
    let mut client = pair.client.open_bi().await.unwrap();
    client.0.write_all(&[0x40, 0x41, 0]).await.unwrap();
    let stream = pair.server.accept_bi().await.unwrap();
    let clone = pair.server.clone();
    drop(pair.server);
    assert!(pair.client.close_reason().is_none());
    drop(clone);
    let closed = timeout(Duration::from_secs(5), pair.client.closed()).await;
    let code = application_code(&closed.unwrap());
    assert_eq!(code, error_to_http3(Code::CLOSED.0));
    drop(stream);
}

#[tokio::test]
async fn only_streams_of_the_session_are_taken() {
    let pair = pair().await;
    // Another request: refused. The permitted three streams are CONNECT and these.
    let (mut other, _answer) = pair.client.open_bi().await.unwrap();
    other.write_all(&element(1, b"GET")).await.unwrap();
    let (mut ours, mut theirs) = pair.client.open_bi().await.unwrap();
    ours.write_all(&[0x40, 0x41]).await.unwrap();
    let early = timeout(Duration::from_millis(50), pair.server.accept_bi()).await;
    assert!(early.is_err(), "the header is not complete");
    ours.write_all(&[0, b'h', b'i']).await.unwrap();
    let (send, mut recv) = pair.server.accept_bi().await.unwrap();
    assert_eq!(recv.read(16).await.unwrap().unwrap().as_ref(), b"hi");
    assert_eq!(
        other.stopped().await.unwrap(),
        Some(H3_REQUEST_REJECTED.into())
    );
    theirs
        .stop(VarInt::from_u64(error_to_http3(31)).unwrap())
        .unwrap();
    let mut send = send;
    let refused = loop {
        let mut chunks = [bytes::Bytes::from_static(b"?")];
        if let Err(error) = send.write_all(&mut chunks).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refused, StreamError::Peer(Code(31)));
    drop(recv);
    let code = ours.stopped().await.unwrap().unwrap().into_inner();
    assert_eq!(code, error_to_http3(Code::ENDED.0));
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_not_taken_for_a_finished_one() {
    let pair = pair().await;
    let mut ends = Vec::new();
    for finish in [true, false] {
        let (mut ours, mut theirs) = pair.client.open_bi().await.unwrap();
        ours.write_all(&[0x40, 0x41, 0]).await.unwrap();
        let (mut stream, _recv) = pair.server.accept_bi().await.unwrap();
        let mut chunks = [bytes::Bytes::from_static(b"half a")];
        stream.write_all(&mut chunks).await.unwrap();
        if finish {
            stream.finish();
        }
        drop(stream);
        ends.push(theirs.read_to_end(1024).await);
    }
    assert_eq!(ends[0].as_ref().unwrap(), b"half a");
    let code = quinn::VarInt::from_u64(error_to_http3(Code::ENDED.0)).unwrap();
    let reset = quinn::ReadToEndError::Read(quinn::ReadError::Reset(code));
    assert_eq!(ends[1], Err(reset));
}

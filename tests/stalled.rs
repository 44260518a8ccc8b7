//! Clients that take nothing of what waits for them, and clients that take it slowly (PROTOCOL §7).

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{
    both, bounded,
    raw::{Dial, hello},
    websocket::{on_control, open, parameters},
};
use futures_util::{SinkExt, StreamExt};
use tidings::{
    Code, Message,
    client::Transport,
    testing::TestServer,
    wire::frame::{Frame, Ping, Subscribe},
};
use tokio_tungstenite::tungstenite;

const LIMIT: Duration = Duration::from_secs(1);

async fn server() -> TestServer {
    TestServer::start_with(|builder| builder.stalled(LIMIT)).await
}

/// More than a client permits that reads nothing.
fn publish(server: &TestServer) {
    let room = "chat-room-7".parse().unwrap();
    for _ in 0..40 {
        let message = Message::data("application/octet-stream", vec![7; 10_000]);
        server.broker().publish(&room, None, &message).unwrap();
    }
}

both!(client_that_reads_nothing_but_sends_is_disconnected);
async fn client_that_reads_nothing_but_sends_is_disconnected(transport: Transport) {
    let server = server().await;
    let dial = Dial::new(&server, transport).window(20_000);
    let (mut raw, _) = dial.welcomed(server.token("42")).await;
    raw.subscribe("chat-room-7").await.unwrap();
    publish(&server);
    let (code, reason) = loop {
        // The control stream works, and says nothing of what the others take.
        raw.send(Ping { request: 7 }).await;
        tokio::select! {
            closed = raw.closed() => break closed,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    };
    assert_eq!(code, Code::STALLED, "{reason}");
    assert!(reason.contains("nothing for 1 s"), "{reason}");
}

both!(client_that_reads_slowly_stays);
async fn client_that_reads_slowly_stays(transport: Transport) {
    let server = server().await;
    let dial = Dial::new(&server, transport).window(20_000);
    let (mut raw, _) = dial.welcomed(server.token("42")).await;
    raw.subscribe("chat-room-7").await.unwrap();
    // Its header names the channel; the others are those that the rules give.
    let mut stream = loop {
        let mut stream = raw.session.accept_uni().await.unwrap();
        let header = stream.read_chunk(1_000, true).await.unwrap().unwrap();
        let begins = |part: &[u8]| part == b"chat-room-7";
        if header.bytes.windows(11).any(begins) {
            break stream;
        }
    };
    publish(&server);
    let mut read = 0;
    // Three times the limit, in which it takes a part of what waits.
    for _ in 0..30 {
        let chunk = stream.read_chunk(8_000, true).await.unwrap().unwrap();
        read += chunk.bytes.len();
        tokio::time::sleep(LIMIT / 10).await;
    }
    assert!(read < 400_000, "all was read: {read}");
    raw.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_that_reads_nothing_but_sends_is_disconnected() {
    bounded(async {
        let server = server().await;
        let mut socket = open(server.address()).await;
        let much = |id| [id, 4, 0x81, 0, 0, 0];
        // 16 KiB of each stream of the server.
        let permitted = [
            &much(4)[..],
            &much(5),
            &[7, 4, 0x80, 0, 0x40, 0],
            &[9, 1, 10],
        ]
        .concat();
        let hello = Frame::from(hello(Some(server.token("42")))).encode();
        let subscribe = Frame::from(Subscribe {
            request: 1,
            channel: "chat-room-7".to_owned(),
        });
        let said = Bytes::from([hello, subscribe.encode()].concat());
        for record in [parameters(&permitted), on_control(&said)] {
            socket.send(record).await.unwrap();
        }
        let begins = |record: &[u8]| record.windows(11).any(|part| part == b"chat-room-7");
        while !begins(&socket.next().await.unwrap().unwrap().into_data()) {}
        publish(&server);
        // It reads every record, and lets no stream go on; the end says why.
        let mut last = Bytes::new();
        loop {
            let pinged = socket.send(tungstenite::Message::Ping(Bytes::new())).await;
            match tokio::time::timeout(LIMIT / 20, socket.next()).await {
                Ok(Some(Ok(tungstenite::Message::Binary(record)))) => last = record,
                Ok(None | Some(Err(_))) => break,
                Ok(Some(Ok(_))) | Err(_) if pinged.is_err() => break,
                _ => {}
            }
        }
        let text = String::from_utf8_lossy(&last).into_owned();
        assert!(text.contains("read nothing for 1 s"), "{text:?}");
    })
    .await;
}

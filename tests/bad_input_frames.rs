//! Frames at the edge that close nothing: unknown ones, the longest that may be, and requests in a row (PROTOCOL §3.5, §4).

mod common;

use common::{
    both,
    raw::{Dial, Member, assert_refusal, frame, hello},
};
use tidings::{
    Code,
    client::Transport,
    testing::TestServer,
    wire::frame::{Frame, Ping, Subscribe, Unsubscribe},
};

fn encode(frame: impl Into<Frame>) -> Vec<u8> {
    frame.into().encode().to_vec()
}

both!(an_unknown_request_is_refused_and_the_connection_lives);
async fn an_unknown_request_is_refused_and_the_connection_lives(transport: Transport) {
    let server = TestServer::start().await;
    let mut member = Member::join(&server, transport).await;
    for kind in [0x1e, 0x20, 0x3f] {
        for (id, body) in [
            (250, [250].as_slice()),
            (0x0201, &[251, 1, 2, 0xff, 0xff, 0xff]),
            (u64::MAX, &[253, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            member.raw.send_raw(kind, body).await;
            let refusal = member.raw.answer(id).await.unwrap_err();
            let word = format!("{kind:#04x}");
            assert_refusal("unknown", &refusal, Code::UNKNOWN_REQUEST, &word);
        }
        member.works().await;
    }
}

both!(an_unknown_frame_is_skipped);
async fn an_unknown_frame_is_skipped(transport: Transport) {
    let server = TestServer::start().await;
    let dial = Dial::new(&server, transport);
    let mut member = Member::join_with(&server, &dial).await;
    for kind in [0x00, 0x04, 0x0f, 0x4f, 0x5f, 0x6e, 250] {
        for body in [[].as_slice(), &[1], &[0xff; 200]] {
            member.raw.send_raw(kind, body).await;
        }
        member.works().await;
    }
    // Types of two and of eight bytes.
    member.raw.write(&[4, 251, 0, 1, 9]).await;
    member
        .raw
        .write(&[[10, 253].as_slice(), &[0xff; 9]].concat())
        .await;
    member.works().await;

    // Before Hello as well: what is unknown may be of a later version.
    let mut raw = dial.open().await;
    raw.send_raw(0x0f, &[1, 2, 3]).await;
    raw.send(hello(Some(server.token("42")))).await;
    assert!(matches!(raw.next().await, Frame::Welcome(_)));
}

both!(a_hello_as_long_as_may_be_is_taken);
async fn a_hello_as_long_as_may_be_is_taken(transport: Transport) {
    let server = TestServer::start().await;
    let dial = Dial::new(&server, transport);
    let mut long = hello(Some(server.token("42")));
    // A client that likes its name, with control characters, which belong in no log.
    let empty = encode(long.clone()).len();
    long.client = "\n".repeat(16_384 - empty - 10);
    let mut encoded = encode(long.clone());
    while encoded.len() < 3 + 16_384 {
        long.client.push('x');
        encoded = encode(long.clone());
    }
    assert_eq!(encoded[..3], [251, 0, 64], "16,384 bytes after the length");
    let mut raw = dial.open().await;
    raw.write(&encoded).await;
    assert!(matches!(raw.next().await, Frame::Welcome(_)));

    long.client.push('x');
    let mut raw = dial.open().await;
    raw.write(&encode(long)).await;
    assert_refusal(
        "too long",
        &raw.closed().await,
        Code::FRAME_TOO_LARGE,
        "16384",
    );
}

both!(requests_are_answered_in_order_whatever_becomes_of_them);
async fn requests_are_answered_in_order_whatever_becomes_of_them(transport: Transport) {
    let server = TestServer::start().await;
    let mut member = Member::join(&server, transport).await;
    let pipeline = [
        encode(Ping { request: 70 }),
        encode(Subscribe {
            request: 71,
            channel: "no name".into(),
        }),
        frame(0x3f, &[72]).to_vec(),
        frame(0x5f, &[73]).to_vec(),
        encode(Unsubscribe {
            request: 74,
            subscription: 999,
        }),
        encode(Ping { request: 75 }),
    ]
    .concat();
    // Cut where no frame ends.
    for piece in pipeline.chunks(5) {
        member.raw.write(piece).await;
    }
    assert!(matches!(member.raw.answer(70).await, Ok(Frame::Pong(_))));
    for (id, code) in [
        (71, Code::INVALID_CHANNEL),
        (72, Code::UNKNOWN_REQUEST),
        (74, Code::NOT_SUBSCRIBED),
    ] {
        assert_eq!(member.raw.answer(id).await.unwrap_err().0, code);
    }
    assert!(matches!(member.raw.answer(75).await, Ok(Frame::Pong(_))));
    member.works().await;
}

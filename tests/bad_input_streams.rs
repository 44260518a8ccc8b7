//! Streams that are too many, not permitted, not read or not asked for (PROTOCOL §2.3, §4.4, §4.5).

mod common;

use common::{
    both,
    raw::{Dial, Member, Raw, assert_refusal, frame},
};
use tidings::{
    Code, Message, client::Transport, server::Limits, testing::TestServer, wire::frame::Frame,
};
use web_transport_quinn::ReadError;

both!(more_subscriptions_than_welcome_states_are_refused);
async fn more_subscriptions_than_welcome_states_are_refused(transport: Transport) {
    let mut limits = Limits::default();
    limits.subscriptions = 5;
    let server = TestServer::start_with(|builder| builder.limits(limits)).await;
    let mut member = Member::join(&server, transport).await;
    assert_eq!(member.welcome.limits.subscriptions, 5);
    // Two by the rules and the member's own.
    let mut streams = Vec::new();
    for name in ["chat-room-1", "chat-room-2"] {
        let subscribed = member.raw.subscribe(name).await.unwrap();
        streams.push((
            subscribed.subscription,
            member.raw.stream(subscribed.subscription).await,
        ));
    }
    for name in ["chat-room-3", "chat-room-4"] {
        let refusal = member.raw.subscribe(name).await.unwrap_err();
        assert_refusal(name, &refusal, Code::TOO_MANY_SUBSCRIPTIONS, "at most 5");
        member.works().await;
    }
    // Unsubscribed is the word that there is room, though the stream may still have its last words to say.
    for round in 0..8 {
        let (subscription, mut stream) = streams.remove(0);
        member.raw.unsubscribe(subscription).await.unwrap();
        let name = format!("chat-room-again-{round}");
        let subscribed = member.raw.subscribe(&name).await.unwrap();
        let refusal = member.raw.subscribe("chat-room-3").await.unwrap_err();
        assert_refusal(
            "full again",
            &refusal,
            Code::TOO_MANY_SUBSCRIPTIONS,
            "at most 5",
        );
        stream.ends().await;
        streams.push((
            subscribed.subscription,
            member.raw.stream(subscribed.subscription).await,
        ));
    }
    member.works().await;
}

both!(without_a_stream_left_a_subscription_is_refused_at_once);
async fn without_a_stream_left_a_subscription_is_refused_at_once(transport: Transport) {
    let server = TestServer::start().await;
    // Two by the rules, the member's own, one more.
    let dial = Dial::new(&server, transport).streams(4);
    let mut member = Member::join_with(&server, &dial).await;
    let subscribed = member.raw.subscribe("chat-room-1").await.unwrap();
    let mut stream = member.raw.stream(subscribed.subscription).await;
    for round in 0..10 {
        let name = format!("chat-room-more-{round}");
        let refusal = member.raw.subscribe(&name).await.unwrap_err();
        assert_refusal(&name, &refusal, Code::NO_STREAM_LEFT, "no further stream");
        member.raw.ping().await;
        member.works().await;
    }
    member
        .raw
        .unsubscribe(subscribed.subscription)
        .await
        .unwrap();
    stream.ends().await;
    // The client permits another stream now; its word for that is on the way.
    let subscribed = loop {
        match member.raw.subscribe("chat-room-2").await {
            Ok(subscribed) => break subscribed,
            Err(refusal) => assert_eq!(refusal.0, Code::NO_STREAM_LEFT, "{}", refusal.1),
        }
    };
    let mut stream = member.raw.stream(subscribed.subscription).await;
    member
        .raw
        .publish("chat-room-2", Message::text("again"))
        .await
        .unwrap();
    stream.hears("again").await;
    member.works().await;
}

both!(a_client_that_permits_no_stream_is_welcome_and_told_so);
async fn a_client_that_permits_no_stream_is_welcome_and_told_so(transport: Transport) {
    let server = TestServer::start().await;
    let dial = Dial::new(&server, transport);
    let (mut raw, welcome) = dial.clone().streams(0).welcomed(server.token("42")).await;
    assert_eq!(
        welcome.subscriptions,
        [],
        "no stream for what the rules give"
    );
    let refusal = raw.subscribe("chat-room-1").await.unwrap_err();
    assert_refusal("none", &refusal, Code::NO_STREAM_LEFT, "no further stream");
    raw.publish("chat-room-1", Message::text("hi"))
        .await
        .unwrap();
    // With one, Welcome lists the one that was made.
    let (mut raw, welcome) = dial.streams(1).welcomed(server.token("42")).await;
    let [made] = welcome.subscriptions.as_slice() else {
        panic!("{:?}", welcome.subscriptions);
    };
    assert_eq!(made.channel, "user-42");
    let mut stream = raw.stream(made.subscription).await;
    server
        .broker()
        .notify(&"42".parse().unwrap(), "for you")
        .unwrap();
    stream.hears("for you").await;
    let refusal = raw.subscribe("global").await.unwrap_err();
    assert_refusal(
        "the other",
        &refusal,
        Code::NO_STREAM_LEFT,
        "no further stream",
    );
}

both!(unsubscribing_from_a_stream_that_is_not_read_resets_it);
async fn unsubscribing_from_a_stream_that_is_not_read_resets_it(transport: Transport) {
    let server = TestServer::start().await;
    let dial = Dial::new(&server, transport).window(4096);
    let mut member = Member::join_with(&server, &dial).await;
    let subscription = member
        .raw
        .subscribe("chat-room-7")
        .await
        .unwrap()
        .subscription;
    let mut stream = member.raw.stream(subscription).await;
    for _ in 0..4 {
        let message = Message::data("", vec![0; 60_000]);
        member.raw.publish("chat-room-7", message).await.unwrap();
    }
    // Reading the first one whole shows that the writer is at it, and it cannot be done with the rest.
    assert!(matches!(stream.next().await, Frame::Publication(_)));
    member.works().await;
    member.raw.unsubscribe(subscription).await.unwrap();
    let code = loop {
        match stream.read().await {
            Ok(Some(Frame::Publication(_))) => {}
            Err(ReadError::Reset(code)) => break code,
            other => panic!("no reset but {other:?}"),
        }
    };
    assert_eq!(Code(code), Code::UNSUBSCRIBED);
    member.works().await;
}

both!(further_bidirectional_streams_are_reset);
async fn further_bidirectional_streams_are_reset(transport: Transport) {
    let server = TestServer::start().await;
    let mut member = Member::join(&server, transport).await;
    for bytes in [frame(0x13, &[1]), frame(1, &[1]), vec![0xff; 5000].into()] {
        assert_reset(&member.raw, &bytes).await;
        member.works().await;
    }
    // As many as one likes, one after the other.
    for _ in 0..50 {
        assert_reset(&member.raw, b"more").await;
    }
    member.works().await;
}

async fn assert_reset(raw: &Raw, bytes: &[u8]) {
    let (mut send, mut recv) = raw.session.open_bi().await.unwrap();
    drop(send.write_all(bytes).await);
    match recv.read_chunk(usize::MAX, true).await {
        Err(ReadError::Reset(code)) => assert_eq!(Code(code), Code::UNEXPECTED_FRAME),
        other => panic!("no reset but {other:?}"),
    }
    let stopped = send.stopped().await.unwrap();
    assert_eq!(stopped.map(Code), Some(Code::UNEXPECTED_FRAME));
}

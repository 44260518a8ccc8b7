//! Requests that are refused: each with its code and a reason, and the connection lives (PROTOCOL §4.3).

mod common;

use std::time::Duration;

use common::{
    both,
    raw::{Bystander, Dial, Member, assert_refusal},
};
use tidings::{
    Code, Message,
    auth::{Claims, Permissions},
    client::Transport,
    server::Limits,
    testing::TestServer,
    wire::{Pattern, frame::Frame},
};

both!(a_name_that_breaks_the_grammar_is_refused);
async fn a_name_that_breaks_the_grammar_is_refused(transport: Transport) {
    let server = TestServer::start().await;
    let mut member = Member::join(&server, transport).await;
    let long = "x".repeat(256);
    for (name, word) in [
        ("", "empty"),
        (long.as_str(), "256 bytes, 255 are allowed"),
        (" ", "' '"),
        ("chat room", "' ' at byte 4"),
        ("chat-room-7\n", "at byte 11"),
        ("a\0b", "at byte 1"),
        ("chat-room-ä", "'ä'"),
        ("комната", "at byte 0"),
        ("a\u{202e}b", "at byte 1"),
        ("user-{user}", "'{'"),
        ("chat-room-*", "'*'"),
        ("a?b", "'?'"),
        ("a#b", "'#'"),
        ("a\\b", "at byte 1"),
        ("a\"b", "at byte 1"),
        ("<a>", "'<'"),
    ] {
        let refusal = member.raw.subscribe(name).await.unwrap_err();
        assert_refusal(name, &refusal, Code::INVALID_CHANNEL, word);
        let refusal = member
            .raw
            .publish(name, Message::text(""))
            .await
            .unwrap_err();
        assert_refusal(name, &refusal, Code::INVALID_CHANNEL, word);
        assert!(
            refusal.1.chars().all(|c| !c.is_control()),
            "{:?}",
            refusal.1
        );
        member.works().await;
    }
    // The longest name, with all that a name may have.
    let mut longest = "chat-room-Az09-_.:/@+=~,|%".to_owned();
    longest.extend(std::iter::repeat_n('x', 255 - longest.len()));
    member.raw.subscribe(&longest).await.unwrap();
    member
        .raw
        .publish(&longest, Message::text(""))
        .await
        .unwrap();
    member.works().await;
}

both!(what_nobody_granted_is_refused);
async fn what_nobody_granted_is_refused(transport: Transport) {
    let server = TestServer::start().await;
    // By the default rules the user is 42.
    let mut member = Member::join(&server, transport).await;
    for name in [
        "user-43",
        "user-",
        "user-42-",
        "User-42",
        "secret",
        "chat-room-",
    ] {
        let refusal = member.raw.subscribe(name).await.unwrap_err();
        assert_refusal(name, &refusal, Code::PERMISSION_DENIED, name);
        assert!(refusal.1.contains("subscribe"), "{}", refusal.1);
        member.works().await;
    }
    for name in ["user-42", "user-43", "global", "topic-news", "secret"] {
        let refusal = member
            .raw
            .publish(name, Message::text("x"))
            .await
            .unwrap_err();
        assert_refusal(name, &refusal, Code::PERMISSION_DENIED, name);
        assert!(refusal.1.contains("publish"), "{}", refusal.1);
        member.works().await;
    }
}

both!(what_a_token_denies_is_refused_whatever_the_rules_say);
async fn what_a_token_denies_is_refused_whatever_the_rules_say(transport: Transport) {
    let server = TestServer::start().await;
    let permissions = Permissions {
        allow: vec![Pattern::parse("secret-{x}").unwrap()],
        deny: vec![Pattern::parse("chat-room-7").unwrap()],
    };
    let end = std::time::SystemTime::now() + Duration::from_secs(60);
    let claims = Claims::new(&"42".parse().unwrap(), end)
        .subscribe(&permissions)
        .publish(&permissions);
    let token = server.issuer().issue_with(claims);
    let (mut raw, _) = Dial::new(&server, transport).welcomed(token).await;
    let refusal = raw.subscribe("chat-room-7").await.unwrap_err();
    assert_refusal(
        "subscribe",
        &refusal,
        Code::PERMISSION_DENIED,
        "chat-room-7",
    );
    let refusal = raw
        .publish("chat-room-7", Message::text(""))
        .await
        .unwrap_err();
    assert_refusal("publish", &refusal, Code::PERMISSION_DENIED, "chat-room-7");
    for name in ["secret-1", "chat-room-8"] {
        let subscribed = raw.subscribe(name).await.unwrap();
        let mut stream = raw.stream(subscribed.subscription).await;
        raw.publish(name, Message::text(name)).await.unwrap();
        stream.hears(name).await;
    }
}

both!(subscribing_twice_is_refused_and_the_first_subscription_goes_on);
async fn subscribing_twice_is_refused_and_the_first_subscription_goes_on(transport: Transport) {
    let server = TestServer::start().await;
    let mut member = Member::join(&server, transport).await;
    let first = member.raw.subscribe("chat-room-7").await.unwrap();
    let mut stream = member.raw.stream(first.subscription).await;
    // The last two are subscribed to by the rules.
    for name in ["chat-room-7", "chat-room-7", "user-42", "global"] {
        let refusal = member.raw.subscribe(name).await.unwrap_err();
        assert_refusal(name, &refusal, Code::ALREADY_SUBSCRIBED, name);
        assert!(refusal.1.contains("already"), "{}", refusal.1);
        member.works().await;
    }
    member
        .raw
        .publish("chat-room-7", Message::text("once"))
        .await
        .unwrap();
    stream.hears("once").await;
    // It came once: what comes next is the next.
    member
        .raw
        .publish("chat-room-7", Message::text("twice"))
        .await
        .unwrap();
    stream.hears("twice").await;
}

both!(unsubscribing_from_what_is_not_subscribed_is_refused);
async fn unsubscribing_from_what_is_not_subscribed_is_refused(transport: Transport) {
    let server = TestServer::start().await;
    let mut member = Member::join(&server, transport).await;
    let subscription = member
        .raw
        .subscribe("chat-room-7")
        .await
        .unwrap()
        .subscription;
    for wrong in [0, subscription + 1, u64::MAX] {
        let refusal = member.raw.unsubscribe(wrong).await.unwrap_err();
        assert_refusal("wrong", &refusal, Code::NOT_SUBSCRIBED, &wrong.to_string());
        member.works().await;
    }
    let mut stream = member.raw.stream(subscription).await;
    member.raw.unsubscribe(subscription).await.unwrap();
    let refusal = member.raw.unsubscribe(subscription).await.unwrap_err();
    assert_refusal("twice", &refusal, Code::NOT_SUBSCRIBED, "no subscription");
    stream.ends().await;
    let refusal = member.raw.unsubscribe(subscription).await.unwrap_err();
    assert_refusal("later", &refusal, Code::NOT_SUBSCRIBED, "no subscription");
    member.works().await;
    // The same channel again is another subscription.
    let again = member.raw.subscribe("chat-room-7").await.unwrap();
    assert_ne!(again.subscription, subscription);
}

both!(a_message_at_the_limit_passes_and_one_above_it_does_not);
async fn a_message_at_the_limit_passes_and_one_above_it_does_not(transport: Transport) {
    let server = TestServer::start().await;
    let mut member = Member::join(&server, transport).await;
    let limit = usize::try_from(member.welcome.limits.message).unwrap();
    assert_eq!(limit, 64 * 1024);
    message_limit(&mut member, limit).await;
}

both!(a_small_message_limit_holds_too);
async fn a_small_message_limit_holds_too(transport: Transport) {
    let mut limits = Limits::default();
    limits.message = 100;
    let server = TestServer::start_with(|builder| builder.limits(limits)).await;
    let mut member = Member::join(&server, transport).await;
    assert_eq!(member.welcome.limits.message, 100);
    message_limit(&mut member, 100).await;
}

async fn message_limit(member: &mut Member, limit: usize) {
    let subscribed = member.raw.subscribe("chat-room-7").await.unwrap();
    let mut stream = member.raw.stream(subscribed.subscription).await;
    let data = |size: usize| Message::data("a/b", vec![7; size - 3]);
    let notification = |size: usize| Message::notification("x".repeat(size), 1);
    let announcement = |size: usize| Message::announcement("x".repeat(size), 1);
    let type_alone = |size: usize| Message::data("x".repeat(size), vec![]);
    let makers: [&dyn Fn(usize) -> Message; 4] = [&data, &notification, &announcement, &type_alone];
    for make in makers {
        for size in [limit, limit - 1] {
            let message = make(size);
            assert_eq!(message.size(), size);
            member
                .raw
                .publish("chat-room-7", message.clone())
                .await
                .unwrap();
            match stream.next().await {
                Frame::Publication(heard) => assert_eq!(heard.message, message),
                other => panic!("no Publication but {other:?}"),
            }
        }
        for size in [limit + 1, limit + 32 * 1024] {
            let refusal = member
                .raw
                .publish("chat-room-7", make(size))
                .await
                .unwrap_err();
            let word = format!("{size} bytes, {limit} are allowed");
            assert_refusal("above", &refusal, Code::MESSAGE_TOO_LARGE, &word);
            member.works().await;
        }
    }
    // Nothing of what was refused was published.
    member
        .raw
        .publish("chat-room-7", Message::text("last"))
        .await
        .unwrap();
    stream.hears("last").await;
}

both!(a_message_far_above_the_limit_closes_the_session);
async fn a_message_far_above_the_limit_closes_the_session(transport: Transport) {
    let server = TestServer::start().await;
    let mut bystander = Bystander::join(&server, transport).await;
    let dial = Dial::new(&server, transport);
    let (mut raw, welcome) = dial.welcomed(server.token("42")).await;
    let publish = tidings::wire::frame::Publish {
        request: 1,
        channel: "chat-room-7".into(),
        message: Message::data("", vec![0; usize::try_from(welcome.limits.frame).unwrap()]),
    };
    raw.send(publish).await;
    let word = format!("{} are allowed", welcome.limits.frame);
    assert_refusal(
        "far above",
        &raw.closed().await,
        Code::FRAME_TOO_LARGE,
        &word,
    );
    bystander.is_undisturbed().await;
}

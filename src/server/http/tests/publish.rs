use futures_util::StreamExt;
use serde_json::{Value, json};

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::{KEY, LONG, Server, patient};
use crate::{
    auth::{Rule, Rules, Who},
    broker::{self, Delivery, Subscription},
    wire::{ChannelName, Message, Publication, UserId},
};

async fn next(subscription: &mut Subscription) -> Publication {
    match tokio::time::timeout(LONG, subscription.next()).await {
        Ok(Some(Delivery::Publication(publication))) => publication,
        other => panic!("{other:?}"),
    }
}

fn subscribe(server: &Server, channel: &str) -> Subscription {
    let channel = ChannelName::parse(channel).unwrap();
    server.broker.subscribe(&channel).unwrap()
}

/// What the answer says of the position is where the publication stands.
fn wanted(subscription: &Subscription, offset: u64) -> Value {
    json!({
        "channel": subscription.channel().as_str(),
        "epoch": subscription.position().epoch.to_string(),
        "offset": offset,
    })
}

#[tokio::test]
async fn a_notification_reaches_the_user() {
    let server = Server::start().await;
    let mut subscription = subscribe(&server, "user-42");
    for offset in 1..=2 {
        let text = format!("line {offset} \u{1f427}");
        let answer = server
            .post("/v1/notify", &json!({"user": "42", "text": text}))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json(), wanted(&subscription, offset));
        let publication = next(&mut subscription).await;
        assert_eq!((publication.offset, publication.publisher), (offset, None));
        let Message::Notification(notification) = publication.message else {
            panic!("{:?}", publication.message)
        };
        assert_eq!(notification.text, text);
        assert!(notification.timestamp > 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_announcement_reaches_global() {
    let server = Server::start().await;
    let mut subscription = subscribe(&server, "global");
    let answer = server.post("/v1/announce", &json!({"text": "hear"})).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, wanted(&subscription, 1))
    );
    let message = next(&mut subscription).await.message;
    assert_eq!(
        (message.kind(), message.as_text()),
        ("announcement", Some("hear"))
    );
    server.stop().await;
}

#[tokio::test]
async fn text_json_and_bytes_reach_the_channel_with_their_content_types() {
    let server = Server::start().await;
    let mut subscription = subscribe(&server, "chat-room-7");
    let text = "text/plain; charset=utf-8";
    let cases: [(&str, &str, &[u8]); 9] = [
        (r#""text": "hi \u00e9""#, text, "hi \u{e9}".as_bytes()),
        (r#""text": """#, text, b""),
        (
            r#""text": "x", "content_type": "text/markdown""#,
            "text/markdown",
            b"x",
        ),
        // Character by character: order, spaces, and more digits than a double has.
        (
            r#""json": {"b": 1.0, "a": [12345678901234567890.123]}"#,
            "application/json",
            br#"{"b": 1.0, "a": [12345678901234567890.123]}"#,
        ),
        (r#""json": null"#, "application/json", b"null"),
        (
            r#""json": "s", "text": null"#,
            "application/json",
            br#""s""#,
        ),
        (
            r#""json": 1, "content_type": "application/geo+json""#,
            "application/geo+json",
            b"1",
        ),
        (
            r#""base64": "AP/+""#,
            "application/octet-stream",
            &[0, 255, 254],
        ),
        (
            r#""base64": "iQ==", "content_type": "image/png""#,
            "image/png",
            &[0x89],
        ),
    ];
    for (index, (fields, content_type, bytes)) in cases.into_iter().enumerate() {
        let body = format!(r#"{{"channel": "chat-room-7", {fields}}}"#);
        let answer = server.post_text("/v1/publish", &body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert_eq!(answer.json(), wanted(&subscription, index as u64 + 1));
        let publication = next(&mut subscription).await;
        assert_eq!(publication.publisher, None);
        let message = Message::data(content_type, bytes.to_vec());
        assert_eq!(publication.message, message, "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_key_comes_in_either_header_and_the_body_in_chunks_too() {
    let server = Server::start().await;
    let body = r#"{"text":"x"}"#;
    for headers in [
        format!("Authorization: Bearer {KEY}"),
        format!("authorization: bEARER   {KEY}"),
        format!("X-API-Key: {KEY}"),
        // A proxy's own credentials do not get in the way.
        format!("Authorization: Basic dTpw\r\nX-API-Key: {KEY}"),
        format!(
            "Authorization: Bearer {}\r\nX-API-Key: {KEY}",
            "z".repeat(27)
        ),
    ] {
        let answer = server
            .ask(&format!(
                "POST /v1/announce HTTP/1.1\r\nHost: t\r\n{headers}\r\n\
                 Content-Type: Application/JSON ; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\n{}\r\n7\r\n{}\r\n0",
                &body[..5],
                &body[5..]
            ))
            .await;
        assert_eq!(answer.status, 200, "{headers}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn health_counts_and_needs_no_key() {
    let server = Server::start().await;
    let answer = server.ask("GET /health HTTP/1.1\r\nHost: t").await;
    let version = env!("CARGO_PKG_VERSION");
    let wanted = json!({"status": "ok", "version": version, "channels": 0, "subscriptions": 0});
    assert_eq!((answer.status, answer.json()), (200, wanted));

    let _readers = [
        subscribe(&server, "a"),
        subscribe(&server, "a"),
        subscribe(&server, "b"),
    ];
    let answer = server.ask("GET /health HTTP/1.1\r\nHost: t").await;
    let wanted = json!({"status": "ok", "version": version, "channels": 2, "subscriptions": 3});
    assert_eq!((answer.status, answer.json()), (200, wanted));
    server.stop().await;
}

#[tokio::test]
async fn a_message_may_name_its_state_and_whom_it_is_not_for() {
    let server = Server::start().await;
    let mut subscription = subscribe(&server, "chat-room-7");
    let ask = async |name: &str, value: &str| {
        let body = json!({"channel": "chat-room-7", "text": "one", name: value});
        server.post("/v1/publish", &body).await
    };
    for (offset, (name, value)) in (1..).zip([
        ("conflation_key", "player-17"),
        ("exclude_session", "00c0ffee00c0ffee"),
    ]) {
        let answer = ask(name, value).await;
        let wanted = wanted(&subscription, offset);
        assert_eq!((answer.status, answer.json()), (200, wanted));
        assert_eq!(next(&mut subscription).await.message.as_text(), Some("one"));
    }
    let long = "k".repeat(129);
    for (name, value, code) in [
        ("conflation_key", "", "invalid_key"),
        ("conflation_key", &long, "invalid_key"),
        ("exclude_session", "", "invalid_request"),
        ("exclude_session", "c0ffee", "invalid_request"),
        ("exclude_session", "00c0ffee00c0ffe+", "invalid_request"),
    ] {
        let answer = ask(name, value).await;
        assert_eq!(answer.json()["error"]["code"], code, "{answer:?}");
        let status = if code == "invalid_key" { 422 } else { 400 };
        assert_eq!(answer.status, status);
    }
    assert_eq!(server.broker.stats().publications, 2);
    server.stop().await;
}

#[tokio::test]
async fn a_message_with_a_key_is_stored_once() {
    let server = Server::start().await;
    let mut subscription = subscribe(&server, "chat-room-7");
    let ask = async |text: &str, key: &str| {
        let body = json!({"channel": "chat-room-7", "text": text, "key": key});
        server.post("/v1/publish", &body).await
    };
    for duplicate in [false, true, true] {
        let answer = ask("one", "a").await;
        let mut wanted = wanted(&subscription, 1);
        wanted["duplicate"] = json!(duplicate);
        assert_eq!((answer.status, answer.json()), (200, wanted));
    }
    let longest = "k".repeat(128);
    assert_eq!(ask("two", &longest).await.json()["offset"], 2);
    for (key, status, code) in [
        ("a", 409, "key_reused"),
        ("", 422, "invalid_key"),
        (&"k".repeat(129), 422, "invalid_key"),
    ] {
        let answer = ask("other", key).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (status, &json!(code)),
            "{answer:?}"
        );
    }
    for text in ["one", "two"] {
        assert_eq!(next(&mut subscription).await.message.as_text(), Some(text));
    }
    assert_eq!(server.broker.stats().publications, 2);
    server.stop().await;
}

/// A server whose clock shows another time whenever it is read.
async fn with_a_running_clock() -> Server {
    let time = AtomicU64::new(1_000_000);
    let config = broker::Config {
        clock: Arc::new(move || time.fetch_add(1_000, Ordering::Relaxed)),
        ..broker::Config::default()
    };
    Server::with(config, patient()).await
}

#[tokio::test]
async fn repeated_notification_and_announcement_with_a_key_are_stored_once() {
    let server = with_a_running_clock().await;
    for (path, channel, body) in [
        (
            "/v1/notify",
            "user-42",
            json!({"user": "42", "text": "one", "key": "a"}),
        ),
        ("/v1/announce", "global", json!({"text": "one", "key": "a"})),
    ] {
        let mut subscription = subscribe(&server, channel);
        for duplicate in [false, true, true] {
            let answer = server.post(path, &body).await;
            let mut wanted = wanted(&subscription, 1);
            wanted["duplicate"] = json!(duplicate);
            assert_eq!((answer.status, answer.json()), (200, wanted));
        }
        let mut other = body.clone();
        other["text"] = json!("two");
        let answer = server.post(path, &other).await;
        answer.error(409, "key_reused", Some(117));
        for key in ["", &"k".repeat(129)] {
            other["key"] = json!(key);
            let answer = server.post(path, &other).await;
            assert_eq!(answer.status, 422, "{answer:?}");
            assert_eq!(answer.json()["error"]["code"], "invalid_key");
        }
        // Without a key each is one of its own, and `duplicate` is not there; `null` is no key.
        other["key"] = Value::Null;
        for offset in [2, 3] {
            let answer = server.post(path, &other).await;
            assert_eq!(answer.json(), wanted(&subscription, offset));
        }
        for text in ["one", "two", "two"] {
            let publication = next(&mut subscription).await;
            assert_eq!(publication.message.as_text(), Some(text));
            let (Message::Notification(crate::wire::Notification { timestamp, .. })
            | Message::Announcement(crate::wire::Announcement { timestamp, .. })) =
                publication.message
            else {
                panic!("another kind")
            };
            assert!(timestamp >= 1_000_000, "the timestamp is the server's");
        }
    }
    // A key of one user's notifications is none of another's.
    let body = json!({"user": "43", "text": "one", "key": "a"});
    let answer = server.post("/v1/notify", &body).await;
    assert_eq!(answer.json()["duplicate"], false);
    server.stop().await;
}

#[tokio::test]
async fn repetitions_at_the_same_time_are_stored_once() {
    let server = with_a_running_clock().await;
    let body = json!({"text": "one", "key": "a"});
    let answers = (0..16).map(|_| server.post("/v1/announce", &body));
    let answers = futures_util::future::join_all(answers).await;
    let first = answers
        .iter()
        .filter(|answer| answer.json()["duplicate"] == false);
    assert_eq!(first.count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.json()["offset"] == 1));
    server.stop().await;
}

#[tokio::test]
async fn publishing_user_is_shown_unless_the_rule_hides_publishers() {
    let rule = |pattern: &str| Rule::new(pattern.parse().unwrap(), Who::Everyone, Who::Nobody);
    let rules = Rules::new(vec![
        rule("room-{room}"),
        rule("vote-{vote}").hide_publisher(),
    ]);
    let server = Server::with_rules(broker::Config::default(), patient(), rules.unwrap()).await;
    // A channel without a rule, too.
    for (channel, shown) in [("room-7", true), ("vote-7", false), ("elsewhere", true)] {
        let mut subscription = subscribe(&server, channel);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listening = Arc::clone(&heard);
        let name = ChannelName::parse(channel).unwrap();
        let _guard = server.broker.listen(&name, move |received| {
            listening.lock().unwrap().push(received.user.clone());
        });
        for (user, publisher) in [
            (json!("42"), Some("42")),
            (json!("a@b:c/d"), Some("a@b:c/d")),
            (Value::Null, None),
        ] {
            let body = json!({"channel": channel, "text": "x", "user": user});
            let answer = server.post("/v1/publish", &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let publication = next(&mut subscription).await;
            let wanted = publisher.filter(|_| shown);
            assert_eq!(publication.publisher.as_deref(), wanted, "{channel}");
            // Code of the server itself learns the user all the same.
            let user = heard.lock().unwrap().pop().unwrap();
            assert_eq!(user.as_ref().map(UserId::as_str), publisher, "{channel}");
        }
    }
    for user in ["", "a b", "*", "{user}", "\u{e9}", &"u".repeat(201)] {
        let body = json!({"channel": "room-7", "text": "x", "user": user});
        let answer = server.post("/v1/publish", &body).await;
        answer.error(422, "invalid_user", None);
    }
    let answer = server
        .post(
            "/v1/publish",
            &json!({"channel": "room-7", "text": "x", "user": 42}),
        )
        .await;
    answer.error(400, "invalid_request", None);
    // A key is that of the user who publishes.
    for (user, duplicate) in [("42", false), ("43", false), ("42", true)] {
        let body = json!({"channel": "vote-7", "text": "x", "user": user, "key": "k"});
        let answer = server.post("/v1/publish", &body).await;
        assert_eq!(answer.json()["duplicate"], duplicate, "{user}");
    }
    server.stop().await;
}

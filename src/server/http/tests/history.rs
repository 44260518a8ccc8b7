use serde_json::{Value, json};

use super::Server;
use crate::wire::{ChannelName, Message};

/// Of each publication what does not depend on the time.
fn entries(answer: &Value) -> Value {
    let mut entries = answer["publications"].clone();
    for entry in entries.as_array_mut().unwrap() {
        let timestamp = entry.as_object_mut().unwrap().remove("timestamp");
        assert!(timestamp.unwrap().as_u64().unwrap() > 1_600_000_000_000);
    }
    entries
}

#[tokio::test]
async fn what_is_kept_is_read_page_by_page() {
    let server = Server::start().await;
    let ask = async |body: Value| {
        let answer = server.post("/v1/history", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let channel = ChannelName::parse("chat-room-7").unwrap();
    let nothing = json!({"channel": "chat-room-7", "epoch": null, "first": null, "last": null, "complete": true, "publications": []});
    assert_eq!(ask(json!({"channel": "chat-room-7"})).await, nothing);
    assert_eq!(
        server.broker.position(&channel),
        None,
        "no channel was made"
    );
    let messages = [
        Message::text("one"),
        Message::data("a/b", vec![0, 255]),
        Message::announcement("three", 7),
    ];
    for message in messages {
        server
            .broker
            .publish(&channel, Some(&"42".parse().unwrap()), &message)
            .unwrap();
    }
    let one = json!({"offset": 1, "user": "42", "kind": "data", "content_type": "text/plain; charset=utf-8", "text": "one"});
    let two =
        json!({"offset": 2, "user": "42", "kind": "data", "content_type": "a/b", "data": "AP8="});
    let three = json!({"offset": 3, "user": "42", "kind": "announcement", "text": "three"});
    let all = ask(json!({"channel": "chat-room-7"})).await;
    assert_eq!(entries(&all), json!([one, two, three]));
    assert_eq!(
        (&all["first"], &all["last"], &all["complete"]),
        (&json!(1), &json!(3), &json!(true))
    );
    let epoch = all["epoch"].as_str().unwrap();
    let newest = ask(json!({"channel": "chat-room-7", "limit": 2, "reverse": true})).await;
    assert_eq!(entries(&newest), json!([three, two]));
    let from = |offset: u64| format!("{epoch}:{offset}");
    let rest = ask(json!({"channel": "chat-room-7", "from": from(1), "limit": 9})).await;
    assert_eq!(entries(&rest), json!([two, three]));
    let lost = ask(json!({"channel": "chat-room-7", "from": from(4)})).await;
    assert_eq!(
        (entries(&lost), &lost["complete"]),
        (json!([]), &json!(false))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_in_words() {
    let server = Server::start().await;
    for (body, status, code, word) in [
        (
            json!({"channel": "a b"}),
            422,
            "invalid_channel",
            "`channel`",
        ),
        (
            json!({"channel": "a", "from": "7"}),
            400,
            "invalid_request",
            "EPOCH:OFFSET",
        ),
        (
            json!({"channel": "a", "limit": -1}),
            400,
            "invalid_request",
            "limit",
        ),
        (json!({}), 400, "invalid_request", "channel"),
    ] {
        let answer = server.post("/v1/history", &body).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status, &error["code"]),
            (status, &json!(code)),
            "{answer:?}"
        );
        assert!(
            error["message"].as_str().unwrap().contains(word),
            "{answer:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn data_of_every_content_type_has_its_content_type() {
    let server = Server::start().await;
    for (fields, content_type, text, data) in [
        (
            json!({"text": "one"}),
            "text/plain; charset=utf-8",
            json!("one"),
            Value::Null,
        ),
        (
            json!({"json": {"a": [1]}}),
            "application/json",
            json!(r#"{"a":[1]}"#),
            Value::Null,
        ),
        (
            json!({"text": "# t", "content_type": "text/markdown"}),
            "text/markdown",
            json!("# t"),
            Value::Null,
        ),
        (
            json!({"json": 1, "content_type": "application/geo+json"}),
            "application/geo+json",
            Value::Null,
            json!("MQ=="),
        ),
        (
            json!({"base64": "AP8="}),
            "application/octet-stream",
            Value::Null,
            json!("AP8="),
        ),
        // Text by its content type, but not by its bytes.
        (
            json!({"base64": "AP8=", "content_type": "text/plain"}),
            "text/plain",
            Value::Null,
            json!("AP8="),
        ),
        (
            json!({"text": "x", "content_type": ""}),
            "",
            Value::Null,
            json!("eA=="),
        ),
    ] {
        let mut body = fields.clone();
        body["channel"] = json!("a");
        assert_eq!(server.post("/v1/publish", &body).await.status, 200);
        let query = json!({"channel": "a", "limit": 1, "reverse": true});
        let page = server.post("/v1/history", &query).await.json();
        let entry = &page["publications"][0];
        assert_eq!(
            (&entry["content_type"], &entry["text"], &entry["data"]),
            (&json!(content_type), &text, &data),
            "{fields}"
        );
    }
    let notify = json!({"user": "42", "text": "x"});
    assert_eq!(server.post("/v1/notify", &notify).await.status, 200);
    let page = server
        .post("/v1/history", &json!({"channel": "user-42"}))
        .await
        .json();
    assert_eq!(page["publications"][0].get("content_type"), None);
    server.stop().await;
}

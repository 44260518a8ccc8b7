use std::sync::Arc;

use serde_json::json;

use super::{KEY, Server, patient};
use crate::{
    broker::{self, Audience, Due, Shown},
    wire::{ChannelName, Start},
};

struct Nobody;

impl Due for Nobody {
    fn due(&self, _: u32) {}
}

async fn start() -> Server {
    let broker = broker::Config {
        presence: Arc::new(|channel| (channel.as_str() != "quiet").then_some(Shown::Users)),
        ..broker::Config::default()
    };
    Server::with(broker, patient()).await
}

async fn ask(server: &Server, query: &str) -> super::Answer {
    let head = format!("GET /v1/presence{query} HTTP/1.1\r\nHost: t\r\nX-API-Key: {KEY}");
    server.ask(&head).await
}

#[tokio::test]
async fn who_is_there_is_read_and_what_changed_stands_in_the_history() {
    let server = start().await;
    let channel = ChannelName::parse("chat-room:7").unwrap();
    let answer = ask(&server, "?channel=chat-room%3A7").await;
    let nobody = json!({"channel": "chat-room:7", "epoch": null, "offset": null, "connections": 0, "users": 0, "complete": true,
        "members": []});
    assert_eq!((answer.status, answer.json()), (200, nobody));
    assert_eq!(
        server.broker.position(&channel),
        None,
        "no channel was made"
    );

    let due: Arc<dyn Due> = Arc::new(Nobody);
    let enter = |session: u64| {
        let audience = Audience::new();
        let reader = server
            .broker
            .read(&channel, None, &audience, &due, 0, Start::Head)
            .unwrap();
        let user = "42".parse().unwrap();
        server.broker.attended(reader, session, Some(&user))
    };
    let (_first, second) = (enter(0x2a), enter(0x2b));
    server.broker.tell_presence(9);
    drop(second);
    server.broker.tell_presence(9);
    let epoch = server.broker.position(&channel).unwrap().epoch.to_string();
    let here = json!({"id": "000000000000002a", "user": "42"});
    let gone = json!({"id": "000000000000002b", "user": "42"});
    let answer = ask(&server, "?channel=chat-room:7").await;
    let one = json!({"channel": "chat-room:7", "epoch": epoch, "offset": 2, "connections": 1, "users": 1, "complete": true,
        "members": [here]});
    assert_eq!((answer.status, answer.json()), (200, one));
    let answer = ask(&server, "?limit=0&channel=chat-room:7").await.json();
    assert_eq!(
        (
            &answer["members"],
            &answer["complete"],
            &answer["connections"]
        ),
        (&json!([]), &json!(false), &json!(1))
    );
    let kept = server
        .post(
            "/v1/history",
            &json!({"channel": "chat-room:7", "reverse": true, "limit": 1}),
        )
        .await
        .json();
    let last = &kept["publications"][0];
    assert_eq!(
        (&last["kind"], &last["user"]),
        (&json!("presence"), &json!(null))
    );
    let change =
        json!({"joined": [], "left": [gone], "connections": 1, "users": 1, "complete": true});
    assert_eq!(last["presence"], change);
    server.stop().await;
}

#[tokio::test]
async fn a_question_for_presence_that_cannot_be_answered_is_refused_in_words() {
    let server = start().await;
    for (query, status, code, word) in [
        ("", 400, "invalid_request", "there is no `channel`"),
        ("?channel=a&channel=b", 400, "invalid_request", "twice"),
        ("?channel=a&who=b", 400, "invalid_request", "who"),
        ("?channel=a&limit=many", 400, "invalid_request", "limit"),
        ("?channel=a%20b", 422, "invalid_channel", "`channel`"),
        ("?channel=quiet", 404, "no_presence", "presence = true"),
    ] {
        let answer = ask(&server, query).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status, &error["code"]),
            (status, &json!(code)),
            "{query}: {answer:?}"
        );
        assert!(
            error["message"].as_str().unwrap().contains(word),
            "{query}: {answer:?}"
        );
    }
    let answer = server
        .ask("GET /v1/presence?channel=a HTTP/1.1\r\nHost: t")
        .await;
    assert_eq!(answer.status, 401, "{answer:?}");
    server.stop().await;
}

use serde_json::json;

use super::{KEY, Server};
use crate::wire::{ChannelName, Message};

async fn ask(server: &Server, query: &str) -> super::Answer {
    let head = format!("GET /v1/channels{query} HTTP/1.1\r\nHost: t\r\nX-API-Key: {KEY}");
    server.ask(&head).await
}

#[tokio::test]
async fn channels_are_listed_by_name_a_page_at_a_time() {
    let server = Server::start().await;
    let answer = ask(&server, "").await;
    assert_eq!(answer.json(), json!({"channels": [], "next": null}));
    for number in (0..250).rev() {
        let channel = ChannelName::parse(&format!("chat-room-{number:03}")).unwrap();
        for _ in 0..=number % 3 {
            server.broker.post(&channel, Message::text("x")).unwrap();
        }
    }
    let seventh = ChannelName::parse("chat-room-007").unwrap();
    let _reader = server.broker.subscribe(&seventh).unwrap();
    let mut names = Vec::new();
    let mut query = String::new();
    let mut pages = 0;
    loop {
        let answer = ask(&server, &query).await;
        assert_eq!(answer.status, 200);
        let page = answer.json();
        pages += 1;
        for channel in page["channels"].as_array().unwrap() {
            let name = channel["channel"].as_str().unwrap().to_owned();
            let number: u64 = name.rsplit('-').next().unwrap().parse().unwrap();
            let published = number % 3 + 1;
            assert_eq!(channel["offset"], published);
            assert_eq!(channel["retained"]["publications"], published);
            assert!(channel["retained"]["bytes"].as_u64().unwrap() > 10 * published);
            assert_eq!(channel["subscribers"], u64::from(number == 7));
            let position = server.broker.position(&ChannelName::parse(&name).unwrap());
            assert_eq!(channel["epoch"], position.unwrap().epoch.to_string());
            names.push(name);
        }
        match page["next"].as_str() {
            Some(next) => query = format!("?after={next}"),
            None => break,
        }
    }
    assert_eq!((pages, names.len()), (3, 250));
    assert!(names.is_sorted() && names[249] == "chat-room-249");
    let few = ask(&server, "?limit=2&after=chat-room-100").await.json();
    assert_eq!(few["next"], "chat-room-102");
    assert_eq!(few["channels"].as_array().unwrap().len(), 2);
    let all = ask(&server, "?limit=99999").await.json();
    assert_eq!(
        (all["channels"].as_array().unwrap().len(), &all["next"]),
        (250, &json!(null))
    );
}

#[tokio::test]
async fn who_has_no_key_or_asks_wrong_is_told_so() {
    let server = Server::start().await;
    let answer = server.ask("GET /v1/channels HTTP/1.1\r\nHost: t").await;
    assert_eq!(answer.status, 401);
    for (query, status, word) in [
        ("?limit=x", 400, "limit"),
        ("?first=1", 400, "first"),
        ("?after=a%20b", 422, "name"),
    ] {
        let answer = ask(&server, query).await;
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(word), "{query}: {message}");
        assert_eq!(answer.status, status, "{query}: {message}");
    }
}

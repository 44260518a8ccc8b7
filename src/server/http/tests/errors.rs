use std::sync::Arc;

use serde_json::json;

use super::{Server, head, patient};
use crate::{broker, server::http::Config, wire::ChannelName};

#[tokio::test]
async fn a_bad_body_is_told_where_and_what_instead() {
    let server = Server::start().await;
    let json = ("invalid_json", "the body is not JSON: ");
    let unfit = ("invalid_request", "the body does not fit: ");
    for (path, body, (code, start), wanted) in [
        ("notify", "", json, "line 1 column 0"),
        (
            "notify",
            "{\"user\": \"42\",\n  text}",
            json,
            "key must be a string at line 2 column 3",
        ),
        (
            "notify",
            "{\"user\": \"42\", \"text\": \"a\"} {",
            json,
            "line 1 column 29",
        ),
        (
            "notify",
            "{\"user\": \"42\", \"text\": \"\u{0}\"}",
            json,
            "control character",
        ),
        (
            "notify",
            r#"{"text": "x"}"#,
            unfit,
            "missing field `user` at line 1 column 13",
        ),
        ("notify", r#"{"user": "42"}"#, unfit, "missing field `text`"),
        (
            "notify",
            r#"{"user": 42, "text": "x"}"#,
            unfit,
            "user: invalid type: integer `42`, expected a string at line 1 column 11",
        ),
        (
            "notify",
            r#"{"user": "42", "text": "x", "ttl": 5}"#,
            unfit,
            "unknown field `ttl`, expected one of `user`, `text`, `key`",
        ),
        (
            "notify",
            r#"{"user": "1", "user": "2", "text": "x"}"#,
            unfit,
            "duplicate field `user`",
        ),
        (
            "announce",
            r#"{"text": null}"#,
            unfit,
            "text: invalid type: null, expected a string",
        ),
        (
            "announce",
            r#"{"user": "42", "text": "x"}"#,
            unfit,
            "unknown field `user`",
        ),
        ("announce", " [\"x\"]", unfit, "it is an array"),
        ("announce", "17", unfit, "invalid type: integer `17`"),
        (
            "publish",
            r#"{"channel": "a"}"#,
            unfit,
            "there is none of `text`, `json` and `base64`",
        ),
        (
            "publish",
            r#"{"channel": "a", "text": "x", "json": null}"#,
            unfit,
            "there is more than one of",
        ),
        (
            "publish",
            r#"{"channel": "a", "text": "x", "base64": ""}"#,
            unfit,
            "there is more than one of",
        ),
        (
            "publish",
            r#"{"channel": "a", "data": "x"}"#,
            unfit,
            "unknown field `data`",
        ),
        (
            "publish",
            r#"{"channel": "a", "json": {"b": }}"#,
            json,
            "expected value at line 1 column 32",
        ),
        (
            "publish",
            r#"{"text": "x"}"#,
            unfit,
            "missing field `channel`",
        ),
    ] {
        let answer = server.post_text(&format!("/v1/{path}"), body).await;
        let message = answer.error(400, code, None);
        assert!(
            message.starts_with(start) && message.contains(wanted),
            "{body}: {message}"
        );
        assert!(message.contains("; send {\""), "{body}: {message}");
    }
    assert_eq!(server.broker.stats().channels, 0);
    server.stop().await;
}

#[tokio::test]
async fn bad_names_and_bad_base64_are_told() {
    let server = Server::start().await;
    for (name, wanted) in [
        (String::new(), "the name is empty"),
        ("a b".to_owned(), "' ' at byte 1 is not allowed in a name"),
        ("a".repeat(256), "the name has 256 bytes"),
    ] {
        let answer = server
            .post("/v1/notify", &json!({"user": name, "text": "x"}))
            .await;
        let message = answer.error(422, "invalid_user", None);
        assert!(
            message.starts_with("`user` is not") && message.contains(wanted),
            "{message}"
        );
        let answer = server
            .post("/v1/publish", &json!({"channel": name, "text": "x"}))
            .await;
        let message = answer.error(422, "invalid_channel", Some(110));
        assert!(
            message.starts_with("`channel` is not") && message.contains(wanted),
            "{message}"
        );
    }
    for (text, wanted) in [
        ("AA=A", "Invalid symbol 61, offset 2"),
        ("A", "Invalid input length"),
        ("AA", "Invalid padding"),
        ("-_-_", "offset 0"),
    ] {
        let answer = server
            .post("/v1/publish", &json!({"channel": "a", "base64": text}))
            .await;
        let message = answer.error(422, "invalid_base64", None);
        assert!(message.contains(wanted), "{text}: {message}");
    }
    assert_eq!(server.broker.stats().channels, 0);
    server.stop().await;
}

#[tokio::test]
async fn too_much_is_refused_so_that_the_sender_reads_why() {
    let config = broker::Config {
        max_message: 100,
        ..broker::Config::default()
    };
    let bounds = Config {
        body_limit: 1000,
        ..patient()
    };
    let server = Server::with(config, bounds).await;
    let body = |length: usize| json!({"text": "x".repeat(length)}).to_string();
    let overhead = body(0).len();

    let answer = server.post_text("/v1/announce", &body(100)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for (length, wanted) in [
        (101, "the message has 101 bytes, 100 are allowed"),
        (1000 - overhead, "bytes, 100 are allowed"),
        (1001 - overhead, "the body has more than 1000 bytes"),
        (900_000, "the body has more than 1000 bytes"),
    ] {
        let answer = server.post_text("/v1/announce", &body(length)).await;
        let message = answer.error(413, "message_too_large", Some(113));
        assert!(message.contains(wanted), "{message}");
    }
    let text = body(2000);
    let chunk = format!("{:x}\r\n{text}\r\n0", text.len());
    let chunked =
        head("/v1/announce", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let answer = server.ask(&format!("{chunked}\r\n\r\n{chunk}")).await;
    answer.error(413, "message_too_large", Some(113));
    // Who asks first has sent nothing when it hears the answer.
    let answer = server
        .ask(&format!(
            "{}\r\nExpect: 100-continue",
            head("/v1/announce", 50_000_000)
        ))
        .await;
    answer.error(413, "message_too_large", Some(113));
    assert_eq!(server.broker.stats().publications, 1);
    server.stop().await;
}

#[tokio::test]
async fn the_refusals_of_http_itself_have_the_same_shape() {
    let server = Server::start().await;
    let message = server
        .ask("GET /v2/notify?q=secret HTTP/1.1\r\nHost: t")
        .await
        .error(404, "not_found", None);
    assert!(
        message.contains("/v2/notify ") && !message.contains("secret"),
        "{message}"
    );
    for (method, path, allow) in [
        ("GET", "/v1/notify", "POST,OPTIONS"),
        ("PUT", "/v1/announce", "POST,OPTIONS"),
        ("DELETE", "/v1/publish", "POST,OPTIONS"),
        ("POST", "/health", "GET,HEAD,OPTIONS"),
        ("POST", "/openapi.json", "GET,HEAD,OPTIONS"),
    ] {
        let answer = server
            .ask(&format!(
                "{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 0"
            ))
            .await;
        let message = answer.error(405, "method_not_allowed", None);
        assert!(
            message.starts_with(&format!("{path} does not take {method}")),
            "{message}"
        );
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
    }
    for (header, wanted) in [
        ("Content-Type: text/plain", "comes as \"text/plain\""),
        (
            "Content-Type: application/x-www-form-urlencoded",
            "urlencoded",
        ),
        ("X-None: 1", "nothing in particular"),
    ] {
        let head = head("/v1/announce", 12).replace("Content-Type: application/json", header);
        let answer = server
            .ask(&format!("{head}\r\n\r\n{{\"text\":\"x\"}}"))
            .await;
        let message = answer.error(415, "unsupported_content_type", None);
        assert!(message.contains(wanted), "{message}");
        assert!(
            message.ends_with("`Content-Type: application/json`"),
            "{message}"
        );
    }
    let answer = server
        .ask(&format!(
            "{}\r\n\r\nnot-a-length",
            head("/v1/announce", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked")
        ))
        .await;
    answer.error(400, "incomplete_body", None);
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_room_and_one_that_leaves_say_when_to_come_back() {
    let config = broker::Config {
        max_channels: 1,
        ..broker::Config::default()
    };
    let server = Server::with(config, patient()).await;
    let _reader = server.broker.subscribe(&ChannelName::global()).unwrap();
    let answer = server
        .post("/v1/notify", &json!({"user": "42", "text": "x"}))
        .await;
    let message = answer.error(503, "too_many_channels", Some(302));
    assert!(message.contains("there are 1 channels"), "{message}");
    assert_eq!(answer.header("retry-after"), Some("5"));

    server.broker.close();
    let answer = server.post("/v1/announce", &json!({"text": "x"})).await;
    let message = answer.error(503, "going_away", Some(401));
    assert!(message.contains("shutting down"), "{message}");
    assert_eq!(answer.header("retry-after"), Some("5"));
    server.stop().await;
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_connection_goes_on() {
    let config = broker::Config {
        clock: Arc::new(|| panic!("no clock: part of the test")),
        ..broker::Config::default()
    };
    let server = Server::with(config, patient()).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        let answer = client.post("/v1/announce", r#"{"text":"x"}"#).await;
        let message = answer.error(500, "internal", Some(400));
        assert!(!message.contains("clock"), "{message}");
    }
    server.stop().await;
}

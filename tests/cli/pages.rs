//! The browser SDK, the console and the page of `serve --dev` over HTTP.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::harness::Place;

/// Status, headers and body of an answer.
fn get(http: &str, path: &str, headers: &str) -> (u16, String, String) {
    ask("GET", http, path, headers)
}

fn ask(method: &str, http: &str, path: &str, headers: &str) -> (u16, String, String) {
    let address = http.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let host = if headers.contains("Host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

#[test]
fn the_sdk_is_served_module_by_module_without_types() {
    let place = Place::new();
    let _server = place.serve();
    let json = place.server();
    let http = json["http"].as_str().unwrap();
    let mut due = vec!["/sdk/index.js".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = due.pop() {
        let (status, head, code) = get(http, &path, "");
        assert_eq!(status, 200, "{path}: {code}");
        assert!(head.contains("content-type: text/javascript"), "{head}");
        assert!(head.contains("access-control-allow-origin: *"), "{head}");
        assert!(
            !code.contains("interface ") && !code.contains(".ts\""),
            "{path}: {code}"
        );
        let folder = path.rsplit_once('/').unwrap().0;
        for part in code
            .split(['"', '\'', '`'])
            .filter(|part| part.starts_with('.') && part.ends_with(".js"))
        {
            let url = url::Url::parse(&format!("http://x{folder}/"))
                .unwrap()
                .join(part)
                .unwrap();
            let next = url.path().to_owned();
            if !seen.contains(&next) && !due.contains(&next) {
                due.push(next);
            }
        }
        seen.push(path);
    }
    assert!(seen.len() > 20, "{seen:?}");
    assert!(
        seen.contains(&"/sdk/transport/websocket.js".to_owned()),
        "{seen:?}"
    );
    let (_, head, _) = get(http, "/sdk/index.js", "");
    let etag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap()
        .to_owned();
    let (status, _, body) = get(http, "/sdk/index.js", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((status, body.as_str()), (304, ""));
    let (status, ..) = get(http, "/sdk/other.js", "");
    assert_eq!(status, 404);
}

#[test]
fn head_of_a_page_is_that_of_get_without_a_body() {
    let place = Place::new();
    let _server = place.serve();
    let json = place.server();
    let http = json["http"].as_str().unwrap();
    let (_, head, _) = get(http, "/sdk/index.js", "");
    let etag = head
        .lines()
        .find(|line| line.starts_with("etag: "))
        .unwrap();
    let known = etag.replace("etag", "If-None-Match") + "\r\n";
    for (path, headers) in [
        ("/", ""),
        ("/console", ""),
        ("/dev/config", ""),
        ("/dev/token?user=ann", ""),
        ("/dev/token", ""),
        ("/sdk/index.js", ""),
        ("/sdk/index.js", &known),
        ("/sdk/other.js", ""),
        ("/pages/other.html", ""),
        ("/health", ""),
    ] {
        let (status, head, body) = get(http, path, headers);
        let (same, bare, nothing) = ask("HEAD", http, path, headers);
        assert_eq!((same, nothing.as_str()), (status, ""), "{path}");
        // Each token has the time of its issue, whose length differs with its last digits.
        let fresh = path.starts_with("/dev/token?");
        let fields = |head: &str| {
            let mut fields: Vec<_> = head
                .lines()
                .filter(|line| !line.starts_with("date: "))
                .filter(|line| !(fresh && line.starts_with("content-length: ")))
                .map(str::to_owned)
                .collect();
            fields.sort();
            fields
        };
        assert_eq!(fields(&bare), fields(&head), "{path}");
        if status == 200 {
            assert!(
                head.contains(&format!("content-length: {}", body.len())),
                "{path}: {head}"
            );
        } else if status == 304 {
            assert!(!head.contains("content-length"), "{head}");
        }
        let (status, head, _) = ask("OPTIONS", http, path, headers);
        assert_eq!(status, 204, "{path}");
        assert!(head.contains("allow: get,head,options"), "{head}");
        let (status, head, _) = ask("DELETE", http, path, headers);
        assert_eq!(status, 405, "{path}");
        assert!(head.contains("allow: get,head,options"), "{head}");
    }
}

#[test]
fn a_page_in_development_is_told_where_and_who_and_no_page_of_others_is() {
    let place = Place::new();
    let _server = place.serve();
    let json = place.server();
    let http = json["http"].as_str().unwrap();
    let (status, _, config) = get(http, "/dev/config", "");
    assert_eq!(status, 200);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["url"], json["webtransport"]);
    assert_eq!(config["certificateHashes"][0], json["certificate_sha256"]);
    assert_eq!(config["apiKey"], place.read("certs/dev/api.key").trim());
    let (status, _, token) = get(http, "/dev/token?user=ann", "");
    assert_eq!(status, 200);
    let position = place
        .run(&["pub", "chat-room-7", "hi", "--token", &token])
        .ok();
    assert!(position.starts_with("chat-room-7 "), "{position}");
    for (path, status) in [
        ("/dev/token", 400),
        ("/dev/token?user=a%20b", 422),
        ("/dev/other", 404),
    ] {
        assert_eq!(get(http, path, "").0, status, "{path}");
    }
    for path in ["/dev/config", "/dev/token?user=ann"] {
        let (status, _, reason) = get(http, path, "Host: evil.example\r\n");
        assert_eq!(status, 403);
        assert!(reason.contains("localhost"), "{reason}");
    }
}

//! Requests whose method, host or coding is another than a handler expects.

use serde_json::Value;

use super::{Answer, KEY, Server};

const BODY: &str = r#"{"text":"x"}"#;

/// The head and all bytes that follow it until the server closes.
async fn whole(server: &Server, request: &str) -> (String, Vec<u8>) {
    let mut client = server.connect().await;
    client.send(request).await;
    let answer = client.closed().await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_lowercase(), body.as_bytes().to_vec())
}

fn status(head: &str) -> u16 {
    head[9..12].parse().unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn head_is_answered_as_get_is_without_a_body() {
    let server = Server::start().await;
    let document = server
        .ask("GET /openapi.json HTTP/1.1\r\nHost: t")
        .await
        .json();
    let paths = document["paths"].as_object().unwrap();
    let of_get = paths
        .iter()
        .filter(|(_, methods)| methods["get"] != Value::Null);
    let mut asked: Vec<_> = of_get.map(|(path, _)| path.clone()).collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    asked.extend(["/v1/presence?channel=a".to_owned(), "/none".to_owned()]);
    for path in asked {
        let request = |method, key| {
            format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{key}Connection: close\r\n\r\n")
        };
        let right = format!("X-API-Key: {KEY}\r\n");
        for key in ["", &right] {
            let (get, body) = whole(&server, &request("GET", key)).await;
            let (head, nothing) = whole(&server, &request("HEAD", key)).await;
            assert_eq!(status(&head), status(&get), "{path}");
            assert_eq!(nothing, b"", "{path}");
            let length = header(&head, "content-length").unwrap();
            assert_eq!(length, body.len().to_string(), "{path}");
            assert_eq!(header(&head, "content-type"), header(&get, "content-type"));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn options_and_other_methods_say_what_is_allowed() {
    let server = Server::start().await;
    for (path, allowed, others) in [
        (
            "/v1/notify",
            "POST,OPTIONS",
            ["GET", "HEAD", "PUT", "PATCH", "DELETE", "QUERY"],
        ),
        (
            "/v1/revoke",
            "POST,OPTIONS",
            ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE"],
        ),
        (
            "/health",
            "GET,HEAD,OPTIONS",
            ["POST", "PUT", "PATCH", "DELETE", "TRACE", "get"],
        ),
        (
            "/v1/channels",
            "GET,HEAD,OPTIONS",
            ["POST", "PUT", "PATCH", "DELETE", "x", "y"],
        ),
    ] {
        let ask = async |method: &str| {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
            whole(&server, &request).await
        };
        let (head, body) = ask("OPTIONS").await;
        assert_eq!((status(&head), body.len()), (204, 0), "{head}");
        assert_eq!(
            header(&head, "allow"),
            Some(allowed.to_lowercase().as_str())
        );
        for method in others {
            let (head, body) = ask(method).await;
            assert_eq!(status(&head), 405, "{method} {path}");
            assert_eq!(
                header(&head, "allow"),
                Some(allowed.to_lowercase().as_str())
            );
            assert_eq!(body.is_empty(), method == "HEAD");
        }
    }
    let (head, _) = whole(
        &server,
        "OPTIONS * HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(
        (status(&head), header(&head, "allow")),
        (204, Some("get,head,post,options"))
    );
    let (head, _) = whole(
        &server,
        "OPTIONS /none HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status(&head), 404);
    server.stop().await;
}

#[tokio::test]
async fn request_without_one_valid_host_is_refused_and_ends_the_connection() {
    let server = Server::start().await;
    for host in [
        "",
        "Host: t\r\nHost: t\r\n",
        "Host: t\r\nhost: u\r\n",
        "Host:\r\n",
        "Host: \r\n",
        "Host: a b\r\n",
        "Host: a, b\r\n",
        "Host: http://t\r\n",
        "Host: u@t\r\n",
        "Host: t/x\r\n",
        "Host: t:x\r\n",
        "Host: t:99999\r\n",
        "Host: [::1\r\n",
    ] {
        for target in [
            "GET /health",
            "GET http://t/health",
            "GET /none",
            "PUT /health",
        ] {
            let mut client = server.connect().await;
            // The second request is not read.
            let request = format!("{target} HTTP/1.1\r\n{host}\r\n").repeat(2);
            client.send(&request).await;
            let answer = client.answer().await;
            let message = answer.error(400, "invalid_host", None);
            assert!(message.contains("`Host`"), "{host:?}: {message}");
            assert_eq!(client.closed().await, "", "{target} {host:?}");
        }
    }
    for head in [
        "GET /health HTTP/1.0",
        "GET /health HTTP/1.0\r\nHost: t",
        "GET /health HTTP/1.1\r\nHost: t:8080",
        "GET /health HTTP/1.1\r\nHost: [::1]:8080",
        "GET /health HTTP/1.1\r\nHOST: LOCALHOST",
        // The target of a proxy's request decides, and `Host` has to be there all the same.
        "GET http://other/health HTTP/1.1\r\nHost: t",
    ] {
        assert_eq!(server.ask(head).await.status, 200, "{head}");
    }
    let answer = server
        .ask("GET /health HTTP/1.0\r\nHost: t\r\nHost: t")
        .await;
    answer.error(400, "invalid_host", None);
    server.stop().await;
}

/// The answer to an announcement with these headers in addition.
async fn announce(server: &Server, headers: &str, body: &[u8]) -> Answer {
    use tokio::io::AsyncWriteExt;
    let mut client = server.connect().await;
    let length = body.len();
    let head = format!(
        "POST /v1/announce HTTP/1.1\r\nHost: t\r\nX-API-Key: {KEY}\r\n{headers}\r\nContent-Length: {length}\r\n\r\n"
    );
    client.send(&head).await;
    client.stream.write_all(body).await.unwrap();
    client.answer().await
}

const JSON: &str = "Content-Type: application/json";

#[tokio::test]
async fn compressed_body_is_refused_with_what_is_accepted() {
    let server = Server::start().await;
    for coding in [
        "gzip",
        "GZIP",
        "x-gzip",
        "deflate",
        "br",
        "zstd",
        "compress",
        "gzip, gzip",
        "identity, gzip",
        "unknown",
        "identity;q=1",
    ] {
        let headers = format!("{JSON}\r\nContent-Encoding: {coding}");
        let answer = announce(&server, &headers, &[0x1f, 0x8b, 8, 0]).await;
        let message = answer.error(415, "unsupported_content_encoding", None);
        assert!(
            message.contains(coding) && message.contains("uncompressed"),
            "{message}"
        );
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
    }
    let twice = format!("{JSON}\r\nContent-Encoding: identity\r\nContent-Encoding: gzip");
    let answer = announce(&server, &twice, BODY.as_bytes()).await;
    answer.error(415, "unsupported_content_encoding", None);
    for coding in ["identity", "Identity", "identity, identity", ""] {
        let headers = format!("{JSON}\r\nContent-Encoding: {coding}");
        let answer = announce(&server, &headers, BODY.as_bytes()).await;
        assert_eq!(answer.status, 200, "{coding}");
    }
    // Compressed, and nothing says so.
    let answer = announce(&server, JSON, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).await;
    let message = answer.error(400, "invalid_json", None);
    assert!(message.contains("gzip"), "{message}");
    // A transfer coding is one of the message's, not of the body's.
    let chunked = format!(
        "POST /v1/announce HTTP/1.1\r\nHost: t\r\nX-API-Key: {KEY}\r\n{JSON}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0"
    );
    let answer = server.ask(&chunked).await;
    let message = answer.error(501, "unsupported_transfer_coding", None);
    assert!(message.contains("gzip, chunked"), "{message}");
    assert_eq!(server.broker.stats().publications, 4);
    server.stop().await;
}

#[tokio::test]
async fn body_in_another_charset_is_refused_in_plain_words() {
    let server = Server::start().await;
    for charset in [
        "utf-16",
        "UTF-16LE",
        "utf-32",
        "iso-8859-1",
        "\"windows-1252\"",
        "latin1",
        "",
    ] {
        let headers = format!("{JSON}; charset={charset}");
        let answer = announce(&server, &headers, BODY.as_bytes()).await;
        let message = answer.error(415, "unsupported_charset", None);
        assert!(
            message.contains(charset.trim_matches('"')) && message.contains("UTF-8"),
            "{message}"
        );
    }
    for parameters in [
        "; charset=utf-8",
        ";charset=UTF-8",
        "; charset=\"utf-8\"",
        "; charset=us-ascii",
        ";",
        "; boundary=x",
    ] {
        let answer = announce(&server, &format!("{JSON}{parameters}"), BODY.as_bytes()).await;
        assert_eq!(answer.status, 200, "{parameters}");
    }
    let twice = format!("{JSON}\r\nContent-Type: text/plain");
    let answer = announce(&server, &twice, BODY.as_bytes()).await;
    answer.error(415, "unsupported_content_type", None);
    let little: Vec<u8> = BODY.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = BODY.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let wide: Vec<u8> = BODY
        .chars()
        .flat_map(|c| u32::from(c).to_be_bytes())
        .collect();
    let marked = |mark: &[u8], rest: &[u8]| [mark, rest].concat();
    for (body, word) in [
        (
            marked(&[0xef, 0xbb, 0xbf], BODY.as_bytes()),
            "byte order mark (BOM)",
        ),
        (marked(&[0xff, 0xfe], &little), "UTF-16"),
        (marked(&[0xfe, 0xff], &big), "UTF-16"),
        (marked(&[0, 0, 0xfe, 0xff], &wide), "UTF-32"),
        (little, "UTF-16"),
        (big, "UTF-16"),
        (wide, "UTF-32"),
        (b"{\"text\":\"caf\xe9\"}".to_vec(), "byte 12 is not UTF-8"),
        (
            b"{\"text\":\"\xed\xa0\x80\"}".to_vec(),
            "byte 9 is not UTF-8",
        ),
    ] {
        let answer = announce(&server, JSON, &body).await;
        let message = answer.error(400, "invalid_json", None);
        assert!(message.contains(word), "{body:?}: {message}");
    }
    server.stop().await;
}

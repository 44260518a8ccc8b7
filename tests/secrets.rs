//! No secret is in the log, at any level and of any crate: tokens, the API key, cookies and query strings.

mod common;

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use common::{bounded, raw::Dial, websocket::secure};
use http::{HeaderValue, header};
use tidings::{
    Message,
    client::{Client, Transport, Trust},
    server::http::ApiKey,
    testing::TestServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};
use tracing_subscriber::filter::LevelFilter;

/// What was logged, of all crates of the process: the server, the client and their dependencies.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    log
});

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Panics if a part of the secret is in the log, as text or as bytes in a usual notation.
    fn lacks(&self, what: &str, secret: &str) {
        let text = self.text();
        // Parts: a long one may be cut or begin in the middle.
        for part in secret.as_bytes().chunks(12).filter(|part| part.len() == 12) {
            let each = |format: fn(&u8) -> String, between: &str| {
                part.iter().map(format).collect::<Vec<_>>().join(between)
            };
            let notations = [
                String::from_utf8(part.to_vec()).unwrap(),
                each(|byte| format!("{byte:02x}"), ""),
                each(|byte| format!("{byte:02X}"), ""),
                each(|byte| format!("{byte:02x}"), " "),
                each(|byte| format!("{byte:x}"), ", "),
                each(|byte| format!("0x{byte:02x}"), ", "),
                each(u8::to_string, ", "),
                each(|byte| format!("\\x{byte:02x}"), ""),
            ];
            for notation in notations {
                if let Some(at) = text.find(&notation) {
                    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
                    let line: String = text[start..].chars().take(300).collect();
                    panic!("{what} is in the log as {notation:?}: {line}");
                }
            }
        }
    }
}

const KEY: &str = "api-key-canary-0123456789-0123456789";
const QUERY: &str = "query-canary-0123456789";
const COOKIE: &str = "cookie-canary-0123456789";
const REFUSED: &str = "token-canary-0123456789";

/// One test: the log is the process's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_the_log_at_any_level() {
    bounded(async {
        let log = LOG.clone();
        let server = TestServer::start_with(|builder| {
            builder.http(([127, 0, 0, 1], 0).into(), ApiKey::new(KEY).unwrap())
        })
        .await;
        let mut tokens = Vec::new();
        for transport in [
            Transport::Quic,
            Transport::WebTransport,
            Transport::WebSocket,
        ] {
            tokens.extend(client(&server, transport).await);
        }
        upgrades(&server).await;
        api(&server).await;
        // The last lines of connections that were closed.
        server.stop().await;

        for token in &tokens {
            // The header is that of every token, and no secret.
            let (_, secret) = token.split_once('.').unwrap();
            log.lacks("a token", secret);
        }
        log.lacks("a refused token", REFUSED);
        log.lacks("the API key", KEY);
        log.lacks("a query string", QUERY);
        log.lacks("a cookie", COOKIE);
        // The levels are on, also of dependencies.
        for level in ["DEBUG", "TRACE", "tidings::", "quinn_proto", "rustls"] {
            assert!(log.text().contains(level), "nothing of {level}");
        }
    })
    .await;
}

/// Tokens that are accepted, refreshed and refused; and a query string, which a client may be given.
async fn client(server: &TestServer, transport: Transport) -> [String; 2] {
    let token = server.token("42");
    let refreshed = server.token_for("42", Duration::from_secs(1234));
    let client = server.client_builder(transport).token(token.clone());
    let client = client.connect().await.unwrap();
    let message = Message::text("hello");
    client.publish("chat-room-7", message).await.unwrap();
    client.refresh(refreshed.clone()).await.unwrap();
    client.refresh(REFUSED).await.unwrap_err();
    client.close().await;
    let refused = server.client_builder(transport).token(REFUSED);
    refused.connect().await.unwrap_err();
    if transport != Transport::Quic {
        let url = format!("{}?token={QUERY}", server.url(transport));
        let client = Client::builder(&url)
            .trust(Trust::Hashes(vec![server.certificate_sha256()]))
            .token(token.clone())
            .connect()
            .await
            .unwrap();
        client.close().await;
    }
    [token, refreshed]
}

/// Requests for sessions as browsers make them, with cookies, on their path and on another.
async fn upgrades(server: &TestServer) {
    for path in ["/tidings", "/other"] {
        let dial = Dial::new(server, Transport::WebTransport);
        let url = format!("https://{}{path}?token={QUERY}", server.address());
        let mut request = dial.request();
        request.url = url.parse().unwrap();
        let cookie = HeaderValue::from_str(&format!("session={COOKIE}")).unwrap();
        let request = request.with_header(header::COOKIE, cookie);
        // What this side logs is its own matter.
        let connected = dial.connect(request).with_subscriber(NoSubscriber::new());
        assert_eq!(connected.await.err(), (path == "/other").then_some(404));

        let request = format!(
            "GET {path}?token={QUERY} HTTP/1.1\r\nHost: localhost\r\nCookie: session={COOKIE}\r\n\
             Authorization: Bearer {REFUSED}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: qmux-02.tidings.v1\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut socket = secure(server.address()).await;
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        let status = if path == "/tidings" { "101" } else { "404" };
        assert_eq!(&answer[9..], status.as_bytes());
    }
}

/// Requests to the HTTP API: with the key, with another, and with secrets where they do not belong.
async fn api(server: &TestServer) {
    let address = server.http_address().unwrap();
    let token = format!("{{\"channel\": \"chat-room-7\", \"token\": \"{REFUSED}\"}}");
    for (status, request) in [
        (
            "200",
            format!("GET /v1/channels HTTP/1.1\r\nAuthorization: Bearer {KEY}"),
        ),
        (
            "200",
            format!("GET /v1/channels HTTP/1.1\r\nX-API-Key: {KEY}"),
        ),
        (
            "401",
            format!("GET /v1/channels HTTP/1.1\r\nX-API-Key: {REFUSED}"),
        ),
        (
            "404",
            format!("GET /v1/none?key={QUERY} HTTP/1.1\r\nCookie: a={COOKIE}"),
        ),
        (
            "400",
            format!("GET /v1/presence?key={QUERY} HTTP/1.1\r\nX-API-Key: {KEY}"),
        ),
        (
            "400",
            format!("POST /v1/publish HTTP/1.1\r\nX-API-Key: {KEY}"),
        ),
        (
            "400",
            format!("GET /{QUERY} HTTP/1.1\r\nbroken header {COOKIE}"),
        ),
    ] {
        let body = if request.starts_with("POST") {
            &token
        } else {
            ""
        };
        let request = format!(
            "{request}\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.get(9..12), Some(status), "{request}: {answer}");
    }
}

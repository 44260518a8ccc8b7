//! The log at its default level while clients flood it: bounded lines and bytes, counts of the rest, and short quotations.

mod common;

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
    time::Instant,
};

use common::{
    bounded,
    raw::Dial,
    websocket::{open, parameters, secure},
};
use futures_util::{SinkExt, StreamExt};
use tidings::{
    Code,
    client::{Client, ClientError, Transport},
    testing::TestServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite;
use tracing_subscriber::EnvFilter;

const TRANSPORTS: [Transport; 3] = [
    Transport::Quic,
    Transport::WebTransport,
    Transport::WebSocket,
];
/// Number of times that each thing is done.
const FLOOD: usize = 50;
/// Longest line of one event: its own text, and two values of a peer that are all escapes.
const LONGEST: usize = 4096;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("tidings=info"))
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
    fn lines(&self, text: &str) -> Vec<String> {
        let all = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        all.lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }

    async fn line(&self, text: &str) -> String {
        loop {
            if let Some(line) = self.lines(text).pop() {
                return line;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The suppressed lines of a kind, as reported so far.
    fn suppressed(&self, of: &str) -> usize {
        let reports = self.lines(&format!("of=\"{of}\""));
        let counts = reports.iter().map(|line| {
            let (_, rest) = line.split_once("suppressed=").unwrap();
            rest.split(' ').next().unwrap().parse::<usize>().unwrap()
        });
        counts.sum()
    }

    /// Each of `count` lines with `text` is in the log or counted, and most of them are only counted.
    fn is_bounded(&self, begun: Instant, text: &str, of: &str, count: usize) {
        let logged = self.lines(text);
        let allowed = 100 + 10 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 1);
        assert!(!logged.is_empty(), "no line {text:?}");
        assert!(logged.len() <= allowed, "{} lines {text:?}", logged.len());
        assert!(logged.iter().all(|line| line.len() <= LONGEST));
        let suppressed = self.suppressed(of);
        assert!(
            logged.len() + suppressed >= count,
            "{} lines {text:?}, {suppressed} suppressed",
            logged.len()
        );
    }
}

async fn client(server: &TestServer, transport: Transport) -> Client {
    server.client("42", transport).await.unwrap()
}

/// One test: floods use up what the log takes of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_cause_in_the_log_is_bounded() {
    bounded(async {
        let log = LOG.clone();
        let server = TestServer::start().await;
        values_of_peers_are_cut_and_escaped(&log, &server).await;
        let begun = Instant::now();
        flood_of_requests(&server).await;
        flood_of_sessions(&server).await;
        flood_of_handshakes(&server).await;
        // The last counts are logged at the end.
        server.stop().await;
        for (text, of, count) in [
            ("request refused", "refused requests", 2 * 3 * FLOOD),
            (" opened", "sessions opened", 3 * FLOOD),
            (" closed code", "sessions closed", 3 * FLOOD),
            (" refused remote", "refused credentials", 3 * FLOOD),
            (" no WebSocket", "failed handshakes", FLOOD),
            (" first packet ", "refused first packets", FLOOD),
        ] {
            log.is_bounded(begun, text, of, count);
        }
        // Refused channels and invalid tokens are visible, refreshed tokens are not.
        assert!(!log.lines("user-43").is_empty());
        assert!(!log.lines("invalid_token").is_empty());
        assert!(log.lines("refreshed").is_empty());
    })
    .await;
}

async fn values_of_peers_are_cut_and_escaped(log: &Log, server: &TestServer) {
    // A line of its own, a command to a terminal, and more than fits.
    let reason = format!(
        "begins\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{202e}{}",
        "x".repeat(12_000)
    );
    for (number, transport) in [Transport::Quic, Transport::WebTransport]
        .into_iter()
        .enumerate()
    {
        // What fits into a packet.
        let short = &reason.as_bytes()[..900];
        let dial = Dial::new(server, transport);
        let code = 4000 + 10 * u32::try_from(number).unwrap();
        let (raw, _) = dial.welcomed(server.token("7")).await;
        raw.session.close(code, short);
        checked(&log.line(&format!("code {code} ")).await);
        dial.session().await.close(code + 1, short);
        checked(&log.line(&format!("code {} ", code + 1)).await);
    }
    let mut socket = open(server.address()).await;
    socket.send(parameters(&[])).await.unwrap();
    // PROTOCOL §2.4: CONNECTION_CLOSE of the application kind.
    let length = u16::try_from(reason.len()).unwrap() | 0x4000;
    let start = [0x1d, 0x4f, 0xa2];
    let close = [&start[..], &length.to_be_bytes(), reason.as_bytes()].concat();
    socket
        .send(tungstenite::Message::binary(close))
        .await
        .unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    checked(&log.line("code 4002 ").await);
}

/// A line that quotes the reason.
fn checked(line: &str) {
    assert!(line.contains(r"begins\n2026"), "{line}");
    assert!(!line.contains(['\u{1b}', '\u{202e}']), "{line}");
    assert!(line.len() < 1024, "{} bytes: {line}", line.len());
}

async fn flood_of_requests(server: &TestServer) {
    for transport in TRANSPORTS {
        let client = client(server, transport).await;
        for _ in 0..FLOOD {
            let refused = client.subscribe("user-43").await.unwrap_err();
            let code = Code::PERMISSION_DENIED;
            assert!(
                matches!(refused, ClientError::Request { code: got, .. } if got == code),
                "{refused:?}"
            );
        }
        for _ in 0..FLOOD {
            client.refresh("not.a.token").await.unwrap_err();
        }
        let token = server.token("42");
        for _ in 0..FLOOD {
            client.refresh(&token).await.unwrap();
        }
    }
}

async fn flood_of_sessions(server: &TestServer) {
    for transport in TRANSPORTS {
        for _ in 0..FLOOD {
            client(server, transport).await.close().await;
            let refused = server.client_builder(transport).token("not.a.token");
            refused.connect().await.unwrap_err();
        }
    }
}

async fn flood_of_handshakes(server: &TestServer) {
    for _ in 0..FLOOD {
        // Not TLS, not HTTP, not our ALPN.
        let mut tcp = TcpStream::connect(server.address()).await.unwrap();
        tcp.write_all(&[0x41; 64]).await.unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await;
        let mut tls = secure(server.address()).await;
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let _ = tls.write_all(request).await;
        let _ = tls.read_to_end(&mut Vec::new()).await;
        let dial = Dial::new(server, Transport::Quic).alpn(&["other"]);
        dial.quic().await.unwrap_err();
    }
}

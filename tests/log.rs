//! What the log says of how clients leave: the words of PROTOCOL §7, not numbers.

mod common;

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
};

use common::{both, raw::Dial};
use quinn::VarInt;
use tidings::{Code, client::Transport, testing::TestServer};
use tracing_subscriber::EnvFilter;

/// What was logged. Workers are threads of their own, so it is the whole process's.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("tidings=debug"))
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
    /// The first line with this text, when it is there.
    async fn line(&self, text: &str) -> String {
        loop {
            let all = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            if let Some(line) = all.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Codes with what the log is to call them.
const CODES: [(Code, &str); 4] = [
    (Code::CLOSED, "code=closed (0) "),
    (Code::OVERLOADED, "code=overloaded (300) "),
    (Code::GOING_AWAY, "code=going_away (401) "),
    (Code(1500), "code=code 1500 "),
];

both!(the_code_of_a_client_that_leaves_its_session_is_logged_by_name);
async fn the_code_of_a_client_that_leaves_its_session_is_logged_by_name(transport: Transport) {
    // Several parts of a session see its end, and any of them may be first.
    const ROUNDS: usize = 10;
    let log = LOG.clone();
    let server = TestServer::start().await;
    for (round, (code, words)) in (0..ROUNDS).flat_map(|round| CODES.map(|code| (round, code))) {
        let dial = Dial::new(&server, transport);
        let (raw, _) = dial.welcomed(server.token("1")).await;
        let reason = format!("left {transport} with {} in round {round}", code.0);
        raw.session.close(code.0, reason.as_bytes());
        let line = log.line(&reason).await;
        assert!(line.contains(" closed "), "{line}");
        assert!(line.contains(words), "{line}");
    }
}

both!(the_code_of_a_client_that_leaves_before_hello_is_logged_by_name);
async fn the_code_of_a_client_that_leaves_before_hello_is_logged_by_name(transport: Transport) {
    let log = LOG.clone();
    let server = TestServer::start().await;
    for (code, words) in CODES {
        let dial = Dial::new(&server, transport);
        // One says nothing, one begins a Hello.
        let silent = dial.session().await;
        let mut began = dial.open().await;
        began.write(&[200, 1, 1]).await;
        for (what, session) in [("silent", &silent), ("began", &began.session)] {
            let reason = format!("{what} on {transport} with {}", code.0);
            session.close(code.0, reason.as_bytes());
            let line = log.line(&reason).await;
            assert!(line.contains(" refused "), "{line}");
            assert!(line.contains(words), "{line}");
        }
    }
}

#[tokio::test]
async fn a_code_that_is_none_of_ours_is_not_taken_for_an_orderly_end() {
    common::bounded(async {
        let log = LOG.clone();
        let server = TestServer::start().await;
        let connection = Dial::new(&server, Transport::Quic).quic().await.unwrap();
        connection.close(VarInt::MAX, b"with a number beyond");
        let line = log.line("with a number beyond").await;
        assert!(line.contains("code=code 4294967295 "), "{line}");
    })
    .await;
}

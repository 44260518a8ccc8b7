//! Processes that are ended without a word: `kill -9`.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::{sleep, timeout},
};

/// A hang is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `tidings` command. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    /// Of a server nobody reads it.
    err: Option<Lines<BufReader<tokio::process::ChildStderr>>>,
    input: Option<ChildStdin>,
}

fn tidings(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDINGS_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .current_dir(place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

impl Process {
    pub(crate) fn start(place: &Path, args: &[&str]) -> Self {
        let mut command = tidings(place, args);
        command.stderr(Stdio::piped());
        Self::spawn(command)
    }

    fn spawn(command: Command) -> Self {
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .expect("the command starts");
        let out = child.stdout.take().expect("it is piped");
        Self {
            out: BufReader::new(out).lines(),
            err: child.stderr.take().map(|err| BufReader::new(err).lines()),
            input: child.stdin.take(),
            child,
        }
    }

    /// The next line of standard output; `None` at its end. Cancel safe.
    pub(crate) async fn line(&mut self) -> Option<String> {
        self.out.next_line().await.expect("standard output is text")
    }

    /// Reads standard error up to a line with this text; `None` where the process is over before.
    pub(crate) async fn err_until(&mut self, text: &str) -> Option<String> {
        let err = self.err.as_mut().expect("it is piped");
        let found = async {
            loop {
                match err.next_line().await.expect("standard error is text") {
                    Some(line) if line.contains(text) => return Some(line),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        timeout(PATIENCE, found).await.expect("a line in time")
    }

    /// Writes a line to its standard input; whether it took it.
    pub(crate) async fn type_in(&mut self, line: &str) -> bool {
        let input = self.input.as_mut().expect("it is piped");
        input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .is_ok()
    }

    /// Sends a signal to it, and to nothing else.
    fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(
            sent.expect("kill is there").success(),
            "kill -s {name} {pid}"
        );
    }

    /// SIGKILL; returns when the process is gone. What it wrote until then can still be read.
    pub(crate) async fn kill(&mut self) {
        self.child
            .kill()
            .await
            .expect("a process of ours can be killed");
    }
}

/// A server that is killed and comes back on its port.
pub(crate) struct Server {
    place: TempDir,
    process: Process,
    address: SocketAddr,
    idle: u32,
}

impl Server {
    /// One that gives up whom it has not heard of for so many seconds, as its clients do.
    pub(crate) async fn start(idle: u32) -> Self {
        let place = tempfile::tempdir().expect("a folder");
        let process = serve(place.path(), "127.0.0.1:0", idle)
            .await
            .expect("the first server starts");
        let note = std::fs::read(place.path().join("certs/dev/server.json")).expect("its note");
        let note: serde_json::Value = serde_json::from_slice(&note).expect("it is JSON");
        let quic = note["quic"].as_str().expect("a URL");
        let address = quic.strip_prefix("quic://").expect("of QUIC");
        Self {
            address: address.parse().expect("an address"),
            place,
            process,
            idle,
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn certificate(&self) -> Vec<u8> {
        std::fs::read(self.place().join("certs/dev/cert.pem")).expect("a certificate")
    }

    pub(crate) fn token(&self, user: &str) -> String {
        let output = tidings(self.place(), &["token", "--user", user]).output();
        String::from_utf8(output.expect("a token").stdout)
            .expect("it is text")
            .trim()
            .to_owned()
    }

    pub(crate) async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// It does nothing until `stir` is called: to its clients it is gone.
    pub(crate) fn freeze(&self) {
        self.process.signal("STOP");
    }

    pub(crate) fn stir(&self) {
        self.process.signal("CONT");
    }

    /// Another one in the place of one that was killed.
    pub(crate) async fn start_again(&mut self) {
        let address = self.address.to_string();
        let again = async {
            loop {
                match serve(self.place.path(), &address, self.idle).await {
                    Some(process) => return process,
                    // Somebody else has the port for a moment.
                    None => sleep(Duration::from_millis(50)).await,
                }
            }
        };
        self.process = timeout(PATIENCE, again)
            .await
            .expect("the port is free again");
    }
}

/// A server that is up; `None` where it did not come up.
async fn serve(place: &Path, listen: &str, idle: u32) -> Option<Process> {
    let mut command = tidings(
        place,
        &[
            "serve",
            "--dev",
            "--listen",
            listen,
            "--http",
            "127.0.0.1:0",
        ],
    );
    command
        .stderr(Stdio::null())
        .env("TIDINGS_TIMEOUTS__IDLE", idle.to_string())
        // The same port over TCP may be some client's meanwhile.
        .env("TIDINGS_WEBSOCKETS", "false")
        .env("TIDINGS_RETENTION__COUNT", super::KEPT.to_string())
        .env("TIDINGS_RETENTION__BYTES", "1000000000")
        .env("TIDINGS_RETENTION__AGE_SECONDS", "3600");
    let mut process = Process::spawn(command);
    let up = async {
        while let Some(line) = process.line().await {
            // The end of what it says when it is up.
            if line.contains("tidings notify 42") {
                return true;
            }
        }
        false
    };
    let up = timeout(PATIENCE, up)
        .await
        .expect("a server is up in time, or over");
    up.then_some(process)
}

//! A `tidings serve` that can be killed and comes back on its port.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::Failure;

/// For a server to be up, and to answer a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// The end of what it says when it is up.
const UP: &str = "tidings notify 42";
/// Of codes from 2000 on the application makes what it likes; clients come back (PROTOCOL §7).
const COME_BACK: u32 = 2000;

/// The process. Dropping it kills it.
pub(crate) struct Server {
    tidings: PathBuf,
    place: TempDir,
    process: Child,
    /// Where it listens for QUIC, and for HTTP.
    address: String,
    http: String,
}

impl Server {
    pub(crate) async fn start(tidings: &Path) -> Result<Self, Failure> {
        let tidings = tidings.canonicalize()?;
        let place = tempfile::tempdir()?;
        let process = serve(&tidings, place.path(), "127.0.0.1:0", "127.0.0.1:0").await?;
        let note = std::fs::read(place.path().join("certs/dev/server.json"))?;
        let note: serde_json::Value = serde_json::from_slice(&note)?;
        let address = |key: &str| {
            let url = note[key].as_str();
            let address = url.and_then(|url| url.split_once("://"));
            address.map(|(_, address)| address.trim_end_matches('/').to_owned())
        };
        let none = "server.json does not say where the server is";
        Ok(Self {
            address: address("quic").ok_or(none)?,
            http: address("http").ok_or(none)?,
            tidings,
            place,
            process,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn certificate(&self) -> Result<Vec<u8>, Failure> {
        Ok(std::fs::read(self.place.path().join("certs/dev/cert.pem"))?)
    }

    pub(crate) async fn token(&self, user: &str) -> Result<String, Failure> {
        let mut command = tidings(&self.tidings, self.place.path());
        let output = command.args(["token", "--user", user]).output().await?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.process.kill().await?)
    }

    /// Another one in the place of the one that was killed; returns when it listens.
    pub(crate) async fn start_again(&mut self) -> Result<(), Failure> {
        let place = self.place.path();
        self.process = serve(&self.tidings, place, &self.address, &self.http).await?;
        Ok(())
    }

    /// Closes every session of a user, whose clients then come back.
    pub(crate) async fn cut_off(&self, user: &str) -> Result<(), Failure> {
        let key = std::fs::read_to_string(self.place.path().join("certs/dev/api.key"))?;
        let body = format!(r#"{{"user": "{user}", "code": {COME_BACK}, "reason": "cut"}}"#);
        let request = format!(
            "POST /v1/disconnect HTTP/1.1\r\nhost: tidings\r\nx-api-key: {}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            key.trim(),
            body.len()
        );
        let answer = async {
            let mut stream = TcpStream::connect(&self.http).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(PATIENCE, answer).await??;
        if !answer.starts_with("HTTP/1.1 200") {
            return Err(format!("the HTTP API says: {answer}").into());
        }
        Ok(())
    }

    /// Seconds of CPU time of the process so far; `None` where the system does not tell.
    pub(crate) fn cpu(&self) -> Option<f64> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id()?)).ok()?;
        let spent = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Some(spent.sum::<u64>() as f64 / 1e9)
    }
}

fn tidings(path: &Path, place: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDINGS_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(place)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Returns when it listens.
async fn serve(path: &Path, place: &Path, listen: &str, http: &str) -> Result<Child, Failure> {
    let mut command = tidings(path, place);
    command
        .args(["serve", "--dev", "--listen", listen, "--http", http])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = command.spawn()?;
    let out = process.stdout.take().ok_or("it is piped")?;
    let mut lines = BufReader::new(out).lines();
    let up = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains(UP) {
                return Ok(());
            }
        }
        Err::<(), Failure>("the server ended before it listened".into())
    };
    timeout(PATIENCE, up)
        .await
        .map_err(|_| "the server does not come up")??;
    Ok(process)
}

//! The API over real TCP, asked by a client of a few lines, so that every byte of a request is the test's own.

mod channels;
mod connections;
mod document;
mod errors;
mod history;
mod key;
mod presence;
mod publish;
mod requests;

use std::{io, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{ApiKey, Config, Served, serve_with};
use crate::server::heartbeat::Heartbeats;
use crate::{
    auth::Rules,
    broker::{self, Broker},
    session::Sessions,
};

const KEY: &str = "a-key-of-more-than-16-bytes";
/// Longer than anything here takes: a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    broker: Broker,
    shutdown: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::with(broker::Config::default(), patient()).await
    }

    async fn with(broker: broker::Config, config: Config) -> Self {
        Self::with_rules(broker, config, Rules::default()).await
    }

    async fn with_rules(broker: broker::Config, config: Config, rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (broker, shutdown) = (Broker::new(broker), CancellationToken::new());
        let key = ApiKey::new(KEY).unwrap();
        let served = Served {
            broker: broker.clone(),
            sessions: Sessions::default(),
            rules,
            heartbeats: Heartbeats::default(),
        };
        let serving = serve_with(listener, served, key, config, shutdown.clone());
        Self {
            address,
            broker,
            shutdown,
            task: tokio::spawn(serving),
        }
    }

    async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.address).await.unwrap(),
            unread: Vec::new(),
        }
    }

    /// One authorized POST on a connection of its own.
    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    async fn post_text(&self, path: &str, body: &str) -> Answer {
        self.connect().await.post(path, body).await
    }

    /// One request on a connection of its own; `head` ends without the empty line.
    async fn ask(&self, head: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(&format!("{head}\r\n\r\n")).await;
        client.answer().await
    }

    /// Shuts down, and says that it is over in time.
    async fn stop(self) {
        self.shutdown.cancel();
        let joined = tokio::time::timeout(LONG, self.task).await;
        joined.expect("serve goes on").unwrap().unwrap();
    }
}

/// Deadlines so long that what ends in a test did not end by them.
fn patient() -> Config {
    let hour = Duration::from_secs(3600);
    Config {
        head: hour,
        request: hour,
        age: hour,
        grace: hour,
        ..Config::default()
    }
}

struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.send(&format!("{}\r\n\r\n{body}", head(path, body.len())))
            .await;
        self.answer().await
    }

    async fn answer(&mut self) -> Answer {
        tokio::time::timeout(LONG, self.read_answer())
            .await
            .expect("no answer")
    }

    async fn read_answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_some().await;
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: String::new(),
        };
        let length = answer
            .header("content-length")
            .map_or(0, |l| l.parse().unwrap());
        while self.unread.len() < length {
            self.read_some().await;
        }
        let body: Vec<u8> = self.unread.drain(..length).collect();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    async fn read_some(&mut self) {
        let read = self.stream.read_buf(&mut self.unread).await.unwrap();
        assert!(
            read > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&self.unread)
        );
    }

    /// Waits until the server has closed; what it sent before.
    async fn closed(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = tokio::time::timeout(LONG, self.stream.read_to_end(&mut rest))
            .await
            .expect("the connection stays open");
        String::from_utf8(rest).unwrap()
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// That this is an error of the one shape; its message.
    #[track_caller]
    fn error(&self, status: u16, code: &str, number: Option<u32>) -> String {
        let json = self.json();
        let message = json["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let mut wanted = json!({"error": {"code": code, "message": message}});
        if let Some(number) = number {
            wanted["error"]["number"] = number.into();
        }
        assert_eq!((self.status, json), (status, wanted));
        message
    }
}

/// The head of an authorized POST of JSON.
fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}"
    )
}

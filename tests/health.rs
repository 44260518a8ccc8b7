//! `GET /health` while a worker works, is blocked, and works again.

mod common;

use std::{
    num::NonZeroU8,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::each;
use tidings::{
    async_trait,
    auth::{Authenticator, Credentials, Denied, Grant},
    client::Transport,
    server::http::ApiKey,
    testing::TestServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// User code that blocks its thread as it should not, until it is let go.
#[derive(Clone, Default)]
struct Blocking(Arc<(Mutex<Blocked>, Condvar)>);

#[derive(Default)]
struct Blocked {
    entered: bool,
    released: bool,
}

impl Blocking {
    fn entered(&self) -> bool {
        self.0.0.lock().unwrap().entered
    }

    fn release(&self) {
        self.0.0.lock().unwrap().released = true;
        self.0.1.notify_all();
    }
}

/// A test that fails lets go, too: the server could not end.
impl Drop for Blocking {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.release();
        }
    }
}

#[async_trait]
impl Authenticator for Blocking {
    async fn authenticate(&self, _: &Credentials<'_>) -> Result<Grant, Denied> {
        let mut blocked = self.0.0.lock().unwrap();
        blocked.entered = true;
        while !blocked.released {
            blocked = self.0.1.wait(blocked).unwrap();
        }
        Ok(Grant::anonymous())
    }
}

/// The head and the body of the answer to `GET /health`.
async fn health(server: &TestServer) -> (String, serde_json::Value) {
    let address = server.http_address().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), serde_json::from_str(body).unwrap())
}

each!(blocked_worker_is_reported_until_it_works_again);
async fn blocked_worker_is_reported_until_it_works_again(transport: Transport) {
    let blocking = Blocking::default();
    let server = TestServer::start_with(|builder| {
        builder
            .workers(NonZeroU8::MIN)
            .deadline(Duration::from_secs(60))
            .authenticator(blocking.clone())
            .http(
                ([127, 0, 0, 1], 0).into(),
                ApiKey::new("a-key-of-more-than-16-bytes").unwrap(),
            )
    })
    .await;
    let (head, body) = health(&server).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!((&body["status"], body.get("stuck")), (&"ok".into(), None));

    let connecting = tokio::spawn(server.client_builder(transport).connect());
    while !blocking.entered() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The worker had a turn a moment before, and is asked only when that is too long ago.
    let (head, body) = loop {
        let (head, body) = health(&server).await;
        if body["status"] != "ok" {
            break (head, body);
        }
    };
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(head.contains("retry-after: "), "{head}");
    assert_eq!(body["status"], "stuck");
    let stuck = body["stuck"].as_array().unwrap();
    assert_eq!((stuck.len(), &stuck[0]["worker"]), (1, &0.into()), "{body}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let since = Duration::from_millis(stuck[0]["since"].as_u64().unwrap());
    assert!(
        since < now && now - since < Duration::from_secs(60),
        "{body}"
    );

    blocking.release();
    while health(&server).await.1["status"] != "ok" {}
    drop(connecting.await.unwrap());
}

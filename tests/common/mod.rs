//! What the integration tests share.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test binary uses a part"
)]

pub(crate) mod flood;
pub(crate) mod gate;
pub(crate) mod raw;
pub(crate) mod relay;
pub(crate) mod websocket;

use std::{future::Future, time::Duration};

use tidings::{
    client::{Event, Subscription},
    wire::Publication,
};

/// Makes two tests of one scenario: over raw QUIC and over WebTransport.
macro_rules! both {
    ($scenario:ident) => {
        mod $scenario {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn quic() {
                crate::common::bounded(super::$scenario(tidings::client::Transport::Quic)).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn webtransport() {
                crate::common::bounded(super::$scenario(tidings::client::Transport::WebTransport))
                    .await;
            }
        }
    };
}
pub(crate) use both;

/// Makes three tests of one scenario: over raw QUIC, WebTransport and a WebSocket.
macro_rules! each {
    ($scenario:ident) => {
        mod $scenario {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn quic() {
                crate::common::bounded(super::$scenario(tidings::client::Transport::Quic)).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn webtransport() {
                crate::common::bounded(super::$scenario(tidings::client::Transport::WebTransport))
                    .await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn websocket() {
                crate::common::bounded(super::$scenario(tidings::client::Transport::WebSocket))
                    .await;
            }
        }
    };
}
pub(crate) use each;

/// A hang is a failure, not a wait for whoever runs the tests.
pub(crate) async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .expect("the test is not done within a minute: something hangs")
}

/// The next event, which must be a publication.
pub(crate) async fn publication(subscription: &mut Subscription) -> Publication {
    match subscription.next().await {
        Some(Event::Publication(publication)) => publication,
        other => panic!("no publication but {other:?}"),
    }
}

/// Its text.
pub(crate) fn text(publication: &Publication) -> &str {
    publication.message.as_text().expect("a message with text")
}

/// A folder of its own, removed with the guard.
#[derive(Debug)]
pub(crate) struct TempDir(std::path::PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "tidings-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new folder for temporary files");
        Self(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A self-signed certificate for this machine with the PEM text of certificate and key.
pub(crate) fn certificate() -> (tidings::transport::Certificate, String, String) {
    tidings::transport::Certificate::self_signed(
        &["localhost", "127.0.0.1"],
        std::time::SystemTime::now(),
        Duration::from_secs(3600),
    )
    .expect("a certificate")
}

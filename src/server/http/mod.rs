//! The HTTP API: a backend publishes with one POST, a monitor asks for the health, a tool reads the OpenAPI document.
//!
//! | request | who may | what it does |
//! | --- | --- | --- |
//! | `POST /v1/notify` | the API key | posts a notification to every device of a user |
//! | `POST /v1/announce` | the API key | posts an announcement to everybody |
//! | `POST /v1/publish` | the API key | posts text, JSON or bytes to a channel |
//! | `POST /v1/history` | the API key | reads what is kept of a channel |
//! | `GET /v1/presence` | the API key | reads who is in a channel |
//! | `GET /v1/channels` | the API key | lists the channels, with their readers and positions |
//! | `POST /v1/sessions` | the API key | lists who is connected, to what, and how far behind |
//! | `POST /v1/subscribe`, `/v1/unsubscribe` | the API key | changes what live sessions are subscribed to |
//! | `POST /v1/disconnect`, `/v1/revoke` | the API key | ends live sessions, and refuses a user's tokens |
//! | `GET /health` | anybody | says whether the server works, and how much there is |
//! | `GET /openapi.json` | anybody | describes all this, generated from the code |
//!
//! The [`ApiKey`] is the server's own authority: whoever has it publishes in the server's name to any channel, and no rule
//! is asked. Every error is JSON with a code of PROTOCOL §7 where one exists. It is HTTP/1.1 without TLS, for the loopback
//! interface or a network of one's own; towards anything else a proxy that ends TLS belongs in front of it.

mod admission;
mod body;
mod channels;
mod connection;
mod document;
mod health;
mod history;
mod key;
#[cfg(feature = "web")]
pub(super) mod pages;
mod presence;
mod query;
mod rejection;
mod routes;
mod sessions;
#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::key::{ApiKey, InvalidApiKey};

use super::heartbeat::Heartbeats;
use crate::{auth::Rules, broker::Broker, session::Sessions};

/// Bounds of the API. Each time is total, not idle, so that a peer gains nothing by sending a byte now and then.
#[derive(Debug, Clone)]
struct Config {
    /// Largest body in bytes.
    body_limit: usize,
    /// From the connection, or from the answer before, to the last byte of a request's head. An idle connection is closed
    /// after it too.
    head: Duration,
    /// From the head to the answer; reading the body is part of it.
    request: Duration,
    /// Age from which a connection is told to close with its next answer.
    age: Duration,
    /// What requests in flight still get when the server shuts down.
    grace: Duration,
    /// Most connections at a time. For one more, one that has not presented the key ends; where all have, it waits in the listener's
    /// backlog.
    connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_limit: 128 * 1024,
            head: Duration::from_secs(10),
            request: Duration::from_secs(10),
            age: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            // A connection holds at most its buffer of 32 KiB and one body: 160 MiB in all with the body limit above.
            connections: 1024,
        }
    }
}

impl Config {
    /// No connection is older than this: at its full age it may be idle, then take a request, and then its answer, which has
    /// as long as the request had. Only a peer that does not read its answers gets there.
    fn lifetime(&self) -> Duration {
        self.age + self.head + self.request * 2
    }
}

/// What the API speaks for.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) broker: Broker,
    pub(super) sessions: Sessions,
    pub(super) rules: Rules,
    pub(super) heartbeats: Heartbeats,
}

/// Serves the API until `shutdown`; requests in flight are then answered within 5 s.
///
/// `connections` is the most connections at a time, `body_limit` the largest body in bytes. It should leave room above [`Broker::max_message`] for JSON's escapes and for
/// base64, which needs four bytes for three. No task outlives this future, whether it returns or is dropped.
///
/// # Errors
/// The listener has no address. A connection that could not be accepted is no error: it is logged, and tried again.
pub(super) async fn serve(
    listener: TcpListener,
    served: Served,
    key: ApiKey,
    (body_limit, connections): (usize, usize),
    pages: axum::Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let config = Config {
        body_limit,
        connections,
        ..Config::default()
    };
    let router = routes::router(served, key.clone(), &config, pages);
    connection::serve(listener, router, key, config, shutdown).await
}

#[cfg(test)]
async fn serve_with(
    listener: TcpListener,
    served: Served,
    key: ApiKey,
    config: Config,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = routes::router(served, key.clone(), &config, axum::Router::new());
    connection::serve(listener, router, key, config, shutdown).await
}

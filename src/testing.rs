//! A real server inside a test (feature `test-util`).
//!
//! ```
//! use tidings::{testing::TestServer, client::{Event, Transport}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = TestServer::start().await;
//! let phone = server.client("42", Transport::Quic).await?;
//! let mut inbox = phone.subscribe("user-42").await?;
//! server.broker().notify(&"42".parse()?, "your order shipped")?;
//! let Some(Event::Publication(publication)) = inbox.next().await else { panic!("nothing came") };
//! assert_eq!(publication.message.as_text(), Some("your order shipped"));
//! # Ok(()) }
//! ```

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    auth::{JwtAuthenticator, TokenIssuer, VerifyingKey},
    broker::Broker,
    client::{self, Client, ClientError, Sha256, Transport, Trust},
    server::{Builder, Server, Sessions},
    wire::UserId,
};

/// A server on a free port of 127.0.0.1, with a self-signed certificate of its own, that takes the tokens of
/// [`token`](Self::token). Dropping it ends the server at once; [`stop`](Self::stop) lets it drain.
///
/// Its methods panic where a test cannot go on.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    plain_websocket: Option<SocketAddr>,
    #[cfg(feature = "http")]
    http: Option<SocketAddr>,
    sha256: Sha256,
    broker: Broker,
    sessions: Sessions,
    issuer: TokenIssuer,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl TestServer {
    /// A server with the default rules and limits.
    ///
    /// # Panics
    /// Where no port of 127.0.0.1 can be bound, or outside a tokio runtime.
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    /// A server that `change` has had a say in. Address, certificate and authenticator are set before.
    ///
    /// # Panics
    /// Where the server cannot be bound, or outside a tokio runtime.
    pub async fn start_with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let secret: [u8; 32] = rand::random();
        let fail = "a random secret of 32 bytes is a key";
        let issuer = TokenIssuer::new(secret).expect(fail);
        let key = VerifyingKey::hs256(&secret).expect(fail);
        let authenticator = JwtAuthenticator::new(vec![key])
            .expect(fail)
            .leeway(Duration::ZERO);
        let builder = Server::builder()
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .self_signed()
            .authenticator(authenticator)
            .grace(Duration::from_secs(5));
        let server = change(builder).bind().await.expect("the test server binds");
        let (stop, stopped) = oneshot::channel();
        Self {
            address: server.local_address(),
            plain_websocket: server.plain_websocket_address(),
            #[cfg(feature = "http")]
            http: server.http_address(),
            sha256: server.certificate_sha256(),
            broker: server.broker().clone(),
            sessions: server.sessions().clone(),
            issuer,
            stop: Some(stop),
            running: tokio::spawn(server.run(async {
                let _ = stopped.await;
            })),
        }
    }

    /// A token for a user, valid for an hour.
    ///
    /// # Panics
    /// Where `user` breaks the grammar of [`UserId`].
    #[must_use]
    pub fn token(&self, user: &str) -> String {
        self.token_for(user, Duration::from_secs(3600))
    }

    /// A token for a user, valid for this long, to the second.
    ///
    /// # Panics
    /// Where `user` breaks the grammar of [`UserId`].
    #[must_use]
    pub fn token_for(&self, user: &str, valid_for: Duration) -> String {
        let user = UserId::parse(user).expect("a user of a test is a user");
        self.issuer.issue(&user, valid_for)
    }

    /// What makes tokens that this server takes: for tokens with grants, audiences and the like.
    #[must_use]
    pub const fn issuer(&self) -> &TokenIssuer {
        &self.issuer
    }

    /// A connected client of a user.
    ///
    /// # Errors
    /// As [`client::Builder::connect`].
    pub async fn client(&self, user: &str, transport: Transport) -> Result<Client, ClientError> {
        self.client_builder(transport)
            .token(self.token(user))
            .connect()
            .await
    }

    /// A client in the making that trusts this server and has no token.
    pub fn client_builder(&self, transport: Transport) -> client::Builder {
        Client::builder(self.url(transport)).trust(Trust::Hashes(vec![self.sha256]))
    }

    /// Where the server is: `quic://…` or `https://…`.
    #[must_use]
    pub fn url(&self, transport: Transport) -> String {
        match transport {
            Transport::Quic => format!("quic://{}", self.address),
            Transport::WebTransport => format!("https://{}/tidings", self.address),
            Transport::WebSocket => format!("wss://{}/tidings", self.address),
        }
    }

    /// Its UDP address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves WebSockets without TLS, where `start_with` said so.
    #[must_use]
    pub const fn plain_websocket_address(&self) -> Option<SocketAddr> {
        self.plain_websocket
    }

    /// The TCP address of its HTTP API, where `start_with` gave it one.
    #[cfg(feature = "http")]
    #[must_use]
    pub const fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// SHA-256 of its certificate.
    #[must_use]
    pub const fn certificate_sha256(&self) -> Sha256 {
        self.sha256
    }

    /// Its broker: publish and subscribe without a connection.
    #[must_use]
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Its open sessions.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Begins to drain and returns at once; [`stop`](Self::stop) waits for the end.
    pub fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Drains and waits for the end.
    ///
    /// # Panics
    /// Where the server panicked.
    pub async fn stop(mut self) {
        self.begin_stop();
        (&mut self.running)
            .await
            .expect("the server ends without a panic");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

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
    time::{Duration, SystemTime},
};

use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

use crate::{
    auth::{JwtAuthenticator, TokenIssuer, VerifyingKey},
    broker::Broker,
    client::{self, Client, ClientError, Sha256, Transport, Trust},
    server::{Builder, Certificate, Server, Sessions},
    wire::UserId,
};

/// Validity of the certificate: a day less than browsers allow for one that is pinned.
const VALIDITY: Duration = Duration::from_secs(13 * 24 * 3600);

/// A server on a free port of 127.0.0.1, with a self-signed certificate of its own, that takes the tokens of
/// [`token`](Self::token). Dropping it ends the server at once; [`stop`](Self::stop) lets it drain.
///
/// Its methods panic where a test cannot go on.
///
/// ```
/// use tidings::{Message, client::{Event, Transport}, testing::TestServer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut server = TestServer::start_with(|builder| builder.idle(std::time::Duration::from_secs(5))).await;
/// let client = server.client("ann", Transport::WebTransport).await?;
/// let mut global = client.subscribe("global").await?;
/// // The same ports and certificate, with empty channels: the client comes back by itself.
/// server.restart().await;
/// let Some(Event::Break { .. }) = global.next().await else { panic!("no break") };
/// server.broker().post(&"global".parse()?, Message::text("again"))?;
/// let publication = global.next_publication().await.ok_or("it ended")?;
/// assert_eq!(publication.message.as_text(), Some("again"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TestServer {
    builder: Builder,
    address: SocketAddr,
    plain_websocket: Option<SocketAddr>,
    #[cfg(feature = "http")]
    http: Option<SocketAddr>,
    sha256: Sha256,
    broker: Broker,
    sessions: Sessions,
    issuer: TokenIssuer,
    stop: Option<oneshot::Sender<()>>,
    /// None while it is down.
    running: Option<JoinHandle<()>>,
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
        let names = ["localhost", "127.0.0.1", "::1"];
        let (certificate, ..) = Certificate::self_signed(&names, SystemTime::now(), VALIDITY)
            .expect("a self-signed certificate");
        let builder = Server::builder()
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .certificate(certificate)
            .authenticator(authenticator)
            .grace(Duration::from_secs(5));
        let builder = change(builder);
        let server = builder.clone().bind().await;
        let server = server.expect("the test server binds");
        let builder = builder.at(&server);
        Self::run(builder, issuer, server)
    }

    fn run(builder: Builder, issuer: TokenIssuer, server: Server) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self {
            builder,
            address: server.local_address(),
            plain_websocket: server.plain_websocket_address(),
            #[cfg(feature = "http")]
            http: server.http_address(),
            sha256: server.certificate_sha256(),
            broker: server.broker().clone(),
            sessions: server.sessions().clone(),
            issuer,
            stop: Some(stop),
            running: Some(tokio::spawn(server.run(async {
                let _ = stopped.await;
            }))),
        }
    }

    /// Drains, waits for the end, and starts again: see [`shut_down`](Self::shut_down) and [`start_again`](Self::start_again).
    ///
    /// # Panics
    /// Where the server panicked, or cannot be bound again.
    pub async fn restart(&mut self) {
        self.shut_down().await;
        self.start_again().await;
    }

    /// Drains and waits for the end. [`start_again`](Self::start_again) may follow. Without effect on a server that is down.
    ///
    /// # Panics
    /// Where the server panicked.
    pub async fn shut_down(&mut self) {
        self.begin_stop();
        self.ended().await;
    }

    /// Ends the server at once, as a crash does as far as its process can say: sessions are cut off. [`start_again`](Self::start_again) may
    /// follow. Without effect on a server that is down.
    ///
    /// # Panics
    /// Where the server panicked.
    pub async fn kill(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
        self.ended().await;
        self.stop = None;
    }

    /// Starts the server anew: on the same ports, with the same certificate, keys, rules and user code. Nothing else is left: channels are
    /// empty, with other epochs, and [`broker`](Self::broker) and [`sessions`](Self::sessions) are new. Clients that reconnect find it.
    /// Without effect on a server that runs.
    ///
    /// # Panics
    /// Where the ports cannot be bound again: another process may have taken them.
    pub async fn start_again(&mut self) {
        if self.running.is_some() {
            return;
        }
        let mut tries = 0;
        let server = loop {
            match self.builder.clone().bind().await {
                Ok(server) => break server,
                // The system may not have freed the ports yet.
                Err(error) if tries == 100 => {
                    panic!("the test server does not bind again: {error}")
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
            tries += 1;
        };
        *self = Self::run(self.builder.clone(), self.issuer.clone(), server);
    }

    async fn ended(&mut self) {
        if let Some(running) = &mut self.running {
            match running.await {
                Ok(()) => {}
                Err(error) => assert!(error.is_cancelled(), "the server ends without a panic"),
            }
            self.running = None;
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
        self.shut_down().await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

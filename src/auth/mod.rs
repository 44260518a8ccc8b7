//! Floor 1: who is there, and what may they do.
//!
//! An [`Authenticator`] turns [`Credentials`] into a [`Grant`], or says why not ([`Denied`]). [`Rules`] then answer, for a grant
//! and a channel, whether it may be subscribed to or published to, and how it is delivered. [`JwtAuthenticator`] is the built-in authenticator;
//! [`AllowAnonymous`] is the only way to let anybody in without a token.
//!
//! Nothing here reads a clock, a file or the environment, but for [`TokenIssuer::issue`], which has to know what time it is.

use std::{fmt, net::SocketAddr, sync::Arc, time::SystemTime};

use crate::wire::{Code, Transport};

pub mod anonymous;
pub mod data;
pub mod delivery;
pub mod grant;
pub mod request;
pub mod rules;
pub mod token;

pub use anonymous::{AllowAnonymous, NoVerifier};
pub use data::GrantData;
pub use delivery::{Delivery, Keyframes, OnLag, Priority};
pub use grant::{Grant, Permissions};
pub use request::Request;
pub use rules::{InvalidRule, Rule, Rules, Who};
pub use token::{Algorithm, Claims, InvalidKey, JwtAuthenticator, TokenIssuer, VerifyingKey};

/// What a client presents, in `Hello` or when it refreshes its token, and where it comes from.
///
/// `Debug` prints whether there is a token, never the token; of [`request`](Self::request) it prints no value.
#[derive(Clone)]
#[non_exhaustive]
pub struct Credentials<'a> {
    /// The token, as the client sent it. Its length is bounded only by the frame it came in.
    pub token: Option<&'a str>,
    /// What the client says about itself, such as `tidings-web/0.1`. Unverified: for logs only.
    pub client: &'a str,
    /// The address the connection comes from. A connection may move later.
    pub remote: SocketAddr,
    /// The time to judge the token by.
    pub now: SystemTime,
    /// Transport of the connection.
    pub transport: Transport,
    /// HTTP request that opened the connection, with its origin, cookies and query: at a refresh, too. `None` over raw QUIC, and where
    /// [`Authenticator::reads_request`] says no.
    pub request: Option<&'a Request>,
    /// Grant that the session has already, where this is a refresh; `None` for a new session.
    pub current: Option<&'a Grant>,
}

impl<'a> Credentials<'a> {
    /// Credentials of a client at `remote`, to be judged at `now`: those of a new session over raw QUIC.
    #[must_use]
    pub const fn new(
        token: Option<&'a str>,
        client: &'a str,
        remote: SocketAddr,
        now: SystemTime,
    ) -> Self {
        Self {
            token,
            client,
            remote,
            now,
            transport: Transport::Quic,
            request: None,
            current: None,
        }
    }

    /// These credentials over another transport, with the HTTP request that opened the connection.
    #[must_use]
    pub const fn over(mut self, transport: Transport, request: Option<&'a Request>) -> Self {
        self.transport = transport;
        self.request = request;
        self
    }

    /// These credentials for the refresh of a session with this grant.
    #[must_use]
    pub const fn of_session(mut self, current: &'a Grant) -> Self {
        self.current = Some(current);
        self
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("token", &self.token.map(|_| "[redacted]"))
            .field("client", &self.client)
            .field("remote", &self.remote)
            .field("now", &self.now)
            .field("transport", &self.transport)
            .field("request", &self.request)
            .field("current", &self.current)
            .finish()
    }
}

/// Decides who a client is.
///
/// ```
/// use tidings::{
///     async_trait,
///     auth::{Authenticator, Credentials, Denied, Grant},
///     client::Transport,
///     testing::TestServer,
/// };
///
/// /// Application data that the grant carries to user code.
/// struct Profile {
///     role: String,
/// }
///
/// /// Lets in tenants that the URL names: `wss://example.org/tidings?tenant=acme`.
/// struct Tenants;
///
/// #[async_trait]
/// impl Authenticator for Tenants {
///     async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Grant, Denied> {
///         // Raw QUIC has no HTTP request.
///         let request = credentials.request.ok_or(Denied::Missing)?;
///         let tenant = request.query_parameter("tenant").ok_or(Denied::Missing)?;
///         let user = format!("{tenant}:guest");
///         let user = user.parse().map_err(|_| Denied::Invalid("an invalid tenant".to_owned()))?;
///         Ok(Grant::user(user).with_data(Profile { role: "guest".to_owned() }))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = TestServer::start_with(|builder| builder.authenticator(Tenants)).await;
/// let url = server.url(Transport::WebSocket) + "?tenant=acme";
/// let client = server.client_builder(Transport::WebSocket).url(url).connect().await?;
/// let welcome = client.welcome().ok_or("no connection")?;
/// assert_eq!(welcome.user.ok_or("no user")?.as_str(), "acme:guest");
/// let session = server.sessions().find(&welcome.session).ok_or("no session")?;
/// assert_eq!(session.data::<Profile>().ok_or("no data")?.role, "guest");
/// # Ok(()) }
/// ```
///
/// It is asked before anything of the application is allocated for the client, and again whenever the client presents a new
/// token. The caller bounds how long an answer may take by dropping the future, so an implementation must be cancel safe.
#[async_trait::async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// What these credentials are good for.
    ///
    /// # Errors
    /// [`Denied`], whose message the client gets to read.
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Grant, Denied>;

    /// True where [`Credentials::request`] is wanted. Default: true. The request is kept for as long as its session lives, because a refresh shows it
    /// again: up to 16 KiB a session, about 1 KiB from a browser.
    fn reads_request(&self) -> bool {
        true
    }
}

#[async_trait::async_trait]
impl<T: Authenticator + ?Sized> Authenticator for Arc<T> {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Grant, Denied> {
        (**self).authenticate(credentials).await
    }

    fn reads_request(&self) -> bool {
        (**self).reads_request()
    }
}

/// Why a client is not let in.
///
/// The client reads the message: it says what is wrong and what to do about it. No reason may contain the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No token, and this server asks for one.
    #[error("this server asks for a token: connect with one")]
    Missing,
    /// The token does not verify, or is not meant for this server.
    #[error("the token is not accepted: {0}")]
    Invalid(String),
    /// The token's time is over.
    #[error("the token has expired: connect with a new one")]
    Expired,
    /// The token is good, and its owner is still not welcome.
    #[error("access is not allowed: {0}")]
    Forbidden(String),
    /// Whoever has to say cannot be asked now.
    #[error("the credentials cannot be checked now, try again later: {0}")]
    Unavailable(String),
}

impl Denied {
    /// The code that the connection is closed with (PROTOCOL §7).
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Missing => Code::UNAUTHENTICATED,
            Self::Invalid(_) => Code::INVALID_TOKEN,
            Self::Expired => Code::TOKEN_EXPIRED,
            Self::Forbidden(_) => Code::PERMISSION_DENIED,
            Self::Unavailable(_) => Code::OVERLOADED,
        }
    }
}

#[cfg(test)]
mod tests;

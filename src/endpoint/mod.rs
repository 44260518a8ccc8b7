//! Floor 3: user code in Rust, called for each session, as an application framework's server has it.

pub use crate::session::{PostStream, Progress, Session, SubscribeError};

/// User code for each session.
///
/// ```
/// use tidings::{
///     Code, async_trait,
///     client::Transport,
///     endpoint::{Endpoint, Session},
///     testing::TestServer,
/// };
///
/// struct Greeter;
///
/// #[async_trait]
/// impl Endpoint for Greeter {
///     async fn session_opened(&self, session: &Session) {
///         let Some(user) = session.user() else {
///             return session.close(Code::PERMISSION_DENIED, "log in first");
///         };
///         let (Ok(own), Ok(stream)) = (format!("user-{user}").parse(), "notification".parse()) else {
///             return session.close(Code::INTERNAL, "no such channel");
///         };
///         if let Err(error) = session.forward(&own, &stream) {
///             eprintln!("{error}");
///         }
///         // However it ends, also where the client vanished.
///         let ended = session.clone();
///         session.spawn(async move {
///             ended.closed().await;
///             println!("{} left", ended.id());
///         });
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = TestServer::start_with(|builder| builder.endpoint(Greeter)).await;
/// let client = server.client("ann", Transport::WebSocket).await?;
/// let mut notifications = client.stream("notification")?;
/// server.broker().notify(&"ann".parse()?, "your order shipped")?;
/// let publication = notifications.next_publication().await.ok_or("it ended")?;
/// assert_eq!(publication.message.as_text(), Some("your order shipped"));
/// # Ok(()) }
/// ```
#[async_trait::async_trait]
pub trait Endpoint: Send + Sync + 'static {
    /// Called with each authenticated session before the client is told that it is in (`Welcome`): what this subscribes the
    /// session to has begun when the client knows of it. It has 5 s (`Builder::deadline`), then the session is closed with
    /// `internal`: longer work goes to [`Session::spawn`]. A panic closes the session with `internal` and harms no other.
    async fn session_opened(&self, session: &Session);
}

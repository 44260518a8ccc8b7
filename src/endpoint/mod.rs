//! Floor 3: user code in Rust, called for each session, as an application framework's server has it.

pub use crate::session::{PostStream, Progress, Session, SubscribeError};

/// User code for each session.
///
/// ```
/// use tidings::{ChannelName, Code, endpoint::{Endpoint, Session}};
///
/// struct Greeter;
///
/// #[async_trait::async_trait]
/// impl Endpoint for Greeter {
///     async fn session_opened(&self, session: &Session) {
///         let Some(user) = session.user() else {
///             return session.close(Code::PERMISSION_DENIED, "log in first");
///         };
///         let notifications = ChannelName::parse("notification").unwrap();
///         if let Err(error) = session.forward(&ChannelName::of_user(user), &notifications) {
///             eprintln!("{error}");
///         }
///     }
/// }
/// ```
#[async_trait::async_trait]
pub trait Endpoint: Send + Sync + 'static {
    /// Called with each authenticated session before the client is told that it is in (`Welcome`): what this subscribes the
    /// session to has begun when the client knows of it. It has 5 s (`Builder::deadline`), then the session is closed with
    /// `internal`: longer work goes to [`Session::spawn`]. A panic closes the session with `internal` and harms no other.
    async fn session_opened(&self, session: &Session);
}

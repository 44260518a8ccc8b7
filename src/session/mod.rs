//! Floor 3: our protocol over one connection, server side (PROTOCOL §4, §5).
//!
//! [`serve`] is a session from its first byte to its last. It owns every task of the session: when it returns, none is left.

mod bell;
mod capacity;
mod control;
mod datagram;
mod given;
mod handle;
mod handshake;
mod history;
mod inner;
mod lanes;
mod places;
mod presence;
mod publish;
mod refresh;
mod roster;
mod stall;
mod subscribe;
mod writer;
mod writers;

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    auth::{Authenticator, Rules},
    broker::{Audience, Broker},
    transport::{
        Connection, Permit, Prefix, Upgrade,
        peer_log::{Excerpt, Throttle, throttled},
    },
    wire::{
        Code, LANES,
        datagram::FEATURE,
        frame::{Frame, Limits, RefusedSubscription, Welcome},
    },
};

pub(crate) use capacity::SessionLimits;
pub use handle::{PostStream, Progress, Session};
pub use roster::{Revocation, Sessions, TooManyRevocations};
pub use subscribe::SubscribeError;

use control::Control;
use inner::{Features, Inner};

/// What every session of a server shares.
pub(crate) struct Context {
    pub(crate) broker: Broker,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) rules: Rules,
    pub(crate) config: Config,
    /// User code, called before `Welcome` is sent.
    pub(crate) opened: Option<Opened>,
    /// Those that are open.
    pub(crate) sessions: Sessions,
    /// Set when the server is going away.
    pub(crate) drain: CancellationToken,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("broker", &self.broker)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The worker that serves a session, as its sessions see it.
pub(crate) struct Home {
    /// Who wakes their readers.
    pub(crate) audience: Audience,
    /// The server is going away. A child of [`Context::drain`], so that sessions of different workers do not meet on one lock.
    pub(crate) drain: CancellationToken,
    /// Where their tasks run.
    pub(crate) runtime: Handle,
}

pub(crate) type Opened = Arc<dyn Fn(Session) -> BoxFuture<'static, ()> + Send + Sync>;

/// Bounds of a session.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What `Welcome` states.
    pub(crate) limits: Limits,
    /// Total time from the connection to a complete `Hello`, and again for each of authentication and user code.
    pub(crate) deadline: Duration,
    /// Time for streams to drain when the server goes away.
    pub(crate) grace: Duration,
    /// Time after which a client ends that takes nothing of what waits for it.
    pub(crate) stalled: Duration,
    /// Idle timeout of its connections, as `Welcome` states it.
    pub(crate) idle: Duration,
}

/// Longest frame before `Welcome`, in bytes (PROTOCOL §4.1).
const MAX_FRAME_BEFORE_WELCOME: usize = 16 * 1024;
/// Bytes that an authenticated client may have in flight to us: one frame of the default limit on each stream, and more.
const RECEIVE_WINDOW: u32 = 1024 * 1024;
/// Longest sleep of the watch over a token's time.
const EXPIRY_STEP: Duration = Duration::from_secs(10);
/// Time for the last answers of a session that drains.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Above every subscription: requests and their answers are small, a page of history at most, and somebody waits for them.
const CONTROL_PRIORITY: i32 = i32::MAX;
/// How the server calls itself in `Welcome`.
const SERVER: &str = concat!("tidings/", env!("CARGO_PKG_VERSION"));

/// Limits of the log lines that clients cause. Sessions are logged with their users, so that there is room for more of them.
static OPENED: Throttle = Throttle::with_rate("sessions opened", 100, 10);
static CLOSED: Throttle = Throttle::with_rate("sessions closed", 100, 10);
static REFUSED: Throttle = Throttle::new("refused sessions");
static CREDENTIALS: Throttle = Throttle::new("refused credentials");
static REQUESTS: Throttle = Throttle::new("refused requests");
static FORWARDERS: Throttle = Throttle::new("forwarders");

/// True for the codes of a missing, invalid or insufficient token.
const fn is_about_credentials(code: Code) -> bool {
    matches!(
        code,
        Code::UNAUTHENTICATED | Code::INVALID_TOKEN | Code::TOKEN_EXPIRED | Code::PERMISSION_DENIED
    )
}

/// Why a session is over, as its peer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

impl Close {
    pub(crate) fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// Runs a session until it is over. `permit` counts it among the handshakes in flight and is dropped with `Welcome`;
/// `prefix` is the network address that its place counts for.
pub(crate) async fn serve(
    connection: Connection,
    permit: Permit,
    upgrade: Option<Upgrade>,
    prefix: Option<Prefix>,
    context: Arc<Context>,
    home: Arc<Home>,
) {
    // Apart, so that what the beginning needs is given back before the long rest.
    let opened = Box::pin(open(&connection, upgrade, prefix, &context, &home, permit)).await;
    let close = match opened {
        Ok((mut control, session, entry, cut_off)) => {
            let span = tracing::info_span!(
                "session",
                id = %session.id(),
                user = session.user().map(tracing::field::display),
                transport = %session.transport(),
                remote = %session.remote_address(),
            );
            async {
                throttled!(OPENED, info, "opened");
                let close = run(&mut control, &session).await;
                if !session.inner().ended.is_cancelled() {
                    session.inner().leave_given();
                }
                finish(&session, &close).await;
                // What user code still does at the end needs no place on the list.
                drop(entry);
                join(&session).await;
                drop(cut_off);
                throttled!(CLOSED, info, code = %close.code, reason = %Excerpt(&close.reason), "closed");
            }
            .instrument(span)
            .await;
            return;
        }
        Err(close) => close,
    };
    let throttle = if is_about_credentials(close.code) {
        &CREDENTIALS
    } else {
        &REFUSED
    };
    let transport = connection.transport();
    throttled!(throttle, info, remote = %connection.remote_address(), %transport, code = %close.code, reason = %Excerpt(&close.reason), "refused");
    connection.close_and_linger(close.code, &close.reason).await;
}

/// Whoever waits for the end of a session that is cut off, or panics, learns of it. Where it ended in order, that stays.
struct EndOnDrop(Arc<Inner>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0
            .end(&Close::new(Code::ENDED, "the session was cut off"));
    }
}

/// Streams end before the connection closes under them.
async fn finish(session: &Session, close: &Close) {
    let inner = session.inner();
    inner.end(close);
    inner.end_streams();
    Box::pin(inner.connection.close_and_linger(close.code, &close.reason)).await;
}

/// Waits for the tasks of user code.
async fn join(session: &Session) {
    let tasks = &session.inner().tasks;
    tasks.close();
    tasks.wait().await;
}

/// From the connection to `Welcome`.
async fn open(
    connection: &Connection,
    upgrade: Option<Upgrade>,
    prefix: Option<Prefix>,
    context: &Arc<Context>,
    home: &Arc<Home>,
    permit: Permit,
) -> Result<(Control, Session, roster::Entry, EndOnDrop), Close> {
    let greeting = tokio::select! {
        biased;
        greeting = handshake::greet(connection, upgrade, context) => greeting?,
        // Over WebTransport nothing else reads that the client leaves.
        closed = connection.closed() => {
            return Err(Close::new(closed.code.unwrap_or(Code::CLOSED), closed.reason));
        }
        () = home.drain.cancelled() => {
            return Err(Close::new(Code::GOING_AWAY, "the server is shutting down"));
        }
    };
    connection.set_receive_window(RECEIVE_WINDOW);
    let handshake::Greeting {
        mut reader,
        mut writer,
        hello,
        request,
        grant,
    } = greeting;
    reader.set_max_frame(usize::try_from(context.config.limits.frame).unwrap_or(usize::MAX));
    writer.set_priority(CONTROL_PRIORITY);

    let lanes = hello.features.iter().any(|known| known == LANES);
    let datagrams =
        hello.features.iter().any(|known| known == FEATURE) && connection.takes_datagrams();
    let tenancy = context
        .broker
        .open_tenancy(grant.user.as_ref())
        .map_err(|error| Close::new(error.code(), error.to_string()))?;
    let session = Session::new(Inner::new(
        connection.clone(),
        Arc::clone(context),
        Arc::clone(home),
        grant,
        hello.client,
        request,
        Features { lanes, datagrams },
        tenancy,
    ));
    // Also where this is cut off before `Welcome`.
    let cut_off = EndOnDrop(Arc::clone(session.inner()));
    let welcomed = async {
        let entry = context.sessions.enter(&session, prefix)?;
        let refused = auto_subscribe(&session);
        call_user_code(&session).await?;
        let welcome = Welcome {
            session: session.inner().id,
            user: session.user().map(ToString::to_string),
            server: SERVER.to_owned(),
            features: [(lanes, LANES), (datagrams, FEATURE)]
                .into_iter()
                .filter(|(both, _)| *both)
                .map(|(_, name)| name.to_owned())
                .collect(),
            limits: context.config.limits,
            subscriptions: session.inner().writers.subscriptions(),
            expires: session
                .inner()
                .grant()
                .expires_at
                .map(refresh::milliseconds),
            idle_timeout: u64::try_from(context.config.idle.as_millis()).unwrap_or(u64::MAX),
            refused,
        };
        let welcome = Frame::from(welcome).encode();
        match timeout(context.config.deadline, writer.write_all(&mut [welcome])).await {
            Ok(Ok(())) => Ok(entry),
            Ok(Err(_)) => Err(Close::new(Code::CLOSED, "the client left before Welcome")),
            Err(_) => Err(Close::new(
                Code::HELLO_TIMEOUT,
                "the client does not read Welcome",
            )),
        }
    };
    // The order matters: what the session already runs must end before the refusal is sent.
    let welcomed = welcomed.await;
    drop(permit);
    match welcomed {
        Ok(entry) => Ok((Control::new(reader, writer), session, entry, cut_off)),
        Err(close) => {
            finish(&session, &close).await;
            join(&session).await;
            Err(close)
        }
    }
}

/// Subscribes to the channels that the rules give automatically, and returns those that failed: `Welcome` reports them.
fn auto_subscribe(session: &Session) -> Vec<RefusedSubscription> {
    let inner = session.inner();
    let channels = inner.context.rules.auto_subscriptions(&inner.grant());
    let refused = channels.into_iter().filter_map(|channel| {
        let error = subscribe::by_rule(inner, &channel).err()?;
        tracing::debug!(%channel, %error, "automatic subscription failed");
        Some(RefusedSubscription {
            channel: channel.to_string(),
            code: error.code(),
            reason: error.to_string(),
        })
    });
    refused.collect()
}

async fn call_user_code(session: &Session) -> Result<(), Close> {
    let Some(opened) = &session.inner().context.opened else {
        return Ok(());
    };
    let call = AssertUnwindSafe(opened(session.clone())).catch_unwind();
    let ended = session.inner().ended.cancelled();
    tokio::select! {
        biased;
        called = timeout(session.inner().context.config.deadline, call) => match called {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                tracing::error!("session_opened panicked");
                return Err(Close::new(Code::INTERNAL, "the server's code for this session failed"));
            }
            Err(_) => {
                tracing::error!("session_opened did not return in time: spawn long work with Session::spawn");
                return Err(Close::new(Code::INTERNAL, "the server's code for this session took too long"));
            }
        },
        () = ended => {}
    }
    match session.inner().close_order() {
        Some(close) => Err(close),
        None => Ok(()),
    }
}

/// From `Welcome` to the reason of the end.
async fn run(control: &mut Control, session: &Session) -> Close {
    let inner = session.inner();
    let expiry = async {
        loop {
            let at = inner.grant().expires_at;
            let left = at.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            // In steps, because the timer does not follow a clock that is set, and the token's time does.
            let step = async {
                match left {
                    Some(left) => sleep(left.min(EXPIRY_STEP)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = step => {}
                () = inner.refreshed.notified() => {}
            }
        }
    };
    tokio::select! {
        close = control.run(session) => close,
        () = expiry => Close::new(Code::TOKEN_EXPIRED, "the token's time is over"),
        () = inner.ended.cancelled() => inner
            .close_order()
            .unwrap_or_else(|| Close::new(Code::ENDED, "ended by the server")),
        close = inner.left() => close,
        close = control::refuse_streams(inner) => close,
        () = streams_drained(inner) => {
            let _ = Box::pin(timeout(LAST_WORDS, control.finish(session))).await;
            Close::new(Code::GOING_AWAY, "the server is shutting down")
        }
    }
}

/// The server goes away, and every stream is at its end or the grace is over.
async fn streams_drained(inner: &Inner) {
    inner.home.drain.cancelled().await;
    inner.writers.drain();
    inner.tasks.close();
    let _ = Box::pin(timeout(inner.context.config.grace, inner.writers.done())).await;
}

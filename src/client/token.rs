//! Tokens: where they come from, and their renewal before they end (PROTOCOL §4.13).

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{ClientError, backoff, builder::Settings, driver::Command, line::Line};

/// Cause for which a token source gave no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The user is signed out: the client ends, and does not connect again.
    #[error("the user is signed out")]
    SignedOut,
    /// There is no token now: the client asks again after a pause.
    #[error("{0}")]
    Unavailable(String),
}

impl From<String> for TokenError {
    fn from(reason: String) -> Self {
        Self::Unavailable(reason)
    }
}

impl From<&str> for TokenError {
    fn from(reason: &str) -> Self {
        Self::Unavailable(reason.to_owned())
    }
}

/// Source of tokens in user code.
pub(super) type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<String, TokenError>> + Send + Sync>;

/// Where a token comes from.
pub(super) enum Token {
    None,
    Fixed(String),
    Asked(Ask),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed",
            Self::Asked(_) => "Asked",
        })
    }
}

/// A token from user code, within this time.
pub(super) async fn ask(ask: &Ask, within: Duration) -> Result<String, ClientError> {
    match timeout(within, ask()).await {
        Ok(Ok(token)) => Ok(token),
        Ok(Err(TokenError::SignedOut)) => Err(ClientError::SignedOut),
        Ok(Err(TokenError::Unavailable(reason))) => Err(ClientError::Token(reason)),
        Err(_) => Err(ClientError::Token("it did not come in time".to_owned())),
    }
}

/// Longest lifetime that is not renewed: with less there is no time for the token source, a round trip and a second attempt. The session
/// then ends, and the next connection asks.
const TOO_SHORT: Duration = Duration::from_secs(3);
/// Most time before the end at which the renewal begins; a fifth of what is left where that is less.
const AHEAD: Duration = Duration::from_secs(60);
/// Most attempts of one renewal.
const ATTEMPTS: u32 = 8;
/// Shortest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest sleep: timers do not follow a clock that is set, and the end does.
const STEP: Duration = Duration::from_secs(10);

/// Time before the end at which a renewal begins, of `left` that remain: `draw`, in 0..1, spreads clients over half of that.
fn ahead(left: Duration, draw: f64) -> Duration {
    let most = AHEAD.min(left / 5);
    most + (most / 2).mul_f64(draw.clamp(0.0, 1.0))
}

fn left(end: SystemTime) -> Duration {
    end.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Renews the token of a session for as long as that is served; returns only where the user is signed out.
pub(super) async fn renew(
    settings: &Settings,
    line: &Line,
    mut expires: watch::Receiver<Option<SystemTime>>,
    told: impl Fn(Option<SystemTime>),
) {
    loop {
        let end = *expires.borrow_and_update();
        told(end);
        let renewal = async {
            let (Token::Asked(ask), Some(end)) = (&settings.token, end) else {
                return std::future::pending().await;
            };
            renew_once(ask, settings.deadline, line, end).await
        };
        tokio::select! {
            // The end changed: by this renewal, or by user code.
            changed = expires.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            SignedOut = renewal => return,
        }
    }
}

struct SignedOut;

/// Waits until it is time, and tries; what then comes of it is seen in the session's end.
async fn renew_once(ask_user: &Ask, deadline: Duration, line: &Line, end: SystemTime) -> SignedOut {
    let lifetime = left(end);
    if lifetime <= TOO_SHORT {
        return std::future::pending().await;
    }
    let ahead = ahead(lifetime, rand::random());
    loop {
        let wait = left(end).saturating_sub(ahead);
        if wait.is_zero() {
            break;
        }
        sleep(wait.min(STEP)).await;
    }
    for attempt in 1..=ATTEMPTS {
        let error = match ask(ask_user, deadline.min(left(end))).await {
            Ok(token) => match refresh(line, token).await {
                // The answer changes the end.
                Ok(()) => return std::future::pending().await,
                Err(error) => error,
            },
            Err(ClientError::SignedOut) => return SignedOut,
            Err(error) => error,
        };
        tracing::debug!(attempt, %error, "the token was not renewed");
        sleep(PAUSE + backoff::wait(attempt, rand::random())).await;
        if left(end).is_zero() {
            break;
        }
    }
    std::future::pending().await
}

async fn refresh(line: &Line, token: String) -> Result<(), ClientError> {
    let (answer, answered) = oneshot::channel();
    let closed = || ClientError::Closed("its task is gone".to_owned());
    let command = Command::Refresh { token, answer };
    let _place = line.join(command).map_err(|_| closed())?;
    answered.await.map_err(|_| closed())?.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_begins_a_fifth_and_at_most_a_minute_and_a_half_before_the_end() {
        let seconds = Duration::from_secs;
        assert_eq!(ahead(seconds(10), 0.0), seconds(2));
        assert_eq!(ahead(seconds(10), 1.0), seconds(3));
        assert_eq!(ahead(seconds(3600), 0.0), seconds(60));
        assert_eq!(ahead(seconds(3600), 1.0), seconds(90));
        assert_eq!(ahead(Duration::MAX, 1.0), seconds(90));
        assert_eq!(ahead(Duration::ZERO, 1.0), Duration::ZERO);
    }
}

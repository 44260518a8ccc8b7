//! The ways of one client to its server: one, or a second one for networks that let no UDP through.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::transport::{
    Connection,
    dial::{DialError, Dialer, Target},
};

/// Head start of the first URL: a network that drops UDP leaves a handshake pending for tens of seconds.
const HEAD_START: Duration = Duration::from_millis(500);
/// Time for which what worked goes first. After it the first URL is tried first again: the network may be another one.
const REMEMBER: Duration = Duration::from_secs(600);

/// A dialer for the URL, and one for the fallback.
pub(super) struct Paths {
    main: Dialer,
    fallback: Option<Dialer>,
    /// Time at which the fallback won last.
    fell_back: Mutex<Option<Instant>>,
}

impl Paths {
    pub(super) const fn new(main: Dialer, fallback: Option<Dialer>) -> Self {
        Self {
            main,
            fallback,
            fell_back: Mutex::new(None),
        }
    }

    pub(super) const fn target(&self) -> &Target {
        self.main.target()
    }

    /// Silence after which a connection sends a PING.
    pub(super) const fn keep_alive(&self) -> Duration {
        self.main.keep_alive()
    }

    /// Connects within `deadline`; where there is a fallback, over what connects first.
    pub(super) async fn dial(&self, deadline: Duration) -> Result<Connection, DialError> {
        let Some(fallback) = &self.fallback else {
            return self.main.dial(deadline).await;
        };
        let (first, second) = if self.prefers_fallback() {
            (fallback, &self.main)
        } else {
            (&self.main, fallback)
        };
        let (won, connection) = race(first, second, deadline).await?;
        let fell_back = std::ptr::eq(won, fallback).then(Instant::now);
        *self
            .fell_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = fell_back;
        Ok(connection)
    }

    fn prefers_fallback(&self) -> bool {
        let fell_back = *self
            .fell_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        fell_back.is_some_and(|since| since.elapsed() < REMEMBER)
    }
}

/// The first of both that connects, and its connection; otherwise the error of the first.
async fn race<'a>(
    first: &'a Dialer,
    second: &'a Dialer,
    deadline: Duration,
) -> Result<(&'a Dialer, Connection), DialError> {
    let end = Instant::now() + deadline;
    let mut leading = pin!(first.dial(deadline));
    let failed = match timeout(HEAD_START, leading.as_mut()).await {
        Ok(Ok(connection)) => return Ok((first, connection)),
        Ok(Err(error)) if is_answer(&error) => return Err(error),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let mut following = pin!(second.dial(end.saturating_duration_since(Instant::now())));
    let failed = match failed {
        Some(error) => error,
        None => tokio::select! {
            connected = &mut leading => match connected {
                Ok(connection) => return Ok((first, connection)),
                Err(error) if is_answer(&error) => return Err(error),
                Err(error) => error,
            },
            connected = &mut following => return match connected {
                Ok(connection) => Ok((second, connection)),
                Err(_) => leading.await.map(|connection| (first, connection)),
            },
        },
    };
    let connected = following.await;
    connected
        .map(|connection| (second, connection))
        .map_err(|_| failed)
}

/// Whether a server answered: another way to it would not change that.
const fn is_answer(error: &DialError) -> bool {
    matches!(error, DialError::Refused(_) | DialError::Untrusted { .. })
}

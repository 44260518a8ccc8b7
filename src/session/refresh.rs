//! `Refresh`: new credentials for a session that goes on (PROTOCOL §4.13).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{sleep, timeout};

use super::{control::Refusal, inner::Inner, subscribe};
use crate::{
    auth::{Credentials, Grant},
    wire::{
        Code, Timestamp,
        frame::{Frame, Refresh, Refreshed},
    },
};

/// Pause before the refusal of a token, while no other request of the session is read: it bounds how much work one session can
/// make of tokens that do not verify.
const DENIED_PAUSE: Duration = Duration::from_millis(20);

/// Asks for a new grant, and lets it hold. Other requests of the session wait meanwhile, within the deadline.
pub(super) async fn refresh(inner: &Arc<Inner>, request: Refresh) -> Result<Frame, Refusal> {
    let current = inner.grant();
    let credentials = Credentials::new(
        Some(&request.token),
        &inner.client,
        inner.connection.remote_address(),
        SystemTime::now(),
    )
    .over(inner.connection.transport(), inner.request.as_deref())
    .of_session(&current);
    let authenticator = &inner.context.authenticator;
    let deadline = inner.context.config.deadline;
    let grant = timeout(deadline, authenticator.authenticate(&credentials))
        .await
        .map_err(|_| Refusal::new(Code::OVERLOADED, "authentication took too long"))?;
    let grant = match grant {
        Ok(grant) => grant,
        Err(denied) => {
            sleep(DENIED_PAUSE).await;
            return Err(Refusal::new(denied.code(), denied.to_string()));
        }
    };
    if grant.user != inner.user {
        let reason = "the token is of another user: connect anew for that one";
        return Err(Refusal::new(Code::PERMISSION_DENIED, reason));
    }
    let checked = inner.context.sessions.check(&grant);
    checked.map_err(|close| Refusal::new(close.code, close.reason))?;
    let expires = grant.expires_at.map(milliseconds);
    replace(inner, grant);
    tracing::debug!("refreshed");
    Ok(Refreshed {
        request: request.request,
        expires,
    }
    .into())
}

/// From now on this grant holds: what it does not allow any more ends.
pub(super) fn replace(inner: &Arc<Inner>, grant: Grant) {
    inner.set_grant(grant);
    for made in inner.writers.subscriptions() {
        let Ok(channel) = made.channel.parse() else {
            continue;
        };
        if !inner.may_subscribe(&channel) {
            // Somebody else may just have ended it.
            subscribe::end(inner, made.subscription, Code::PERMISSION_DENIED);
        }
    }
}

/// Milliseconds since 1970; 0 for earlier times.
pub(super) fn milliseconds(time: SystemTime) -> Timestamp {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as Timestamp)
}

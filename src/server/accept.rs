//! The accept loop: from an arrival to a session.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::task::JoinSet;

use crate::{
    session::{self, Context},
    transport::listener::{Arrival, Listener},
    wire::Code,
};

/// Accepts until the server drains, and returns when the last session is over. Dropping it ends all of them.
pub(super) async fn run(listener: Arc<Listener>, context: Arc<Context>, max_sessions: usize) {
    let mut sessions = JoinSet::new();
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        tokio::select! {
            biased;
            () = context.drain.cancelled() => break,
            Some(ended) = sessions.join_next() => log(ended),
            arrival = listener.accept() => match arrival {
                Some(arrival) => {
                    sessions.spawn(one(arrival, Arc::clone(&context), Arc::clone(&open), max_sessions));
                }
                None => break,
            },
        }
    }
    while let Some(ended) = sessions.join_next().await {
        log(ended);
    }
}

fn log(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a session panicked");
    }
}

async fn one(arrival: Arrival, context: Arc<Context>, open: Arc<AtomicUsize>, max_sessions: usize) {
    let remote = arrival.remote_address();
    let handshake = tokio::select! {
        handshake = arrival.handshake() => handshake,
        // Dropped: it finds out that nobody answers, and comes back.
        () = context.drain.cancelled() => return,
    };
    match handshake {
        Ok((connection, permit)) => {
            let Some(_open) = Open::take(open, max_sessions) else {
                let reason = format!("this server takes {max_sessions} sessions");
                return connection
                    .close_and_linger(Code::TOO_MANY_SESSIONS, &reason)
                    .await;
            };
            session::serve(connection, permit, context).await;
        }
        Err(error) => tracing::debug!(%remote, %error, "no connection"),
    }
}

/// A place for one session, until it is dropped. Whoever is refused takes none, however long it lingers.
#[derive(Debug)]
struct Open(Arc<AtomicUsize>);

impl Open {
    fn take(open: Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let more = |count| (count < max).then_some(count + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_takes_no_place() {
        let open = Arc::new(AtomicUsize::new(0));
        let take = || Open::take(Arc::clone(&open), 1);
        let first = take().expect("a place");
        assert!(take().is_none() && take().is_none());
        drop(first);
        assert!(take().is_some(), "the place is free again");
    }
}

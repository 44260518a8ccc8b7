//! The client's one task: a connection after the other.

use std::{sync::Arc, time::SystemTime};

use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Acknowledgement, ClientError, State, backoff,
    builder::Settings,
    line::Line,
    link::{Link, Over},
    paths::Paths,
    registry::Registry,
    token,
};
use crate::{
    transport::peer_log::Excerpt,
    wire::{
        Attendance, ChannelName, Code, History, HistoryQuery, Message, PublishOptions, Retry,
        Timestamp,
    },
};

/// What user code asks of the task.
#[derive(Debug)]
pub(super) enum Command {
    Publish {
        name: ChannelName,
        options: PublishOptions,
        message: Message,
        answer: oneshot::Sender<Result<Acknowledgement, ClientError>>,
    },
    /// The registry has a claim that is to be asked for.
    Subscribe,
    Presence {
        name: ChannelName,
        limit: u64,
        answer: oneshot::Sender<Result<Attendance, ClientError>>,
    },
    History {
        name: ChannelName,
        query: HistoryQuery,
        answer: oneshot::Sender<Result<History, ClientError>>,
    },
    Refresh {
        token: String,
        answer: oneshot::Sender<Result<Option<Timestamp>, ClientError>>,
    },
    Ping {
        answer: oneshot::Sender<Result<(), ClientError>>,
    },
}

pub(super) struct Driver {
    pub(super) paths: Paths,
    pub(super) settings: Settings,
    pub(super) registry: Arc<Registry>,
    pub(super) line: Arc<Line>,
    pub(super) state: watch::Sender<State>,
    /// User code closes the client.
    pub(super) close: CancellationToken,
}

/// Runs until the client is closed or a code says not to come back.
pub(super) async fn run(mut driver: Driver, mut link: Link) {
    loop {
        let expires = link.expires.subscribe();
        let over = tokio::select! {
            biased;
            () = driver.close.cancelled() => Over::Asked,
            over = link.run(&driver.registry, &driver.line) => over,
            () = token::renew(&driver.settings, &driver.line, expires, |end| driver.expires(end)) => Over::SignedOut,
        };
        let (code, reason) = over.reason();
        let told = match &over {
            Over::Given(code, _) => *code,
            Over::Asked | Over::SignedOut | Over::Lost(_) => Code::CLOSED,
        };
        let retry = driver.may_retry(over.retry());
        if retry {
            driver.state.send_replace(State::Reconnecting {
                attempt: 0,
                reason: reason.clone(),
            });
        }
        link.close(told, &reason).await;
        if !retry {
            return driver.end(code, reason);
        }
        tracing::debug!(reason = %Excerpt(&reason), "the connection broke");
        link = match driver.connect_again().await {
            Ok(link) => link,
            Err((code, reason)) => return driver.end(code, reason),
        };
    }
}

impl Driver {
    /// `Welcomed` has the end that was told last, without a change of the state.
    fn expires(&self, end: Option<SystemTime>) {
        self.state.send_if_modified(|state| {
            if let State::Connected(welcomed) = state {
                welcomed.expires = end;
            }
            false
        });
    }

    fn may_retry(&self, retry: Retry) -> bool {
        self.settings.reconnect && self.settings.may_retry(retry)
    }

    /// Tries until it works, a code forbids it, or user code closes the client.
    async fn connect_again(&mut self) -> Result<Link, (Option<Code>, String)> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let wait = backoff::wait(attempt, rand::random());
            let paths = &self.paths;
            let settings = &self.settings;
            let next = async {
                sleep(wait).await;
                Link::connect(paths, settings).await
            };
            let Some(connected) = self.close.run_until_cancelled(next).await else {
                return Err(Over::Asked.reason());
            };
            match connected {
                Ok((link, welcomed)) => {
                    self.state.send_replace(State::Connected(welcomed));
                    return Ok(link);
                }
                Err(error) => {
                    let retry = error.retry();
                    if !self.may_retry(retry) {
                        return Err((error.code(), error.to_string()));
                    }
                    let reason = error.to_string();
                    tracing::debug!(attempt, reason = %Excerpt(&reason), "not connected");
                    self.state
                        .send_replace(State::Reconnecting { attempt, reason });
                }
            }
        }
    }

    fn end(&self, code: Option<Code>, reason: String) {
        let closed = State::Closed {
            code,
            reason: reason.clone(),
        };
        // Who is woken by the registry finds the reason in the state.
        self.state.send_replace(closed);
        self.registry.end(code.unwrap_or(Code::CLOSED), &reason);
    }
}

impl Drop for Driver {
    /// Also when user code that is asked for a token panics.
    fn drop(&mut self) {
        if !matches!(*self.state.borrow(), State::Closed { .. }) {
            self.end(None, "the client's task is gone".to_owned());
        }
        self.line.close();
    }
}

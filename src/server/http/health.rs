//! `GET /health`: whether the server works, and how much there is.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{rejection::RETRY_AFTER, routes::Api};
use crate::server::heartbeat::Stuck;

/// How the server is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "ok", "version": "0.1.0", "channels": 12, "subscriptions": 340}))]
pub(super) struct Health {
    /// `ok`, or `stuck` where a worker is.
    status: &'static str,
    /// Version of the server.
    version: &'static str,
    /// Channels now.
    channels: usize,
    /// Subscriptions now.
    subscriptions: usize,
    /// Workers that are stuck; absent where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    stuck: Vec<StuckWorker>,
}

/// A worker whose loop does not run, although there is something to do: its clients are not served.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"worker": 1, "since": 1764000000123_u64}))]
pub(super) struct StuckWorker {
    /// Its number; its thread is named `tidings-` and the number.
    worker: usize,
    /// When its loop ran last, in milliseconds since 1970.
    since: u64,
}

impl From<Stuck> for StuckWorker {
    fn from(stuck: Stuck) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = now.unwrap_or_default().saturating_sub(stuck.age);
        Self {
            worker: stuck.worker,
            since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Health
///
/// Says that the server works, and how much there is. Needs no key. It asks every worker for a sign of life, and waits up to 2 s for it.
#[utoipa::path(get, path = "/health", tag = "operation", security(()),
    responses(
        (status = 200, description = "Every worker works.", body = Health),
        (status = 503, description = "A worker is stuck.", body = Health, headers(("Retry-After" = String)),
            example = json!({"status": "stuck", "version": "0.1.0", "channels": 12, "subscriptions": 340,
                "stuck": [{"worker": 1, "since": 1764000000123_u64}]}))))]
pub(super) async fn health(State(api): State<Arc<Api>>) -> Response {
    let stuck = api.heartbeats.stuck().await;
    let stuck: Vec<StuckWorker> = stuck.into_iter().map(Into::into).collect();
    let stats = api.broker.stats();
    let works = stuck.is_empty();
    let health = Json(Health {
        status: if works { "ok" } else { "stuck" },
        version: env!("CARGO_PKG_VERSION"),
        channels: stats.channels,
        subscriptions: stats.subscriptions,
        stuck,
    });
    if works {
        return health.into_response();
    }
    let retry = [(header::RETRY_AFTER, RETRY_AFTER)];
    (StatusCode::SERVICE_UNAVAILABLE, retry, health).into_response()
}

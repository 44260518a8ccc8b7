//! `GET /v1/channels`: the channels that there are.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{document::ChannelsErrors, query::Asked, rejection::Rejection, routes::Api};
use crate::{broker::ChannelStats, wire::ChannelName};

/// What the query of a request looks like.
const SHAPE: &str = "?limit=NUMBER&after=CHANNEL, each if you like";
/// Channels in an answer where nothing is said, and at most.
const LIMIT: usize = 100;
const MOST: usize = 1000;

/// Channels by name.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"channels": [{"channel": "chat-room-7", "epoch": "8f3a0c5d11e2b746", "offset": 17, "subscribers": 3,
    "retained": {"publications": 17, "bytes": 1234}}], "next": null}))]
pub(super) struct ChannelPage {
    channels: Vec<ChannelInfo>,
    /// What to ask for `after` for the next page; null where there is none.
    #[schema(required = true)]
    next: Option<String>,
}

/// A channel.
#[derive(Serialize, ToSchema)]
pub(super) struct ChannelInfo {
    /// Its name.
    channel: String,
    /// Which log of the channel, as 16 hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    epoch: String,
    /// Its newest publication; 0 before the first. The difference of two looks is how many came in between, where the epoch is the same.
    offset: u64,
    /// Subscriptions, those of the server's own code too.
    subscribers: usize,
    retained: Retained,
}

/// What is kept of a channel.
#[derive(Serialize, ToSchema)]
pub(super) struct Retained {
    publications: usize,
    bytes: usize,
}

impl From<ChannelStats> for ChannelInfo {
    fn from(stats: ChannelStats) -> Self {
        Self {
            channel: stats.name.to_string(),
            epoch: stats.position.epoch.to_string(),
            offset: stats.position.offset,
            subscribers: stats.readers,
            retained: Retained {
                publications: stats.publications,
                bytes: stats.bytes,
            },
        }
    }
}

/// List the channels
///
/// The channels that the server has now, by name, a page at a time. Those that appear or go meanwhile may be on a page or not; every other
/// one is on exactly one.
#[utoipa::path(get, path = "/v1/channels", tag = "operation",
    params(
        ("after" = Option<String>, Query, description = "The page begins with the next name.", max_length = 255,
            pattern = r"^[A-Za-z0-9_.:/@+=~,|%-]+$", example = "chat-room-7"),
        ("limit" = Option<u64>, Query, description = "Most channels of the page: 100 where nothing is said, and 1000 at most.")),
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "A page, perhaps an empty one.", body = ChannelPage), ChannelsErrors))]
pub(super) async fn channels(
    State(api): State<Arc<Api>>,
    Asked(query): Asked,
) -> Result<Json<ChannelPage>, Rejection> {
    let [after, limit] = query.fields(["after", "limit"], SHAPE)?;
    let after = after.map(|after| ChannelName::parse(&after)).transpose();
    let after = after.map_err(Rejection::Channel)?;
    let limit = limit.map_or(Ok(LIMIT), |limit| limit.parse());
    let limit = limit.map_err(|_| no_number())?.min(MOST);
    let mut found = api.broker.channels(after.as_ref(), limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|stats| stats.name.to_string());
    Ok(Json(ChannelPage {
        next: last.filter(|_| more),
        channels: found.into_iter().map(Into::into).collect(),
    }))
}

pub(super) fn no_number() -> Rejection {
    Rejection::Query {
        reason: "`limit` is no number".to_owned(),
        shape: SHAPE,
    }
}

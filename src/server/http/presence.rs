//! `GET /v1/presence`: who is in a channel.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{document::PresenceErrors, query::Asked, rejection::Rejection, routes::Api};
use crate::wire::{self, Attendance, ChannelName};

/// What the query of a request looks like.
pub(super) const SHAPE: &str = "?channel=chat-room-7, and &limit=NUMBER if you like";

/// Who is in a channel.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"channel": "chat-room-7", "epoch": "8f3a0c5d11e2b746", "offset": 17, "connections": 2, "users": 1, "complete": true,
    "members": [{"id": "5d11e2b7468f3a0c", "user": "42"}, {"id": "e2b7468f3a0c5d11", "user": "42"}]}))]
pub(super) struct PresencePage {
    /// The channel.
    channel: String,
    /// Which log of the channel, as 16 hexadecimal digits; null where the server has no such channel now.
    #[schema(required = true, pattern = "^[0-9a-f]{16}$")]
    epoch: Option<String>,
    /// As of which publication in it; those that follow tell what changed since.
    #[schema(required = true)]
    offset: Option<u64>,
    /// Sessions that are subscribed.
    connections: u64,
    /// Different users of theirs.
    users: u64,
    /// Whether all sessions are listed.
    complete: bool,
    /// In no order.
    members: Vec<Member>,
}

/// Who came and went.
#[derive(Serialize, ToSchema)]
pub(super) struct PresenceChanges {
    /// Those who came.
    joined: Vec<Member>,
    /// Those who went.
    left: Vec<Member>,
    /// Sessions that are subscribed since.
    connections: u64,
    /// Different users of theirs.
    users: u64,
    /// Whether everybody who came or went is listed.
    complete: bool,
}

impl From<&wire::Presence> for PresenceChanges {
    fn from(change: &wire::Presence) -> Self {
        let members = |list: &[wire::Member]| list.iter().cloned().map(Into::into).collect();
        Self {
            joined: members(&change.joined),
            left: members(&change.left),
            connections: change.connections,
            users: change.users,
            complete: change.complete,
        }
    }
}

/// A session in a channel.
#[derive(Serialize, ToSchema)]
pub(super) struct Member {
    /// Its session, as in the server's log; in a channel whose rule hides publishers a number that holds there alone.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    id: String,
    /// Its user; null for an anonymous one, and where the rule hides publishers.
    #[schema(required = true)]
    user: Option<String>,
}

impl From<wire::Member> for Member {
    fn from(member: wire::Member) -> Self {
        Self {
            id: format!("{:016x}", member.id),
            user: member.user,
        }
    }
}

impl PresencePage {
    fn new(channel: &ChannelName, found: Attendance) -> Self {
        Self {
            channel: channel.to_string(),
            epoch: found.position.map(|position| position.epoch.to_string()),
            offset: found.position.map(|position| position.offset),
            connections: found.connections,
            users: found.users,
            complete: found.complete,
            members: found.members.into_iter().map(Into::into).collect(),
        }
    }
}

/// Read who is in a channel
///
/// Which sessions are subscribed to a channel, where its rule has presence: 256 are listed at most, all are counted. It makes no channel.
#[utoipa::path(get, path = "/v1/presence", tag = "publish",
    params(
        ("channel" = String, Query, description = "Whose.", min_length = 1, max_length = 255, pattern = r"^[A-Za-z0-9_.:/@+=~,|%-]+$",
            example = "chat-room-7"),
        ("limit" = Option<u64>, Query, description = "Most sessions that are listed. An answer has at most 256.")),
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "Who is there, perhaps nobody.", body = PresencePage), PresenceErrors))]
pub(super) async fn presence(
    State(api): State<Arc<Api>>,
    Asked(query): Asked,
) -> Result<Json<PresencePage>, Rejection> {
    let [channel, limit] = query.fields(["channel", "limit"], SHAPE)?;
    let channel = channel.ok_or_else(|| missing("channel"))?;
    let channel = ChannelName::parse(&channel).map_err(Rejection::Channel)?;
    let limit = limit.map_or(Ok(u64::MAX), |limit| limit.parse());
    let limit = limit.map_err(|_| Rejection::Query {
        reason: "`limit` is no number".to_owned(),
        shape: SHAPE,
    })?;
    let found = api.broker.presence(&channel, limit);
    let found = found.ok_or(Rejection::NoPresence)?;
    Ok(Json(PresencePage::new(&channel, found)))
}

pub(super) fn missing(field: &str) -> Rejection {
    Rejection::Query {
        reason: format!("there is no `{field}`"),
        shape: SHAPE,
    }
}

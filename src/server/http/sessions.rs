//! Orders for live sessions: list, subscribe, unsubscribe, disconnect, revoke.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    body::{Authorized, Shape},
    document::{ChannelErrors, RevokeErrors, SessionErrors},
    rejection::Rejection,
    routes::Api,
};
use crate::{
    session::{self, Session},
    wire::{ChannelName, Code, UserId},
};

/// Most sessions in one answer.
const PAGE: usize = 100;
/// How long a revocation is remembered where nothing is said.
const DAY: u64 = 86_400;

/// Which sessions: those of a user, or one.
struct Target<'a> {
    user: Option<&'a str>,
    session: Option<&'a str>,
}

impl Target<'_> {
    /// The sessions that are meant; `None` where none is named.
    fn find(&self, api: &Api, shape: &'static str) -> Result<Option<Vec<Session>>, Rejection> {
        match (self.user, self.session) {
            (Some(user), None) => Ok(Some(api.sessions.of_user(&parse_user(user)?))),
            (None, Some(id)) => Ok(Some(api.sessions.find(id).into_iter().collect())),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Rejection::Unfit {
                reason: "there are both `user` and `session`".to_owned(),
                shape,
            }),
        }
    }

    fn require(&self, api: &Api, shape: &'static str) -> Result<Vec<Session>, Rejection> {
        self.find(api, shape)?.ok_or_else(|| Rejection::Unfit {
            reason: "there is neither `user` nor `session`".to_owned(),
            shape,
        })
    }
}

fn parse_user(user: &str) -> Result<UserId, Rejection> {
    UserId::parse(user).map_err(Rejection::User)
}

/// Which sessions to list; all of them where neither `user` nor `session` is given.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user": "42"}))]
pub(super) struct ListSessions {
    /// Only those of this user.
    user: Option<String>,
    /// Only this one: `id` of an earlier answer.
    session: Option<String>,
    /// Of all sessions those that follow this `id`: an answer has at most 100, ask again with the last one's until there is none.
    after: Option<String>,
}

impl Shape for ListSessions {
    const SHAPE: &'static str =
        r#"{"user": "42"} or {"session": "..."}, or {} and "after": "..." if you like"#;
}

/// Live sessions.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"sessions": [{"id": "8f3a0c5d11e2b746", "user": "42", "client": "tidings-web/0.1", "transport": "webtransport",
    "address": "192.0.2.7:50123", "round_trip_us": 24000, "subscriptions": [{"name": "chat-room-7", "source": "channel",
    "epoch": "8f3a0c5d11e2b746", "offset": 17, "behind": 0, "waiting_bytes": 0, "lagged": 0, "skipped": 0}]}]}))]
pub(super) struct SessionPage {
    /// In the order of their ids.
    sessions: Vec<SessionInfo>,
}

/// A session.
#[derive(Serialize, ToSchema)]
struct SessionInfo {
    /// Its identity, as in the server's log.
    id: String,
    /// Whose it is; null for an anonymous one.
    #[schema(required = true)]
    user: Option<String>,
    /// What the client calls itself.
    client: String,
    /// `quic`, `webtransport` or `websocket`.
    transport: String,
    /// Where the client is now.
    address: String,
    /// The smoothed round trip, in microseconds.
    round_trip_us: u64,
    /// What it is subscribed to.
    subscriptions: Vec<SessionSubscription>,
}

/// A subscription of a session.
#[derive(Serialize, ToSchema)]
struct SessionSubscription {
    /// The channel, or the name that user code gave a stream.
    name: String,
    /// `channel`, or `endpoint` for a stream of user code.
    source: &'static str,
    /// Which log.
    epoch: String,
    /// Offset of the last publication that was read for it.
    offset: u64,
    /// How many publications stand behind that.
    behind: u64,
    /// Bytes that were read for it and not taken by its stream yet.
    waiting_bytes: u64,
    /// Publications that it was told are lost because it was too slow.
    lagged: u64,
    /// Publications that were left out for it by the channel's rule.
    skipped: u64,
}

impl From<&Session> for SessionInfo {
    fn from(session: &Session) -> Self {
        let round_trip = session.round_trip().as_micros();
        Self {
            id: session.id(),
            user: session.user().map(ToString::to_string),
            client: session.client().to_owned(),
            transport: session.transport().to_string(),
            address: session.remote_address().to_string(),
            round_trip_us: u64::try_from(round_trip).unwrap_or(u64::MAX),
            subscriptions: session.subscriptions().iter().map(Into::into).collect(),
        }
    }
}

impl From<&session::Progress> for SessionSubscription {
    fn from(progress: &session::Progress) -> Self {
        Self {
            name: progress.name.to_string(),
            source: if progress.of_channel {
                "channel"
            } else {
                "endpoint"
            },
            epoch: progress.position.epoch.to_string(),
            offset: progress.position.offset,
            behind: progress.behind,
            waiting_bytes: progress.waiting_bytes,
            lagged: progress.lagged,
            skipped: progress.skipped,
        }
    }
}

/// Sessions and a channel.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user": "42", "channel": "chat-room-7"}))]
pub(super) struct Membership {
    /// Every session of this user.
    user: Option<String>,
    /// Or this one.
    session: Option<String>,
    /// The channel.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[A-Za-z0-9_.:/@+=~,|%-]+$"
    )]
    channel: String,
}

impl Shape for Membership {
    const SHAPE: &'static str =
        r#"{"user": "42", "channel": "chat-room-7"}, or "session": "..." in place of "user""#;
}

/// Sessions to end.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user": "42", "reason": "signed out"}))]
pub(super) struct Disconnect {
    /// Every session of this user.
    user: Option<String>,
    /// Or this one.
    session: Option<String>,
    /// A code of your own: with 1000 to 1999 clients stay away, with 2000 to 2999 they come back after a pause. Without one it is `ended`,
    /// and they stay away.
    #[schema(minimum = 1000, maximum = 2999)]
    code: Option<u32>,
    /// Why, for people.
    #[serde(default)]
    reason: String,
}

impl Shape for Disconnect {
    const SHAPE: &'static str = r#"{"user": "42"}, or "session": "..." in place of "user", and "code": 1000 to 2999 and "reason": "..." if you like"#;
}

/// A user whose credentials are refused from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user": "42"}))]
pub(super) struct Revoke {
    /// Whose.
    user: String,
    /// How long tokens that were issued before now are refused: until the last of them expires by itself. Default: a day.
    seconds: Option<u64>,
}

impl Shape for Revoke {
    const SHAPE: &'static str = r#"{"user": "42"}, and "seconds": a number if you like"#;
}

/// What became of it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"sessions": 2, "changed": 2}))]
pub(super) struct SessionsChanged {
    /// Sessions that were meant.
    sessions: usize,
    /// Of those, the ones that it made a difference for.
    changed: usize,
}

impl SessionsChanged {
    fn of(sessions: &[Session], change: impl FnMut(&&Session) -> bool) -> Json<Self> {
        let changed = sessions.iter().filter(change).count();
        Json(Self {
            sessions: sessions.len(),
            changed,
        })
    }
}

/// A revocation.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"sessions": 2, "changed": 2, "issued_before": 1764000000123_u64, "expires": 1764086400123_u64}))]
pub(super) struct Revocation {
    /// Sessions of the user.
    sessions: usize,
    /// Sessions that it ended: all of them.
    changed: usize,
    /// The time of the revocation, in milliseconds since 1970: tokens that were issued before, or do not say when, are refused.
    issued_before: u64,
    /// When the revocation is forgotten, in milliseconds since 1970; null for never.
    #[schema(required = true)]
    expires: Option<u64>,
}

impl From<session::Revocation> for Revocation {
    fn from(revocation: session::Revocation) -> Self {
        let milliseconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).ok()
        };
        Self {
            sessions: revocation.sessions,
            changed: revocation.sessions,
            issued_before: milliseconds(revocation.issued_before).unwrap_or_default(),
            // What has no room there is never.
            expires: revocation.expires.and_then(milliseconds),
        }
    }
}

/// List sessions
///
/// Says who is connected, to what, and how far behind.
#[utoipa::path(post, path = "/v1/sessions", operation_id = "list_sessions", request_body = ListSessions, tag = "sessions",
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "The sessions that there are now.", body = SessionPage), SessionErrors<ListSessions>))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Authorized(request): Authorized<ListSessions>,
) -> Result<Json<SessionPage>, Rejection> {
    let target = Target {
        user: request.user.as_deref(),
        session: request.session.as_deref(),
    };
    let found = match target.find(&api, ListSessions::SHAPE)? {
        Some(found) => found,
        None => {
            let page = api.sessions.page(request.after.as_deref(), PAGE);
            page.ok_or_else(|| Rejection::Unfit {
                reason: "`after` is no id of a session: 16 hexadecimal digits".to_owned(),
                shape: ListSessions::SHAPE,
            })?
        }
    };
    let sessions = found.iter().map(SessionInfo::from).collect();
    Ok(Json(SessionPage { sessions }))
}

/// Subscribe sessions
///
/// Subscribes live sessions to a channel, whatever their tokens and the rules say.
#[utoipa::path(post, path = "/v1/subscribe", request_body = Membership, tag = "sessions",
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "Those that there are now are subscribed.", body = SessionsChanged), ChannelErrors<Membership>))]
pub(super) async fn subscribe(
    State(api): State<Arc<Api>>,
    Authorized(request): Authorized<Membership>,
) -> Result<Json<SessionsChanged>, Rejection> {
    let (sessions, channel) = request.read(&api)?;
    Ok(SessionsChanged::of(&sessions, |session| {
        let subscribed = session.subscribe(&channel);
        if let Err(error) = &subscribed {
            tracing::debug!(session = %session.id(), %channel, %error, "not subscribed");
        }
        subscribed.is_ok()
    }))
}

/// Unsubscribe sessions
///
/// Ends the subscriptions of live sessions to a channel. They may subscribe again where their tokens or the rules let them.
#[utoipa::path(post, path = "/v1/unsubscribe", request_body = Membership, tag = "sessions",
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "None of them is subscribed now.", body = SessionsChanged), ChannelErrors<Membership>))]
pub(super) async fn unsubscribe(
    State(api): State<Arc<Api>>,
    Authorized(request): Authorized<Membership>,
) -> Result<Json<SessionsChanged>, Rejection> {
    let (sessions, channel) = request.read(&api)?;
    Ok(SessionsChanged::of(&sessions, |session| {
        session.unsubscribe(&channel)
    }))
}

impl Membership {
    fn read(&self, api: &Api) -> Result<(Vec<Session>, ChannelName), Rejection> {
        let channel = ChannelName::parse(&self.channel).map_err(Rejection::Channel)?;
        let target = Target {
            user: self.user.as_deref(),
            session: self.session.as_deref(),
        };
        Ok((target.require(api, Self::SHAPE)?, channel))
    }
}

/// Disconnect sessions
///
/// Ends live sessions with a code. Their tokens stay good: see `/v1/revoke`.
#[utoipa::path(post, path = "/v1/disconnect", request_body = Disconnect, tag = "sessions",
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "They are told, and end.", body = SessionsChanged), SessionErrors<Disconnect>))]
pub(super) async fn disconnect(
    State(api): State<Arc<Api>>,
    Authorized(request): Authorized<Disconnect>,
) -> Result<Json<SessionsChanged>, Rejection> {
    let code = match request.code {
        None => Code::ENDED,
        Some(code @ 1000..=2999) => Code(code),
        Some(code) => {
            return Err(Rejection::Unfit {
                reason: format!("`code` is {code}, which is none of 1000 to 2999"),
                shape: Disconnect::SHAPE,
            });
        }
    };
    let target = Target {
        user: request.user.as_deref(),
        session: request.session.as_deref(),
    };
    let sessions = target.require(&api, Disconnect::SHAPE)?;
    Ok(SessionsChanged::of(&sessions, |session| {
        session.close(code, &request.reason);
        true
    }))
}

/// Revoke credentials
///
/// Ends every session of a user with `revoked`, and refuses the user's tokens that were issued before now (`iat`), or do not say when. A token
/// that is issued afterwards is accepted at once. Of tokens whose `iat` is in whole seconds and that of the revocation's second, those are
/// refused that a session had which was ended.
#[utoipa::path(post, path = "/v1/revoke", request_body = Revoke, tag = "sessions",
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "They are told, and end.", body = Revocation), RevokeErrors))]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Authorized(request): Authorized<Revoke>,
) -> Result<Json<Revocation>, Rejection> {
    let user = parse_user(&request.user)?;
    let keep = Duration::from_secs(request.seconds.unwrap_or(DAY));
    let revocation = api.sessions.revoke(&user, keep);
    let revocation = revocation.map_err(Rejection::Revocations)?;
    Ok(Json(revocation.into()))
}

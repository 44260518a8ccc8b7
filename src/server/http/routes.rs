//! What there is to ask for, and what watches over every request.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::FutureExt;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Config, Served,
    body::{Authorized, Shape, discard},
    channels::channels,
    document::{self, AnnounceErrors, NotifyErrors, PublishErrors},
    health::health,
    history::history,
    key::ApiKey,
    presence::presence,
    rejection::Rejection,
    sessions,
};
use crate::server::{heartbeat::Heartbeats, host};
use crate::{
    auth::Rules,
    broker::{self, Broker, Publisher, Terms},
    session::Sessions,
    transport::peer_log::{Throttle, throttled},
    wire::{ChannelName, Message, UserId, message},
};

/// What every request shares.
pub(super) struct Api {
    pub(super) key: ApiKey,
    pub(super) body_limit: usize,
    pub(super) broker: Broker,
    pub(super) sessions: Sessions,
    pub(super) heartbeats: Heartbeats,
    rules: Rules,
    document: Bytes,
}

/// Content type of `base64` where none is given.
const BYTES: &str = "application/octet-stream";

/// The API, and `pages` beside it.
pub(super) fn router(served: Served, key: ApiKey, config: &Config, pages: Router) -> Router {
    let Served {
        broker,
        sessions: live,
        rules,
        heartbeats,
    } = served;
    let api = Api {
        key,
        body_limit: config.body_limit,
        broker,
        sessions: live,
        heartbeats,
        rules,
        document: document::render().into(),
    };
    Router::new()
        .route("/v1/notify", post(notify))
        .route("/v1/announce", post(announce))
        .route("/v1/publish", post(publish))
        .route("/v1/history", post(history))
        .route("/v1/presence", get(presence))
        .route("/v1/channels", get(channels))
        .route("/v1/sessions", post(sessions::list))
        .route("/v1/subscribe", post(sessions::subscribe))
        .route("/v1/unsubscribe", post(sessions::unsubscribe))
        .route("/v1/disconnect", post(sessions::disconnect))
        .route("/v1/revoke", post(sessions::revoke))
        .route("/health", get(health))
        .route("/openapi.json", get(openapi))
        .with_state(Arc::new(api))
        .merge(pages)
        .fallback(not_found)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(config.request, watch))
}

/// A notification for one user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user": "42", "text": "Your order is on its way"}))]
pub(super) struct Notify {
    /// Who gets it: a user's identity as in the `sub` of the user's token.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[A-Za-z0-9_.:/@+=~,|%-]+$"
    )]
    user: String,
    /// What it says.
    text: String,
    /// A key of your own with which you may try again: the notification is stored once within five minutes, or the channel's next 16,383
    /// messages with keys. The same key with another text is refused.
    #[schema(min_length = 1, max_length = 128, example = "order-17-shipped")]
    key: Option<String>,
}

impl Shape for Notify {
    const SHAPE: &'static str = r#"{"user": "42", "text": "..."}, and "key": "..." if you like"#;
}

/// An announcement for everybody.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Maintenance at 22:00"}))]
pub(super) struct Announce {
    /// What it says.
    text: String,
    /// A key of your own with which you may try again: the announcement is stored once within five minutes, or the channel's next 16,383
    /// messages with keys. The same key with another text is refused.
    #[schema(min_length = 1, max_length = 128, example = "maintenance-2026-11-28")]
    key: Option<String>,
}

impl Shape for Announce {
    const SHAPE: &'static str = r#"{"text": "..."}, and "key": "..." if you like"#;
}

/// A message for a channel. Exactly one of `text`, `json` and `base64` carries it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"channel": "chat-room-7", "text": "hello"}))]
pub(super) struct Publish {
    /// Where it goes.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[A-Za-z0-9_.:/@+=~,|%-]+$"
    )]
    channel: String,
    /// The message as text. Its content type is `text/plain; charset=utf-8`.
    text: Option<String>,
    /// The message as any JSON value, `null` too; subscribers get it character by character as it stands here. Its content
    /// type is `application/json`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Value>)]
    json: Option<Box<RawValue>>,
    /// The message as bytes, in the standard alphabet with padding. Its content type is `application/octet-stream`.
    #[schema(content_encoding = "base64")]
    base64: Option<String>,
    /// Another content type than the default one. The server does not read it.
    #[schema(example = "text/markdown")]
    content_type: Option<String>,
    /// The user who published it: subscribers are shown this user as the publisher, unless the channel's rule hides publishers, and the
    /// key is then one of the user's own. Without it the publisher is the server. No rule is asked.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[A-Za-z0-9_.:/@+=~,|%-]+$",
        example = "42"
    )]
    user: Option<String>,
    /// A key of your own with which you may try again: the message is stored once within five minutes, or the channel's next 16,383
    /// messages with keys. The same key with another message is refused.
    #[schema(min_length = 1, max_length = 128, example = "order-17")]
    key: Option<String>,
    /// Which of the channel's states the message is: where its rule says `on_lag = "latest_per_key"`, a subscriber that lags gets the newest
    /// message with each.
    #[schema(min_length = 1, max_length = 128, example = "player-17")]
    conflation_key: Option<String>,
    /// A session that is not sent the message, by its id: the one that caused it and knows.
    #[schema(
        min_length = 16,
        max_length = 16,
        pattern = "^[0-9a-f]{16}$",
        example = "7d1e6ee08f3a0c5d"
    )]
    exclude_session: Option<String>,
}

impl Shape for Publish {
    const SHAPE: &'static str = r#"{"channel": "chat-room-7", "text": "..."}, or "json": any value or "base64": "..." in place of "text", and "content_type", "user", "key", "conflation_key" and "exclude_session" if you like"#;
}

/// A field that is there counts, also when it is `null`.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

impl Publish {
    fn message(self) -> Result<Message, Rejection> {
        let (default, bytes): (_, Bytes) = match (self.text, self.json, self.base64) {
            (Some(text), None, None) => (message::TEXT, text.into()),
            (None, Some(json), None) => {
                (message::JSON, Box::<str>::from(json).into_string().into())
            }
            (None, None, Some(text)) => (BYTES, decode(&text)?.into()),
            (None, None, None) => {
                return Err(Self::unfit("there is none of `text`, `json` and `base64`"));
            }
            _ => {
                return Err(Self::unfit(
                    "there is more than one of `text`, `json` and `base64`",
                ));
            }
        };
        let content_type = self.content_type.unwrap_or_else(|| default.to_owned());
        Ok(Message::data(content_type, bytes))
    }

    fn unfit(reason: &str) -> Rejection {
        Rejection::Unfit {
            reason: reason.to_owned(),
            shape: Self::SHAPE,
        }
    }
}

pub(super) fn decode(text: &str) -> Result<Vec<u8>, Rejection> {
    BASE64_STANDARD
        .decode(text)
        .map_err(|error| Rejection::Base64 {
            reason: error.to_string().trim_end_matches('.').to_owned(),
        })
}

/// Where the message stands.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"channel": "user-42", "epoch": "8f3a0c5d11e2b746", "offset": 17}))]
pub(super) struct Published {
    /// The channel.
    channel: String,
    /// Which log of the channel, as 16 hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    epoch: String,
    /// The number in that log: 1, 2, 3 and so on.
    #[schema(minimum = 1)]
    offset: u64,
    /// Whether it stood there already; absent where no key was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    duplicate: Option<bool>,
}

impl Published {
    fn new(channel: &ChannelName, published: broker::Published, key: Option<&str>) -> Json<Self> {
        Json(Self {
            channel: channel.to_string(),
            epoch: published.position.epoch.to_string(),
            offset: published.position.offset,
            duplicate: key.map(|_| published.duplicate),
        })
    }
}

/// Notify a user
///
/// Posts a notification to `user-{user}`: every connected device of the user gets it.
#[utoipa::path(post, path = "/v1/notify", request_body = Notify, tag = "publish",
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "It stands in the channel's log.", body = Published), NotifyErrors))]
pub(super) async fn notify(
    State(api): State<Arc<Api>>,
    Authorized(request): Authorized<Notify>,
) -> Result<Json<Published>, Rejection> {
    let user = UserId::parse(&request.user).map_err(Rejection::User)?;
    let key = request.key.as_deref();
    let published = api.broker.notify_with(&user, request.text, keyed(key));
    let published = published.map_err(Rejection::Publish)?;
    let channel = ChannelName::of_user(&user);
    Ok(Published::new(&channel, published, key))
}

/// Announce to everybody
///
/// Posts an announcement to `global`: every connected device gets it.
#[utoipa::path(post, path = "/v1/announce", request_body = Announce, tag = "publish",
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "It stands in the channel's log.", body = Published), AnnounceErrors))]
pub(super) async fn announce(
    State(api): State<Arc<Api>>,
    Authorized(request): Authorized<Announce>,
) -> Result<Json<Published>, Rejection> {
    let key = request.key.as_deref();
    let published = api.broker.announce_with(request.text, keyed(key));
    let published = published.map_err(Rejection::Publish)?;
    Ok(Published::new(&ChannelName::global(), published, key))
}

/// Publish to a channel
///
/// Posts text, JSON or bytes to a channel: every subscriber gets it.
#[utoipa::path(post, path = "/v1/publish", tag = "publish",
    request_body(content = Publish, examples(
        ("text" = (value = json!({"channel": "chat-room-7", "text": "hello"}))),
        ("json" = (value = json!({"channel": "chat-room-7", "json": {"from": "ann", "likes": 3}}))),
        ("base64" = (value = json!({"channel": "camera-1", "base64": "iVBORw0KGgo=", "content_type": "image/png"}))))),
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "It stands in the channel's log.", body = Published,
        example = json!({"channel": "chat-room-7", "epoch": "8f3a0c5d11e2b746", "offset": 17})), PublishErrors))]
pub(super) async fn publish(
    State(api): State<Arc<Api>>,
    Authorized(mut request): Authorized<Publish>,
) -> Result<Json<Published>, Rejection> {
    let channel = ChannelName::parse(&request.channel).map_err(Rejection::Channel)?;
    let user = request.user.take().map(|user| UserId::parse(&user));
    let user = user.transpose().map_err(Rejection::User)?;
    let (key, conflation_key) = (request.key.take(), request.conflation_key.take());
    let exclude = request.exclude_session.take();
    let mut terms = keyed(key.as_deref());
    terms.conflation_key = conflation_key.as_deref();
    terms.exclude = exclude.map(|text| session_id(&text)).transpose()?;
    let message = request.message()?;
    let shown = user
        .as_ref()
        .filter(|_| !api.rules.hides_publisher(&channel));
    let publisher = Publisher {
        shown,
        user: user.as_ref(),
        session: None,
        tenancy: None,
    };
    let published = api.broker.publish_as(&channel, publisher, &message, terms);
    let published = published.map_err(Rejection::Publish)?;
    Ok(Published::new(&channel, published, key.as_deref()))
}

fn keyed(key: Option<&str>) -> Terms<'_> {
    let mut terms = Terms::new();
    terms.key = key;
    terms
}

fn session_id(text: &str) -> Result<u64, Rejection> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    id.ok_or_else(|| {
        Publish::unfit("`exclude_session` is no id of a session: 16 hexadecimal digits")
    })
}

/// This document
///
/// The OpenAPI document of the API. Needs no key.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", security(()),
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Object)))]
pub(super) async fn openapi(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, message::JSON)];
    (json, api.document.clone())
}

/// Methods of `OPTIONS *`, which asks about the server and not about a path.
const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,POST,OPTIONS");

async fn not_found(request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    discard(request).await;
    if method == Method::OPTIONS && path == "*" {
        return (StatusCode::NO_CONTENT, [(header::ALLOW, METHODS)]).into_response();
    }
    Rejection::NotFound { path }.into_response()
}

/// The answer to another method than those of a path, to which `Allow` is added: 204 for `OPTIONS`, which asks for that.
async fn other_method(request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    discard(request).await;
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Rejection::Method { method, path }.into_response()
}

/// Limit of the log lines about requests without a valid key.
static REFUSED: Throttle = Throttle::new("refused HTTP requests");

/// Bounds a request in time, catches its panic, and logs it.
async fn watch(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    if let Err(reason) = host::check(request.version(), request.headers()) {
        tracing::debug!(%method, route, reason, "a bad request");
        return Rejection::Host(reason).into_response();
    }
    let answer = AssertUnwindSafe(tokio::time::timeout(limit, next.run(request)));
    let response = match answer.catch_unwind().await {
        Ok(Ok(response)) => response,
        // Publishing is no `await`: a request that is cut off here was still being read.
        Ok(Err(_)) => Rejection::Timeout(limit).into_response(),
        Err(_) => {
            tracing::error!(%method, route, "a request panicked");
            Rejection::Panicked.into_response()
        }
    };
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        throttled!(REFUSED, info, %method, route, "request refused: no valid API key");
    }
    tracing::debug!(%method, route, status = status.as_u16(), "answered");
    response
}

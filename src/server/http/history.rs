//! `POST /v1/history`: what is kept of a channel.

use std::sync::Arc;

use axum::{Json, extract::State};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    body::{Authorized, Shape},
    document::HistoryErrors,
    presence::PresenceChanges,
    rejection::Rejection,
    routes::Api,
};
use crate::wire::{self, ChannelName, HistoryQuery, Message, Position, Publication};

/// Which part of what is kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"channel": "chat-room-7", "limit": 10, "reverse": true}))]
pub(super) struct History {
    /// Whose.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[A-Za-z0-9_.:/@+=~,|%-]+$"
    )]
    channel: String,
    /// Only what follows this position, or stands before it where `reverse` is true: `epoch`, a colon and `offset`.
    #[schema(example = "8f3a0c5d11e2b746:17", pattern = "^[0-9a-f]{16}:[0-9]+$")]
    from: Option<String>,
    /// Most publications. An answer has at most 256, and 256 KiB.
    limit: Option<u64>,
    /// Newest first.
    #[serde(default)]
    reverse: bool,
}

impl Shape for History {
    const SHAPE: &'static str = r#"{"channel": "chat-room-7"}, and "from": "EPOCH:OFFSET", "limit": a number and "reverse": true if you like"#;
}

impl History {
    fn query(&self) -> Result<HistoryQuery, Rejection> {
        let from = self.from.as_deref().map(position).transpose()?;
        Ok(HistoryQuery {
            from,
            limit: self.limit.unwrap_or(u64::MAX),
            reverse: self.reverse,
        })
    }
}

pub(super) fn position(text: &str) -> Result<Position, Rejection> {
    text.parse()
        .map_err(|error: wire::position::InvalidPosition| Rejection::Unfit {
            reason: format!("`from` is {text:?}, but {error}"),
            shape: History::SHAPE,
        })
}

/// A part of what is kept of a channel.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"channel": "chat-room-7", "epoch": "8f3a0c5d11e2b746", "first": 1, "last": 17, "complete": true,
    "publications": [{"offset": 17, "timestamp": 1764000000000_u64, "user": "42", "kind": "data",
        "content_type": "text/plain; charset=utf-8", "text": "hello"}]}))]
pub(super) struct HistoryPage {
    /// The channel.
    channel: String,
    /// Which log of the channel, as 16 hexadecimal digits; null where the server has no such channel now.
    #[schema(required = true, pattern = "^[0-9a-f]{16}$")]
    epoch: Option<String>,
    /// Offset of the oldest publication that is kept; `last` and 1 where there is none, null without a log.
    #[schema(required = true)]
    first: Option<u64>,
    /// Offset of the newest publication; 0 before the first, null without a log.
    #[schema(required = true)]
    last: Option<u64>,
    /// Whether nothing is missing between `from` and the publications; where something is, there are none.
    complete: bool,
    /// In the order that was asked for. The next page is asked for from the position of the last of them.
    publications: Vec<HistoryEntry>,
}

/// A publication.
#[derive(Serialize, ToSchema)]
struct HistoryEntry {
    /// Its number in the log.
    offset: u64,
    /// When the server accepted it, in milliseconds since 1970.
    timestamp: u64,
    /// The user who published it; null where that was the server or this API.
    #[schema(required = true)]
    user: Option<String>,
    /// `notification`, `announcement`, `data` or `presence`.
    kind: &'static str,
    /// The message, where it is text: a notification, an announcement, or data whose content type is text or JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The content type of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// The bytes of data that is no text, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(content_encoding = "base64")]
    data: Option<String>,
    /// Who came and went.
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<PresenceChanges>,
}

impl From<Publication> for HistoryEntry {
    fn from(publication: Publication) -> Self {
        let kind = publication.message.kind();
        let text = publication.message.as_text().map(str::to_owned);
        let presence = match &publication.message {
            Message::Presence(change) => Some(change.into()),
            _ => None,
        };
        let (content_type, data) = match publication.message {
            Message::Data(data) => {
                let bytes = text.is_none().then(|| BASE64_STANDARD.encode(&data.bytes));
                (Some(data.content_type), bytes)
            }
            _ => (None, None),
        };
        Self {
            offset: publication.offset,
            timestamp: publication.time,
            user: publication.publisher,
            kind,
            text,
            content_type,
            data,
            presence,
        }
    }
}

/// Read the history of a channel
///
/// What the server keeps of a channel, a page at a time. It makes no channel.
#[utoipa::path(post, path = "/v1/history", request_body = History, tag = "publish",
    security(("bearer" = []), ("x-api-key" = [])),
    responses((status = 200, description = "A page, which may be empty.", body = HistoryPage), HistoryErrors))]
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    Authorized(request): Authorized<History>,
) -> Result<Json<HistoryPage>, Rejection> {
    let channel = ChannelName::parse(&request.channel).map_err(Rejection::Channel)?;
    let found = api.broker.history(&channel, &request.query()?);
    Ok(Json(HistoryPage {
        channel: request.channel,
        epoch: found.kept.map(|kept| kept.epoch.to_string()),
        first: found.kept.map(|kept| kept.first),
        last: found.kept.map(|kept| kept.last),
        complete: found.complete,
        publications: found
            .publications
            .into_iter()
            .map(HistoryEntry::from)
            .collect(),
    }))
}

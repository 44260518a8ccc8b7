//! Every answer that is no success: its status, its code, and words that say what to do.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    broker::PublishError,
    session::TooManyRevocations,
    wire::{Code, InvalidChannel},
};

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("there is no API key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")]
    NoKey,
    #[error("the API key is not this server's: check what `Authorization` or `X-API-Key` carries")]
    WrongKey,
    #[error("the body comes as {found}: send JSON with `Content-Type: application/json`")]
    ContentType { found: String },
    #[error("the body's charset is {found}: send it in UTF-8")]
    Charset { found: String },
    #[error(
        "the body comes with `Content-Encoding: {found}`: send it uncompressed, without that header"
    )]
    Encoding { found: String },
    #[error(
        "the body comes with `Transfer-Encoding: {found}`: of transfer codings only `chunked` is supported"
    )]
    TransferCoding { found: String },
    #[error("{0}")]
    Host(&'static str),
    #[error("the body ended early or is badly framed: send it whole")]
    Incomplete,
    #[error("the body has more than {limit} bytes: send less, or raise the server's limit")]
    BodyTooLarge { limit: usize },
    #[error("the body is not JSON: {reason}; send {shape}")]
    NotJson { reason: String, shape: &'static str },
    #[error("the body does not fit: {reason}; send {shape}")]
    Unfit { reason: String, shape: &'static str },
    #[error("the query does not fit: {reason}; send {shape}")]
    Query { reason: String, shape: &'static str },
    #[error(
        "the channel's rule has no presence: who is in it is not known; give its rule `presence = true`"
    )]
    NoPresence,
    #[error("`channel` is not a channel's name: {0}")]
    Channel(InvalidChannel),
    #[error("`user` is not a user's identity: {0}")]
    User(InvalidChannel),
    #[error(
        "`base64` does not decode: {reason}; send the standard alphabet (+ and /) with padding"
    )]
    Base64 { reason: String },
    #[error("nothing was published: {0}")]
    Publish(PublishError),
    #[error("nothing was revoked: {0}")]
    Revocations(TooManyRevocations),
    #[error("there is no {path} here: /openapi.json lists what there is")]
    NotFound { path: String },
    #[error("{path} does not take {method}: the header `Allow` lists what it takes")]
    Method { method: Method, path: String },
    #[error("the request was not complete within {0:?}, and nothing was published: send it faster")]
    Timeout(Duration),
    #[error("the server failed on this request: its log says why")]
    Panicked,
}

/// What every error looks like.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

/// Which error, and what to do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorDetail {
    /// Its name, for a program to decide by.
    #[schema(example = "invalid_channel")]
    code: &'static str,
    /// Its number in section 7 of the protocol's specification; absent where it is an error of HTTP alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 110, nullable = false)]
    number: Option<u32>,
    /// What is wrong, where, and what to do, for a person to read. It may change.
    message: String,
}

/// Seconds that `Retry-After` asks for: a restart takes about that, and so does a sweep that frees channels.
pub(super) const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

impl Rejection {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::ContentType { .. } | Self::Charset { .. } | Self::Encoding { .. } => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::TransferCoding { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Host(_)
            | Self::Incomplete
            | Self::NotJson { .. }
            | Self::Unfit { .. }
            | Self::Query { .. } => StatusCode::BAD_REQUEST,
            Self::Channel(_)
            | Self::User(_)
            | Self::Base64 { .. }
            | Self::Publish(PublishError::InvalidKey { .. } | PublishError::Reserved(_)) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Publish(PublishError::KeyReused) => StatusCode::CONFLICT,
            Self::BodyTooLarge { .. } | Self::Publish(PublishError::TooLarge { .. }) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Publish(
                PublishError::TooManyChannels { .. }
                | PublishError::ChannelQuota { .. }
                | PublishError::MemoryQuota { .. }
                | PublishError::Overloaded
                | PublishError::Closed,
            )
            | Self::Revocations(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound { .. } | Self::NoPresence => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Publish(PublishError::Ended) | Self::Panicked => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// Its code in PROTOCOL §7, or a name that only HTTP knows.
    fn code(&self) -> Result<Code, &'static str> {
        Ok(match self {
            Self::NoKey => Code::UNAUTHENTICATED,
            Self::WrongKey => Code::INVALID_TOKEN,
            Self::BodyTooLarge { .. } => Code::MESSAGE_TOO_LARGE,
            Self::Channel(_) => Code::INVALID_CHANNEL,
            Self::Publish(error) => error.code(),
            Self::Panicked => Code::INTERNAL,
            Self::Revocations(_) => Code::OVERLOADED,
            Self::ContentType { .. } => return Err("unsupported_content_type"),
            Self::Charset { .. } => return Err("unsupported_charset"),
            Self::Encoding { .. } => return Err("unsupported_content_encoding"),
            Self::TransferCoding { .. } => return Err("unsupported_transfer_coding"),
            Self::Host(_) => return Err("invalid_host"),
            Self::Incomplete => return Err("incomplete_body"),
            Self::NotJson { .. } => return Err("invalid_json"),
            Self::Unfit { .. } | Self::Query { .. } => return Err("invalid_request"),
            Self::NoPresence => return Err("no_presence"),
            Self::User(_) => return Err("invalid_user"),
            Self::Base64 { .. } => return Err("invalid_base64"),
            Self::NotFound { .. } => return Err("not_found"),
            Self::Method { .. } => return Err("method_not_allowed"),
            Self::Timeout(_) => return Err("request_timeout"),
        })
    }

    /// `code` in the body.
    pub(super) fn name(&self) -> &'static str {
        self.code()
            .map_or_else(|name| name, |code| code.name().unwrap_or("unknown"))
    }

    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.name(),
                number: self.code().ok().map(|code| code.0),
                message: self.to_string(),
            },
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(self.body())).into_response();
        // RFC 6750 §3: without a key no error is named.
        let challenge = match self {
            Self::NoKey => Some(r#"Bearer realm="tidings""#),
            Self::WrongKey => Some(r#"Bearer realm="tidings", error="invalid_token""#),
            _ => None,
        };
        let headers = response.headers_mut();
        if let Some(challenge) = challenge {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        // RFC 9110 §15.5.16: what would have been accepted.
        if matches!(self, Self::Encoding { .. }) {
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
        }
        // RFC 9110 §15.5.9: the rest of the request is not waited for. Where a request says two things, what follows it may be read
        // as another by a proxy in front.
        if matches!(
            self,
            Self::Timeout(_) | Self::Host(_) | Self::TransferCoding { .. }
        ) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

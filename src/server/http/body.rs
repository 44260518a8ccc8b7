//! From the bytes of a request to what a handler takes.

use std::{error::Error, sync::Arc};

use axum::{
    Json,
    body::{BodyDataStream, Bytes, HttpBody},
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::{HeaderMap, header},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::{rejection::Rejection, routes::Api};

/// The JSON body of a request that carries the key. A handler has no other way to its body, so none forgets the key.
pub(super) struct Authorized<T>(pub(super) T);

/// What a body should look like, for who sent another.
pub(super) trait Shape: DeserializeOwned {
    const SHAPE: &'static str;
}

/// Bytes of a refused body that are read all the same: a peer that is still writing when the connection closes loses the
/// answer to the reset. Who has more to say should send `Expect: 100-continue`.
const DISCARD: usize = 1024 * 1024;

impl<T: Shape> FromRequest<Arc<Api>> for Authorized<T> {
    type Rejection = Rejection;

    /// The order keeps strangers cheap: nothing is buffered before the key was right.
    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Rejection> {
        let headers = request.headers();
        if let Err(rejection) = api.key.check(headers).and_then(|()| content_type(headers)) {
            discard(request).await;
            return Err(rejection);
        }
        let bytes = read(request, api.body_limit).await?;
        parse(&bytes).map(Self)
    }
}

fn content_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let value = headers.get(header::CONTENT_TYPE).map(|v| v.as_bytes());
    let essence = value
        .and_then(|value| value.split(|byte| *byte == b';').next())
        .map(<[u8]>::trim_ascii);
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case(b"application/json") => Ok(()),
        Some(essence) => Err(Rejection::ContentType {
            found: format!("{:?}", String::from_utf8_lossy(essence)),
        }),
        None => Err(Rejection::ContentType {
            found: "nothing in particular".to_owned(),
        }),
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Rejection> {
    let announced = request.body().size_hint().lower();
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        discard(request).await;
        return Err(Rejection::BodyTooLarge { limit });
    }
    let mut bytes = Vec::new();
    let mut chunks = request.into_body().into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Rejection::Incomplete)?;
        if chunk.len() > limit - bytes.len() {
            drain(chunks).await;
            return Err(Rejection::BodyTooLarge { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}

/// Reads what a refused peer is about to send anyway.
pub(super) async fn discard(request: Request) {
    // RFC 9110 §10.1.1: it waits for our word, and the answer is that.
    if !request.headers().contains_key(header::EXPECT) {
        drain(request.into_body().into_data_stream()).await;
    }
}

async fn drain(mut chunks: BodyDataStream) {
    let mut left = DISCARD;
    while let Some(Ok(chunk)) = chunks.next().await {
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            return;
        }
    }
}

pub(super) fn parse<T: Shape>(bytes: &[u8]) -> Result<T, Rejection> {
    let shape = T::SHAPE;
    // serde would take an array of the fields' values, which nobody was promised.
    if bytes.trim_ascii_start().starts_with(b"[") {
        let reason = "it is an array".to_owned();
        return Err(Rejection::Unfit { reason, shape });
    }
    Json::from_bytes(bytes)
        .map(|Json(value)| value)
        .map_err(|rejection| {
            // Its source names the field, the line and the column.
            let reason = rejection
                .source()
                .map_or_else(|| rejection.body_text(), ToString::to_string);
            match rejection {
                JsonRejection::JsonDataError(_) => Rejection::Unfit { reason, shape },
                _ => Rejection::NotJson { reason, shape },
            }
        })
}

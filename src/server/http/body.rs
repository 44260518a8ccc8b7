//! From the bytes of a request to what a handler takes.

use std::{error::Error, sync::Arc};

use axum::{
    Json,
    body::{BodyDataStream, Bytes, HttpBody},
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::{HeaderMap, HeaderName, header},
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
        let checked = api.key.check(headers);
        let checked = checked.and_then(|()| codings(headers));
        if let Err(rejection) = checked.and_then(|()| content_type(headers)) {
            discard(request).await;
            return Err(rejection);
        }
        let bytes = read(request, api.body_limit).await?;
        parse(&bytes).map(Self)
    }
}

/// Refuses a body that is compressed.
fn codings(headers: &HeaderMap) -> Result<(), Rejection> {
    if let Some(found) = other_than("identity", headers, &header::CONTENT_ENCODING) {
        return Err(Rejection::Encoding { found });
    }
    match other_than("chunked", headers, &header::TRANSFER_ENCODING) {
        Some(found) => Err(Rejection::TransferCoding { found }),
        None => Ok(()),
    }
}

/// The values of a header that lists names, where one of them is not `known`.
fn other_than(known: &str, headers: &HeaderMap, header: &HeaderName) -> Option<String> {
    let values = headers.get_all(header).iter();
    let values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let mut names = values.iter().flat_map(|value| value.split(','));
    names
        .any(|name| !["", known].contains(&name.trim().to_ascii_lowercase().as_str()))
        .then(|| shortened(&values.join(", ")))
}

/// What a peer sent, as much of it as an error repeats.
fn shortened(text: &str) -> String {
    const MOST: usize = 64;
    text.escape_debug().take(MOST).collect()
}

fn content_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let refuse = |found| Err(Rejection::ContentType { found });
    let value = match (values.next(), values.next()) {
        (Some(value), None) => String::from_utf8_lossy(value.as_bytes()),
        (Some(_), Some(_)) => return refuse("several types".to_owned()),
        (None, _) => return refuse("nothing in particular".to_owned()),
    };
    let (essence, parameters) = value.split_once(';').unwrap_or((&value, ""));
    let essence = essence.trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return refuse(format!("\"{}\"", shortened(essence)));
    }
    for parameter in parameters.split(';') {
        let (name, charset) = parameter.split_once('=').unwrap_or((parameter, ""));
        let charset = charset.trim().trim_matches('"');
        let known = ["utf-8", "utf8", "us-ascii"].contains(&charset.to_ascii_lowercase().as_str());
        if name.trim().eq_ignore_ascii_case("charset") && !known {
            let found = format!("\"{}\"", shortened(charset));
            return Err(Rejection::Charset { found });
        }
    }
    Ok(())
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

/// Why bytes are no text in UTF-8 without a byte order mark.
fn no_text(bytes: &[u8]) -> Option<String> {
    let reason = match bytes {
        [0x1f, 0x8b, ..] => "it is compressed (gzip): send it uncompressed",
        [0xef, 0xbb, 0xbf, ..] => "it begins with a byte order mark (BOM): leave that out",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0xfe, 0xff, ..] => {
            "it begins with a byte order mark of UTF-16 or UTF-32: send it in UTF-8"
        }
        // No JSON text has a zero byte.
        [0, _, ..] | [_, 0, ..] => "it seems to be UTF-16 or UTF-32: send it in UTF-8",
        _ => {
            let at = std::str::from_utf8(bytes).err()?.valid_up_to();
            return Some(format!("byte {at} is not UTF-8"));
        }
    };
    Some(reason.to_owned())
}

pub(super) fn parse<T: Shape>(bytes: &[u8]) -> Result<T, Rejection> {
    let shape = T::SHAPE;
    if let Some(reason) = no_text(bytes) {
        return Err(Rejection::NotJson { reason, shape });
    }
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

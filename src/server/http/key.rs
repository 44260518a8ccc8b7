//! The key that lets a backend publish.

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use axum::http::{HeaderMap, HeaderName, header};
use subtle::ConstantTimeEq;

use super::rejection::Rejection;

/// The key of the HTTP API, sent as `Authorization: Bearer KEY` or `X-API-Key: KEY`.
///
/// It is the server's own authority: no rule is asked of who has it. Only its SHA-256 is kept, and `Debug` shows nothing.
#[derive(Clone)]
pub struct ApiKey {
    digest: [u8; SHA256_OUTPUT_LEN],
}

/// Why text is no [`ApiKey`]. It does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidApiKey {
    /// It can be guessed.
    #[error(
        "the API key has {length} bytes, at least {min} are needed: take random ones, such as those of `openssl rand -hex 32`"
    )]
    TooShort {
        /// Its length in bytes.
        length: usize,
        /// The least.
        min: usize,
    },
    /// It could not be sent in a header.
    #[error(
        "byte {at} of the API key cannot be sent in a header: only visible ASCII can, so no space and no line end"
    )]
    Character {
        /// Its position in bytes.
        at: usize,
    },
}

/// The other header that a key may come in, for where a proxy keeps `Authorization` for itself.
pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

impl ApiKey {
    /// Shortest key, in bytes.
    pub const MIN: usize = 16;

    /// Takes a key.
    ///
    /// # Errors
    /// [`InvalidApiKey`] where it is shorter than [`ApiKey::MIN`] or has anything but visible ASCII.
    pub fn new(key: &str) -> Result<Self, InvalidApiKey> {
        if let Some(at) = key.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(InvalidApiKey::Character { at });
        }
        if key.len() < Self::MIN {
            return Err(InvalidApiKey::TooShort {
                length: key.len(),
                min: Self::MIN,
            });
        }
        Ok(Self {
            digest: hash(key.as_bytes()),
        })
    }

    /// Whether a request carries the key. `X-API-Key` decides where both headers are there.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let key = match headers.get(X_API_KEY) {
            Some(key) => key.as_bytes(),
            None => headers
                .get(header::AUTHORIZATION)
                .and_then(|value| bearer(value.as_bytes()))
                .ok_or(Rejection::NoKey)?,
        };
        // Digests have one length, so the time taken says nothing about the key's.
        if hash(key).ct_eq(&self.digest).into() {
            Ok(())
        } else {
            Err(Rejection::WrongKey)
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_ascii())
}

fn hash(key: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut out = [0; SHA256_OUTPUT_LEN];
    out.copy_from_slice(digest(&SHA256, key).as_ref());
    out
}

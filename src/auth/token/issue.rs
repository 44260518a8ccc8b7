//! Making tokens, for a backend in Rust, for the command line and for tests.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{EncodingKey, Header, encode};

use super::{Algorithm, Claims, InvalidKey, key};
use crate::wire::UserId;

/// Signs tokens with HS256. Whoever holds the secret can be any user.
#[derive(Clone)]
pub struct TokenIssuer {
    key: EncodingKey,
}

impl TokenIssuer {
    /// Signs with `secret`, the one that the server's [`VerifyingKey::hs256`](super::VerifyingKey::hs256) has.
    ///
    /// # Errors
    /// The same as of `VerifyingKey::hs256`: less than 32 bytes, or a PEM file.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        let secret = secret.as_ref();
        key::check_secret(secret)?;
        key::choose_cryptography();
        Ok(Self {
            key: EncodingKey::from_secret(secret),
        })
    }

    /// A token of `user` that is good from now, by the system's clock, for `valid_for`. Its end is in whole seconds, rounded
    /// down, and not after the year 9999.
    #[must_use]
    pub fn issue(&self, user: &UserId, valid_for: Duration) -> String {
        let now = SystemTime::now();
        // An end that no clock can show: `Claims` has a last year, and a century is as good as for ever before that.
        let century = Duration::from_secs(100 * 365 * 86_400);
        let end = now.checked_add(valid_for).unwrap_or(now + century);
        self.issue_with(Claims::new(user, end).issued_at(now))
    }

    /// A token with these claims.
    #[must_use]
    pub fn issue_with(&self, claims: Claims) -> String {
        encode(&Header::new(Algorithm::HS256.into()), &claims, &self.key)
            .expect("an HMAC of any key and JSON of strings and numbers cannot fail")
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").finish_non_exhaustive()
    }
}

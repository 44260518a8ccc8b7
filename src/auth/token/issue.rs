//! Making tokens, for a backend in Rust, for the command line and for tests.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{EncodingKey, Header, encode};

use super::{Algorithm, Claims, InvalidKey, key};
use crate::wire::UserId;

/// Signs tokens. Who holds its key can be any user.
#[derive(Clone)]
pub struct TokenIssuer {
    algorithm: Algorithm,
    id: Option<String>,
    key: EncodingKey,
}

impl TokenIssuer {
    /// Signs with HS256 and `secret`, the one that the server's [`VerifyingKey::hs256`](super::VerifyingKey::hs256) has.
    ///
    /// # Errors
    /// The same as of `VerifyingKey::hs256`: less than 32 bytes, or a PEM file.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        let secret = secret.as_ref();
        key::check_secret(secret)?;
        key::choose_cryptography();
        Ok(Self {
            algorithm: Algorithm::HS256,
            id: None,
            key: EncodingKey::from_secret(secret),
        })
    }

    /// Signs with a private key: PEM with the label `PRIVATE KEY` (PKCS#8), or `RSA PRIVATE KEY`. `None` as the algorithm is
    /// that of the key, and RS256 for an RSA key.
    ///
    /// # Errors
    /// [`InvalidKey::NotPrivate`], or [`InvalidKey::WrongKind`] where the key does not go with the algorithm.
    pub fn from_pem(algorithm: Option<Algorithm>, pem: &[u8]) -> Result<Self, InvalidKey> {
        key::choose_cryptography();
        let natural = key::private_algorithm(pem);
        let algorithm = algorithm.or(natural).unwrap_or(Algorithm::RS256);
        let fail = || InvalidKey::NotPrivate(algorithm);
        let natural = natural.ok_or_else(fail)?;
        if natural != algorithm && !(natural.is_rsa() && algorithm.is_rsa()) {
            return Err(InvalidKey::WrongKind {
                algorithm,
                found: natural.key_kind(),
            });
        }
        let key = match natural {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            _ => EncodingKey::from_rsa_pem(pem),
        };
        let issuer = Self {
            algorithm,
            id: None,
            key: key.map_err(|_| fail())?,
        };
        // A key that can sign now can sign later.
        encode(&issuer.header(), &(), &issuer.key).map_err(|_| fail())?;
        Ok(issuer)
    }

    /// The same issuer, whose tokens name the key by this id (`kid`).
    #[must_use]
    pub fn with_id(mut self, kid: impl Into<String>) -> Self {
        self.id = Some(kid.into());
        self
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

    /// A token with these claims, and with the time of now as `iat` where they have none.
    ///
    /// # Panics
    /// Where the cryptography fails for want of memory or randomness.
    #[must_use]
    pub fn issue_with(&self, claims: Claims) -> String {
        let claims = claims.or_issued_at(SystemTime::now());
        encode(&self.header(), &claims, &self.key)
            .expect("a key that signed before, and JSON of strings and numbers, cannot fail")
    }

    fn header(&self) -> Header {
        let mut header = Header::new(self.algorithm.into());
        header.kid.clone_from(&self.id);
        header
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

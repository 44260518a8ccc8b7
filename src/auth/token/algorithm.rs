//! Signature algorithms of tokens.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Signature algorithm of a token (RFC 7518 §3.1, RFC 8037 §3.1), spelled as in a token's `alg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret signs and verifies.
    HS256,
    /// ECDSA over P-256 with SHA-256.
    ES256,
    /// ECDSA over P-384 with SHA-384.
    ES384,
    /// EdDSA, over Ed25519 only.
    EdDSA,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
}

impl Algorithm {
    /// Every algorithm, in the order of their names in messages.
    pub(super) const NAMES: &str =
        "HS256, ES256, ES384, EdDSA, RS256, RS384, RS512, PS256, PS384 and PS512";

    /// Algorithms of an RSA key that names none.
    pub(super) const RSA: &[Self] = &[
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
    ];

    pub(super) const fn of_header(alg: jsonwebtoken::Algorithm) -> Option<Self> {
        use jsonwebtoken::Algorithm as Header;
        match alg {
            Header::HS256 => Some(Self::HS256),
            Header::ES256 => Some(Self::ES256),
            Header::ES384 => Some(Self::ES384),
            Header::EdDSA => Some(Self::EdDSA),
            Header::RS256 => Some(Self::RS256),
            Header::RS384 => Some(Self::RS384),
            Header::RS512 => Some(Self::RS512),
            Header::PS256 => Some(Self::PS256),
            Header::PS384 => Some(Self::PS384),
            Header::PS512 => Some(Self::PS512),
            _ => None,
        }
    }

    /// The algorithm alone, as a list that lives as long as the program.
    pub(super) const fn alone(self) -> &'static [Self] {
        match self {
            Self::HS256 => &[Self::HS256],
            Self::ES256 => &[Self::ES256],
            Self::ES384 => &[Self::ES384],
            Self::EdDSA => &[Self::EdDSA],
            Self::RS256 => &[Self::RS256],
            Self::RS384 => &[Self::RS384],
            Self::RS512 => &[Self::RS512],
            Self::PS256 => &[Self::PS256],
            Self::PS384 => &[Self::PS384],
            Self::PS512 => &[Self::PS512],
        }
    }

    /// The kind of key that the algorithm takes, for messages.
    pub(super) const fn key_kind(self) -> &'static str {
        match self {
            Self::HS256 => "a secret",
            Self::ES256 => "an EC key on P-256",
            Self::ES384 => "an EC key on P-384",
            Self::EdDSA => "an Ed25519 key",
            _ => "an RSA key",
        }
    }

    pub(super) fn is_rsa(self) -> bool {
        Self::RSA.contains(&self)
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 => Self::HS256,
            Algorithm::ES256 => Self::ES256,
            Algorithm::ES384 => Self::ES384,
            Algorithm::EdDSA => Self::EdDSA,
            Algorithm::RS256 => Self::RS256,
            Algorithm::RS384 => Self::RS384,
            Algorithm::RS512 => Self::RS512,
            Algorithm::PS256 => Self::PS256,
            Algorithm::PS384 => Self::PS384,
            Algorithm::PS512 => Self::PS512,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

//! Keys that verify tokens. Each belongs to exactly one algorithm, whatever a token says.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::{
    DecodingKey, DecodingKeyKind,
    crypto::aws_lc,
    jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse},
};
use serde::{Deserialize, Serialize};

use super::MAX_KEYS;

/// Shortest HS256 secret, in bytes: as long as the hash, which RFC 7518 §3.2 asks for.
const MIN_SECRET: usize = 32;

/// RSA moduli in bits: at least what RFC 7518 §3.3 asks for, at most what the cryptography verifies.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// How a token is signed (RFC 7518 §3.1, RFC 8037 §3.1), spelled as in a token's `alg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret signs and verifies.
    HS256,
    /// ECDSA over P-256 with SHA-256.
    ES256,
    /// EdDSA, over Ed25519 only.
    EdDSA,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
}

impl Algorithm {
    pub(super) const fn of_header(alg: jsonwebtoken::Algorithm) -> Option<Self> {
        match alg {
            jsonwebtoken::Algorithm::HS256 => Some(Self::HS256),
            jsonwebtoken::Algorithm::ES256 => Some(Self::ES256),
            jsonwebtoken::Algorithm::EdDSA => Some(Self::EdDSA),
            jsonwebtoken::Algorithm::RS256 => Some(Self::RS256),
            _ => None,
        }
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 => Self::HS256,
            Algorithm::ES256 => Self::ES256,
            Algorithm::EdDSA => Self::EdDSA,
            Algorithm::RS256 => Self::RS256,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A key that verifies tokens of one [`Algorithm`].
///
/// `Debug` prints the algorithm and the id, never the key.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    id: Option<String>,
    key: DecodingKey,
}

impl VerifyingKey {
    /// The secret that the issuer signs with, of 32 random bytes or more.
    ///
    /// # Errors
    /// [`InvalidKey::SecretTooShort`], and [`InvalidKey::SecretIsPem`] for the text of a key of another algorithm: if it is a
    /// public key, everybody could sign with it.
    pub fn hs256(secret: &[u8]) -> Result<Self, InvalidKey> {
        check_secret(secret)?;
        Self::checked(Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    /// A P-256 public key: PEM with the label `PUBLIC KEY`.
    ///
    /// # Errors
    /// [`InvalidKey::Pem`], [`InvalidKey::NotPublic`] or [`InvalidKey::Key`].
    pub fn es256_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_pem(Algorithm::ES256, pem, DecodingKey::from_ec_pem)
    }

    /// An Ed25519 public key: PEM with the label `PUBLIC KEY`.
    ///
    /// # Errors
    /// [`InvalidKey::Pem`], [`InvalidKey::NotPublic`] or [`InvalidKey::Key`].
    pub fn eddsa_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_pem(Algorithm::EdDSA, pem, DecodingKey::from_ed_pem)
    }

    /// An RSA public key of 2048 to 8192 bits: PEM with the label `PUBLIC KEY` or `RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// [`InvalidKey::Pem`], [`InvalidKey::NotPublic`] or [`InvalidKey::RsaSize`].
    pub fn rs256_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_pem(Algorithm::RS256, pem, DecodingKey::from_rsa_pem)
    }

    /// The keys of a JSON Web Key Set (RFC 7517), in its order: `EC` over P-256, `OKP` over Ed25519, `RSA` and `oct`, each for
    /// the one algorithm above that its type has, and with its `kid`.
    ///
    /// Skipped are keys of another type, curve or `alg`, and keys that `use` or `key_ops` keep from verifying.
    ///
    /// # Errors
    /// [`InvalidKey::Jwks`] for text that is no key set, [`InvalidKey::Jwk`] for a key that is malformed or too weak, with its
    /// place, [`InvalidKey::NoKey`] where nothing is left, [`InvalidKey::TooManyKeys`] above 64.
    pub fn from_jwks(json: &str) -> Result<Vec<Self>, InvalidKey> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }

        let set: Set =
            serde_json::from_str(json).map_err(|error| InvalidKey::Jwks(place(&error)))?;
        let mut keys = Vec::new();
        for (index, jwk) in set.keys.iter().enumerate() {
            let key = Self::from_jwk(jwk).map_err(|reason| InvalidKey::Jwk {
                index,
                reason: Box::new(reason),
            })?;
            keys.extend(key);
        }
        match keys.len() {
            0 => Err(InvalidKey::NoKey),
            1..=MAX_KEYS => Ok(keys),
            count => Err(InvalidKey::TooManyKeys(count)),
        }
    }

    /// The same key with an id: a token whose header has another `kid` is not tried with it. A key without an id is tried
    /// with every token of its algorithm.
    #[must_use]
    pub fn with_id(mut self, kid: impl Into<String>) -> Self {
        self.id = Some(kid.into());
        self
    }

    /// The algorithm of the tokens that it verifies.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether a token with this `kid` in its header is to be tried with this key.
    pub(super) fn answers_to(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.id.is_none() || self.id() == kid
    }

    pub(super) const fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }

    fn from_pem(
        algorithm: Algorithm,
        pem: &[u8],
        parse: impl Fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>,
    ) -> Result<Self, InvalidKey> {
        // jsonwebtoken also takes a certificate, whose signature it may take for the key, and a private key, which has no
        // business on a server that verifies.
        let text = String::from_utf8_lossy(pem);
        if text.contains("PRIVATE KEY-----") {
            return Err(InvalidKey::NotPublic("a private key"));
        }
        if text.contains("CERTIFICATE-----") {
            return Err(InvalidKey::NotPublic("a certificate"));
        }
        choose_cryptography();
        let key = parse(pem).map_err(|_| InvalidKey::Pem(algorithm))?;
        let key = match algorithm {
            // As modulus and exponent, so that the modulus can be measured.
            Algorithm::RS256 => Jwk::from_decoding_key(&key, None)
                .and_then(|jwk| DecodingKey::from_jwk(&jwk))
                .map_err(|_| InvalidKey::Pem(algorithm))?,
            _ => key,
        };
        Self::checked(algorithm, key)
    }

    /// `None` for a key that is of no use here.
    fn from_jwk(value: &serde_json::Value) -> Result<Option<Self>, InvalidKey> {
        let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
        let algorithm = match (text("kty"), text("crv")) {
            (Some("EC"), Some("P-256")) => Algorithm::ES256,
            (Some("OKP"), Some("Ed25519")) => Algorithm::EdDSA,
            (Some("RSA"), _) => Algorithm::RS256,
            (Some("oct"), _) => Algorithm::HS256,
            _ => return Ok(None),
        };
        let malformed = || InvalidKey::Key(algorithm);
        let jwk: Jwk = Deserialize::deserialize(value).map_err(|_| malformed())?;
        let common = &jwk.common;
        let for_verifying = common
            .public_key_use
            .as_ref()
            .is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && common
                .key_operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let for_algorithm = common
            .key_algorithm
            .is_none_or(|alg| alg == jsonwebtoken::Algorithm::from(algorithm).into());
        if !for_verifying || !for_algorithm {
            return Ok(None);
        }
        if matches!(jwk.algorithm, AlgorithmParameters::Other(_)) {
            return Err(malformed());
        }
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| malformed())?;
        let key = Self::checked(algorithm, key)?;
        Ok(Some(match jwk.common.key_id {
            Some(id) => key.with_id(id),
            None => key,
        }))
    }

    /// Refuses at the start what would fail, or be too weak, at every token.
    fn checked(algorithm: Algorithm, key: DecodingKey) -> Result<Self, InvalidKey> {
        choose_cryptography();
        match (algorithm, key.kind()) {
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => check_secret(secret)?,
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .map_err(|_| InvalidKey::Key(algorithm))?;
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
                ParsedPublicKey::new(&ED25519, point).map_err(|_| InvalidKey::Key(algorithm))?;
            }
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
                let first = n.iter().position(|byte| *byte != 0).unwrap_or(n.len());
                let bits = n[first..].first().map_or(0, |byte| {
                    (n.len() - first) * 8 - byte.leading_zeros() as usize
                });
                if !RSA_BITS.contains(&bits) {
                    return Err(InvalidKey::RsaSize(bits));
                }
            }
            _ => return Err(InvalidKey::Key(algorithm)),
        }
        Ok(Self {
            algorithm,
            id: None,
            key,
        })
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A key that cannot verify tokens, or not safely. No message contains key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// An HS256 secret that could be guessed. The number is its length in bytes.
    #[error("the HS256 secret has {0} bytes: 32 random bytes or more are needed")]
    SecretTooShort(usize),
    /// An HS256 secret that is the text of a key of another algorithm.
    #[error("the HS256 secret is a PEM key: configure it for ES256, EdDSA or RS256")]
    SecretIsPem,
    /// Text that is no public key of this algorithm.
    #[error("this is no {0} public key: PEM with the label PUBLIC KEY is needed")]
    Pem(Algorithm),
    /// Something else than a public key.
    #[error(
        "this is {0}: only the public key belongs here (openssl pkey -pubout, openssl x509 -pubkey)"
    )]
    NotPublic(&'static str),
    /// A key whose numbers are missing or make no key.
    #[error("the {0} key is malformed, or on another curve")]
    Key(Algorithm),
    /// An RSA key that is too weak, or larger than can be verified. The number is its size in bits.
    #[error("the RSA key has {0} bits: 2048 to 8192 are needed")]
    RsaSize(usize),
    /// Text that is no key set, and where.
    #[error("this is no JSON Web Key Set, an object with a list \"keys\": {0}")]
    Jwks(String),
    /// A bad key in a key set.
    #[error("key {index} of the key set, counted from 0: {reason}")]
    Jwk {
        /// Its place in the set, counted from 0.
        index: usize,
        /// What is wrong with it.
        reason: Box<Self>,
    },
    /// Nothing to verify a token with.
    #[error(
        "there is no key to verify tokens with: HS256, ES256 (P-256), EdDSA (Ed25519) or RS256 is needed"
    )]
    NoKey,
    /// More keys than a token may be tried with.
    #[error("there are {0} keys: 64 are allowed")]
    TooManyKeys(usize),
}

pub(super) fn check_secret(secret: &[u8]) -> Result<(), InvalidKey> {
    if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
        return Err(InvalidKey::SecretIsPem);
    }
    if secret.len() < MIN_SECRET {
        return Err(InvalidKey::SecretTooShort(secret.len()));
    }
    Ok(())
}

/// Chooses this crate's cryptography for jsonwebtoken, unless the program has chosen. Left to itself it panics at the first
/// token once some other crate of the program has switched on its other provider.
pub(super) fn choose_cryptography() {
    // An error says that a choice was made before, which is to be kept.
    let _ = aws_lc::DEFAULT_PROVIDER.install_default();
}

/// Where parsing failed and of what kind the failure is, without the text, which may hold a secret.
fn place(error: &serde_json::Error) -> String {
    format!(
        "{:?} error at line {} column {}",
        error.classify(),
        error.line(),
        error.column()
    )
}

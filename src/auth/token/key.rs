//! Keys that verify tokens. What a key verifies is decided by the key, whatever a token says.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use jsonwebtoken::{
    DecodingKey, DecodingKeyKind,
    crypto::aws_lc,
    jwk::{AlgorithmParameters, Jwk},
};
use serde::Deserialize;

use super::{Algorithm, MAX_KEYS};

mod invalid;
mod jwk;
mod pem;

pub use invalid::InvalidKey;
pub(super) use pem::private_algorithm;

/// Shortest HS256 secret, in bytes: as long as the hash, which RFC 7518 §3.2 asks for.
const MIN_SECRET: usize = 32;

/// RSA moduli in bits: at least what RFC 7518 §3.3 asks for, at most what the cryptography verifies.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key that verifies tokens of one [`Algorithm`]; an RSA key of a key set that names no `alg` verifies those of all RSA
/// algorithms.
///
/// `Debug` prints the algorithms and the id, never the key.
#[derive(Clone)]
pub struct VerifyingKey {
    /// Never empty.
    algorithms: &'static [Algorithm],
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
        Self::checked(Algorithm::HS256.alone(), DecodingKey::from_secret(secret))
    }

    /// A public key of this algorithm: PEM with the label `PUBLIC KEY`, or `RSA PUBLIC KEY` for an RSA key, of 2048 to 8192
    /// bits. A byte order mark and text around the block do not matter.
    ///
    /// # Errors
    /// [`InvalidKey::Pem`], [`InvalidKey::WrongKind`], [`InvalidKey::NotPublic`], [`InvalidKey::SeveralBlocks`],
    /// [`InvalidKey::Key`] or [`InvalidKey::RsaSize`]; for [`Algorithm::HS256`], which has no public key, [`InvalidKey::Pem`].
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, InvalidKey> {
        choose_cryptography();
        pem::check_public(algorithm, pem)?;
        let parsed = match algorithm {
            Algorithm::HS256 => return Err(InvalidKey::Pem(algorithm)),
            Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
            // As modulus and exponent, so that they can be checked.
            _ => DecodingKey::from_rsa_pem(pem).and_then(|key| {
                match Jwk::from_decoding_key(&key, None)?.algorithm {
                    AlgorithmParameters::RSA(numbers) => {
                        DecodingKey::from_rsa_components(&numbers.n, &numbers.e)
                    }
                    _ => Ok(key),
                }
            }),
        };
        Self::checked(
            algorithm.alone(),
            parsed.map_err(|_| InvalidKey::Pem(algorithm))?,
        )
    }

    /// A P-256 public key: see [`from_pem`](Self::from_pem).
    ///
    /// # Errors
    /// As of [`from_pem`](Self::from_pem).
    pub fn es256_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_pem(Algorithm::ES256, pem)
    }

    /// An Ed25519 public key: see [`from_pem`](Self::from_pem).
    ///
    /// # Errors
    /// As of [`from_pem`](Self::from_pem).
    pub fn eddsa_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_pem(Algorithm::EdDSA, pem)
    }

    /// An RSA public key for RS256: see [`from_pem`](Self::from_pem).
    ///
    /// # Errors
    /// As of [`from_pem`](Self::from_pem).
    pub fn rs256_pem(pem: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_pem(Algorithm::RS256, pem)
    }

    /// The keys of a JSON Web Key Set (RFC 7517), in its order and each with its `kid`: `EC` over P-256 (ES256) and P-384
    /// (ES384), `OKP` over Ed25519 (EdDSA), `oct` (HS256), and `RSA` for the algorithm that its `alg` names, or for all RSA
    /// algorithms where it names none. Leading zeros of numbers do not matter.
    ///
    /// Skipped are keys of another type, curve or unknown `alg`, and keys that `use` or `key_ops` keep from verifying.
    ///
    /// # Errors
    /// [`InvalidKey::Jwks`] for text that is no key set, [`InvalidKey::Jwk`] for a key that is malformed, private or too weak,
    /// with its place, [`InvalidKey::NoKey`] for an empty set, [`InvalidKey::NoUsableKey`] where all are skipped,
    /// [`InvalidKey::TooManyKeys`] above 64.
    pub fn from_jwks(json: &str) -> Result<Vec<Self>, InvalidKey> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }

        let json = json.trim_start_matches('\u{feff}');
        let set: Set = serde_json::from_str(json).map_err(|error| {
            let single = serde_json::from_str::<serde_json::Value>(json)
                .is_ok_and(|value| value.get("kty").is_some() && value.get("keys").is_none());
            InvalidKey::Jwks(if single {
                "it is a single key, which belongs into such a list".to_owned()
            } else {
                place(&error)
            })
        })?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, value) in set.keys.iter().enumerate() {
            match jwk::read(value) {
                Ok(jwk::Entry::Key(key)) => keys.push(key),
                Ok(jwk::Entry::Skipped(reason)) => skipped.push(format!("key {index}: {reason}")),
                Err(reason) => {
                    return Err(InvalidKey::Jwk {
                        index,
                        reason: Box::new(reason),
                    });
                }
            }
        }
        match keys.len() {
            0 if skipped.is_empty() => Err(InvalidKey::NoKey),
            0 => {
                let more = skipped.len().saturating_sub(4);
                skipped.truncate(4);
                if more > 0 {
                    skipped.push(format!("and {more} more"));
                }
                Err(InvalidKey::NoUsableKey(skipped.join("; ")))
            }
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

    /// The algorithm of the tokens that it verifies; RS256 for an RSA key that verifies those of all RSA algorithms.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithms[0]
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether a token with this `alg` and `kid` in its header is to be tried with this key.
    pub(super) fn answers_to(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        self.algorithms.contains(&algorithm)
            && (kid.is_none() || self.id.is_none() || self.id() == kid)
    }

    pub(super) const fn decoding_key(&self) -> &DecodingKey {
        &self.key
    }

    /// Refuses at the start what would fail, or be too weak, at every token.
    fn checked(algorithms: &'static [Algorithm], key: DecodingKey) -> Result<Self, InvalidKey> {
        choose_cryptography();
        let algorithm = algorithms[0];
        let malformed = |_| InvalidKey::Key(algorithm);
        let key = match (algorithm, key.kind()) {
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
                check_secret(secret)?;
                key
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(malformed)?;
                key
            }
            (Algorithm::ES384, DecodingKeyKind::SecretOrDer(point)) => {
                ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).map_err(malformed)?;
                key
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
                ParsedPublicKey::new(&ED25519, point).map_err(malformed)?;
                key
            }
            (algorithm, DecodingKeyKind::RsaModulusExponent { n, e }) if algorithm.is_rsa() => {
                // The cryptography refuses numbers with leading zeros, at each token.
                let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
                check_rsa(algorithm, n, e)?;
                DecodingKey::from_rsa_raw_components(n, e)
            }
            _ => return Err(InvalidKey::Key(algorithm)),
        };
        Ok(Self {
            algorithms,
            id: None,
            key,
        })
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("algorithms", &self.algorithms)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn check_rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<(), InvalidKey> {
    let bits = n
        .first()
        .map_or(0, |byte| n.len() * 8 - byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(InvalidKey::RsaSize(bits));
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    // With 1 as the exponent a signature is its own message.
    if !is_odd(n) || !is_odd(e) || e == [1] {
        return Err(InvalidKey::Key(algorithm));
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map(drop)
        .map_err(|_| InvalidKey::Key(algorithm))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0);
    &number[first.unwrap_or(number.len())..]
}

pub(super) fn check_secret(secret: &[u8]) -> Result<(), InvalidKey> {
    let text = secret.strip_prefix(b"\xef\xbb\xbf").unwrap_or(secret);
    if text.trim_ascii_start().starts_with(b"-----BEGIN ") {
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

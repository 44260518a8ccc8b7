//! JSON Web Keys (RFC 7517, RFC 7518 §6): every member is checked, so that a key that is taken verifies tokens.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::{InvalidKey, VerifyingKey};
use crate::auth::token::Algorithm;

/// A key of a set: one that verifies tokens, or the reason why it is left out.
pub(super) enum Entry {
    Key(VerifyingKey),
    Skipped(String),
}

/// Longest member in bytes: more than the modulus of the largest RSA key takes.
const MAX_MEMBER: usize = 4096;

/// Reads one key of a set.
///
/// # Errors
/// [`InvalidKey`] for a key that is meant for tokens and could verify none.
pub(super) fn read(value: &Value) -> Result<Entry, InvalidKey> {
    let Some(jwk) = value.as_object() else {
        return Ok(skipped("it is no object"));
    };
    // Some issuers write absent members as null.
    let mut jwk = jwk.clone();
    jwk.retain(|_, member| !member.is_null());
    let jwk = &jwk;
    let (kty, crv) = (text(jwk, "kty")?, text(jwk, "crv")?);
    let natural: &'static [Algorithm] = match (kty, crv) {
        (Some("EC"), Some("P-256")) => Algorithm::ES256.alone(),
        (Some("EC"), Some("P-384")) => Algorithm::ES384.alone(),
        (Some("OKP"), Some("Ed25519")) => Algorithm::EdDSA.alone(),
        (Some("RSA"), _) => Algorithm::RSA,
        (Some("oct"), _) => Algorithm::HS256.alone(),
        (None, _) => return Err(member("kty", "is missing")),
        (Some("EC" | "OKP"), None) => return Err(member("crv", "is missing")),
        (Some("EC" | "OKP"), Some(crv)) => {
            return Ok(Entry::Skipped(format!(
                "its curve {crv:?} is not supported"
            )));
        }
        (Some(kty), _) => return Ok(Entry::Skipped(format!("its type {kty:?} is not supported"))),
    };
    if let Some(reason) = other_purpose(jwk)? {
        return Ok(Entry::Skipped(reason));
    }
    let algorithms = match text(jwk, "alg")? {
        None => natural,
        Some(alg) => match named(alg, natural) {
            Named::Fits(algorithm) => algorithm.alone(),
            Named::Contradicts => return Err(InvalidKey::AlgorithmMismatch(alg.to_owned())),
            Named::Unsupported => {
                return Ok(Entry::Skipped(format!(
                    "its algorithm {alg:?} is not supported"
                )));
            }
        },
    };
    // RFC 7518 §6.2.2, §6.3.2, RFC 8037 §2: all private keys but those of type oct have it.
    if kty != Some("oct") && jwk.contains_key("d") {
        return Err(InvalidKey::NotPublic("a private key"));
    }
    let key = match algorithms[0] {
        Algorithm::HS256 => DecodingKey::from_secret(&bytes(jwk, "k")?),
        Algorithm::ES256 => point(&bytes(jwk, "x")?, &bytes(jwk, "y")?, 32)?,
        Algorithm::ES384 => point(&bytes(jwk, "x")?, &bytes(jwk, "y")?, 48)?,
        Algorithm::EdDSA => {
            let x = bytes(jwk, "x")?;
            if x.len() != 32 {
                return Err(member("x", "does not have the 32 bytes of an Ed25519 key"));
            }
            DecodingKey::from_ed_der(&x)
        }
        _ => DecodingKey::from_rsa_raw_components(&bytes(jwk, "n")?, &bytes(jwk, "e")?),
    };
    let key = VerifyingKey::checked(algorithms, key)?;
    Ok(Entry::Key(match text(jwk, "kid")? {
        Some(id) => key.with_id(id),
        None => key,
    }))
}

/// The reason why a key is not for verifying signatures, by its `use` or `key_ops`.
fn other_purpose(jwk: &Map<String, Value>) -> Result<Option<String>, InvalidKey> {
    if let Some(purpose) = text(jwk, "use")?
        && purpose != "sig"
    {
        return Ok(Some(format!("its use is {purpose:?}, not \"sig\"")));
    }
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|one| one == "verify"),
        Some(_) => return Err(member("key_ops", "is no list")),
    };
    Ok((!verifies).then(|| "its key_ops do not have \"verify\"".to_owned()))
}

/// What an `alg` means for a key of which `natural` are the algorithms.
enum Named {
    Fits(Algorithm),
    Contradicts,
    Unsupported,
}

fn named(alg: &str, natural: &[Algorithm]) -> Named {
    // RFC 9864 gives EdDSA over Ed25519 this name.
    let alg = if alg == "Ed25519" { "EdDSA" } else { alg };
    match serde_json::from_value(alg.into()) {
        Ok(algorithm) if natural.contains(&algorithm) => Named::Fits(algorithm),
        Ok(_) => Named::Contradicts,
        Err(_) => Named::Unsupported,
    }
}

/// An uncompressed point (SEC 1 §2.3.3). A coordinate without its leading zeros, or with more of them, is the same number.
fn point(x: &[u8], y: &[u8], size: usize) -> Result<DecodingKey, InvalidKey> {
    let mut point = vec![4];
    for (name, coordinate) in [("x", x), ("y", y)] {
        let digits = super::without_leading_zeros(coordinate);
        let Some(zeros) = size.checked_sub(digits.len()) else {
            return Err(member(
                name,
                "has more bytes than a coordinate of its curve",
            ));
        };
        point.resize(point.len() + zeros, 0);
        point.extend_from_slice(digits);
    }
    Ok(DecodingKey::from_ec_der(&point))
}

fn text<'a>(
    jwk: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a str>, InvalidKey> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(member(name, "is no text")),
    }
}

fn bytes(jwk: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, InvalidKey> {
    let text = text(jwk, name)?.ok_or_else(|| member(name, "is missing"))?;
    if text.is_empty() {
        return Err(member(name, "is empty"));
    }
    if text.len() > MAX_MEMBER {
        return Err(member(name, "is too long"));
    }
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| member(name, "is not base64url without padding (RFC 7515 §2)"))
}

const fn member(name: &'static str, problem: &'static str) -> InvalidKey {
    InvalidKey::Member { name, problem }
}

fn skipped(reason: &str) -> Entry {
    Entry::Skipped(reason.to_owned())
}

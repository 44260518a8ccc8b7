//! PEM text of keys (RFC 7468): which kind of key it is, found before anything parses it.

use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject};

use super::InvalidKey;
use crate::auth::token::Algorithm;

/// Refuses what is no public key of this algorithm.
pub(super) fn check_public(algorithm: Algorithm, pem: &[u8]) -> Result<(), InvalidKey> {
    // jsonwebtoken also takes a certificate, whose signature it may take for the key, and a private key, which has no
    // business on a server that verifies.
    let text = String::from_utf8_lossy(pem);
    if text.contains("PRIVATE KEY-----") {
        return Err(InvalidKey::NotPublic("a private key"));
    }
    if text.contains("CERTIFICATE-----") {
        return Err(InvalidKey::NotPublic("a certificate"));
    }
    let blocks = text.matches("-----BEGIN ").count();
    if blocks > 1 {
        return Err(InvalidKey::SeveralBlocks(blocks));
    }
    let pkcs1 = text.contains("-----BEGIN RSA PUBLIC KEY-----");
    let found = if pkcs1 {
        Some(Kind::Rsa)
    } else {
        SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .ok()
            .and_then(|der| kind(&der))
    };
    match found {
        Some(found) if !found.goes_with(algorithm) => Err(InvalidKey::WrongKind {
            algorithm,
            found: found.name(),
        }),
        _ => Ok(()),
    }
}

/// The algorithm that a private key signs with unless another is named; `None` for what is no private key that can sign.
pub(in crate::auth::token) fn private_algorithm(pem: &[u8]) -> Option<Algorithm> {
    let der = PrivateKeyDer::from_pem_slice(pem).ok()?;
    let found = match &der {
        PrivateKeyDer::Pkcs1(_) => Kind::Rsa,
        PrivateKeyDer::Pkcs8(der) => kind(der.secret_pkcs8_der())?,
        // SEC1, which the cryptography does not sign with.
        _ => return None,
    };
    match found {
        Kind::Rsa => Some(Algorithm::RS256),
        Kind::P256 => Some(Algorithm::ES256),
        Kind::P384 => Some(Algorithm::ES384),
        Kind::Ed25519 => Some(Algorithm::EdDSA),
        Kind::RsaPss | Kind::OtherCurve => None,
    }
}

/// Kinds of keys, told apart by the algorithm's identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    RsaPss,
    P256,
    P384,
    OtherCurve,
    Ed25519,
}

impl Kind {
    fn goes_with(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => algorithm.is_rsa(),
            Self::P256 => algorithm == Algorithm::ES256,
            Self::P384 => algorithm == Algorithm::ES384,
            Self::Ed25519 => algorithm == Algorithm::EdDSA,
            Self::RsaPss | Self::OtherCurve => false,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rsa => "an RSA key",
            Self::RsaPss => "an RSA key restricted to PSS (id-RSASSA-PSS), which is not supported",
            Self::P256 => "an EC key on P-256",
            Self::P384 => "an EC key on P-384",
            Self::OtherCurve => "an EC key on another curve",
            Self::Ed25519 => "an Ed25519 key",
        }
    }
}

/// The kind of a key by the object identifiers near its start (RFC 3279 §2.3, RFC 5480 §2.1.1, RFC 8410 §3).
fn kind(der: &[u8]) -> Option<Kind> {
    const KINDS: [(&[u8], Kind); 6] = [
        (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", Kind::Rsa),
        (
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
            Kind::RsaPss,
        ),
        (b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", Kind::P256),
        (b"\x06\x05\x2b\x81\x04\x00\x22", Kind::P384),
        (b"\x06\x03\x2b\x65\x70", Kind::Ed25519),
        // After the curves that are supported: id-ecPublicKey, Ed448, X25519 and X448 share what is not.
        (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", Kind::OtherCurve),
    ];
    let start = &der[..der.len().min(40)];
    KINDS
        .iter()
        .find(|(identifier, _)| start.windows(identifier.len()).any(|at| at == *identifier))
        .map(|(_, kind)| *kind)
}

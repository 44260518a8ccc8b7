//! PEM text (RFC 7468) of certificates and keys, with the reason where it cannot be read.

#[cfg(feature = "server")]
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::{
    CertificateDer,
    pem::{Error, PemObject},
};

use super::InvalidTls;

/// The certificates of a text, in its order: at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    const WHAT: &str = "certificate";
    let pem = text(WHAT, pem)?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(WHAT, &error))?;
    if all.is_empty() {
        return Err(match other_blocks(pem) {
            Some(found) => InvalidTls::Unreadable {
                what: WHAT,
                reason: format!(
                    "the PEM text has {found}, and no -----BEGIN CERTIFICATE----- block"
                ),
            },
            None => InvalidTls::NoCertificate,
        });
    }
    Ok(all)
}

/// The private keys of a text, in its order: at least one.
#[cfg(feature = "server")]
pub(super) fn private_keys(pem: &[u8]) -> Result<Vec<PrivateKeyDer<'static>>, InvalidTls> {
    const WHAT: &str = "private key";
    let pem = text(WHAT, pem)?;
    let is_encrypted = contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || contains(pem, b"Proc-Type: 4,ENCRYPTED");
    if is_encrypted {
        return Err(InvalidTls::Encrypted);
    }
    let all: Vec<_> = PrivateKeyDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(WHAT, &error))?;
    if all.is_empty() {
        return Err(match other_blocks(pem) {
            Some(found) => InvalidTls::Unreadable {
                what: WHAT,
                reason: format!(
                    "the PEM text has {found}, and no -----BEGIN PRIVATE KEY----- block"
                ),
            },
            None => InvalidTls::NoKey,
        });
    }
    Ok(all)
}

#[cfg(feature = "server")]
pub(super) fn has_certificate(pem: &[u8]) -> bool {
    contains(pem, b"-----BEGIN CERTIFICATE-----")
}

#[cfg(feature = "server")]
pub(super) fn has_key(pem: &[u8]) -> bool {
    contains(pem, b"PRIVATE KEY-----")
}

/// The text without a byte order mark, unless it is no text at all.
fn text<'a>(what: &'static str, pem: &'a [u8]) -> Result<&'a [u8], InvalidTls> {
    let fail = |reason: &str| InvalidTls::Unreadable {
        what,
        reason: reason.to_owned(),
    };
    if pem.is_empty() {
        return Err(fail("it is empty"));
    }
    // A SEQUENCE of ASN.1.
    if let [0x30, 0x80..=0x84, ..] = pem {
        return Err(fail(
            "this is binary (DER or PKCS#12), and PEM text is needed (openssl x509 -inform der, openssl pkey -inform der, openssl pkcs12 -nodes)",
        ));
    }
    if pem.starts_with(b"\xff\xfe") || pem.starts_with(b"\xfe\xff") || pem.contains(&0) {
        return Err(fail(
            "this is text in UTF-16 or binary, and text in UTF-8 is needed",
        ));
    }
    Ok(pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem))
}

fn unreadable(what: &'static str, error: &Error) -> InvalidTls {
    let reason = match error {
        Error::MissingSectionEnd { end_marker } => format!(
            "the PEM text is cut off: the line -----END {}----- is missing",
            String::from_utf8_lossy(end_marker).trim_matches('-')
        ),
        Error::IllegalSectionStart { .. } => {
            "a line that begins with -----BEGIN does not end in -----".to_owned()
        }
        Error::Base64Decode(_) => "a PEM block is damaged: it is not base64".to_owned(),
        other => other.to_string(),
    };
    InvalidTls::Unreadable { what, reason }
}

/// What blocks a text has, for a complaint that none is of the right kind.
fn other_blocks(pem: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(pem);
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("-----BEGIN ")?
                .strip_suffix("-----")
        })
        .map(|label| format!("a block {label}"))
        .collect();
    found.dedup();
    found.truncate(3);
    (!found.is_empty()).then(|| found.join(", "))
}

#[cfg(feature = "server")]
fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|at| at == part)
}

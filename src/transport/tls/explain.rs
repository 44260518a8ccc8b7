//! Words for what is wrong with a server's certificate.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, Error, OtherError,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::Sha256;

/// The name that webpki gives the certificate of an authority that a server shows as its own.
pub(super) const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

/// What is wrong with a certificate. `Debug` prints the words, too: it is what the TLS library puts into its own messages.
pub(super) struct Reason(String);

impl Reason {
    pub(super) fn hash(found: Sha256) -> Self {
        Self(format!(
            "its SHA-256 is {found}, which is none of the hashes that are trusted"
        ))
    }

    pub(super) fn new(
        error: Error,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Self {
        let Error::InvalidCertificate(error) = error else {
            return Self(error.to_string());
        };
        Self(words(&error, certificate, name))
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        CertificateError::Other(OtherError(Arc::new(reason))).into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Reason {}

/// The words of a [`Reason`] in a message of the TLS library.
pub(in crate::transport) fn plain(message: &str) -> &str {
    message
        .strip_prefix("invalid peer certificate: Other(OtherError(")
        .and_then(|rest| rest.strip_suffix("))"))
        .unwrap_or(message)
}

fn words(
    error: &CertificateError,
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> String {
    use CertificateError as E;
    match error {
        E::ExpiredContext { not_after, .. } => format!("it expired on {}", date(*not_after)),
        E::Expired => "it has expired".to_owned(),
        E::NotValidYetContext { time, not_before } => format!(
            "it is not valid before {}, and this machine's clock says {}",
            date(*not_before),
            date(*time)
        ),
        E::NotValidYet => "it is not valid yet".to_owned(),
        E::NotValidForNameContext { presented, .. } => {
            let wanted = name.to_str();
            match names(presented).as_slice() {
                [] => format!(
                    "it names no host (it has no subjectAltName), so it is not for {wanted:?}"
                ),
                names => format!("it is for {}, not for {wanted:?}", names.join(", ")),
            }
        }
        E::NotValidForName => format!("it is not for {:?}", name.to_str()),
        E::UnknownIssuer if is_self_signed(certificate) => {
            "it is self-signed, and not itself among the trusted certificates".to_owned()
        }
        E::UnknownIssuer => {
            "it was issued by an authority that is not trusted, or the server does not send the certificates between".to_owned()
        }
        E::BadEncoding => "it is damaged, or of a version before 3".to_owned(),
        E::BadSignature => "it was not signed by the authority that it names".to_owned(),
        E::Revoked => "its authority has revoked it".to_owned(),
        E::UnhandledCriticalExtension => {
            "it has a critical extension that is not supported".to_owned()
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "it is not for servers: its extended key usage does not have serverAuth".to_owned()
        }
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that is not supported, such as SHA-1, or with too short a key".to_owned()
        }
        E::Other(other) => match other.to_string().as_str() {
            CA_AS_SERVER => "it is the certificate of an authority (CA:TRUE), not of a server, and not itself among the trusted certificates".to_owned(),
            "EndEntityUsedAsCa" => "a certificate of its chain is not of an authority (it has no CA:TRUE)".to_owned(),
            "PathLenConstraintViolated" | "MaximumPathDepthExceeded" => {
                "its chain is longer than an authority of it allows".to_owned()
            }
            "NameConstraintViolation" => "an authority of its chain may not issue certificates for its names".to_owned(),
            "UnsupportedCertVersion" => "it is of a version before 3".to_owned(),
            other => other.to_owned(),
        },
        other => other.to_string(),
    }
}

/// Names as people write them, from webpki's `DnsName("…")` and `IpAddress(…)`; eight at most.
fn names(presented: &[String]) -> Vec<String> {
    const MOST: usize = 8;
    let mut names: Vec<_> = presented
        .iter()
        .take(MOST)
        .map(|name| {
            let inner = name
                .strip_prefix("DnsName(")
                .or_else(|| name.strip_prefix("IpAddress("))
                .and_then(|rest| rest.strip_suffix(')'));
            inner.unwrap_or(name).trim_matches('"').to_owned()
        })
        .collect();
    if presented.len() > MOST {
        names.push(format!("{} more", presented.len() - MOST));
    }
    names
}

/// A time as `2026-01-31 23:59:59 UTC`.
fn date(time: UnixTime) -> String {
    let (days, second) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    // Days of the Gregorian calendar, in years that begin in March (Hinnant, "chrono-compatible low-level date algorithms").
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Whether issuer and subject are the same.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    distinguished_names(certificate).is_some_and(|(issuer, subject)| issuer == subject)
}

/// Whether the certificate's common name is this host. For certificates without a subjectAltName that are trusted themselves.
pub(super) fn common_name_is(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
    let Some((_, subject)) = distinguished_names(certificate) else {
        return false;
    };
    let at = subject
        .windows(COMMON_NAME.len())
        .position(|at| at == COMMON_NAME);
    let value = at.and_then(|at| element(&subject[at + COMMON_NAME.len()..]));
    value.is_some_and(|(_, value, _)| value.eq_ignore_ascii_case(name.to_str().as_bytes()))
}

/// Issuer and subject of a certificate (RFC 5280 §4.1).
fn distinguished_names<'a>(certificate: &'a CertificateDer<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version stands before the serial number in all but the first.
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (_, issuer, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (_, subject, _) = element(rest)?;
    Some((issuer, subject))
}

/// Tag and content of the first element of DER, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            let length = digits
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_of_the_gregorian_calendar() {
        for (seconds, wanted) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
            assert_eq!(date(time), wanted);
        }
    }

    #[test]
    #[cfg(feature = "server")]
    fn damaged_der_is_no_name() {
        let mut der = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .unwrap()
            .cert
            .der()
            .to_vec();
        assert!(is_self_signed(&der.clone().into()));
        for end in 0..80 {
            assert!(distinguished_names(&der[..end].to_vec().into()).is_none());
        }
        der[1] = 0x85;
        assert!(distinguished_names(&der.into()).is_none());
    }
}

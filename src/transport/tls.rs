//! Certificates: what a server shows and what a client trusts. One provider everywhere: aws-lc-rs. TLS 1.3 only.

use std::{fmt, str::FromStr, sync::Arc};

use ::aws_lc_rs::digest;
use rustls::{
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite},
    },
    pki_types::CertificateDer,
};

/// ALPN of what begins with HTTP over TCP.
pub(super) const HTTP: &str = "http/1.1";

/// What is wrong with a certificate, a key or a set of roots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTls {
    /// No certificate in the PEM text.
    #[error(
        "no certificate in the PEM text: it has no -----BEGIN CERTIFICATE----- block that can be read"
    )]
    NoCertificate,
    /// No private key in the PEM text.
    #[error(
        "no private key in the PEM text: it has no PKCS#8, SEC1 or PKCS#1 block that can be read"
    )]
    NoKey,
    /// A certificate or a private key in PEM text that cannot be read.
    #[error("the {what} cannot be read: {reason}")]
    Unreadable {
        /// `certificate` or `private key`.
        what: &'static str,
        /// What is wrong with the text, and what to do.
        reason: String,
    },
    /// The private key is encrypted.
    #[error(
        "the private key is encrypted, which is not supported: decrypt it (openssl pkey -in encrypted.pem -out key.pem)"
    )]
    Encrypted,
    /// The chain holds the private key, and the key's text the certificate.
    #[error(
        "certificate and private key are swapped: the chain holds a private key, and the key's file a certificate"
    )]
    Swapped,
    /// A private key of a kind or size that TLS 1.3 does not sign with here.
    #[error(
        "the private key cannot be used: RSA of 2048 to 8192 bits, ECDSA over P-256, P-384 or P-521, or Ed25519 is needed"
    )]
    UnsupportedKey,
    /// Certificate and key are no pair.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// The private key belongs to another certificate of the chain than the first. The number is its place, counted from 1.
    #[error(
        "the private key belongs to certificate {0} of the chain: the server's own certificate comes first, then those of its authorities"
    )]
    LeafNotFirst(usize),
    /// The TLS library refuses it.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The certificate could not be generated.
    #[error("cannot generate a certificate: {0}")]
    Generate(String),
    /// Not 64 hexadecimal digits.
    #[error("a certificate hash is 64 hexadecimal digits (colons are allowed between pairs)")]
    Hash,
    /// The system has no usable root certificate.
    #[error("the system has no usable root certificate: {0}")]
    NoRoots(String),
}

/// SHA-256 of a certificate in DER, as browsers take it in `serverCertificateHashes`. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(hash)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = InvalidTls;

    fn from_str(text: &str) -> Result<Self, InvalidTls> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != 64 {
            return Err(InvalidTls::Hash);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidTls::Hash)?;
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(InvalidTls::Hash);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidTls::Hash)?;
        }
        Ok(Self(hash))
    }
}

/// The suite that TLS 1.3 requires of everybody, and the one for devices without AES in hardware; who offers both says which.
/// AES-256 stands with SHA-384, for which few processors have instructions: it cost a fifth of a handshake.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    })
}

#[cfg(feature = "server")]
pub use server::Certificate;
#[cfg(feature = "server")]
pub(super) use server::{CertificateStore, https_crypto, server_crypto};

#[cfg(feature = "server")]
mod server {
    use std::{
        sync::{Arc, PoisonError, RwLock},
        time::{Duration, SystemTime},
    };

    use ::aws_lc_rs::hmac;
    use rustls::{
        InconsistentKeys, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    };

    use super::HTTP;
    use super::{InvalidTls, Sha256, pem, provider};
    use crate::wire::ALPN;

    /// A certificate chain with its private key, ready to be shown. `Debug` shows only the hash.
    #[derive(Clone)]
    pub struct Certificate {
        key: Arc<CertifiedKey>,
        /// What keys for stateless resets are made of.
        resets: [u8; 32],
    }

    impl Certificate {
        /// Reads a chain (leaf first) and a private key from PEM text.
        ///
        /// # Errors
        /// [`InvalidTls`]: nothing readable, encrypted or swapped files, or certificate and key are no pair.
        pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, InvalidTls> {
            if !pem::has_certificate(chain) && pem::has_key(chain) && pem::has_certificate(key) {
                return Err(InvalidTls::Swapped);
            }
            let chain = pem::certificates(chain)?;
            let mut misfit = InvalidTls::NoKey;
            // A file may hold several keys, of which one belongs to the certificate.
            for key in pem::private_keys(key)? {
                let resets = keyed_hash(key.secret_der(), b"tidings stateless reset");
                match pair(&chain, key) {
                    Ok(key) => {
                        return Ok(Self {
                            key: Arc::new(key),
                            resets,
                        });
                    }
                    Err(error) => misfit = error,
                }
            }
            Err(misfit)
        }

        /// Makes a self-signed P-256 certificate for `names` (host names or IP addresses), valid from one hour before `now`, for
        /// clocks that run late, until `valid_for` after it; returns it with the PEM text of certificate and key. Browsers pin
        /// such a certificate by its hash if it is valid for 14 days at most, that hour included.
        ///
        /// # Errors
        /// [`InvalidTls::Generate`].
        pub fn self_signed(
            names: &[&str],
            now: SystemTime,
            valid_for: Duration,
        ) -> Result<(Self, String, String), InvalidTls> {
            let fail = |error: rcgen::Error| InvalidTls::Generate(error.to_string());
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = rcgen::CertificateParams::new(names).map_err(fail)?;
            params.not_before = time::OffsetDateTime::from(now) - time::Duration::HOUR;
            params.not_after = time::OffsetDateTime::from(now + valid_for);
            params.distinguished_name = rcgen::DistinguishedName::new();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, "Tidings self-signed");
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(fail)?;
            let certificate = params.self_signed(&key).map_err(fail)?;
            let (chain, key) = (certificate.pem(), key.serialize_pem());
            Ok((
                Self::from_pem(chain.as_bytes(), key.as_bytes())?,
                chain,
                key,
            ))
        }

        /// SHA-256 of the leaf.
        #[must_use]
        pub fn sha256(&self) -> Sha256 {
            // `from_pem` took no empty chain.
            self.key.cert.first().map_or(Sha256([0; 32]), Sha256::of)
        }
    }

    impl Certificate {
        /// A key for stateless resets, which every server has that has this private key and says the same of `place`. Neither tells
        /// anything of the other.
        pub(in crate::transport) fn reset_key(&self, place: &[u8]) -> hmac::Key {
            hmac::Key::new(hmac::HMAC_SHA256, &keyed_hash(&self.resets, place))
        }

        /// SHA-256 of the whole chain.
        pub(crate) fn chain_sha256(&self) -> Sha256 {
            let chain: Vec<u8> = self
                .key
                .cert
                .iter()
                .flat_map(|certificate| certificate.to_vec())
                .collect();
            Sha256::of(&CertificateDer::from(chain))
        }
    }

    /// A chain with its key, or the reason why they are no pair.
    fn pair(
        chain: &[CertificateDer<'static>],
        key: PrivateKeyDer<'static>,
    ) -> Result<CertifiedKey, InvalidTls> {
        let signer = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| InvalidTls::UnsupportedKey)?;
        let matches = |leaf: &CertificateDer<'static>| {
            let alone = CertifiedKey::new(vec![leaf.clone()], Arc::clone(&signer));
            match alone.keys_match() {
                Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                    Ok(true)
                }
                Err(rustls::Error::InconsistentKeys(_)) => Ok(false),
                Err(error) => Err(error),
            }
        };
        let [leaf, rest @ ..] = chain else {
            return Err(InvalidTls::NoCertificate);
        };
        let damaged = |_| InvalidTls::Unreadable {
            what: "certificate",
            reason: "its content is damaged, or of a version before 3".to_owned(),
        };
        if matches(leaf).map_err(damaged)? {
            return Ok(CertifiedKey::new(chain.to_vec(), signer));
        }
        let other = rest.iter().position(|one| matches(one).unwrap_or(false));
        Err(other.map_or(InvalidTls::Mismatch, |at| InvalidTls::LeafNotFirst(at + 2)))
    }

    /// HMAC with SHA-256.
    fn keyed_hash(key: &[u8], what: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut hash = [0; 32];
        hash.copy_from_slice(hmac::sign(&key, what).as_ref());
        hash
    }

    impl std::fmt::Debug for Certificate {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "Certificate({})", self.sha256())
        }
    }

    /// The certificate that new handshakes are shown; it can be exchanged at any time.
    #[derive(Debug)]
    pub(in crate::transport) struct CertificateStore(RwLock<Certificate>);

    impl CertificateStore {
        pub(in crate::transport) const fn new(certificate: Certificate) -> Self {
            Self(RwLock::new(certificate))
        }

        pub(in crate::transport) fn set(&self, certificate: Certificate) {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = certificate;
        }
    }

    impl ResolvesServerCert for CertificateStore {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            let certificate = self.0.read().unwrap_or_else(PoisonError::into_inner);
            Some(Arc::clone(&certificate.key))
        }
    }

    /// For QUIC.
    pub(in crate::transport) fn server_crypto(
        store: Arc<CertificateStore>,
    ) -> Result<ServerConfig, InvalidTls> {
        crypto(store, vec![ALPN.into(), web_transport_quinn::ALPN.into()])
    }

    /// For HTTP/1.1 over TCP.
    pub(in crate::transport) fn https_crypto(
        store: Arc<CertificateStore>,
    ) -> Result<ServerConfig, InvalidTls> {
        crypto(store, vec![HTTP.into()])
    }

    fn crypto(
        store: Arc<CertificateStore>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<ServerConfig, InvalidTls> {
        let mut crypto = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(store);
        crypto.alpn_protocols = alpn;
        // Tickets that only this process can read, instead of a table of sessions that runs over: a client that comes back is spared
        // the certificate, and we the signature. It needs one at a time, and each session gives it another.
        crypto.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        crypto.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        crypto.send_tls13_tickets = 1;
        // No 0-RTT: a Hello that can be replayed is worth less than a round trip.
        crypto.max_early_data_size = 0;
        Ok(crypto)
    }
}

#[cfg(feature = "client")]
pub use client::Trust;
#[cfg(feature = "client")]
pub(super) use client::client_crypto;
#[cfg(feature = "client")]
pub(super) use explain::plain;
pub(super) use version::handshake_failure;

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod explain;
mod pem;
mod version;

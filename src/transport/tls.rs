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
    /// Certificate and key are no pair.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
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
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    };

    use super::HTTP;
    use super::{InvalidTls, Sha256, provider};
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
        /// [`InvalidTls`]: nothing readable, or certificate and key are no pair.
        pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, InvalidTls> {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<_, _>>()
                .map_err(|_| InvalidTls::NoCertificate)?;
            if chain.is_empty() {
                return Err(InvalidTls::NoCertificate);
            }
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidTls::NoKey)?;
            let resets = keyed_hash(key.secret_der(), b"tidings stateless reset");
            let key =
                CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => InvalidTls::Mismatch,
                    other => InvalidTls::Rustls(other),
                })?;
            Ok(Self {
                key: Arc::new(key),
                resets,
            })
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
mod client {
    use std::sync::Arc;

    use rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    };

    use super::{InvalidTls, Sha256, provider};

    /// Which servers a client believes.
    #[derive(Debug, Clone, Default)]
    #[non_exhaustive]
    pub enum Trust {
        /// Those with a certificate of an authority that the system trusts.
        #[default]
        System,
        /// Those with a certificate of an authority in this PEM text, or with a self-signed certificate that stands in it.
        Pem(Vec<u8>),
        /// Those that show a certificate with one of these hashes; its names and dates do not matter.
        Hashes(Vec<Sha256>),
    }

    /// Session tickets that a client keeps: those of one server, of which the TLS library keeps 8.
    const TICKETS: usize = 8;

    /// A configuration for connections to one server. Who keeps it resumes TLS sessions; a certificate is judged in full
    /// handshakes only, and a resumed one is with a server that held a trusted key before.
    pub(in crate::transport) fn client_crypto(
        trust: &Trust,
        alpn: &[u8],
    ) -> Result<ClientConfig, InvalidTls> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut crypto = match trust {
            Trust::System => builder
                .with_root_certificates(system_roots()?)
                .with_no_client_auth(),
            Trust::Pem(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    roots.add(certificate.map_err(|_| InvalidTls::NoCertificate)?)?;
                }
                if roots.is_empty() {
                    return Err(InvalidTls::NoCertificate);
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Trust::Hashes(hashes) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned {
                    hashes: hashes.clone(),
                    provider: provider(),
                }))
                .with_no_client_auth(),
        };
        crypto.alpn_protocols = vec![alpn.to_vec()];
        crypto.resumption = Resumption::in_memory_sessions(TICKETS);
        Ok(crypto)
    }

    fn system_roots() -> Result<RootCertStore, InvalidTls> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            return Err(InvalidTls::NoRoots(reasons.join("; ")));
        }
        Ok(roots)
    }

    /// Believes a certificate by its hash. The handshake's signature is still checked: the peer must hold the key.
    #[derive(Debug)]
    struct Pinned {
        hashes: Vec<Sha256>,
        provider: Arc<CryptoProvider>,
    }

    impl ServerCertVerifier for Pinned {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            if self.hashes.contains(&Sha256::of(end_entity)) {
                return Ok(ServerCertVerified::assertion());
            }
            Err(CertificateError::ApplicationVerificationFailure.into())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(
                message,
                cert,
                dss,
                &self.provider.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(
                message,
                cert,
                dss,
                &self.provider.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}

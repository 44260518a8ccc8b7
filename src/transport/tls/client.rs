//! Trust of a client: which certificates of servers it takes.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{InvalidTls, Sha256, explain, pem, provider};

/// Which servers a client believes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Trust {
    /// Those with a certificate of an authority that the system trusts.
    #[default]
    System,
    /// Those with a certificate of an authority in this PEM text, or with a certificate that stands in it itself, such as a
    /// self-signed one (`openssl req -x509`). Names and dates are checked in both cases. A certificate that stands in the text and
    /// has no `subjectAltName` is for the host that its common name says.
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
    let judge = match trust {
        Trust::System => Judge::Authorities(authorities(system_roots()?)?, Vec::new()),
        Trust::Pem(text) => {
            let certificates = pem::certificates(text)?;
            let mut roots = RootCertStore::empty();
            for (index, certificate) in certificates.iter().enumerate() {
                roots
                    .add(certificate.clone())
                    .map_err(|_| InvalidTls::Unreadable {
                        what: "certificate",
                        reason: format!("the content of block {} is damaged", index + 1),
                    })?;
            }
            Judge::Authorities(authorities(roots)?, certificates)
        }
        Trust::Hashes(hashes) => Judge::Hashes(hashes.clone()),
    };
    let mut crypto = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier {
            judge,
            provider: provider(),
        }))
        .with_no_client_auth();
    crypto.alpn_protocols = vec![alpn.to_vec()];
    crypto.resumption = Resumption::in_memory_sessions(TICKETS);
    Ok(crypto)
}

fn authorities(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, InvalidTls> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| InvalidTls::Rustls(Error::General(error.to_string())))
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

/// Judges a server's certificate, and says in plain words what is wrong with it. The handshake's signature is always checked: the
/// peer must hold the key.
#[derive(Debug)]
struct Verifier {
    judge: Judge,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Judge {
    /// By its authority, or by itself where it is one of these.
    Authorities(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
    Hashes(Vec<Sha256>),
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (authorities, trusted) = match &self.judge {
            Judge::Authorities(authorities, trusted) => (authorities, trusted),
            Judge::Hashes(hashes) => {
                let found = Sha256::of(end_entity);
                if hashes.contains(&found) {
                    return Ok(ServerCertVerified::assertion());
                }
                return Err(explain::Reason::hash(found).into());
            }
        };
        let judged = authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        let judged = match judged {
            Err(error) if trusted.contains(end_entity) => by_itself(&error, end_entity, name)
                .unwrap_or(Err(error))
                .map(|()| ServerCertVerified::assertion()),
            other => other,
        };
        judged.map_err(|error| explain::Reason::new(error, end_entity, name).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Judges a certificate that is trusted itself, after the search for its authority ended with `error`. `None` where that says
/// something else about it.
fn by_itself(
    error: &Error,
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Option<Result<(), Error>> {
    match error {
        // Its dates were checked before its issuer was looked for.
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {}
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string() == explain::CA_AS_SERVER => {}
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {}
        _ => return None,
    }
    let checked = ParsedCertificate::try_from(certificate)
        .and_then(|certificate| verify_server_name(&certificate, name));
    Some(match checked {
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) if presented.is_empty() && explain::common_name_is(certificate, name) => Ok(()),
        other => other,
    })
}

//! Plain words for peers without TLS 1.3.

use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

/// Cause of a failed TLS handshake over TCP, in words where the peer has no version of TLS in common with this side.
pub(in crate::transport) fn handshake_failure(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|error| error.downcast_ref());
    match cause {
        Some(
            Error::AlertReceived(AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig),
        ) => "the server, or a proxy in front of it, does not offer TLS 1.3: enable TLS 1.3 there"
            .to_owned(),
        Some(Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        )) => "the client, or a proxy on its path, does not offer TLS 1.3".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use std::{io::Cursor, sync::Arc};

    use rustls::{ServerConfig, ServerConnection, server::ResolvesServerCertUsingSni};

    use super::*;

    #[test]
    fn client_with_tls_1_2_alone_is_named_as_the_cause() {
        // A ClientHello of TLS 1.2 (RFC 5246 §7.4.1.2): with signature_algorithms alone, and with supported_versions that names 1.2.
        let algorithms = [0_u8, 13, 0, 4, 0, 2, 4, 3];
        let versions = [0_u8, 43, 0, 3, 2, 3, 3];
        for extensions in [algorithms.to_vec(), [&versions[..], &algorithms].concat()] {
            let total = u8::try_from(extensions.len()).unwrap();
            let extensions = [&[0, total][..], &extensions].concat();
            let suites = [0, 0, 2, 0xc0, 0x2b, 1, 0];
            let body = [&[3, 3][..], &[7; 32], &suites, &extensions].concat();
            let length = u8::try_from(body.len()).unwrap();
            let hello = [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
            let mut server = ServerConnection::new(Arc::new(config)).unwrap();
            server.read_tls(&mut Cursor::new(hello)).unwrap();
            let error = server.process_new_packets().unwrap_err();
            let words = handshake_failure(&io::Error::new(io::ErrorKind::InvalidData, error));
            assert!(words.contains("does not offer TLS 1.3"), "{words}");
        }
    }
}

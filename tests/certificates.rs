//! Certificates of servers: which ones a client takes, and what it says of the others.

mod common;

use std::time::SystemTime;

use common::{each, raw::Bystander};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tidings::{
    client::{ClientError, DialError, Sha256, Transport, Trust},
    server::Certificate,
    testing::TestServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const HOST: &str = "127.0.0.1";

/// Parameters of a certificate for some hosts, with a common name.
fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

/// The same as `openssl req -x509` makes it: an authority of its own.
fn authority(mut params: CertificateParams) -> CertificateParams {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Certificate and key in PEM.
fn self_signed(params: CertificateParams) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A certificate of another authority: its own text, its key, and the authority's text.
fn issued(params: CertificateParams, by: &str) -> (String, String, String) {
    let issuer = authority(self::params(&[], by));
    let issuer = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (certificate.pem(), key.serialize_pem(), issuer.pem())
}

async fn server(chain: &str, key: &str) -> TestServer {
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    TestServer::start_with(|builder| builder.certificate(certificate)).await
}

/// Why a client that trusts `trust` does not take the server; `None` where it does.
async fn judged(server: &TestServer, transport: Transport, trust: Trust) -> Option<String> {
    let builder = server.client_builder(transport).trust(trust);
    match builder.token(server.token("42")).connect().await {
        Ok(client) => {
            client.ping().await.unwrap();
            None
        }
        Err(ClientError::Dial(DialError::Untrusted { reason, .. })) => Some(reason),
        Err(other) => panic!("{other:?}"),
    }
}

each!(certificate_of_the_trusted_text_or_of_its_authority_is_taken);
async fn certificate_of_the_trusted_text_or_of_its_authority_is_taken(transport: Transport) {
    let (other, _) = self_signed(authority(params(&["other.example"], "other")));
    let mut cases = Vec::new();
    for params in [
        params(&[HOST], "a server"),
        authority(params(&[HOST], "an authority")),
        authority(params(&["localhost", HOST], "localhost")),
        // The common name counts where there is no other name.
        authority(params(&[], HOST)),
        params(&[], HOST),
    ] {
        let (chain, key) = self_signed(params);
        cases.push((chain.clone(), key, chain));
    }
    let (chain, key, issuer) = issued(params(&[HOST], "a server"), "an authority");
    cases.push((chain.clone(), key.clone(), issuer.clone()));
    cases.push((chain.clone(), key.clone(), chain.clone()));
    cases.push((chain.clone() + &issuer, key, chain));
    for (chain, key, trusted) in cases {
        let server = server(&chain, &key).await;
        for text in [
            trusted.clone(),
            format!("\u{feff}{}", trusted.replace('\n', "\r\n")),
            format!("a comment\n{other}{trusted}"),
        ] {
            let trust = Trust::Pem(text.into_bytes());
            assert_eq!(judged(&server, transport, trust).await, None);
        }
    }
}

each!(certificate_that_is_not_taken_is_explained_in_plain_words);
async fn certificate_that_is_not_taken_is_explained_in_plain_words(transport: Transport) {
    let on = rcgen::date_time_ymd;
    let mut expired = authority(params(&[HOST], "an authority"));
    (expired.not_before, expired.not_after) = (on(2020, 1, 1), on(2021, 2, 3));
    let mut later = authority(params(&[HOST], "an authority"));
    (later.not_before, later.not_after) = (on(2999, 4, 5), on(3000, 1, 1));
    let mut for_clients = params(&[HOST], "a client");
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let wrong = params(&["a.example", "b.example", "192.0.2.1"], HOST);
    for (params, wanted) in [
        (expired, "it expired on 2021-02-03 00:00:00 UTC"),
        (later, "it is not valid before 2999-04-05 00:00:00 UTC"),
        (for_clients, "it is not for servers"),
        (
            authority(wrong.clone()),
            "it is for a.example, b.example, 192.0.2.1, not for \"127.0.0.1\"",
        ),
        (
            wrong,
            "it is for a.example, b.example, 192.0.2.1, not for \"127.0.0.1\"",
        ),
        (
            params(&[], "localhost"),
            "it names no host (it has no subjectAltName)",
        ),
        (
            authority(params(&[], "localhost")),
            "it names no host (it has no subjectAltName)",
        ),
    ] {
        let (chain, key) = self_signed(params);
        let server = server(&chain, &key).await;
        let reason = judged(&server, transport, Trust::Pem(chain.into_bytes())).await;
        assert!(
            reason.as_ref().is_some_and(|text| text.contains(wanted)),
            "{wanted}: {reason:?}"
        );
    }
    // Not the one that is trusted, though everything else is right.
    let (trusted, _) = self_signed(authority(params(&["other.example"], "other")));
    let (plain, plain_key) = self_signed(params(&[HOST], "a server"));
    let (ca, ca_key) = self_signed(authority(params(&[HOST], "an authority")));
    let (chain, key, _) = issued(params(&[HOST], "a server"), "an authority");
    for (chain, key, wanted) in [
        (
            plain,
            plain_key,
            "it is self-signed, and not itself among the trusted certificates",
        ),
        (ca, ca_key, "not itself among the trusted certificates"),
        (
            chain,
            key,
            "it was issued by an authority that is not trusted",
        ),
    ] {
        let server = server(&chain, &key).await;
        let trust = Trust::Pem(trusted.clone().into_bytes());
        let reason = judged(&server, transport, trust).await;
        assert!(
            reason.as_ref().is_some_and(|text| text.contains(wanted)),
            "{wanted}: {reason:?}"
        );
        let trust = Trust::Hashes(vec![Sha256([7; 32])]);
        let reason = judged(&server, transport, trust).await.unwrap();
        let wanted = format!(
            "its SHA-256 is {}, which is none",
            server.certificate_sha256()
        );
        assert!(reason.starts_with(&wanted), "{reason}");
        Bystander::join(&server, transport)
            .await
            .is_undisturbed()
            .await;
    }
}

each!(trusted_text_without_a_certificate_is_named);
async fn trusted_text_without_a_certificate_is_named(transport: Transport) {
    let server = TestServer::start().await;
    let (chain, key) = self_signed(params(&[HOST], "a server"));
    let utf16: Vec<u8> = chain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (text, wanted) in [
        (Vec::new(), "it is empty"),
        (b"hello".to_vec(), "no certificate in the PEM text"),
        (key.into_bytes(), "the PEM text has a block PRIVATE KEY"),
        (utf16, "UTF-16"),
        (vec![0x30, 0x82, 1, 1], "this is binary"),
        (
            chain[..200].into(),
            "the line -----END CERTIFICATE----- is missing",
        ),
        (chain.replacen('M', "!", 1).into_bytes(), "not base64"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
            "the content of block 1 is damaged",
        ),
    ] {
        let builder = server.client_builder(transport).trust(Trust::Pem(text));
        let error = builder.connect().await.unwrap_err();
        assert!(
            matches!(error, ClientError::Dial(DialError::Tls(_))),
            "{error:?}"
        );
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn pair_that_cannot_be_used_is_explained() {
    let (chain, key) = self_signed(params(&[HOST], "a server"));
    let (other, other_key) = self_signed(params(&[HOST], "another"));
    let (leaf, leaf_key, issuer) = issued(params(&[HOST], "a server"), "an authority");
    let pem = |label: &str| format!("-----BEGIN {label}-----\nMIIB\n-----END {label}-----\n");
    let small = "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
    for (chain, key, wanted) in [
        (&*key, &*chain, "certificate and private key are swapped"),
        (
            &key,
            &key,
            "the certificate cannot be read: the PEM text has a block PRIVATE KEY",
        ),
        (
            &chain,
            &chain,
            "the private key cannot be read: the PEM text has a block CERTIFICATE",
        ),
        (&chain, "", "the private key cannot be read: it is empty"),
        ("", &key, "the certificate cannot be read: it is empty"),
        (&chain, "hello", "no private key in the PEM text"),
        (
            &chain,
            &pem("ENCRYPTED PRIVATE KEY"),
            "the private key is encrypted",
        ),
        (
            &chain,
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nMIIB\n-----END RSA PRIVATE KEY-----\n",
            "the private key is encrypted",
        ),
        (
            &chain,
            &pem("PUBLIC KEY"),
            "the PEM text has a block PUBLIC KEY",
        ),
        (
            &chain,
            &pem("PRIVATE KEY"),
            "the private key cannot be used",
        ),
        (&chain, small, "the private key cannot be used"),
        (
            &chain,
            &key[..60],
            "the line -----END PRIVATE KEY----- is missing",
        ),
        (
            &chain[..60],
            &key,
            "the line -----END CERTIFICATE----- is missing",
        ),
        (
            &pem("CERTIFICATE REQUEST"),
            &key,
            "a block CERTIFICATE REQUEST",
        ),
        (
            &pem("TRUSTED CERTIFICATE"),
            &key,
            "a block TRUSTED CERTIFICATE",
        ),
        (&pem("CERTIFICATE"), &key, "its content is damaged"),
        (
            &chain,
            &other_key,
            "the private key does not belong to the certificate",
        ),
        (
            &(issuer.clone() + &leaf),
            &leaf_key,
            "belongs to certificate 2 of the chain",
        ),
        ("\0\0", &key, "UTF-16 or binary"),
    ] {
        let error = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
    }
    // What people have in such files, and what does no harm.
    for (chain, key) in [
        (format!("\u{feff}{chain}"), format!("\u{feff}{key}")),
        (chain.replace('\n', "\r\n"), key.replace('\n', "\r\n")),
        (
            format!("subject=x\n{chain}{other}"),
            format!("Bag Attributes\n{key}"),
        ),
        (format!("{chain}{key}"), format!("{key}{chain}")),
        (chain.clone(), format!("{other_key}{key}")),
        (leaf + &issuer, leaf_key),
    ] {
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    }
}

#[test]
fn key_in_each_form_of_pem_is_read() {
    let strip = |key: &KeyPair, start: &[u8]| {
        let der = key.serialize_der();
        let at = der.windows(start.len()).position(|at| at == start).unwrap();
        der[at + 2..].to_vec()
    };
    let ec = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    // The octet string of PKCS#8 holds what SEC1 and PKCS#1 write.
    let sec1 = strip(&ec, &[0x04, 0x6d, 0x30]);
    let pkcs1 = strip(&rsa, &[0x04, 0x82])[2..].to_vec();
    for (key, label, der) in [
        (&ec, "EC PRIVATE KEY", sec1),
        (&rsa, "RSA PRIVATE KEY", pkcs1),
    ] {
        let chain = params(&[HOST], "a server").self_signed(key).unwrap().pem();
        use base64::{Engine, prelude::BASE64_STANDARD};
        let text = format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            BASE64_STANDARD.encode(der)
        );
        Certificate::from_pem(chain.as_bytes(), text.as_bytes()).unwrap();
        Certificate::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    }
    let day = std::time::Duration::from_secs(24 * 3600);
    Certificate::self_signed(&[HOST], SystemTime::now(), day).unwrap();
}

/// A TLS server without TLS 1.3: it answers each ClientHello with these bytes.
async fn older_server(answer: Vec<u8>) -> std::net::SocketAddr {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.read(&mut hello).await;
        }
    });
    address
}

#[tokio::test]
async fn server_or_proxy_without_tls_1_3_is_named_as_the_cause() {
    // The alert protocol_version (RFC 8446 §6), and a ServerHello of TLS 1.2 (RFC 5246 §7.4.1.3).
    let alert = vec![0x15, 3, 3, 0, 2, 2, 70];
    let body = [&[3, 3][..], &[7; 32], &[0, 0xc0, 0x2b, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[0x16, 3, 3, 0, length + 4, 2, 0, 0, length][..], &body].concat();
    for answer in [alert, hello] {
        let address = older_server(answer).await;
        let client = tidings::client::Client::builder(format!("wss://{address}"));
        match client.connect().await {
            Err(ClientError::Dial(DialError::Failed { reason, .. })) => {
                assert!(reason.contains("does not offer TLS 1.3"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

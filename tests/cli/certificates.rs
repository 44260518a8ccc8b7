//! `tidings cert`, and the certificate for development.

use crate::harness::{Place, mode};

#[test]
fn a_pair_is_made_with_a_private_key_and_its_hash() {
    let place = Place::new();
    let hash = place
        .run(&[
            "cert",
            "--out",
            "certs/own",
            "--name",
            "chat.example.org",
            "--days",
            "10",
        ])
        .ok();
    assert_eq!(hash.trim().len(), 64);
    assert_eq!(mode(&place.path("certs/own/key.pem")), 0o600);
    assert!(
        place
            .read("certs/own/key.pem")
            .starts_with("-----BEGIN PRIVATE KEY-----")
    );
    assert_eq!(
        place.run(&["cert", "--hash", "certs/own/cert.pem"]).ok(),
        hash
    );
    let again = place.run(&["cert", "--out", "certs/own"]);
    again.failed(2, &["certs/own/cert.pem is there already", "--force"]);
    assert_eq!(
        place.run(&["cert", "--hash", "certs/own/cert.pem"]).ok(),
        hash,
        "nothing was written"
    );
    let forced = place.run(&["cert", "--out", "certs/own", "--force"]).ok();
    assert_ne!(forced, hash);
    let long = place.run(&["cert", "--out", "certs/long", "--days", "90"]);
    assert!(long.err.contains("14 days"), "{long:?}");
}

#[test]
fn what_is_no_certificate_is_named() {
    let place = Place::new();
    place.write("text.pem", "hello");
    place
        .run(&["cert", "--hash", "text.pem"])
        .failed(2, &["text.pem: there is no certificate in it"]);
    place
        .run(&["cert", "--hash", "gone.pem"])
        .failed(2, &["cannot read gone.pem"]);
    place
        .run(&["cert", "--out", "x", "--name", "not a name"])
        .failed(
            2,
            &["\"not a name\" is neither a host name nor an IP address"],
        );
    place
        .run(&["cert", "--out", "x", "--days", "0"])
        .failed(2, &["--days"]);
    place.run(&["cert"]).failed(2, &["--out"]);
}

#[test]
fn a_certificate_for_development_is_replaced_when_it_is_of_no_use() {
    let place = Place::new();
    place
        .run(&["cert", "--out", "certs/dev", "--days", "1"])
        .ok();
    let made = |reason: &str| {
        let server = place.start(&[
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ]);
        let line = server.line();
        assert!(
            line.contains("certs/dev/cert.pem: a new self-signed certificate")
                && line.contains(reason),
            "{line}"
        );
        server.out_until("tidings notify 42");
        place.address("certificate_sha256")
    };
    let first = made("expired");
    place.write("certs/dev/key.pem", "nonsense");
    let second = made("the old one cannot be used");
    place
        .run(&[
            "cert",
            "--out",
            "certs/dev",
            "--name",
            "example.org",
            "--force",
        ])
        .ok();
    let third = made("example.org");
    assert!(first != second && second != third);
    std::fs::remove_dir_all(place.path("certs/dev")).unwrap();
    made("there was none");
}

#[test]
fn trusted_file_that_holds_no_certificate_is_named() {
    let place = Place::new();
    place.write("empty.pem", "");
    place.write("text.pem", "hello");
    for (file, wanted) in [
        (
            "empty.pem",
            "empty.pem: the certificate cannot be read: it is empty",
        ),
        ("text.pem", "text.pem: no certificate in the PEM text"),
    ] {
        let args = [
            "sub",
            "--url",
            "quic://127.0.0.1:9",
            "--token",
            "x",
            "--ca",
            file,
        ];
        place.run(&args).failed(2, &[wanted]);
    }
}

#[test]
fn configured_pair_that_is_swapped_or_encrypted_is_named() {
    let place = Place::new();
    place.run(&["cert", "--out", "tls"]).ok();
    place.write(
        "encrypted.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    for (chain, key, wanted) in [
        (
            "tls/key.pem",
            "tls/cert.pem",
            "certificate and private key are swapped",
        ),
        (
            "tls/cert.pem",
            "encrypted.pem",
            "the private key is encrypted",
        ),
    ] {
        let text =
            format!("[tls]\nchain = \"{chain}\"\nkey = \"{key}\"\n[auth]\nanonymous = true\n");
        place.write("tidings.toml", &text);
        let check = place.run(&["config", "check", "--config", "tidings.toml"]);
        let file = format!("{chain} and ");
        check.failed(2, &["tidings.toml: tls: ", &file, key, wanted]);
    }
}

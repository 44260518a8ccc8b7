//! `tidings token`, and what a configured server makes of keys and secrets.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::harness::{Place, Running};

/// A server with these keys, once it is up, and its URL.
fn serve(place: &Place, auth: &str) -> (Running, String) {
    place.run(&["cert", "--out", "tls", "--force"]).ok();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nwebsockets = false\n[tls]\nchain = \"tls/cert.pem\"\nkey = \"tls/key.pem\"\n[auth]\n{auth}\n"
    );
    place.write("tidings.toml", &text);
    let check = place.run(&["config", "check", "--config", "tidings.toml"]);
    assert_eq!(check.ok(), "OK\n");
    let server = place.start(&["serve", "--config", "tidings.toml"]);
    let line = server.out_until("quic://");
    let url = line.split_whitespace().last().unwrap().to_owned();
    (server, url)
}

/// A publication with this token.
fn publish(place: &Place, url: &str, token: &str) -> crate::harness::Done {
    let args = [
        "pub",
        "chat-room-7",
        "hi",
        "--url",
        url,
        "--ca",
        "tls/cert.pem",
    ];
    place.run(&[&args[..], &["--token", token]].concat())
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn issued_token_says_when_it_was_issued() {
    let place = Place::new();
    place.write("token.secret", &"s".repeat(40));
    let before = now();
    let args = ["token", "--user", "42", "--secret-file", "token.secret"];
    let token = place.run(&args).ok();
    let iat = claims(token.trim())["iat"].as_f64().unwrap();
    assert!((before..=now()).contains(&iat), "{iat}");
}

fn now() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs_f64()
}

#[test]
fn token_of_each_algorithm_is_accepted_by_a_configured_server() {
    let place = Place::new();
    let pairs = [
        ("ec", &rcgen::PKCS_ECDSA_P256_SHA256, &["ES256"][..]),
        ("ec384", &rcgen::PKCS_ECDSA_P384_SHA384, &["ES384"]),
        ("ed", &rcgen::PKCS_ED25519, &["EdDSA"]),
        (
            "rsa",
            &rcgen::PKCS_RSA_SHA256,
            &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
        ),
    ];
    let mut keys = Vec::new();
    for (name, kind, algorithms) in pairs {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        place.write(&format!("{name}.pem"), &pair.serialize_pem());
        place.write(&format!("{name}.pub"), &pair.public_key_pem());
        for algorithm in algorithms {
            keys.push(format!(
                "{{ algorithm = \"{algorithm}\", public_key_file = \"{name}.pub\" }}"
            ));
        }
    }
    let (_server, url) = serve(&place, &format!("keys = [{}]", keys.join(", ")));
    for (name, _, algorithms) in pairs {
        let file = format!("{name}.pem");
        let args = ["token", "--user", "42", "--key-file", &file];
        for algorithm in algorithms {
            let token = place.run(&[&args[..], &["--algorithm", algorithm]].concat());
            publish(&place, &url, token.ok().trim()).ok();
        }
        // The algorithm that the key is made for.
        let token = place.run(&args).ok();
        publish(&place, &url, &format!(" \t{token}\r\n")).ok();
    }
    let args = ["token", "--user", "42", "--key-file"];
    for (more, wanted) in [
        (
            &["ec.pem", "--algorithm", "RS256"][..],
            "RS256 needs an RSA key",
        ),
        (
            &["rsa.pem", "--algorithm", "HS256"],
            "HS256 signs with a secret",
        ),
        (
            &["rsa.pem", "--algorithm", "none"],
            "\"none\" is no algorithm",
        ),
        (&["rsa.pub"], "rsa.pub: this is no private key of RS256"),
        (&["gone.pem"], "cannot read gone.pem"),
    ] {
        place.run(&[&args[..], more].concat()).failed(2, &[wanted]);
    }
}

#[test]
fn secret_file_yields_the_same_secret_however_it_was_saved() {
    let place = Place::new();
    let secret = "a secret of more than thirty-two bytes";
    place.write("plain", secret);
    for (name, text) in [
        ("mark", format!("\u{feff}{secret}\n")),
        ("lines", format!("{secret}\r\n\r\n\n")),
        ("space", format!(" \t{secret} ")),
    ] {
        place.write(name, &text);
        let keys = format!("keys = [{{ algorithm = \"HS256\", secret_file = \"{name}\" }}]");
        let (_server, url) = serve(&place, &keys);
        for file in ["plain", name] {
            let args = ["token", "--user", "42", "--secret-file", file];
            let token = place.run(&args).ok();
            publish(&place, &url, token.trim()).ok();
        }
    }
}

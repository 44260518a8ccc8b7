//! Credentials that do not do (PROTOCOL §3.2, §4.1).

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{
    both,
    raw::{Dial, assert_refusal, hello},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tidings::{
    Code, Message,
    auth::{AllowAnonymous, JwtAuthenticator, VerifyingKey},
    client::Transport,
    testing::TestServer,
    wire::frame::Frame,
};

const SECRET: &[u8] = b"thirty-two bytes that nobody knows";

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// Good claims with changes: `null` takes a claim away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "sub": "42",
        "exp": seconds_from_now(3600),
        "aud": "chat",
        "iss": "https://id.example",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn sign(algorithm: Algorithm, claims: &Value, key: &EncodingKey) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

fn hs256(changes: Value) -> String {
    let key = EncodingKey::from_secret(SECRET);
    sign(Algorithm::HS256, &claims(changes), &key)
}

/// A server that takes HS256 and RS256 tokens of one issuer for one audience, and the RSA key.
async fn server() -> (TestServer, rcgen::KeyPair) {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    let keys = vec![
        VerifyingKey::hs256(SECRET).unwrap(),
        VerifyingKey::rs256_pem(rsa.public_key_pem().as_bytes()).unwrap(),
    ];
    let authenticator = JwtAuthenticator::new(keys)
        .unwrap()
        .audience(["chat"])
        .issuer("https://id.example")
        .leeway(Duration::ZERO);
    let server = TestServer::start_with(|builder| builder.authenticator(authenticator)).await;
    (server, rsa)
}

/// What is wrong, the token, the code of the close and a word of its reason.
type Bad = (&'static str, Option<String>, Code, &'static str);

fn bad_tokens(rsa: &rcgen::KeyPair) -> Vec<Bad> {
    let good = hs256(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("not three parts: {good}");
    };
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let admin = hs256(json!({ "sub": "admin" }));
    let admin = admin.split('.').nth(1).unwrap();
    let public = rsa.public_key_pem();
    let confused = EncodingKey::from_secret(public.as_bytes());
    let other = EncodingKey::from_secret(b"another thirty-two bytes or a few");
    let private = EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap();
    let invalid = Code::INVALID_TOKEN;
    let mut bad: Vec<Bad> = vec![("no token", None, Code::UNAUTHENTICATED, "asks for a token")];
    let some = [
        (
            "an empty token",
            String::new(),
            invalid,
            "no JSON Web Token",
        ),
        ("one part", "garbage".into(), invalid, "no JSON Web Token"),
        ("three parts", "a.b.c".into(), invalid, "no JSON Web Token"),
        (
            "expired",
            hs256(json!({ "exp": seconds_from_now(-1) })),
            Code::TOKEN_EXPIRED,
            "expired",
        ),
        (
            "long expired",
            hs256(json!({ "exp": 0 })),
            Code::TOKEN_EXPIRED,
            "expired",
        ),
        (
            "never expires",
            hs256(json!({ "exp": null })),
            invalid,
            "no exp",
        ),
        (
            "not valid yet",
            hs256(json!({ "nbf": seconds_from_now(60) })),
            invalid,
            "not valid yet",
        ),
        (
            "another audience",
            hs256(json!({ "aud": "shop" })),
            invalid,
            "aud",
        ),
        (
            "other audiences",
            hs256(json!({ "aud": ["shop", "Chat"] })),
            invalid,
            "aud",
        ),
        ("no audience", hs256(json!({ "aud": null })), invalid, "aud"),
        (
            "another issuer",
            hs256(json!({ "iss": "https://evil.example" })),
            invalid,
            "iss",
        ),
        ("no issuer", hs256(json!({ "iss": null })), invalid, "iss"),
        ("no user", hs256(json!({ "sub": null })), invalid, "no sub"),
        ("an empty user", hs256(json!({ "sub": "" })), invalid, "sub"),
        (
            "no user's name",
            hs256(json!({ "sub": "a b" })),
            invalid,
            "sub",
        ),
        (
            "a number as user",
            hs256(json!({ "sub": 42 })),
            invalid,
            "malformed",
        ),
        (
            "a misspelt scope",
            hs256(json!({ "tidings": { "publsh": {} } })),
            invalid,
            "publsh",
        ),
        ("alg none", format!("{none}.{payload}."), invalid, "alg"),
        (
            "alg none, signed",
            format!("{none}.{payload}.{signature}"),
            invalid,
            "alg",
        ),
        (
            "the public key as the secret",
            sign(Algorithm::HS256, &claims(json!({})), &confused),
            invalid,
            "signature",
        ),
        (
            "another secret",
            sign(Algorithm::HS256, &claims(json!({})), &other),
            invalid,
            "signature",
        ),
        (
            "an algorithm that nobody has a key for",
            sign(
                Algorithm::HS512,
                &claims(json!({})),
                &EncodingKey::from_secret(SECRET),
            ),
            invalid,
            "alg",
        ),
        (
            "tampered claims",
            format!("{header}.{admin}.{signature}"),
            invalid,
            "signature",
        ),
        (
            "no signature",
            format!("{header}.{payload}."),
            invalid,
            "signature",
        ),
        (
            "a cut signature",
            good[..good.len() - 2].into(),
            invalid,
            "signature",
        ),
        (
            "an expired token of the other algorithm",
            sign(
                Algorithm::RS256,
                &claims(json!({ "exp": seconds_from_now(-1) })),
                &private,
            ),
            Code::TOKEN_EXPIRED,
            "expired",
        ),
        ("9 KiB", "x".repeat(9 * 1024), invalid, "8192 are allowed"),
        (
            "20 KiB",
            "x".repeat(20 * 1024),
            Code::FRAME_TOO_LARGE,
            "16384 are allowed",
        ),
    ];
    bad.extend(some.map(|(what, token, code, word)| (what, Some(token), code, word)));
    bad
}

both!(credentials_that_do_not_do_are_refused_with_a_reason);
async fn credentials_that_do_not_do_are_refused_with_a_reason(transport: Transport) {
    let (server, rsa) = server().await;
    let dial = Dial::new(&server, transport);
    let (mut good, welcome) = dial.welcomed(hs256(json!({}))).await;
    assert_eq!(welcome.user.as_deref(), Some("42"));
    for (what, token, code, word) in bad_tokens(&rsa) {
        let refusal = dial.refused(token.clone()).await;
        assert_refusal(what, &refusal, code, word);
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            assert!(
                !refusal.1.contains(&token),
                "{what}: the reason has the token in it"
            );
        }
        good.publish("chat-room-7", Message::text("undisturbed"))
            .await
            .unwrap();
    }
    let private = EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap();
    let (_, welcome) = dial
        .welcomed(sign(
            Algorithm::RS256,
            &claims(json!({ "sub": "43" })),
            &private,
        ))
        .await;
    assert_eq!(welcome.user.as_deref(), Some("43"));
}

both!(a_public_key_never_verifies_an_hmac);
async fn a_public_key_never_verifies_an_hmac(transport: Transport) {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    let public = rsa.public_key_pem();
    let key = VerifyingKey::rs256_pem(public.as_bytes()).unwrap();
    let authenticator = JwtAuthenticator::new(vec![key]).unwrap();
    let server = TestServer::start_with(|builder| builder.authenticator(authenticator)).await;
    let dial = Dial::new(&server, transport);
    let private = EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap();
    dial.welcomed(sign(Algorithm::RS256, &claims(json!({})), &private))
        .await;
    for secret in [
        public.as_bytes(),
        public.trim().as_bytes(),
        rsa.public_key_raw(),
    ] {
        let token = sign(
            Algorithm::HS256,
            &claims(json!({})),
            &EncodingKey::from_secret(secret),
        );
        let refusal = dial.refused(Some(token)).await;
        assert_refusal("confused", &refusal, Code::INVALID_TOKEN, "no HS256 key");
    }
}

both!(a_reason_is_short_whatever_the_token_says);
async fn a_reason_is_short_whatever_the_token_says(transport: Transport) {
    let (server, _) = server().await;
    let pattern = "ä".repeat(2000);
    let token = hs256(json!({ "tidings": { "subscribe": { "allow": [pattern] } } }));
    let refusal = Dial::new(&server, transport).refused(Some(token)).await;
    assert_refusal(
        "long",
        &refusal,
        Code::INVALID_TOKEN,
        "tidings.subscribe.allow is bad",
    );
    // What WebTransport allows, and what has room in one packet of QUIC.
    assert!(refusal.1.len() <= 1024, "{} bytes", refusal.1.len());
    assert!(!refusal.1.contains('\u{fffd}'), "cut inside of a character");
}

both!(a_token_is_not_ignored_where_none_is_needed);
async fn a_token_is_not_ignored_where_none_is_needed(transport: Transport) {
    let server =
        TestServer::start_with(|builder| builder.authenticator(AllowAnonymous::only())).await;
    let dial = Dial::new(&server, transport);
    let refusal = dial.refused(Some(hs256(json!({})))).await;
    assert_refusal("a token", &refusal, Code::INVALID_TOKEN, "without one");

    let mut raw = dial.open().await;
    raw.send(hello(None)).await;
    match raw.next().await {
        Frame::Welcome(welcome) => assert_eq!(welcome.user, None),
        other => panic!("no Welcome but {other:?}"),
    }
    // Nobody in particular may not do what the rules leave to users.
    let refusal = raw
        .publish("chat-room-7", Message::text("x"))
        .await
        .unwrap_err();
    assert_refusal(
        "anonymous",
        &refusal,
        Code::PERMISSION_DENIED,
        "chat-room-7",
    );
    let refusal = raw.subscribe("user-42").await.unwrap_err();
    assert_refusal("anonymous", &refusal, Code::PERMISSION_DENIED, "user-42");
    let refusal = raw.subscribe("global").await.unwrap_err();
    assert_refusal("automatic", &refusal, Code::ALREADY_SUBSCRIBED, "global");
}

//! Keys are made when a test runs: no private key is part of the project.

use std::sync::LazyLock;

use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    auth::Permissions,
    wire::{Pattern, UserId},
};

mod keys;
mod signatures;
mod times;

const SECRET: &[u8] = b"a secret of thirty-two bytes or so";
/// The time of every test, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

// An RSA key takes long to make, so the tests share one.
static RSA: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
static EC: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
static ED: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_ED25519).unwrap());

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Claims that are good now, with `changes` on top; `null` takes one away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({"sub": "alice", "exp": NOW + 60});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let map = claims.as_object_mut().unwrap();
    map.retain(|_, value| !value.is_null());
    claims
}

fn signed(key: &EncodingKey, header: &Header, claims: &Value) -> String {
    encode(header, claims, key).unwrap()
}

static P384: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());

fn rsa_signer() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA.serialize_pem().as_bytes()).unwrap()
}

/// One key of each algorithm, and what signs for it.
fn one_of_each() -> Vec<(VerifyingKey, EncodingKey)> {
    let pems = [
        (Algorithm::ES256, &*EC),
        (Algorithm::ES384, &*P384),
        (Algorithm::EdDSA, &*ED),
        (Algorithm::RS256, &*RSA),
        (Algorithm::RS384, &*RSA),
        (Algorithm::RS512, &*RSA),
        (Algorithm::PS256, &*RSA),
        (Algorithm::PS384, &*RSA),
        (Algorithm::PS512, &*RSA),
    ];
    let secret = VerifyingKey::hs256(SECRET).unwrap();
    let mut all = vec![(secret, EncodingKey::from_secret(SECRET))];
    for (algorithm, pair) in pems {
        let key = VerifyingKey::from_pem(algorithm, pair.public_key_pem().as_bytes()).unwrap();
        let private = pair.serialize_pem();
        let signer = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(private.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(private.as_bytes()),
            _ => EncodingKey::from_rsa_pem(private.as_bytes()),
        };
        all.push((key, signer.unwrap()));
    }
    all
}

fn hs256(changes: Value) -> String {
    let header = Header::new(Algorithm::HS256.into());
    signed(&EncodingKey::from_secret(SECRET), &header, &claims(changes))
}

fn authenticator() -> JwtAuthenticator {
    JwtAuthenticator::new(vec![VerifyingKey::hs256(SECRET).unwrap()]).unwrap()
}

#[track_caller]
fn assert_invalid(result: Result<Grant, Denied>, reason: &str) {
    match result {
        Err(Denied::Invalid(found)) => assert!(found.contains(reason), "{found}"),
        other => panic!("wanted Invalid with {reason:?}, found {other:?}"),
    }
}

#[test]
fn a_good_token_gives_a_grant_of_its_user() {
    let grant = authenticator().verify(&hs256(json!({})), now()).unwrap();
    let end = now() + Duration::from_secs(60) + DEFAULT_LEEWAY;
    assert_eq!(
        grant,
        Grant::user(UserId::parse("alice").unwrap()).expires_at(end)
    );
}

#[test]
fn a_token_needs_sub_and_it_must_be_a_user() {
    let verify = |changes| authenticator().verify(&hs256(changes), now());
    assert_invalid(verify(json!({"sub": null})), "no sub");
    assert_invalid(
        verify(json!({"sub": 42})),
        "its claims are malformed: sub: invalid type: integer `42`, expected a string",
    );
    assert_invalid(verify(json!({"sub": ""})), "sub cannot be a user");
    assert_invalid(verify(json!({"sub": "a b"})), "' ' at byte 1");
    let long = "u".repeat(UserId::MAX + 1);
    assert_invalid(verify(json!({"sub": long})), "201 bytes");
}

#[test]
fn malformed_claim_is_named() {
    for (changes, wanted) in [
        (
            json!({"exp": "soon"}),
            "exp: invalid type: string \"soon\", expected a number of seconds",
        ),
        (json!({"nbf": true}), "nbf: invalid type: boolean"),
        (json!({"iat": [1]}), "iat: invalid type: sequence"),
        (json!({"iss": 7}), "iss: invalid type: integer `7`"),
        (
            json!({"aud": 7}),
            "aud: a text or a list of texts is needed",
        ),
        (
            json!({"aud": [7]}),
            "aud: a text or a list of texts is needed",
        ),
        (json!({"sub": ["a"]}), "sub: invalid type: sequence"),
        (json!({"tidings": "all"}), "tidings: invalid type: string"),
        (
            json!({"tidings": {"subscribes": {}}}),
            "tidings: unknown field `subscribes`",
        ),
        (
            json!({"tidings": {"publish": 1}}),
            "tidings: publish: invalid",
        ),
        (
            json!({"tidings": {"publish": {"deny": "a"}}}),
            "tidings: publish: deny: invalid type",
        ),
    ] {
        let result = authenticator().verify(&hs256(changes), now());
        let wanted = format!("its claims are malformed: {wanted}");
        assert_invalid(result.clone(), &wanted);
        let text = result.unwrap_err().to_string();
        assert!(!text.contains(" at line "), "{text}");
    }
    let header = Header::new(Algorithm::HS256.into());
    for payload in [json!([]), json!("text"), json!(null)] {
        let token = signed(&EncodingKey::from_secret(SECRET), &header, &payload);
        assert_invalid(
            authenticator().verify(&token, now()),
            "claims are malformed",
        );
    }
}

#[test]
fn white_space_around_a_token_does_not_matter() {
    let token = hs256(json!({}));
    for around in ["\n", "\r\n", " ", "\t\n\n"] {
        let text = format!("{around}{token}{around}");
        assert!(authenticator().verify(&text, now()).is_ok(), "{around:?}");
    }
    let (half, rest) = token.split_at(token.len() / 2);
    for text in [format!("{half}\n{rest}"), format!("Bearer {token}")] {
        assert_invalid(authenticator().verify(&text, now()), "white space inside");
    }
    for text in ["", " \n"] {
        assert_invalid(authenticator().verify(text, now()), "it is empty");
    }
}

#[test]
fn the_audience_is_checked_where_it_is_configured() {
    let here = authenticator().audience(["here", "also-here"]);
    for accepted in [json!("here"), json!(["there", "also-here"])] {
        let token = hs256(json!({"aud": accepted}));
        assert!(here.verify(&token, now()).is_ok(), "{accepted}");
    }
    for refused in [json!("there"), json!(["there"]), json!([]), json!(null)] {
        let token = hs256(json!({"aud": refused}));
        assert_invalid(here.verify(&token, now()), "aud does not name this server");
        let anywhere = authenticator().audience(Vec::<String>::new());
        assert!(anywhere.verify(&token, now()).is_ok(), "{refused}");
    }
    let odd = hs256(json!({"aud": 7}));
    assert_invalid(authenticator().verify(&odd, now()), "malformed");
}

#[test]
fn the_issuer_is_checked_where_it_is_configured() {
    let trusting = authenticator().issuer("https://issuer.example");
    let good = hs256(json!({"iss": "https://issuer.example"}));
    assert!(trusting.verify(&good, now()).is_ok());
    for changes in [json!({"iss": "https://other.example"}), json!({})] {
        let token = hs256(changes);
        assert_invalid(trusting.verify(&token, now()), "iss is not the issuer");
        assert!(authenticator().verify(&token, now()).is_ok());
    }
}

#[test]
fn permissions_of_a_token_become_those_of_the_grant() {
    let token = hs256(json!({"tidings": {
        "subscribe": {"allow": ["room-{room}"], "deny": ["room-7", "global"]},
        "publish": {"allow": ["room-*"]},
    }}));
    let grant = authenticator().verify(&token, now()).unwrap();
    let patterns = |texts: &[&str]| {
        let parsed = texts.iter().map(|text| Pattern::parse(text));
        parsed.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(
        grant.subscribe,
        Permissions {
            allow: patterns(&["room-{room}"]),
            deny: patterns(&["room-7", "global"]),
        }
    );
    assert_eq!(
        grant.publish,
        Permissions {
            allow: patterns(&["room-*"]),
            deny: Vec::new(),
        }
    );
}

#[test]
fn permissions_that_are_not_understood_are_refused() {
    let verify = |tidings| authenticator().verify(&hs256(json!({"tidings": tidings})), now());
    assert_invalid(
        verify(json!({"subscribe": {"deny": ["a{"]}})),
        "tidings.subscribe.deny is bad: in the pattern \"a{\"",
    );
    assert_invalid(
        verify(json!({"publish": {"allow": vec!["a"; 65]}})),
        "tidings.publish.allow has 65 patterns, 64 are allowed",
    );
    assert!(verify(json!({"publish": {"allow": vec!["a"; 64]}})).is_ok());
    for unknown in [
        json!("all"),
        json!({"subscribes": {}}),
        json!({"subscribe": ["a"]}),
        json!({"subscribe": {"denied": ["a"]}}),
        json!({"subscribe": {"deny": "a"}}),
        json!({"subscribe": {"deny": [1]}}),
        json!({"subscribe": {"deny": null}}),
    ] {
        assert_invalid(verify(unknown), "claims are malformed");
    }
}

#[test]
fn an_issued_token_carries_all_its_claims() {
    let user = UserId::parse("alice").unwrap();
    let permissions = |allow: &str, deny: &str| Permissions {
        allow: vec![Pattern::parse(allow).unwrap()],
        deny: vec![Pattern::parse(deny).unwrap()],
    };
    let (subscribe, publish) = (permissions("a-*", "a-b"), permissions("c-{x}", "c-d"));
    let token = TokenIssuer::new(SECRET).unwrap().issue_with(
        Claims::new(&user, now() + Duration::from_secs(60))
            .not_before(now())
            .audience(["here", "there"])
            .issuer("me")
            .subscribe(&subscribe)
            .publish(&publish),
    );
    let strict = authenticator().audience(["there"]).issuer("me");
    let grant = strict.verify(&token, now()).unwrap();
    assert_eq!(
        (grant.user, grant.subscribe, grant.publish),
        (Some(user), subscribe, publish)
    );
    let early = now() - DEFAULT_LEEWAY - Duration::from_secs(1);
    assert_invalid(strict.verify(&token, early), "not valid yet");
}

#[test]
fn an_issued_token_is_good_from_now_whatever_its_length() {
    let issuer = TokenIssuer::new(SECRET).unwrap();
    let user = UserId::parse("alice").unwrap();
    for valid_for in [Duration::from_secs(60), Duration::MAX] {
        let token = issuer.issue(&user, valid_for);
        let grant = authenticator().verify(&token, SystemTime::now()).unwrap();
        assert_eq!(grant.user.as_ref(), Some(&user));
    }
    assert!(TokenIssuer::new("short").is_err());
    // Each says when, so that it can follow a revocation.
    let before = SystemTime::now() - Duration::from_micros(1);
    for token in [
        issuer.issue(&user, Duration::from_secs(60)),
        issuer.issue_with(Claims::new(&user, now() + Duration::from_secs(3600))),
    ] {
        let grant = authenticator().verify(&token, SystemTime::now()).unwrap();
        let issued_at = grant.issued_at.unwrap();
        assert!((before..=SystemTime::now()).contains(&issued_at));
    }
    for time in [
        now(),
        now() + Duration::from_micros(123_456),
        now() + Duration::from_micros(1),
    ] {
        let claims = Claims::new(&user, now() + Duration::from_secs(60)).issued_at(time);
        let grant = authenticator()
            .verify(&issuer.issue_with(claims), now())
            .unwrap();
        assert_eq!(grant.issued_at, Some(time));
    }
    assert!(!format!("{issuer:?}").contains("secret"));
}

//! Keys: what is refused, and what a key set yields.

use jsonwebtoken::jwk::Jwk;

use super::*;

/// `key` as a JSON Web Key, with `changes` on top.
fn jwk(key: &VerifyingKey, changes: Value) -> Value {
    let jwk = Jwk::from_decoding_key(key.decoding_key(), None).unwrap();
    let mut value = serde_json::to_value(jwk).unwrap();
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    value
}

fn ec() -> VerifyingKey {
    VerifyingKey::es256_pem(EC.public_key_pem().as_bytes()).unwrap()
}

fn from_set(keys: &[Value]) -> Result<Vec<VerifyingKey>, InvalidKey> {
    VerifyingKey::from_jwks(&json!({ "keys": keys }).to_string())
}

#[test]
fn a_secret_must_be_long_and_secret() {
    assert_eq!(
        VerifyingKey::hs256(&[7; 31]).unwrap_err(),
        InvalidKey::SecretTooShort(31)
    );
    assert!(VerifyingKey::hs256(&[7; 32]).is_ok());
    for public in [RSA.public_key_pem(), format!("\n {}", EC.public_key_pem())] {
        assert_eq!(
            VerifyingKey::hs256(public.as_bytes()).unwrap_err(),
            InvalidKey::SecretIsPem
        );
        assert_eq!(
            TokenIssuer::new(&public).unwrap_err(),
            InvalidKey::SecretIsPem
        );
    }
}

#[test]
fn a_key_is_only_accepted_for_its_own_algorithm() {
    type Parse = fn(&[u8]) -> Result<VerifyingKey, InvalidKey>;
    let parsers: [(Algorithm, Parse); 3] = [
        (Algorithm::ES256, VerifyingKey::es256_pem),
        (Algorithm::EdDSA, VerifyingKey::eddsa_pem),
        (Algorithm::RS256, VerifyingKey::rs256_pem),
    ];
    let publics = [
        (Algorithm::ES256, EC.public_key_pem()),
        (Algorithm::EdDSA, ED.public_key_pem()),
        (Algorithm::RS256, RSA.public_key_pem()),
    ];
    for (algorithm, parse) in parsers {
        for (own, public) in &publics {
            let parsed = parse(public.as_bytes()).map(|key| key.algorithm());
            if *own == algorithm {
                assert_eq!(parsed, Ok(algorithm));
            } else {
                assert_eq!(parsed, Err(InvalidKey::Pem(algorithm)), "{own}");
            }
        }
        for bad in [
            "",
            "garbage",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert_eq!(error, InvalidKey::Pem(algorithm), "{bad:?}");
        }
        for private in [EC.serialize_pem(), ED.serialize_pem(), RSA.serialize_pem()] {
            let error = parse(private.as_bytes()).unwrap_err();
            assert_eq!(error, InvalidKey::NotPublic("a private key"));
        }
    }
}

#[test]
fn a_key_on_another_curve_is_refused() {
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert_eq!(
        VerifyingKey::es256_pem(p384.public_key_pem().as_bytes()).unwrap_err(),
        InvalidKey::Key(Algorithm::ES256)
    );
}

#[test]
fn a_certificate_is_not_taken_for_a_key() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    assert_eq!(
        VerifyingKey::es256_pem(certified.cert.pem().as_bytes()).unwrap_err(),
        InvalidKey::NotPublic("a certificate")
    );
}

#[test]
fn no_key_and_too_many_keys_are_errors() {
    let key = VerifyingKey::hs256(SECRET).unwrap();
    assert_eq!(
        JwtAuthenticator::new(Vec::new()).unwrap_err(),
        InvalidKey::NoKey
    );
    assert!(JwtAuthenticator::new(vec![key.clone(); MAX_KEYS]).is_ok());
    assert_eq!(
        JwtAuthenticator::new(vec![key; MAX_KEYS + 1]).unwrap_err(),
        InvalidKey::TooManyKeys(65)
    );
}

#[test]
fn a_key_set_yields_a_working_key_of_each_type() {
    let pairs = one_of_each();
    let set: Vec<_> = pairs
        .iter()
        .map(|(key, _)| {
            jwk(
                key,
                json!({"kid": format!("the-{}", key.algorithm()), "use": "sig"}),
            )
        })
        .collect();
    let keys = from_set(&set).unwrap();
    let found: Vec<_> = keys.iter().map(|key| (key.algorithm(), key.id())).collect();
    assert_eq!(
        found,
        [
            (Algorithm::HS256, Some("the-HS256")),
            (Algorithm::ES256, Some("the-ES256")),
            (Algorithm::EdDSA, Some("the-EdDSA")),
            (Algorithm::RS256, Some("the-RS256")),
        ]
    );
    let authenticator = JwtAuthenticator::new(keys).unwrap();
    for (key, signer) in pairs {
        let algorithm = key.algorithm();
        let mut header = Header::new(algorithm.into());
        header.kid = Some(format!("the-{algorithm}"));
        let token = signed(&signer, &header, &claims(json!({})));
        assert!(authenticator.verify(&token, now()).is_ok(), "{algorithm}");
    }
}

#[test]
fn keys_of_no_use_are_skipped_and_nothing_left_is_an_error() {
    let useless = [
        jwk(&ec(), json!({"use": "enc"})),
        jwk(&ec(), json!({"alg": "ES384"})),
        jwk(&ec(), json!({"alg": "made-up"})),
        jwk(&ec(), json!({"key_ops": ["sign"]})),
        jwk(&ec(), json!({"crv": "P-384"})),
        jwk(&ec(), json!({"crv": "secp256k1"})),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AAAA"}),
        json!({"kty": 7}),
        json!("text"),
    ];
    for key in &useless {
        let error = from_set(std::slice::from_ref(key)).unwrap_err();
        assert_eq!(error, InvalidKey::NoKey, "{key}");
    }
    let mut set = useless.to_vec();
    set.push(jwk(&ec(), json!({"key_ops": ["verify"]})));
    assert_eq!(from_set(&set).unwrap().len(), 1);
    assert_eq!(from_set(&[]).unwrap_err(), InvalidKey::NoKey);
}

#[test]
fn a_bad_key_of_a_set_is_named_by_its_place() {
    // 170 times six bits and then four more, all set: a modulus of 1024 bits.
    let modulus = format!("{}8", "_".repeat(170));
    for (bad, reason) in [
        (
            json!({"kty": "RSA", "n": modulus, "e": "AQAB"}),
            InvalidKey::RsaSize(1024),
        ),
        (
            json!({"kty": "RSA", "n": "", "e": "AQAB"}),
            InvalidKey::RsaSize(0),
        ),
        (
            json!({"kty": "RSA", "e": "AQAB"}),
            InvalidKey::Key(Algorithm::RS256),
        ),
        (
            json!({"kty": "oct", "k": "c2hvcnQ"}),
            InvalidKey::SecretTooShort(5),
        ),
        (
            jwk(&ec(), json!({"x": "AAAA"})),
            InvalidKey::Key(Algorithm::ES256),
        ),
        (
            jwk(&ec(), json!({"kid": 7})),
            InvalidKey::Key(Algorithm::ES256),
        ),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
            InvalidKey::Key(Algorithm::EdDSA),
        ),
    ] {
        let set = [jwk(&ec(), json!({})), bad];
        let reason = Box::new(reason);
        assert_eq!(
            from_set(&set).unwrap_err(),
            InvalidKey::Jwk { index: 1, reason }
        );
    }
}

#[test]
fn text_that_is_no_key_set_is_refused_without_repeating_it() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys": {}}"#,
        r#"{"keys": "my-secret"}"#,
    ] {
        let error = VerifyingKey::from_jwks(text).unwrap_err();
        assert!(matches!(error, InvalidKey::Jwks(_)), "{text}");
        assert!(!error.to_string().contains("my-secret"), "{error}");
    }
}

#[test]
fn keys_do_not_print_themselves() {
    let key = VerifyingKey::hs256(SECRET).unwrap().with_id("first");
    let authenticator = JwtAuthenticator::new(vec![key]).unwrap();
    let text = format!("{authenticator:?}");
    assert!(text.contains("first") && text.contains("HS256"), "{text}");
    assert!(
        !text.contains("secret") && !text.contains("97, 32"),
        "{text}"
    );
}

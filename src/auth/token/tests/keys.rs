//! Keys: what is refused, and what a key set yields.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;

use super::*;

/// `key` as a JSON Web Key, with `changes` on top.
fn jwk(key: &VerifyingKey, changes: Value) -> Value {
    let jwk = Jwk::from_decoding_key(key.decoding_key(), None).unwrap();
    let mut value = serde_json::to_value(jwk).unwrap();
    let names: &[&str] = match key.algorithm() {
        Algorithm::ES384 => &["x", "y"],
        _ => &[],
    };
    assert!(
        names
            .iter()
            .all(|name| value[name].as_str().unwrap().len() == 64)
    );
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
                let found = own.key_kind();
                assert_eq!(
                    parsed,
                    Err(InvalidKey::WrongKind { algorithm, found }),
                    "{own}"
                );
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
        InvalidKey::WrongKind {
            algorithm: Algorithm::ES256,
            found: "an EC key on P-384"
        }
    );
}

#[test]
fn several_keys_in_one_file_are_refused_and_text_around_one_is_not() {
    let one = EC.public_key_pem();
    for pem in [
        format!("\u{feff}{one}"),
        one.replace('\n', "\r\n"),
        format!("Key of the issuer:\n{one}\nThat was it.\n"),
    ] {
        assert!(VerifyingKey::es256_pem(pem.as_bytes()).is_ok(), "{pem}");
    }
    let two = format!("{one}{one}");
    assert_eq!(
        VerifyingKey::es256_pem(two.as_bytes()).unwrap_err(),
        InvalidKey::SeveralBlocks(2)
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
            let algorithm = key.algorithm();
            let kid = format!("the-{algorithm}");
            jwk(key, json!({"kid": kid, "use": "sig", "alg": algorithm}))
        })
        .collect();
    let keys = from_set(&set).unwrap();
    assert_eq!(keys.len(), pairs.len());
    let authenticator = JwtAuthenticator::new(keys.clone()).unwrap();
    for ((key, signer), found) in pairs.into_iter().zip(&keys) {
        let algorithm = key.algorithm();
        let kid = format!("the-{algorithm}");
        assert_eq!((found.algorithm(), found.id()), (algorithm, Some(&*kid)));
        let mut header = Header::new(algorithm.into());
        header.kid = Some(kid);
        let token = signed(&signer, &header, &claims(json!({})));
        assert!(authenticator.verify(&token, now()).is_ok(), "{algorithm}");
    }
}

/// Whether a set of this key alone verifies a token that `signer` signs.
fn verifies(key: Value, algorithm: Algorithm, signer: &EncodingKey) -> bool {
    let authenticator = JwtAuthenticator::new(from_set(&[key]).unwrap()).unwrap();
    let token = signed(signer, &Header::new(algorithm.into()), &claims(json!({})));
    authenticator.verify(&token, now()).is_ok()
}

#[test]
fn rsa_key_without_alg_verifies_every_rsa_algorithm() {
    let all = one_of_each();
    for (key, signer) in all.iter().filter(|(key, _)| key.algorithm().is_rsa()) {
        let algorithm = key.algorithm();
        assert!(
            verifies(jwk(key, json!({})), algorithm, signer),
            "{algorithm}"
        );
        for named in Algorithm::RSA {
            let accepted = verifies(jwk(key, json!({"alg": named})), algorithm, signer);
            assert_eq!(accepted, *named == algorithm, "{named} for {algorithm}");
        }
    }
}

#[test]
fn leading_zeros_of_a_number_do_not_matter() {
    let decode = |text: &Value| {
        BASE64_URL_SAFE_NO_PAD
            .decode(text.as_str().unwrap())
            .unwrap()
    };
    for (key, signer) in one_of_each() {
        let names = match key.algorithm() {
            Algorithm::ES256 | Algorithm::ES384 => ["x", "y"],
            algorithm if algorithm.is_rsa() => ["n", "e"],
            _ => continue,
        };
        let plain = jwk(&key, json!({}));
        for name in names {
            for zeros in [1, 2, 200] {
                let mut number = vec![0; zeros];
                number.extend(decode(&plain[name]));
                let number = BASE64_URL_SAFE_NO_PAD.encode(number);
                let padded = jwk(&key, json!({ name: number }));
                let algorithm = key.algorithm();
                assert!(
                    verifies(padded, algorithm, &signer),
                    "{algorithm} {name} {zeros}"
                );
            }
        }
    }
    // A coordinate that begins with a zero byte, of which one key in 128 has one, written as the number that it is.
    let (pair, name) = (0..10_000)
        .find_map(|_| {
            let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
            let raw = pair.public_key_raw();
            let name = match (raw[1], raw[33]) {
                (0, _) => "x",
                (_, 0) => "y",
                _ => return None,
            };
            Some((pair, name))
        })
        .unwrap();
    let key = VerifyingKey::es256_pem(pair.public_key_pem().as_bytes()).unwrap();
    let number = decode(&jwk(&key, json!({}))[name]);
    let short = BASE64_URL_SAFE_NO_PAD.encode(&number[1..]);
    let signer = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    assert!(verifies(
        jwk(&key, json!({ name: short })),
        Algorithm::ES256,
        &signer
    ));
}

#[test]
fn keys_of_no_use_are_skipped_and_nothing_left_is_an_error() {
    let useless = [
        jwk(&ec(), json!({"use": "enc"})),
        jwk(&ec(), json!({"alg": "ES512"})),
        jwk(&ec(), json!({"alg": "made-up"})),
        jwk(&ec(), json!({"key_ops": ["sign"]})),
        jwk(&ec(), json!({"crv": "P-521"})),
        jwk(&ec(), json!({"crv": "secp256k1"})),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AAAA"}),
        json!({"kty": "ec", "crv": "P-256"}),
        json!("text"),
    ];
    for key in &useless {
        let error = from_set(std::slice::from_ref(key)).unwrap_err();
        assert!(
            matches!(error, InvalidKey::NoUsableKey(_)),
            "{key}: {error}"
        );
        assert!(
            error.to_string().contains("key 0: its") || !key.is_object(),
            "{error}"
        );
    }
    let many = from_set(&useless).unwrap_err().to_string();
    assert!(
        many.contains("its use is \"enc\"") && many.contains("and 6 more"),
        "{many}"
    );
    let mut set = useless.to_vec();
    set.push(jwk(
        &ec(),
        json!({"key_ops": ["verify"], "x5c": "odd", "ext": 7, "use": null, "alg": null, "kid": null, "d": null}),
    ));
    assert_eq!(from_set(&set).unwrap().len(), 1);
    assert_eq!(from_set(&[]).unwrap_err(), InvalidKey::NoKey);
}

#[test]
fn two_keys_with_one_id_are_both_tried() {
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let second = VerifyingKey::es256_pem(other.public_key_pem().as_bytes()).unwrap();
    let set = [ec(), second].map(|key| jwk(&key, json!({"kid": "one"})));
    let authenticator = JwtAuthenticator::new(from_set(&set).unwrap()).unwrap();
    let mut header = Header::new(Algorithm::ES256.into());
    header.kid = Some("one".to_owned());
    for pair in [&*EC, &other] {
        let signer = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let token = signed(&signer, &header, &claims(json!({})));
        assert!(authenticator.verify(&token, now()).is_ok());
    }
}

#[test]
fn a_bad_key_of_a_set_is_named_by_its_place() {
    // 170 times six bits and then four more, all set: a modulus of 1024 bits.
    let modulus = format!("{}8", "_".repeat(170));
    let pairs = one_of_each();
    let of = |algorithm| {
        &pairs
            .iter()
            .find(|(key, _)| key.algorithm() == algorithm)
            .unwrap()
            .0
    };
    let (es384, rsa) = (of(Algorithm::ES384), of(Algorithm::RS256));
    let member = |name, problem| InvalidKey::Member { name, problem };
    let base64 = "is not base64url without padding (RFC 7515 §2)";
    let long = "has more bytes than a coordinate of its curve";
    let flipped = |key: &VerifyingKey, name: &str| {
        let plain = jwk(key, json!({}));
        let mut number = BASE64_URL_SAFE_NO_PAD
            .decode(plain[name].as_str().unwrap())
            .unwrap();
        *number.last_mut().unwrap() ^= 1;
        jwk(key, json!({ name: BASE64_URL_SAFE_NO_PAD.encode(number) }))
    };
    let padded = jwk(&ec(), json!({}))["x"].as_str().unwrap().to_owned() + "=";
    for (bad, reason) in [
        (
            json!({"kty": "RSA", "n": modulus, "e": "AQAB"}),
            InvalidKey::RsaSize(1024),
        ),
        (
            json!({"kty": "RSA", "n": "AAAA", "e": "AQAB"}),
            InvalidKey::RsaSize(0),
        ),
        (
            json!({"kty": "RSA", "n": "", "e": "AQAB"}),
            member("n", "is empty"),
        ),
        (
            json!({"kty": "RSA", "e": "AQAB"}),
            member("n", "is missing"),
        ),
        (jwk(rsa, json!({"e": null})), member("e", "is missing")),
        (
            jwk(rsa, json!({"e": "AQ"})),
            InvalidKey::Key(Algorithm::RS256),
        ),
        (
            jwk(rsa, json!({"e": "AA"})),
            InvalidKey::Key(Algorithm::RS256),
        ),
        (
            jwk(rsa, json!({"e": "Ag"})),
            InvalidKey::Key(Algorithm::RS256),
        ),
        (flipped(rsa, "n"), InvalidKey::Key(Algorithm::RS256)),
        (
            jwk(rsa, json!({"n": "_".repeat(5000)})),
            member("n", "is too long"),
        ),
        (
            jwk(rsa, json!({"d": "AQAB"})),
            InvalidKey::NotPublic("a private key"),
        ),
        (
            jwk(&ec(), json!({"d": "AQAB"})),
            InvalidKey::NotPublic("a private key"),
        ),
        (
            jwk(rsa, json!({"alg": "ES256"})),
            InvalidKey::AlgorithmMismatch("ES256".into()),
        ),
        (
            jwk(&ec(), json!({"alg": "HS256"})),
            InvalidKey::AlgorithmMismatch("HS256".into()),
        ),
        (
            jwk(&ec(), json!({"alg": "ES384"})),
            InvalidKey::AlgorithmMismatch("ES384".into()),
        ),
        (
            json!({"kty": "oct", "k": "c2hvcnQ"}),
            InvalidKey::SecretTooShort(5),
        ),
        (
            json!({"kty": "oct", "k": format!("{}=", "A".repeat(43))}),
            member("k", base64),
        ),
        (
            jwk(&ec(), json!({"x": "AAAA"})),
            InvalidKey::Key(Algorithm::ES256),
        ),
        (jwk(&ec(), json!({"x": padded})), member("x", base64)),
        (jwk(&ec(), json!({"y": "+/+/"})), member("y", base64)),
        (jwk(&ec(), json!({"x": "_".repeat(44)})), member("x", long)),
        (jwk(es384, json!({"crv": "P-256"})), member("x", long)),
        (flipped(&ec(), "y"), InvalidKey::Key(Algorithm::ES256)),
        (jwk(&ec(), json!({"kid": 7})), member("kid", "is no text")),
        (jwk(&ec(), json!({"use": 7})), member("use", "is no text")),
        (jwk(&ec(), json!({"alg": 7})), member("alg", "is no text")),
        (
            jwk(&ec(), json!({"key_ops": "verify"})),
            member("key_ops", "is no list"),
        ),
        (
            json!({"kty": "EC", "x": "AAAA"}),
            member("crv", "is missing"),
        ),
        (json!({"keys": []}), member("kty", "is missing")),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
            member("x", "does not have the 32 bytes of an Ed25519 key"),
        ),
    ] {
        let set = [jwk(&ec(), json!({})), bad.clone()];
        let reason = Box::new(reason);
        assert_eq!(
            from_set(&set).unwrap_err(),
            InvalidKey::Jwk { index: 1, reason },
            "{bad}"
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
        r#"{"kty": "oct", "k": "my-secret"}"#,
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

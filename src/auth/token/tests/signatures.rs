//! Which key verifies which token, and what is no token at all.

use super::*;

fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
    let mut header = Header::new(algorithm.into());
    header.kid = kid.map(str::to_owned);
    header
}

#[test]
fn a_token_of_each_algorithm_is_accepted_by_its_key_alone() {
    let all = one_of_each();
    let together = JwtAuthenticator::new(all.iter().map(|(key, _)| key.clone()).collect()).unwrap();
    for (index, (key, signer)) in all.iter().enumerate() {
        let algorithm = key.algorithm();
        let token = signed(signer, &header(algorithm, None), &claims(json!({})));
        assert!(together.verify(&token, now()).is_ok(), "{algorithm}");
        for (other, (verifier, _)) in all.iter().enumerate() {
            let alone = JwtAuthenticator::new(vec![verifier.clone()]).unwrap();
            let accepted = alone.verify(&token, now()).is_ok();
            assert_eq!(accepted, index == other, "{algorithm} by {verifier:?}");
        }
    }
}

#[test]
fn algorithms_are_spelled_as_in_a_token() {
    for (algorithm, text) in [
        (Algorithm::HS256, "HS256"),
        (Algorithm::ES256, "ES256"),
        (Algorithm::ES384, "ES384"),
        (Algorithm::EdDSA, "EdDSA"),
        (Algorithm::RS256, "RS256"),
        (Algorithm::RS384, "RS384"),
        (Algorithm::RS512, "RS512"),
        (Algorithm::PS256, "PS256"),
        (Algorithm::PS384, "PS384"),
        (Algorithm::PS512, "PS512"),
    ] {
        assert_eq!(serde_json::to_value(algorithm).unwrap(), text);
        assert_eq!(
            serde_json::from_value::<Algorithm>(text.into()).unwrap(),
            algorithm
        );
        assert_eq!(algorithm.to_string(), text);
    }
}

#[test]
fn a_public_key_is_not_accepted_as_an_hmac_secret() {
    let public = RSA.public_key_pem();
    let key = VerifyingKey::rs256_pem(public.as_bytes()).unwrap();
    let authenticator = JwtAuthenticator::new(vec![key]).unwrap();
    let forger = EncodingKey::from_secret(public.as_bytes());
    let forged = signed(&forger, &header(Algorithm::HS256, None), &claims(json!({})));
    assert_invalid(authenticator.verify(&forged, now()), "no HS256 key");

    // The same token with its header exchanged, so that it claims to be of the key's algorithm.
    let honest = signed(
        &rsa_signer(),
        &header(Algorithm::RS256, None),
        &claims(json!({})),
    );
    let (honest_header, _) = honest.split_once('.').unwrap();
    let (_, rest) = forged.split_once('.').unwrap();
    let mixed = format!("{honest_header}.{rest}");
    assert_invalid(authenticator.verify(&mixed, now()), "does not verify");
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let token = hs256(json!({}));
    let (signed_part, _) = token.rsplit_once('.').unwrap();
    let (_, payload) = signed_part.split_once('.').unwrap();
    // {"alg":"none"}, {"alg":"None"}, {"typ":"JWT"}
    for header in [
        "eyJhbGciOiJub25lIn0",
        "eyJhbGciOiJOb25lIn0",
        "eyJ0eXAiOiJKV1QifQ",
    ] {
        let unsigned = format!("{header}.{payload}.");
        assert_invalid(
            authenticator().verify(&unsigned, now()),
            "header names no alg",
        );
    }
    let stripped = format!("{signed_part}.");
    assert_invalid(authenticator().verify(&stripped, now()), "does not verify");
}

#[test]
fn a_token_of_another_algorithm_of_the_family_is_refused() {
    for alg in [
        jsonwebtoken::Algorithm::HS384,
        jsonwebtoken::Algorithm::HS512,
    ] {
        let signer = EncodingKey::from_secret(SECRET);
        let token = signed(&signer, &Header::new(alg), &claims(json!({})));
        assert_invalid(authenticator().verify(&token, now()), "alg is not one of");
    }
    let pss = Header::new(jsonwebtoken::Algorithm::PS256);
    let token = signed(&rsa_signer(), &pss, &claims(json!({})));
    assert_invalid(authenticator().verify(&token, now()), "no PS256 key");
}

#[test]
fn a_token_that_was_changed_anywhere_is_refused() {
    for (key, signer) in one_of_each() {
        // One RSA algorithm is enough: the others differ in the hash and the padding.
        if key.algorithm().is_rsa() && key.algorithm() != Algorithm::PS256 {
            continue;
        }
        let authenticator = JwtAuthenticator::new(vec![key.clone()]).unwrap();
        let header = header(key.algorithm(), None);
        let token = signed(&signer, &header, &claims(json!({})));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            let result = authenticator.verify(&changed, now());
            assert!(matches!(result, Err(Denied::Invalid(_))), "byte {at}");
        }
        for end in 0..token.len() {
            assert!(authenticator.verify(&token[..end], now()).is_err());
        }
        let other = signed(&signer, &header, &claims(json!({"sub": "mallory"})));
        let (_, foreign) = other.rsplit_once('.').unwrap();
        let (honest, _) = token.rsplit_once('.').unwrap();
        let swapped = format!("{honest}.{foreign}");
        assert_invalid(authenticator.verify(&swapped, now()), "does not verify");
    }
}

#[test]
fn garbage_is_refused_with_a_reason_that_does_not_repeat_it() {
    for garbage in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "Bearer x.y.z",
        "\u{1f980}.\u{1f980}.\u{1f980}",
        "bnVsbA.bnVsbA.bnVsbA",
        "{}",
    ] {
        assert_invalid(authenticator().verify(garbage, now()), "");
    }
    let secret = "very-secret-token.very-secret-token.very-secret-token";
    let denied = authenticator().verify(secret, now()).unwrap_err();
    assert!(!denied.to_string().contains("very-secret"));
}

#[test]
fn a_token_is_measured_before_it_is_parsed() {
    let length = |filler: usize| hs256(json!({"filler": "x".repeat(filler)}));
    let base = length(0).len();
    let most = (MAX_TOKEN - base) * 3 / 4;
    let (fits, above) = (length(most - 3), length(most + 3));
    assert!(fits.len() <= MAX_TOKEN && fits.len() > MAX_TOKEN - 16);
    assert!(authenticator().verify(&fits, now()).is_ok());
    assert!(above.len() > MAX_TOKEN);
    assert_invalid(authenticator().verify(&above, now()), "8192 are allowed");
}

#[test]
fn a_key_id_chooses_the_key() {
    let key = |secret: &[u8]| VerifyingKey::hs256(secret).unwrap();
    let (one, two) = ([1_u8; 32], [2_u8; 32]);
    let token = |secret: &[u8], kid| {
        let signer = EncodingKey::from_secret(secret);
        signed(&signer, &header(Algorithm::HS256, kid), &claims(json!({})))
    };
    let named =
        JwtAuthenticator::new(vec![key(&one).with_id("one"), key(&two).with_id("two")]).unwrap();
    assert!(named.verify(&token(&two, Some("two")), now()).is_ok());
    assert!(named.verify(&token(&two, None), now()).is_ok());
    assert_invalid(
        named.verify(&token(&two, Some("one")), now()),
        "does not verify",
    );
    assert_invalid(
        named.verify(&token(&two, Some("three")), now()),
        "no HS256 key that its header asks for",
    );
    let nameless = JwtAuthenticator::new(vec![key(&one).with_id("one"), key(&two)]).unwrap();
    assert!(nameless.verify(&token(&two, Some("three")), now()).is_ok());
}

#[test]
fn what_the_issuer_calls_critical_is_not_skipped() {
    let mut header = header(Algorithm::HS256, None);
    header.crit = Some(vec!["exp-in-header".to_owned()]);
    let token = signed(
        &EncodingKey::from_secret(SECRET),
        &header,
        &claims(json!({})),
    );
    assert_invalid(authenticator().verify(&token, now()), "crit");
}

#[test]
fn claims_that_stand_twice_are_refused() {
    // serde_json's values cannot hold a name twice, so the payload is a type that writes one.
    #[derive(serde::Serialize)]
    struct Twice {
        sub: &'static str,
        #[serde(rename = "sub")]
        again: &'static str,
        exp: u64,
    }
    let twice = Twice {
        sub: "alice",
        again: "root",
        exp: NOW + 60,
    };
    let header = header(Algorithm::HS256, None);
    let token = encode(&header, &twice, &EncodingKey::from_secret(SECRET)).unwrap();
    assert_invalid(authenticator().verify(&token, now()), "malformed");
}

#[test]
fn a_token_without_kid_is_verified_with_one_key_in_each_turn() {
    let keys: Vec<_> = (0..MAX_KEYS)
        .map(|n| {
            VerifyingKey::hs256(format!("secret number {n:02} of thirty-two bytes").as_bytes())
        })
        .map(Result::unwrap)
        .collect();
    let authenticator = JwtAuthenticator::new(keys).unwrap();
    let foreign = EncodingKey::from_secret(b"another secret of thirty-two bytes");
    let token = signed(&foreign, &Header::default(), &claims(json!({})));
    let from = ([127, 0, 0, 1], 1).into();
    let credentials = Credentials::new(Some(&token), "test", from, now());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (mut turns, denied) = runtime.block_on(async {
        let mut verified = authenticator.authenticate(&credentials);
        let mut turns = 0;
        let denied = std::future::poll_fn(|cx| {
            turns += 1;
            verified.as_mut().poll(cx)
        })
        .await;
        (turns, denied)
    });
    assert!(matches!(denied, Err(Denied::Invalid(_))), "{denied:?}");
    // The runtime may poll more often.
    turns -= 1;
    assert!(turns >= MAX_KEYS, "{turns} turns for {MAX_KEYS} keys");
}

//! `exp`, `nbf` and the leeway.

use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_token_ends_when_the_leeway_after_exp_is_over() {
    let token = hs256(json!({"exp": NOW}));
    let authenticator = authenticator();
    let almost = at(NOW + 5) - Duration::from_millis(1);
    for accepted in [at(NOW - 1), at(NOW), almost] {
        let grant = authenticator.verify(&token, accepted).unwrap();
        let end = grant.expires_at.unwrap();
        assert_eq!(end, at(NOW + 5));
        assert!(end > accepted, "a session does not end as it starts");
    }
    for refused in [at(NOW + 5), at(NOW + 6)] {
        assert_eq!(authenticator.verify(&token, refused), Err(Denied::Expired));
    }
    let strict = authenticator.leeway(Duration::ZERO);
    assert!(strict.verify(&token, at(NOW - 1)).is_ok());
    assert_eq!(strict.verify(&token, at(NOW)), Err(Denied::Expired));
}

#[test]
fn a_token_starts_the_leeway_before_nbf() {
    let token = hs256(json!({"nbf": NOW, "exp": NOW + 60}));
    let authenticator = authenticator();
    assert!(authenticator.verify(&token, at(NOW)).is_ok());
    assert!(authenticator.verify(&token, at(NOW - 5)).is_ok());
    let early = at(NOW - 5) - Duration::from_millis(1);
    assert_invalid(authenticator.verify(&token, early), "not valid yet");
    let strict = authenticator.leeway(Duration::ZERO);
    assert_invalid(strict.verify(&token, at(NOW - 1)), "not valid yet");
}

#[test]
fn the_leeway_is_bounded() {
    let endless = authenticator().leeway(Duration::MAX);
    let token = hs256(json!({"exp": NOW}));
    assert!(endless.verify(&token, at(NOW + 3599)).is_ok());
    assert_eq!(endless.verify(&token, at(NOW + 3600)), Err(Denied::Expired));
    let last = hs256(json!({"exp": u64::MAX}));
    assert!(endless.verify(&last, now()).is_ok());
}

#[test]
fn a_token_without_an_end_is_refused() {
    let token = hs256(json!({"exp": null}));
    assert_invalid(authenticator().verify(&token, now()), "no exp");
    for odd in [json!("1800000060"), json!(true), json!([NOW + 60])] {
        let token = hs256(json!({"exp": odd}));
        assert_invalid(authenticator().verify(&token, now()), "malformed");
    }
}

#[test]
fn an_end_beyond_all_clocks_is_read_as_the_year_9999() {
    let end = at(253_402_300_799) + DEFAULT_LEEWAY;
    for exp in [
        json!(u64::MAX),
        json!(i64::MAX),
        json!(1e300),
        json!(f64::MAX),
        json!(253_402_300_800_u64),
    ] {
        let grant = authenticator()
            .verify(&hs256(json!({"exp": exp})), now())
            .unwrap();
        assert_eq!(grant.expires_at, Some(end), "{exp}");
    }
    let far = hs256(json!({"nbf": u64::MAX}));
    assert_invalid(authenticator().verify(&far, now()), "not valid yet");
}

#[test]
fn times_may_have_a_fraction_and_may_be_before_1970() {
    let grant = authenticator()
        .verify(
            &hs256(json!({"exp": NOW as f64 + 60.9, "nbf": -1.5})),
            now(),
        )
        .unwrap();
    assert_eq!(grant.expires_at, Some(at(NOW + 60) + DEFAULT_LEEWAY));
    for exp in [json!(-1), json!(-1e300), json!(i64::MIN), json!(0)] {
        let token = hs256(json!({"exp": exp}));
        assert_eq!(
            authenticator().verify(&token, now()),
            Err(Denied::Expired),
            "{exp}"
        );
    }
}

#[test]
fn a_clock_before_1970_does_no_harm() {
    let before = UNIX_EPOCH - Duration::from_secs(1);
    assert!(authenticator().verify(&hs256(json!({})), before).is_ok());
}

#[test]
fn time_of_issue_that_is_far_ahead_counts_as_absent() {
    let issued_at = |iat| {
        let token = hs256(json!({"iat": iat}));
        authenticator().verify(&token, now()).unwrap().issued_at
    };
    assert_eq!(issued_at(NOW - 7), Some(at(NOW - 7)));
    // A clock that is ahead by the leeway.
    assert_eq!(issued_at(NOW + 5), Some(at(NOW + 5)));
    assert_eq!(issued_at(NOW + 6), None);
    // Milliseconds in place of seconds.
    assert_eq!(issued_at(NOW * 1000), None);
}

use std::sync::Arc;

use super::*;
use crate::wire::{ChannelName, Pattern, UserId};

const SECRET: &[u8] = b"a secret of thirty-two bytes or so";

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn credentials(token: Option<&str>) -> Credentials<'_> {
    Credentials::new(
        token,
        "test",
        ([127, 0, 0, 1], 4433).into(),
        SystemTime::now(),
    )
}

fn jwt() -> JwtAuthenticator {
    JwtAuthenticator::new(vec![VerifyingKey::hs256(SECRET).unwrap()]).unwrap()
}

fn token() -> String {
    TokenIssuer::new(SECRET)
        .unwrap()
        .issue(&user("alice"), std::time::Duration::from_secs(60))
}

#[test]
fn each_denial_has_the_code_of_the_specification() {
    let reason = || "reason".to_owned();
    for (denied, code) in [
        (Denied::Missing, Code::UNAUTHENTICATED),
        (Denied::Invalid(reason()), Code::INVALID_TOKEN),
        (Denied::Expired, Code::TOKEN_EXPIRED),
        (Denied::Forbidden(reason()), Code::PERMISSION_DENIED),
        (Denied::Unavailable(reason()), Code::OVERLOADED),
    ] {
        assert_eq!(denied.code(), code, "{denied}");
    }
}

#[test]
fn credentials_do_not_print_the_token() {
    let text = format!("{:?}", credentials(Some("very-secret")));
    assert!(!text.contains("very-secret") && text.contains("redacted"));
}

#[test]
fn deny_wins_over_allow_and_what_neither_names_is_left_open() {
    let permissions = Permissions {
        allow: vec![Pattern::parse("room-{room}").unwrap()],
        deny: vec![Pattern::parse("room-7").unwrap()],
    };
    let decide = |name: &str| permissions.decide(&ChannelName::parse(name).unwrap());
    assert_eq!(decide("room-6"), Some(true));
    assert_eq!(decide("room-7"), Some(false));
    assert_eq!(decide("global"), None);
    assert_eq!(Permissions::default().decide(&ChannelName::global()), None);
}

#[tokio::test]
async fn anonymous_only_lets_in_without_a_token_and_refuses_one() {
    let everyone = AllowAnonymous::only();
    assert_eq!(
        everyone.authenticate(&credentials(None)).await,
        Ok(Grant::anonymous())
    );
    let denied = everyone
        .authenticate(&credentials(Some(&token())))
        .await
        .unwrap_err();
    assert_eq!(denied.code(), Code::INVALID_TOKEN);
    assert!(denied.to_string().contains("connect without one"));
}

#[tokio::test]
async fn anonymous_or_asks_the_other_where_there_is_a_token() {
    let either = AllowAnonymous::or(jwt());
    assert_eq!(
        either.authenticate(&credentials(None)).await,
        Ok(Grant::anonymous())
    );
    let grant = either
        .authenticate(&credentials(Some(&token())))
        .await
        .unwrap();
    assert_eq!(grant.user, Some(user("alice")));
    for bad in ["garbage", ""] {
        let denied = either.authenticate(&credentials(Some(bad))).await;
        assert_eq!(denied.unwrap_err().code(), Code::INVALID_TOKEN);
    }
}

#[tokio::test]
async fn without_a_token_nobody_gets_past_the_jwt_authenticator() {
    assert_eq!(
        jwt().authenticate(&credentials(None)).await,
        Err(Denied::Missing)
    );
}

#[tokio::test]
async fn an_authenticator_may_be_shared_and_chosen_at_run_time() {
    let shared: Arc<dyn Authenticator> = Arc::new(jwt());
    let either = AllowAnonymous::or(Arc::clone(&shared));
    let token = token();
    for authenticator in [shared, Arc::new(either)] {
        let grant = authenticator
            .authenticate(&credentials(Some(&token)))
            .await
            .unwrap();
        assert_eq!(grant.user, Some(user("alice")));
    }
}

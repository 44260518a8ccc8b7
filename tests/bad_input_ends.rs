//! Sessions that the server ends: at the end of a token's time, and by user code (PROTOCOL §6, §7).

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{
    both,
    raw::{Bystander, Dial, assert_refusal},
};
use futures_util::StreamExt;
use tidings::{
    Code, Message,
    auth::{Claims, Rules},
    client::Transport,
    endpoint::{Endpoint, Session},
    testing::TestServer,
    wire::frame::Frame,
};

both!(the_end_of_a_tokens_time_closes_the_session);
async fn the_end_of_a_tokens_time_closes_the_session(transport: Transport) {
    let server = TestServer::start().await;
    let mut bystander = Bystander::join(&server, transport).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end = UNIX_EPOCH + Duration::from_secs(now.as_secs() + 2);
    let claims = Claims::new(&"42".parse().unwrap(), end);
    let token = server.issuer().issue_with(claims);
    let (mut raw, _) = Dial::new(&server, transport).welcomed(token.clone()).await;
    raw.publish("chat-room-7", Message::text("still good"))
        .await
        .unwrap();
    let refusal = raw.closed().await;
    let now = SystemTime::now();
    assert_refusal(
        "expiry",
        &refusal,
        Code::TOKEN_EXPIRED,
        "token's time is over",
    );
    let late = now.duration_since(end).expect("not before its time");
    assert!(late < Duration::from_secs(2), "late by {late:?}");
    bystander.is_undisturbed().await;
    let refusal = Dial::new(&server, transport).refused(Some(token)).await;
    assert_refusal("again", &refusal, Code::TOKEN_EXPIRED, "expired");
}

/// User code that ends sessions: of `early` before Welcome, of `late` when it is published to, of `long` with many words.
struct Bouncer;

const EARLY: Code = Code(Code::APPLICATION.0 + 7);
const LATE: Code = Code(2999);

#[async_trait::async_trait]
impl Endpoint for Bouncer {
    async fn session_opened(&self, session: &Session) {
        match session.user().map(|user| user.as_str()) {
            Some("early") => session.close(EARLY, "not on the list"),
            Some("long") => session.close(EARLY, &"not on the list ä".repeat(1000)),
            Some("late") => {
                let gong = "chat-room-gong".parse().unwrap();
                let mut gong = session.broker().subscribe(&gong).unwrap();
                let host = session.clone();
                session.spawn(async move {
                    gong.next().await;
                    host.close(LATE, "closing time");
                    host.close(EARLY, "the first call counts");
                });
            }
            _ => {}
        }
    }
}

both!(user_code_closes_with_codes_of_its_own);
async fn user_code_closes_with_codes_of_its_own(transport: Transport) {
    let server = TestServer::start_with(|builder| builder.endpoint(Bouncer)).await;
    let mut bystander = Bystander::join(&server, transport).await;
    let dial = Dial::new(&server, transport);

    let refusal = dial.refused(Some(server.token("early"))).await;
    assert_refusal("early", &refusal, EARLY, "not on the list");
    bystander.is_undisturbed().await;

    let refusal = dial.refused(Some(server.token("long"))).await;
    assert_refusal("long", &refusal, EARLY, "not on the list");
    assert!(
        refusal.1.len() <= 1024 && !refusal.1.contains('\u{fffd}'),
        "{}",
        refusal.1
    );
    bystander.is_undisturbed().await;

    let (mut late, _) = dial.welcomed(server.token("late")).await;
    let (mut other, _) = dial.welcomed(server.token("other")).await;
    late.ping().await;
    other
        .publish("chat-room-gong", Message::text("gong"))
        .await
        .unwrap();
    assert_refusal("late", &late.closed().await, LATE, "closing time");
    other.ping().await;
    bystander.is_undisturbed().await;
}

both!(a_session_without_streams_hears_that_the_server_goes_away);
async fn a_session_without_streams_hears_that_the_server_goes_away(transport: Transport) {
    let no_rules = Rules::new(Vec::new()).unwrap();
    let mut server = TestServer::start_with(|builder| builder.rules(no_rules)).await;
    let token = server.token("42");
    let (mut raw, welcome) = Dial::new(&server, transport).welcomed(token).await;
    assert_eq!(welcome.subscriptions, []);
    server.begin_stop();
    let heard = raw.next().await;
    assert!(
        matches!(&heard, Frame::GoAway(told) if told.code == Code::GOING_AWAY),
        "{heard:?}"
    );
    let refusal = raw.closed().await;
    assert_refusal("drain", &refusal, Code::GOING_AWAY, "shutting down");
}

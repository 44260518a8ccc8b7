//! Live sessions: new credentials without a new connection (PROTOCOL §4.13), and what the server orders from outside.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{each, publication};
use tidings::{
    ChannelName, Code, Message, UserId,
    auth::{JwtAuthenticator, Permissions, VerifyingKey, token::Claims},
    client::{Client, ClientError, Event, State, Subscription, Transport},
    server::http::ApiKey,
    testing::TestServer,
    wire::Pattern,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// A token of user 1 that allows these channels beyond the rules.
fn token(server: &TestServer, allow: &[&str], valid_for: Duration) -> String {
    let allow = allow.iter().map(|pattern| Pattern::parse(pattern).unwrap());
    let permissions = Permissions {
        allow: allow.collect(),
        deny: Vec::new(),
    };
    let claims = Claims::new(&user("1"), SystemTime::now() + valid_for)
        .subscribe(&permissions)
        .publish(&permissions);
    server.issuer().issue_with(claims)
}

/// A token of a user that was issued at a time, and says so in whole seconds.
fn issued(server: &TestServer, name: &str, at: SystemTime, valid_for: Duration) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap();
    let at = UNIX_EPOCH + Duration::from_secs(since.as_secs());
    let claims = Claims::new(&user(name), at + valid_for).issued_at(at);
    server.issuer().issue_with(claims)
}

async fn client(server: &TestServer, transport: Transport, token: String) -> Client {
    let builder = server.client_builder(transport).token(token);
    builder.connect().await.unwrap()
}

async fn end(subscription: &mut Subscription) -> Code {
    match subscription.next().await {
        Some(Event::End { code, .. }) => code,
        other => panic!("no End but {other:?}"),
    }
}

/// Waits until so many sessions are open.
async fn open(server: &TestServer, count: usize) {
    while server.sessions().count() != count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

each!(a_refresh_changes_what_a_session_may);
async fn a_refresh_changes_what_a_session_may(transport: Transport) {
    let server = TestServer::start().await;
    let before = token(&server, &["game-*", "map-*"], HOUR);
    let client = client(&server, transport, before).await;
    let session = client.welcome().unwrap().session;
    let mut game = client.subscribe("game-1").await.unwrap();
    let mut map = client.subscribe("map-1").await.unwrap();
    let expires = client
        .refresh(token(&server, &["map-*", "quiz-*"], HOUR))
        .await;
    let left = expires.unwrap().unwrap().duration_since(SystemTime::now());
    assert!(left.unwrap() > HOUR - Duration::from_secs(60));
    // What is no longer allowed ends, and what still is goes on.
    assert_eq!(end(&mut game).await, Code::PERMISSION_DENIED);
    drop(game);
    let refused = client.subscribe("game-1").await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PERMISSION_DENIED));
    let refused = client.publish("game-1", Message::text("x")).await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::PERMISSION_DENIED));
    client.publish("map-1", Message::text("x")).await.unwrap();
    assert_eq!(publication(&mut map).await.offset, 1);
    client.subscribe("quiz-1").await.unwrap();
    assert_eq!(
        client.welcome().unwrap().session,
        session,
        "no new connection"
    );
}

each!(a_refresh_prolongs_a_session);
async fn a_refresh_prolongs_a_session(transport: Transport) {
    let server = TestServer::start().await;
    let (short, long) = (Duration::from_secs(2), HOUR);
    let client = client(&server, transport, token(&server, &[], short)).await;
    let session = client.welcome().unwrap().session;
    client.refresh(token(&server, &[], long)).await.unwrap();
    tokio::time::sleep(short + Duration::from_millis(500)).await;
    client.ping().await.unwrap();
    assert_eq!(client.welcome().unwrap().session, session);
    // It may shorten it as well.
    client.refresh(token(&server, &[], short)).await.unwrap();
    // Far sooner than a session looks at the time of a token that is good for long.
    let closed = tokio::time::timeout(Duration::from_secs(6), client.closed()).await;
    assert_eq!(closed.unwrap().0, Some(Code::TOKEN_EXPIRED));
}

each!(the_next_connection_shows_the_token_that_was_refreshed);
async fn the_next_connection_shows_the_token_that_was_refreshed(transport: Transport) {
    let server = TestServer::start().await;
    let client = client(&server, transport, token(&server, &[], HOUR)).await;
    let session = client.welcome().unwrap().session;
    client
        .refresh(token(&server, &["game-*"], HOUR))
        .await
        .unwrap();
    let comes_back = Code(2000);
    for session in server.sessions().of_user(&user("1")) {
        session.close(comes_back, "try again");
    }
    let mut states = client.states();
    states
        .wait_for(|state| matches!(state, State::Connected(new) if new.session != session))
        .await
        .unwrap();
    client.subscribe("game-1").await.unwrap();
}

each!(what_the_server_gave_stays_with_a_narrower_token);
async fn what_the_server_gave_stays_with_a_narrower_token(transport: Transport) {
    let server = TestServer::start().await;
    let client = client(&server, transport, token(&server, &["game-*"], HOUR)).await;
    let session = server.sessions().of_user(&user("1")).remove(0);
    session.subscribe(&channel("game-1")).unwrap();
    let mut given = client.subscribe("game-1").await.unwrap();
    let mut asked = client.subscribe("game-2").await.unwrap();
    client.refresh(token(&server, &[], HOUR)).await.unwrap();
    assert_eq!(end(&mut asked).await, Code::PERMISSION_DENIED);
    server
        .broker()
        .post(&channel("game-1"), Message::text("x"))
        .unwrap();
    assert_eq!(publication(&mut given).await.offset, 1);
}

each!(a_refused_refresh_changes_nothing);
async fn a_refused_refresh_changes_nothing(transport: Transport) {
    let server = TestServer::start().await;
    let client = client(&server, transport, token(&server, &["game-*"], HOUR)).await;
    let mut game = client.subscribe("game-1").await.unwrap();
    let expired = token(&server, &[], Duration::ZERO);
    for (token, code) in [
        (server.token("2"), Code::PERMISSION_DENIED),
        ("nonsense".to_owned(), Code::INVALID_TOKEN),
        (expired, Code::TOKEN_EXPIRED),
    ] {
        match client.refresh(token).await {
            Err(ClientError::Request { code: refused, .. }) => assert_eq!(refused, code),
            other => panic!("{other:?}"),
        }
    }
    client.publish("game-1", Message::text("x")).await.unwrap();
    assert_eq!(publication(&mut game).await.offset, 1);
}

each!(the_server_subscribes_and_unsubscribes_a_user);
async fn the_server_subscribes_and_unsubscribes_a_user(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let refused = client.subscribe("secret").await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PERMISSION_DENIED));
    let sessions = server.sessions().of_user(&user("1"));
    let [session] = &sessions[..] else {
        panic!("one session, not {}", sessions.len())
    };
    session.subscribe(&channel("secret")).unwrap();
    let mut secret = client.subscribe("secret").await.unwrap();
    server
        .broker()
        .post(&channel("secret"), Message::text("x"))
        .unwrap();
    assert_eq!(publication(&mut secret).await.offset, 1);
    assert!(session.unsubscribe(&channel("secret")));
    assert_eq!(end(&mut secret).await, Code::ENDED);
    assert!(!session.unsubscribe(&channel("secret")), "there is none");
    drop(secret);
    let refused = client.subscribe("secret").await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PERMISSION_DENIED));
    client.ping().await.unwrap();
}

each!(a_revoked_user_is_out_until_new_credentials_are_issued);
async fn a_revoked_user_is_out_until_new_credentials_are_issued(transport: Transport) {
    let server = TestServer::start().await;
    let old = server.token("1");
    let (one, two) = (
        client(&server, transport, old.clone()).await,
        client(&server, transport, old.clone()).await,
    );
    let other = server.client("2", transport).await.unwrap();
    let revocation = server.sessions().revoke(&user("1"), HOUR).unwrap();
    assert_eq!(revocation.sessions, 2);
    assert_eq!(revocation.expires, Some(revocation.issued_before + HOUR));
    for client in [one, two] {
        assert_eq!(client.closed().await.0, Some(Code::REVOKED));
    }
    other.ping().await.unwrap();
    let builder = server.client_builder(transport).token(old);
    let refused = builder.connect().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::REVOKED));
    // Every token that is issued says when.
    for new in [server.token("1"), token(&server, &[], HOUR)] {
        client(&server, transport, new).await;
    }
    // It is forgotten after its time, and is another for each user.
    // A shorter revocation does not end a longer one, and one beyond every clock lasts.
    for (name, times) in [("1", [HOUR, Duration::ZERO]), ("3", [Duration::MAX, HOUR])] {
        let old = issued(&server, name, SystemTime::now() - SECOND, HOUR);
        let revoke = |time| server.sessions().revoke(&user(name), time).unwrap();
        let [first, second] = times.map(revoke);
        assert_eq!(first.expires, second.expires);
        assert_eq!(first.expires.is_none(), name == "3");
        let builder = server.client_builder(transport).token(old);
        let refused = builder.connect().await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::REVOKED), "{name}");
    }
    // It is over after its time.
    server
        .sessions()
        .revoke(&user("4"), Duration::ZERO)
        .unwrap();
    server.client("4", transport).await.unwrap();
}

each!(tokens_issued_after_a_revocation_are_accepted_at_once);
async fn tokens_issued_after_a_revocation_are_accepted_at_once(transport: Transport) {
    let server = TestServer::start().await;
    // Most issuers write whole seconds: the tokens before and after may say the same one. This goes on until they do.
    let (revocation, second) = loop {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let second = UNIX_EPOCH + Duration::from_secs(since.as_secs());
        let old = issued(&server, "1", second, HOUR);
        let session = client(&server, transport, old).await;
        let revocation = server.sessions().revoke(&user("1"), HOUR).unwrap();
        assert_eq!(session.closed().await.0, Some(Code::REVOKED));
        if revocation.issued_before < second + SECOND {
            break (revocation, second);
        }
    };
    assert_eq!(revocation.sessions, 1);
    for (issued_at, valid_for, accepted) in [
        (second, HOUR + SECOND, true),
        (second + SECOND, HOUR, true),
        (second + 2 * SECOND, HOUR, true),
        // Of the session that was ended.
        (second, HOUR, false),
        (second - SECOND, HOUR + SECOND, false),
        (second - HOUR, 3 * HOUR, false),
    ] {
        let token = issued(&server, "1", issued_at, valid_for);
        let connected = server.client_builder(transport).token(token).connect();
        let code = connected.await.err().and_then(|error| error.code());
        let wanted = (!accepted).then_some(Code::REVOKED);
        assert_eq!(code, wanted, "{issued_at:?} {valid_for:?}");
    }
}

each!(token_without_iat_is_refused_after_a_revocation);
async fn token_without_iat_is_refused_after_a_revocation(transport: Transport) {
    const SECRET: &[u8] = b"thirty-two bytes of a secret, or a few more";
    let authenticator = JwtAuthenticator::new(vec![VerifyingKey::hs256(SECRET).unwrap()]).unwrap();
    let server = TestServer::start_with(|builder| builder.authenticator(authenticator)).await;
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + HOUR;
    let claims = serde_json::json!({ "sub": "1", "exp": end.as_secs() });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    client(&server, transport, token.clone()).await;
    server.sessions().revoke(&user("1"), HOUR).unwrap();
    let builder = server.client_builder(transport).token(token);
    let refused = builder.connect().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::REVOKED));
}

each!(sessions_are_listed_while_they_are_open);
async fn sessions_are_listed_while_they_are_open(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let anonymous = server.client_builder(transport).connect().await;
    assert!(anonymous.is_err(), "who is refused is not listed");
    let other = server.client("2", transport).await.unwrap();
    open(&server, 2).await;
    let first = server.sessions().page(None, 1).unwrap();
    let rest = server.sessions().page(Some(&first[0].id()), 10).unwrap();
    assert_eq!((first.len(), rest.len()), (1, 1));
    assert_ne!(first[0].id(), rest[0].id());
    assert!(server.sessions().page(Some("x"), 1).is_none());
    let found = server.sessions().find(&rest[0].id()).unwrap();
    assert_eq!(found.user(), rest[0].user());
    assert!(server.sessions().find("0123456789abcdef").is_none());
    drop((first, rest, found));
    client.close().await;
    open(&server, 1).await;
    assert!(server.sessions().of_user(&user("1")).is_empty());
    let code = Code(1234);
    server.sessions().of_user(&user("2"))[0].close(code, "out");
    assert_eq!(other.closed().await, (Some(code), "out".to_owned()));
    open(&server, 0).await;
}

each!(a_session_says_how_far_its_subscriptions_are);
async fn a_session_says_how_far_its_subscriptions_are(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let mut stalled = client.subscribe("chat-room-1").await.unwrap();
    let session = server.sessions().of_user(&user("1")).remove(0);
    let progress = || {
        let all = session.subscriptions();
        assert_eq!(all.len(), 3, "user-1, global and the room");
        let mut room = all
            .into_iter()
            .filter(|at| at.name == channel("chat-room-1"));
        room.next().unwrap()
    };
    assert_eq!((progress().position.offset, progress().behind), (0, 0));
    const COUNT: u64 = 60;
    for _ in 0..COUNT {
        let big = Message::data("a/b", vec![7; 60_000]);
        server.broker().post(&channel("chat-room-1"), big).unwrap();
    }
    // The stream takes some of it, and the rest stands behind.
    while progress().waiting_bytes == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let at = progress();
    assert!(at.of_channel && at.behind > 0, "{at:?}");
    assert_eq!(at.position.offset + at.behind, COUNT);
    let mut missed = 0;
    let mut next = 1;
    while next <= COUNT {
        let event = stalled.next().await.unwrap();
        missed += event.missed().unwrap();
        next += event.missed().unwrap().max(1);
    }
    assert!(missed > 0, "it was not slow");
    assert_eq!((progress().lagged, progress().behind), (missed, 0));
}

/// One POST with the key; the answer's JSON.
async fn post(server: &TestServer, path: &str, body: &str) -> serde_json::Value {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = server.http_address().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

const KEY: &str = "a-key-of-more-than-16-bytes";

each!(a_backend_directs_sessions_over_http);
async fn a_backend_directs_sessions_over_http(transport: Transport) {
    let server = TestServer::start_with(|builder| {
        builder.http(([127, 0, 0, 1], 0).into(), ApiKey::new(KEY).unwrap())
    })
    .await;
    let client = server.client("1", transport).await.unwrap();
    open(&server, 1).await;
    let listed = post(&server, "/v1/sessions", r#"{"user": "1"}"#).await;
    let [session] = &listed["sessions"].as_array().unwrap()[..] else {
        panic!("{listed}")
    };
    assert_eq!(session["user"], "1");
    assert_eq!(session["transport"], transport.to_string());
    let subscriptions = session["subscriptions"].as_array().unwrap();
    let names = subscriptions.iter().map(|at| at["name"].as_str().unwrap());
    let names: Vec<_> = names.collect();
    assert_eq!(names, ["user-1", "global"]);
    let id = session["id"].as_str().unwrap();
    let all = post(&server, "/v1/sessions", "{}").await;
    assert_eq!(all["sessions"][0]["id"], id);
    let after = post(&server, "/v1/sessions", &format!(r#"{{"after": "{id}"}}"#)).await;
    assert_eq!(after["sessions"].as_array().unwrap().len(), 0);

    let secret = format!(r#"{{"session": "{id}", "channel": "secret"}}"#);
    let done = |sessions, changed| serde_json::json!({"sessions": sessions, "changed": changed});
    assert_eq!(post(&server, "/v1/subscribe", &secret).await, done(1, 1));
    assert_eq!(post(&server, "/v1/subscribe", &secret).await, done(1, 0));
    let mut subscription = client.subscribe("secret").await.unwrap();
    let unsubscribed = post(&server, "/v1/unsubscribe", &secret).await;
    assert_eq!(unsubscribed, done(1, 1));
    assert_eq!(end(&mut subscription).await, Code::ENDED);

    let refused = post(&server, "/v1/disconnect", r#"{"user": "1", "code": 401}"#).await;
    assert_eq!(refused["error"]["code"], "invalid_request");
    for body in ["{}", r#"{"user": "1", "session": "2"}"#] {
        let refused = post(&server, "/v1/disconnect", body).await;
        assert_eq!(refused["error"]["code"], "invalid_request", "{body}");
    }
    client.ping().await.unwrap();
    let body = r#"{"user": "1", "code": 1001, "reason": "signed out"}"#;
    assert_eq!(post(&server, "/v1/disconnect", body).await, done(1, 1));
    let closed = client.closed().await;
    assert_eq!(closed, (Some(Code(1001)), "signed out".to_owned()));

    let again = server.client("1", transport).await.unwrap();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let revoked = post(&server, "/v1/revoke", r#"{"user": "1"}"#).await;
    let issued_before = revoked["issued_before"].as_u64().unwrap();
    assert!(u128::from(issued_before) >= before.as_millis(), "{revoked}");
    let wanted = serde_json::json!({
        "sessions": 1, "changed": 1, "issued_before": issued_before, "expires": issued_before + 86_400_000,
    });
    assert_eq!(revoked, wanted);
    assert_eq!(again.closed().await.0, Some(Code::REVOKED));
    for (seconds, length) in [
        ("0", Some(0)),
        ("90", Some(90_000)),
        ("18446744073709551615", None),
    ] {
        let body = format!(r#"{{"user": "{seconds}", "seconds": {seconds}}}"#);
        let revoked = post(&server, "/v1/revoke", &body).await;
        assert_eq!(revoked["sessions"], 0);
        let issued_before = revoked["issued_before"].as_u64().unwrap();
        let expires = length.map(|length: u64| issued_before + length);
        assert_eq!(revoked["expires"], serde_json::json!(expires), "{revoked}");
    }
}

//! Tokens that are renewed before they end, and token sources that have none.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use common::{each, publication, text};
use tidings::{
    auth::{Authenticator, Credentials, Denied, Grant},
    client::{Builder, Client, ClientError, Event, State, TokenError, Transport},
    testing::TestServer,
};

/// Counts calls of a token source.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicUsize>);

impl Asked {
    fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A client whose token number `n`, from 0, is what `token` makes of it.
fn client(
    server: &TestServer,
    transport: Transport,
    asked: &Asked,
    token: impl Fn(usize) -> Result<String, TokenError> + Send + Sync + 'static,
) -> Builder {
    let asked = asked.clone();
    server.client_builder(transport).token_provider(move || {
        let token = token(asked.next());
        async { token }
    })
}

fn end(client: &Client) -> Option<SystemTime> {
    client.welcome().unwrap().expires
}

each!(a_token_is_renewed_before_it_ends);
async fn a_token_is_renewed_before_it_ends(transport: Transport) {
    let server = TestServer::start().await;
    let tokens = [
        server.token_for("1", Duration::from_secs(5)),
        server.token("1"),
    ];
    let asked = Asked::default();
    let client = client(&server, transport, &asked, move |number| {
        tokens
            .get(number)
            .cloned()
            .ok_or_else(|| "asked too often".into())
    });
    let client = client.connect().await.unwrap();
    let mut global = client.subscribe("global").await.unwrap();
    let (session, first) = (client.welcome().unwrap().session, end(&client));
    // Until the server says another end.
    while end(&client) == first {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let half_an_hour = SystemTime::now() + Duration::from_secs(1800);
    assert!(end(&client).unwrap() > half_an_hour);
    assert_eq!(client.welcome().unwrap().session, session);
    assert_eq!(asked.count(), 2);
    server.broker().announce("x").unwrap();
    assert_eq!(text(&publication(&mut global).await), "x", "and no break");
}

/// Nothing in it depends on the transport.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_a_token_is_asked_again_before_the_end() {
    let server = TestServer::start().await;
    let tokens = [
        Some(server.token_for("1", Duration::from_secs(10))),
        None,
        Some(server.token("1")),
    ];
    let asked = Asked::default();
    let client = client(&server, Transport::Quic, &asked, move |number| {
        tokens
            .get(number)
            .cloned()
            .flatten()
            .ok_or_else(|| "none now".into())
    });
    let client = client.connect().await.unwrap();
    let (session, first) = (client.welcome().unwrap().session, end(&client));
    while end(&client) == first {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.welcome().unwrap().session, session);
    assert_eq!(asked.count(), 3);
}

/// Lets everybody in for no time at all, or for next to none.
struct Brief(Duration);

#[async_trait::async_trait]
impl Authenticator for Brief {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Grant, Denied> {
        let grant = Grant::user("1".parse().unwrap());
        Ok(match credentials.current {
            None => grant.expires_at(credentials.now + Duration::from_secs(4)),
            Some(_) => grant.expires_at(credentials.now + self.0),
        })
    }
}

each!(ends_that_are_past_or_too_near_cause_no_busy_loop);
async fn ends_that_are_past_or_too_near_cause_no_busy_loop(transport: Transport) {
    for lifetime in [Duration::ZERO, Duration::from_millis(900)] {
        let brief = Brief(lifetime);
        let server = TestServer::start_with(|builder| builder.authenticator(brief)).await;
        let asked = Asked::default();
        let client = client(&server, transport, &asked, |_| Ok("x".to_owned()));
        let client = client.reconnect(false).connect().await.unwrap();
        client.closed().await;
        // One for the connection, and one renewal.
        assert_eq!(asked.count(), 2, "{lifetime:?}");
    }
}

each!(a_custom_authenticator_tells_the_client_when_to_renew);
async fn a_custom_authenticator_tells_the_client_when_to_renew(transport: Transport) {
    let brief = Brief(Duration::from_secs(3600));
    let server = TestServer::start_with(|builder| builder.authenticator(brief)).await;
    let asked = Asked::default();
    let client = client(&server, transport, &asked, |_| Ok("no JWT".to_owned()));
    let client = client.reconnect(false).connect().await.unwrap();
    let first = end(&client).unwrap();
    while end(&client) == Some(first) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(asked.count(), 2);
}

each!(a_token_that_never_ends_is_never_renewed);
async fn a_token_that_never_ends_is_never_renewed(transport: Transport) {
    let server = TestServer::start_with(|builder| {
        builder.authenticator(tidings::auth::AllowAnonymous::only())
    })
    .await;
    let client = server.client_builder(transport).connect().await.unwrap();
    assert_eq!(end(&client), None);
    client.ping().await.unwrap();
}

each!(a_user_who_is_signed_out_is_not_connected_again);
async fn a_user_who_is_signed_out_is_not_connected_again(transport: Transport) {
    let server = TestServer::start().await;
    let asked = Asked::default();
    let none = client(&server, transport, &asked, |_| Err(TokenError::SignedOut));
    let refused = none.connect().await.unwrap_err();
    assert!(matches!(refused, ClientError::SignedOut), "{refused}");

    // While the client connects again.
    let tokens = server.token("1");
    let asked = Asked::default();
    let token = move |number| match number {
        0 => Ok(tokens.clone()),
        1 => Err("none now".into()),
        _ => Err(TokenError::SignedOut),
    };
    let again = client(&server, transport, &asked, token)
        .connect()
        .await
        .unwrap();
    let mut global = again.subscribe("global").await.unwrap();
    let session = again.welcome().unwrap().session;
    let session = server.sessions().find(&session).unwrap();
    session.close(tidings::Code(2000), "come back");
    let (code, reason) = again.closed().await;
    assert_eq!((code, reason.as_str()), (None, "the user is signed out"));
    assert!(matches!(global.next().await, Some(Event::End { .. })));
    assert!(matches!(again.state(), State::Closed { .. }));
    assert_eq!(asked.count(), 3);

    // While the session lives.
    let short = server.token_for("1", Duration::from_secs(5));
    let asked = Asked::default();
    let token = move |number| match number {
        0 => Ok(short.clone()),
        _ => Err(TokenError::SignedOut),
    };
    let live = client(&server, transport, &asked, token)
        .connect()
        .await
        .unwrap();
    assert_eq!(live.closed().await.1, "the user is signed out");
    assert_eq!(asked.count(), 2);
}

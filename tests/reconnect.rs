//! Connections that break, and what clients make of it.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{each, publication, text};
use tidings::{
    ChannelName, Code, Message, Position, Start,
    broker::Retention,
    client::{Client, ClientError, Event, State, Transport},
    endpoint::{Endpoint, Session},
    testing::TestServer,
    wire::HistoryQuery,
};

each!(a_client_that_can_ask_for_tokens_outlives_them);
async fn a_client_that_can_ask_for_tokens_outlives_them(transport: Transport) {
    let server = TestServer::start().await;
    let tokens = Mutex::new(vec![
        server.token("1"),
        server.token_for("1", Duration::from_secs(3)),
    ]);
    let asked = server.client_builder(transport).token_from(move || {
        let token = tokens
            .lock()
            .unwrap()
            .pop()
            .ok_or_else(|| "asked too often".to_owned());
        async { token }
    });
    let client = asked.connect().await.unwrap();
    let mut global = client.subscribe("global").await.unwrap();
    let first = client.welcome().unwrap().session;
    let event = global.next().await.unwrap();
    assert!(matches!(event, Event::Break { .. }), "{event:?}");
    assert_eq!(
        event.missed(),
        Some(0),
        "the channel lives on, and nothing was published"
    );
    server.broker().announce("x").unwrap();
    assert_eq!(text(&publication(&mut global).await), "x");
    assert_ne!(client.welcome().unwrap().session, first);
}

/// User code that keeps the sessions, to end them from a test.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Session>>>);

#[async_trait::async_trait]
impl Endpoint for Keeper {
    async fn session_opened(&self, session: &Session) {
        self.0.lock().unwrap().push(session.clone());
    }
}

/// Breaks the connections of a keeper's server once, and waits until the client has noticed.
async fn interrupt(keeper: &Keeper, client: &Client) {
    let mut states = client.states();
    for session in keeper.0.lock().unwrap().drain(..) {
        session.close(Code(2000), "come back");
    }
    states
        .wait_for(|state| matches!(state, State::Reconnecting { .. }))
        .await
        .unwrap();
}

each!(what_was_published_during_a_break_is_delivered_after_it);
async fn what_was_published_during_a_break_is_delivered_after_it(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    // One that the client asks for, and one that the server gives unasked.
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    let mut global = client.subscribe("global").await.unwrap();
    let names = ["chat-room-1", "global"].map(|name| ChannelName::parse(name).unwrap());
    let post = |text: String| {
        for name in &names {
            server.broker().post(name, Message::text(&*text)).unwrap();
        }
    };
    for round in 0..5 {
        post(format!("before {round}"));
        for subscription in [&mut room, &mut global] {
            let before = format!("before {round}");
            assert_eq!(text(&publication(subscription).await), before);
        }
        interrupt(&keeper, &client).await;
        for number in 0..round {
            post(format!("meanwhile {number}"));
        }
        // A publish in between waits for the next connection.
        client
            .publish("chat-room-2", Message::text("x"))
            .await
            .unwrap();
        post("after".to_owned());
        for subscription in [&mut room, &mut global] {
            let event = subscription.next().await.unwrap();
            assert!(matches!(event, Event::Break { .. }), "{event:?}");
            assert_eq!(event.missed(), Some(0));
            for number in 0..round {
                let meanwhile = format!("meanwhile {number}");
                assert_eq!(text(&publication(subscription).await), meanwhile);
            }
            assert_eq!(text(&publication(subscription).await), "after");
        }
    }
    client.close().await;
    assert!(matches!(
        room.next().await,
        Some(Event::End {
            code: Code::CLOSED,
            ..
        })
    ));
    assert_eq!(room.next().await, None);
}

each!(a_break_is_told_with_what_it_cost);
async fn a_break_is_told_with_what_it_cost(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| {
        builder.endpoint(keeper.clone()).retention(|_| Retention {
            count: 1,
            ..Retention::default()
        })
    })
    .await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    let channel = ChannelName::parse("chat-room-1").unwrap();
    let post = |text: &str| server.broker().post(&channel, Message::text(text)).unwrap();
    post("before");
    assert_eq!(text(&publication(&mut room).await), "before");
    interrupt(&keeper, &client).await;
    post("missed");
    post("kept");
    let event = room.next().await.unwrap();
    assert!(matches!(event, Event::Break { .. }), "{event:?}");
    assert_eq!(event.missed(), Some(1));
    let received = publication(&mut room).await;
    assert_eq!((text(&received), received.offset), ("kept", 3));
    post("after");
    let received = publication(&mut room).await;
    assert_eq!((text(&received), received.offset), ("after", 4));
}

each!(a_reader_that_sleeps_through_breaks_gets_each_publication_once);
async fn a_reader_that_sleeps_through_breaks_gets_each_publication_once(transport: Transport) {
    // More than the client keeps streams of connections that are over.
    const BREAKS: u64 = 7;
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    let channel = ChannelName::parse("chat-room-1").unwrap();
    let mut posted = 0;
    let mut post = || {
        posted += 1;
        let message = Message::text(posted.to_string());
        server.broker().post(&channel, message).unwrap();
    };
    for _ in 0..BREAKS {
        post();
        // It arrives, and nobody looks.
        client.ping().await.unwrap();
        interrupt(&keeper, &client).await;
        post();
        client.ping().await.unwrap();
    }
    let mut due = 1;
    while due <= 2 * BREAKS {
        match room.next().await.unwrap() {
            Event::Publication(publication) => {
                assert_eq!(publication.offset, due);
                assert_eq!(text(&publication), due.to_string());
                due += 1;
            }
            event => {
                assert!(matches!(event, Event::Break { .. }), "{event:?}");
                assert_eq!(event.missed(), Some(0), "{event:?}");
            }
        }
    }
}

each!(a_reader_that_looks_late_keeps_its_subscription);
async fn a_reader_that_looks_late_keeps_its_subscription(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    let channel = ChannelName::parse("chat-room-1").unwrap();
    let post = |text: &str| server.broker().post(&channel, Message::text(text)).unwrap();
    post("before");
    client.ping().await.unwrap();
    interrupt(&keeper, &client).await;
    // The stream of the next connection has the id of the one before, whose end nobody has seen yet.
    client.ping().await.unwrap();
    // What arrived over the connection before is read from there, or comes again.
    let events = [room.next().await.unwrap(), room.next().await.unwrap()];
    assert!(
        events.iter().all(|event| event.missed() == Some(0)),
        "{events:?}"
    );
    let given = |event: &&Event| matches!(event, Event::Publication(_));
    assert_eq!(events.iter().filter(given).count(), 1, "{events:?}");
    // Longer than the client waits to find out whether a connection lives whose stream was cut off.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    post("after");
    assert_eq!(text(&publication(&mut room).await), "after");
}

each!(a_channel_that_user_code_gave_is_resumed_though_no_rule_opens_it);
async fn a_channel_that_user_code_gave_is_resumed_though_no_rule_opens_it(transport: Transport) {
    #[derive(Clone, Default)]
    struct Giver(Keeper);

    #[async_trait::async_trait]
    impl Endpoint for Giver {
        async fn session_opened(&self, session: &Session) {
            let secret = ChannelName::parse("secret").unwrap();
            session.subscribe(&secret).unwrap();
            self.0.session_opened(session).await;
        }
    }

    let giver = Giver::default();
    let server = TestServer::start_with(|builder| builder.endpoint(giver.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    let mut secret = client.subscribe("secret").await.unwrap();
    let channel = ChannelName::parse("secret").unwrap();
    let post = |text: &str| server.broker().post(&channel, Message::text(text)).unwrap();
    post("1");
    assert_eq!(text(&publication(&mut secret).await), "1");
    interrupt(&giver.0, &client).await;
    post("2");
    let event = secret.next().await.unwrap();
    assert_eq!(event.missed(), Some(0), "{event:?}");
    assert_eq!(text(&publication(&mut secret).await), "2");
}

each!(each_claim_begins_where_it_wants_to);
async fn each_claim_begins_where_it_wants_to(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    for number in 0..50 {
        let room = format!("chat-room-{number}");
        client.publish(&room, Message::text("x")).await.unwrap();
        // Given up while its request is under way; the next one is not to get its answer.
        let (first, second) = match number % 2 {
            0 => (Start::Head, Start::Latest(1)),
            _ => (Start::Latest(1), Start::Head),
        };
        let half = client.subscribe_from(&room, first);
        drop(tokio::time::timeout(Duration::from_micros(number * 5), half).await);
        let mut begun = client.subscribe_from(&room, second).await.unwrap();
        client.publish(&room, Message::text("y")).await.unwrap();
        let expected: &[&str] = match second {
            Start::Head => &["y"],
            _ => &["x", "y"],
        };
        for text_of in expected {
            assert_eq!(text(&publication(&mut begun).await), *text_of, "{number}");
        }
    }
}

each!(what_was_read_before_is_not_given_again);
async fn what_was_read_before_is_not_given_again(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    client.ping().await.unwrap();
    // The server gave the channel from its head on, before these.
    for number in 1..=3 {
        server.broker().announce(number.to_string()).unwrap();
    }
    let read = client
        .history("global", HistoryQuery::oldest(2))
        .await
        .unwrap();
    let after = read.next().unwrap();
    let start = Start::After(after);
    let mut global = client.subscribe_from("global", start).await.unwrap();
    assert_eq!(global.position(), Some(after));
    assert_eq!(text(&publication(&mut global).await), "3");
}

each!(a_subscription_begins_where_it_is_told_to);
async fn a_subscription_begins_where_it_is_told_to(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let mut head = None;
    for number in 1..=3 {
        let message = Message::text(number.to_string());
        head = Some(
            client
                .publish("chat-room-1", message)
                .await
                .unwrap()
                .position,
        );
    }
    let head = head.unwrap();
    let second = Position { offset: 1, ..head };
    for start in [Start::After(second), Start::Latest(2)] {
        let mut room = client.subscribe_from("chat-room-1", start).await.unwrap();
        assert_eq!(room.position(), Some(second), "{start:?}");
        for number in ["2", "3"] {
            assert_eq!(text(&publication(&mut room).await), number, "{start:?}");
        }
    }
    // Also of a channel that the server gives unasked, from the head: before its stream is known, and after.
    for (known, announced) in [(false, "a"), (true, "b")] {
        server.broker().announce(announced).unwrap();
        let client = server.client("1", transport).await.unwrap();
        if known {
            client.ping().await.unwrap();
        }
        let newest = Start::Latest(1);
        let mut global = client.subscribe_from("global", newest).await.unwrap();
        assert_eq!(text(&publication(&mut global).await), announced);
        server.broker().announce("then").unwrap();
        assert_eq!(text(&publication(&mut global).await), "then");
    }
}

each!(a_code_that_says_so_ends_a_client);
async fn a_code_that_says_so_ends_a_client(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    keeper.0.lock().unwrap()[0].close(Code(1000), "do not come back");
    let (code, reason) = client.closed().await;
    assert_eq!(
        (code, reason.as_str()),
        (Some(Code(1000)), "do not come back")
    );
    let error = client
        .publish("chat-room-1", Message::text("x"))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Closed(_)), "{error}");
    assert_eq!(keeper.0.lock().unwrap().len(), 1, "it did not come back");
}

each!(a_subscription_that_is_over_can_be_made_again);
async fn a_subscription_that_is_over_can_be_made_again(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    let again = client.subscribe("chat-room-1").await.unwrap_err();
    assert!(
        matches!(again, ClientError::AlreadySubscribed(_)),
        "{again}"
    );
    // Given up halfway, and at once asked for again.
    for _ in 0..50 {
        let half = client.subscribe("chat-room-2");
        drop(tokio::time::timeout(Duration::from_micros(50), half).await);
    }
    let mut second = client.subscribe("chat-room-2").await.unwrap();
    for (room, name) in [(&mut room, "chat-room-1"), (&mut second, "chat-room-2")] {
        client.publish(name, Message::text("x")).await.unwrap();
        assert_eq!(text(&publication(room).await), "x");
    }
}

each!(a_message_above_the_limit_harms_only_itself);
async fn a_message_above_the_limit_harms_only_itself(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    let large = Message::data("a/b", vec![0; 1_000_000]);
    let refused = client
        .publish("chat-room-1", large.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ClientError::TooLarge { max: 65536, .. }),
        "{refused}"
    );
    // Also while there is no connection whose limits could be looked at.
    keeper.0.lock().unwrap()[0].close(Code(2000), "come back");
    let mut states = client.states();
    states
        .wait_for(|state| matches!(state, State::Reconnecting { .. }))
        .await
        .unwrap();
    let refused = client.publish("chat-room-1", large).await.unwrap_err();
    assert!(matches!(refused, ClientError::TooLarge { .. }), "{refused}");
    client
        .publish("chat-room-1", Message::text("x"))
        .await
        .unwrap();
}

each!(a_message_with_a_key_is_stored_once_whatever_breaks);
async fn a_message_with_a_key_is_stored_once_whatever_breaks(transport: Transport) {
    const MESSAGES: u64 = 200;
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = server.client("1", transport).await.unwrap();
    // Whatever was in flight at a break is sent again.
    let publishing = async {
        let mut duplicates = 0;
        for number in 0..MESSAGES {
            let (key, message) = (number.to_string(), Message::text(number.to_string()));
            let published = client.publish_once("chat-room-1", &key, message).await;
            let published = published.unwrap();
            assert_eq!(published.position.offset, number + 1);
            duplicates += u64::from(published.duplicate);
        }
        duplicates
    };
    let breaking = async {
        loop {
            let next = keeper.0.lock().unwrap().pop();
            if let Some(session) = next {
                session.close(Code(2000), "come back");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = publishing => {}
        () = breaking => {}
    }
    let channel = ChannelName::parse("chat-room-1").unwrap();
    let query = HistoryQuery::oldest(u64::MAX);
    let kept = server.broker().history(&channel, &query).publications;
    let texts: Vec<_> = kept.iter().map(text).collect();
    let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
    let again = client
        .publish_once("chat-room-1", "7", Message::text("7"))
        .await
        .unwrap();
    assert_eq!((again.position.offset, again.duplicate), (8, true));
    let other = client
        .publish_once("chat-room-1", "7", Message::text("8"))
        .await
        .unwrap_err();
    assert_eq!(other.code(), Some(Code::KEY_REUSED));
}

//! User code per session: the canonical case, and what can go wrong in it.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{each, publication, text};
use tidings::{
    ChannelName, Code, Message,
    auth::{AllowAnonymous, Rules},
    broker::PublishError,
    client::{ClientError, Event, Transport},
    endpoint::{Endpoint, PostStream, Session},
    server::Server,
    testing::TestServer,
};

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn no_rules() -> Rules {
    Rules::new(Vec::new()).unwrap()
}

/// A closure as user code.
struct Call<F>(F);

#[async_trait::async_trait]
impl<F: Fn(&Session) + Send + Sync + 'static> Endpoint for Call<F> {
    async fn session_opened(&self, session: &Session) {
        (self.0)(session);
    }
}

each!(notifications_and_announcements_are_forwarded_onto_named_streams);
async fn notifications_and_announcements_are_forwarded_onto_named_streams(transport: Transport) {
    let endpoint = Call(|session: &Session| {
        let user = session.user().unwrap().clone();
        session
            .forward(&ChannelName::of_user(&user), &name("notification"))
            .unwrap();
        session
            .forward(&ChannelName::global(), &name("announcement"))
            .unwrap();
    });
    let server =
        TestServer::start_with(|builder| builder.endpoint(endpoint).rules(no_rules())).await;
    let client = server.client("42", transport).await.unwrap();
    assert_eq!(client.welcome().unwrap().subscriptions, []);
    // No barrier is needed: the forwarding stands when the client is told that it is in.
    server
        .broker()
        .notify(&"42".parse().unwrap(), "shipped")
        .unwrap();
    server.broker().announce("hello").unwrap();
    let mut notifications = client.stream("notification").unwrap();
    let mut announcements = client.stream("announcement").unwrap();
    assert_eq!(text(&publication(&mut notifications).await), "shipped");
    assert_eq!(text(&publication(&mut announcements).await), "hello");
}

each!(user_code_can_refuse_a_session);
async fn user_code_can_refuse_a_session(transport: Transport) {
    let endpoint = Call(|session: &Session| {
        if session.user().is_none() {
            session.close(Code(1001), "log in first");
        }
    });
    let server = TestServer::start_with(|builder| {
        builder
            .endpoint(endpoint)
            .authenticator(AllowAnonymous::only())
    })
    .await;
    let refused = server
        .client_builder(transport)
        .connect()
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused { code: Code(1001), reason } if reason == "log in first"),
        "{refused}"
    );
}

each!(messages_can_be_transformed_and_left_out);
async fn messages_can_be_transformed_and_left_out(transport: Transport) {
    let endpoint = Call(|session: &Session| {
        session
            .forward_with(&name("numbers"), &name("even"), |publication| {
                let number: u64 = publication.message.as_text()?.parse().ok()?;
                number
                    .is_multiple_of(2)
                    .then(|| Message::text(format!("{number}!")))
            })
            .unwrap();
    });
    let server = TestServer::start_with(|builder| builder.endpoint(endpoint)).await;
    let client = server.client("1", transport).await.unwrap();
    let mut even = client.stream("even").unwrap();
    for number in 1..=6 {
        server
            .broker()
            .post(&name("numbers"), Message::text(number.to_string()))
            .unwrap();
    }
    for (offset, wanted) in [(1, "2!"), (2, "4!"), (3, "6!")] {
        let received = publication(&mut even).await;
        assert_eq!((received.offset, text(&received)), (offset, wanted));
    }
}

each!(a_transformed_stream_is_drained_too);
async fn a_transformed_stream_is_drained_too(transport: Transport) {
    let endpoint = Call(|session: &Session| {
        session
            .forward_with(&name("numbers"), &name("all"), |publication| {
                Some(publication.message.clone())
            })
            .unwrap();
    });
    let mut server = TestServer::start_with(|builder| builder.endpoint(endpoint)).await;
    let client = server
        .client_builder(transport)
        .token(server.token("1"))
        .reconnect(false);
    let client = client.connect().await.unwrap();
    let mut all = client.stream("all").unwrap();
    for number in 1..=500 {
        server
            .broker()
            .post(&name("numbers"), Message::text(number.to_string()))
            .unwrap();
    }
    server.begin_stop();
    for number in 1..=500 {
        assert_eq!(text(&publication(&mut all).await), number.to_string());
    }
    assert!(matches!(
        all.next().await,
        Some(Event::End {
            code: Code::GOING_AWAY,
            ..
        })
    ));
}

each!(user_code_can_post_to_one_client);
async fn user_code_can_post_to_one_client(transport: Transport) {
    let (sender, mut streams) = tokio::sync::mpsc::channel::<PostStream>(1);
    let endpoint = Call(move |session: &Session| {
        sender
            .try_send(session.stream(&name("private")).unwrap())
            .unwrap();
        assert!(
            session.stream(&name("private")).is_err(),
            "the name is taken"
        );
    });
    let server = TestServer::start_with(|builder| builder.endpoint(endpoint)).await;
    let client = server.client("1", transport).await.unwrap();
    let mut private = client.stream("private").unwrap();
    let stream = streams.recv().await.unwrap();
    stream.post(Message::text("x")).unwrap();
    stream.post(Message::text("y")).unwrap();
    drop(stream);
    assert_eq!(text(&publication(&mut private).await), "x");
    assert_eq!(text(&publication(&mut private).await), "y");
    assert!(matches!(
        private.next().await,
        Some(Event::End {
            code: Code::ENDED,
            ..
        })
    ));
    assert_eq!(private.next().await, None);
}

/// An endpoint that opens a stream for each session, and where to get them.
fn hands_out_streams() -> (impl Endpoint, tokio::sync::mpsc::Receiver<PostStream>) {
    let (sender, streams) = tokio::sync::mpsc::channel(1);
    let endpoint = Call(move |session: &Session| {
        let stream = session.stream(&name("private")).unwrap();
        sender.try_send(stream).unwrap();
    });
    (endpoint, streams)
}

each!(what_is_posted_in_the_moment_of_a_drain_is_delivered_or_refused);
async fn what_is_posted_in_the_moment_of_a_drain_is_delivered_or_refused(transport: Transport) {
    const SESSIONS: usize = 24;
    // Far below what a log keeps, so that no reader may miss one.
    const AHEAD: u64 = 64;
    let (endpoint, mut streams) = hands_out_streams();
    let mut server = TestServer::start_with(|builder| builder.endpoint(endpoint)).await;
    let (mut posting, mut reading) = (Vec::new(), Vec::new());
    let posted = Arc::new(AtomicU64::new(0));
    for number in 0..SESSIONS {
        let client = server.client_builder(transport);
        let client = client.token(server.token(&number.to_string()));
        let client = client.reconnect(false).connect().await.unwrap();
        let stream = streams.recv().await.unwrap();
        let (read, posted) = (Arc::new(AtomicU64::new(0)), Arc::clone(&posted));
        let seen = Arc::clone(&read);
        posting.push(tokio::spawn(async move {
            let mut last = 0;
            loop {
                if last < seen.load(Ordering::Relaxed) + AHEAD {
                    match stream.post(Message::text("x")) {
                        Ok(position) => last = position.offset,
                        // Kept, so that the drain is what ends it.
                        Err(error) => return (last, error, stream),
                    }
                    posted.fetch_add(1, Ordering::Relaxed);
                }
                tokio::task::yield_now().await;
            }
        }));
        reading.push(tokio::spawn(async move {
            let mut private = client.stream("private").unwrap();
            loop {
                match private.next().await.expect("a word before the end") {
                    Event::Publication(publication) => {
                        let last = read.swap(publication.offset, Ordering::Relaxed);
                        assert_eq!(publication.offset, last + 1);
                    }
                    Event::End { code, .. } => return (read.load(Ordering::Relaxed), code),
                    other => panic!("{other:?}"),
                }
            }
        }));
    }
    while posted.load(Ordering::Relaxed) < 20 * SESSIONS as u64 {
        tokio::task::yield_now().await;
    }
    server.begin_stop();
    for (posting, reading) in posting.into_iter().zip(reading) {
        let (accepted, refusal, _stream) = posting.await.unwrap();
        let (read, code) = reading.await.unwrap();
        assert_eq!((read, code), (accepted, Code::GOING_AWAY));
        assert_eq!(refusal, PublishError::Closed);
    }
    server.stop().await;
}

each!(a_stream_that_drains_takes_no_more_however_slow_its_reader_is);
async fn a_stream_that_drains_takes_no_more_however_slow_its_reader_is(transport: Transport) {
    let (endpoint, mut streams) = hands_out_streams();
    let mut server = TestServer::start_with(|builder| builder.endpoint(endpoint)).await;
    let client = server.client_builder(transport).token(server.token("1"));
    let client = client.reconnect(false).connect().await.unwrap();
    let mut private = client.stream("private").unwrap();
    let stream = streams.recv().await.unwrap();
    // More than a stream that nobody reads takes: its writer is not at the head when the drain begins.
    for _ in 0..20 {
        stream.post(Message::data("a/b", vec![7; 60_000])).unwrap();
    }
    server.begin_stop();
    while server
        .broker()
        .post(&name("other"), Message::text("x"))
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(stream.post(Message::text("x")), Err(PublishError::Closed));
    for offset in 1..=20 {
        assert_eq!(publication(&mut private).await.offset, offset);
    }
    assert!(matches!(
        private.next().await,
        Some(Event::End {
            code: Code::GOING_AWAY,
            ..
        })
    ));
    client.closed().await;
    let refusal = stream.post(Message::text("x")).unwrap_err();
    assert_eq!(refusal, PublishError::Closed, "and not that nobody reads");
    server.stop().await;
}

each!(a_panic_in_user_code_ends_one_session_and_harms_no_other);
async fn a_panic_in_user_code_ends_one_session_and_harms_no_other(transport: Transport) {
    let endpoint = Call(|session: &Session| {
        assert_ne!(session.user().unwrap().as_str(), "bad", "planted");
        session.spawn(async { panic!("planted too") });
    });
    let server = TestServer::start_with(|builder| builder.endpoint(endpoint)).await;
    let good = server.client("good", transport).await.unwrap();
    let refused = server.client("bad", transport).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::INTERNAL), "{refused}");
    good.ping().await.unwrap();
    server
        .client("good", transport)
        .await
        .unwrap()
        .ping()
        .await
        .unwrap();
}

each!(user_code_that_does_not_return_is_given_up);
async fn user_code_that_does_not_return_is_given_up(transport: Transport) {
    struct Forever;
    #[async_trait::async_trait]
    impl Endpoint for Forever {
        async fn session_opened(&self, _: &Session) {
            std::future::pending().await
        }
    }
    let server = TestServer::start_with(|builder| {
        builder
            .endpoint(Forever)
            .deadline(Duration::from_millis(500))
    })
    .await;
    let refused = server.client("1", transport).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::INTERNAL), "{refused}");
}

each!(tasks_of_a_session_end_with_it);
async fn tasks_of_a_session_end_with_it(transport: Transport) {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let endpoint = Call(move |session: &Session| {
        let held = Arc::clone(&held);
        session.spawn(async move {
            let _held = held;
            std::future::pending().await
        });
    });
    let server = TestServer::start_with(|builder| builder.endpoint(endpoint)).await;
    let client = server.client("1", transport).await.unwrap();
    assert_eq!(Arc::strong_count(&alive), 3);
    client.close().await;
    while Arc::strong_count(&alive) > 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_without_its_parts_says_which() {
    let error = Server::builder()
        .self_signed()
        .bind()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("authenticator"), "{error}");
    let error = Server::builder()
        .authenticator(AllowAnonymous::only())
        .bind()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("certificate"), "{error}");
}

each!(user_code_can_subscribe_the_client_to_channels);
async fn user_code_can_subscribe_the_client_to_channels(transport: Transport) {
    let (sender, mut sessions) = tokio::sync::mpsc::channel::<Session>(1);
    let endpoint = Call(move |session: &Session| {
        session.subscribe(&name("secret")).unwrap();
        sender.try_send(session.clone()).unwrap();
    });
    let server =
        TestServer::start_with(|builder| builder.endpoint(endpoint).rules(no_rules())).await;
    let client = server.client("1", transport).await.unwrap();
    // No rule lets the client ask for them, and it need not ask.
    assert_eq!(client.welcome().unwrap().subscriptions, [name("secret")]);
    let mut secret = client.subscribe("secret").await.unwrap();
    server
        .broker()
        .post(&name("secret"), Message::text("x"))
        .unwrap();
    assert_eq!(text(&publication(&mut secret).await), "x");
    let session = sessions.recv().await.unwrap();
    session.subscribe(&name("later")).unwrap();
    server
        .broker()
        .post(&name("later"), Message::text("y"))
        .unwrap();
    let mut later = loop {
        match client.subscribe("later").await {
            Ok(subscription) => break subscription,
            // Its stream is on the way.
            Err(error) => assert_eq!(error.code(), Some(Code::ALREADY_SUBSCRIBED), "{error}"),
        }
    };
    assert_eq!(text(&publication(&mut later).await), "y");
}

each!(a_stream_of_user_code_can_be_opened_again);
async fn a_stream_of_user_code_can_be_opened_again(transport: Transport) {
    let (sender, mut sessions) = tokio::sync::mpsc::channel::<Session>(1);
    let endpoint = Call(move |session: &Session| sender.try_send(session.clone()).unwrap());
    let server = TestServer::start_with(|builder| builder.endpoint(endpoint)).await;
    let client = server.client("1", transport).await.unwrap();
    let session = sessions.recv().await.unwrap();
    for round in 0..20 {
        let stream = loop {
            // The name is free when the stream before has said its last word.
            match session.stream(&name("private")) {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        stream.post(Message::text(round.to_string())).unwrap();
        drop(stream);
        let mut private = client.stream("private").unwrap();
        assert_eq!(text(&publication(&mut private).await), round.to_string());
        assert!(matches!(
            private.next().await,
            Some(Event::End {
                code: Code::ENDED,
                ..
            })
        ));
    }
}

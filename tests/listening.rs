//! Listeners in the server, and what they learn of the sessions that publish.

mod common;

use common::{each, publication, text};
use tidings::{
    ChannelName, Message,
    auth::{AllowAnonymous, Rule, Rules, Who},
    broker::{Delivery, Received},
    client::Transport,
    testing::TestServer,
};
use tokio::sync::mpsc;

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn hidden() -> Rules {
    let rule = Rule::new("room-*".parse().unwrap(), Who::Everyone, Who::Everyone);
    Rules::new(vec![rule.hide_publisher()]).unwrap()
}

each!(a_listener_is_told_the_session_that_published_and_subscribers_are_not);
async fn a_listener_is_told_the_session_that_published_and_subscribers_are_not(
    transport: Transport,
) {
    let server = TestServer::start_with(|builder| builder.rules(hidden())).await;
    let (sender, mut inline) = mpsc::channel::<Received>(16);
    let _guard = server
        .broker()
        .listen_pattern(&"room-*".parse().unwrap(), move |received| {
            sender.try_send(received).unwrap()
        });
    let mut receiver = server.broker().receiver(&name("room-1")).unwrap();
    let (sender, mut plain) = mpsc::channel::<Delivery>(16);
    let _plain = server
        .broker()
        .add_listener(&name("room-1"), move |delivery| {
            sender.try_send(delivery).unwrap()
        })
        .unwrap();
    let client = server.client("ann", transport).await.unwrap();
    let mut room = client.subscribe("room-1").await.unwrap();
    client.publish("room-1", Message::text("a")).await.unwrap();
    client
        .publish_once("room-1", "key", Message::text("b"))
        .await
        .unwrap();
    server
        .broker()
        .post(&name("room-1"), Message::text("c"))
        .unwrap();
    for expected in ["a", "b", "c"] {
        let shown = publication(&mut room).await;
        assert_eq!((text(&shown), &shown.publisher), (expected, &None));
        for received in [inline.recv().await.unwrap(), receiver.recv().await] {
            assert_eq!(text(received.publication().unwrap()), expected);
            let session = received
                .session
                .and_then(|number| server.sessions().get(number));
            let user = received.user.as_ref().map(|user| user.as_str());
            if expected == "c" {
                assert!(session.is_none() && user.is_none());
            } else {
                assert_eq!(session.unwrap().id(), client.welcome().unwrap().session);
                assert_eq!(user, Some("ann"));
            }
        }
        let Delivery::Publication(plain) = plain.recv().await.unwrap() else {
            panic!("lagged")
        };
        let publisher = (expected != "c").then_some("ann");
        assert_eq!(plain.publisher.as_deref(), publisher);
    }
}

each!(an_anonymous_publisher_has_a_session_and_no_user);
async fn an_anonymous_publisher_has_a_session_and_no_user(transport: Transport) {
    let server = TestServer::start_with(|builder| {
        builder
            .rules(hidden())
            .authenticator(AllowAnonymous::only())
    })
    .await;
    // A channel that is made later.
    let mut receiver = server
        .broker()
        .pattern_receiver(&"room-{id}".parse().unwrap());
    let client = server.client_builder(transport).connect().await.unwrap();
    client.publish("room-2", Message::text("x")).await.unwrap();
    let received = receiver.recv().await;
    assert_eq!(received.channel, name("room-2"));
    assert_eq!(received.user, None);
    let session = server.sessions().get(received.session.unwrap()).unwrap();
    assert_eq!(session.id(), client.welcome().unwrap().session);
}

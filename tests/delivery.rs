//! Who gets what: notifications, announcements, rooms.

mod common;

use std::{net::Ipv4Addr, time::Duration};

use common::{both, each, publication, raw::Dial, text};
use tidings::{
    Message,
    auth::{Rule, Rules, Who},
    client::Transport,
    testing::TestServer,
    wire::Pattern,
};
use tokio::time::timeout;

each!(notify_reaches_every_device_of_the_user_and_nobody_else);
async fn notify_reaches_every_device_of_the_user_and_nobody_else(transport: Transport) {
    let server = TestServer::start().await;
    let phone = server.client("42", transport).await.unwrap();
    let laptop = server.client("42", transport).await.unwrap();
    let other = server.client("43", transport).await.unwrap();
    let mut inboxes = [
        phone.subscribe("user-42").await.unwrap(),
        laptop.subscribe("user-42").await.unwrap(),
    ];
    let mut others = other.subscribe("user-43").await.unwrap();
    server
        .broker()
        .notify(&"42".parse().unwrap(), "your order shipped")
        .unwrap();
    server
        .broker()
        .notify(&"43".parse().unwrap(), "not yours")
        .unwrap();
    for inbox in &mut inboxes {
        let received = publication(inbox).await;
        assert_eq!(received.message.kind(), "notification");
        assert_eq!(text(&received), "your order shipped");
        assert_eq!((received.offset, received.publisher), (1, None));
    }
    // The first thing that the other user gets is the other user's.
    assert_eq!(text(&publication(&mut others).await), "not yours");
}

each!(announce_reaches_everybody);
async fn announce_reaches_everybody(transport: Transport) {
    let server = TestServer::start().await;
    let mut readers = Vec::new();
    for user in ["1", "2", "3"] {
        let client = server.client(user, transport).await.unwrap();
        readers.push(client.subscribe("global").await.unwrap());
    }
    server.broker().announce("hello").unwrap();
    for reader in &mut readers {
        let received = publication(reader).await;
        assert_eq!(received.message.kind(), "announcement");
        assert_eq!(text(&received), "hello");
    }
}

each!(a_room_carries_what_its_members_publish);
async fn a_room_carries_what_its_members_publish(transport: Transport) {
    let server = TestServer::start().await;
    let alice = server.client("alice", transport).await.unwrap();
    let bob = server.client("bob", transport).await.unwrap();
    let mut hears = bob.subscribe("chat-room-7").await.unwrap();
    let acknowledged = alice
        .publish("chat-room-7", Message::text("hi"))
        .await
        .unwrap();
    let received = publication(&mut hears).await;
    assert_eq!(text(&received), "hi");
    assert_eq!(received.publisher.as_deref(), Some("alice"));
    assert_eq!(received.offset, acknowledged.position.offset);
    assert_eq!(hears.position().unwrap().epoch, acknowledged.position.epoch);
}

both!(a_client_may_update_its_keys);
async fn a_client_may_update_its_keys(transport: Transport) {
    let server = TestServer::start().await;
    let dial = Dial::new(&server, transport);
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connection = dial.quic_from(&endpoint).await.unwrap();
    let mut raw = dial.open_on(connection.clone()).await;
    raw.greet(server.token("42")).await;
    let subscribed = raw.subscribe("chat-room-1").await.unwrap();
    let mut room = raw.stream(subscribed.subscription).await;
    let channel = "chat-room-1".parse().unwrap();
    connection.force_key_update();
    let soon = Duration::from_secs(5);
    timeout(soon, raw.ping()).await.expect("the new keys fit");
    let message = Message::text("for the new keys");
    server.broker().post(&channel, message).unwrap();
    let heard = room.hears("for the new keys");
    timeout(soon, heard).await.expect("its stream");
}

each!(a_rule_hides_whose_a_message_is);
async fn a_rule_hides_whose_a_message_is(transport: Transport) {
    let rule = |pattern| {
        let pattern = Pattern::parse(pattern).unwrap();
        Rule::new(pattern, Who::Everyone, Who::Everyone)
    };
    let rules = Rules::new(vec![rule("vote").hide_publisher(), rule("room")]).unwrap();
    let server = TestServer::start_with(|builder| builder.rules(rules)).await;
    let alice = server.client("alice", transport).await.unwrap();
    let bob = server.client("bob", transport).await.unwrap();
    for (channel, publisher) in [("vote", None), ("room", Some("alice"))] {
        let mut reader = bob.subscribe(channel).await.unwrap();
        alice.publish(channel, Message::text("x")).await.unwrap();
        let first = alice.publish_once(channel, "k", Message::text("y")).await;
        for _ in 0..2 {
            assert_eq!(
                publication(&mut reader).await.publisher.as_deref(),
                publisher
            );
        }
        // A key is its user's all the same.
        let again = alice.publish_once(channel, "k", Message::text("y")).await;
        assert_eq!(again.unwrap().position, first.unwrap().position);
        let other = bob.publish_once(channel, "k", Message::text("z")).await;
        assert!(!other.unwrap().duplicate);
    }
}

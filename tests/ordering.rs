//! The barrier of `Subscribed`, and order under concurrent publishers.

mod common;

use std::sync::Arc;

use common::{both, publication, text};
use tidings::{
    ChannelName, Message,
    client::{Event, Transport},
    testing::TestServer,
};

/// 10,000 rounds: what is published right after `Subscribed` is never missed.
const ROUNDS: usize = 10_000;
const CLIENTS: usize = 8;

both!(what_is_published_right_after_subscribed_is_never_missed);
async fn what_is_published_right_after_subscribed_is_never_missed(transport: Transport) {
    let server = Arc::new(TestServer::start().await);
    let rounds = (0..CLIENTS).map(|number| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let client = server.client(&number.to_string(), transport).await.unwrap();
            let name = format!("chat-room-{number}");
            let channel = ChannelName::parse(&name).unwrap();
            for round in 0..ROUNDS / CLIENTS {
                let mut subscription = client.subscribe(&name).await.unwrap();
                let posted = server
                    .broker()
                    .post(&channel, Message::text(round.to_string()))
                    .unwrap();
                let received = publication(&mut subscription).await;
                assert_eq!(
                    (text(&received), received.offset),
                    (round.to_string().as_str(), posted.offset)
                );
                assert_eq!(subscription.position().unwrap().offset + 1, posted.offset);
            }
        })
    });
    for done in rounds.collect::<Vec<_>>() {
        done.await.unwrap();
    }
}

both!(every_subscriber_sees_one_order_without_a_hole);
async fn every_subscriber_sees_one_order_without_a_hole(transport: Transport) {
    const EACH: usize = 250;
    let server = Arc::new(TestServer::start().await);
    let mut subscriptions = Vec::new();
    for user in ["a", "b", "c"] {
        let client = server.client(user, transport).await.unwrap();
        subscriptions.push(client.subscribe("chat-room-1").await.unwrap());
    }
    // Four publish over connections of their own, four in the server's process.
    let mut publishers = Vec::new();
    for number in 0..4 {
        let client = server
            .client(&format!("p{number}"), transport)
            .await
            .unwrap();
        publishers.push(tokio::spawn(async move {
            let mut positions = Vec::new();
            for count in 0..EACH {
                let message = Message::text(format!("{number}:{count}"));
                positions.push(
                    client
                        .publish("chat-room-1", message)
                        .await
                        .unwrap()
                        .position,
                );
            }
            positions
        }));
    }
    for number in 4..8 {
        let server = Arc::clone(&server);
        publishers.push(tokio::spawn(async move {
            let channel = ChannelName::parse("chat-room-1").unwrap();
            let mut positions = Vec::new();
            for count in 0..EACH {
                let message = Message::text(format!("{number}:{count}"));
                positions.push(server.broker().post(&channel, message).unwrap());
                tokio::task::yield_now().await;
            }
            positions
        }));
    }
    let mut acknowledged = Vec::new();
    for publisher in publishers {
        acknowledged.push(publisher.await.unwrap());
    }
    for subscription in &mut subscriptions {
        let mut counts = [0; 8];
        for offset in 1..=(8 * EACH as u64) {
            let received = publication(subscription).await;
            assert_eq!(received.offset, offset);
            let (number, count) = text(&received).split_once(':').unwrap();
            let (number, count): (usize, usize) = (number.parse().unwrap(), count.parse().unwrap());
            assert_eq!(count, counts[number], "publisher {number} in its own order");
            assert_eq!(
                acknowledged[number][count].offset, offset,
                "the acknowledgement names the place"
            );
            counts[number] += 1;
        }
    }
}

both!(a_reader_that_is_too_slow_is_told_what_it_missed);
async fn a_reader_that_is_too_slow_is_told_what_it_missed(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let mut subscription = client.subscribe("chat-room-1").await.unwrap();
    let channel = ChannelName::parse("chat-room-1").unwrap();
    // More than the reader's window, the server's send window and the log hold together.
    let count: u64 = 200;
    for _ in 0..count {
        server
            .broker()
            .post(&channel, Message::data("a/b", vec![7; 60_000]))
            .unwrap();
    }
    let (mut next, mut lagged) = (1, 0);
    while next <= count {
        match subscription.next().await.unwrap() {
            Event::Publication(publication) => {
                assert_eq!(publication.offset, next);
                next += 1;
            }
            Event::Lagged { from, to } => {
                assert_eq!(from, next, "a gap is told where it is");
                lagged += to - from + 1;
                next = to + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(lagged > 0, "200 messages of 60 kB fit nowhere");
    assert_eq!(server.broker().stats().lagged, lagged);
}

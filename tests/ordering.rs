//! The barrier of `Subscribed`, and order under concurrent publishers.

mod common;

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
};

use common::{each, publication, text};
use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use tidings::{
    ChannelName, Message,
    client::{Acknowledgement, Client, Event, Subscription, Transport},
    testing::TestServer,
};

/// 10,000 rounds: what is published right after `Subscribed` is never missed.
const ROUNDS: usize = 10_000;
const CLIENTS: usize = 8;

each!(what_is_published_right_after_subscribed_is_never_missed);
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

each!(every_subscriber_sees_one_order_without_a_hole);
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

/// Publications of a burst, and how many of them are in flight at a time. Together they stay below what a log keeps, so that no
/// reader may miss one.
const BURST: usize = 2000;
const IN_FLIGHT: [usize; 3] = [64, 512, BURST];

/// The next publication of a burst: large enough that hundreds of them are more than a connection takes at once.
async fn issue(client: &Client, line: String) -> (String, Acknowledgement) {
    let message = Message::text(format!("{line:500}"));
    let acknowledged = client.publish("chat-room-1", message).await.unwrap();
    (line, acknowledged)
}

/// The reader gets what was acknowledged, each publication once, at the offset that its acknowledgement names.
async fn gets_all(subscription: &mut Subscription, acknowledged: &[(String, Acknowledgement)]) {
    let mut acknowledged: Vec<_> = acknowledged.iter().collect();
    acknowledged.sort_by_key(|(_, acknowledgement)| acknowledgement.position.offset);
    for (line, acknowledgement) in acknowledged {
        let received = publication(subscription).await;
        let wanted = (line.as_str(), acknowledgement.position.offset);
        assert_eq!((text(&received).trim_end(), received.offset), wanted);
    }
}

fn in_order(acknowledged: &[(String, Acknowledgement)]) {
    assert_eq!(acknowledged.len(), BURST);
    for (number, (line, acknowledgement)) in acknowledged.iter().enumerate() {
        assert_eq!(*line, number.to_string());
        let offset = acknowledgement.position.offset;
        assert_eq!(offset, number as u64 + 1, "the order of the calls");
    }
}

each!(publications_that_are_all_in_flight_keep_the_order_of_their_calls);
async fn publications_that_are_all_in_flight_keep_the_order_of_their_calls(transport: Transport) {
    let server = TestServer::start().await;
    let reader = server.client("1", transport).await.unwrap();
    let mut subscription = reader.subscribe("chat-room-1").await.unwrap();
    let client = server.client("2", transport).await.unwrap();
    let calls = (0..BURST).map(|number| issue(&client, number.to_string()));
    let acknowledged = join_all(calls).await;
    gets_all(&mut subscription, &acknowledged).await;
    in_order(&acknowledged);
}

each!(publications_with_a_window_in_flight_keep_the_order_of_their_calls);
async fn publications_with_a_window_in_flight_keep_the_order_of_their_calls(transport: Transport) {
    for in_flight in IN_FLIGHT {
        let server = TestServer::start().await;
        let reader = server.client("1", transport).await.unwrap();
        let mut subscription = reader.subscribe("chat-room-1").await.unwrap();
        let client = server.client("2", transport).await.unwrap();
        let calls = (0..BURST).map(|number| issue(&client, number.to_string()));
        let acknowledged: Vec<_> = stream::iter(calls).buffered(in_flight).collect().await;
        gets_all(&mut subscription, &acknowledged).await;
        in_order(&acknowledged);
    }
}

each!(a_call_that_is_polled_first_does_not_overtake_one_that_waits);
async fn a_call_that_is_polled_first_does_not_overtake_one_that_waits(transport: Transport) {
    for in_flight in IN_FLIGHT {
        let server = TestServer::start().await;
        let reader = server.client("1", transport).await.unwrap();
        let mut subscription = reader.subscribe("chat-room-1").await.unwrap();
        let client = server.client("2", transport).await.unwrap();
        let (mut waiting, mut acknowledged) = (FuturesUnordered::new(), Vec::new());
        for number in 0..BURST {
            // Each is polled when it is issued, and those before it only when there are too many of them.
            let mut call = Box::pin(issue(&client, number.to_string()));
            match poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
                Poll::Ready(answered) => acknowledged.push(answered),
                Poll::Pending => waiting.push(call),
            }
            if waiting.len() == in_flight {
                acknowledged.extend(waiting.next().await);
            }
        }
        acknowledged.extend(waiting.collect::<Vec<_>>().await);
        acknowledged.sort_by_key(|(line, _)| line.parse::<usize>().unwrap());
        gets_all(&mut subscription, &acknowledged).await;
        in_order(&acknowledged);
    }
}

each!(tasks_that_share_a_client_keep_an_order_each);
async fn tasks_that_share_a_client_keep_an_order_each(transport: Transport) {
    const TASKS: usize = 4;
    for in_flight in IN_FLIGHT {
        let server = TestServer::start().await;
        let reader = server.client("1", transport).await.unwrap();
        let mut subscription = reader.subscribe("chat-room-1").await.unwrap();
        let client = server.client("2", transport).await.unwrap();
        let tasks = (0..TASKS).map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                let lines = (0..BURST / TASKS).map(|number| format!("{task}:{number}"));
                let calls = lines.map(|line| issue(&client, line));
                let calls = stream::iter(calls).buffered(in_flight);
                calls.collect::<Vec<_>>().await
            })
        });
        let (mut all, mut sorted) = (Vec::new(), Vec::new());
        for task in tasks.collect::<Vec<_>>() {
            let acknowledged = task.await.unwrap();
            let offsets = acknowledged.iter();
            let offsets = offsets.map(|(_, acknowledged)| acknowledged.position.offset);
            sorted.push(offsets.is_sorted());
            all.extend(acknowledged);
        }
        assert_eq!(all.len(), BURST);
        gets_all(&mut subscription, &all).await;
        assert_eq!(sorted, [true; TASKS], "the order of each task's calls");
    }
}

each!(a_reader_that_is_too_slow_is_told_what_it_missed);
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

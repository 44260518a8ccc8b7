//! A reader that stalls on one channel delays no other channel of its connection and no other connection.

mod common;

use std::{future::poll_fn, pin::pin, task::Poll};

use common::{both, each, publication, raw::Dial};
use tidings::{
    ChannelName, Message,
    client::{Event, Transport},
    testing::TestServer,
};

const PER_CHANNEL: u64 = 100;

each!(a_stalled_channel_holds_up_nothing_else);
async fn a_stalled_channel_holds_up_nothing_else(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let other = server.client("2", transport).await.unwrap();
    let mut stalled = client.subscribe("chat-room-stalled").await.unwrap();
    let mut others = other.subscribe("chat-room-stalled").await.unwrap();
    let mut flowing = Vec::new();
    for number in 0..9 {
        flowing.push(
            client
                .subscribe(&format!("chat-room-{number}"))
                .await
                .unwrap(),
        );
    }
    let channel = ChannelName::parse("chat-room-stalled").unwrap();
    let big = Message::data("a/b", vec![1; 60_000]);
    for round in 1..=PER_CHANNEL {
        // 6 MB in the end: the stream's window, the connection's share and the log are all full long before.
        server.broker().post(&channel, big.clone()).unwrap();
        assert_eq!(
            publication(&mut others).await.offset,
            round,
            "another connection reads the same channel"
        );
        for (number, subscription) in flowing.iter_mut().enumerate() {
            let channel = ChannelName::parse(&format!("chat-room-{number}")).unwrap();
            server
                .broker()
                .post(&channel, Message::data("a/b", vec![2; 2_000]))
                .unwrap();
            assert_eq!(publication(subscription).await.offset, round);
        }
        // Requests of the same connection go on too.
        client.ping().await.unwrap();
    }
    // The stalled reader wakes: it gets the rest, and is told what it missed.
    let (mut next, mut lagged) = (1, false);
    while next <= PER_CHANNEL {
        match stalled.next().await.unwrap() {
            Event::Publication(publication) => {
                assert_eq!(publication.offset, next);
                next += 1;
            }
            Event::Lagged { from, to } => {
                assert_eq!(from, next);
                lagged = true;
                next = to + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(lagged, "it was not stalled at all");
}

each!(a_stalled_subscription_can_be_given_up);
async fn a_stalled_subscription_can_be_given_up(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let stalled = client.subscribe("chat-room-stalled").await.unwrap();
    let channel = ChannelName::parse("chat-room-stalled").unwrap();
    for _ in 0..50 {
        server
            .broker()
            .post(&channel, Message::data("a/b", vec![1; 60_000]))
            .unwrap();
    }
    drop(stalled);
    // The same connection takes it up again, from the head on.
    let mut again = client.subscribe("chat-room-stalled").await.unwrap();
    assert_eq!(again.position().unwrap().offset, 50);
    server.broker().post(&channel, Message::text("x")).unwrap();
    assert_eq!(publication(&mut again).await.offset, 51);
    assert_eq!(server.broker().readers(&channel), 1);
}

/// What a client takes unread in all: far less than what waits for it.
const NARROW: u32 = 32 * 1024;
/// Messages that wait, of 60 kB each; the log keeps them all.
const WAITING: usize = 30;

both!(an_answer_passes_what_waits_for_the_same_connection);
async fn an_answer_passes_what_waits_for_the_same_connection(transport: Transport) {
    let server = TestServer::start().await;
    let dial = Dial::new(&server, transport).total(NARROW);
    let (mut raw, _) = dial.welcomed(server.token("1")).await;
    let subscribed = raw.subscribe("chat-room-1").await.unwrap();
    let mut room = raw.stream(subscribed.subscription).await;
    let channel = ChannelName::parse("chat-room-1").unwrap();
    for _ in 0..WAITING {
        server
            .broker()
            .post(&channel, Message::data("a/b", vec![1; 60_000]))
            .unwrap();
    }
    // One has been read: the others hold all the room there is, and more is given bit by bit as they are read.
    room.next().await;
    let mut read = 1;
    let mut pinging = pin!(raw.ping());
    loop {
        tokio::select! {
            biased;
            () = &mut pinging => break,
            _ = room.next(), if read < WAITING => read += 1,
        }
    }
    assert!(read < WAITING / 2, "the answer came after {read} messages");
}

both!(subscriptions_that_all_wait_take_turns);
async fn subscriptions_that_all_wait_take_turns(transport: Transport) {
    const ROOMS: usize = 6;
    let server = TestServer::start().await;
    let dial = Dial::new(&server, transport).total(NARROW);
    let (mut raw, _) = dial.welcomed(server.token("1")).await;
    let name = |number| format!("chat-room-{number}");
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        let subscribed = raw.subscribe(&name(number)).await.unwrap();
        rooms.push(raw.stream(subscribed.subscription).await);
    }
    for number in 0..ROOMS {
        let channel = ChannelName::parse(&name(number)).unwrap();
        for _ in 0..WAITING {
            server
                .broker()
                .post(&channel, Message::data("a/b", vec![1; 60_000]))
                .unwrap();
        }
    }
    // Whoever has something is read, until one has all.
    let mut read = [0; ROOMS];
    while read.iter().all(|read| *read < WAITING) {
        let mut next: Vec<_> = rooms.iter_mut().map(|room| Box::pin(room.next())).collect();
        let came: Vec<usize> = poll_fn(|cx| {
            let came = next.iter_mut().enumerate();
            let came = came
                .filter_map(|(number, next)| next.as_mut().poll(cx).is_ready().then_some(number));
            let came: Vec<_> = came.collect();
            if came.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(came)
            }
        })
        .await;
        came.into_iter().for_each(|number| read[number] += 1);
    }
    assert!(read.iter().all(|read| *read >= WAITING / 4), "{read:?}");
}

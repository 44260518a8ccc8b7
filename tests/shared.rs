//! One subscription with several readers.

mod common;

use std::{collections::HashSet, time::Duration};

use common::{each, text};
use futures_util::FutureExt;
use tidings::{
    ChannelName, Message,
    client::{Event, SharedSubscription, Transport},
    testing::TestServer,
};

fn room() -> ChannelName {
    ChannelName::parse("chat-room-1").unwrap()
}

async fn next(reader: &mut SharedSubscription) -> String {
    match reader.next().await {
        Some(Event::Publication(publication)) => text(&publication).to_owned(),
        other => panic!("no publication but {other:?}"),
    }
}

each!(each_reader_gets_everything_in_its_own_time);
async fn each_reader_gets_everything_in_its_own_time(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let first = client.subscribe("chat-room-1").await.unwrap().share();
    let readers = [first.clone(), first.clone(), first];
    let tasks = readers.map(|mut reader| {
        tokio::spawn(async move {
            for number in 0..200 {
                assert_eq!(next(&mut reader).await, number.to_string());
            }
            reader
        })
    });
    for number in 0..200 {
        let message = Message::text(number.to_string());
        server.broker().post(&room(), message).unwrap();
    }
    let [first, second, third] = tasks;
    let mut first = first.await.unwrap();
    let (mut second, third) = (second.await.unwrap(), third.await.unwrap());
    // A later clone gets what comes later.
    let mut late = first.clone();
    drop(third);
    server
        .broker()
        .post(&room(), Message::text("late"))
        .unwrap();
    for reader in [&mut first, &mut second, &mut late] {
        assert_eq!(next(reader).await, "late");
    }
    // The last one unsubscribes.
    drop((first, second, late));
    while server.broker().readers(&room()) > 0 {
        tokio::task::yield_now().await;
    }
    client.subscribe("chat-room-1").await.unwrap();
}

each!(a_reader_that_gives_up_leaves_the_stream_to_the_others);
async fn a_reader_that_gives_up_leaves_the_stream_to_the_others(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let mut first = client.subscribe("chat-room-1").await.unwrap().share();
    let mut second = first.clone();
    for number in 0..20 {
        // It holds the stream, and is dropped before something comes.
        assert!(first.next().now_or_never().is_none());
        let waiting = tokio::spawn(async move {
            let text = next(&mut second).await;
            (second, text)
        });
        drop(tokio::time::timeout(Duration::from_micros(50), first.next()).await);
        server
            .broker()
            .post(&room(), Message::text(number.to_string()))
            .unwrap();
        let (reader, text) = waiting.await.unwrap();
        second = reader;
        assert_eq!(text, number.to_string());
        assert_eq!(next(&mut first).await, number.to_string());
    }
}

each!(a_slow_reader_is_told_what_it_missed_and_holds_up_nobody);
async fn a_slow_reader_is_told_what_it_missed_and_holds_up_nobody(transport: Transport) {
    let server = TestServer::start().await;
    let client = server.client("1", transport).await.unwrap();
    let mut fast = client.subscribe("chat-room-1").await.unwrap().share();
    let mut slow = fast.clone();
    for number in 0..1000 {
        server
            .broker()
            .post(&room(), Message::text(number.to_string()))
            .unwrap();
    }
    for number in 0..1000 {
        assert_eq!(next(&mut fast).await, number.to_string());
    }
    let event = slow.next().await.unwrap();
    assert_eq!(event, Event::Lagged { from: 1, to: 744 });
    let mut seen = HashSet::new();
    for number in 744..1000 {
        assert_eq!(next(&mut slow).await, number.to_string());
        assert!(seen.insert(number));
    }
    // The end reaches both, once.
    client.close().await;
    for reader in [&mut slow, &mut fast] {
        let event = reader.next().await;
        assert!(matches!(event, Some(Event::End { .. })), "{event:?}");
        assert_eq!(reader.next().await, None);
        assert_eq!(reader.next().await, None);
    }
}

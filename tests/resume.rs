//! Subscriptions that begin elsewhere than at the head (PROTOCOL §4.10).

mod common;

use std::time::Duration;

use common::{
    both, each,
    raw::{Dial, Raw, assert_refusal},
};
use tidings::{
    ChannelName, Code, Message, Position, Start,
    broker::{Broker, Retention},
    client::Transport,
    testing::TestServer,
    wire::{
        Epoch,
        frame::{Frame, Header, Lagged},
    },
};

const ROOM: &str = "chat-room-1";

fn room() -> ChannelName {
    ChannelName::parse(ROOM).unwrap()
}

/// Posts numbers; where the last of them stands.
fn post(broker: &Broker, numbers: impl IntoIterator<Item = u64>) -> Position {
    let posted = numbers
        .into_iter()
        .map(|number| broker.post(&room(), Message::text(number.to_string())));
    posted.last().unwrap().unwrap()
}

async fn session(server: &TestServer, transport: Transport) -> Raw {
    let dial = Dial::new(server, transport);
    dial.welcomed(server.token("1")).await.0
}

fn after(position: Position, offset: u64) -> Start {
    Start::After(Position { offset, ..position })
}

/// Subscribes, and looks whether answer and header agree; the header and the stream after it.
async fn begin(raw: &mut Raw, start: Start) -> (Header, common::raw::Frames) {
    let subscribed = raw.subscribe_from(ROOM, start).await.unwrap();
    let (header, frames) = raw.headed(subscribed.subscription).await;
    assert_eq!(header.name, ROOM);
    assert_eq!(header.epoch, subscribed.position.epoch);
    assert_eq!(header.first, subscribed.position.offset + 1);
    (header, frames)
}

both!(what_follows_a_position_comes_once_and_then_what_is_new);
async fn what_follows_a_position_comes_once_and_then_what_is_new(transport: Transport) {
    let server = TestServer::start().await;
    let head = post(server.broker(), 1..=5);
    for offset in 0..=5 {
        // Each from a session of its own, twice without traffic in between.
        for _ in 0..2 {
            let mut raw = session(&server, transport).await;
            let (header, mut frames) = begin(&mut raw, after(head, offset)).await;
            assert!(header.recovered);
            assert_eq!(header.first, offset + 1);
            for number in offset + 1..=5 {
                frames.hears(&number.to_string()).await;
            }
        }
    }
    let mut raw = session(&server, transport).await;
    let (_, mut frames) = begin(&mut raw, after(head, 4)).await;
    post(server.broker(), 6..=7);
    for number in 5..=7 {
        frames.hears(&number.to_string()).await;
    }
}

both!(no_publication_is_missed_or_doubled_where_old_and_new_meet);
async fn no_publication_is_missed_or_doubled_where_old_and_new_meet(transport: Transport) {
    const ROUNDS: u64 = 30;
    let server = TestServer::start().await;
    let mut last = post(server.broker(), 1..=1);
    let broker = server.broker().clone();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    // Publishes without a pause while clients come and go.
    let publisher = std::thread::spawn(move || {
        let mut number = 1;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            number += 1;
            post(&broker, [number]);
            std::thread::sleep(Duration::from_micros(200));
        }
        number
    });
    for _ in 0..ROUNDS {
        let mut raw = session(&server, transport).await;
        let (header, mut frames) = begin(&mut raw, Start::After(last)).await;
        assert!(header.recovered);
        for _ in 0..50 {
            match frames.next().await {
                Frame::Publication(publication) => {
                    assert_eq!(publication.offset, last.offset + 1);
                    let number = publication.offset.to_string();
                    assert_eq!(publication.message.as_text(), Some(&*number));
                    last.offset += 1;
                }
                other => panic!("no Publication but {other:?}"),
            }
        }
    }
    stop.send(()).unwrap();
    assert!(publisher.join().unwrap() >= last.offset);
}

both!(what_cannot_be_continued_begins_at_the_head_and_says_so);
async fn what_cannot_be_continued_begins_at_the_head_and_says_so(transport: Transport) {
    let server = TestServer::start_with(|builder| {
        builder.retention(|_| Retention {
            count: 3,
            ..Retention::default()
        })
    })
    .await;
    let head = post(server.broker(), 1..=5);
    let other = Position {
        epoch: Epoch(head.epoch.0 ^ 1),
        offset: 3,
    };
    let lost = [
        ("it fell off", after(head, 1)),
        ("it fell off long ago", after(head, 0)),
        ("it never was", after(head, 6)),
        ("it never can be", after(head, u64::MAX)),
        ("another log", Start::After(other)),
    ];
    for (what, start) in lost {
        let mut raw = session(&server, transport).await;
        let (header, _) = begin(&mut raw, start).await;
        assert!(!header.recovered, "{what}");
        assert_eq!((header.epoch, header.first), (head.epoch, 6), "{what}");
    }
    // 3 is the first that is kept.
    let mut raw = session(&server, transport).await;
    let (header, mut frames) = begin(&mut raw, after(head, 2)).await;
    assert!(header.recovered);
    frames.hears("3").await;
}

both!(what_is_left_comes_to_who_would_rather_have_that_than_the_head);
async fn what_is_left_comes_to_who_would_rather_have_that_than_the_head(transport: Transport) {
    let server = TestServer::start_with(|builder| {
        builder.retention(|_| Retention {
            count: 3,
            ..Retention::default()
        })
    })
    .await;
    let head = post(server.broker(), 1..=5);
    let or_oldest = |epoch: u64, offset| {
        Start::AfterOrOldest(Position {
            epoch: Epoch(epoch),
            offset,
        })
    };
    // 3 is the first that is kept.
    let asked = [
        ("it is all there", or_oldest(head.epoch.0, 4), true, 5),
        ("all that is kept", or_oldest(head.epoch.0, 2), true, 3),
        ("at the head", or_oldest(head.epoch.0, 5), true, 6),
        ("it fell off", or_oldest(head.epoch.0, 1), false, 3),
        ("it never was", or_oldest(head.epoch.0, 6), false, 3),
        ("another log", or_oldest(head.epoch.0 ^ 1, 4), false, 3),
    ];
    for (what, start, recovered, first) in asked {
        let mut raw = session(&server, transport).await;
        let (header, mut frames) = begin(&mut raw, start).await;
        assert_eq!(
            (header.recovered, header.first),
            (recovered, first),
            "{what}"
        );
        for number in first..=5 {
            frames.hears(&number.to_string()).await;
        }
    }
}

both!(a_channel_that_was_given_up_is_not_continued);
async fn a_channel_that_was_given_up_is_not_continued(transport: Transport) {
    let server = TestServer::start_with(|builder| {
        builder
            .channel_idle(Duration::from_millis(1))
            .retention(|_| Retention {
                age: Duration::from_millis(1),
                ..Retention::default()
            })
    })
    .await;
    let old = post(server.broker(), 1..=2);
    // Two sweeps: the first finds it idle, a later one evicts it.
    while server.broker().position(&room()).is_some() {
        server.broker().sweep();
        tokio::task::yield_now().await;
    }
    let mut raw = session(&server, transport).await;
    let (header, mut frames) = begin(&mut raw, Start::After(old)).await;
    assert!(!header.recovered);
    assert_ne!(header.epoch, old.epoch);
    assert_eq!(header.first, 1);
    post(server.broker(), [9]);
    frames.hears("9").await;
}

both!(the_latest_come_first);
async fn the_latest_come_first(transport: Transport) {
    let server = TestServer::start().await;
    post(server.broker(), 1..=3);
    for (count, first) in [(0, 4), (1, 3), (2, 2), (3, 1), (4, 1), (u64::MAX, 1)] {
        let mut raw = session(&server, transport).await;
        let (header, mut frames) = begin(&mut raw, Start::Latest(count)).await;
        assert_eq!((header.first, header.recovered), (first, false), "{count}");
        for number in first..=3 {
            frames.hears(&number.to_string()).await;
        }
    }
    let mut raw = session(&server, transport).await;
    let (_, mut frames) = begin(&mut raw, Start::Latest(1)).await;
    post(server.broker(), [4]);
    frames.hears("3").await;
    frames.hears("4").await;
    // Of a channel without a log there is no latest.
    let subscribed = raw.subscribe_from("chat-room-2", Start::Latest(1)).await;
    assert_eq!(subscribed.unwrap().position.offset, 0);
}

both!(at_the_head_is_where_subscribe_begins);
async fn at_the_head_is_where_subscribe_begins(transport: Transport) {
    let server = TestServer::start().await;
    let head = post(server.broker(), 1..=3);
    let mut raw = session(&server, transport).await;
    let (header, mut frames) = begin(&mut raw, Start::Head).await;
    assert_eq!((header.first, header.recovered), (4, false));
    assert_eq!(header.epoch, head.epoch);
    post(server.broker(), [4]);
    frames.hears("4").await;
}

both!(it_is_refused_as_subscribe_is);
async fn it_is_refused_as_subscribe_is(transport: Transport) {
    let server = TestServer::start().await;
    let mut raw = session(&server, transport).await;
    let refused = [
        ("a b", Code::INVALID_CHANNEL, "' '"),
        ("user-2", Code::PERMISSION_DENIED, "user-2"),
        ("global", Code::ALREADY_SUBSCRIBED, "global"),
    ];
    for (channel, code, word) in refused {
        for start in [Start::Head, Start::Latest(1)] {
            let refusal = raw.subscribe_from(channel, start).await.unwrap_err();
            assert_refusal(channel, &refusal, code, word);
        }
    }
    // Unsubscribing makes room for it at once.
    let (_, welcome) = Dial::new(&server, transport)
        .welcomed(server.token("2"))
        .await;
    assert!(
        welcome
            .subscriptions
            .iter()
            .any(|auto| auto.channel == "global")
    );
    begin(&mut raw, Start::Head).await;
}

both!(what_falls_off_before_it_was_written_is_told);
async fn what_falls_off_before_it_was_written_is_told(transport: Transport) {
    // More than a stream takes unread, so that the reader of the log stands behind.
    const SIZE: usize = 60_000;
    const COUNT: u64 = 100;
    let server = TestServer::start_with(|builder| {
        builder.retention(|_| Retention {
            bytes: 40 * SIZE,
            ..Retention::default()
        })
    })
    .await;
    let data = || Message::data("a/b", vec![7; SIZE]);
    let head = server.broker().post(&room(), data()).unwrap();
    let mut raw = session(&server, transport).await;
    let (header, mut frames) = begin(&mut raw, after(head, 0)).await;
    assert!(header.recovered);
    for _ in 1..COUNT {
        server.broker().post(&room(), data()).unwrap();
    }
    let (mut due, mut lagged) = (1, 0);
    while due <= COUNT {
        match frames.next().await {
            Frame::Publication(publication) => {
                assert_eq!(publication.offset, due);
                due += 1;
            }
            Frame::Lagged(Lagged { from, to }) => {
                assert_eq!(from, due);
                lagged += to - from + 1;
                due = to + 1;
            }
            other => panic!("no Publication but {other:?}"),
        }
    }
    assert!(lagged > 0, "{COUNT} messages were not too many");
}

each!(a_subscription_says_where_its_reader_is);
async fn a_subscription_says_where_its_reader_is(transport: Transport) {
    let server = TestServer::start().await;
    let before = post(server.broker(), 1..=2);
    let client = server.client("1", transport).await.unwrap();
    let mut first = client.subscribe(ROOM).await.unwrap();
    assert_eq!(
        (first.reached(), first.position()),
        (Some(before), Some(before))
    );
    let last = post(server.broker(), 3..=5);
    for offset in 3..=4 {
        first.next_publication().await.unwrap();
        let position = Position { offset, ..last };
        assert_eq!(first.reached(), Some(position));
    }
    assert_eq!(first.position(), Some(before), "where it began stays");
    // Another client goes on behind it.
    let reached = first.reached().unwrap();
    let other = server.client("2", transport).await.unwrap();
    let mut other = other
        .subscribe_from(ROOM, Start::After(reached))
        .await
        .unwrap();
    let publication = other.next_publication().await.unwrap();
    assert_eq!(publication.offset, last.offset);
    assert_eq!(other.reached(), Some(last));
}

//! Reading what a channel's log keeps (PROTOCOL §4.11).

mod common;

use std::time::Duration;

use common::{
    both, each,
    raw::{Dial, Raw, assert_refusal},
    text,
};
use tidings::{
    ChannelName, Code, Message, Position, Start,
    auth::{Rule, Rules, Who},
    broker::Retention,
    client::Transport,
    testing::TestServer,
    wire::{Epoch, History, HistoryQuery, Kept, Pattern},
};

const ROOM: &str = "chat-room-1";

fn room() -> ChannelName {
    ChannelName::parse(ROOM).unwrap()
}

/// Posts numbers; where the last of them stands.
fn post(server: &TestServer, numbers: impl IntoIterator<Item = u64>) -> Position {
    let posted = numbers.into_iter().map(|number| {
        let message = Message::text(number.to_string());
        server.broker().post(&room(), message).unwrap()
    });
    posted.last().unwrap()
}

async fn session(server: &TestServer, transport: Transport) -> Raw {
    let dial = Dial::new(server, transport);
    dial.welcomed(server.token("1")).await.0
}

both!(a_page_holds_what_was_asked_for);
async fn a_page_holds_what_was_asked_for(transport: Transport) {
    let server = TestServer::start_with(|builder| {
        builder.retention(|_| Retention {
            count: 3,
            ..Retention::default()
        })
    })
    .await;
    let mut raw = session(&server, transport).await;
    let (page, found) = raw.history(ROOM, HistoryQuery::oldest(9)).await.unwrap();
    assert_eq!((page.kept, page.complete, found), (None, true, vec![]));
    assert_eq!(
        server.broker().position(&room()),
        None,
        "no channel was made"
    );
    let head = post(&server, 1..=5);
    let at = |offset| Position { offset, ..head };
    let kept = Some(Kept {
        epoch: head.epoch,
        first: 3,
        last: 5,
    });
    let (oldest, newest) = (HistoryQuery::oldest, HistoryQuery::newest);
    for (query, numbers) in [
        (oldest(u64::MAX), &["3", "4", "5"][..]),
        (oldest(2), &["3", "4"]),
        (oldest(2).from(at(4)), &["5"]),
        (newest(2), &["5", "4"]),
        (newest(2).from(at(4)), &["3"]),
        (oldest(0), &[]),
    ] {
        let (page, found) = raw.history(ROOM, query).await.unwrap();
        assert_eq!((page.kept, page.complete), (kept, true), "{query:?}");
        let texts: Vec<_> = found.iter().map(text).collect();
        assert_eq!(texts, numbers, "{query:?}");
    }
    let other = Position {
        epoch: Epoch(head.epoch.0 ^ 1),
        offset: 4,
    };
    for lost in [at(1), at(6), other] {
        let (page, found) = raw.history(ROOM, oldest(9).from(lost)).await.unwrap();
        assert_eq!(
            (page.kept, page.complete, found),
            (kept, false, vec![]),
            "{lost}"
        );
    }
    // Requests behind a page are answered as ever.
    raw.ping().await;
}

both!(history_of_a_channel_without_readers_outlives_the_idle_timeout);
async fn history_of_a_channel_without_readers_outlives_the_idle_timeout(transport: Transport) {
    let server = TestServer::start_with(|builder| {
        builder
            .channel_idle(Duration::ZERO)
            .retention(|channel| Retention {
                age: if channel.as_str() == ROOM {
                    Duration::from_secs(3600)
                } else {
                    Duration::ZERO
                },
                ..Retention::default()
            })
    })
    .await;
    let mut raw = session(&server, transport).await;
    let head = post(&server, 1..=3);
    let other = ChannelName::parse("chat-room-2").unwrap();
    server.broker().post(&other, Message::text("x")).unwrap();
    while server.broker().position(&other).is_some() {
        server.broker().sweep();
        tokio::task::yield_now().await;
    }
    let (page, found) = raw.history(ROOM, HistoryQuery::oldest(9)).await.unwrap();
    assert_eq!((page.complete, found.len()), (true, 3));
    assert_eq!(page.kept.map(|kept| kept.epoch), Some(head.epoch));
}

each!(a_client_reads_page_after_page);
async fn a_client_reads_page_after_page(transport: Transport) {
    let server = TestServer::start().await;
    let head = post(&server, 1..=600);
    let client = server.client("1", transport).await.unwrap();
    let mut query = HistoryQuery::oldest(u64::MAX);
    let mut numbers = Vec::new();
    let mut pages = 0;
    loop {
        // Other requests are under way meanwhile.
        let (page, pinged) = tokio::join!(client.history(ROOM, query), client.ping());
        pinged.unwrap();
        let page: History = page.unwrap();
        assert!(page.complete);
        numbers.extend(page.publications.iter().map(|one| one.offset));
        match page.next() {
            Some(next) => query = query.from(next),
            None => break,
        }
        pages += 1;
    }
    assert_eq!((pages, numbers), (3, (1..=600).collect::<Vec<_>>()));
    let newest = client.history(ROOM, HistoryQuery::newest(1)).await.unwrap();
    assert_eq!(text(&newest.publications[0]), "600");
    assert_eq!(newest.next(), Some(head));
    assert_eq!(
        server.broker().history(&room(), &HistoryQuery::newest(1)),
        newest
    );
    let refused = client.history("user-2", query).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PERMISSION_DENIED));
}

each!(large_publications_make_short_pages);
async fn large_publications_make_short_pages(transport: Transport) {
    let server = TestServer::start().await;
    for _ in 0..10 {
        let large = Message::data("a/b", vec![7; 60_000]);
        server.broker().post(&room(), large).unwrap();
    }
    let client = server.client("1", transport).await.unwrap();
    let page = client
        .history(ROOM, HistoryQuery::oldest(10))
        .await
        .unwrap();
    assert_eq!(page.publications.len(), 4, "256 KiB at most");
}

both!(who_may_read_is_what_the_rule_says);
async fn who_may_read_is_what_the_rule_says(transport: Transport) {
    let rule = |pattern: &str, history: Option<Who>| {
        let pattern = Pattern::parse(pattern).unwrap();
        let mut rule = Rule::new(pattern, Who::Authenticated, Who::Nobody);
        rule.history = history;
        rule
    };
    let rules = Rules::new(vec![
        rule("open", None),
        rule("closed", Some(Who::Nobody)),
        rule("own-{user}", Some(Who::Owner)),
    ]);
    let server = TestServer::start_with(|builder| builder.rules(rules.unwrap())).await;
    for name in ["open", "closed", "own-1", "own-2"] {
        let channel = ChannelName::parse(name).unwrap();
        server.broker().post(&channel, Message::text("x")).unwrap();
    }
    let mut raw = session(&server, transport).await;
    for (channel, may) in [
        ("open", true),
        ("closed", false),
        ("own-1", true),
        ("own-2", false),
    ] {
        let read = raw.history(channel, HistoryQuery::oldest(1)).await;
        let begun = raw.subscribe_from(channel, Start::Latest(1)).await;
        if may {
            assert_eq!(read.unwrap().1.len(), 1, "{channel}");
            assert_eq!(begun.unwrap().position.offset, 0, "{channel}");
            continue;
        }
        let word = format!("history of {channel}");
        assert_refusal(channel, &read.unwrap_err(), Code::PERMISSION_DENIED, &word);
        assert_refusal(channel, &begun.unwrap_err(), Code::PERMISSION_DENIED, &word);
        // To follow it and to continue after a break needs no more than a subscription.
        let channel_name = ChannelName::parse(channel).unwrap();
        let head = server.broker().position(&channel_name).unwrap();
        raw.subscribe_from(channel, Start::After(head))
            .await
            .unwrap();
    }
    let refusal = raw
        .history("a b", HistoryQuery::oldest(1))
        .await
        .unwrap_err();
    assert_refusal("a name", &refusal, Code::INVALID_CHANNEL, "' '");
}

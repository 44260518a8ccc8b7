//! What becomes of a subscription that does not take publications as fast as they come, by the rule of its channel (PROTOCOL §5.1,
//! §5.3 to §5.5), and who goes first on a connection that cannot take all.

mod common;

use std::time::Duration;

use common::{
    both, each, publication,
    raw::{Dial, Frames, Raw},
    relay::Relay,
};
use tidings::{
    ChannelName, Code, Message, Start,
    auth::{OnLag, Priority, Rule, Rules, Who},
    broker::Retention,
    client::{Client, Event, Transport, Trust},
    testing::TestServer,
    wire::{
        Pattern,
        frame::{Delivery, Frame, Lagged, Skipped},
    },
};

/// More than a stream takes unread, twice over: 256 KiB of the client's, 1 MiB of the connection's.
const COUNT: u64 = 50;
const SIZE: usize = 60_000;

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn big() -> Message {
    Message::data("a/b", vec![7; SIZE])
}

/// A server with one rule for every channel.
async fn serve(change: impl Fn(Rule) -> Rule) -> TestServer {
    serve_with([("{any}", &change as &dyn Fn(Rule) -> Rule)]).await
}

async fn serve_with<'a>(
    rules: impl IntoIterator<Item = (&'a str, &'a dyn Fn(Rule) -> Rule)>,
) -> TestServer {
    let rule = |(pattern, change): (&str, &dyn Fn(Rule) -> Rule)| {
        let pattern = Pattern::parse(pattern).unwrap();
        change(Rule::new(pattern, Who::Everyone, Who::Everyone))
    };
    let rules = Rules::new(rules.into_iter().map(rule).collect()).unwrap();
    TestServer::start_with(|builder| {
        builder.rules(rules).retention(|_| Retention {
            bytes: 2 * COUNT as usize * SIZE,
            ..Retention::default()
        })
    })
    .await
}

/// What a stream says until the publication with the offset `last`, which is told in order and without a hole.
#[derive(Debug, Default)]
struct Told {
    publications: Vec<u64>,
    skipped: u64,
    lagged: u64,
}

impl Told {
    async fn read(frames: &mut Frames, last: u64) -> Self {
        let mut told = Self::default();
        let mut due = 1;
        while due <= last {
            let (from, to) = match frames.next().await {
                Frame::Publication(publication) => {
                    told.publications.push(publication.offset);
                    (publication.offset, publication.offset)
                }
                Frame::Skipped(Skipped { from, to }) => {
                    told.skipped += to - from + 1;
                    (from, to)
                }
                Frame::Lagged(Lagged { from, to }) => {
                    told.lagged += to - from + 1;
                    (from, to)
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(from, due, "{told:?}");
            due = to + 1;
        }
        told
    }
}

async fn reader(server: &TestServer, transport: Transport) -> (Raw, Frames, Delivery) {
    let dial = Dial::new(server, transport);
    let (mut raw, _) = dial.welcomed(server.token("1")).await;
    let subscribed = raw.subscribe("room").await.unwrap();
    let (header, frames) = raw.headed(subscribed.subscription).await;
    (raw, frames, header.delivery)
}

both!(the_latest_is_what_a_stalled_reader_goes_on_with);
async fn the_latest_is_what_a_stalled_reader_goes_on_with(transport: Transport) {
    let server = serve(|rule| rule.on_lag(OnLag::Latest)).await;
    let (_raw, mut frames, delivery) = reader(&server, transport).await;
    assert_eq!(delivery, Delivery::FRESH);
    for _ in 0..COUNT {
        server.broker().post(&channel("room"), big()).unwrap();
    }
    // Whether the server has tried to write all of it or not, what it holds back is left out but for the newest.
    let told = Told::read(&mut frames, COUNT).await;
    assert_eq!(told.publications.last(), Some(&COUNT), "the newest comes");
    assert!(told.skipped > COUNT / 2, "{told:?}");
    assert_eq!(told.lagged, 0);
    assert_eq!(server.broker().stats().skipped, told.skipped);
    // A reader that keeps up gets everything.
    for text in ["1", "2", "3"] {
        server
            .broker()
            .post(&channel("room"), Message::text(text))
            .unwrap();
        frames.hears(text).await;
    }
}

each!(the_latest_leaves_nothing_out_for_a_reader_that_keeps_up);
async fn the_latest_leaves_nothing_out_for_a_reader_that_keeps_up(transport: Transport) {
    let server = serve(|rule| rule.on_lag(OnLag::Latest)).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("room").await.unwrap();
    for round in 0..20 {
        // A burst that fits the first window of a connection.
        for _ in 0..20 {
            let message = Message::data("a/b", vec![7; 100]);
            server.broker().post(&channel("room"), message).unwrap();
        }
        for number in 1..=20 {
            assert_eq!(publication(&mut room).await.offset, round * 20 + number);
        }
    }
    assert_eq!(server.broker().stats().skipped, 0);
}

/// A client at the end of a way that carries 50 kB a second.
async fn far_client(server: &TestServer, transport: Transport) -> (Relay, Client) {
    let relay = Relay::start(server.address(), 50_000).await;
    let (server_address, way) = (server.address().to_string(), relay.address.to_string());
    let url = server.url(transport).replace(&server_address, &way);
    let trust = Trust::Hashes(vec![server.certificate_sha256()]);
    let builder = Client::builder(url).trust(trust).token(server.token("1"));
    (relay, builder.connect().await.unwrap())
}

/// Publications that a far client is given and told were left out, of 100 of 2 kB: a fifth of what a connection holds unacknowledged
/// otherwise, and four seconds of the way.
async fn over_a_slow_way(server: &TestServer, transport: Transport) -> (u64, u64) {
    let (_relay, client) = far_client(server, transport).await;
    let mut room = client.subscribe("room").await.unwrap();
    for _ in 0..100 {
        let message = Message::data("a/b", vec![7; 2_000]);
        server.broker().post(&channel("room"), message).unwrap();
    }
    let (mut given, mut skipped) = (0, 0);
    while given + skipped < 100 {
        let event = room.next().await.unwrap();
        match &event {
            Event::Publication(publication) => {
                given += 1;
                assert_eq!(publication.offset, given + skipped);
            }
            Event::Skipped { .. } => skipped += event.missed().unwrap(),
            other => panic!("{other:?}"),
        }
    }
    (given, skipped)
}

both!(what_waits_below_the_stream_is_little_where_it_is_to_be_fresh);
async fn what_waits_below_the_stream_is_little_where_it_is_to_be_fresh(transport: Transport) {
    let server = serve(|rule| rule.on_lag(OnLag::Latest)).await;
    let (given, skipped) = over_a_slow_way(&server, transport).await;
    assert!(skipped > 50, "{given} given, {skipped} left out");
}

both!(everything_comes_over_a_slow_way_where_nothing_else_is_said);
async fn everything_comes_over_a_slow_way_where_nothing_else_is_said(transport: Transport) {
    let server = serve(|rule| rule).await;
    assert_eq!(over_a_slow_way(&server, transport).await, (100, 0));
}

each!(the_client_tells_what_was_left_out);
async fn the_client_tells_what_was_left_out(transport: Transport) {
    let server = serve(|rule| rule.on_lag(OnLag::Latest)).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("room").await.unwrap();
    for _ in 0..COUNT {
        server.broker().post(&channel("room"), big()).unwrap();
    }
    let (mut due, mut skipped) = (1, 0);
    while due <= COUNT {
        let event = room.next().await.unwrap();
        due += match &event {
            Event::Publication(publication) => {
                assert_eq!(publication.offset, due);
                1
            }
            Event::Skipped { from, .. } => {
                assert_eq!(*from, due);
                skipped += event.missed().unwrap();
                event.missed().unwrap()
            }
            other => panic!("{other:?}"),
        };
    }
    assert!(skipped > 0);
}

both!(what_is_too_old_when_its_turn_comes_is_left_out);
async fn what_is_too_old_when_its_turn_comes_is_left_out(transport: Transport) {
    const AGE: Duration = Duration::from_secs(2);
    let server = serve(|rule| rule.max_age(AGE)).await;
    let (_raw, mut frames, delivery) = reader(&server, transport).await;
    assert_eq!(delivery, Delivery::FRESH);
    for _ in 0..COUNT {
        server.broker().post(&channel("room"), big()).unwrap();
    }
    // What time does to them; the newest is old, too.
    tokio::time::sleep(AGE + Duration::from_millis(100)).await;
    let last = server
        .broker()
        .post(&channel("room"), Message::text("now"))
        .unwrap();
    let told = Told::read(&mut frames, last.offset).await;
    assert_eq!(told.publications.last(), Some(&last.offset));
    assert!(told.skipped > COUNT / 2, "{told:?}");
    let ahead = told.publications.len() as u64 - 1;
    assert_eq!(ahead + told.skipped, COUNT);
}

each!(nobody_is_given_the_newest_when_it_is_too_old);
async fn nobody_is_given_the_newest_when_it_is_too_old(transport: Transport) {
    let server = serve(|rule| rule.max_age(Duration::from_millis(1))).await;
    for text in ["1", "2", "3"] {
        server
            .broker()
            .post(&channel("room"), Message::text(text))
            .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client
        .subscribe_from("room", Start::Latest(2))
        .await
        .unwrap();
    let skipped = Event::Skipped { from: 2, to: 3 };
    assert_eq!(room.next().await, Some(skipped));
}

/// A server whose channels hold less than a stalled reader is behind.
async fn forgetful() -> TestServer {
    let pattern = Pattern::parse("{any}").unwrap();
    let rule = Rule::new(pattern, Who::Everyone, Who::Everyone).on_lag(OnLag::Cut);
    let rules = Rules::new(vec![rule]).unwrap();
    TestServer::start_with(|builder| {
        builder.rules(rules).retention(|_| Retention {
            count: 4,
            ..Retention::default()
        })
    })
    .await
}

both!(a_subscription_that_lags_is_cut_where_the_rule_says_so);
async fn a_subscription_that_lags_is_cut_where_the_rule_says_so(transport: Transport) {
    let server = forgetful().await;
    let (mut raw, mut frames, delivery) = reader(&server, transport).await;
    assert_eq!(delivery, Delivery::ORDERED);
    for _ in 0..COUNT {
        server.broker().post(&channel("room"), big()).unwrap();
    }
    let mut due = 1;
    let end = loop {
        match frames.next().await {
            Frame::Publication(publication) => {
                assert_eq!(publication.offset, due);
                due += 1;
            }
            Frame::End(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end.code, Code::LAGGED);
    assert!(due <= COUNT, "it was not too slow");
    assert_eq!(frames.read().await.unwrap(), None, "nothing follows");
    // It may begin again, with what is there.
    let subscribed = raw.subscribe("room").await.unwrap();
    assert_eq!(subscribed.position.offset, COUNT);
}

each!(a_client_whose_subscription_was_cut_comes_back);
async fn a_client_whose_subscription_was_cut_comes_back(transport: Transport) {
    let server = forgetful().await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("room").await.unwrap();
    for _ in 0..COUNT {
        server.broker().post(&channel("room"), big()).unwrap();
    }
    let (mut seen, mut missed) = (0, 0);
    while seen < COUNT {
        match room.next().await.unwrap() {
            Event::Publication(publication) => {
                seen += 1;
                assert_eq!(publication.offset, seen);
            }
            // It goes on with what is still there.
            Event::Break { before, after } => {
                assert_eq!(before.offset, seen);
                missed += after.offset - seen;
                seen = after.offset;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(missed > 0, "it was not too slow");
    server
        .broker()
        .post(&channel("room"), Message::text("x"))
        .unwrap();
    assert_eq!(publication(&mut room).await.offset, COUNT + 1);
}

/// What a client takes unread in all.
const NARROW: u32 = 32 * 1024;

both!(the_higher_priority_goes_first);
async fn the_higher_priority_goes_first(transport: Transport) {
    let rank = |priority| move |rule: Rule| rule.priority(priority);
    let (low, normal) = (rank(Priority::Low), rank(Priority::Normal));
    let (high, urgent) = (rank(Priority::High), rank(Priority::Urgent));
    let server = serve_with([
        ("bulk", &low as &dyn Fn(Rule) -> Rule),
        ("room", &normal),
        ("chat", &high),
        ("alarm", &urgent),
    ])
    .await;
    let dial = Dial::new(&server, transport).total(NARROW);
    let (mut raw, _) = dial.welcomed(server.token("1")).await;
    let names = ["bulk", "room", "chat", "alarm"];
    let mut streams = Vec::new();
    for name in names {
        let subscribed = raw.subscribe(name).await.unwrap();
        streams.push(raw.stream(subscribed.subscription).await);
    }
    let Ok([mut bulk, mut room, mut chat, mut alarm]) = <[Frames; 4]>::try_from(streams) else {
        panic!("four streams")
    };
    // All the room there is goes to the bulk first, since nothing else is there.
    const EACH: u64 = 300;
    for _ in 0..EACH {
        let message = Message::data("a/b", vec![7; 2_000]);
        server.broker().post(&channel("bulk"), message).unwrap();
    }
    bulk.next().await;
    for name in ["room", "chat", "alarm"] {
        for _ in 0..EACH {
            let message = Message::data("a/b", vec![7; 2_000]);
            server.broker().post(&channel(name), message).unwrap();
        }
    }
    // Whoever is first has all when the next has little more than what fits into the room.
    let mut counts = [1, 0, 0, 0];
    let mut order = Vec::new();
    while counts.iter().sum::<u64>() < 4 * EACH {
        let index = tokio::select! {
            biased;
            _ = alarm.next(), if counts[3] < EACH => 3,
            _ = chat.next(), if counts[2] < EACH => 2,
            _ = room.next(), if counts[1] < EACH => 1,
            _ = bulk.next(), if counts[0] < EACH => 0,
        };
        counts[index] += 1;
        if counts[index] == EACH {
            order.push((names[index], counts));
        }
    }
    let ends: Vec<_> = order.iter().map(|(name, _)| *name).collect();
    assert_eq!(ends, ["alarm", "chat", "room", "bulk"]);
    // What the room held when the others came, and once more for what was on its way.
    let held = u64::from(NARROW) / 2_000 * 2;
    let (_, at_alarm) = order[0];
    assert!(
        at_alarm[..3].iter().all(|&count| count <= held),
        "{at_alarm:?}"
    );
    let (_, at_chat) = order[1];
    assert!(
        at_chat[..2].iter().all(|&count| count <= held),
        "{at_chat:?}"
    );
    let (_, at_room) = order[2];
    assert!(at_room[0] <= held, "{at_room:?}");
}

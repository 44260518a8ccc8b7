//! Over a way that carries little, what gives way and what is to be fresh goes out packet by packet (PROTOCOL §5): all of it arrives
//! nevertheless, in order, on streams and on lanes.

mod common;

use std::collections::BTreeMap;

use common::{
    both, publication,
    raw::{Dial, Raw, hello},
    relay::Relay,
};
use tidings::{
    ChannelName, Message,
    auth::{Keyframes, OnLag, Priority, Rule, Rules, Who},
    client::{Client, Event, Transport, Trust},
    testing::TestServer,
    wire::{LANES, Pattern, frame::Frame},
};

/// Bytes a second of the way: a packet takes six milliseconds and more.
const RATE: u32 = 200_000;
const BULK: u64 = 40;
const SIZE: usize = 10_000;

/// Channels that give way, one that goes first, and some of which the newest counts.
async fn serve() -> TestServer {
    let rule = |pattern: &str| {
        let pattern = Pattern::parse(pattern).unwrap();
        Rule::new(pattern, Who::Everyone, Who::Everyone)
    };
    let rules = vec![
        rule("bulk-{n}").priority(Priority::Low),
        rule("news-{n}")
            .priority(Priority::Low)
            .on_lag(OnLag::Latest),
        rule("spot-{n}")
            .priority(Priority::Low)
            .datagrams(Keyframes::default()),
        rule("state-{n}").on_lag(OnLag::Latest),
        rule("room").priority(Priority::High),
    ];
    TestServer::start_with(|builder| builder.rules(Rules::new(rules).unwrap())).await
}

async fn far_client(server: &TestServer, transport: Transport) -> (Relay, Client) {
    let relay = Relay::start(server.address(), RATE).await;
    let (near, far) = (relay.address.to_string(), server.address().to_string());
    let url = server.url(transport).replace(&far, &near);
    let trust = Trust::Hashes(vec![server.certificate_sha256()]);
    let builder = Client::builder(url).trust(trust).token(server.token("1"));
    (relay, builder.connect().await.unwrap())
}

fn post(server: &TestServer, name: &str, message: Message) -> u64 {
    let name = ChannelName::parse(name).unwrap();
    server.broker().post(&name, message).unwrap().offset
}

fn big() -> Message {
    Message::data("a/b", vec![7; SIZE])
}

both!(what_gives_way_arrives_whole_beside_what_goes_first);
async fn what_gives_way_arrives_whole_beside_what_goes_first(transport: Transport) {
    let server = serve().await;
    let (_relay, client) = far_client(&server, transport).await;
    let mut bulk = client.subscribe("bulk-1").await.unwrap();
    let mut room = client.subscribe("room").await.unwrap();
    for _ in 0..BULK {
        post(&server, "bulk-1", big());
    }
    for offset in 1..=BULK {
        assert_eq!(publication(&mut bulk).await.offset, offset);
        if offset < BULK / 2 {
            let posted = post(&server, "room", Message::text("x"));
            assert_eq!(publication(&mut room).await.offset, posted);
        }
    }
    assert_eq!(server.broker().stats().skipped, 0);
    // Idle again, it comes at once.
    let posted = post(&server, "bulk-1", Message::text("x"));
    assert_eq!(publication(&mut bulk).await.offset, posted);
}

both!(the_newest_comes_however_it_travels);
async fn the_newest_comes_however_it_travels(transport: Transport) {
    const NAMES: [&str; 5] = ["news-1", "news-2", "spot-1", "state-1", "state-2"];
    let server = serve().await;
    let (_relay, client) = far_client(&server, transport).await;
    let mut bulk = client.subscribe("bulk-1").await.unwrap();
    let mut channels = Vec::new();
    for name in NAMES {
        channels.push(client.subscribe(name).await.unwrap());
    }
    // So that the way is known.
    for offset in 1..=BULK / 2 {
        post(&server, "bulk-1", big());
        if offset % 5 == 0 {
            while publication(&mut bulk).await.offset < offset {}
        }
    }
    let mut last = 0;
    for _ in 0..100 {
        for name in NAMES {
            last = post(&server, name, Message::data("a/b", vec![7; 1_000]));
        }
    }
    for subscription in &mut channels {
        let mut reached = 0;
        while reached < last {
            match subscription.next().await.unwrap() {
                Event::Publication(publication) => {
                    assert!(publication.offset > reached);
                    reached = publication.offset;
                }
                Event::Skipped { from, .. } => assert_eq!(from, reached + 1),
                other => panic!("{other:?}"),
            }
        }
    }
}

both!(lanes_give_way_too);
async fn lanes_give_way_too(transport: Transport) {
    const CHANNELS: u64 = 4;
    let server = serve().await;
    let relay = Relay::start(server.address(), RATE).await;
    let dial = Dial::new(&server, transport).to(relay.address).streams(1);
    let mut raw = knowing(&dial, &server).await;
    let mut due = BTreeMap::new();
    for number in 1..=CHANNELS {
        let subscribed = raw.subscribe(&format!("bulk-{number}")).await.unwrap();
        due.insert(subscribed.subscription, 1);
    }
    for _ in 0..BULK / CHANNELS {
        for number in 1..=CHANNELS {
            post(&server, &format!("bulk-{number}"), big());
        }
    }
    let mut frames = common::raw::Frames::new(raw.session.accept_uni().await.unwrap());
    let mut turn = 0;
    let mut left = BULK / CHANNELS * CHANNELS;
    while left > 0 {
        match frames.next().await {
            Frame::Turn(next) => turn = next.subscription,
            Frame::Publication(publication) => {
                let due = due.get_mut(&turn).unwrap();
                assert_eq!(publication.offset, *due);
                *due += 1;
                left -= 1;
            }
            Frame::Lane(_) | Frame::Header(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn knowing(dial: &Dial, server: &TestServer) -> Raw {
    let mut raw = dial.open().await;
    let mut hello = hello(Some(server.token("1")));
    hello.features = vec![LANES.into()];
    raw.send(hello).await;
    match raw.next().await {
        Frame::Welcome(welcome) => assert_eq!(welcome.features, [LANES]),
        other => panic!("no Welcome but {other:?}"),
    }
    raw
}

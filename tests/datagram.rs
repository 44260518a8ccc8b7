//! Channels whose publications travel as datagrams (PROTOCOL §5.6): the newest wins, keyframes on the stream heal, and who takes no
//! datagrams has the stream.

mod common;

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use common::{
    both,
    gate::Gate,
    publication,
    raw::{Dial, Frames, Member, Raw, hello},
    relay::Relay,
    text,
};
use tidings::{
    ChannelName, Code, Message, Start,
    auth::{Keyframes, Rule, Rules, Who},
    client::{Client, Event, Subscription, Transport, Trust},
    testing::TestServer,
    wire::{
        Pattern, Publication, datagram,
        frame::{Delivery, Frame, Header, Welcome},
    },
};

/// No test lasts as long: what comes on the stream is no keyframe of the clock.
const NEVER: Duration = Duration::from_secs(3600);

fn keyframes() -> Keyframes {
    Keyframes::default().interval(NEVER)
}

/// A server whose channels all travel as datagrams, but for rooms.
async fn serve(keyframes: Keyframes) -> TestServer {
    serve_with(|rule| rule.datagrams(keyframes)).await
}

async fn serve_with(change: impl Fn(Rule) -> Rule) -> TestServer {
    let rule = |pattern| {
        let pattern = Pattern::parse(pattern).unwrap();
        Rule::new(pattern, Who::Everyone, Who::Everyone)
    };
    let rules = vec![rule("chat-room-{room}"), change(rule("{any}"))];
    let rules = Rules::new(rules).unwrap();
    TestServer::start_with(|builder| builder.rules(rules)).await
}

fn post(server: &TestServer, channel: &str, message: impl Into<Message>) -> u64 {
    let channel = ChannelName::parse(channel).unwrap();
    let posted = server.broker().post(&channel, message.into());
    posted.unwrap().offset
}

/// A client that says it takes datagrams.
async fn raw(server: &TestServer, dial: &Dial) -> (Raw, Welcome) {
    let mut raw = dial.open().await;
    let mut hello = hello(Some(server.token("1")));
    hello.features = vec!["unknown".to_owned(), datagram::FEATURE.to_owned()];
    raw.send(hello).await;
    match raw.next().await {
        Frame::Welcome(welcome) => (raw, welcome),
        other => panic!("no Welcome but {other:?}"),
    }
}

/// Its subscription.
async fn subscribed(raw: &mut Raw, channel: &str, start: Start) -> (Header, Frames) {
    let subscribed = raw.subscribe_from(channel, start).await.unwrap();
    let (header, frames) = raw.headed(subscribed.subscription).await;
    assert_eq!(header.first, subscribed.position.offset + 1);
    (header, frames)
}

async fn by_datagram(raw: &Raw, header: &Header) -> Publication {
    let bytes = raw.session.read_datagram().await.unwrap();
    let (subscription, publication) = datagram::decode(&bytes).unwrap();
    assert_eq!(subscription, header.subscription);
    publication.expect("the server sends publications")
}

async fn on_stream(frames: &mut Frames) -> Publication {
    match frames.next().await {
        Frame::Publication(publication) => publication,
        other => panic!("no Publication but {other:?}"),
    }
}

/// A client at the end of another way.
async fn client_at(server: &TestServer, transport: Transport, way: std::net::SocketAddr) -> Client {
    let (direct, way) = (server.address().to_string(), way.to_string());
    let url = server.url(transport).replace(&direct, &way);
    let trust = Trust::Hashes(vec![server.certificate_sha256()]);
    let builder = Client::builder(url).trust(trust).token(server.token("1"));
    builder.connect().await.unwrap()
}

async fn hears(subscription: &mut Subscription, offset: u64) {
    assert_eq!(publication(subscription).await.offset, offset);
}

both!(who_comes_late_begins_with_the_state_and_goes_on_by_datagram);
async fn who_comes_late_begins_with_the_state_and_goes_on_by_datagram(transport: Transport) {
    let server = serve(keyframes()).await;
    for state in ["1", "2", "3"] {
        post(&server, "state", Message::text(state));
    }
    let (mut raw, welcome) = raw(&server, &Dial::new(&server, transport)).await;
    assert_eq!(welcome.features, [datagram::FEATURE]);
    let (header, mut frames) = subscribed(&mut raw, "state", Start::Head).await;
    assert_eq!((header.delivery, header.first), (Delivery::DATAGRAM, 3));
    frames.hears("3").await;
    for state in ["4", "5", "6"] {
        post(&server, "state", Message::text(state));
        assert_eq!(text(&by_datagram(&raw, &header).await), state);
    }
    // Another channel of the connection, and another kind.
    let (other, _stream) = subscribed(&mut raw, "other", Start::Head).await;
    post(&server, "other", Message::text("first"));
    assert_eq!(text(&by_datagram(&raw, &other).await), "first");
    let (room, _) = subscribed(&mut raw, "chat-room-1", Start::Head).await;
    assert_eq!(room.delivery, Delivery::ORDERED);
    // What was sent by datagram comes on the stream before it ends.
    let stopped = server.stop();
    let ends = async {
        frames.hears("6").await;
        match frames.next().await {
            Frame::End(end) => assert_eq!(end.code, Code::GOING_AWAY),
            other => panic!("no End but {other:?}"),
        }
    };
    tokio::join!(stopped, ends);
}

both!(an_end_that_the_server_orders_comes_after_the_newest);
async fn an_end_that_the_server_orders_comes_after_the_newest(transport: Transport) {
    let server = serve(keyframes()).await;
    let (mut raw, _) = raw(&server, &Dial::new(&server, transport)).await;
    let (header, mut frames) = subscribed(&mut raw, "state", Start::Head).await;
    for state in ["1", "2", "3"] {
        post(&server, "state", Message::text(state));
        // The datagram might have been lost, and the stream has none of them.
        by_datagram(&raw, &header).await;
    }
    let [session] = &server.sessions().of_user(&"1".parse().unwrap())[..] else {
        panic!("one session");
    };
    assert!(session.unsubscribe(&ChannelName::parse("state").unwrap()));
    frames.hears("3").await;
    match frames.next().await {
        Frame::End(end) => assert_eq!(end.code, Code::ENDED),
        other => panic!("no End but {other:?}"),
    }
    // Whoever asks for the end has no use for it.
    let begun = raw.subscribe("other").await.unwrap();
    let (header, mut frames) = raw.headed(begun.subscription).await;
    post(&server, "other", Message::text("1"));
    by_datagram(&raw, &header).await;
    raw.unsubscribe(begun.subscription).await.unwrap();
    frames.ends().await;
}

both!(nothing_is_told_of_what_is_kept_to_who_may_not_read_it);
async fn nothing_is_told_of_what_is_kept_to_who_may_not_read_it(transport: Transport) {
    let server = serve_with(|rule| rule.datagrams(keyframes()).history(Who::Nobody)).await;
    post(&server, "state", Message::text("before"));
    let (mut raw, _) = raw(&server, &Dial::new(&server, transport)).await;
    let (header, mut frames) = subscribed(&mut raw, "state", Start::Head).await;
    assert_eq!(header.first, 2);
    post(&server, "state", Message::text("after"));
    assert_eq!(text(&by_datagram(&raw, &header).await), "after");
    server.stop().await;
    frames.hears("after").await;
}

both!(who_comes_back_begins_with_the_newest);
async fn who_comes_back_begins_with_the_newest(transport: Transport) {
    let server = serve(keyframes()).await;
    let (mut raw, _) = raw(&server, &Dial::new(&server, transport)).await;
    let (header, _frames) = subscribed(&mut raw, "state", Start::Head).await;
    for _ in 0..5 {
        post(&server, "state", Message::text("state"));
    }
    raw.unsubscribe(header.subscription).await.unwrap();
    let after = Start::After(tidings::Position {
        epoch: header.epoch,
        offset: 1,
    });
    let (header, mut frames) = subscribed(&mut raw, "state", after).await;
    assert_eq!((header.recovered, header.first), (true, 2));
    assert_eq!(on_stream(&mut frames).await.offset, 5);
}

both!(a_client_is_given_all_of_it_where_nothing_is_lost);
async fn a_client_is_given_all_of_it_where_nothing_is_lost(transport: Transport) {
    let server = serve(keyframes().messages(NonZeroU32::new(7).unwrap())).await;
    let client = server.client("1", transport).await.unwrap();
    let mut state = client.subscribe("state").await.unwrap();
    for _ in 0..50 {
        let offset = post(&server, "state", Message::text("state"));
        hears(&mut state, offset).await;
    }
    // A few at once, some of them keyframes.
    for _ in 0..5 {
        let posted: Vec<_> = (0..5)
            .map(|_| post(&server, "state", Message::text("state")))
            .collect();
        for offset in posted {
            hears(&mut state, offset).await;
        }
    }
    assert_eq!(server.broker().stats().skipped, 0);
}

both!(every_so_many_publications_one_comes_on_the_stream_too);
async fn every_so_many_publications_one_comes_on_the_stream_too(transport: Transport) {
    let server = serve(keyframes().messages(NonZeroU32::new(3).unwrap())).await;
    let (mut raw, _) = raw(&server, &Dial::new(&server, transport)).await;
    let (header, mut frames) = subscribed(&mut raw, "state", Start::Head).await;
    for offset in 1..=12 {
        post(&server, "state", Message::text("state"));
        let sent = by_datagram(&raw, &header).await;
        assert_eq!(sent.offset, offset);
        if offset % 3 == 0 {
            assert_eq!(on_stream(&mut frames).await, sent);
        }
    }
}

both!(the_newest_wins);
async fn the_newest_wins(transport: Transport) {
    let server = serve(keyframes()).await;
    let mut gate = Gate::start(server.address()).await;
    let client = client_at(&server, transport, gate.address).await;
    let mut state = client.subscribe("state").await.unwrap();
    for offset in 1..=3 {
        post(&server, "state", Message::text("state"));
        hears(&mut state, offset).await;
    }
    client.ping().await.unwrap();
    gate.hold();
    post(&server, "state", Message::text("overtaken"));
    gate.holds(1).await;
    post(&server, "state", Message::text("overtakes"));
    gate.holds(2).await;
    gate.hand_on_the_last().await;
    let skipped = Event::Skipped { from: 4, to: 4 };
    assert_eq!(state.next().await, Some(skipped));
    hears(&mut state, 5).await;
    gate.open().await;
    // Behind the one that was overtaken, on the same way.
    client.ping().await.unwrap();
    post(&server, "state", Message::text("next"));
    hears(&mut state, 6).await;
}

both!(a_keyframe_heals_what_was_lost);
async fn a_keyframe_heals_what_was_lost(transport: Transport) {
    let server = serve(keyframes().interval(Duration::from_millis(50))).await;
    let mut gate = Gate::start(server.address()).await;
    let client = client_at(&server, transport, gate.address).await;
    let mut state = client.subscribe("state").await.unwrap();
    post(&server, "state", Message::text("first"));
    hears(&mut state, 1).await;
    gate.hold();
    for _ in 0..3 {
        post(&server, "state", Message::text("lost"));
    }
    gate.holds(1).await;
    gate.lose();
    // Nothing is published any more.
    let mut reached = 1;
    while reached < 4 {
        match state.next().await.unwrap() {
            Event::Publication(publication) => reached = publication.offset,
            Event::Skipped { from, .. } => assert!(from > reached),
            other => panic!("{other:?}"),
        }
    }
}

both!(what_no_datagram_holds_comes_on_the_stream);
async fn what_no_datagram_holds_comes_on_the_stream(transport: Transport) {
    let server = serve(keyframes()).await;
    let (mut raw, _) = raw(&server, &Dial::new(&server, transport)).await;
    let (header, mut frames) = subscribed(&mut raw, "state", Start::Head).await;
    let large = || Message::data("a/b", vec![7; 40_000]);
    for round in 0..3 {
        post(&server, "state", large());
        let got = on_stream(&mut frames).await;
        assert_eq!((got.offset, got.message), (2 * round + 1, large()));
        let offset = post(&server, "state", Message::text("small"));
        assert_eq!(by_datagram(&raw, &header).await.offset, offset);
    }
}

both!(who_takes_no_datagrams_has_the_latest_on_the_stream);
async fn who_takes_no_datagrams_has_the_latest_on_the_stream(transport: Transport) {
    let server = serve(keyframes()).await;
    post(&server, "state", Message::text("before"));
    let dial = Dial::new(&server, transport);
    // One that does not know of them, and one whose QUIC has none.
    let (silent, silent_welcome) = dial.welcomed(server.token("1")).await;
    let (without, without_welcome) = raw(&server, &dial.no_datagrams()).await;
    for (mut raw, welcome) in [(silent, silent_welcome), (without, without_welcome)] {
        assert!(welcome.features.is_empty());
        let (header, mut frames) = subscribed(&mut raw, "state", Start::Head).await;
        assert_eq!(header.delivery, Delivery::FRESH);
        let mut reached = on_stream(&mut frames).await.offset;
        assert_eq!(reached, header.first);
        let mut last = 0;
        for _ in 0..30 {
            last = post(&server, "state", Message::data("a/b", vec![7; 60_000]));
        }
        let mut skipped = 0;
        while reached < last {
            reached = match frames.next().await {
                Frame::Publication(publication) => publication.offset,
                Frame::Skipped(left_out) => {
                    skipped += 1;
                    left_out.to
                }
                other => panic!("{other:?}"),
            };
        }
        assert!(skipped > 0);
    }
}

both!(who_does_not_read_holds_up_nobody);
async fn who_does_not_read_holds_up_nobody(transport: Transport) {
    let server = serve(keyframes().interval(Duration::from_millis(20))).await;
    let client = server.client("1", transport).await.unwrap();
    let mut unread = client.subscribe("unread").await.unwrap();
    let mut state = client.subscribe("state").await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    for offset in 1..=1_000 {
        post(&server, "unread", Message::data("a/b", vec![7; 1_000]));
        post(&server, "state", Message::text("state"));
        hears(&mut state, offset).await;
        post(&server, "chat-room-1", Message::text("said"));
        hears(&mut room, offset).await;
    }
    // It has the newest, and is told what it missed.
    let (mut given, mut missed) = (0, 0);
    while given + missed < 1_000 {
        let event = unread.next().await.unwrap();
        missed += event.missed().unwrap();
        if let Event::Publication(publication) = event {
            given += 1;
            assert_eq!(publication.offset, given + missed);
        }
    }
    assert!((1..=500).contains(&given), "{given} were kept");
}

both!(over_a_slow_way_the_newest_comes);
async fn over_a_slow_way_the_newest_comes(transport: Transport) {
    let server = serve(keyframes()).await;
    let relay = Relay::start(server.address(), 50_000).await;
    let client = client_at(&server, transport, relay.address).await;
    let mut channels = Vec::new();
    for name in ["a", "b"] {
        channels.push((name, client.subscribe(name).await.unwrap()));
    }
    for _ in 0..200 {
        for (name, _) in &channels {
            post(&server, name, Message::data("a/b", vec![7; 1_000]));
        }
    }
    for (_, subscription) in &mut channels {
        let (mut reached, mut given) = (0, 0);
        while reached < 200 {
            match subscription.next().await.unwrap() {
                Event::Publication(publication) => {
                    reached = publication.offset;
                    given += 1;
                }
                Event::Skipped { from, .. } => assert_eq!(from, reached + 1),
                other => panic!("{other:?}"),
            }
        }
        assert!(given < 50, "{given} of 200 went a way of four seconds");
    }
    // They were left out before they were sent: nothing waited below, to arrive late or to be lost.
    assert!(server.broker().stats().skipped > 300);
}

both!(a_stream_and_datagrams_share_a_slow_way);
async fn a_stream_and_datagrams_share_a_slow_way(transport: Transport) {
    let server = serve(keyframes()).await;
    let relay = Relay::start(server.address(), 100_000).await;
    let client = client_at(&server, transport, relay.address).await;
    let mut state = client.subscribe("state").await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();
    // Eighteen seconds of the way.
    let bulk = 30;
    for _ in 0..bulk {
        post(
            &server,
            "chat-room-1",
            Message::data("a/b", vec![7; 60_000]),
        );
    }
    hears(&mut room, 1).await;
    let (done, mut seen) = tokio::sync::watch::channel(1);
    let reading = tokio::spawn(async move {
        for offset in 2..=bulk {
            hears(&mut room, offset).await;
            done.send_replace(offset);
        }
    });
    // A state does not wait for what stands before it on the stream.
    for offset in 1..=10 {
        post(&server, "state", Message::data("a/b", vec![7; 1_000]));
        hears(&mut state, offset).await;
    }
    assert!(
        *seen.borrow() < bulk / 2,
        "the states waited for {} of {bulk}",
        *seen.borrow()
    );
    // Nor the stream for states that never end.
    let flood = tokio::spawn(async move {
        loop {
            post(&server, "state", Message::data("a/b", vec![7; 1_000]));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let before = *seen.borrow();
    seen.wait_for(|done| *done >= before + 3).await.unwrap();
    flood.abort();
    reading.abort();
}

both!(whatever_datagrams_a_client_sends_the_server_passes_over);
async fn whatever_datagrams_a_client_sends_the_server_passes_over(transport: Transport) {
    let server = serve(keyframes()).await;
    let mut member = Member::join(&server, transport).await;
    for round in 0..2_000_usize {
        let bytes: Vec<u8> = (0..round % 1_100).map(|at| (at * round) as u8).collect();
        // Past the session, too: HTTP/3 sees a quarter of a stream id in it, or none.
        let sent = if round % 2 == 0 {
            member.raw.session.send_datagram(Bytes::from(bytes)).is_ok()
        } else {
            quinn::Connection::send_datagram(&member.raw.session, Bytes::from(bytes)).is_ok()
        };
        assert!(sent, "the server says that it takes datagrams");
        if round % 100 == 0 {
            member.works().await;
        }
    }
    member.works().await;
}

//! What may be said of a publication beside its content (PROTOCOL §4.14): no echo, and which state it is.

mod common;

use std::collections::BTreeMap;

use common::{
    both, each, publication,
    raw::{Dial, Frames, Raw, assert_refusal},
    text,
};
use tidings::{
    ChannelName, Code, Message, Start,
    auth::{Keyframes, OnLag, Rule, Rules, Who},
    broker::Terms,
    client::{Event, Transport},
    testing::TestServer,
    wire::{
        Pattern, PublishOptions,
        frame::{Delivery, Frame, Own, PublishWith, Skipped},
    },
};

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

/// A server where everybody may everything in every channel.
async fn serve(change: impl Fn(Rule) -> Rule) -> TestServer {
    let pattern = Pattern::parse("{any}").unwrap();
    let rule = change(Rule::new(pattern, Who::Everyone, Who::Everyone));
    let rules = Rules::new(vec![rule]).unwrap();
    TestServer::start_with(|builder| builder.rules(rules)).await
}

async fn welcomed(server: &TestServer, transport: Transport, user: &str) -> Raw {
    let dial = Dial::new(server, transport);
    dial.welcomed(server.token(user)).await.0
}

fn request(request: u64, text: &str) -> PublishWith {
    PublishWith {
        request,
        channel: "room".to_owned(),
        key: None,
        conflation_key: None,
        echo: true,
        message: Message::text(text),
    }
}

/// Publishes, and returns the offset and whether it stood there.
async fn publish(raw: &mut Raw, with: PublishWith) -> (u64, bool) {
    let request = with.request;
    raw.send(with).await;
    match raw.answer(request).await.unwrap() {
        Frame::PublishedOnce(published) => (published.position.offset, published.duplicate),
        other => panic!("{other:?}"),
    }
}

both!(a_connection_is_not_sent_what_it_published_without_an_echo);
async fn a_connection_is_not_sent_what_it_published_without_an_echo(transport: Transport) {
    let server = serve(|rule| rule).await;
    let mut author = welcomed(&server, transport, "1").await;
    // The same user, on another device.
    let mut other = welcomed(&server, transport, "1").await;
    let mut streams = Vec::new();
    for raw in [&mut author, &mut other] {
        let subscribed = raw.subscribe("room").await.unwrap();
        streams.push(raw.stream(subscribed.subscription).await);
    }
    let [mut own, mut others] = <[Frames; 2]>::try_from(streams).ok().unwrap();
    let silent = |id, text| PublishWith {
        echo: false,
        ..request(id, text)
    };
    assert_eq!(publish(&mut author, request(101, "1")).await, (1, false));
    own.hears("1").await;
    for (id, offset, text) in [(102, 2, "2"), (103, 3, "3")] {
        assert_eq!(
            publish(&mut author, silent(id, text)).await,
            (offset, false)
        );
    }
    // Told, so that nothing seems to be missing; once or twice, by how they came.
    let mut due = 2;
    while due <= 3 {
        match own.next().await {
            Frame::Own(Own { from, to }) => {
                assert_eq!(from, due);
                due = to + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(publish(&mut other, silent(104, "4")).await, (4, false));
    own.hears("4").await;
    for text in ["1", "2", "3"] {
        others.hears(text).await;
    }
    let left = others.next().await;
    assert_eq!(left, Frame::Own(Own { from: 4, to: 4 }));
    // It is this connection that does not want it: another one gets all.
    let mut again = welcomed(&server, transport, "1").await;
    let begun = again
        .subscribe_from("room", Start::Latest(4))
        .await
        .unwrap();
    let mut all = again.stream(begun.subscription).await;
    for text in ["1", "2", "3", "4"] {
        all.hears(text).await;
    }
}

each!(a_client_does_not_notice_what_it_published_without_an_echo);
async fn a_client_does_not_notice_what_it_published_without_an_echo(transport: Transport) {
    let server = serve(|rule| rule).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("room").await.unwrap();
    let silent = PublishOptions::new().without_echo();
    for number in 0..5 {
        let published = client.publish_with("room", Message::text("own"), silent.clone());
        assert_eq!(published.await.unwrap().position.offset, 2 * number + 1);
        let text_of = number.to_string();
        client
            .publish("room", Message::text(&*text_of))
            .await
            .unwrap();
        let heard = publication(&mut room).await;
        assert_eq!((text(&heard), heard.offset), (&*text_of, 2 * number + 2));
    }
    // With a key it is stored once, and not sent either way.
    let once = silent.key("k");
    for duplicate in [false, true] {
        let published = client.publish_with("room", Message::text("own"), once.clone());
        assert_eq!(published.await.unwrap().duplicate, duplicate);
    }
    client.publish("room", Message::text("end")).await.unwrap();
    assert_eq!(text(&publication(&mut room).await), "end");
}

each!(by_datagram_there_is_no_echo_either);
async fn by_datagram_there_is_no_echo_either(transport: Transport) {
    let server = serve(|rule| rule.datagrams(Keyframes::default())).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("room").await.unwrap();
    let silent = PublishOptions::new().without_echo();
    for _ in 0..3 {
        let published = client.publish_with("room", Message::text("own"), silent.clone());
        published.await.unwrap();
    }
    client.publish("room", Message::text("end")).await.unwrap();
    loop {
        match room.next().await.unwrap() {
            Event::Publication(heard) => {
                assert_eq!(text(&heard), "end");
                break;
            }
            // A gap is its nature.
            event => assert!(matches!(event, Event::Skipped { .. }), "{event:?}"),
        }
    }
}

both!(a_key_of_no_use_is_refused_and_the_connection_lives_on);
async fn a_key_of_no_use_is_refused_and_the_connection_lives_on(transport: Transport) {
    let server = serve(|rule| rule).await;
    let mut raw = welcomed(&server, transport, "1").await;
    let long = "k".repeat(129);
    for (id, key) in [(201, ""), (202, &*long)] {
        let with = request(id, "x");
        raw.send(PublishWith {
            conflation_key: Some(key.to_owned()),
            ..with
        })
        .await;
        let refusal = raw.answer(id).await.unwrap_err();
        assert_refusal(key, &refusal, Code::INVALID_KEY, "1 to 128");
    }
    // The reason that is named first counts (PROTOCOL §4.3, §4.6).
    raw.send(PublishWith {
        conflation_key: Some(String::new()),
        message: Message::text("x".repeat(70_000)),
        ..request(204, "")
    })
    .await;
    let refusal = raw.answer(204).await.unwrap_err();
    assert_refusal("both", &refusal, Code::MESSAGE_TOO_LARGE, "65536");
    let longest = Some("k".repeat(128));
    let with = PublishWith {
        conflation_key: longest,
        ..request(203, "x")
    };
    assert_eq!(publish(&mut raw, with).await, (1, false));
}

/// States in one channel, and publications of each.
const STATES: u64 = 8;
const ROUNDS: u64 = 40;
/// The client takes less unread than one round has.
const SIZE: usize = 20_000;

/// Publishes all states in turn, each with its number and a round's, and between rounds something that is no state.
fn move_all(server: &TestServer) {
    for round in 0..ROUNDS {
        for state in 0..STATES {
            let mut bytes = vec![7; SIZE];
            (bytes[0], bytes[1]) = (state as u8, round as u8);
            let (key, message) = (state.to_string(), Message::data("a/b", bytes));
            let terms = Terms::new().conflation_key(&key);
            let broker = server.broker();
            broker
                .publish_with(&channel("room"), None, &message, terms)
                .unwrap();
        }
        let message = Message::data("a/b", vec![u8::MAX, round as u8]);
        server.broker().post(&channel("room"), message).unwrap();
    }
}

both!(who_lags_gets_the_newest_of_each_state_and_all_that_is_none);
async fn who_lags_gets_the_newest_of_each_state_and_all_that_is_none(transport: Transport) {
    let rules = |rule: Rule| rule.on_lag(OnLag::LatestPerKey);
    let pattern = Pattern::parse("{any}").unwrap();
    let rule = rules(Rule::new(pattern, Who::Everyone, Who::Everyone));
    let server = TestServer::start_with(|builder| {
        builder
            .rules(Rules::new(vec![rule]).unwrap())
            .retention(|_| tidings::broker::Retention {
                bytes: 64 << 20,
                ..Default::default()
            })
    })
    .await;
    let dial = Dial::new(&server, transport).total(32 * 1024);
    let (mut raw, _) = dial.welcomed(server.token("1")).await;
    let subscribed = raw.subscribe("room").await.unwrap();
    let (header, mut frames) = raw.headed(subscribed.subscription).await;
    assert_eq!(header.delivery, Delivery::FRESH);
    move_all(&server);
    let (mut due, mut left_out) = (1, 0);
    let mut rounds: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while due <= ROUNDS * (STATES + 1) {
        match frames.next().await {
            Frame::Publication(publication) => {
                assert_eq!(publication.offset, due);
                due += 1;
                let Message::Data(data) = publication.message else {
                    panic!("{publication:?}");
                };
                rounds.entry(data.bytes[0]).or_default().push(data.bytes[1]);
            }
            Frame::Skipped(Skipped { from, to }) => {
                assert_eq!(from, due);
                left_out += to - from + 1;
                due = to + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let all: Vec<_> = (0..ROUNDS as u8).collect();
    assert_eq!(
        rounds.remove(&u8::MAX),
        Some(all),
        "what is no state is all there"
    );
    for state in 0..STATES as u8 {
        let heard = rounds.remove(&state).unwrap();
        assert!(heard.is_sorted(), "{heard:?}");
        assert_eq!(heard.last(), Some(&(ROUNDS as u8 - 1)), "the newest comes");
    }
    assert!(left_out > STATES * ROUNDS / 2, "{left_out}");
}

each!(who_keeps_up_gets_every_state);
async fn who_keeps_up_gets_every_state(transport: Transport) {
    let server = serve(|rule| rule.on_lag(OnLag::LatestPerKey)).await;
    let client = server.client("1", transport).await.unwrap();
    let mut room = client.subscribe("room").await.unwrap();
    for number in 0..20 {
        let options = PublishOptions::new().conflation_key("one");
        let message = Message::text(number.to_string());
        client.publish_with("room", message, options).await.unwrap();
        assert_eq!(text(&publication(&mut room).await), number.to_string());
    }
    // However many stand there when its stream is looked at.
    for number in 20..60 {
        let (message, terms) = (number.to_string(), Terms::new().conflation_key("one"));
        let broker = server.broker();
        broker
            .publish_with(&channel("room"), None, &Message::text(message), terms)
            .unwrap();
    }
    for number in 20..60 {
        assert_eq!(text(&publication(&mut room).await), number.to_string());
    }
}

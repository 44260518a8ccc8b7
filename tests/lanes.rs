//! More subscriptions than the client permits streams: they share lanes (PROTOCOL §5.7).

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use common::{
    both,
    raw::{Dial, Frames, Raw, assert_refusal, hello},
};
use tidings::{
    ChannelName, Code, Message,
    auth::{OnLag, Priority, Rule, Rules, Who},
    broker::Retention,
    client::Transport,
    endpoint::{Endpoint, Session},
    testing::TestServer,
    wire::{
        LANES, Pattern,
        frame::{Frame, Header, Lane, Turn},
    },
};

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

/// What a rule of a test is beside its pattern.
type Change = fn(Rule) -> Rule;

/// A server where everybody may everything, with these rules first.
async fn serve(
    rules: impl IntoIterator<Item = (&'static str, Change)>,
    endpoint: Keeper,
) -> TestServer {
    let others: (_, Change) = ("{any}", |rule| rule);
    let rule = |(pattern, change): (&str, Change)| {
        let pattern = Pattern::parse(pattern).unwrap();
        change(Rule::new(pattern, Who::Everyone, Who::Everyone))
    };
    let rules = rules.into_iter().chain([others]).map(rule).collect();
    TestServer::start_with(|builder| {
        let builder = builder.rules(Rules::new(rules).unwrap()).endpoint(endpoint);
        builder.retention(|_| Retention {
            bytes: 64 << 20,
            ..Retention::default()
        })
    })
    .await
}

/// User code that keeps the sessions.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Session>>>);

#[async_trait::async_trait]
impl Endpoint for Keeper {
    async fn session_opened(&self, session: &Session) {
        self.0.lock().unwrap().push(session.clone());
    }
}

/// A client that knows lanes, in full.
async fn knowing(dial: &Dial, server: &TestServer) -> Raw {
    let mut raw = dial.open().await;
    let mut hello = hello(Some(server.token("1")));
    hello.features = vec!["not one that anybody knows".into(), LANES.into()];
    raw.send(hello).await;
    match raw.next().await {
        Frame::Welcome(welcome) => assert_eq!(welcome.features, [LANES]),
        other => panic!("no Welcome but {other:?}"),
    }
    raw
}

/// What came on the streams of a client, by subscription.
#[derive(Default)]
struct Heard {
    headers: BTreeMap<u64, Header>,
    texts: BTreeMap<u64, Vec<String>>,
    ends: BTreeMap<u64, Code>,
    /// By number of the lane.
    on_lane: BTreeMap<u64, BTreeSet<u64>>,
    finished: usize,
}

/// A client's reader of all streams, each by a task of its own, as a browser would have it.
#[derive(Clone, Default)]
struct Reader(Arc<Mutex<Heard>>, Arc<tokio::sync::Notify>);

impl Reader {
    fn start(raw: &Raw) -> Self {
        let reader = Self::default();
        let (session, reads) = (raw.session.clone(), reader.clone());
        tokio::spawn(async move {
            while let Ok(stream) = session.accept_uni().await {
                tokio::spawn(reads.clone().read(Frames::new(stream)));
            }
        });
        reader
    }

    async fn read(self, mut frames: Frames) {
        let mut lane = None;
        let mut turn = None;
        loop {
            let frame = match frames.read().await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return,
            };
            let mut heard = self.0.lock().unwrap();
            match frame {
                Frame::Lane(Lane { lane: number }) => {
                    assert!(lane.is_none() && turn.is_none(), "first, or not at all");
                    lane = Some(number);
                    heard.on_lane.entry(number).or_default();
                }
                Frame::Turn(Turn { subscription }) => {
                    assert!(lane.is_some(), "no turns on a stream of one's own");
                    turn = Some(subscription);
                }
                Frame::Header(header) => {
                    let id = header.subscription;
                    assert_eq!(lane.is_some(), turn == Some(id), "{header:?}");
                    turn = Some(id);
                    if let Some(lane) = lane {
                        heard.on_lane.get_mut(&lane).unwrap().insert(id);
                    }
                    assert!(heard.headers.insert(id, header).is_none());
                }
                Frame::Publication(publication) => {
                    let id = turn.unwrap();
                    assert!(heard.headers.contains_key(&id), "its header came before");
                    assert!(!heard.ends.contains_key(&id), "nothing after its end");
                    let text = match publication.message {
                        Message::Data(data) => {
                            let head = &data.bytes[..data.bytes.len().min(8)];
                            String::from_utf8(head.to_vec()).unwrap()
                        }
                        message => message.as_text().unwrap().to_owned(),
                    };
                    heard.texts.entry(id).or_default().push(text);
                }
                Frame::End(end) => {
                    assert!(heard.ends.insert(turn.unwrap(), end.code).is_none());
                }
                Frame::Skipped(_) => {}
                other => panic!("{other:?}"),
            }
            drop(heard);
            self.1.notify_waiters();
        }
        self.0.lock().unwrap().finished += 1;
        self.1.notify_waiters();
    }

    async fn until<T>(&self, found: impl Fn(&Heard) -> Option<T>) -> T {
        loop {
            let changed = self.1.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = found(&self.0.lock().unwrap()) {
                return found;
            }
            changed.await;
        }
    }

    async fn hears(&self, id: u64, count: usize) -> Vec<String> {
        self.until(|heard| {
            heard
                .texts
                .get(&id)
                .filter(|texts| texts.len() >= count)
                .cloned()
        })
        .await
    }

    async fn end(&self, id: u64) -> Code {
        self.until(|heard| heard.ends.get(&id).copied()).await
    }
}

both!(subscriptions_beyond_the_streams_share_lanes);
async fn subscriptions_beyond_the_streams_share_lanes(transport: Transport) {
    const ROOMS: usize = 100;
    let server = serve([], Keeper::default()).await;
    for streams in [1, 2, 5, 12] {
        let mut raw = knowing(&Dial::new(&server, transport).streams(streams), &server).await;
        let reader = Reader::start(&raw);
        let name = |room: usize| format!("room-{streams}-{room}");
        let mut ids = Vec::new();
        for room in 0..ROOMS {
            ids.push(raw.subscribe(&name(room)).await.unwrap().subscription);
        }
        for round in 0..5 {
            for room in 0..ROOMS {
                let message = Message::text(format!("{room} {round}"));
                server
                    .broker()
                    .post(&channel(&name(room)), message)
                    .unwrap();
            }
        }
        for (room, id) in ids.iter().enumerate() {
            let expected: Vec<_> = (0..5).map(|round| format!("{room} {round}")).collect();
            assert_eq!(reader.hears(*id, 5).await, expected);
        }
        let heard = reader.0.lock().unwrap();
        let shared: usize = heard.on_lane.values().map(BTreeSet::len).sum();
        // Four are kept back, one of which all of these share, for they have the same priority.
        let own = streams.saturating_sub(4) as usize;
        assert_eq!((heard.on_lane.len(), shared), (1, ROOMS - own), "{streams}");
        for (room, id) in ids.iter().enumerate() {
            let header = &heard.headers[id];
            assert_eq!((&*header.name, header.first), (&*name(room), 1));
        }
    }
}

both!(who_knows_no_lanes_or_permits_no_stream_at_all_is_refused);
async fn who_knows_no_lanes_or_permits_no_stream_at_all_is_refused(transport: Transport) {
    let server = serve([], Keeper::default()).await;
    let dial = Dial::new(&server, transport);
    let mut raw = knowing(&dial.clone().streams(0), &server).await;
    let refusal = raw.subscribe("room").await.unwrap_err();
    assert_refusal("no stream", &refusal, Code::NO_STREAM_LEFT, "no further");
    let (mut raw, welcome) = dial.streams(1).welcomed(server.token("1")).await;
    assert!(welcome.features.is_empty());
    raw.subscribe("room-1").await.unwrap();
    let refusal = raw.subscribe("room-2").await.unwrap_err();
    assert_refusal("no lane", &refusal, Code::NO_STREAM_LEFT, "no further");
}

both!(each_priority_has_a_lane_of_its_own);
async fn each_priority_has_a_lane_of_its_own(transport: Transport) {
    let rules: [(_, Change); 3] = [
        ("low-{n}", |rule| rule.priority(Priority::Low)),
        ("high-{n}", |rule| rule.priority(Priority::High)),
        ("urgent-{n}", |rule| rule.priority(Priority::Urgent)),
    ];
    let server = serve(rules, Keeper::default()).await;
    let kinds = ["urgent", "normal", "low", "high"];
    for (streams, lanes) in [(4, 4), (3, 3), (1, 1)] {
        let mut raw = knowing(&Dial::new(&server, transport).streams(streams), &server).await;
        let reader = Reader::start(&raw);
        let mut ids = Vec::new();
        for kind in kinds {
            for number in 0..3 {
                let name = format!("{kind}-{number}");
                ids.push(raw.subscribe(&name).await.unwrap().subscription);
            }
        }
        let all = ids.len();
        reader
            .until(|heard| (heard.headers.len() == all).then_some(()))
            .await;
        let on_lane = reader.0.lock().unwrap().on_lane.clone();
        assert_eq!(on_lane.len(), lanes);
        for kind in ids.chunks(3) {
            let together = |lane: &BTreeSet<u64>| kind.iter().all(|id| lane.contains(id));
            assert!(on_lane.values().any(together), "{streams}: {on_lane:?}");
        }
    }
}

both!(what_is_taken_in_part_is_not_torn_apart);
async fn what_is_taken_in_part_is_not_torn_apart(transport: Transport) {
    const ROOMS: usize = 12;
    const EACH: usize = 20;
    let latest: [(_, Change); 1] = [("latest-{n}", |rule| rule.on_lag(OnLag::Latest))];
    let server = serve(latest, Keeper::default()).await;
    // A window of a fraction of a message: every one is taken in many parts, and all wait for each other.
    let dial = Dial::new(&server, transport).streams(1).window(3000);
    let mut raw = knowing(&dial, &server).await;
    let reader = Reader::start(&raw);
    let name = |room: usize| match room % 3 {
        0 => format!("latest-{room}"),
        _ => format!("room-{room}"),
    };
    let mut ids = Vec::new();
    for room in 0..ROOMS {
        ids.push(raw.subscribe(&name(room)).await.unwrap().subscription);
    }
    for number in 0..EACH {
        for room in 0..ROOMS {
            // Of many sizes, none of which is a multiple of the window.
            let size = 8 + (room * 7919 + number * 104_729) % 20_011;
            let mut bytes = format!("{number:08}").into_bytes();
            bytes.resize(size, b'.');
            let message = Message::data("a/b", bytes);
            server
                .broker()
                .post(&channel(&name(room)), message)
                .unwrap();
        }
    }
    for (room, id) in ids.iter().enumerate() {
        let last = format!("{:08}", EACH - 1);
        let heard = reader
            .until(|heard| {
                let texts = heard.texts.get(id)?;
                texts.contains(&last).then(|| texts.clone())
            })
            .await;
        if room % 3 == 0 {
            assert!(heard.is_sorted(), "{heard:?}");
            assert!(heard.len() < EACH, "some were left out");
        } else {
            let all: Vec<_> = (0..EACH).map(|number| format!("{number:08}")).collect();
            assert_eq!(heard, all);
        }
    }
}

both!(a_subscription_ends_on_its_lane_and_the_others_go_on);
async fn a_subscription_ends_on_its_lane_and_the_others_go_on(transport: Transport) {
    let server = serve([], Keeper::default()).await;
    let mut raw = knowing(&Dial::new(&server, transport).streams(1), &server).await;
    let reader = Reader::start(&raw);
    let stays = raw.subscribe("stays").await.unwrap().subscription;
    let post = |name: &str, text: String| {
        server
            .broker()
            .post(&channel(name), Message::text(text))
            .unwrap();
    };
    // More often than a session may have subscriptions: an end frees its place.
    for round in 0..600 {
        let goes = raw.subscribe("goes").await.unwrap().subscription;
        post("goes", "for who is here".to_owned());
        reader.hears(goes, 1).await;
        raw.unsubscribe(goes).await.unwrap();
        assert_eq!(reader.end(goes).await, Code::UNSUBSCRIBED);
        post("goes", "for nobody".to_owned());
        post("stays", round.to_string());
        assert_eq!(
            reader.hears(stays, round + 1).await[round],
            round.to_string()
        );
    }
}

both!(ends_that_a_lane_does_not_take_are_bounded);
async fn ends_that_a_lane_does_not_take_are_bounded(transport: Transport) {
    let server = serve([], Keeper::default()).await;
    let dial = Dial::new(&server, transport).streams(1).window(100);
    let mut raw = knowing(&dial, &server).await;
    // Nobody reads the lane.
    raw.subscribe("full").await.unwrap();
    let message = Message::text("x".repeat(1000));
    server.broker().post(&channel("full"), message).unwrap();
    let mut refused = None;
    for _ in 0..10_000 {
        match raw.subscribe("goes").await {
            Ok(made) => raw.unsubscribe(made.subscription).await.unwrap(),
            Err(refusal) => {
                refused = Some(refusal);
                break;
            }
        }
    }
    let (code, reason) = refused.expect("it has an end");
    assert_eq!(code, Code::TOO_MANY_SUBSCRIPTIONS, "{reason}");
    raw.ping().await;
}

both!(a_lane_that_is_stopped_takes_its_subscriptions_along);
async fn a_lane_that_is_stopped_takes_its_subscriptions_along(transport: Transport) {
    let keeper = Keeper::default();
    let server = serve([], keeper.clone()).await;
    let mut raw = knowing(&Dial::new(&server, transport).streams(5), &server).await;
    let mut made = Vec::new();
    for name in ["own", "shared-1", "shared-2"] {
        made.push(raw.subscribe(name).await.unwrap().subscription);
    }
    let mut own = None;
    let mut lane = None;
    while own.is_none() || lane.is_none() {
        let mut frames = Frames::new(raw.session.accept_uni().await.unwrap());
        match frames.next().await {
            Frame::Header(header) if header.name == "own" => own = Some(frames),
            Frame::Lane(_) => lane = Some(frames),
            other => panic!("{other:?}"),
        }
    }
    lane.unwrap().stop(Code::UNSUBSCRIBED);
    let session = keeper.0.lock().unwrap()[0].clone();
    while session.subscriptions().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(session.subscriptions()[0].name, channel("own"));
    server
        .broker()
        .post(&channel("own"), Message::text("on"))
        .unwrap();
    own.unwrap().hears("on").await;
    // And again, on another lane.
    let reader = Reader::start(&raw);
    let again = raw.subscribe("shared-1").await.unwrap().subscription;
    server
        .broker()
        .post(&channel("shared-1"), Message::text("x"))
        .unwrap();
    assert_eq!(reader.hears(again, 1).await, ["x"]);
}

both!(a_server_that_goes_away_ends_lanes_in_order);
async fn a_server_that_goes_away_ends_lanes_in_order(transport: Transport) {
    let server = serve([], Keeper::default()).await;
    let mut raw = knowing(&Dial::new(&server, transport).streams(5), &server).await;
    let reader = Reader::start(&raw);
    let mut ids = Vec::new();
    for name in ["own", "shared-1", "shared-2", "left"] {
        ids.push(raw.subscribe(name).await.unwrap().subscription);
    }
    let left = ids.pop().unwrap();
    raw.unsubscribe(left).await.unwrap();
    for name in ["own", "shared-1", "shared-2"] {
        server
            .broker()
            .post(&channel(name), Message::text("last"))
            .unwrap();
    }
    server.stop().await;
    for id in ids {
        assert_eq!(reader.hears(id, 1).await, ["last"]);
        assert_eq!(reader.end(id).await, Code::GOING_AWAY);
    }
    assert_eq!(reader.end(left).await, Code::UNSUBSCRIBED);
    reader
        .until(|heard| (heard.finished == 2).then_some(()))
        .await;
}

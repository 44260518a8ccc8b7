//! Who is in a channel, and who comes and goes (PROTOCOL §4.15).

mod common;

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use common::{
    both, each, publication,
    raw::{Dial, Raw, assert_refusal},
    relay::Relay,
};
use futures_util::{StreamExt, future::join_all};
use tidings::{
    ChannelName, Code, Message, Publication, Start,
    auth::{InvalidRule, OnLag, Rule, Rules, Who},
    broker::{Delivery, PublishError},
    client::{Client, ClientError, Event, Socket, Subscription, Transport, Trust},
    endpoint::{Endpoint, Session},
    server::Builder,
    testing::TestServer,
    wire::{Attendance, HistoryQuery, Member, Pattern, Presence, frame::Frame},
};
use tokio::time::Instant;

const ROOM: &str = "room";

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn rule(pattern: &str) -> Rule {
    let pattern = Pattern::parse(pattern).unwrap();
    Rule::new(pattern, Who::Everyone, Who::Everyone)
}

fn rules() -> Rules {
    let pattern = Pattern::parse("secret").unwrap();
    Rules::new(vec![
        rule(ROOM).presence(),
        rule("vote-{n}").presence().hide_publisher(),
        rule("lobby").presence().auto_subscribe(),
        rule("quiet"),
        Rule::new(pattern, Who::Nobody, Who::Everyone).presence(),
    ])
    .unwrap()
}

async fn start() -> TestServer {
    TestServer::start_with(|builder| builder.rules(rules())).await
}

fn change(publication: &Publication) -> Option<&Presence> {
    match &publication.message {
        Message::Presence(change) => {
            assert_eq!(publication.publisher, None);
            Some(change)
        }
        _ => None,
    }
}

/// The number of a client's session.
fn session(client: &Client) -> u64 {
    u64::from_str_radix(&client.welcome().unwrap().session, 16).unwrap()
}

fn member(client: &Client, user: &str) -> Member {
    Member {
        id: session(client),
        user: Some(user.to_owned()),
    }
}

/// Everything of a page, in an order.
fn whole(page: &Attendance) -> (u64, u64, BTreeSet<(u64, Option<String>)>) {
    assert!(page.complete);
    let members = page.members.iter();
    let set: BTreeSet<_> = members
        .map(|member| (member.id, member.user.clone()))
        .collect();
    assert_eq!(set.len(), page.members.len(), "somebody is listed twice");
    assert_eq!(set.len() as u64, page.connections);
    (page.connections, page.users, set)
}

/// Somebody who keeps up with a channel: a page, and what follows it.
struct Watcher {
    present: Attendance,
    subscription: Subscription,
}

impl Watcher {
    async fn new(client: &Client, name: &str) -> Self {
        let subscription = client.subscribe(name).await.unwrap();
        let present = client.presence(name, 256).await.unwrap();
        Self {
            present,
            subscription,
        }
    }

    /// Keeps up until so many sessions of so many users are there.
    async fn until(&mut self, connections: u64, users: u64) {
        while (self.present.connections, self.present.users) != (connections, users) {
            match self.subscription.next().await {
                Some(Event::Publication(publication)) => {
                    let change = change(&publication).expect("nothing else is published");
                    assert!(change.complete);
                    self.present.apply(publication.offset, change);
                }
                other => panic!("no publication but {other:?}"),
            }
        }
        assert_eq!(self.present.members.len() as u64, connections);
    }
}

each!(who_comes_and_goes_is_told);
async fn who_comes_and_goes_is_told(transport: Transport) {
    let server = start().await;
    let ann = server.client("ann", transport).await.unwrap();
    let mut watcher = Watcher::new(&ann, ROOM).await;
    watcher.until(1, 1).await;
    assert_eq!(watcher.present.members, [member(&ann, "ann")]);
    let phone = server.client("bob", transport).await.unwrap();
    let laptop = server.client("bob", transport).await.unwrap();
    let on_phone = phone.subscribe(ROOM).await.unwrap();
    let _on_laptop = laptop.subscribe(ROOM).await.unwrap();
    watcher.until(3, 2).await;
    for wanted in [member(&phone, "bob"), member(&laptop, "bob")] {
        assert!(watcher.present.members.contains(&wanted), "{wanted:?}");
    }
    // Who asks for as much as there is sees the same, though it is not in the room.
    let guest = server.client("guest", transport).await.unwrap();
    let page = guest.presence(ROOM, 3).await.unwrap();
    assert_eq!(page.position, watcher.present.position);
    assert_eq!(whole(&page), whole(&watcher.present));
    let page = guest.presence(ROOM, 2).await.unwrap();
    assert_eq!((page.members.len(), page.complete), (2, false));
    assert_eq!((page.connections, page.users), (3, 2));
    drop(on_phone);
    watcher.until(2, 2).await;
    laptop.close().await;
    watcher.until(1, 1).await;
    assert_eq!(watcher.present.members, [member(&ann, "ann")]);
}

each!(a_channel_that_nobody_made_has_nobody);
async fn a_channel_that_nobody_made_has_nobody(transport: Transport) {
    let server = start().await;
    let client = server.client("ann", transport).await.unwrap();
    let page = client.presence(ROOM, 9).await.unwrap();
    assert_eq!(page, Attendance::new(None, 0, 0, Vec::new(), true));
    assert_eq!(server.broker().position(&channel(ROOM)), None);
    // Who is subscribed by a rule is there as well.
    let mut watcher = Watcher::new(&client, "lobby").await;
    watcher.until(1, 1).await;
    assert_eq!(watcher.present.members, [member(&client, "ann")]);
}

/// Forwards the room to every client, which is not in it by that.
struct Forwarder;

#[async_trait]
impl Endpoint for Forwarder {
    async fn session_opened(&self, session: &Session) {
        session.forward(&channel(ROOM), &channel("mirror")).unwrap();
    }
}

each!(a_stream_of_user_code_is_nobody_in_the_channel);
async fn a_stream_of_user_code_is_nobody_in_the_channel(transport: Transport) {
    let change = |builder: Builder| builder.rules(rules()).endpoint(Forwarder);
    let server = TestServer::start_with(change).await;
    let ann = server.client("ann", transport).await.unwrap();
    let mut mirror = ann.stream("mirror").unwrap();
    let bob = server.client("bob", transport).await.unwrap();
    let _in_room = bob.subscribe(ROOM).await.unwrap();
    let heard = publication(&mut mirror).await;
    assert_eq!(self::change(&heard).unwrap().joined, [member(&bob, "bob")]);
    let page = ann.presence(ROOM, 9).await.unwrap();
    assert_eq!(page.members, [member(&bob, "bob")]);
}

both!(a_connection_that_vanishes_leaves);
async fn a_connection_that_vanishes_leaves(transport: Transport) {
    let server =
        TestServer::start_with(|builder| builder.rules(rules()).idle(Duration::from_secs(2))).await;
    let mut seen = server.broker().subscribe(&channel(ROOM)).unwrap();
    let relay = Relay::start(server.address(), 10_000_000).await;
    let (direct, way) = (server.address().to_string(), relay.address.to_string());
    let url = server.url(transport).replace(&direct, &way);
    let builder = Client::builder(url)
        .trust(Trust::Hashes(vec![server.certificate_sha256()]))
        .token(server.token("ann"));
    let client = builder.connect().await.unwrap();
    let here = vec![member(&client, "ann")];
    let _subscription = client.subscribe(ROOM).await.unwrap();
    let mut next = async || match seen.next().await {
        Some(Delivery::Publication(publication)) => change(&publication).unwrap().clone(),
        other => panic!("no publication but {other:?}"),
    };
    let came = next().await;
    assert_eq!((came.joined, came.connections), (here.clone(), 1));
    // No word reaches the server from here on, a close least of all.
    drop(relay);
    let went = next().await;
    assert_eq!((went.left, went.connections, went.users), (here, 0, 0));
    assert_eq!(went.joined, []);
}

/// Sessions in the storm: three a user.
const STORM: u64 = 300;

each!(a_storm_is_few_publications);
async fn a_storm_is_few_publications(transport: Transport) {
    let server = start().await;
    let mut seen = server.broker().subscribe(&channel(ROOM)).unwrap();
    let socket = Socket::new();
    let mut clients = Vec::new();
    for number in 0..STORM {
        let builder = server.client_builder(transport).socket(&socket);
        let token = server.token(&format!("user-{}", number / 3));
        clients.push(builder.token(token).connect().await.unwrap());
    }
    let begin = Instant::now();
    let subscribed = join_all(clients.iter().map(|client| client.subscribe(ROOM))).await;
    let subscribed: Vec<_> = subscribed.into_iter().map(Result::unwrap).collect();
    let mut events = Vec::new();
    let mut until = async |connections| loop {
        let publication = match seen.next().await {
            Some(Delivery::Publication(publication)) => publication,
            other => panic!("no publication but {other:?}"),
        };
        let change = change(&publication).unwrap().clone();
        assert!(change.joined.len() + change.left.len() <= 64);
        events.push(publication.time);
        if change.connections == connections {
            break change;
        }
    };
    let all = until(STORM).await;
    assert_eq!(all.users, STORM / 3);
    let page = server.broker().presence(&channel(ROOM), 1_000).unwrap();
    assert_eq!((page.connections, page.users), (STORM, STORM / 3));
    assert_eq!((page.members.len(), page.complete), (256, false));
    drop(subscribed);
    assert_eq!(until(0).await.users, 0);
    let most = begin.elapsed().as_millis() / 250 + 1;
    assert!(events.len() as u128 <= most, "{} of {most}", events.len());
    for pair in events.windows(2) {
        let apart = pair[1] - pair[0];
        // To a few milliseconds of the clock that stamps them.
        assert!(apart >= 240, "two within {apart} ms");
    }
}

each!(a_page_and_what_follows_is_who_is_there);
async fn a_page_and_what_follows_is_who_is_there(transport: Transport) {
    let server = start().await;
    let mut clients = Vec::new();
    for number in 0..12 {
        let user = format!("user-{}", number % 5);
        clients.push(server.client(&user, transport).await.unwrap());
    }
    // Each comes and goes at a pace of its own; something else is said in between.
    let churn = clients
        .iter()
        .enumerate()
        .map(|(number, client)| async move {
            for turn in 0..8_u64 {
                let subscription = client.subscribe(ROOM).await.unwrap();
                tokio::time::sleep(Duration::from_millis(number as u64 * 23 + turn * 11)).await;
                client.publish(ROOM, Message::text("x")).await.unwrap();
                if turn % 2 == 0 || number % 3 > 0 {
                    drop(subscription);
                } else {
                    drop(subscription);
                    let _stays = client.subscribe(ROOM).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
        });
    let asker = server.client("asker", transport).await.unwrap();
    let mut pages = Vec::new();
    let churn = join_all(churn);
    tokio::pin!(churn);
    loop {
        tokio::select! {
            biased;
            _ = &mut churn => break,
            page = asker.presence(ROOM, 256) => pages.push(page.unwrap()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let last = asker.presence(ROOM, 256).await.unwrap();
    let broker = server.broker();
    let mut log = Vec::new();
    let mut query = HistoryQuery::oldest(u64::MAX);
    loop {
        let page = broker.history(&channel(ROOM), &query);
        assert!(page.complete);
        let Some(next) = page.next() else { break };
        log.extend(page.publications);
        query = query.from(next);
    }
    let upto = last.position.unwrap().offset;
    log.retain(|publication| publication.offset <= upto);
    let different: BTreeSet<_> = pages.iter().map(|page| whole(page).2).collect();
    assert!(different.len() > 3, "only {} pages", different.len());
    for mut page in pages.into_iter().filter(|page| page.position.is_some()) {
        let asked = page.position;
        for publication in &log {
            if let Some(change) = change(publication) {
                page.apply(publication.offset, change);
            }
        }
        assert_eq!(whole(&page), whole(&last), "from {asked:?}");
    }
}

both!(presence_is_refused_where_it_is_not_to_be_known);
async fn presence_is_refused_where_it_is_not_to_be_known(transport: Transport) {
    let server = start().await;
    let client = server.client("ann", transport).await.unwrap();
    let _quiet = client.subscribe("quiet").await.unwrap();
    for (name, word) in [("quiet", "has no presence"), ("secret", "subscribe")] {
        match client.presence(name, 9).await {
            Err(ClientError::Request { code, reason }) => {
                assert_refusal(name, &(code, reason), Code::PERMISSION_DENIED, word);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let mut raw: Raw = Dial::new(&server, transport)
        .welcomed(server.token("bob"))
        .await
        .0;
    let refused = raw.presence("no name", 1).await.unwrap_err();
    assert_refusal("a bad name", &refused, Code::INVALID_CHANNEL, "' '");
    raw.ping().await;
    assert_eq!(server.broker().presence(&channel("quiet"), 9), None);
    // Nobody is told in a channel without presence: the next publication is the first.
    let said = client.publish("quiet", Message::text("x")).await.unwrap();
    assert_eq!(said.position.offset, 1);
}

each!(nobody_forges_presence);
async fn nobody_forges_presence(transport: Transport) {
    let server = start().await;
    let client = server.client("ann", transport).await.unwrap();
    let mut watcher = Watcher::new(&client, ROOM).await;
    watcher.until(1, 1).await;
    let forged = Message::Presence(Presence {
        joined: vec![Member {
            id: 7,
            user: Some("mallory".to_owned()),
        }],
        left: vec![member(&client, "ann")],
        connections: 99,
        users: 9,
        complete: true,
    });
    for sent in [
        client.publish(ROOM, forged.clone()).await,
        client.publish_once(ROOM, "key", forged.clone()).await,
        client.publish("quiet", forged.clone()).await,
    ] {
        match sent {
            Err(ClientError::Request { code, reason }) => {
                let refusal = (code, reason);
                assert_refusal("forged", &refusal, Code::RESERVED_MESSAGE, "server alone");
            }
            other => panic!("forged: {other:?}"),
        }
    }
    let posted = server.broker().post(&channel(ROOM), forged);
    assert_eq!(posted, Err(PublishError::Reserved("presence")));
    // The connection lives, and nothing stands in the log.
    let said = client.publish(ROOM, Message::text("x")).await.unwrap();
    let before = watcher.present.position.unwrap().offset;
    assert_eq!(said.position.offset, before + 1);
}

both!(who_comes_back_hears_who_came_meanwhile);
async fn who_comes_back_hears_who_came_meanwhile(transport: Transport) {
    let server = start().await;
    let bob = server.client("bob", transport).await.unwrap();
    let mut watcher = Watcher::new(&bob, ROOM).await;
    watcher.until(1, 1).await;
    let dial = Dial::new(&server, transport);
    let mut raw = dial.welcomed(server.token("ann")).await.0;
    let first = raw.subscribe(ROOM).await.unwrap();
    let before = first.position;
    watcher.until(2, 2).await;
    raw.unsubscribe(first.subscription).await.unwrap();
    watcher.until(1, 1).await;
    let again = raw
        .subscribe_from(ROOM, Start::After(before))
        .await
        .unwrap();
    let (header, mut frames) = raw.headed(again.subscription).await;
    assert!(header.recovered);
    watcher.until(2, 2).await;
    let mut heard = Vec::new();
    while heard.len() < 3 {
        match frames.next().await {
            Frame::Publication(publication) => heard.push(publication),
            other => panic!("no Publication but {other:?}"),
        }
    }
    let told: Vec<_> = heard.iter().map(|one| change(one).unwrap()).collect();
    let ann = |list: &[Member]| list.len() == 1 && list[0].user.as_deref() == Some("ann");
    assert!(ann(&told[0].joined) && ann(&told[1].left) && ann(&told[2].joined));
    // The history has the same, and says so in the same order.
    let query = HistoryQuery::oldest(9).from(before);
    let (_, kept) = raw.history(ROOM, query).await.unwrap();
    assert_eq!(kept, heard);
}

each!(where_publishers_are_hidden_members_are_numbers);
async fn where_publishers_are_hidden_members_are_numbers(transport: Transport) {
    let server = start().await;
    let ann = server.client("ann", transport).await.unwrap();
    let bob = server.client("bob", transport).await.unwrap();
    let mut seen = BTreeSet::from([session(&ann), session(&bob)]);
    for name in ["vote-1", "vote-2"] {
        let mut watcher = Watcher::new(&ann, name).await;
        let _subscription = bob.subscribe(name).await.unwrap();
        watcher.until(2, 2).await;
        let page = bob.presence(name, 9).await.unwrap();
        assert_eq!(whole(&page), whole(&watcher.present));
        for member in page.members {
            assert_eq!(member.user, None);
            assert!(seen.insert(member.id), "known from elsewhere: {member:?}");
        }
    }
}

both!(a_drain_tells_of_nobody);
async fn a_drain_tells_of_nobody(transport: Transport) {
    let server = start().await;
    let broker = server.broker().clone();
    let bob = server.client("bob", transport).await.unwrap();
    let mut watcher = Watcher::new(&bob, ROOM).await;
    let dial = Dial::new(&server, transport);
    let mut raw = dial.welcomed(server.token("ann")).await.0;
    let subscribed = raw.subscribe(ROOM).await.unwrap();
    let mut frames = raw.stream(subscribed.subscription).await;
    watcher.until(2, 2).await;
    let at = broker.position(&channel(ROOM)).unwrap();
    let read = async {
        let mut offset = subscribed.position.offset;
        loop {
            match frames.next().await {
                Frame::Publication(publication) => offset = publication.offset,
                Frame::End(end) => break (offset, end.code),
                other => panic!("no end but {other:?}"),
            }
        }
    };
    let (read, ()) = tokio::join!(read, server.stop());
    assert_eq!(read, (at.offset, Code::GOING_AWAY));
    assert_eq!(broker.position(&channel(ROOM)), Some(at));
}

#[test]
fn a_rule_for_the_latest_state_has_no_presence() {
    let refused = Rules::new(vec![rule("cursor").on_lag(OnLag::Latest).presence()]);
    let wanted = InvalidRule::PresenceLatest("cursor".to_owned());
    assert_eq!(refused, Err(wanted));
    for on_lag in [OnLag::Continue, OnLag::Cut] {
        assert!(Rules::new(vec![rule("x").on_lag(on_lag).presence()]).is_ok());
    }
}

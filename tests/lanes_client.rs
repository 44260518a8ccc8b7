//! The client where its server may open few streams: it reads lanes (PROTOCOL §5.7) as it reads streams.

mod common;

use std::sync::{Arc, Mutex};

use common::{each, publication, text};
use tidings::{
    ChannelName, Code, Message,
    client::{Client, Event, State, Transport},
    endpoint::{Endpoint, Session},
    testing::TestServer,
};

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

/// User code that keeps the sessions, to end them from a test.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Session>>>);

#[async_trait::async_trait]
impl Endpoint for Keeper {
    async fn session_opened(&self, session: &Session) {
        self.0.lock().unwrap().push(session.clone());
    }
}

async fn few_streams(server: &TestServer, transport: Transport) -> Client {
    let builder = server.client_builder(transport).max_streams(6);
    builder.token(server.token("1")).connect().await.unwrap()
}

each!(a_client_reads_lanes_as_it_reads_streams);
async fn a_client_reads_lanes_as_it_reads_streams(transport: Transport) {
    const ROOMS: usize = 60;
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let client = few_streams(&server, transport).await;
    let mut rooms = Vec::new();
    for room in 0..ROOMS {
        rooms.push(
            client
                .subscribe(&format!("chat-room-{room}"))
                .await
                .unwrap(),
        );
    }
    let post = |text: &str| {
        for room in 0..ROOMS {
            let message = Message::text(format!("{room} {text}"));
            server
                .broker()
                .post(&channel(&format!("chat-room-{room}")), message)
                .unwrap();
        }
    };
    post("before");
    for (room, subscription) in rooms.iter_mut().enumerate() {
        assert_eq!(
            text(&publication(subscription).await),
            format!("{room} before")
        );
    }
    // Given up and taken up again, on and off lanes.
    for room in (0..ROOMS).step_by(7) {
        let name = rooms[room].name().to_string();
        let other = client.subscribe("chat-room-another").await.unwrap();
        rooms[room] = other;
        rooms[room] = client.subscribe(&name).await.unwrap();
    }
    post("after");
    for (room, subscription) in rooms.iter_mut().enumerate() {
        assert_eq!(
            text(&publication(subscription).await),
            format!("{room} after")
        );
    }
    // Each is resumed by itself.
    let mut states = client.states();
    keeper.0.lock().unwrap()[0].close(Code(2000), "come back");
    let lost = |state: &State| matches!(state, State::Reconnecting { .. });
    states.wait_for(lost).await.unwrap();
    post("meanwhile");
    for (room, subscription) in rooms.iter_mut().enumerate() {
        let event = subscription.next().await.unwrap();
        assert_eq!(event.missed(), Some(0), "{event:?}");
        assert_eq!(
            text(&publication(subscription).await),
            format!("{room} meanwhile")
        );
    }
}

each!(a_part_that_is_not_read_holds_up_nobody_and_loses_nothing);
async fn a_part_that_is_not_read_holds_up_nobody_and_loses_nothing(transport: Transport) {
    // Four times what a client holds of a part.
    const COUNT: u64 = 40;
    const SIZE: usize = 25_000;
    let server = TestServer::start().await;
    let client = few_streams(&server, transport).await;
    let mut rooms = Vec::new();
    for room in 0..10 {
        rooms.push(
            client
                .subscribe(&format!("chat-room-{room}"))
                .await
                .unwrap(),
        );
    }
    let mut sleeper = rooms.pop().unwrap();
    for number in 0..COUNT {
        let message = Message::data("a/b", vec![number as u8; SIZE]);
        server
            .broker()
            .post(&channel("chat-room-9"), message)
            .unwrap();
        for (room, subscription) in rooms.iter_mut().enumerate() {
            let message = Message::text(number.to_string());
            server
                .broker()
                .post(&channel(&format!("chat-room-{room}")), message)
                .unwrap();
            assert_eq!(text(&publication(subscription).await), number.to_string());
        }
    }
    let mut due = 1;
    let mut breaks = 0;
    while due <= COUNT {
        match sleeper.next().await.unwrap() {
            Event::Publication(publication) => {
                assert_eq!(publication.offset, due);
                due += 1;
            }
            event @ Event::Break { .. } => {
                assert_eq!(event.missed(), Some(0), "{event:?}");
                breaks += 1;
            }
            event => panic!("{event:?}"),
        }
    }
    assert!(breaks > 0, "it was not held for it");
    // And it goes on.
    server
        .broker()
        .post(&channel("chat-room-9"), Message::text("on"))
        .unwrap();
    assert_eq!(text(&publication(&mut sleeper).await), "on");
}

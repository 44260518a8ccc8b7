//! Limits of channels and memory, as clients meet them (PROTOCOL §7: `too_many_channels`, `overloaded`).

mod common;

use common::{each, text};
use tidings::{
    ChannelName, Code, Message, UserId,
    client::{Client, ClientError, Transport},
    server::Limits,
    testing::TestServer,
};

async fn server(change: impl FnOnce(&mut Limits)) -> TestServer {
    let mut limits = Limits::default();
    change(&mut limits);
    TestServer::start_with(|builder| builder.limits(limits)).await
}

fn room(number: usize) -> ChannelName {
    ChannelName::parse(&format!("chat-room-{number}")).unwrap()
}

fn code(error: &ClientError) -> Code {
    match error {
        ClientError::Request { code, .. } => *code,
        other => panic!("not refused, but {other}"),
    }
}

/// Publishes to one room after the other until that is refused: how many there were, and the code.
async fn fill(client: &Client, rooms: std::ops::Range<usize>, size: usize) -> (usize, Code) {
    for (count, number) in rooms.enumerate() {
        let message = Message::text("x".repeat(size));
        if let Err(error) = client.publish(room(number).as_str(), message).await {
            return (count, code(&error));
        }
    }
    panic!("nothing is refused");
}

each!(one_user_leaves_room_for_channels_of_others_and_of_the_server);
async fn one_user_leaves_room_for_channels_of_others_and_of_the_server(transport: Transport) {
    let server = server(|limits| {
        limits.channels = 40;
        limits.session_channels = 12;
        limits.user_channels = 20;
    })
    .await;
    let first = server.client("1", transport).await.unwrap();
    let second = server.client("1", transport).await.unwrap();
    let full = Code::TOO_MANY_CHANNELS;
    assert_eq!(fill(&first, 0..99, 1).await, (12, full));
    assert_eq!(fill(&second, 100..199, 1).await, (8, full));
    let refused = first.subscribe(room(300).as_str()).await.unwrap_err();
    assert_eq!(code(&refused), full);
    // Another user does not notice, but for the reserve: user-1, global and user-2 are the server's.
    let other = server.client("2", transport).await.unwrap();
    other
        .publish(room(0).as_str(), Message::text("y"))
        .await
        .unwrap();
    assert_eq!(fill(&other, 400..499, 1).await, (12, full));
    let third = server.client("3", transport).await.unwrap();
    assert_eq!(fill(&third, 500..599, 1).await, (4, full), "36 of clients");
    // The last four of all are taken by the server.
    assert!(server.broker().stats().channels == 40);
    for user in ["1", "2", "3"] {
        let user = UserId::parse(user).unwrap();
        server.broker().notify(&user, "still there").unwrap();
    }
    let welcome = third.welcome().unwrap();
    assert_eq!((welcome.subscriptions.len(), welcome.refused.len()), (2, 0));
}

each!(failed_automatic_subscription_is_reported_in_welcome);
async fn failed_automatic_subscription_is_reported_in_welcome(transport: Transport) {
    let server = server(|limits| limits.channels = 3).await;
    server.broker().announce("there").unwrap();
    for number in 0..2 {
        let posted = server.broker().post(&room(number), Message::text("x"));
        posted.unwrap();
    }
    let client = server.client("1", transport).await.unwrap();
    let welcome = client.welcome().unwrap();
    let refused: Vec<_> = welcome.refused.iter().collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].channel, "user-1");
    assert_eq!(refused[0].code, Code::TOO_MANY_CHANNELS);
    assert!(refused[0].reason.contains("3 channels"), "{refused:?}");
    let subscribed: Vec<_> = welcome
        .subscriptions
        .iter()
        .map(ChannelName::as_str)
        .collect();
    assert_eq!(subscribed, ["global"]);
    // The session works.
    let mut global = client.subscribe("global").await.unwrap();
    server.broker().announce("now").unwrap();
    assert_eq!(text(&common::publication(&mut global).await), "now");
}

each!(publications_above_the_quota_of_a_user_are_refused);
async fn publications_above_the_quota_of_a_user_are_refused(transport: Transport) {
    let server = server(|limits| limits.user_memory = Some(500 * 1024)).await;
    let client = server.client("1", transport).await.unwrap();
    let again = server.client("1", transport).await.unwrap();
    let other = server.client("2", transport).await.unwrap();
    let size = 60 * 1024;
    assert_eq!(fill(&client, 0..99, size).await, (8, Code::OVERLOADED));
    assert_eq!(fill(&again, 100..199, size).await, (0, Code::OVERLOADED));
    // A channel with publications of the same user goes on, at their expense.
    let large = || Message::text("y".repeat(size));
    again.publish(room(0).as_str(), large()).await.unwrap();
    let first = room(0);
    let page = client.history(first.as_str(), tidings::wire::HistoryQuery::oldest(9));
    assert_eq!(page.await.unwrap().publications.len(), 1);
    other.publish(room(0).as_str(), large()).await.unwrap();
    assert_eq!(fill(&other, 200..299, size).await.1, Code::OVERLOADED);
    client.ping().await.unwrap();
}

each!(sessions_beyond_the_memory_are_refused);
async fn sessions_beyond_the_memory_are_refused(transport: Transport) {
    let server = server(|limits| limits.memory = Some(100 * 1024)).await;
    let client = server.client("1", transport).await.unwrap();
    let _second = server.client("2", transport).await.unwrap();
    let refused = server.client("3", transport).await.unwrap_err();
    assert!(refused.to_string().contains("memory"), "{refused}");
    client.ping().await.unwrap();
    server.broker().announce("there").unwrap();
}

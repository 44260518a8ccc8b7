//! Clients that behave: a publisher, a subscriber over each transport, and new clients that come.

use std::time::{Duration, Instant};

use tidings::{
    Message,
    client::{Client, Event, Subscription, Transport},
    testing::TestServer,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

const TRANSPORTS: [Transport; 3] = [
    Transport::Quic,
    Transport::WebTransport,
    Transport::WebSocket,
];
const CHANNEL: &str = "chat-room-workload";
/// Publications, one each [`PERIOD`].
const PUBLICATIONS: usize = 200;
const PERIOD: Duration = Duration::from_millis(10);
/// Clients that connect while the workload runs.
const NEW_CLIENTS: usize = 12;
/// Bound of the latency of 99 % of publications. Undisturbed it is some milliseconds.
const LATENCY: Duration = Duration::from_secs(1);
/// Bound of the time in which a new client connects. Undisturbed it is some ten milliseconds.
const CONNECT: Duration = Duration::from_secs(5);

pub(crate) struct Workload {
    publisher: Client,
    subscribers: Vec<(Client, Subscription)>,
}

impl Workload {
    pub(crate) async fn join(server: &TestServer) -> Self {
        let mut subscribers = Vec::new();
        for transport in TRANSPORTS {
            let client = server.client("reader", transport).await.unwrap();
            let subscription = client.subscribe(CHANNEL).await.unwrap();
            subscribers.push((client, subscription));
        }
        Self {
            publisher: server.client("writer", Transport::Quic).await.unwrap(),
            subscribers,
        }
    }

    /// Runs to its end, and judges what it saw.
    pub(crate) async fn run(self, server: &TestServer) {
        let begun = Instant::now();
        let mut readers = JoinSet::new();
        for (client, subscription) in self.subscribers {
            readers.spawn(read(client, subscription, begun));
        }
        let publish = async {
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for number in 0..PUBLICATIONS {
                ticks.tick().await;
                let text = format!("{number} {}", begun.elapsed().as_micros());
                let message = Message::text(&text);
                self.publisher.publish(CHANNEL, message).await.unwrap();
            }
        };
        let newcomers = async {
            let mut slowest = Duration::ZERO;
            for number in 0..NEW_CLIENTS {
                let transport = TRANSPORTS[number % TRANSPORTS.len()];
                let begun = Instant::now();
                let client = server.client("newcomer", transport).await.unwrap();
                slowest = slowest.max(begun.elapsed());
                client.close().await;
                sleep(10 * PERIOD).await;
            }
            slowest
        };
        let ((), slowest) = tokio::join!(publish, newcomers);
        assert!(slowest < CONNECT, "a new client waited {slowest:?}");
        while let Some(latencies) = readers.join_next().await {
            let mut latencies = latencies.unwrap();
            latencies.sort_unstable();
            let p99 = latencies[PUBLICATIONS * 99 / 100];
            assert!(p99 < LATENCY, "a p99 of {p99:?}");
        }
    }
}

/// Every publication once and in order, without a break: how long each took.
async fn read(_client: Client, mut subscription: Subscription, begun: Instant) -> Vec<Duration> {
    let mut latencies = Vec::with_capacity(PUBLICATIONS);
    for wanted in 0..PUBLICATIONS {
        let publication = match subscription.next().await {
            Some(Event::Publication(publication)) => publication,
            other => panic!("no publication {wanted} but {other:?}"),
        };
        let text = publication.message.as_text().unwrap();
        let (number, sent) = text.split_once(' ').unwrap();
        assert_eq!(number, wanted.to_string());
        let sent = Duration::from_micros(sent.parse().unwrap());
        latencies.push(begun.elapsed().saturating_sub(sent));
    }
    latencies
}

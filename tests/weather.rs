//! Clients and a server in bad weather: datagrams that are lost, late, out of order, doubled and damaged, and ports that change. What
//! everybody did and saw is recorded, and the checker finds nothing wrong with it.
//!
//! `TIDINGS_WEATHER_SECONDS=180` is a longer storm, `TIDINGS_SEED=7` one whose datagrams have the same fates.

#[path = "history_checker/actors.rs"]
mod actors;
#[path = "history_checker/checker/mod.rs"]
mod checker;
mod common;
#[path = "history_checker/record.rs"]
mod record;

use std::{future::Future, time::Duration};

use actors::{Reading, publish};
use checker::{Promise, check};
use common::relay::{Fate, Relay, Weather};
use record::{Event, Recorder};
use tidings::{
    broker::Retention,
    client::{Client, Transport, Trust},
    testing::TestServer,
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval_at, sleep, timeout},
};

const CHANNELS: [&str; 2] = ["chat-room-1", "chat-room-2"];
/// Publications that a log keeps: all.
const KEPT: u64 = 10_000_000;
/// Between two publications of one publisher.
const PAUSE: Duration = Duration::from_millis(10);
/// Beyond the storm: connecting, and what is late at its end.
const PATIENCE: Duration = Duration::from_secs(90);

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number of seconds, or of a seed"))
}

/// How long it lasts.
fn storm() -> Duration {
    Duration::from_secs(variable("TIDINGS_WEATHER_SECONDS").unwrap_or(10))
}

/// Two tests of one scenario, as `both!` makes them, as long as the storm lasts.
macro_rules! both_as_long {
    ($scenario:ident) => {
        mod $scenario {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn quic() {
                super::within(super::$scenario(tidings::client::Transport::Quic)).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn webtransport() {
                super::within(super::$scenario(tidings::client::Transport::WebTransport)).await;
            }
        }
    };
}

async fn within(test: impl Future<Output = ()>) {
    timeout(storm() + PATIENCE, test)
        .await
        .expect("it is done in time");
}

async fn server() -> TestServer {
    TestServer::start_with(|builder| {
        builder.retention(|_| Retention {
            count: KEPT as usize,
            bytes: 1 << 30,
            age: Duration::from_secs(3600),
            keep_latest: false,
        })
    })
    .await
}

/// A client at the other end of a way.
async fn far(server: &TestServer, relay: &Relay, transport: Transport) -> Client {
    let (near, way) = (server.address().to_string(), relay.address.to_string());
    let url = server.url(transport).replace(&near, &way);
    let trust = Trust::Hashes(vec![server.certificate_sha256()]);
    let builder = Client::builder(url).trust(trust).token(server.token("1"));
    builder.connect().await.expect("what is lost is sent again")
}

/// Everybody publishes to and reads every channel until `over`; each has a way of its own, and keeps its session.
async fn crowd(
    server: &TestServer,
    transport: Transport,
    relays: &[Relay],
    over: impl Future<Output = ()>,
    words: &str,
) {
    let recorders = CHANNELS.map(|_| Recorder::default());
    let mut clients = Vec::new();
    for relay in relays {
        clients.push(far(server, relay, transport).await);
    }
    let sessions = clients
        .iter()
        .map(|client| client.welcome().map(|welcome| welcome.session));
    let sessions: Vec<_> = sessions.collect();
    let mut readings = Vec::new();
    for (channel, recorder) in CHANNELS.iter().zip(&recorders) {
        recorder.note(Event::Started);
        for client in &clients {
            let subscription = client.subscribe(channel).await.expect("it stands");
            readings.push((*channel, Reading::start(recorder, subscription)));
        }
    }
    // The first only reads.
    let mut publishers = JoinSet::new();
    let stop = tokio_util::sync::CancellationToken::new();
    for (number, client) in clients.iter().enumerate().skip(1) {
        for (channel, recorder) in CHANNELS.iter().zip(recorders.clone()) {
            for task in 0..3 {
                let (client, stop) = (client.clone(), stop.clone());
                let recorder = recorder.clone();
                publishers.spawn(async move {
                    let mut count = 0;
                    while !stop.is_cancelled() {
                        count += 1;
                        let text = format!("{number}.{task}.{count}");
                        let key = (count % 2 == 0).then_some(text.as_str());
                        publish(&recorder, &client, channel, key, &text).await;
                        sleep(PAUSE).await;
                    }
                });
            }
        }
    }
    over.await;
    stop.cancel();
    publishers.join_all().await;
    for ((channel, recorder), client) in CHANNELS.iter().zip(&recorders).zip(clients.iter().cycle())
    {
        let last = publish(recorder, client, channel, None, "last").await;
        let last = last.expect("the connection lives");
        let of_channel = readings.extract_if(.., |(of, _)| of == channel);
        Reading::finish_all(of_channel.map(|(_, reading)| reading), last).await;
    }
    for recorder in recorders {
        let history = recorder.history();
        let promise = Promise {
            kept: KEPT,
            skips: false,
        };
        let mut violations = check(&history, promise);
        let count = violations.len();
        violations.truncate(20);
        assert!(
            violations.is_empty(),
            "{words}: {count} violations, the first: {violations:#?}"
        );
        let broken = history.iter().find(|event| {
            matches!(
                event,
                Event::Resumed { .. } | Event::Unknown { .. } | Event::Ended { .. }
            )
        });
        assert_eq!(broken, None, "{words}: no connection breaks");
        println!(
            "{words}: {} events, {} acknowledged",
            history.len(),
            recorder.acknowledged()
        );
    }
    for (client, session) in clients.iter().zip(sessions) {
        let now = client.welcome().map(|welcome| welcome.session);
        assert_eq!(now, session, "{words}: no session is another");
    }
}

both_as_long!(nothing_is_lost_in_a_storm);
async fn nothing_is_lost_in_a_storm(transport: Transport) {
    let seed = variable("TIDINGS_SEED").unwrap_or_else(rand::random);
    let words = format!("TIDINGS_SEED={seed} over {transport}");
    println!("{words}");
    let server = server().await;
    let mut relays = Vec::new();
    for number in 0..3 {
        let weather = Weather {
            seed: seed.wrapping_add(number),
            lost: 50,
            twice: 20,
            changed: 20,
            jitter: Duration::from_millis(50),
            ..Weather::default()
        };
        relays.push(Relay::through(server.address(), weather).await);
    }
    crowd(&server, transport, &relays, sleep(storm()), &words).await;
    let count = |fate| relays.iter().map(|relay| relay.count(fate)).sum::<u64>();
    let fates = [
        Fate::Came,
        Fate::Lost,
        Fate::Twice,
        Fate::Changed,
        Fate::Overtaking,
    ];
    let counts = fates.map(|fate| (fate, count(fate)));
    println!("{words}: {counts:?}");
    // What never happens is not shown by this.
    assert!(
        counts.iter().all(|(_, count)| *count > 10),
        "{words}: {counts:?}"
    );
}

both_as_long!(nobody_notices_that_ports_change);
async fn nobody_notices_that_ports_change(transport: Transport) {
    let server = server().await;
    let mut relays = Vec::new();
    for _ in 0..2 {
        relays.push(Relay::through(server.address(), Weather::default()).await);
    }
    let mut ports = 1;
    let changes = async {
        let (begin, pause) = (Instant::now(), (storm() / 4).min(Duration::from_secs(5)));
        let mut ticks = interval_at(begin + pause, pause);
        while begin.elapsed() + pause < storm() {
            ticks.tick().await;
            ports += 1;
            for relay in &relays {
                relay.change_port().await;
            }
        }
    };
    let words = format!("ports change over {transport}");
    crowd(&server, transport, &relays, changes, &words).await;
    // At least the last port: from one that it had for a short time a client that waits for answers may have said nothing.
    let answered = relays[1].count(Fate::Answered);
    assert!(answered > 1, "{words}: the server follows to no other port");
    println!("{words}: {answered} of {ports} ports had an answer");
}

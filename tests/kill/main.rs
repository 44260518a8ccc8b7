//! `kill -9` for servers, publishers and subscribers, again and again, while others publish and read, and servers that freeze until
//! their clients have left, and then read what those sent. What everybody did and saw is recorded, and the checker finds nothing wrong
//! with it.
//!
//! `TIDINGS_ROUNDS=200` kills so often, `TIDINGS_SEED=7` draws the same victims.
#![cfg(unix)]

#[path = "../history_checker/actors.rs"]
mod actors;
#[path = "../history_checker/checker/mod.rs"]
mod checker;
mod crowd;
mod process;
#[path = "../history_checker/record.rs"]
mod record;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings::client::{Client, State, Transport, Trust};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use actors::{Reading, covers, publish};
use checker::{Promise, check};
use crowd::{Progress, Victim, publisher};
use process::Server;
use record::{Event, Recorder};

const CHANNEL: &str = "chat-room-1";
/// Publications that the log keeps: all.
const KEPT: u64 = 10_000_000;
/// Within this much every round has gone on.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens in a round.
#[derive(Debug, Clone, Copy)]
enum Strike {
    /// The server is killed, and another one comes.
    Server,
    /// The server does nothing until its clients have left.
    Freeze,
    /// `tidings pub` is killed.
    Publisher,
    /// `tidings sub` is killed.
    Reader,
}

impl Strike {
    /// How often each of so many rounds.
    const ALL: [Self; 5] = [
        Self::Server,
        Self::Server,
        Self::Freeze,
        Self::Publisher,
        Self::Reader,
    ];
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number of rounds, or of a seed"))
}

async fn client(server: &Server, transport: Transport) -> Client {
    let address = server.address();
    Client::builder(url(transport, &address.to_string()))
        .token(server.token("1"))
        .trust(Trust::Pem(server.certificate()))
        .deadline(Duration::from_secs(2))
        .connect()
        .await
        .expect("the server is up")
}

fn url(transport: Transport, address: &str) -> String {
    match transport {
        Transport::Quic => format!("quic://{address}"),
        _ => format!("https://{address}/tidings"),
    }
}

/// Whether a client was told that its server is gone, and not that nothing came for half a minute. Over WebTransport its library may
/// be first to see the CONNECT stream fail, and then says only that the connection is over.
fn is_heard(transport: Transport, reason: &str) -> bool {
    let reset = reason.contains("reset by peer");
    reset || transport == Transport::WebTransport && reason == "the connection was cut off"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whoever_is_killed_over_quic() {
    rounds(Transport::Quic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whoever_is_killed_over_webtransport() {
    rounds(Transport::WebTransport).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_whose_channel_falls_silent_asks_and_hears_of_it_too() {
    const HOUR: Duration = Duration::from_secs(3600);
    let transports = [Transport::Quic, Transport::WebTransport];
    let heard = transports.map(|transport| async move {
        let mut server = Server::start(3600).await;
        let publisher = client(&server, transport).await;
        // It never says anything by itself.
        let reader = Client::builder(url(transport, &server.address().to_string()))
            .token(server.token("1"))
            .trust(Trust::Pem(server.certificate()))
            .keep_alive(HOUR);
        let reader = reader.connect().await.expect("the server is up");
        let mut room = reader.subscribe(CHANNEL).await.expect("the server is up");
        // Busy for as long as that takes to be seen.
        for _ in 0..80 {
            let published = publisher
                .publish(CHANNEL, tidings::Message::text("x"))
                .await;
            published.expect("the server is up");
            drop(room.next_publication().await.expect("it goes on"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        server.kill().await;
        server.start_again().await;
        let mut states = reader.states();
        let away = |state: &State| !matches!(state, State::Connected(_));
        let state = states.wait_for(away).await.expect("it is not closed");
        let State::Reconnecting { reason, .. } = state.clone() else {
            panic!("{:?}", *state);
        };
        assert!(is_heard(transport, &reason), "{reason}");
    });
    let [quic, webtransport] = heard;
    tokio::join!(quic, webtransport);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_hears_from_the_successor_that_its_server_is_gone() {
    for transport in [Transport::Quic, Transport::WebTransport] {
        let mut server = Server::start(3600).await;
        let client = client(&server, transport).await;
        server.kill().await;
        server.start_again().await;
        let mut states = client.states();
        let asked = tokio::spawn({
            let client = client.clone();
            async move { client.ping().await }
        });
        let away = |state: &State| !matches!(state, State::Connected(_));
        let state = states.wait_for(away).await.expect("it is not closed");
        let State::Reconnecting { reason, .. } = state.clone() else {
            panic!("{:?}", *state);
        };
        assert!(is_heard(transport, &reason), "{reason}");
        drop(state);
        drop(asked.await);
        let back = |state: &State| matches!(state, State::Connected(_));
        let connected = timeout(PATIENCE, states.wait_for(back)).await;
        drop(connected.expect("in time").expect("it is not closed"));
    }
}

async fn rounds(transport: Transport) {
    let seed = variable("TIDINGS_SEED").unwrap_or_else(|| rand::rng().random());
    let rounds = variable("TIDINGS_ROUNDS").unwrap_or(10);
    println!("TIDINGS_SEED={seed} TIDINGS_ROUNDS={rounds} over {transport}");
    let mut dice = StdRng::seed_from_u64(seed);
    let begin = Instant::now();
    let recorder = Recorder::default();
    recorder.note(Event::Started);
    // A client that says nothing learns by silence that its server is gone.
    let mut server = Server::start(1).await;
    let progress = Progress::new();

    let first = client(&server, transport).await;
    let start = publish(&recorder, &first, CHANNEL, None, "first").await;
    let (mut readings, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let client = client(&server, transport).await;
        let subscription = client.subscribe(CHANNEL).await.expect("the server is up");
        clients.push(client);
        readings.push(Reading::start(&recorder, subscription));
    }
    let mut publishers = JoinSet::new();
    for (name, keys) in [("one", true), ("two", true), ("keyless", false)] {
        let client = client(&server, transport).await;
        clients.push(client.clone());
        publishers.spawn(publisher(
            recorder.clone(),
            client,
            name,
            keys,
            progress.clone(),
        ));
    }
    let victim = |kill| Victim {
        recorder: recorder.clone(),
        place: server.place().to_owned(),
        url: url(transport, &server.address().to_string()),
        kill,
        progress: progress.clone(),
    };
    let (kill_publisher, killed) = watch::channel(0);
    let process = tokio::spawn(victim(killed).publish());
    let (kill_reader, killed) = watch::channel(0);
    let (last, end) = watch::channel(None);
    let start = start.expect("it is acknowledged");
    let (seen, sees) = watch::channel(start);
    let reader = victim(killed).read(seen, end);
    let reader = tokio::spawn(reader);

    let (mut restarts, mut bag) = (0, Vec::new());
    for round in 0..rounds {
        if bag.is_empty() {
            bag.extend(Strike::ALL);
        }
        let victim = bag.swap_remove(dice.random_range(0..bag.len()));
        let went_on = async {
            let position = progress.with(restarts).await;
            if dice.random_bool(0.7) {
                for reading in &readings {
                    reading.reach(position).await;
                }
                let mut sees = sees.clone();
                let there = sees.wait_for(|at| covers(*at, position));
                there.await.expect("it reads");
            }
            // At any moment of what goes on.
            tokio::time::sleep(Duration::from_micros(dice.random_range(0..100_000))).await;
            match victim {
                Strike::Publisher => kill_publisher.send_modify(|times| *times += 1),
                Strike::Reader => kill_reader.send_modify(|times| *times += 1),
                Strike::Server => {
                    recorder.note(Event::Stopping);
                    server.kill().await;
                    restarts += 1;
                    progress.server.store(restarts, Ordering::SeqCst);
                    recorder.note(Event::Started);
                    server.start_again().await;
                }
                Strike::Freeze => {
                    server.freeze();
                    for client in &clients {
                        let away = |state: &State| !matches!(state, State::Connected(_));
                        let mut states = client.states();
                        states.wait_for(away).await.expect("it is not closed");
                    }
                    server.stir();
                }
            }
        };
        let went_on = timeout(PATIENCE, went_on).await;
        went_on.unwrap_or_else(|_| panic!("nothing goes on in round {round}"));
    }

    timeout(PATIENCE, progress.with(restarts))
        .await
        .expect("it goes on");
    progress.stop.cancel();
    let tried: usize = publishers.join_all().await.into_iter().sum();
    process.await.expect("it does not panic");
    let text = "last";
    let end = publish(&recorder, &first, CHANNEL, Some(text), text).await;
    let end = end.expect("the server is up");
    last.send_replace(Some(end));
    Reading::finish_all(readings, end).await;
    let processes = reader.await.expect("it does not panic");
    drop(server);

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
        "TIDINGS_SEED={seed} over {transport}: {count} violations, the first: {violations:#?}"
    );
    let ended = history
        .iter()
        .find(|event| matches!(event, Event::Ended { .. }));
    assert_eq!(ended, None, "nobody ends a subscription");
    assert_eq!(
        checker::servers(&history),
        restarts as usize + 1,
        "of every server an epoch was seen"
    );
    let count = |wanted: fn(&Event) -> bool| history.iter().filter(|event| wanted(event)).count();
    let unknown = count(|event| matches!(event, Event::Unknown { .. }));
    let twice = count(|event| {
        matches!(
            event,
            Event::Acknowledged {
                duplicate: true,
                ..
            }
        )
    });
    let recovered = count(|event| {
        matches!(
            event,
            Event::Resumed {
                recovered: true,
                ..
            }
        )
    });
    // What never happens is not shown by this.
    assert!(unknown > 0 && recovered > 0, "{unknown}, {recovered}");
    assert!(
        rounds < 100 || twice > 0,
        "no publication was tried twice with one server"
    );
    println!(
        "{rounds} rounds over {transport} in {:.0?}: {restarts} restarts, {processes} readers of the command line, {tried} messages of \
         publishers that stay, {unknown} outcomes unknown, {twice} stored before, {recovered} times recovered, {} events",
        begin.elapsed(),
        history.len(),
    );
}

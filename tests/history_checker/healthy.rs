//! A run with everything that may happen: two servers one after the other, publishers at the same time, keys that are used twice,
//! readers that break, come back in time and too late, and lag.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tidings::{
    Code, Message,
    auth::{JwtAuthenticator, TokenIssuer, VerifyingKey},
    broker::Retention,
    client::{Client, Transport, Trust},
    endpoint::{Endpoint, Session},
    server::Server,
    transport::Certificate,
    wire::Position,
};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    actors::{Reading, publish},
    checker::Promise,
    common::certificate,
    record::{Event, Recorder},
};

const CHANNEL: &str = "chat-room-1";
const SECRET: &[u8] = b"a secret of a test, which is long enough";
/// Publications that the log keeps.
const KEPT: u64 = 64;

pub(crate) const PROMISE: Promise = Promise {
    kept: KEPT,
    skips: false,
};

/// User code that keeps the sessions, to end them.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Session>>>);

#[async_trait::async_trait]
impl Endpoint for Keeper {
    async fn session_opened(&self, session: &Session) {
        self.0.lock().unwrap().push(session.clone());
    }
}

impl Keeper {
    /// Breaks every connection once.
    fn interrupt(&self) {
        for session in self.0.lock().unwrap().drain(..) {
            session.close(Code(2000), "come back");
        }
    }
}

/// A server in this process, on an address to which another one can come.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn serve(address: SocketAddr, certificate: Certificate, keeper: &Keeper) -> Running {
    let key = VerifyingKey::hs256(SECRET).unwrap();
    let server = Server::builder()
        .listen(address)
        .certificate(certificate)
        .authenticator(JwtAuthenticator::new(vec![key]).unwrap())
        .retention(|_| Retention {
            count: KEPT as usize,
            ..Retention::default()
        })
        .endpoint(keeper.clone())
        .bind()
        .await
        .unwrap();
    let address = server.local_address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async { drop(stopped.await) }));
    Running {
        address,
        stop,
        task,
    }
}

/// Everybody has user 1, so that keys are the same for all.
async fn connect(transport: Transport, address: SocketAddr, pem: &str) -> Client {
    let url = match transport {
        Transport::Quic => format!("quic://{address}"),
        _ => format!("https://{address}"),
    };
    let issuer = TokenIssuer::new(SECRET).unwrap();
    let token = issuer.issue(&"1".parse().unwrap(), Duration::from_secs(3600));
    Client::builder(url)
        .token(token)
        .trust(Trust::Pem(pem.as_bytes().to_vec()))
        .connect()
        .await
        .unwrap()
}

/// Publishers that work at the same time, half of them with keys; the highest position.
async fn load(recorder: &Recorder, clients: &[Client], name: &str, count: usize) -> Position {
    let mut tasks = tokio::task::JoinSet::new();
    for (number, client) in clients.iter().cloned().enumerate() {
        let (recorder, name) = (recorder.clone(), name.to_owned());
        tasks.spawn(async move {
            let mut last = None;
            for round in 0..count {
                let text = format!("{name} {number}.{round}");
                let key = (number % 2 == 0).then_some(text.as_str());
                let position = publish(&recorder, &client, CHANNEL, key, &text).await;
                last = position.or(last);
            }
            last
        });
    }
    let ends = tasks.join_all().await.into_iter().flatten();
    ends.max_by_key(|position| position.offset)
        .expect("one is acknowledged")
}

/// What clients did and saw.
pub(crate) async fn run(transport: Transport) -> Vec<Event> {
    let recorder = Recorder::default();
    let keeper = Keeper::default();
    let (certificate, pem, _) = certificate();
    recorder.note(Event::Started);
    let server = serve("127.0.0.1:0".parse().unwrap(), certificate.clone(), &keeper).await;
    let address = server.address;
    let mut publishers = Vec::new();
    for _ in 0..3 {
        publishers.push(connect(transport, address, &pem).await);
    }
    // One for whoever comes and goes, and one for whoever stays.
    let guests = connect(transport, address, &pem).await;
    let resident = connect(transport, address, &pem).await;
    let subscribe = async |client: &Client| client.subscribe(CHANNEL).await.unwrap();
    let stays = Reading::start(&recorder, subscribe(&resident).await);
    let comes = Reading::start(&recorder, subscribe(&guests).await);
    load(&recorder, &publishers, "first", 10).await;

    // The same key and message, and the same key with another message.
    let again = "first 0.3";
    publish(&recorder, &publishers[2], CHANNEL, Some(again), again).await;
    publish(&recorder, &publishers[0], CHANNEL, Some(again), "refused").await;
    // Nobody knows what becomes of it.
    let call = recorder.invoke(None, "unknown");
    let given_up = publishers[1].publish(CHANNEL, Message::text("unknown"));
    drop(tokio::time::timeout(Duration::ZERO, given_up).await);
    recorder.note(Event::Unknown { call });

    // Away, and back in time.
    let left = comes.stop().await;
    load(&recorder, &publishers[..1], "meanwhile", 5).await;
    let comes = Reading::resume(&recorder, left, &guests, CHANNEL)
        .await
        .unwrap();
    let last = load(&recorder, &publishers[..1], "back", 3).await;
    comes.reach(last).await;
    // Everybody's connection breaks.
    keeper.interrupt();
    let last = load(&recorder, &publishers, "broken", 10).await;
    stays.reach(last).await;
    comes.reach(last).await;

    // Away, and back too late. Who does not look lags.
    let left = comes.stop().await;
    let sleeper = connect(transport, address, &pem).await;
    let asleep = subscribe(&sleeper).await;
    let padding = "x".repeat(8 * 1024);
    for round in 0..3 * KEPT {
        let text = format!("large {round} {padding}");
        publish(&recorder, &publishers[1], CHANNEL, None, &text).await;
    }
    let comes = Reading::resume(&recorder, left, &guests, CHANNEL)
        .await
        .unwrap();
    let slow = Reading::start(&recorder, asleep);
    let last = load(&recorder, &publishers, "small", 5).await;
    for reading in [&stays, &comes, &slow] {
        reading.reach(last).await;
    }

    // Another server.
    let left = comes.stop().await;
    recorder.note(Event::Stopping);
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    recorder.note(Event::Started);
    let _server = serve(address, certificate, &keeper).await;
    load(&recorder, &publishers, "second", 5).await;
    let comes = Reading::resume(&recorder, left, &guests, CHANNEL)
        .await
        .unwrap();
    let last = load(&recorder, &publishers, "last", 5).await;
    Reading::finish_all([stays, comes, slow], last).await;
    // Their events are in; what they tell of a closed client is not.
    recorder.history()
}

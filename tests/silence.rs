//! Idle timeouts (PROTOCOL §2): clients that are there keep their connections, and clients that vanished are removed in time.

mod common;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::{each, publication, relay::Relay};
use futures_util::future::join_all;
use tidings::{
    ChannelName, Message,
    auth::{Authenticator, Credentials, Denied, Grant, Rule, Rules, Who},
    client::{Client, Transport, Trust},
    testing::TestServer,
    wire::Pattern,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

const CHANNEL: &str = "room";

fn channel() -> ChannelName {
    ChannelName::parse(CHANNEL).unwrap()
}

fn rules() -> Rules {
    let pattern = Pattern::parse(CHANNEL).unwrap();
    let rule = Rule::new(pattern, Who::Everyone, Who::Everyone);
    Rules::new(vec![rule.presence()]).unwrap()
}

/// Takes that long.
struct Slow(Duration);

#[async_trait]
impl Authenticator for Slow {
    async fn authenticate(&self, _: &Credentials<'_>) -> Result<Grant, Denied> {
        sleep(self.0).await;
        Ok(Grant::user("1".parse().unwrap()))
    }
}

each!(clients_outlive_short_idle_timeouts);
async fn clients_outlive_short_idle_timeouts(transport: Transport) {
    // In milliseconds.
    let idles = [500, 1000].map(Duration::from_millis);
    join_all(idles.map(|idle| outlives(idle, transport))).await;
}

async fn outlives(idle: Duration, transport: Transport) {
    // Authentication outlasts the idle timeout, too.
    let slow = Slow(idle * 3 / 2);
    let server =
        TestServer::start_with(|builder| builder.rules(rules()).idle(idle).authenticator(slow));
    let server = server.await;
    let client = server.client("1", transport).await.unwrap();
    let welcome = client.welcome().unwrap();
    assert_eq!(welcome.idle_timeout, idle);
    let mut subscription = client.subscribe(CHANNEL).await.unwrap();
    sleep(idle * 7 / 2).await;
    let message = Message::text("late");
    server.broker().publish(&channel(), None, &message).unwrap();
    // A presence publication came first.
    while publication(&mut subscription).await.message != message {}
    assert_eq!(client.welcome().unwrap().session, welcome.session);
}

/// A path that carries nothing from the moment on at which it is cut, and tells nobody.
enum Path {
    Udp(Relay),
    Tcp(CancellationToken, JoinSet<()>),
}

impl Path {
    /// The path, and the URL by which a client takes it.
    async fn new(server: &TestServer, transport: Transport) -> (Self, String) {
        let direct = server.address();
        let url = |address: std::net::SocketAddr| {
            let url = server.url(transport);
            url.replace(&direct.to_string(), &address.to_string())
        };
        if transport != Transport::WebSocket {
            let relay = Relay::start(direct, 10_000_000).await;
            let url = url(relay.address);
            return (Self::Udp(relay), url);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url(listener.local_addr().unwrap());
        let cut = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let stop = cut.clone();
        tasks.spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(direct).await.unwrap();
            let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
            let _ = stop.run_until_cancelled(copy).await;
            // The sockets stay open.
            std::future::pending::<()>().await;
        });
        (Self::Tcp(cut, tasks), url)
    }

    fn cut(self) -> Option<JoinSet<()>> {
        match self {
            Self::Udp(relay) => {
                drop(relay);
                None
            }
            Self::Tcp(cut, tasks) => {
                cut.cancel();
                Some(tasks)
            }
        }
    }
}

each!(vanished_client_is_removed_in_time_though_data_was_sent_to_it_late);
async fn vanished_client_is_removed_in_time_though_data_was_sent_to_it_late(transport: Transport) {
    const IDLE: Duration = Duration::from_secs(4);
    /// Well below what a timer takes that begins anew with what was sent.
    const MARGIN: Duration = Duration::from_secs(1);
    let server = TestServer::start_with(|builder| builder.rules(rules()).idle(IDLE)).await;
    let (path, url) = Path::new(&server, transport).await;
    let trust = Trust::Hashes(vec![server.certificate_sha256()]);
    let builder = Client::builder(url).trust(trust).token(server.token("1"));
    let client = builder.connect().await.unwrap();
    let mut subscription = client.subscribe(CHANNEL).await.unwrap();
    let members = || {
        server
            .broker()
            .presence(&channel(), 10)
            .unwrap()
            .connections
    };
    // What the server has to say at first is over: the next that it sends is sent late.
    publication(&mut subscription).await;
    assert_eq!(members(), 1);
    sleep(IDLE / 2).await;
    let _open = path.cut();
    let begin = Instant::now();
    sleep(IDLE / 2).await;
    assert_eq!(server.sessions().count(), 1);
    while server.sessions().count() > 0 || members() > 0 {
        let message = Message::text("late");
        server.broker().publish(&channel(), None, &message).unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    let took = begin.elapsed();
    assert!(took < IDLE + MARGIN, "{took:?}");
}

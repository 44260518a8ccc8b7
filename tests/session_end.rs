//! The end of a session as user code sees it, and what the next session of its user has of it.

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use common::{each, gate::Gate, publication, text};
use tidings::{
    ChannelName, Code, Message,
    auth::{Grant, Rules},
    client::{Builder, Client, Event, State, Transport},
    endpoint::{Endpoint, Session},
    testing::TestServer,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

/// What a task of user code did at the end of its session.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    SawTheEnd,
    CleanedUp,
    WasDropped,
}

/// Says that a task was dropped, unless it came to its end.
struct OnDrop(Option<mpsc::Sender<Did>>);

/// User code that keeps sessions and has a task in each that waits for the end beside its work.
#[derive(Clone)]
struct Watching {
    sessions: Arc<Mutex<Vec<Session>>>,
    did: mpsc::Sender<Did>,
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(did) = self.0.take() {
            did.try_send(Did::WasDropped).unwrap();
        }
    }
}

#[async_trait::async_trait]
impl Endpoint for Watching {
    async fn session_opened(&self, session: &Session) {
        self.sessions.lock().unwrap().push(session.clone());
        let (ended, did) = (session.clone(), self.did.clone());
        session.spawn(async move {
            tokio::select! {
                () = std::future::pending::<()>() => {}
                () = ended.closed() => {}
            }
            did.send(Did::SawTheEnd).await.unwrap();
            // Longer than one poll takes.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            did.send(Did::CleanedUp).await.unwrap();
        });
    }
}

/// A path that can fall silent, or break.
enum Path {
    Udp(Gate),
    Tcp(TcpPath),
}

struct TcpPath {
    address: SocketAddr,
    silent: watch::Sender<bool>,
    connections: Arc<Mutex<JoinSet<()>>>,
    _accepting: JoinSet<()>,
}

impl TcpPath {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silent, told) = watch::channel(false);
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let (mut accepting, into) = (JoinSet::new(), Arc::clone(&connections));
        accepting.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut told = told.clone();
                into.lock().unwrap().spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                        _ = told.wait_for(|silent| *silent) => {}
                    }
                    // Both sockets stay open.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self {
            address,
            silent,
            connections,
            _accepting: accepting,
        }
    }
}

impl Path {
    async fn to(server: &TestServer, transport: Transport) -> Self {
        match transport {
            Transport::WebSocket => Self::Tcp(TcpPath::start(server.address()).await),
            _ => Self::Udp(Gate::start(server.address()).await),
        }
    }

    fn client(&self, server: &TestServer, transport: Transport) -> Builder {
        let url = match (transport, self) {
            (Transport::Quic, Self::Udp(gate)) => format!("quic://{}", gate.address),
            (_, Self::Udp(gate)) => format!("https://{}/tidings", gate.address),
            (_, Self::Tcp(path)) => format!("wss://{}/tidings", path.address),
        };
        server.client_builder(transport).url(url)
    }

    /// From now on nothing comes through, and nobody is told.
    fn fall_silent(self) -> Option<TcpPath> {
        match self {
            // Dropping it cuts the path.
            Self::Udp(_) => None,
            Self::Tcp(path) => {
                path.silent.send_replace(true);
                Some(path)
            }
        }
    }

    /// Both sides lose their connection, and the next one comes through.
    async fn interrupt(&self, client: &Client) {
        let reconnecting = |state: &State| matches!(state, State::Reconnecting { .. });
        let mut states = client.states();
        match self {
            Self::Udp(gate) => {
                gate.hold();
                states.wait_for(reconnecting).await.unwrap();
                gate.lose();
            }
            Self::Tcp(path) => {
                path.connections.lock().unwrap().abort_all();
                states.wait_for(reconnecting).await.unwrap();
            }
        }
    }
}

async fn watched(idle: Duration) -> (TestServer, Watching, mpsc::Receiver<Did>) {
    let (did, done) = mpsc::channel(16);
    let watching = Watching {
        sessions: Arc::default(),
        did,
    };
    let endpoint = watching.clone();
    let server = TestServer::start_with(|builder| builder.endpoint(endpoint).idle(idle)).await;
    (server, watching, done)
}

each!(a_task_sees_the_end_of_its_session_however_that_ends);
async fn a_task_sees_the_end_of_its_session_however_that_ends(transport: Transport) {
    let idle = Duration::from_secs(1);
    for end in ["vanish", "close", "order", "expire", "drain"] {
        let (mut server, watching, mut did) = watched(idle).await;
        let path = Path::to(&server, transport).await;
        let client = path.client(&server, transport).token(server.token("1"));
        let client = client.reconnect(false).connect().await.unwrap();
        let session = watching.sessions.lock().unwrap().pop().unwrap();
        let ended = tokio::spawn({
            let session = session.clone();
            async move { session.closed().await }
        });
        let mut silent = None;
        match end {
            "vanish" => silent = path.fall_silent(),
            "close" => client.close().await,
            "order" => session.close(Code(2000), "enough"),
            "expire" => session.set_grant(Grant::anonymous().expires_at(SystemTime::now())),
            _ => server.begin_stop(),
        }
        assert_eq!(did.recv().await, Some(Did::SawTheEnd), "{end}");
        assert_eq!(did.recv().await, Some(Did::CleanedUp), "{end}");
        ended.await.unwrap();
        drop(silent);
    }
}

each!(a_task_that_does_not_wait_for_the_end_is_dropped_at_once);
async fn a_task_that_does_not_wait_for_the_end_is_dropped_at_once(transport: Transport) {
    // Far beyond what a test may take: a task that is given that time hangs it.
    let server = TestServer::start_with(|builder| builder.deadline(Duration::from_secs(600))).await;
    let client = server.client("1", transport).await.unwrap();
    let id = client.welcome().unwrap().session;
    let session = server.sessions().find(&id).unwrap();
    let (did, mut done) = mpsc::channel(16);
    let on_drop = OnDrop(Some(did));
    session.spawn(async move {
        let _on_drop = on_drop;
        std::future::pending().await
    });
    client.close().await;
    assert_eq!(done.recv().await, Some(Did::WasDropped));
    // It has left the list, and its server stops.
    while server.sessions().count() > 0 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

each!(a_task_that_never_ends_after_the_end_is_given_up);
async fn a_task_that_never_ends_after_the_end_is_given_up(transport: Transport) {
    let deadline = Duration::from_millis(500);
    let server = TestServer::start_with(|builder| builder.deadline(deadline)).await;
    let client = server.client("1", transport).await.unwrap();
    let id = client.welcome().unwrap().session;
    let session = server.sessions().find(&id).unwrap();
    let (did, mut done) = mpsc::channel(16);
    let (on_drop, ended) = (OnDrop(Some(did)), session.clone());
    session.spawn(async move {
        let _on_drop = on_drop;
        ended.closed().await;
        std::future::pending().await
    });
    client.close().await;
    assert_eq!(done.recv().await, Some(Did::WasDropped));
}

async fn closed_server(idle: Duration) -> TestServer {
    TestServer::start_with(|builder| builder.rules(Rules::new(Vec::new()).unwrap()).idle(idle))
        .await
}

fn session(server: &TestServer, client: &Client) -> Session {
    let id = client.welcome().unwrap().session;
    server.sessions().find(&id).unwrap()
}

/// Takes up what the server made.
async fn take_up(client: &Client, channel: &str) -> tidings::client::Subscription {
    loop {
        match client.subscribe(channel).await {
            Ok(subscription) => return subscription,
            // Its stream is on the way.
            Err(error) => assert_eq!(error.code(), Some(Code::ALREADY_SUBSCRIBED), "{error}"),
        }
    }
}

each!(a_channel_that_user_code_gave_goes_on_after_a_reconnect);
async fn a_channel_that_user_code_gave_goes_on_after_a_reconnect(transport: Transport) {
    let server = closed_server(Duration::from_secs(1)).await;
    let path = Path::to(&server, transport).await;
    let client = path.client(&server, transport).token(server.token("1"));
    let client = client.connect().await.unwrap();
    session(&server, &client)
        .subscribe(&name("secret"))
        .unwrap();
    let mut secret = take_up(&client, "secret").await;
    for round in 0..2 {
        path.interrupt(&client).await;
        let post = |text: &str| server.broker().post(&name("secret"), Message::text(text));
        post(&format!("{round}")).unwrap();
        let event = secret.next().await.unwrap();
        assert!(matches!(event, Event::Break { .. }), "{event:?}");
        assert_eq!(event.missed(), Some(0));
        let publication = publication(&mut secret).await;
        assert_eq!(text(&publication), round.to_string());
    }
    // Taken back, it is over for good.
    assert!(session(&server, &client).unsubscribe(&name("secret")));
    let event = secret.next().await.unwrap();
    assert!(
        matches!(
            event,
            Event::End {
                code: Code::ENDED,
                ..
            }
        ),
        "{event:?}"
    );
    path.interrupt(&client).await;
    let refused = client.subscribe("secret").await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PERMISSION_DENIED), "{refused}");
}

each!(what_user_code_gave_is_not_for_other_users_nor_after_an_order_to_end);
async fn what_user_code_gave_is_not_for_other_users_nor_after_an_order_to_end(
    transport: Transport,
) {
    let server = closed_server(Duration::from_secs(30)).await;
    let ann = server.client("ann", transport).await.unwrap();
    let given = session(&server, &ann);
    given.subscribe(&name("secret")).unwrap();
    let bob = server.client("bob", transport).await.unwrap();
    let refused = bob.subscribe("secret").await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PERMISSION_DENIED), "{refused}");
    // Another device of the same user may, but for what its own grant denies.
    let denied = server.client("ann", transport).await.unwrap();
    let mut grant = Grant::user("ann".parse().unwrap());
    grant.subscribe.deny.push("secret".parse().unwrap());
    session(&server, &denied).set_grant(grant);
    let refused = denied.subscribe("secret").await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PERMISSION_DENIED), "{refused}");
    // A session that the server ends leaves nothing.
    given.close(Code::APPLICATION, "banned");
    ann.closed().await;
    let again = server.client("ann", transport).await.unwrap();
    let refused = again.subscribe("secret").await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PERMISSION_DENIED), "{refused}");
}

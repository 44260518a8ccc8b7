//! First connections that are tried again, and a second URL for networks that let no UDP through.

mod common;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{bounded, each, publication, text};
use tidings::{
    Code,
    client::{Client, ClientError, DialError, Sha256, State, TokenError, Transport, Trust},
    server::Origins,
    testing::TestServer,
};
use tokio::{net::UdpSocket, task::JoinSet};

/// A UDP port that answers nothing, and knows who asked.
struct Silence {
    address: SocketAddr,
    asked: Arc<Mutex<HashSet<SocketAddr>>>,
    _task: JoinSet<()>,
}

impl Silence {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (asked, mut task) = (Arc::<Mutex<HashSet<SocketAddr>>>::default(), JoinSet::new());
        let into = Arc::clone(&asked);
        task.spawn(async move {
            let mut buffer = [0; 2000];
            while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
                into.lock().unwrap().insert(from);
            }
        });
        Self {
            address,
            asked,
            _task: task,
        }
    }

    fn url(&self, transport: Transport) -> String {
        match transport {
            Transport::Quic => format!("quic://{}", self.address),
            _ => format!("https://{}/tidings", self.address),
        }
    }
}

fn transport(client: &Client) -> Transport {
    client.welcome().unwrap().transport
}

async fn falls_back(main: Transport) {
    let server = TestServer::start().await;
    let silence = Silence::start().await;
    let client = server
        .client_builder(main)
        .url(silence.url(main))
        .fallback(server.url(Transport::WebSocket))
        .token(server.token("1"))
        .connect()
        .await
        .unwrap();
    assert_eq!(transport(&client), Transport::WebSocket);
    let mut global = client.subscribe("global").await.unwrap();
    assert_eq!(silence.asked.lock().unwrap().len(), 1);
    // What worked is remembered: nobody asks the silent port again.
    for _ in 0..2 {
        let mut states = client.states();
        let session = client.welcome().unwrap().session;
        let session = server.sessions().find(&session).unwrap();
        session.close(Code(2000), "come back");
        let reconnecting = |state: &State| matches!(state, State::Reconnecting { .. });
        states.wait_for(reconnecting).await.unwrap();
        global.next().await.unwrap();
        assert_eq!(transport(&client), Transport::WebSocket);
    }
    server.broker().announce("x").unwrap();
    assert_eq!(text(&publication(&mut global).await), "x");
    assert_eq!(silence.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_quic_client_falls_back_where_udp_is_dropped() {
    bounded(falls_back(Transport::Quic)).await;
}

#[tokio::test]
async fn a_webtransport_client_falls_back_where_udp_is_dropped() {
    bounded(falls_back(Transport::WebTransport)).await;
}

#[tokio::test]
async fn a_client_falls_back_where_there_is_no_name() {
    bounded(async {
        let server = TestServer::start().await;
        let client = server
            .client_builder(Transport::Quic)
            .url("quic://no-such-host.invalid")
            .fallback(server.url(Transport::WebSocket))
            .token(server.token("1"));
        let client = client.connect().await.unwrap();
        assert_eq!(transport(&client), Transport::WebSocket);
    })
    .await;
}

each!(a_first_url_that_works_needs_no_fallback);
async fn a_first_url_that_works_needs_no_fallback(main: Transport) {
    let server = TestServer::start().await;
    let client = server
        .client_builder(main)
        .fallback("wss://no-such-host.invalid")
        .token(server.token("1"));
    assert_eq!(transport(&client.connect().await.unwrap()), main);
}

#[tokio::test]
async fn a_server_that_says_no_is_not_asked_over_the_fallback() {
    bounded(async {
        let server = TestServer::start().await;
        // It refuses the path.
        let refused = server
            .client_builder(Transport::WebTransport)
            .url(format!("https://{}/elsewhere", server.address()))
            .fallback(server.url(Transport::WebSocket))
            .token(server.token("1"));
        let refused = refused.connect().await.unwrap_err();
        assert!(
            matches!(refused, ClientError::Dial(DialError::Refused(404))),
            "{refused}"
        );
        // It is not who it should be.
        let untrusted = server
            .client_builder(Transport::Quic)
            .trust(Trust::Hashes(vec![Sha256([7; 32])]))
            .fallback(server.url(Transport::WebSocket));
        let untrusted = untrusted.connect().await.unwrap_err();
        assert!(
            matches!(untrusted, ClientError::Dial(DialError::Untrusted { .. })),
            "{untrusted}"
        );
        // It does not know the token.
        let unknown = server
            .client_builder(Transport::Quic)
            .fallback(server.url(Transport::WebSocket))
            .token("nonsense");
        let unknown = unknown.connect().await.unwrap_err();
        assert_eq!(unknown.code(), Some(Code::INVALID_TOKEN), "{unknown}");
    })
    .await;
}

#[tokio::test]
async fn where_both_fail_the_error_is_that_of_the_first() {
    bounded(async {
        let silence = Silence::start().await;
        let failed = Client::builder(silence.url(Transport::Quic))
            .fallback("wss://no-such-host.invalid")
            .deadline(Duration::from_millis(1500))
            .connect()
            .await
            .unwrap_err();
        assert!(
            matches!(failed, ClientError::Dial(DialError::TimedOut(_))),
            "{failed}"
        );
        let wrong = Client::builder("quic://127.0.0.1")
            .fallback("nonsense")
            .connect()
            .await;
        let wrong = wrong.unwrap_err();
        assert!(
            matches!(wrong, ClientError::Dial(DialError::Url { .. })),
            "{wrong}"
        );
    })
    .await;
}

each!(a_first_connection_waits_for_its_server);
async fn a_first_connection_waits_for_its_server(transport: Transport) {
    let mut server = TestServer::start().await;
    server.shut_down().await;
    let builder = || {
        let builder = server.client_builder(transport).token(server.token("1"));
        builder.deadline(Duration::from_millis(500))
    };
    builder().connect().await.unwrap_err();
    let client = tokio::spawn(builder().retry_connect(Duration::from_secs(600)).connect());
    server.start_again().await;
    client.await.unwrap().unwrap().ping().await.unwrap();
}

each!(a_first_connection_is_given_up_at_its_limit);
async fn a_first_connection_is_given_up_at_its_limit(transport: Transport) {
    let mut server = TestServer::start().await;
    server.shut_down().await;
    for limit in [Duration::ZERO, Duration::from_millis(700)] {
        let builder = server.client_builder(transport).token(server.token("1"));
        let builder = builder.deadline(Duration::from_millis(300));
        let error = builder.retry_connect(limit).connect().await.unwrap_err();
        assert!(matches!(error, ClientError::Dial(_)), "{error}");
    }
}

each!(what_does_not_pass_by_itself_is_not_tried_again);
async fn what_does_not_pass_by_itself_is_not_tried_again(transport: Transport) {
    let no_page = Origins::List(Vec::new());
    let server = TestServer::start_with(|builder| builder.origins(no_page)).await;
    let builder = || {
        server
            .client_builder(transport)
            .retry_connect(Duration::MAX)
    };
    let error = builder().token("nonsense").connect().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::INVALID_TOKEN), "{error}");
    let trust = Trust::Hashes(vec![Sha256([7; 32])]);
    builder().trust(trust).connect().await.unwrap_err();
    builder().url("nonsense").connect().await.unwrap_err();
    let signed_out = builder().token_provider(|| async { Err(TokenError::SignedOut) });
    let error = signed_out.connect().await.unwrap_err();
    assert!(matches!(error, ClientError::SignedOut), "{error}");
    if transport != Transport::Quic {
        let elsewhere = server.url(transport).replace("/tidings", "/elsewhere");
        let error = builder().url(elsewhere).connect().await.unwrap_err();
        assert!(
            matches!(error, ClientError::Dial(DialError::Refused(404))),
            "{error}"
        );
    }
}

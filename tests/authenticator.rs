//! What an authenticator of the application sees of a client, and what its grant carries.

mod common;

use std::sync::{Arc, Mutex};

use common::{
    each,
    raw::{Dial, Raw, hello},
    websocket::{PROTOCOL, on_control, parameters, secure},
};
use futures_util::SinkExt;
use tidings::{
    auth::{Authenticator, Credentials, Denied, Grant, Request},
    client::Transport,
    testing::TestServer,
    wire::frame::Frame,
};
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest};
use web_transport_quinn::http::{HeaderName, HeaderValue};

/// What one call of the authenticator saw.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    transport: Transport,
    loopback: bool,
    path: Option<String>,
    query: Option<String>,
    tenant: Option<String>,
    origin: Option<String>,
    cookies: Vec<Option<String>>,
    forwarded: Option<String>,
    refresh: bool,
    debug: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Profile {
    role: String,
}

#[derive(Clone, Default)]
struct Watching {
    seen: Arc<Mutex<Vec<Seen>>>,
    blind: bool,
}

#[async_trait::async_trait]
impl Authenticator for Watching {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Grant, Denied> {
        let request = credentials.request;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let cookie = |name| owned(request.and_then(|request| request.cookie(name)));
        self.seen.lock().unwrap().push(Seen {
            transport: credentials.transport,
            loopback: credentials.remote.ip().is_loopback(),
            path: owned(request.map(|request| request.path())),
            query: owned(request.and_then(|request| request.query())),
            tenant: request.and_then(|request| request.query_parameter("tenant")),
            origin: owned(request.and_then(|request| request.origin())),
            cookies: vec![
                cookie("a"),
                cookie("session"),
                cookie("Session"),
                cookie(""),
            ],
            forwarded: owned(request.and_then(|request| request.header("X-Forwarded-For"))),
            refresh: credentials.current.is_some(),
            debug: format!("{credentials:?}"),
        });
        let role = credentials.token.unwrap_or("none").to_owned();
        Ok(Grant::user("1".parse().unwrap()).with_data(Profile { role }))
    }

    fn reads_request(&self) -> bool {
        !self.blind
    }
}

const HEADERS: [(&str, &str); 3] = [
    ("origin", "https://app.example"),
    ("cookie", "a=1; session=s3cr3t==;b = 2"),
    ("x-forwarded-for", "192.0.2.7"),
];

async fn serve(watching: &Watching) -> TestServer {
    let authenticator = watching.clone();
    TestServer::start_with(|builder| {
        builder
            .authenticator(authenticator)
            .origins(tidings::server::Origins::Any)
    })
    .await
}

/// Says `Hello` as a browser would, and waits until the authenticator was asked.
async fn arrive(transport: Transport, server: &TestServer, watching: &Watching) {
    let address = server.address();
    let dial = || Dial::new(server, transport);
    let greeting = hello(Some("t0ken".to_owned()));
    let asked = async {
        while watching.seen.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    match transport {
        Transport::Quic => {
            let mut raw = dial().open().await;
            raw.send(greeting).await;
            asked.await;
        }
        Transport::WebTransport => {
            let mut request = dial().request();
            request
                .url
                .set_query(Some("tenant=a%20b&tenant=c&secret=q"));
            for (name, value) in HEADERS {
                let name = HeaderName::from_static(name);
                request = request.with_header(name, HeaderValue::from_static(value));
            }
            let session = dial().connect(request).await.unwrap();
            let mut raw = Raw::open(session).await.unwrap();
            raw.send(greeting).await;
            asked.await;
        }
        _ => {
            let url = format!("wss://{address}/tidings?tenant=a%20b&tenant=c&secret=q");
            let mut request = url.into_client_request().unwrap();
            let headers = request.headers_mut();
            headers.insert("sec-websocket-protocol", PROTOCOL.parse().unwrap());
            for (name, value) in HEADERS {
                headers.append(name, value.parse().unwrap());
            }
            let socket = secure(address).await;
            let (mut socket, _) = client_async(request, socket).await.unwrap();
            // Windows for what the server says.
            let window = [4, 4, 0x80, 1, 0, 0, 5, 4, 0x80, 1, 0, 0];
            socket.send(parameters(&window)).await.unwrap();
            let greeting = Frame::from(greeting).encode();
            socket.send(on_control(&greeting)).await.unwrap();
            asked.await;
        }
    }
}

each!(an_authenticator_sees_the_request_of_the_client);
async fn an_authenticator_sees_the_request_of_the_client(transport: Transport) {
    let watching = Watching::default();
    let server = serve(&watching).await;
    arrive(transport, &server, &watching).await;
    let seen = watching.seen.lock().unwrap().remove(0);
    assert_eq!(seen.transport, transport);
    assert!(seen.loopback && !seen.refresh);
    for secret in ["s3cr3t", "t0ken", "tenant=", "192.0.2.7"] {
        assert!(!seen.debug.contains(secret), "{}", seen.debug);
    }
    let text = |text: &str| Some(text.to_owned());
    if transport == Transport::Quic {
        assert_eq!((seen.path, seen.origin, seen.forwarded), (None, None, None));
        return;
    }
    assert_eq!(seen.path, text("/tidings"));
    assert_eq!(seen.query, text("tenant=a%20b&tenant=c&secret=q"));
    assert_eq!(seen.tenant, text("a b"));
    assert_eq!(seen.origin, text("https://app.example"));
    assert_eq!(seen.cookies, [text("1"), text("s3cr3t=="), None, None]);
    assert_eq!(seen.forwarded, text("192.0.2.7"));
}

each!(an_authenticator_sees_the_request_again_at_a_refresh);
async fn an_authenticator_sees_the_request_again_at_a_refresh(transport: Transport) {
    let watching = Watching::default();
    let server = serve(&watching).await;
    let url = match transport {
        Transport::Quic => server.url(transport),
        _ => server.url(transport) + "?tenant=acme",
    };
    let client = server.client_builder(transport).url(url).token("guest");
    let client = client.connect().await.unwrap();
    let session = client.welcome().unwrap().session;
    let session = server.sessions().find(&session).unwrap();
    assert_eq!(session.data::<Profile>().unwrap().role, "guest");
    assert_eq!(session.data::<String>(), None);
    client.refresh("admin").await.unwrap();
    assert_eq!(session.data::<Profile>().unwrap().role, "admin");
    let seen = watching.seen.lock().unwrap().clone();
    let refreshes: Vec<_> = seen.iter().map(|seen| seen.refresh).collect();
    assert_eq!(refreshes, [false, true]);
    let tenant = (transport != Transport::Quic).then(|| "acme".to_owned());
    assert!(seen.iter().all(|seen| seen.tenant == tenant), "{seen:?}");
}

each!(an_authenticator_that_reads_no_request_is_shown_none);
async fn an_authenticator_that_reads_no_request_is_shown_none(transport: Transport) {
    let watching = Watching {
        blind: true,
        ..Watching::default()
    };
    let server = serve(&watching).await;
    arrive(transport, &server, &watching).await;
    let seen = watching.seen.lock().unwrap().remove(0);
    assert_eq!((seen.transport, seen.path), (transport, None));
}

#[test]
fn cookies_are_found_in_every_field_by_their_exact_name() {
    let request = Request::new("/tidings?x")
        .with_header("Cookie", "a=1; aa=2;b = 3 ;c=\"4\";d;=5; e=6=7")
        .with_header("cookie", "f=8; a=9")
        .with_header("cookie", "g=\u{e4}");
    for (name, value) in [
        ("a", Some("1")),
        ("aa", Some("2")),
        ("b", Some("3")),
        ("c", Some("\"4\"")),
        ("d", None),
        ("e", Some("6=7")),
        ("f", Some("8")),
        ("g", None),
        ("A", None),
    ] {
        assert_eq!(request.cookie(name), value, "{name}");
    }
    assert_eq!((request.path(), request.query()), ("/tidings", Some("x")));
    assert_eq!(request.query_parameter("x").as_deref(), Some(""));
    assert_eq!(Request::new("/").query(), None);
    let debug = format!("{request:?}");
    assert!(
        debug.contains("cookie") && !debug.contains("aa=2"),
        "{debug}"
    );
}

#[test]
fn data_of_a_grant_is_kept_by_type_and_never_shown() {
    let grant = Grant::anonymous()
        .with_data(1_u32)
        .with_data("secret".to_owned());
    let grant = grant.with_data(2_u32);
    assert_eq!(grant.data::<u32>(), Some(&2));
    assert_eq!(grant.data::<String>().unwrap(), "secret");
    assert_eq!(grant.data::<u64>(), None);
    assert!(!format!("{grant:?}").contains("secret"));
    assert_eq!(grant, grant.clone());
    assert_ne!(grant, Grant::anonymous());
}

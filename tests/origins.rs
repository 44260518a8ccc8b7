//! Origins of pages, as browsers send them, against the list of a server (PROTOCOL §2.2, §2.4).

mod common;

use common::{
    bounded,
    raw::Dial,
    websocket::{PROTOCOL, secure},
};
use tidings::{
    auth::AllowAnonymous,
    client::Transport,
    server::{Origins, Server, ServerError},
    testing::TestServer,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, client::IntoClientRequest},
};
use web_transport_quinn::http::{HeaderValue, header};

/// Entry of the list, origins that it takes, and origins that it does not take.
const CASES: [(&str, &[&str], &[&str]); 10] = [
    (
        "https://app.example:443",
        &["https://app.example"],
        &["https://app.example:8443", "http://app.example"],
    ),
    (
        "http://APP.example:80",
        &["http://app.example"],
        &["https://app.example"],
    ),
    (
        "HTTPS://LocalHost:*",
        &["https://localhost", "https://localhost:8443"],
        &["http://localhost", "https://localhost.evil.example"],
    ),
    (
        "https://*.example.org",
        &["https://a.example.org"],
        &[
            "https://example.org",
            "https://a.b.example.org",
            "https://aexample.org",
        ],
    ),
    (
        "https://*.example.org:*",
        &["https://b.example.org:8443"],
        &["https://example.org:8443"],
    ),
    (
        "https://bücher.example",
        &["https://xn--bcher-kva.example"],
        &["https://bucher.example"],
    ),
    (
        "http://[0:0::1]:8080",
        &["http://[::1]:8080"],
        &["http://[::1]"],
    ),
    (
        "capacitor://localhost",
        &["capacitor://localhost"],
        &["ionic://localhost", "null"],
    ),
    (
        "chrome-extension://abcdefghijklmnop",
        &["chrome-extension://abcdefghijklmnop"],
        &["chrome-extension://ponmlkjihgfedcba"],
    ),
    ("null", &["null"], &["https://app.example"]),
];

/// Status of a CONNECT from this origin; 200 where a session began.
async fn connect(server: &TestServer, origin: &str) -> u16 {
    let dial = Dial::new(server, Transport::WebTransport);
    let value = HeaderValue::from_str(origin).unwrap();
    let request = dial.request().with_header(header::ORIGIN, value);
    dial.connect(request).await.err().unwrap_or(200)
}

/// Status of the upgrade to a WebSocket from this origin.
async fn upgrade(server: &TestServer, origin: &str) -> u16 {
    let address = server.address();
    let mut request = format!("wss://{address}/tidings")
        .into_client_request()
        .unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", PROTOCOL.parse().unwrap());
    headers.insert("origin", origin.parse().unwrap());
    match client_async(request, secure(address).await).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{origin}: {other}"),
    }
}

#[tokio::test]
async fn entry_takes_the_origins_that_browsers_send() {
    bounded(async {
        for (entry, good, bad) in CASES {
            let origins = Origins::List(vec![entry.to_owned()]);
            let server = TestServer::start_with(|builder| builder.origins(origins)).await;
            for (origins, connected, upgraded) in [(good, 200, 101), (bad, 403, 403)] {
                for origin in origins {
                    assert_eq!(
                        connect(&server, origin).await,
                        connected,
                        "{entry}: {origin}"
                    );
                    assert_eq!(
                        upgrade(&server, origin).await,
                        upgraded,
                        "{entry}: {origin}"
                    );
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn server_with_an_entry_that_cannot_match_does_not_start() {
    for entry in [
        "app.example",
        "https://app.example/",
        "https://me@app.example",
        "https://app.example:65536",
        "https://a.*.example",
        "https://app.example.",
    ] {
        let bound = Server::builder()
            .listen(([127, 0, 0, 1], 0).into())
            .self_signed()
            .authenticator(AllowAnonymous::only())
            .origins(Origins::List(vec![entry.to_owned()]))
            .bind()
            .await;
        match bound {
            Err(ServerError::Origin(error)) => {
                assert!(error.to_string().contains(&format!("{entry:?}")), "{error}");
            }
            other => panic!("{entry} is not refused: {other:?}"),
        }
    }
}

use std::{net::Ipv4Addr, thread};

use quinn::{Endpoint, Incoming, SendStream, ServerConfig, crypto::rustls::QuicServerConfig};

use super::*;
use crate::stream_load::testing::{Toy, options};

/// Subscribers of a toy server, each with its connection, which lives as long.
type Subscribers = Arc<tokio::sync::Mutex<Vec<(SendStream, quinn::Connection)>>>;

/// A server for `Toy` that runs until the test's process ends: what a publisher sends goes to all subscribers.
fn server() -> SocketAddr {
    let tls = QuicServerConfig::try_from(tls::server(&["toy"]).expect("a TLS server"));
    let config = ServerConfig::with_crypto(Arc::new(tls.expect("a QUIC server")));
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let endpoint =
                Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
            tell.send(endpoint.local_addr().expect("its address"))
                .expect("a test that waits");
            let subscribers = Subscribers::default();
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(connection(incoming, subscribers.clone()));
            }
        });
    });
    told.recv().expect("a server that starts")
}

async fn connection(incoming: Incoming, subscribers: Subscribers) -> Result<()> {
    let connection = incoming.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let mut word = [0];
    receive.read_exact(&mut word).await?;
    send.write_all(b"R").await?;
    if word == *b"S" {
        subscribers.lock().await.push((send, connection));
        return Ok(());
    }
    let mut buffer = [0; 1000];
    while let Some(length) = receive.read(&mut buffer).await? {
        for (subscriber, _) in subscribers.lock().await.iter_mut() {
            subscriber.write_all(&buffer[..length]).await?;
        }
    }
    Ok(())
}

#[test]
fn what_is_published_arrives_over_quic() {
    let report = run::<Toy<false>>(&options(server(), &[]), "toy").expect("a run");
    assert_eq!(report.void, Vec::<String>::new());
    assert!(report.deliveries > 0 && report.datagrams.is_some());
}

#[test]
fn a_server_that_speaks_something_else_is_an_error() {
    let error = run::<Toy<false>>(&options(server(), &[]), "other").expect_err("no such ALPN");
    assert!(format!("{error:#}").starts_with("connection "), "{error:#}");
}

use std::{net::Ipv4Addr, thread};

use quinn::{Endpoint, Incoming, SendStream, ServerConfig, crypto::rustls::QuicServerConfig};

use super::*;
use crate::stream_load::testing::{Toy, options};

/// Subscribers of a toy server, each with its connection, which lives as long, and its streams.
type Subscribers = Arc<tokio::sync::Mutex<Vec<([SendStream; 3], quinn::Connection)>>>;

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
        // Channel 0 comes by the subscriber's stream, channel 1 by one of the server's own, which is not its first.
        let unused = connection.open_uni().await?;
        let streams = [send, connection.open_uni().await?, unused];
        subscribers.lock().await.push((streams, connection));
        return Ok(());
    }
    let mut head = [0; 2];
    while receive.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(head[1])];
        receive.read_exact(&mut payload).await?;
        for (streams, _) in subscribers.lock().await.iter_mut() {
            let stream = &mut streams[usize::from(head[0])];
            stream.write_all(&[&head[..], &payload].concat()).await?;
        }
    }
    Ok(())
}

#[test]
fn what_is_published_arrives_over_quic() {
    let report = run::<Toy<false>>(&options(server(), &[]), "toy", 3).expect("a run");
    assert_eq!(report.void, Vec::<String>::new());
    assert!(report.deliveries > 0 && report.datagrams.is_some());
}

#[test]
fn a_server_that_speaks_something_else_is_an_error() {
    let error = run::<Toy<false>>(&options(server(), &[]), "other", 0).expect_err("no such ALPN");
    assert!(format!("{error:#}").starts_with("connection "), "{error:#}");
}

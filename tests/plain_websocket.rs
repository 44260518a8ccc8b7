//! WebSockets without TLS, for a proxy in front that ends it (PROTOCOL §2.4).

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use common::{bounded, certificate, publication, text};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tidings::{
    Code, Message,
    auth::AllowAnonymous,
    client::{Client, State, Trust},
    server::{BindError, Origins, Server, ServerError},
    testing::TestServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

const FREE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

async fn server() -> (TestServer, SocketAddr) {
    let origins = Origins::List(vec!["https://good.example".to_owned()]);
    let server =
        TestServer::start_with(|builder| builder.plain_websockets(FREE.into()).origins(origins))
            .await;
    let plain = server.plain_websocket_address().unwrap();
    (server, plain)
}

/// Publishes to a channel and hears it, over a client of this.
async fn converse(client: &Client) {
    let mut room = client.subscribe("chat-room-7").await.unwrap();
    let big = "x".repeat(30_000);
    for said in ["hello", &big, "bye"] {
        client
            .publish("chat-room-7", Message::text(said))
            .await
            .unwrap();
        assert_eq!(text(&publication(&mut room).await), said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_tls_is_one_like_others_and_is_told_of_the_end() {
    bounded(async {
        let (server, plain) = server().await;
        let client = Client::builder(format!("ws://{plain}/tidings"))
            .token(server.token("42"))
            .reconnect(false)
            .connect()
            .await
            .unwrap();
        converse(&client).await;
        assert_eq!(server.sessions().count(), 1);
        let mut states = client.states();
        server.stop().await;
        let over = states
            .wait_for(|state| matches!(state, State::Closed { .. }))
            .await
            .unwrap()
            .clone();
        match over {
            State::Closed { code, reason } => assert_eq!(code, Some(Code::GOING_AWAY), "{reason}"),
            other => panic!("not over but {other:?}"),
        }
        let late = TcpStream::connect(plain).await;
        assert!(late.is_err(), "the port is free again");
    })
    .await;
}

/// A proxy that ends TLS and passes on what it reads; the certificate that it shows.
async fn proxy(to: SocketAddr) -> (SocketAddr, String, AbortHandle) {
    let (_, chain, key) = certificate();
    let chain_of = CertificateDer::pem_slice_iter(chain.as_bytes());
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            chain_of.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(FREE).await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let mut near = acceptor.accept(near).await.unwrap();
            let mut far = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (address, chain, running.abort_handle())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_ends_tls_carries_sessions() {
    bounded(async {
        let (server, plain) = server().await;
        let (address, chain, proxy) = proxy(plain).await;
        let client = Client::builder(format!("wss://localhost:{}/tidings", address.port()))
            .trust(Trust::Pem(chain.into_bytes()))
            .token(server.token("42"))
            .connect()
            .await
            .unwrap();
        converse(&client).await;
        proxy.abort();
    })
    .await;
}

/// The status that a request with this header is answered with.
async fn ask(address: SocketAddr, header: &str) -> u16 {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /tidings HTTP/1.1\r\nHost: x\r\n{header}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: qmux-02.tidings.v1\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    let answer = std::str::from_utf8(&answer).unwrap();
    answer.strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_others_are_refused_without_tls_too() {
    bounded(async {
        let (_server, plain) = server().await;
        assert_eq!(ask(plain, "Origin: https://good.example").await, 101);
        assert_eq!(ask(plain, "Origin: https://evil.example").await, 403);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named() {
    bounded(async {
        let taken = TcpListener::bind(FREE).await.unwrap();
        let address = taken.local_addr().unwrap();
        let bound = Server::builder()
            .listen(FREE.into())
            .self_signed()
            .authenticator(AllowAnonymous::only())
            .plain_websockets(address)
            .bind()
            .await;
        match bound {
            Err(ServerError::Bind(BindError::PlainTcp { address: named, .. })) => {
                assert_eq!(named, address);
            }
            other => panic!("not refused for it: {other:?}"),
        }
    })
    .await;
}

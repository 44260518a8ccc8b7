//! Sockets and TLS sessions of clients.

mod common;

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{TempDir, both, certificate, each, publication, text};
use tidings::{
    Code, Message,
    client::{ClientError, DialError, Event, Sha256, Socket, Transport, Trust},
    endpoint::{Endpoint, Session},
    server::CertificateFiles,
    testing::TestServer,
};

/// User code that keeps the sessions.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Session>>>);

#[async_trait::async_trait]
impl Endpoint for Keeper {
    async fn session_opened(&self, session: &Session) {
        self.0.lock().unwrap().push(session.clone());
    }
}

impl Keeper {
    /// Where the clients come from.
    fn addresses(&self) -> HashSet<SocketAddr> {
        let sessions = self.0.lock().unwrap();
        sessions.iter().map(Session::remote_address).collect()
    }
}

both!(clients_that_share_a_socket_come_from_one_port_and_do_not_mix);
async fn clients_that_share_a_socket_come_from_one_port_and_do_not_mix(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let socket = Socket::new();
    let mut readers = Vec::new();
    for user in ["1", "2", "3"] {
        let client = server
            .client_builder(transport)
            .token(server.token(user))
            .socket(&socket)
            .connect()
            .await
            .unwrap();
        let inbox = client.subscribe(&format!("user-{user}")).await.unwrap();
        readers.push((user, client, inbox));
    }
    assert_eq!(keeper.addresses().len(), 1);
    for (user, ..) in &readers {
        let user = user.parse().unwrap();
        server.broker().notify(&user, format!("to {user}")).unwrap();
    }
    for (user, _, inbox) in &mut readers {
        assert_eq!(text(&publication(inbox).await), format!("to {user}"));
    }
    // The end of one is not the end of another.
    let (_, first, mut inbox) = readers.remove(0);
    first.close().await;
    assert!(matches!(inbox.next().await, Some(Event::End { .. })));
    let (_, second, mut inbox) = readers.remove(0);
    second
        .publish("chat-room-1", Message::text("x"))
        .await
        .unwrap();
    server.broker().notify(&"2".parse().unwrap(), "on").unwrap();
    assert_eq!(text(&publication(&mut inbox).await), "on");
    // Once it is idle, the server has been told of each end.
    second.close().await;
    readers.remove(0).1.close().await;
    socket.idle().await;
    let sessions = keeper.0.lock().unwrap().clone();
    for session in sessions {
        session.closed().await;
    }
}

each!(a_client_without_a_shared_socket_has_its_own);
async fn a_client_without_a_shared_socket_has_its_own(transport: Transport) {
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| builder.endpoint(keeper.clone())).await;
    let _first = server.client("1", transport).await.unwrap();
    let _second = server.client("2", transport).await.unwrap();
    assert_eq!(keeper.addresses().len(), 2);
}

each!(a_connection_that_is_made_again_resumes_the_tls_session);
async fn a_connection_that_is_made_again_resumes_the_tls_session(transport: Transport) {
    let folder = TempDir::new();
    let path = |name: &str| folder.path().join(name);
    let write = |chain: &str, key: &str| {
        fs::write(path("chain.pem"), chain).unwrap();
        fs::write(path("key.pem"), key).unwrap();
    };
    let (old, chain, key) = certificate();
    write(&chain, &key);
    let mut files = CertificateFiles::new(path("chain.pem"), path("key.pem"));
    files.interval = Duration::from_millis(20);
    let keeper = Keeper::default();
    let server = TestServer::start_with(|builder| {
        builder
            .certificate_files(files.clone())
            .endpoint(keeper.clone())
    })
    .await;
    let pinned = |sha256: Sha256| {
        server
            .client_builder(transport)
            .trust(Trust::Hashes(vec![sha256]))
            .token(server.token("1"))
    };
    let client = pinned(old.sha256()).connect().await.unwrap();
    let mut room = client.subscribe("chat-room-1").await.unwrap();

    // A full handshake shows a certificate that this client does not trust, so only a resumed one lets it come back.
    let (_, chain, key) = certificate();
    write(&chain, &key);
    loop {
        match pinned(old.sha256()).connect().await {
            Err(ClientError::Dial(DialError::Untrusted { .. })) => break,
            Err(error) => panic!("{error}"),
            Ok(early) => early.close().await,
        }
    }
    keeper.0.lock().unwrap()[0].close(Code(2000), "come back");
    assert!(matches!(room.next().await, Some(Event::Break { .. })));
    client
        .publish("chat-room-1", Message::text("back"))
        .await
        .unwrap();
    assert_eq!(text(&publication(&mut room).await), "back");
}

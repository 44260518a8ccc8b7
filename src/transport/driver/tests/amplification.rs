//! Bytes to addresses that are not validated, counted at the UDP sockets (RFC 9000 §8).

mod relay;
mod replaced;

use futures_util::future::join_all;
use tokio::{
    net::UdpSocket,
    time::{sleep, timeout},
};

use super::*;
use relay::Relay;
use replaced::Replaced;

/// Bytes that may be sent for each that was received.
const LIMIT: usize = 3;
/// No case takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

async fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// A client's first datagram for `server`, `size` bytes long.
async fn first_of(server: &Server, size: usize) -> Vec<u8> {
    let catcher = socket().await;
    let endpoint = endpoint();
    let config = quinn::ClientConfig::new(Arc::new(server.crypto(ALPN)));
    let to = catcher.local_addr().unwrap();
    let _connecting = endpoint.connect_with(config, to, "localhost").unwrap();
    let mut datagram = vec![0; 2000];
    let read = catcher.recv(&mut datagram).await.unwrap();
    assert!(read <= size, "{read}");
    // What follows the packet in its datagram is no packet, and counts.
    datagram.truncate(read);
    datagram.resize(size, 0);
    datagram
}

/// Reads until `socket` was silent for that long; the number of bytes. `sent` is checked at each datagram.
async fn drain(socket: &UdpSocket, sent: usize, silence: Duration, what: &str) -> usize {
    let mut received = 0;
    let mut datagram = [0; 2000];
    while let Ok(read) = timeout(silence, socket.recv(&mut datagram)).await {
        received += read.unwrap();
        assert!(
            received <= LIMIT * sent,
            "{received} bytes for {sent}: {what}"
        );
    }
    received
}

#[tokio::test]
async fn handshake_of_a_client_that_never_answers_stays_within_the_limit() {
    /// Beyond the second probe timeout, which comes 3 s after the beginning.
    const SILENCE: Duration = Duration::from_millis(2500);
    // Each name takes about 60 bytes of a certificate.
    let cases = [0, 8, 20, 30, 34, 40, 45, 50, 60, 100]
        .map(|names| [1200, 1250, 1399].map(|size| (names, size)));
    let cases = cases.into_iter().flatten().map(|(names, size)| async move {
        let names: Vec<_> = (0..names)
            .map(|name| format!("{name:050}.example.org"))
            .collect();
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        names.push("localhost");
        let server = Server::start_with(&names, config(), |_| ());
        let first = first_of(&server, size).await;
        let client = socket().await;
        client.send_to(&first, server.address).await.unwrap();
        let what = format!("{} names, first datagram of {size} bytes", names.len());
        let received = drain(&client, size, SILENCE, &what).await;
        assert!(received >= 1200, "no handshake: {what}");
    });
    join_all(cases).await;
}

#[tokio::test]
async fn answers_without_a_connection_stay_within_the_limit() {
    const SILENCE: Duration = Duration::from_millis(300);
    let limited = |soft_handshakes, hard_handshakes| {
        let config = Config {
            soft_handshakes,
            hard_handshakes,
            ..config()
        };
        Server::start_with(&["localhost"], config, |_| ())
    };
    // Retry, and refusal.
    for (server, what) in [(limited(0, 8), "Retry"), (limited(0, 0), "refusal")] {
        let first = first_of(&server, 1200).await;
        let client = socket().await;
        client.send_to(&first, server.address).await.unwrap();
        let received = drain(&client, first.len(), SILENCE, what).await;
        assert!(received > 0, "no {what}");
    }
    let server = Server::start(|_| ());
    let sizes = [23, 24, 29, 43, 100, 400, 1199, 1200, 1400];
    let ask = |datagram: Vec<u8>, what: &'static str| {
        let to = server.address;
        async move {
            let client = socket().await;
            client.send_to(&datagram, to).await.unwrap();
            drain(&client, datagram.len(), SILENCE, what).await
        }
    };
    let negotiations = sizes.map(|size| {
        let mut datagram = first_datagram(0x1234_5678);
        datagram.resize(size, 0);
        ask(datagram, "version negotiation")
    });
    assert!(
        join_all(negotiations)
            .await
            .iter()
            .any(|&received| received > 0)
    );
    let resets = sizes.map(|size| ask(vec![0x4f; size], "stateless reset"));
    let resets = join_all(resets).await;
    assert!(resets.iter().any(|&received| received > 0));
    assert!(
        resets
            .iter()
            .zip(sizes)
            .all(|(&received, sent)| received < sent)
    );
}

/// A connected client, through a relay, and the server's side.
async fn through(
    relay: &Relay,
    server: &mut Server,
    replaced: &Replaced,
) -> (
    quinn::Endpoint,
    quinn::Connection,
    crate::transport::Connection,
) {
    let endpoint = endpoint();
    let crypto = replaced.wrap(server.crypto(ALPN));
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    // Small packets, one after the other.
    transport.keep_alive_interval(Some(Duration::from_millis(20)));
    config.transport_config(Arc::new(transport));
    let connecting = endpoint
        .connect_with(config, relay.address, "localhost")
        .unwrap();
    let client = connecting.await.unwrap();
    let arrival = server.arrivals.recv().await.unwrap();
    let (connection, permit, _) = arrival.handshake().await.unwrap();
    drop(permit);
    (endpoint, client, connection)
}

/// Lets the server write `bytes` on a new stream.
fn push(connection: &crate::transport::Connection, bytes: usize) {
    let stream = connection.arrange(|streams| streams.open()).unwrap();
    connection.with_streams(|streams| {
        let written = streams.write(stream, USUAL, &mut vec![Bytes::from(vec![7; bytes])]);
        assert_eq!(written, Ok(Written::All));
        streams.finish(stream);
    });
}

async fn read(client: &quinn::Connection) -> usize {
    let reading = async {
        let mut stream = client.accept_uni().await.unwrap();
        stream.read_to_end(1 << 20).await.unwrap().len()
    };
    timeout(PATIENCE, reading).await.expect("it arrives")
}

#[tokio::test]
async fn spoofed_addresses_get_no_more_than_the_limit() {
    for pushed in [0, 100, 100_000] {
        let mut server = Server::start(|_| ());
        let relay = Relay::new(server.address).await;
        let (_endpoint, client, connection) =
            through(&relay, &mut server, &Replaced::default()).await;
        push(&connection, 1000);
        assert_eq!(read(&client).await, 1000);
        // The client's packets seem to come from one address after the other, and no answer gets back to it.
        for _ in 0..3 {
            relay.spoof().await;
            if pushed > 0 {
                push(&connection, pushed);
            }
            relay.sent(15).await;
        }
        // Its packets as they are, and the largest that it sends.
        client.send_datagram(vec![1; 1100].into()).unwrap();
        relay.sent(5).await;
        relay.check(LIMIT, &format!("{pushed} bytes pushed"));
        // The client is back, at another address.
        relay.rebind().await;
        if pushed > 0 {
            for _ in 0..3 {
                assert_eq!(read(&client).await, pushed);
            }
        }
        push(&connection, 50_000);
        assert_eq!(read(&client).await, 50_000);
    }
}

#[tokio::test]
async fn client_at_a_new_address_is_served_within_the_limit_until_it_is_validated() {
    for pushed in [1, 100, 200_000] {
        let mut server = Server::start(|_| ());
        let relay = Relay::new(server.address).await;
        let (_endpoint, client, connection) =
            through(&relay, &mut server, &Replaced::default()).await;
        for _ in 0..3 {
            relay.rebind().await;
            push(&connection, pushed);
            assert_eq!(read(&client).await, pushed);
        }
        relay.check_first(LIMIT);
    }
}

#[tokio::test]
async fn path_probe_from_a_spoofed_address_is_answered_within_the_limit() {
    /// PATH_CHALLENGE, which becomes the client's next packets.
    const CHALLENGE: &[u8] = &[0x1a, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut server = Server::start(|_| ());
    let relay = Relay::new(server.address).await;
    let replaced = Replaced::default();
    let (_endpoint, client, connection) = through(&relay, &mut server, &replaced).await;
    push(&connection, 1000);
    assert_eq!(read(&client).await, 1000);
    for large in [false, true] {
        relay.spoof().await;
        replaced.set(Some(CHALLENGE));
        let size = if large { 1000 } else { 9 };
        for _ in 0..10 {
            client.send_datagram(vec![1; size].into()).unwrap();
            sleep(Duration::from_millis(5)).await;
        }
        relay.sent(10).await;
        replaced.set(None);
        relay.answered().await;
        relay.check(LIMIT, "path probes");
        relay.rebind().await;
    }
    push(&connection, 50_000);
    assert_eq!(read(&client).await, 50_000);
}

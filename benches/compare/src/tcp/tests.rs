use std::{
    net::TcpListener,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::stream_load::testing::{Toy, options};

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Bytes that the server writes at a time: messages are split, and several TLS records arrive at once.
const PIECE: usize = 50;

/// A server for `Toy`: what a publisher sends goes to all subscribers. A thread a connection, which ends with it.
fn server(greeted: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let tls = Arc::new(tls::server(&[]).expect("a TLS server"));
    let subscribers = Arc::new(Mutex::new(Vec::new()));
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (tls, subscribers) = (tls.clone(), subscribers.clone());
            thread::spawn(move || connection(socket?, tls, greeted, &subscribers));
        }
    });
    address
}

fn connection(
    mut socket: TcpStream,
    tls: Arc<rustls::ServerConfig>,
    greeted: bool,
    subscribers: &Mutex<Vec<Stream>>,
) -> io::Result<()> {
    if greeted {
        socket.write_all(b"G")?;
    }
    let session = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, socket);
    let mut word = [0];
    stream.read_exact(&mut word)?;
    stream.write_all(b"R")?;
    stream.flush()?;
    if word == *b"S" {
        lock(subscribers).push(stream);
        return Ok(());
    }
    let mut buffer = [0; 1000];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            // The publisher has ended.
            lock(subscribers).clear();
            return Ok(());
        }
        for subscriber in lock(subscribers).iter_mut() {
            for piece in buffer[..length].chunks(PIECE) {
                subscriber.write_all(piece)?;
                subscriber.flush()?;
            }
        }
    }
}

fn lock(subscribers: &Mutex<Vec<Stream>>) -> MutexGuard<'_, Vec<Stream>> {
    subscribers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn what_is_published_arrives_over_tls() {
    let report = run::<Toy<false>>(&options(server(false), &[])).expect("a run");
    assert_eq!(report.void, Vec::<String>::new());
    assert!(report.deliveries > 0);
}

#[test]
fn tls_begins_after_a_greeting_in_clear() {
    let report = run::<Toy<true>>(&options(server(true), &[])).expect("a run");
    assert_eq!(report.void, Vec::<String>::new());
}

#[test]
fn a_connection_that_reads_no_more_is_not_missed() {
    let report = run::<Toy<false>>(&options(server(false), &["--stalled", "1"])).expect("a run");
    assert_eq!(report.void, Vec::<String>::new());
    assert_eq!(report.offered, Some(2.0 * 2.0 * 4.0 * 500.0));
}

#[test]
fn memory_of_idle_connections_is_read() {
    let own = std::process::id().to_string();
    let more = ["--mode", "idle", "--settle", "0.05", "--server-pid", &own];
    let report = run::<Toy<false>>(&options(server(false), &more)).expect("a run");
    assert!(report.memory.expect("the memory").connected > 0);
}

#[test]
fn a_server_that_does_not_run_is_an_error_that_says_where() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let error = run::<Toy<false>>(&options(address, &[])).expect_err("nobody listens");
    assert!(
        format!("{error:#}").contains(&address.to_string()),
        "{error:#}"
    );
}

#[test]
fn a_server_that_hangs_up_is_an_error_that_says_on_whom() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || listener.incoming().for_each(drop));
    let error = run::<Toy<false>>(&options(address, &[])).expect_err("hung up on");
    assert!(format!("{error:#}").starts_with("connection "), "{error:#}");
}

#[test]
fn a_mode_that_it_does_not_know_is_an_error() {
    let options = options(server(false), &["--mode", "churn"]);
    let error = run::<Toy<false>>(&options).expect_err("no churn");
    assert!(error.to_string().contains("Churn"), "{error}");
}

//! The limit of open files, and who gets them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use tidings::wire::{
    VERSION,
    frame::{Frame, Hello},
};

use crate::harness::Place;

/// More than one process with 256 descriptors can have.
const WEBSOCKETS: usize = 300;

/// The soft and the hard limit of open files of a process.
fn limits(pid: u32) -> (String, String) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let mut words = line.unwrap().split_whitespace().skip(3);
    let mut word = || words.next().unwrap().to_owned();
    (word(), word())
}

/// Opens a WebSocket and a session over it; `None` where the server closes the connection before.
fn session(address: &str) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    let request = format!(
        "GET /tidings HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         Sec-WebSocket-Protocol: qmux-02.tidings.v1\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{head:?}");
    // QMux's parameters, with windows of 1 MiB, then Hello on the control stream.
    let window = |id| [id, 4, 0x80, 0x10, 0, 0];
    let windows = [&window(4)[..], &window(5), &window(7), &[9, 1, 50]].concat();
    let kind = 0xff51_5330_0d0a_0d0a_u64.to_be_bytes();
    send(
        &mut socket,
        &[&kind[..], &[windows.len() as u8], &windows].concat(),
    )?;
    let hello = Frame::from(Hello {
        version: VERSION,
        token: None,
        client: "test".into(),
        features: Vec::new(),
    });
    let hello = hello.encode();
    let length = 0x4000 | u16::try_from(hello.len()).unwrap();
    send(
        &mut socket,
        &[&[0x0a, 0x00][..], &length.to_be_bytes(), &hello].concat(),
    )?;
    // The server's parameters, and Welcome, which names the server.
    let mut read = Vec::new();
    while !read.windows(8).any(|part| part == b"tidings/") {
        let mut byte = [0];
        socket.read_exact(&mut byte).ok()?;
        read.push(byte[0]);
    }
    Some(socket)
}

/// A binary message, masked with zeros.
fn send(socket: &mut TcpStream, record: &[u8]) -> Option<()> {
    assert!(record.len() < 126);
    let head = [0x82, 0x80 | record.len() as u8, 0, 0, 0, 0];
    socket.write_all(&[&head[..], record].concat()).ok()
}

fn health(address: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn host(url: &str) -> String {
    let rest = url.split("//").nth(1).unwrap();
    rest.split('/').next().unwrap().to_owned()
}

#[test]
fn soft_limit_of_open_files_is_raised() {
    let place = Place::new();
    let server = place.serve_with_files(64, 300, &[]);
    let (soft, hard) = limits(server.pid());
    assert_eq!((soft.as_str(), hard.as_str()), ("300", "300"));
}

#[test]
fn websockets_leave_descriptors_to_the_api_and_to_certificates() {
    let place = Place::new();
    let anonymous = [("TIDINGS_AUTH__ANONYMOUS", "true")];
    let server = place.serve_with_files(256, 256, &anonymous);
    let websockets = host(&place.address("plain_websocket"));
    let api = host(&place.address("http"));
    let open: Vec<_> = (0..WEBSOCKETS)
        .filter_map(|_| session(&websockets))
        .collect();
    assert!(
        open.len() > 100 && open.len() < 240,
        "{} WebSockets are open",
        open.len()
    );
    for _ in 0..20 {
        assert!(health(&api).starts_with("HTTP/1.1 200"));
    }
    let made = place.run(&["cert", "--out", "certs/dev", "--force"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut warnings = 0;
    loop {
        let line = server.err_line();
        if line.contains("another certificate is shown") {
            break;
        }
        warnings += usize::from(line.contains("WARN"));
    }
    assert_eq!(warnings, 1, "one, and a count later");
    drop(open);
    assert!(
        (0..50).any(|_| session(&websockets).is_some()),
        "there is room again"
    );
}

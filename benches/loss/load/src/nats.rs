//! A client of NATS by hand: text lines over TCP, TLS after the server's first line.

use std::io::{BufRead, BufReader, Read, Write};

use crate::{Failure, Peer, collect::Collector, load::Load, tls};

/// No acknowledgements of each line, as benchmarks of NATS do.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1}\r\n";
/// Above every message of the load.
const READ_BUFFER: usize = 128 * 1024;

pub(crate) fn publish(peer: &Peer, load: &Load) -> Result<(), Failure> {
    let mut stream = connect(peer)?;
    load.each_due(|message| {
        let bytes = message.encode();
        let mut line = format!("PUB flow.{} {}\r\n", message.flow, bytes.len()).into_bytes();
        line.extend(bytes);
        line.extend(b"\r\n");
        tls::send(stream.get_mut(), &line)
    })?;
    // The server has read it all when it answers.
    flush(&mut stream)
}

pub(crate) fn subscribe(peer: &Peer, collector: &mut Collector) -> Result<(), Failure> {
    let mut stream = connect(peer)?;
    tls::send(stream.get_mut(), b"SUB flow.* 1\r\n")?;
    flush(&mut stream)?;
    println!("ready");
    let mut line = String::new();
    let mut message = Vec::new();
    loop {
        read_line(&mut stream, &mut line)?;
        if line == "PING" {
            tls::send(stream.get_mut(), b"PONG\r\n")?;
        } else if let Some(head) = line.strip_prefix("MSG ") {
            let length = head
                .rsplit(' ')
                .next()
                .and_then(|length| length.parse::<usize>().ok())
                .ok_or_else(|| format!("NATS sends {line:?}: a message without a length"))?;
            message.resize(length + 2, 0);
            stream.read_exact(&mut message)?;
            if collector.take(&message[..length])? {
                return Ok(());
            }
        } else if !line.starts_with("INFO") {
            return Err(format!("NATS sends {line:?}, which is no message").into());
        }
    }
}

/// The server speaks first, in the clear; then TLS, then CONNECT.
fn connect(peer: &Peer) -> Result<BufReader<tls::Client>, Failure> {
    let tcp = tls::tcp(peer.address)?;
    let mut byte = [0];
    let mut info = Vec::new();
    // Byte by byte: what follows the line belongs to TLS.
    while byte != *b"\n" {
        (&tcp).read_exact(&mut byte)?;
        info.extend(byte);
    }
    if !info.starts_with(b"INFO ") {
        return Err(format!("{} is no NATS server", peer.address).into());
    }
    let mut stream = tls::client(tcp, &peer.certificate)?;
    tls::send(&mut stream, CONNECT.as_bytes())?;
    let mut stream = BufReader::with_capacity(READ_BUFFER, stream);
    flush(&mut stream)?;
    Ok(stream)
}

/// Waits until the server has done what was sent so far.
fn flush(stream: &mut BufReader<tls::Client>) -> Result<(), Failure> {
    stream.get_mut().write_all(b"PING\r\n")?;
    stream.get_mut().flush()?;
    let mut line = String::new();
    loop {
        read_line(stream, &mut line)?;
        match line.as_str() {
            "PONG" => return Ok(()),
            "PING" => tls::send(stream.get_mut(), b"PONG\r\n")?,
            line if line.starts_with("INFO") => {}
            line => return Err(format!("NATS answers {line:?}").into()),
        }
    }
}

fn read_line(stream: &mut impl BufRead, line: &mut String) -> Result<(), Failure> {
    line.clear();
    if stream.read_line(line)? == 0 {
        return Err("NATS has closed the connection".into());
    }
    line.truncate(line.trim_end().len());
    Ok(())
}

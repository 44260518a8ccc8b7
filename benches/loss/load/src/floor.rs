//! The floor of TCP: frames on one TLS connection, and a server that does nothing but pass them on.
//!
//! A connection begins with a byte that says what it is; a frame is its length in four bytes, and a message of the load.

use std::{
    io::{BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use rustls::ServerConfig;

use crate::{Failure, Peer, collect::Collector, load::Load, tls};

/// A connection that publishes.
const PUBLISHER: u8 = b'P';
/// A connection that subscribes; the server answers with the same byte when it stands.
const SUBSCRIBER: u8 = b'S';
/// Above every message of the load.
const READ_BUFFER: usize = 128 * 1024;

/// Takes a subscriber, then a publisher, and passes on what comes until the publisher leaves.
pub(crate) fn serve(listen: SocketAddr, certificate: &Path, key: &Path) -> Result<(), Failure> {
    let config = tls::server_config(certificate, key)?;
    let listener =
        TcpListener::bind(listen).map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    println!("listening");
    let mut subscriber = accept(&listener, &config, SUBSCRIBER)?;
    tls::send(&mut subscriber, &[SUBSCRIBER])?;
    let publisher = accept(&listener, &config, PUBLISHER)?;
    let mut publisher = BufReader::with_capacity(READ_BUFFER, publisher);
    let mut frame = Vec::new();
    // The publisher stays until the orchestrator ends it: its end is no error of ours.
    while let Ok(message) = tls::read_frame(&mut publisher, &mut frame) {
        tls::send(&mut subscriber, &framed(message))?;
    }
    drop(publisher);
    // What is on its way arrives before the connection is gone.
    while subscriber.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    Ok(())
}

pub(crate) fn publish(peer: &Peer, load: &Load) -> Result<(), Failure> {
    let mut stream = tls::client(tls::tcp(peer.address)?, &peer.certificate)?;
    tls::send(&mut stream, &[PUBLISHER])?;
    load.each_due(|message| tls::send(&mut stream, &framed(&message.encode())))?;
    // The server reads the end after the last message.
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)?;
    // Closing earlier, with session tickets unread, would make the kernel reset the connection and drop what is on its way.
    while stream.sock.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

pub(crate) fn subscribe(peer: &Peer, collector: &mut Collector) -> Result<(), Failure> {
    let mut stream = tls::client(tls::tcp(peer.address)?, &peer.certificate)?;
    tls::send(&mut stream, &[SUBSCRIBER])?;
    stream.read_exact(&mut [0])?;
    println!("ready");
    let mut stream = BufReader::with_capacity(READ_BUFFER, stream);
    let mut frame = Vec::new();
    while !collector.take(tls::read_frame(&mut stream, &mut frame)?)? {}
    Ok(())
}

fn accept(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    role: u8,
) -> Result<tls::Server, Failure> {
    let mut stream = tls::server(listener.accept()?.0, config)?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    if byte[0] == role {
        Ok(stream)
    } else {
        Err("the subscriber comes first, then the publisher".into())
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    // Messages of the load are far below 4 GiB.
    let mut frame = (message.len() as u32).to_be_bytes().to_vec();
    frame.extend(message);
    frame
}

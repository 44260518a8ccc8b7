//! The floor of UDP: the datagrams that QUIC would need at the least, without QUIC.

use anyhow::Result;
use clap::Parser;
use quinn_udp::Transmit;
use tidings_compare::{
    clock::{self, SECOND},
    datagram::{self, SEGMENT},
    floor::Options,
    socket::Socket,
};

fn main() -> Result<()> {
    let options = Options::parse();
    let mut socket = Socket::bind(options.port)?;
    println!("listening {}", socket.address()?);
    let mut readers = vec![None; options.connections];
    let mut missing = options.connections;
    while missing > 0 {
        socket.wait(clock::now() + SECOND)?;
        socket.receive(|meta, bytes| {
            let reader = datagram::index(bytes).and_then(|index| readers.get_mut(index));
            if let Some(reader) = reader {
                missing -= usize::from(reader.is_none());
                *reader = Some(meta.addr);
            }
        })?;
    }
    let segments = socket.segments();
    let mut schedule = options.schedule();
    while let Some(next) = schedule.next() {
        while clock::now() < next {
            // Clients say hello until they hear something.
            socket.wait(next)?;
            socket.receive(|_, _| {})?;
        }
        while let Some((tick, intended)) = schedule.take(clock::now()) {
            let frames = options.frames(tick, intended).concat().concat();
            let mut datagrams = datagram::pack(&frames);
            for (index, reader) in readers.iter().enumerate() {
                let Some(destination) = *reader else { continue };
                for datagram in datagrams.chunks_mut(SEGMENT) {
                    datagram::set_index(datagram, index);
                }
                for part in datagrams.chunks(SEGMENT * segments) {
                    socket.send(&Transmit {
                        destination,
                        ecn: None,
                        contents: part,
                        segment_size: Some(SEGMENT),
                        src_ip: None,
                    });
                }
            }
        }
    }
    println!("{{\"datagrams\":{}}}", socket.sent());
    loop {
        std::thread::park();
    }
}

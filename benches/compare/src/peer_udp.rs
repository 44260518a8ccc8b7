//! The client of the floor of UDP: every connection of the run is a number, and all share one socket.

use anyhow::{Context, Result, bail, ensure};
use quinn_udp::Transmit;

use crate::{
    clock::{self, Nanos, SECOND},
    datagram::{self, HEAD},
    options::{Mode, Options},
    record::Recorder,
    report::Report,
    socket::Socket,
    wire::{Frames, Reader, kind},
};

/// How often every connection says hello until the floor is heard: it may have begun later, or have lost some.
const AGAIN: Nanos = SECOND / 4;
/// Longest wait for the first publication.
const STUCK: Nanos = 10 * SECOND;

/// Runs a load against the floor of UDP.
///
/// # Errors
/// The floor is silent.
pub fn run(options: &Options) -> Result<Report> {
    ensure!(
        options.mode == Mode::Deliver,
        "the floor of UDP has deliveries only, no mode {:?}",
        options.mode
    );
    let mut socket = Socket::bind(0)?;
    let mut recorder = Recorder::new(options)?;
    recorder.connected()?;
    let mut streams: Vec<_> = (0..options.connections)
        .map(|_| Frames::default())
        .collect();
    let (begin, mut hello) = (clock::now(), 0);
    let mut fault = None;
    loop {
        let now = clock::now();
        if recorder.next().is_none() && now >= hello {
            say_hello(&mut socket, options);
            hello = now + AGAIN;
        }
        if recorder.next().is_none() && now > begin + STUCK {
            bail!("the floor of UDP was silent for 10 s");
        }
        recorder.observe(now, socket.received())?;
        if recorder.is_complete(now) {
            break;
        }
        let next = recorder.next().unwrap_or(hello).min(now + AGAIN);
        if socket.wait(next)? {
            let now = clock::now();
            socket.receive(|_, bytes| {
                let read = deliver(&mut streams, bytes, &mut recorder, now);
                if let Err(error) = read {
                    fault.get_or_insert(error);
                }
            })?;
        }
        if fault.is_some() {
            break;
        }
    }
    let mut report = recorder.report(None);
    if let Some(fault) = fault {
        // A datagram that was lost leaves a frame cut in the middle.
        report.void.push(format!("{fault:#}"));
    }
    Ok(report)
}

fn say_hello(socket: &mut Socket, options: &Options) {
    for index in 0..options.connections {
        socket.send(&Transmit {
            destination: options.address,
            ecn: None,
            contents: &datagram::hello(index),
            segment_size: None,
            src_ip: None,
        });
    }
}

fn deliver(
    streams: &mut [Frames],
    bytes: &[u8],
    recorder: &mut Recorder,
    now: Nanos,
) -> Result<()> {
    let index = datagram::index(bytes).context("a datagram without a head")?;
    let stream = streams.get_mut(index);
    let stream = stream.with_context(|| format!("a datagram for connection {index}"))?;
    let piece = bytes.get(HEAD..).context("a datagram without a head")?;
    stream.read(piece, |kind, body| {
        ensure!(kind == kind::PUBLICATION, "a frame of type {kind:#x}");
        recorder.received(index, Reader(body).publication()?.1, now);
        Ok(())
    })
}

//! The load of every peer that speaks a protocol over TLS and TCP: connects, subscribes, publishes on the schedule, and gives
//! the recorder what arrives. What differs from peer to peer is a [`Codec`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    clock::{self, Nanos, SECOND},
    meter::{MemoryMeter, Meter},
    options::{Mode, Options},
    record::Recorder,
    report::Report,
    schedule::Schedule,
    stamp::Stamp,
    tcp::{self, Engine, Link},
    trust,
};

/// Connecting fails when for this long no connection more has become ready. Thousands of handshakes on one core take long, a
/// single one does not.
const STUCK: Duration = Duration::from_secs(10);
/// Between the last subscription and the first publication: what the server has put off until after the handshakes is done
/// outside the measured time.
const LEAD: Nanos = SECOND / 5;

/// The protocol of one connection.
pub trait Codec: Sized {
    /// Whether TLS is the first thing on the connection. Otherwise the server greets in clear ([`Event::StartTls`]).
    const TLS_FIRST: bool;

    /// A connection that will subscribe to the channels from 0 to `channels`; 0 makes a publisher.
    fn new(channels: usize) -> Self;

    /// The TLS session stands: begin.
    fn open(&mut self, out: &mut Vec<u8>);

    /// Plain bytes arrived: tells of what is whole and returns how many bytes that was. Answers go to `out`.
    ///
    /// # Errors
    /// The server refuses, or breaks the protocol.
    fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<usize>;

    /// Writes a publication.
    fn publish(&mut self, channel: usize, payload: &[u8], out: &mut Vec<u8>);
}

/// What a [`Codec`] found.
#[derive(Debug)]
pub enum Event<'a> {
    /// The greeting is over; from here on everything is TLS.
    StartTls,
    /// The connection is accepted and the server has confirmed all its subscriptions.
    Ready,
    /// A publication.
    Message {
        /// The channel, as the protocol names it.
        channel: usize,
        /// What was published.
        payload: &'a [u8],
    },
}

/// Carries out `options` over connections that speak `C`.
///
/// # Errors
/// A connection failed, or the server's process is gone.
pub fn run<C: Codec>(options: &Options) -> Result<Report> {
    ensure!(
        matches!(options.mode, Mode::Deliver | Mode::Idle),
        "mode {:?} is not for this peer: it knows deliver and idle",
        options.mode
    );
    permit_files()?;
    let memory = options.server().map(MemoryMeter::start).transpose()?;
    let mut load = Load {
        recorder: Recorder::new(options)?,
        ready: 0,
        failure: None,
    };
    let mut engine = Engine::new(Arc::new(trust::client_config(&[], false)?))?;
    connect::<C>(&mut engine, &mut load, options)?;
    match options.mode {
        Mode::Idle => idle(&mut engine, &mut load, options, memory),
        _ => deliver(&mut engine, load, options),
    }
}

/// Subscribers get the numbers from 0 on, so that theirs are the recorder's; the publisher comes after them.
fn connect<C: Codec>(engine: &mut Engine<C>, load: &mut Load, options: &Options) -> Result<()> {
    let publishers = usize::from(options.mode == Mode::Deliver);
    let count = options.connections + publishers;
    let (mut started, mut progress) = (0, (0, Instant::now()));
    while load.ready < count {
        while started < count.min(load.ready + options.parallel) {
            let subscriber = started < options.connections;
            let codec = C::new(if subscriber { options.channels } else { 0 });
            engine.connect(options.address, C::TLS_FIRST, codec)?;
            started += 1;
        }
        load.turn(engine, Instant::now() + STUCK / 10)?;
        if load.ready > progress.0 {
            progress = (load.ready, Instant::now());
        }
        ensure!(
            progress.1.elapsed() < STUCK,
            "{} of {count} connections are ready, and no further one in {STUCK:?}: see the server's log",
            load.ready
        );
    }
    Ok(())
}

/// Lets the server settle, and reads its memory.
fn idle<C: Codec>(
    engine: &mut Engine<C>,
    load: &mut Load,
    options: &Options,
    memory: Option<MemoryMeter>,
) -> Result<Report> {
    let mut memory = memory.context("mode idle reads the server's memory: give --server-pid")?;
    let meter = Meter::start(options.server())?;
    let end = Instant::now() + Duration::from_secs_f64(options.settle);
    while Instant::now() < end {
        load.turn(engine, end)?;
    }
    memory.connected()?;
    let mut report = meter.report(0)?;
    report.server_us = None;
    report.memory = Some(memory.report(options.connections)?);
    Ok(report)
}

fn deliver<C: Codec>(engine: &mut Engine<C>, mut load: Load, options: &Options) -> Result<Report> {
    load.recorder.connected()?;
    let start = clock::now() + LEAD;
    let mut publisher = Publisher::new(options, start);
    load.recorder.begin(start);
    loop {
        let now = clock::now();
        publisher.publish(engine, &mut load, now)?;
        if load.recorder.observe(now, 0)? {
            for index in 0..options.connections * options.stalled / 100 {
                load.recorder.ignore(index);
                engine.stall(index);
            }
        }
        if load.recorder.is_complete(now) {
            return Ok(load.recorder.report(Some(&publisher.schedule)));
        }
        let next = [publisher.schedule.next(), load.recorder.next()];
        let next = next.into_iter().flatten().min().unwrap_or(now);
        let wait = Duration::from_nanos(next.saturating_sub(now));
        load.turn(engine, Instant::now() + wait)?;
    }
}

/// The connection that publishes, and when.
struct Publisher {
    schedule: Schedule,
    index: usize,
    channels: usize,
    group: u64,
    payload: Vec<u8>,
}

impl Publisher {
    fn new(options: &Options, start: Nanos) -> Self {
        Self {
            schedule: options.pace.schedule(start),
            index: options.connections,
            channels: options.channels,
            group: options.pace.group,
            payload: vec![b'.'; options.pace.size.max(Stamp::SIZE)],
        }
    }

    /// Publishes what is due, each tick's publications in one write.
    fn publish<C: Codec>(
        &mut self,
        engine: &mut Engine<C>,
        load: &mut Load,
        now: Nanos,
    ) -> Result<()> {
        while let Some((tick, intended)) = self.schedule.take(now) {
            let link = engine
                .link(self.index)
                .context("the publisher's connection is over")?;
            for channel in 0..self.channels {
                for place in 1..=self.group {
                    let sequence = tick * self.group + place;
                    Stamp {
                        sequence,
                        intended,
                        channel: channel as u32,
                    }
                    .write(&mut self.payload);
                    link.state
                        .publish(channel, &self.payload, &mut link.outgoing);
                }
            }
            engine.flush(self.index, load);
        }
        Ok(())
    }
}

/// What is common to all connections of a load.
struct Load {
    recorder: Recorder,
    ready: usize,
    failure: Option<anyhow::Error>,
}

impl Load {
    fn turn<C: Codec>(&mut self, engine: &mut Engine<C>, until: Instant) -> Result<()> {
        engine.turn(until, self)?;
        self.failure.take().map_or(Ok(()), Err)
    }
}

impl<C: Codec> tcp::Handler<C> for Load {
    fn ready(&mut self, link: &mut Link<C>) -> Result<()> {
        link.state.open(&mut link.outgoing);
        Ok(())
    }

    fn data(&mut self, link: &mut Link<C>, bytes: &[u8]) -> Result<usize> {
        let now = clock::now();
        let (mut start_tls, mut ready, mut astray) = (false, 0, None);
        let used = link
            .state
            .read(bytes, &mut link.outgoing, &mut |event| match event {
                Event::StartTls => start_tls = true,
                Event::Ready => ready += 1,
                Event::Message { channel, payload } => {
                    if Stamp::read(payload).is_some_and(|stamp| stamp.channel as usize != channel) {
                        astray = Some(channel);
                    }
                    self.recorder.received(link.index, payload, now);
                }
            })?;
        self.ready += ready;
        if start_tls {
            link.start_tls();
        }
        match astray {
            Some(channel) => {
                bail!("a publication of another channel arrived as one of channel {channel}")
            }
            None => Ok(used),
        }
    }

    fn closed(&mut self, link: &mut Link<C>, reason: anyhow::Error) {
        // A server may well drop a connection that does not read.
        if !link.is_stalled() {
            self.failure
                .get_or_insert_with(|| reason.context(anyhow!("connection {}", link.index)));
        }
    }
}

/// Raises the limit of open files as far as it goes: 5,000 connections pass the usual 1,024.
fn permit_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raise the limit of open files")
}

/// What the codecs' tests share.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An [`Event`] to compare with.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum Seen {
        StartTls,
        Ready,
        Message(usize, Vec<u8>),
    }

    /// What a codec finds in `bytes` and answers to them, which is the same wherever they are split.
    pub(crate) fn feed_whole_and_split<C: Codec>(
        codec: impl Fn() -> C,
        bytes: &[u8],
        answer: &[u8],
    ) -> Vec<Seen> {
        let whole = feed(codec(), &[bytes]);
        for at in 0..bytes.len() {
            let (front, back) = bytes.split_at(at);
            assert_eq!(feed(codec(), &[front, back]), whole, "split at {at}");
        }
        assert_eq!(whole.1, answer);
        whole.0
    }

    fn feed<C: Codec>(mut codec: C, parts: &[&[u8]]) -> (Vec<Seen>, Vec<u8>) {
        let (mut seen, mut out, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            unread.extend_from_slice(part);
            let used = codec.read(&unread, &mut out, &mut |event| {
                seen.push(match event {
                    Event::StartTls => Seen::StartTls,
                    Event::Ready => Seen::Ready,
                    Event::Message { channel, payload } => Seen::Message(channel, payload.to_vec()),
                });
            });
            unread.drain(..used.expect("the bytes are right"));
        }
        assert!(unread.is_empty(), "{unread:?} is left over");
        (seen, out)
    }
}

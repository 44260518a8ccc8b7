//! The load of every peer whose connections carry plain streams of bytes: connects, subscribes, publishes on the
//! schedule, and gives the recorder what arrives. What differs from peer to peer is a [`Codec`], and a [`Carrier`] under it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    clock::{self, Nanos, SECOND, seconds},
    meter::{MemoryMeter, Meter},
    options::{Mode, Options},
    record::Recorder,
    report::Report,
    schedule::Schedule,
    stamp::Stamp,
};

/// Connecting fails when for this long no connection more has become ready. Thousands of handshakes on one core take long, a
/// single one does not.
const STUCK: Nanos = 10 * SECOND;
/// Between the last subscription and the first publication: what the server has put off until after the handshakes is done
/// outside the measured time.
const LEAD: Nanos = SECOND / 5;

/// The protocol of one connection.
pub trait Codec: Sized {
    /// Whether TLS is the first thing on the connection. Otherwise the server greets in clear ([`Event::StartTls`]).
    const TLS_FIRST: bool = true;
    /// Whether the load publishes, over a connection of its own. A floor does so itself.
    const PUBLISHES: bool = true;
    /// Whether subscriptions are confirmed only when the publisher is there. It is the first to connect then, in every mode.
    const PUBLISHER_FIRST: bool = false;

    /// The connection with this number. It will subscribe to the channels from 0 to `channels`; 0 makes a publisher.
    fn new(index: usize, channels: usize) -> Self;

    /// The TLS session stands: begin.
    fn open(&mut self, out: &mut Vec<u8>);

    /// What is read next comes by this inlet (see [`Pipe::receive`]).
    fn enter(&mut self, _inlet: usize) {}

    /// Plain bytes arrived: tells of what is whole and returns how many bytes that was; the rest is given again with what
    /// follows. Answers go to `out`.
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

/// What moves the bytes of all connections: TLS over TCP, or a stream of QUIC.
pub trait Carrier<C: Codec> {
    /// Begins a connection for `pipe`, whose index is the number of connections before it, unless the publisher comes first.
    ///
    /// # Errors
    /// There is no connection to be had.
    fn connect(&mut self, address: SocketAddr, pipe: Pipe<C>) -> Result<()>;

    /// Waits until `until` or until something arrives, and deals with all that has.
    ///
    /// # Errors
    /// It cannot wait.
    fn turn(&mut self, until: Nanos, load: &mut Load) -> Result<()>;

    /// The connection at `index`, unless it is over.
    fn pipe(&mut self, index: usize) -> Option<&mut Pipe<C>>;

    /// Sends the outgoing bytes of the connection at `index`.
    fn flush(&mut self, index: usize, load: &mut Load);

    /// UDP datagrams that came.
    fn datagrams(&self) -> u64 {
        0
    }
}

/// One connection, as its carrier keeps it.
#[derive(Debug)]
pub struct Pipe<C> {
    /// Its number. Subscribers have those from 0 on, as in the recorder; the publisher comes after them.
    pub index: usize,
    /// Its protocol.
    pub codec: C,
    /// Plain bytes to send.
    pub outgoing: Vec<u8>,
    /// Whether it reads no more, as is meant.
    pub stalled: bool,
    /// Of each inlet, what is not whole yet.
    unread: Vec<Vec<u8>>,
}

impl<C: Codec> Pipe<C> {
    fn new(index: usize, channels: usize) -> Self {
        Self {
            index,
            codec: C::new(index, channels),
            outgoing: Vec::new(),
            stalled: false,
            unread: Vec::new(),
        }
    }

    /// Its bytes can flow: begin.
    pub fn open(&mut self) {
        self.codec.open(&mut self.outgoing);
    }

    /// Plain bytes arrived by `inlet`: where a connection has several streams, they are numbered from 0, and each has whole
    /// messages. True when the connection is to speak TLS from here on.
    ///
    /// # Errors
    /// The server refuses, or breaks the protocol.
    pub fn receive(&mut self, inlet: usize, bytes: &[u8], load: &mut Load) -> Result<bool> {
        self.codec.enter(inlet);
        if self.unread.len() <= inlet {
            self.unread.resize_with(inlet + 1, Vec::new);
        }
        if self.unread[inlet].is_empty() {
            let (used, start_tls) = self.read(bytes, load)?;
            self.unread[inlet].extend_from_slice(&bytes[used..]);
            return Ok(start_tls);
        }
        let mut unread = std::mem::take(&mut self.unread[inlet]);
        unread.extend_from_slice(bytes);
        let (used, start_tls) = self.read(&unread, load)?;
        unread.drain(..used);
        self.unread[inlet] = unread;
        Ok(start_tls)
    }

    fn read(&mut self, bytes: &[u8], load: &mut Load) -> Result<(usize, bool)> {
        let now = clock::now();
        let (mut start_tls, mut astray) = (false, None);
        let mut on = |event: Event<'_>| match event {
            Event::StartTls => start_tls = true,
            Event::Ready => load.ready += 1,
            Event::Message { channel, payload } => {
                if Stamp::read(payload).is_some_and(|stamp| stamp.channel as usize != channel) {
                    astray = Some(channel);
                }
                load.recorder.received(self.index, payload, now);
            }
        };
        let used = self.codec.read(bytes, &mut self.outgoing, &mut on)?;
        match astray {
            Some(channel) => {
                bail!("a publication of another channel arrived as one of channel {channel}")
            }
            None => Ok((used, start_tls)),
        }
    }
}

/// What is common to all connections.
#[derive(Debug)]
pub struct Load {
    recorder: Recorder,
    ready: usize,
    failure: Option<anyhow::Error>,
}

impl Load {
    /// A load without connections. It reads the server's memory.
    ///
    /// # Errors
    /// The server's process is gone.
    pub fn new(options: &Options) -> Result<Self> {
        let recorder =
            Recorder::new(options).context("watch the server: does --server-pid run?")?;
        Ok(Self {
            recorder,
            ready: 0,
            failure: None,
        })
    }

    /// A connection is over, for this reason.
    pub fn closed<C>(&mut self, pipe: &Pipe<C>, reason: anyhow::Error) {
        // A server may well drop a connection that does not read.
        if !pipe.stalled {
            self.failure
                .get_or_insert_with(|| reason.context(format!("connection {}", pipe.index)));
        }
    }

    /// Connections that are ready.
    #[must_use]
    pub const fn ready(&self) -> usize {
        self.ready
    }

    /// Lets `carrier` work until `until`, at most.
    ///
    /// # Errors
    /// A connection has failed.
    pub fn turn<C: Codec>(&mut self, carrier: &mut impl Carrier<C>, until: Nanos) -> Result<()> {
        carrier.turn(until, self)?;
        self.failure.take().map_or(Ok(()), Err)
    }
}

/// Carries out `options` over connections that speak `C`.
///
/// # Errors
/// A connection failed, or the server's process is gone.
pub fn run<C: Codec>(options: &Options, mut carrier: impl Carrier<C>) -> Result<Report> {
    permit_files()?;
    let memory = options.server().map(MemoryMeter::start).transpose()?;
    let mut load = Load::new(options)?;
    match options.mode {
        Mode::Idle => {
            let publishers = usize::from(C::PUBLISHER_FIRST);
            connect(&mut carrier, &mut load, options, publishers)?;
            idle(&mut carrier, &mut load, options, memory)
        }
        Mode::Deliver => {
            connect(&mut carrier, &mut load, options, usize::from(C::PUBLISHES))?;
            deliver(&mut carrier, load, options)
        }
        mode => bail!("mode {mode:?} is not for this peer: it knows deliver and idle"),
    }
}

fn connect<C: Codec>(
    carrier: &mut impl Carrier<C>,
    load: &mut Load,
    options: &Options,
    publishers: usize,
) -> Result<()> {
    let count = options.connections + publishers;
    let (mut started, mut progress) = (0, (0, clock::now()));
    while load.ready < count {
        while started < count.min(load.ready + options.parallel) {
            let index = if C::PUBLISHER_FIRST {
                (started + options.connections) % count
            } else {
                started
            };
            let subscriber = index < options.connections;
            let channels = if subscriber { options.channels } else { 0 };
            carrier.connect(options.address, Pipe::new(index, channels))?;
            started += 1;
        }
        load.turn(carrier, clock::now() + STUCK / 10)?;
        let now = clock::now();
        if load.ready > progress.0 {
            progress = (load.ready, now);
        }
        ensure!(
            now - progress.1 < STUCK,
            "{} of {count} connections are ready, and no further one within {:?}: see the server's log",
            load.ready,
            Duration::from_nanos(STUCK)
        );
    }
    Ok(())
}

/// Lets the server settle, and reads its memory.
fn idle<C: Codec>(
    carrier: &mut impl Carrier<C>,
    load: &mut Load,
    options: &Options,
    memory: Option<MemoryMeter>,
) -> Result<Report> {
    let mut memory = memory.context("mode idle reads the server's memory: give --server-pid")?;
    let meter = Meter::start(options.server())?;
    let end = clock::now() + seconds(options.settle);
    while clock::now() < end {
        load.turn(carrier, end)?;
    }
    memory.connected()?;
    let mut report = meter.report(0)?;
    report.server_us = None;
    report.memory = Some(memory.report(options.connections)?);
    Ok(report)
}

fn deliver<C: Codec>(
    carrier: &mut impl Carrier<C>,
    mut load: Load,
    options: &Options,
) -> Result<Report> {
    load.recorder.connected()?;
    let mut publisher = None;
    if C::PUBLISHES {
        let start = clock::now() + LEAD;
        load.recorder.begin(start);
        publisher = Some(Publisher::new(options, start));
    }
    // A floor that never begins is given up like a server that does not answer.
    let patience = clock::now() + STUCK;
    loop {
        let now = clock::now();
        if let Some(publisher) = &mut publisher {
            publisher.publish(carrier, &mut load, now)?;
        }
        if load.recorder.observe(now, carrier.datagrams())? {
            stall(carrier, &mut load, options);
        }
        if load.recorder.is_complete(now) {
            let schedule = publisher.map(|publisher| publisher.schedule);
            return Ok(load.recorder.report(schedule.as_ref()));
        }
        let due = publisher
            .as_ref()
            .and_then(|publisher| publisher.schedule.next());
        let next = [due, load.recorder.next()].into_iter().flatten().min();
        ensure!(
            next.is_some() || now < patience,
            "no delivery within {:?}",
            Duration::from_nanos(STUCK)
        );
        load.turn(carrier, next.unwrap_or(patience))?;
    }
}

/// Some connections read no more.
fn stall<C: Codec>(carrier: &mut impl Carrier<C>, load: &mut Load, options: &Options) {
    for index in 0..options.stalled.min(options.connections) {
        load.recorder.ignore(index);
        if let Some(pipe) = carrier.pipe(index) {
            pipe.stalled = true;
        }
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
        carrier: &mut impl Carrier<C>,
        load: &mut Load,
        now: Nanos,
    ) -> Result<()> {
        while let Some((tick, intended)) = self.schedule.take(now) {
            let pipe = carrier
                .pipe(self.index)
                .context("the publisher's connection is over")?;
            for channel in 0..self.channels {
                for place in 1..=self.group {
                    let sequence = tick * self.group + place;
                    let stamp = Stamp {
                        sequence,
                        intended,
                        channel: channel as u32,
                    };
                    stamp.write(&mut self.payload);
                    pipe.codec
                        .publish(channel, &self.payload, &mut pipe.outgoing);
                }
            }
            carrier.flush(self.index, load);
        }
        Ok(())
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

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

//! Thousands of QUIC connections on one thread and one UDP socket, client side: quinn-proto without quinn.
//!
//! quinn's own endpoint costs a task and several wake-ups a datagram; a load made with it was the bottleneck before any server
//! was. This one takes about a third of a core for 50,000 datagrams a second.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint,
    EndpointConfig, Event, Transmit,
};
use quinn_udp::RecvMeta;

use crate::{
    clock::{self, Nanos},
    socket::Socket,
};

/// Segments of one send: a client sends little.
const SEGMENTS: usize = 10;

/// Connections of one process, each with what the adapter keeps about it.
#[derive(Debug)]
pub struct Engine<A> {
    socket: Socket,
    core: Core<A>,
}

/// What is apart from the socket, so that reading the one can feed the other.
#[derive(Debug)]
struct Core<A> {
    endpoint: Endpoint,
    slots: Vec<Option<Box<Slot<A>>>>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Slots with something to do.
    due: Vec<usize>,
    /// Answers of the endpoint itself, to be sent after a batch was read.
    answers: Vec<(Transmit, Vec<u8>)>,
}

/// One connection.
#[derive(Debug)]
pub struct Slot<A> {
    /// quinn's part.
    pub connection: Connection,
    /// The adapter's part.
    pub app: A,
    deadline: Option<Instant>,
    /// The earliest entry of this slot in the heap of timers.
    queued: Option<Instant>,
    is_due: bool,
}

impl<A> Engine<A> {
    /// Binds a socket on loopback.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn bind() -> Result<Self> {
        let socket = Socket::bind(0)?;
        let config = Arc::new(EndpointConfig::default());
        Ok(Self {
            core: Core {
                endpoint: Endpoint::new(config, None, !socket.may_fragment(), None),
                slots: Vec::new(),
                timers: BinaryHeap::new(),
                due: Vec::new(),
                answers: Vec::new(),
            },
            socket,
        })
    }

    /// Begins a connection. Its index is free again when it is drained.
    ///
    /// # Errors
    /// The configuration does not fit.
    pub fn connect(&mut self, config: ClientConfig, to: SocketAddr, app: A) -> Result<usize> {
        let core = &mut self.core;
        let (handle, connection) = core
            .endpoint
            .connect(Instant::now(), config, to, "localhost")
            .context("begin a QUIC connection")?;
        if core.slots.len() <= handle.0 {
            core.slots.resize_with(handle.0 + 1, || None);
        }
        core.slots[handle.0] = Some(Box::new(Slot {
            connection,
            app,
            deadline: None,
            queued: None,
            is_due: false,
        }));
        core.touch(handle.0);
        Ok(handle.0)
    }

    /// A connection that is not drained. What is written to it goes out in the next cycle.
    pub fn slot(&mut self, index: usize) -> Option<&mut Slot<A>> {
        self.core.touch(index);
        self.core.slots.get_mut(index)?.as_deref_mut()
    }

    /// Every connection there is. What is written to one goes out only after a [`slot`](Self::slot) of it.
    pub fn slots(&mut self) -> impl Iterator<Item = &mut Slot<A>> {
        self.core.slots.iter_mut().flatten().map(Box::as_mut)
    }

    /// UDP datagrams that came for one connection.
    #[must_use]
    pub fn datagrams_of(&self, index: usize) -> u64 {
        let slot = self.core.slots.get(index).and_then(Option::as_ref);
        slot.map_or(0, |slot| slot.connection.stats().udp_rx.datagrams)
    }

    /// UDP datagrams that came.
    #[must_use]
    pub const fn datagrams(&self) -> u64 {
        self.socket.received()
    }

    /// Waits for something to do, until a time, and does it. `on_event` gets what happened on each connection; what it writes
    /// goes out at once.
    ///
    /// # Errors
    /// The socket fails, or `on_event` does.
    pub fn cycle(
        &mut self,
        until: Nanos,
        on_event: &mut impl FnMut(&mut Slot<A>, Event) -> Result<()>,
    ) -> Result<()> {
        let Self { socket, core } = self;
        if socket.wait(core.next(until))? {
            let now = Instant::now();
            socket.receive(|meta, datagram| core.handle(now, meta, datagram))?;
            for (transmit, contents) in core.answers.drain(..) {
                send(socket, &transmit, &contents);
            }
        }
        let now = Instant::now();
        core.expire(now);
        core.work(now, socket, on_event)
    }
}

impl<A> Core<A> {
    /// When there is something to do, at `until` at the latest.
    fn next(&self, until: Nanos) -> Nanos {
        if !self.due.is_empty() {
            return 0;
        }
        let Some(Reverse((timer, _))) = self.timers.peek() else {
            return until;
        };
        let wait = timer.saturating_duration_since(Instant::now());
        until.min(clock::now() + wait.as_nanos() as Nanos)
    }

    fn handle(&mut self, now: Instant, meta: &RecvMeta, datagram: &[u8]) {
        let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
        let data = BytesMut::from(datagram);
        let mut answer = Vec::new();
        let event = self
            .endpoint
            .handle(now, meta.addr, meta.dst_ip, ecn, data, &mut answer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(Some(slot)) = self.slots.get_mut(handle.0) {
                    slot.connection.handle_event(event);
                    self.touch(handle.0);
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.answers.push((transmit, answer)),
            // A client takes no connection.
            Some(DatagramEvent::NewConnection(incoming)) => self.endpoint.ignore(incoming),
            None => {}
        }
    }

    /// Timers that have run out.
    fn expire(&mut self, now: Instant) {
        while let Some(&Reverse((time, index))) = self.timers.peek() {
            if time > now {
                break;
            }
            self.timers.pop();
            let Some(Some(slot)) = self.slots.get_mut(index) else {
                continue;
            };
            if slot.queued != Some(time) {
                continue;
            }
            slot.queued = None;
            match slot.deadline {
                Some(deadline) if deadline <= now => {
                    slot.connection.handle_timeout(now);
                    self.touch(index);
                }
                Some(deadline) => {
                    slot.queued = Some(deadline);
                    self.timers.push(Reverse((deadline, index)));
                }
                None => {}
            }
        }
    }

    fn work(
        &mut self,
        now: Instant,
        socket: &mut Socket,
        on_event: &mut impl FnMut(&mut Slot<A>, Event) -> Result<()>,
    ) -> Result<()> {
        let segments = socket.segments().min(SEGMENTS);
        let mut output = Vec::new();
        for index in std::mem::take(&mut self.due) {
            let Some(mut slot) = self.slots[index].take() else {
                continue;
            };
            slot.is_due = false;
            loop {
                while let Some(event) = slot.connection.poll() {
                    on_event(&mut slot, event)?;
                }
                output.clear();
                if let Some(transmit) = slot.connection.poll_transmit(now, segments, &mut output) {
                    send(socket, &transmit, &output);
                    continue;
                }
                let mut more = false;
                while let Some(event) = slot.connection.poll_endpoint_events() {
                    let answer = self.endpoint.handle_event(ConnectionHandle(index), event);
                    if let Some(event) = answer {
                        slot.connection.handle_event(event);
                        more = true;
                    }
                }
                if !more {
                    break;
                }
            }
            if slot.connection.is_drained() {
                continue;
            }
            slot.deadline = slot.connection.poll_timeout();
            if let Some(deadline) = slot.deadline
                && slot.queued.is_none_or(|queued| deadline < queued)
            {
                slot.queued = Some(deadline);
                self.timers.push(Reverse((deadline, index)));
            }
            self.slots[index] = Some(slot);
        }
        Ok(())
    }

    fn touch(&mut self, index: usize) {
        if let Some(Some(slot)) = self.slots.get_mut(index)
            && !slot.is_due
        {
            slot.is_due = true;
            self.due.push(index);
        }
    }
}

fn send(socket: &mut Socket, transmit: &Transmit, contents: &[u8]) {
    socket.send(&quinn_udp::Transmit {
        destination: transmit.destination,
        ecn: transmit
            .ecn
            .and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
        contents: &contents[..transmit.size],
        segment_size: transmit.segment_size,
        src_ip: transmit.src_ip,
    });
}

/// How long a client waits before it says that it lives, where nothing else is sent: half of what the protocol asks for.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

//! Thousands of QUIC connections on one thread and one UDP socket, client side: quinn-proto without quinn.
//!
//! quinn's own endpoint costs a task and several wake-ups a datagram; a load made with it was the bottleneck before any server
//! was. This one takes about a third of a core for 50,000 datagrams a second.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint,
    EndpointConfig, Event, Transmit,
};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force},
};

use crate::clock::{self, Nanos, SECOND};

/// Room for what comes while one batch is read: a fan-out to 5,000 connections is that many datagrams at once, and the kernel
/// accounts 768 bytes or more for each.
const SOCKET_BUFFER: usize = 16 << 20;
/// Batches that are read before what they brought is worked on: more of them delay acknowledgements, fewer cost more calls.
const BATCHES: usize = 4;
/// Longest datagram: the path of a run has an MTU of 1500.
const DATAGRAM: usize = 1500;
/// Segments of one send: a client sends little.
const SEGMENTS: usize = 10;

/// Connections of one process, each with what the adapter keeps about it.
#[derive(Debug)]
pub struct Engine<A> {
    socket: UdpSocket,
    state: UdpSocketState,
    endpoint: Endpoint,
    slots: Vec<Option<Box<Slot<A>>>>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Slots with something to do.
    due: Vec<usize>,
    input: Vec<u8>,
    output: Vec<u8>,
    segments: usize,
    /// UDP datagrams that came.
    datagrams: u64,
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
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a UDP socket")?;
        let state = UdpSocketState::new((&socket).into()).context("set up a UDP socket")?;
        if set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
            // Without the right to it, what the system allows must do: a loss then is repaired by QUIC.
            let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER);
        }
        let _ = set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER);
        let config = Arc::new(EndpointConfig::default());
        Ok(Self {
            endpoint: Endpoint::new(config, None, !state.may_fragment(), None),
            slots: Vec::new(),
            timers: BinaryHeap::new(),
            due: Vec::new(),
            input: vec![0; DATAGRAM * state.gro_segments() * BATCH_SIZE],
            output: Vec::new(),
            segments: state.max_gso_segments().min(SEGMENTS),
            datagrams: 0,
            socket,
            state,
        })
    }

    /// Begins a connection. Its index is free again when it is drained.
    ///
    /// # Errors
    /// The configuration does not fit.
    pub fn connect(&mut self, config: ClientConfig, to: SocketAddr, app: A) -> Result<usize> {
        let (handle, connection) = self
            .endpoint
            .connect(Instant::now(), config, to, "localhost")
            .context("begin a QUIC connection")?;
        if self.slots.len() <= handle.0 {
            self.slots.resize_with(handle.0 + 1, || None);
        }
        self.slots[handle.0] = Some(Box::new(Slot {
            connection,
            app,
            deadline: None,
            queued: None,
            is_due: false,
        }));
        self.touch(handle.0);
        Ok(handle.0)
    }

    /// A connection that is not drained. What is written to it goes out in the next cycle.
    pub fn slot(&mut self, index: usize) -> Option<&mut Slot<A>> {
        self.touch(index);
        self.slots.get_mut(index)?.as_deref_mut()
    }

    /// Every connection there is. What is written to one goes out only after a [`slot`](Self::slot) of it.
    pub fn slots(&mut self) -> impl Iterator<Item = &mut Slot<A>> {
        self.slots.iter_mut().flatten().map(Box::as_mut)
    }

    /// UDP datagrams that came.
    #[must_use]
    pub const fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Waits for something to do, until a time, and does it. `on_event` gets what happened on each connection; what it writes
    /// goes out at once.
    ///
    /// # Errors
    /// The socket fails.
    pub fn cycle(
        &mut self,
        until: Nanos,
        on_event: &mut impl FnMut(&mut Slot<A>, Event) -> Result<()>,
    ) -> Result<()> {
        if self.wait(until)? {
            self.receive(Instant::now())?;
        }
        let now = Instant::now();
        self.expire(now);
        self.work(now, on_event)
    }

    /// Whether there is something to read.
    fn wait(&self, until: Nanos) -> Result<bool> {
        let mut wait = until.saturating_sub(clock::now());
        if let Some(Reverse((timer, _))) = self.timers.peek() {
            let timer = timer.saturating_duration_since(Instant::now());
            wait = wait.min(timer.as_nanos() as Nanos);
        }
        if !self.due.is_empty() {
            wait = 0;
        }
        let timeout = Timespec {
            tv_sec: (wait / SECOND).cast_signed(),
            tv_nsec: (wait % SECOND).cast_signed(),
        };
        match poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("wait for the UDP socket"),
        }
    }

    fn receive(&mut self, now: Instant) -> Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let room = input.len() / BATCH_SIZE;
        for _ in 0..BATCHES {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let mut chunks = input.chunks_exact_mut(room);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let count = match self
                .state
                .recv((&self.socket).into(), &mut slices, &mut metas)
            {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP answer to something sent before: QUIC's own timers know better.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error).context("read the UDP socket"),
            };
            for (meta, data) in metas[..count].iter().zip(input.chunks_exact(room)) {
                for datagram in data[..meta.len].chunks(meta.stride.max(1)) {
                    self.handle(now, meta, datagram);
                }
            }
            if count < BATCH_SIZE {
                break;
            }
        }
        self.input = input;
        Ok(())
    }

    fn handle(&mut self, now: Instant, meta: &RecvMeta, datagram: &[u8]) {
        self.datagrams += 1;
        let ecn = meta
            .ecn
            .and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
        let data = BytesMut::from(datagram);
        self.output.clear();
        let event =
            self.endpoint
                .handle(now, meta.addr, meta.dst_ip, ecn, data, &mut self.output);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(Some(slot)) = self.slots.get_mut(handle.0) {
                    slot.connection.handle_event(event);
                    self.touch(handle.0);
                }
            }
            Some(DatagramEvent::Response(transmit)) => self.send(&transmit),
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
        on_event: &mut impl FnMut(&mut Slot<A>, Event) -> Result<()>,
    ) -> Result<()> {
        for index in std::mem::take(&mut self.due) {
            let Some(mut slot) = self.slots[index].take() else {
                continue;
            };
            slot.is_due = false;
            loop {
                while let Some(event) = slot.connection.poll() {
                    on_event(&mut slot, event)?;
                }
                self.output.clear();
                let transmit = slot
                    .connection
                    .poll_transmit(now, self.segments, &mut self.output);
                if let Some(transmit) = transmit {
                    self.send(&transmit);
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

    fn send(&self, transmit: &Transmit) {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit
                .ecn
                .and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &self.output[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        // What the socket does not take is lost, as on any network; QUIC sends it again.
        let _ = self.state.try_send((&self.socket).into(), &transmit);
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

/// How long a client waits before it says that it lives, where nothing else is sent: half of what the protocol asks for.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

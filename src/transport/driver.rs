//! The server's side of QUIC: one task drives all connections of a worker.
//!
//! quinn runs a task, a timer and a queue for each connection. Here the worker's one task receives, makes what is due for a
//! connection and sends it at once, while the connection is in the cache: a fifth less time for each small delivery and a
//! third less memory for each idle connection (ARCHITECTURE.md, "Decisions"). The protocol itself is quinn-proto's.

mod accept;
mod connection;
mod datagram;
mod ids;
mod outbox;
mod pace;
mod paths;
mod port;
mod socket;
mod source;
mod stream;
mod timers;
mod waiting;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{
    ConnectionHandle, DatagramEvent, Endpoint, EndpointEvent, ServerConfig, Transmit,
};

pub(super) use connection::Connection;
pub(super) use connection::Prompt;
pub(super) use datagram::SEND_BUFFER;
pub(crate) use pace::Class;
pub(super) use port::Port;
pub(super) use source::Streams;
pub(super) use stream::{ReadError, RecvStream, SendStream, WriteError};

use super::{admission::Permit, peer_log::Throttle};
use crate::wire::Code;
use connection::Shared;
use outbox::Outbox;
use paths::Paths;
use port::{Datagram, Orders};
pub(super) use socket::BUFFER;
#[cfg(all(test, feature = "client"))]
pub(super) use socket::faults::Faults;
use socket::{Received, Socket};
use timers::Timers;
use waiting::Waiting;

/// Limit of the log lines about first packets that begin no connection.
static INITIALS: Throttle = Throttle::new("refused first packets");

/// Connections driven in one poll, before tasks of the worker have their turn: about a millisecond.
const CONNECTIONS_PER_POLL: usize = 128;
/// Connections driven together, and between two looks at the socket: its buffer holds a few hundred small datagrams where the system
/// does not let us have more, and one look at an empty socket costs a quarter of a microsecond.
const CONNECTIONS_PER_TURN: usize = 32;
/// System calls in one look at the socket.
const RECEIVES: usize = 4;
/// Datagrams that one connection may send before others have their turn.
const DATAGRAMS_PER_TURN: usize = 32;
/// Datagrams in one system call, where the system splits them (GSO). More makes bursts that queues on the way drop.
const MAX_SEGMENTS: usize = 10;

/// Drives the connections of one worker. Dropping it cuts them off without a word; [`close`](Self::close) first.
pub(super) struct Driver {
    socket: Socket,
    /// Taken while what is in it is handled.
    received: Option<Box<Received>>,
    endpoint: Endpoint,
    port: Arc<Port>,
    slots: Vec<Option<Arc<Shared>>>,
    open: usize,
    timers: Timers,
    incoming: Waiting,
    arrivals: VecDeque<Arrived>,
    /// Taken from the port, to be driven.
    ready: VecDeque<Arc<Shared>>,
    outbox: Outbox,
    /// Taken from the ready ones while they are driven.
    turn: Vec<Arc<Shared>>,
    /// Answers to who is no connection.
    out: Vec<u8>,
    wakers: Vec<Waker>,
    /// Nobody is let in any more.
    closing: bool,
    /// Silence after which a client is given up.
    idle: Duration,
}

/// A connection whose handshake has begun.
pub(super) struct Arrived {
    pub(super) connection: Connection,
    pub(super) permit: Permit,
}

impl Driver {
    /// Needs a tokio runtime with I/O and time.
    pub(super) fn new(
        socket: std::net::UdpSocket,
        config: quinn_proto::EndpointConfig,
        server: Arc<ServerConfig>,
        port: Arc<Port>,
        idle: Duration,
    ) -> io::Result<Self> {
        let socket = Socket::new(socket)?;
        let mut config = config;
        let ids = port.ids.clone();
        config.cid_generator(move || Box::new(ids.clone()));
        let endpoint = Endpoint::new(Arc::new(config), Some(server), !socket.may_fragment(), None);
        Ok(Self {
            received: Some(Box::new(Received::new(&socket))),
            socket,
            endpoint,
            port,
            slots: Vec::new(),
            open: 0,
            timers: Timers::new(),
            incoming: Waiting::default(),
            arrivals: VecDeque::new(),
            ready: VecDeque::new(),
            outbox: Outbox::new(),
            turn: Vec::new(),
            out: Vec::new(),
            wakers: Vec::new(),
            closing: false,
            idle,
        })
    }

    /// What the system is made to say.
    #[cfg(all(test, feature = "client"))]
    pub(super) const fn faults(&mut self) -> &mut Faults {
        &mut self.socket.faults
    }

    pub(super) fn next_arrival(&mut self) -> Option<Arrived> {
        self.arrivals.pop_front()
    }

    /// Connections that have not said their last word.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Whether nothing waits to be driven or sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.ready.is_empty() && self.outbox.is_empty() && self.port.is_idle()
    }

    /// Closes every connection with `code`, and refuses every newcomer.
    pub(super) fn close(&mut self, code: Code, reason: &str) {
        self.closing = true;
        self.incoming_refused();
        self.arrivals.clear();
        for shared in self.slots.iter().flatten() {
            shared.close(shared.code(code), Bytes::copy_from_slice(reason.as_bytes()));
        }
    }

    /// Does what there is to do; wakes the task when there is more. It is to be polled until it is dropped.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let orders = self.port.take(&mut self.ready);
        if orders.refuse {
            self.endpoint.set_server_config(None);
            self.incoming_refused();
        }
        self.forwarded(orders);
        let mut more = self.receive();
        self.expire(more);
        self.accept();
        self.outbox.flush(&mut self.socket);
        let mut driven = 0;
        while !self.outbox.is_blocked() && driven < CONNECTIONS_PER_POLL && !self.ready.is_empty() {
            let count = self.turn();
            driven += count;
            if count == CONNECTIONS_PER_TURN {
                more |= self.receive();
            }
        }
        self.outbox.flush(&mut self.socket);
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        more |= !self.incoming.is_empty() || !self.ready.is_empty() && !self.outbox.is_blocked();
        if !more {
            // Registers for what is to come, and finds out whether it came meanwhile.
            more = self.port.register(cx.waker())
                || self.socket.poll_readable(cx).is_ready()
                || self.outbox.is_blocked() && self.socket.poll_writable(cx).is_ready()
                || self.timers.poll(cx).is_ready();
        }
        if more {
            cx.waker().wake_by_ref();
        }
    }

    /// Reads what the socket has, up to a bound; whether there may be more.
    fn receive(&mut self) -> bool {
        let Some(mut received) = self.received.take() else {
            return false;
        };
        let mut count = 0;
        for _ in 0..RECEIVES {
            count = self.socket.receive(&mut received);
            let now = Instant::now();
            for datagram in received.datagrams(count) {
                self.datagram(now, datagram);
            }
            if count < socket::BATCH {
                break;
            }
        }
        self.received = Some(received);
        count == socket::BATCH
    }

    /// Datagrams of our connections that reached another worker, because their client has another address now.
    fn forwarded(&mut self, orders: Orders) {
        let now = Instant::now();
        for datagram in orders.forwarded {
            self.handle(now, datagram);
        }
    }

    fn datagram(&mut self, now: Instant, datagram: Datagram) {
        match self.port.ids.owner(&datagram.data) {
            Some(owner) if owner != self.port.ids.worker() => self.port.forward(owner, datagram),
            _ => self.handle(now, datagram),
        }
    }

    fn handle(&mut self, now: Instant, datagram: Datagram) {
        let Datagram {
            remote,
            local_ip,
            ecn,
            data,
        } = datagram;
        let (size, silent_at) = (data.len(), self.silent_at(now));
        self.out.clear();
        let handled = self
            .endpoint
            .handle(now, remote, local_ip, ecn, data, &mut self.out);
        match handled {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(Some(shared)) = self.slots.get(handle.0) {
                    shared.lock().heard(event, remote, size, silent_at);
                    if !shared.queued.swap(true, Ordering::SeqCst) {
                        self.ready.push_back(Arc::clone(shared));
                    }
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.incoming.push((incoming, size), &mut self.endpoint);
            }
            Some(DatagramEvent::Response(transmit)) => self.respond(&transmit, size),
            None => {}
        }
    }

    /// Answers a datagram of so many bytes from an address that is not validated. An answer to somebody who is no connection is worth no
    /// second try.
    fn respond(&mut self, transmit: &Transmit, received: usize) {
        if transmit.size as u64 > paths::FACTOR * received as u64 {
            return;
        }
        let _ = self.socket.send(transmit, &self.out);
    }

    fn insert(
        &mut self,
        handle: ConnectionHandle,
        proto: quinn_proto::Connection,
        paths: Option<Box<Paths>>,
    ) -> Connection {
        let shared = Shared::new(
            Arc::clone(&self.port),
            handle,
            proto,
            paths,
            self.silent_at(Instant::now()),
        );
        if self.slots.len() <= handle.0 {
            self.slots.resize(handle.0 + 1, None);
        }
        self.slots[handle.0] = Some(Arc::clone(&shared));
        self.open += 1;
        self.ready.push_back(Arc::clone(&shared));
        Connection::new(shared)
    }

    /// When a client that is heard now has been silent for too long.
    fn silent_at(&self, now: Instant) -> Instant {
        now + self.idle
    }

    /// Looks at connections whose time has come. Where the socket may have more to read, no client is taken for silent.
    fn expire(&mut self, unread: bool) {
        let now = Instant::now();
        while let Some(index) = self.timers.pop(now) {
            let Some(Some(shared)) = self.slots.get(index) else {
                continue;
            };
            let mut state = shared.lock();
            if state.is_silent(now) && !unread {
                drop(state);
                self.wakers.extend(shared.time_out());
                let handle = shared.handle;
                self.endpoint.handle_event(handle, EndpointEvent::drained());
                self.forget(handle);
                continue;
            }
            match state.timeout() {
                Some(deadline) if deadline <= now => {
                    state.proto.handle_timeout(now);
                    drop(state);
                    if !shared.queued.swap(true, Ordering::SeqCst) {
                        self.ready.push_back(Arc::clone(shared));
                    }
                }
                deadline => self.timers.set(index, deadline),
            }
        }
    }

    /// Drives some connections, in two passes: what a pass reads of the code, for one connection, is in the processor's caches for
    /// the next. Returns how many they were.
    fn turn(&mut self) -> usize {
        let mut turn = std::mem::take(&mut self.turn);
        let count = self.ready.len().min(CONNECTIONS_PER_TURN);
        turn.extend(self.ready.drain(..count));
        for shared in &turn {
            shared.queued.store(false, Ordering::SeqCst);
            if self.knows(shared) {
                self.dispatch(shared);
            }
        }
        let now = Instant::now();
        for shared in turn.drain(..) {
            if self.knows(&shared) {
                self.transmit(&shared, now);
            }
        }
        self.turn = turn;
        count
    }

    /// Whether it is not drained, and forgotten.
    fn knows(&self, shared: &Arc<Shared>) -> bool {
        let known = self.slots.get(shared.handle.0).and_then(Option::as_ref);
        known.is_some_and(|known| Arc::ptr_eq(known, shared))
    }

    /// Tells who waits for the connection what happened, and lets its source write.
    fn dispatch(&mut self, shared: &Shared) {
        // Before the lock, so that it is dropped after: it may be the last that holds the connection.
        let source = shared.source();
        shared.dispatch(&mut shared.lock(), source.as_deref(), &mut self.wakers);
    }

    /// Puts what is to be sent into the outbox.
    fn transmit(&mut self, shared: &Arc<Shared>, now: Instant) {
        let handle = shared.handle;
        let mut state = shared.lock();
        let mut sent = 0;
        let mut again = false;
        loop {
            while sent < DATAGRAMS_PER_TURN && !self.outbox.is_blocked() {
                // The system may find out later that the network card does not split.
                let segments = self.socket.max_segments().min(MAX_SEGMENTS);
                let poll = |out: &mut Vec<u8>| state.transmit(now, segments, out);
                let Some(datagrams) = self.outbox.write(&mut self.socket, poll) else {
                    break;
                };
                sent += datagrams;
            }
            let mut answered = false;
            while let Some(event) = state.proto.poll_endpoint_events() {
                if event.is_drained() {
                    self.endpoint.handle_event(handle, event);
                    drop(state);
                    return self.forget(handle);
                }
                if let Some(event) = self.endpoint.handle_event(handle, event) {
                    state.proto.handle_event(event);
                    answered = true;
                }
            }
            again |= sent >= DATAGRAMS_PER_TURN || self.outbox.is_blocked();
            if !answered || again {
                break;
            }
        }
        if state.abandoned && !self.outbox.is_blocked() {
            drop(state);
            self.endpoint.handle_event(handle, EndpointEvent::drained());
            return self.forget(handle);
        }
        again |= state.may_resume();
        self.timers.set(handle.0, state.timeout());
        drop(state);
        if again && !shared.queued.swap(true, Ordering::SeqCst) {
            self.ready.push_back(Arc::clone(shared));
        }
    }

    fn forget(&mut self, handle: ConnectionHandle) {
        self.timers.set(handle.0, None);
        if let Some(slot) = self.slots.get_mut(handle.0)
            && slot.take().is_some()
        {
            self.open -= 1;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for (incoming, _) in self.incoming.drain() {
            self.endpoint.ignore(incoming);
        }
        for shared in self.slots.iter().flatten() {
            shared.cut_off();
        }
    }
}

#[cfg(test)]
#[cfg(feature = "client")]
mod tests;

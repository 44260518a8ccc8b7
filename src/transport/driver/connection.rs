//! One connection: quinn-proto's state behind a lock, and who waits for what.
//!
//! Lock order: a connection's state, then what its [`Source`] takes. Nothing takes a connection while it holds a lock that a source
//! takes.

mod handle;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{
    ConnectionError, ConnectionHandle, Dir, Event, Side, StreamEvent, StreamId, Transmit, VarInt,
};

pub(in crate::transport) use handle::Connection;
pub(in crate::transport) use handle::Prompt;

use super::{
    paths::{self, Paths},
    port::Port,
    source::{Hurry, Streams},
};
use crate::{
    transport::{
        congestion,
        source::{self, Source, UniStream},
        stream::code_for,
    },
    wire::{ALPN, Code},
};

/// The highest priority of what a [`Source`] writes.
const HIGHEST: i32 = 2;

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Connected,
    Closed,
    Accept(Dir),
    /// The peer permits more streams.
    Open(Dir),
    Readable(StreamId),
    Writable(StreamId),
    /// The peer stopped the stream, or has all of it.
    Stopped(StreamId),
}

pub(super) struct Shared {
    port: Arc<Port>,
    pub(super) handle: ConnectionHandle,
    /// It stands among the driver's or the port's ready connections.
    pub(super) queued: AtomicBool,
    /// Its source is to be asked.
    fill: AtomicBool,
    http3: AtomicBool,
    /// Handles that can use it: when the last goes, it is closed.
    handles: AtomicUsize,
    source: OnceLock<Weak<dyn Source>>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) proto: quinn_proto::Connection,
    connected: bool,
    /// Absent where the client's only address is validated.
    paths: Option<Box<Paths>>,
    /// It ended before there was a session, and is forgotten as soon as its peer was sent the reason.
    pub(super) abandoned: bool,
    /// When the client has been silent for the idle timeout. quinn-proto's own timer begins anew with what is sent after a silence
    /// (RFC 9000 §10.1).
    silent_at: Instant,
    /// PING that asks a client for an acknowledgement which acknowledges nothing.
    probe: Option<Probe>,
    /// A task was told that this stream takes more, and has not tried yet: its source, which could take all there is first, waits
    /// for that. Answers to requests so pass what subscriptions have waiting.
    pub(super) reserved: Option<StreamId>,
    /// Little is to wait below what its streams take.
    hurry: Hurry,
    /// How it ended.
    pub(super) error: Option<ConnectionError>,
    /// Who waits, for what. A few at a time.
    waiting: Vec<(Interest, Waker)>,
}

/// A PING to a client that has acknowledged nothing for a while. Clients that send no acknowledgement with their own PINGs do not
/// acknowledge our acknowledgements (RFC 9000 §13.2.1), but they acknowledge this.
#[derive(Debug, Clone, Copy)]
struct Probe {
    sent: Instant,
    /// When the client was heard last since.
    heard: Option<Instant>,
}

/// What is known of a client's acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// None is due, or it may still come.
    InTime,
    /// A PING that asks for one is to be sent.
    Requested,
    /// The client sends, and acknowledges nothing.
    Missing,
}

impl State {
    /// What is known of a client's acknowledgements within `limit`. To be called several times within `limit`.
    pub(super) fn acknowledgement(&mut self, now: Instant, limit: Duration) -> Acknowledgement {
        let since = congestion::unanswered_since(self.proto.congestion_state());
        if since.is_none_or(|since| now.saturating_duration_since(since) < limit / 2) {
            self.probe = None;
            return Acknowledgement::InTime;
        }
        let Some(probe) = self.probe else {
            self.proto.ping();
            self.probe = Some(Probe {
                sent: now,
                heard: None,
            });
            return Acknowledgement::Requested;
        };
        // A client that is silent is left to the idle timeout.
        let late = |heard: Instant| heard >= probe.sent + limit / 4;
        if now >= probe.sent + limit / 2 && probe.heard.is_some_and(late) {
            Acknowledgement::Missing
        } else {
            Acknowledgement::InTime
        }
    }

    fn streams(&mut self, http3: bool) -> source::Streams<'_> {
        Streams::new(&mut self.proto, &mut self.hurry, http3).into()
    }

    /// What came from the peer. Where its address is another one, a PING asks it to say what arrived: what was lost on the way before would
    /// otherwise be found when the next packet is due, however late that is.
    pub(super) fn heard(
        &mut self,
        event: quinn_proto::ConnectionEvent,
        from: SocketAddr,
        bytes: usize,
        silent_at: Instant,
    ) {
        self.silent_at = silent_at;
        if let Some(probe) = &mut self.probe {
            probe.heard = Some(Instant::now());
        }
        let before = self.proto.remote_address();
        self.proto.handle_event(event);
        if self.proto.remote_address() != before {
            self.proto.ping();
        }
        if self.paths.is_some() || from != before {
            let paths = self.paths.get_or_insert_with(|| Paths::validated(before));
            paths.received(from, bytes);
        }
    }

    /// Makes what one call of the system sends.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        segments: usize,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let Self { paths, proto, .. } = self;
        paths::transmit(paths, proto, self.connected, now, segments, out)
    }

    /// When something is to be done without anything having happened.
    pub(super) fn timeout(&mut self) -> Option<Instant> {
        let (theirs, ours) = (self.proto.poll_timeout(), self.hurry.wake());
        let silent_at = self.error.is_none().then_some(self.silent_at);
        theirs.into_iter().chain(ours).chain(silent_at).min()
    }

    /// Whether nothing came from the client for the idle timeout.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.error.is_none() && self.silent_at <= now
    }

    /// Somebody waits for room for datagrams, and packets that were made have left some.
    pub(super) fn may_resume(&mut self) -> bool {
        self.hurry.may_resume(&mut self.proto)
    }

    pub(super) fn wait(&mut self, interest: Interest, cx: &Context<'_>) {
        let known =
            |(other, waker): &(Interest, Waker)| *other == interest && waker.will_wake(cx.waker());
        if !self.waiting.iter().any(known) {
            self.waiting.push((interest, cx.waker().clone()));
        }
    }

    /// Whoever was told that a stream takes more has tried: others may have what is left.
    pub(super) fn tried(&mut self, stream: StreamId) {
        if self.reserved == Some(stream) {
            self.reserved = None;
        }
    }

    /// Whether anybody waited.
    fn wake(&mut self, interest: Interest, wakers: &mut Vec<Waker>) -> bool {
        let before = wakers.len();
        wakers.extend(
            self.waiting
                .extract_if(.., |(other, _)| *other == interest)
                .map(|(_, waker)| waker),
        );
        wakers.len() > before
    }

    fn end(&mut self, error: ConnectionError) -> Vec<Waker> {
        self.error.get_or_insert(error);
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|(_, waker)| waker).collect()
    }
}

impl Shared {
    pub(super) fn new(
        port: Arc<Port>,
        handle: ConnectionHandle,
        proto: quinn_proto::Connection,
        paths: Option<Box<Paths>>,
        silent_at: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            port,
            handle,
            // The driver has it among its ready ones.
            queued: AtomicBool::new(true),
            fill: AtomicBool::new(false),
            http3: AtomicBool::new(false),
            handles: AtomicUsize::new(0),
            source: OnceLock::new(),
            state: Mutex::new(State {
                proto,
                connected: false,
                paths,
                abandoned: false,
                silent_at,
                probe: None,
                reserved: None,
                hurry: Hurry::default(),
                error: None,
                waiting: Vec::new(),
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A code as this connection writes it.
    pub(super) fn code(&self, code: Code) -> VarInt {
        code_for(code, self.http3.load(Ordering::Relaxed))
    }

    /// The driver is to look at it.
    pub(super) fn drive(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            self.port.push(Arc::clone(self));
        }
    }

    pub(super) fn close(self: &Arc<Self>, code: VarInt, reason: Bytes) {
        let wakers = {
            let mut state = self.lock();
            state.proto.close(Instant::now(), code, reason);
            state.end(ConnectionError::LocallyClosed)
        };
        wakers.into_iter().for_each(Waker::wake);
        self.drive();
    }

    /// The client is silent: it is forgotten without a word, as by quinn-proto's idle timeout.
    pub(super) fn time_out(&self) -> Vec<Waker> {
        self.lock().end(ConnectionError::TimedOut)
    }

    /// Nobody drives it any more.
    pub(super) fn cut_off(&self) {
        let wakers = self.lock().end(ConnectionError::LocallyClosed);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn source(&self) -> Option<Arc<dyn Source>> {
        self.source.get().and_then(Weak::upgrade)
    }

    /// Passes on what happened, and lets the source write.
    pub(super) fn dispatch(
        &self,
        state: &mut State,
        source: Option<&dyn Source>,
        wakers: &mut Vec<Waker>,
    ) {
        if state.hurry.on {
            (state.hurry.window, state.hurry.rate) =
                congestion::fresh_window(state.proto.congestion_state());
            state.hurry.packet = state.proto.current_mtu().into();
            // Whoever may write the most is told; the others find out.
            let window = state.hurry.stream_window(HIGHEST);
            state.proto.set_send_window(window);
        }
        self.resume(state, source);
        while let Some(event) = state.proto.poll() {
            match event {
                // Before anybody can use the connection, so that it never says a code of another space.
                Event::HandshakeDataReady => {
                    // rustls lets nothing else through than what we list: what is not ours is HTTP/3.
                    let ours = protocol(&state.proto).as_deref() == Some(ALPN.as_bytes());
                    self.http3.store(!ours, Ordering::Relaxed);
                }
                Event::Connected => {
                    state.connected = true;
                    state.wake(Interest::Connected, wakers);
                }
                Event::ConnectionLost { reason } => wakers.extend(state.end(reason)),
                Event::Stream(event) => {
                    let http3 = self.http3.load(Ordering::Relaxed);
                    self.stream_event(event, state, source, http3, wakers);
                }
                // Nothing that a client says travels by datagram (PROTOCOL §5.6).
                Event::DatagramReceived => while state.proto.datagrams().recv().is_some() {},
                Event::DatagramsUnblocked => {}
            }
        }
        if state.reserved.is_none()
            && self.fill.swap(false, Ordering::SeqCst)
            && let Some(source) = source
        {
            let http3 = self.http3.load(Ordering::Relaxed);
            source.fill(&mut state.streams(http3));
        }
    }

    /// Lets the source know that there is room for datagrams, or that its time has come.
    fn resume(&self, state: &mut State, source: Option<&dyn Source>) {
        if state.hurry.on
            && state.hurry.resumes(&mut state.proto)
            && let Some(source) = source
        {
            source.resume();
            self.fill.store(true, Ordering::SeqCst);
        }
    }

    fn stream_event(
        &self,
        event: StreamEvent,
        state: &mut State,
        source: Option<&dyn Source>,
        http3: bool,
        wakers: &mut Vec<Waker>,
    ) {
        let (id, interest) = match event {
            StreamEvent::Opened { dir } => {
                state.wake(Interest::Accept(dir), wakers);
                return;
            }
            StreamEvent::Available { dir } => {
                state.wake(Interest::Open(dir), wakers);
                return;
            }
            StreamEvent::Readable { id } => {
                state.wake(Interest::Readable(id), wakers);
                return;
            }
            StreamEvent::Writable { id } => (id, Interest::Writable(id)),
            StreamEvent::Stopped { id, .. } => {
                // Whoever writes learns it, too.
                state.wake(Interest::Writable(id), wakers);
                (id, Interest::Stopped(id))
            }
            StreamEvent::Finished { id } => (id, Interest::Stopped(id)),
        };
        let woken = state.wake(interest, wakers);
        if woken && interest == Interest::Writable(id) {
            state.reserved = Some(id);
        }
        if woken || id.dir() == Dir::Bi || id.initiator() == Side::Client {
            return;
        }
        let Some(source) = source else { return };
        let stream = UniStream(id);
        match event {
            StreamEvent::Writable { .. } => {
                source.writable(stream);
                self.fill.store(true, Ordering::SeqCst);
            }
            StreamEvent::Stopped { .. } => {
                source.stopped(stream, &mut state.streams(http3));
            }
            _ => source.finished(stream),
        }
    }
}

/// What was negotiated in ALPN.
fn protocol(proto: &quinn_proto::Connection) -> Option<Box<[u8]>> {
    let protocol = proto.crypto_session().handshake_data()?;
    protocol.downcast().ok().map(|protocol| *protocol)
}

//! One connection after `Welcome`: requests and answers, and the streams that the server opens.

mod answers;
pub(super) mod pulse;
mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::oneshot,
    task::coop::{cooperative, unconstrained},
    time::{sleep, timeout},
};

use pulse::Pulse;
use watch::Watch;

use super::{
    Acknowledgement, ClientError,
    arrivals::{Arrivals, Arrived},
    driver::Command,
    greet::CLOSE,
    line::Line,
    publish,
    registry::{Key, Registry},
};
use crate::{
    transport::{Closed, Connection, FrameError, FrameReader, SendStream, Transport},
    wire::{
        Attendance, ChannelName, Code, DecodeError, History, Position, Retry, Start, Timestamp,
        frame::{
            Frame, Limits, Ping, ReadHistory, ReadPresence, Refresh, Subscribe, SubscribeFrom,
            Unsubscribe,
        },
    },
};

/// Most publications of a page of history (PROTOCOL §4.11).
const MAX_PAGE: u64 = 256;
/// How long after a stream was cut off its connection is taken to live on: the end of a connection cuts its streams off too, and
/// is seen a moment later.
const CUT: Duration = Duration::from_secs(1);
/// Most subscriptions that the server was told to end and has said nothing of.
const MAX_UNANSWERED: usize = 65_536;
/// Bytes that are sent to a server that fell silent: enough for a whole datagram of it (RFC 9000 §8.1), and not above the least datagram.
const FILLER: usize = 1000;
/// Bytes of requests that wait to be written; above it no further request is taken.
const OUTGOING: usize = 256 * 1024;

/// An open session.
pub(super) struct Link {
    connection: Connection,
    /// Among the connections of its registry.
    number: u64,
    reader: FrameReader,
    writer: SendStream,
    outgoing: Vec<Bytes>,
    pending: HashMap<u64, Pending>,
    last_request: u64,
    /// A page of history whose publications are to follow.
    page: Option<Page>,
    automatic: Vec<(ChannelName, u64, Position)>,
    limits: Limits,
    /// The token that was refreshed last, for the next connection.
    refreshed: Arc<Mutex<Option<String>>>,
    /// End of the session's credentials.
    pub(super) expires: tokio::sync::watch::Sender<Option<SystemTime>>,
    arrivals: Arrivals,
    watch: Watch,
    pulse: Pulse,
    /// Requests of this client's own accord that are not answered yet.
    unanswered: usize,
    later: FuturesUnordered<BoxFuture<'static, Later>>,
}

/// An answer that is not complete yet.
struct Page {
    /// How many publications are still to come.
    due: u64,
    history: History,
    answer: oneshot::Sender<Result<History, ClientError>>,
}

/// What is done after a pause.
enum Later {
    Ask(ChannelName),
    Recheck(Key, u64),
}

/// Who waits for an answer.
enum Pending {
    Publish(oneshot::Sender<Result<Acknowledgement, ClientError>>),
    Subscribe(ChannelName),
    History(oneshot::Sender<Result<History, ClientError>>),
    Presence(oneshot::Sender<Result<Attendance, ClientError>>),
    Refresh(
        String,
        oneshot::Sender<Result<Option<Timestamp>, ClientError>>,
    ),
    Ping(oneshot::Sender<Result<(), ClientError>>),
    Nobody,
}

/// Why a link is over.
pub(super) enum Over {
    /// User code wants it.
    Asked,
    /// The token source says that the user is signed out.
    SignedOut,
    /// The connection is gone.
    Lost(Closed),
    /// The server said what it may not, or cannot serve this client now.
    Given(Code, String),
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        reader: FrameReader,
        writer: SendStream,
        automatic: Vec<(ChannelName, u64, Position)>,
        limits: Limits,
        max_frame: usize,
        refreshed: Arc<Mutex<Option<String>>>,
    ) -> Self {
        Self {
            connection,
            number: 0,
            reader,
            writer,
            outgoing: Vec::new(),
            pending: HashMap::new(),
            last_request: 0,
            page: None,
            automatic,
            limits,
            refreshed,
            expires: tokio::sync::watch::Sender::new(None),
            arrivals: Arrivals::new(max_frame),
            watch: Watch::default(),
            pulse: Pulse::default(),
            unanswered: 0,
            later: FuturesUnordered::new(),
        }
    }

    /// How signs of life are sent from now on.
    pub(super) fn set_pulse(&mut self, pulse: Pulse) {
        // A WebSocket asks for signs of life itself.
        if self.connection.transport() != Transport::WebSocket {
            self.pulse = pulse;
        }
    }

    /// Serves user code until the connection is over.
    pub(super) async fn run(&mut self, registry: &Registry, line: &Line) -> Over {
        self.number = registry.connected(std::mem::take(&mut self.automatic));
        self.sync(registry);
        loop {
            let room = self.outgoing.iter().map(Bytes::len).sum::<usize>() < OUTGOING;
            // Reading goes on while writing waits: a server that waits to write answers does not read requests.
            tokio::select! {
                written = self.writer.write_all(&mut self.outgoing), if !self.outgoing.is_empty() => match written {
                    Ok(()) => self.outgoing.clear(),
                    Err(_) => return self.lost(registry).await,
                },
                read = self.reader.next() => match read {
                    Ok(Some(raw)) => match Frame::decode(&raw) {
                        Ok(Some(frame)) => if let Some(over) = self.answer(registry, frame) { return over },
                        Ok(None) => {}
                        Err(error) => return Over::Given(Code::PROTOCOL_VIOLATION, error.to_string()),
                    },
                    Err(FrameError::Decode(error)) => {
                        let large = matches!(error, DecodeError::TooLarge { .. });
                        let code = if large { Code::FRAME_TOO_LARGE } else { Code::PROTOCOL_VIOLATION };
                        return Over::Given(code, error.to_string());
                    }
                    Ok(None) | Err(FrameError::Reset(_) | FrameError::Closed) => {
                        return self.lost(registry).await;
                    }
                },
                stream = self.connection.accept_uni() => match stream {
                    Ok(stream) => self.arrivals.accept(stream),
                    Err(_) => return self.lost(registry).await,
                },
                arrived = self.arrivals.next() => {
                    self.arrived(registry, arrived);
                    if self.unanswered > MAX_UNANSWERED {
                        let reason = "the server answers nothing".to_owned();
                        return Over::Given(Code::PROTOCOL_VIOLATION, reason);
                    }
                },
                datagram = registry.datagram(&self.connection, self.number) => if datagram.is_none() {
                    return self.lost(registry).await;
                },
                Some(later) = self.later.next(), if !self.later.is_empty() => {
                    match later {
                        Later::Ask(name) => registry.ask_again(&name),
                        Later::Recheck(key, id) => registry.recheck(&key, id),
                    }
                    self.sync(registry);
                },
                () = self.pulse.due() => if !self.connection.send_filler(0) {
                    self.request(Pending::Nobody, |request| Ping { request }.into());
                },
                () = self.watch.silence(&self.connection) => {
                    // After a change of address the server may send three times what came from the new one, and has much to send.
                    self.connection.send_filler(FILLER);
                    self.request(Pending::Nobody, |request| Ping { request }.into());
                },
                () = registry.changed.notified() => self.sync(registry),
                // A line that never ends does not keep other tasks from their turn.
                command = cooperative(line.next()), if room => self.carry_out(registry, command),
            }
        }
    }

    /// The connection is over. What came before its end still counts: answers, and streams with what they hold.
    async fn lost(&mut self, registry: &Registry) -> Over {
        while let Some(Ok(Some(raw))) = self.reader.next().now_or_never() {
            if let Ok(Some(frame)) = Frame::decode(&raw) {
                let _ = self.answer(registry, frame);
            }
        }
        while let Some(Ok(stream)) = self.connection.accept_uni().now_or_never() {
            self.arrivals.accept(stream);
        }
        let datagram = || registry.datagram(&self.connection, self.number);
        while let Some(Some(())) = datagram().now_or_never() {}
        while let Some(arrived) = unconstrained(self.arrivals.next()).now_or_never() {
            self.arrived(registry, arrived);
        }
        match timeout(CLOSE, self.connection.closed()).await {
            Ok(closed) => Over::Lost(closed),
            Err(_) => Over::Lost(Closed {
                code: None,
                reason: "the server ended the control stream".to_owned(),
            }),
        }
    }

    /// Fails what waits for an answer, and tells the server.
    pub(super) async fn close(self, code: Code, reason: &str) {
        let page = self.page.map(|page| page.answer);
        let pending = self.pending.into_values();
        for pending in pending.chain(page.map(Pending::History)) {
            let error = ClientError::Interrupted(reason.to_owned());
            match pending {
                Pending::Publish(answer) => drop(answer.send(Err(error))),
                Pending::History(answer) => drop(answer.send(Err(error))),
                Pending::Presence(answer) => drop(answer.send(Err(error))),
                Pending::Refresh(_, answer) => drop(answer.send(Err(error))),
                Pending::Ping(answer) => drop(answer.send(Err(error))),
                // The registry asks again on the next connection.
                Pending::Subscribe(_) | Pending::Nobody => {}
            }
        }
        self.connection.close_and_linger(code, reason).await;
    }

    fn request(&mut self, pending: Pending, frame: impl FnOnce(u64) -> Frame) {
        self.last_request += 1;
        self.pending.insert(self.last_request, pending);
        self.outgoing.push(frame(self.last_request).encode());
    }

    fn arrived(&mut self, registry: &Registry, arrived: Arrived) {
        match arrived {
            Arrived::Stream(incoming) => registry.arrived(incoming, &self.connection),
            Arrived::Unwanted(subscription) => self.unsubscribe(subscription),
        }
    }

    fn unsubscribe(&mut self, subscription: u64) {
        self.unanswered += 1;
        self.request(Pending::Nobody, |request| {
            Unsubscribe {
                request,
                subscription,
            }
            .into()
        });
    }

    fn carry_out(&mut self, registry: &Registry, command: Command) {
        // What was dropped before the command was given ends before it begins.
        self.sync(registry);
        match command {
            Command::Publish {
                message, answer, ..
            } if message.size() as u64 > self.limits.message => {
                let (size, max) = (message.size(), self.limits.message);
                let _ = answer.send(Err(ClientError::TooLarge { size, max }));
            }
            Command::Publish {
                name,
                options,
                message,
                answer,
            } => self.request(Pending::Publish(answer), |request| {
                publish::request(request, &name, options, message)
            }),
            Command::History {
                name,
                query,
                answer,
            } => {
                let channel = name.to_string();
                self.request(Pending::History(answer), |request| {
                    ReadHistory {
                        request,
                        channel,
                        query,
                    }
                    .into()
                });
            }
            Command::Presence {
                name,
                limit,
                answer,
            } => {
                let channel = name.to_string();
                self.request(Pending::Presence(answer), |request| {
                    ReadPresence {
                        request,
                        channel,
                        limit,
                    }
                    .into()
                });
            }
            Command::Refresh { token, answer } => {
                self.request(Pending::Refresh(token.clone(), answer), |request| {
                    Refresh { request, token }.into()
                });
            }
            Command::Ping { answer } => {
                self.request(Pending::Ping(answer), |request| Ping { request }.into());
            }
            // Done by `sync`.
            Command::Subscribe => {}
        }
    }

    /// Tells the server what the registry wants of it.
    fn sync(&mut self, registry: &Registry) {
        let work = registry.work();
        for subscription in work.end {
            self.unsubscribe(subscription);
        }
        for (name, start) in work.ask {
            let channel = name.to_string();
            self.request(Pending::Subscribe(name), |request| match start {
                Start::Head => Subscribe { request, channel }.into(),
                start => SubscribeFrom {
                    request,
                    channel,
                    start,
                }
                .into(),
            });
        }
        for (key, id) in work.cut {
            let later = async move {
                sleep(CUT).await;
                Later::Recheck(key, id)
            };
            self.later.push(later.boxed());
        }
    }
}

impl Over {
    /// Whether to connect again, and what to tell those who wait.
    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Asked | Self::SignedOut => Retry::No,
            Self::Lost(closed) => closed.code.map_or(Retry::Backoff, Code::retry),
            Self::Given(code, _) => code.retry(),
        }
    }

    /// Code and words.
    pub(super) fn reason(&self) -> (Option<Code>, String) {
        match self {
            Self::Asked => (Some(Code::CLOSED), "closed by this client".to_owned()),
            Self::SignedOut => (None, ClientError::SignedOut.to_string()),
            Self::Lost(closed) => (closed.code, closed.reason.clone()),
            Self::Given(code, reason) => (Some(*code), reason.clone()),
        }
    }
}

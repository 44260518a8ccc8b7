//! One connection: what it says, and what it makes of what it hears.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use quinn_proto::{
    Chunks, Connection, Dir, Event, ReadError, SendStream, StreamEvent, StreamId, WriteError,
};

use crate::{
    webtransport,
    wire::{self, Frames, Reader, kind},
};

/// What a mode wants to know.
pub(super) trait Sink {
    /// The session was welcomed and all its first subscriptions stand.
    fn ready(&mut self, session: &mut Session) -> Result<()>;

    /// A publication, as it is read.
    fn publication(&mut self, session: usize, payload: &[u8]) -> Result<()>;

    /// An answer to a request of the mode's own.
    fn answer(&mut self, _: &mut Session, answer: Answer) -> Result<()> {
        bail!("{answer:?} answers nothing that was asked");
    }
}

/// An answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Subscribed { subscription: u64 },
    Unsubscribed,
    Published,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    /// Its number among those that subscribe.
    pub(super) index: usize,
    /// It reads no stream of a subscription.
    pub(super) stalled: bool,
    /// It is to be closed, now that its event was handled.
    pub(super) is_over: bool,
    http: Option<Http>,
    control: Option<StreamId>,
    /// For the control stream, and not taken by it yet.
    pending: Vec<u8>,
    frames: Frames,
    /// Streams of the server.
    inlets: Vec<(StreamId, Inlet)>,
    welcomed: bool,
    /// Subscriptions that it waits for, of those that it asked for in the beginning.
    wanted: usize,
    is_ready: bool,
}

/// How far WebTransport's handshake is.
#[derive(Debug)]
struct Http {
    server: SocketAddr,
    connect: Option<StreamId>,
    answer: Vec<u8>,
    is_accepted: bool,
}

/// A stream of the server.
#[derive(Debug)]
enum Inlet {
    /// WebTransport: what it is has not come whole yet.
    Head(Vec<u8>),
    Subscription(Frames),
    /// HTTP/3's own.
    Ignored,
}

/// How a session goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Quic,
    WebTransport(SocketAddr),
}

impl Session {
    /// It will say `first`, which asks for `wanted` subscriptions.
    pub(super) fn new(index: usize, transport: Transport, first: Vec<u8>, wanted: usize) -> Self {
        let http = match transport {
            Transport::Quic => None,
            Transport::WebTransport(server) => Some(Http {
                server,
                connect: None,
                answer: Vec::new(),
                is_accepted: false,
            }),
        };
        Self {
            index,
            stalled: false,
            is_over: false,
            http,
            control: None,
            pending: first,
            frames: Frames::default(),
            inlets: Vec::new(),
            welcomed: false,
            wanted,
            is_ready: false,
        }
    }

    /// Says more on the control stream: at once from an event, otherwise with [`flush`](Self::flush).
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    pub(super) fn flush(&mut self, connection: &mut Connection) -> Result<()> {
        let Some(control) = self.control else {
            return Ok(());
        };
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = match connection.send_stream(control).write(&self.pending) {
            Ok(written) => written,
            Err(WriteError::Blocked) => return Ok(()),
            Err(error) => return Err(error).context("write the control stream"),
        };
        self.pending.drain(..written);
        if self.pending.is_empty() {
            // Thousands of sessions that are silent now hold no room for their first words.
            self.pending = Vec::new();
        }
        Ok(())
    }

    pub(super) fn on_event(
        &mut self,
        connection: &mut Connection,
        event: Event,
        sink: &mut impl Sink,
    ) -> Result<()> {
        match event {
            Event::Connected => self.begin(connection)?,
            Event::ConnectionLost { .. } if self.is_over => {}
            Event::ConnectionLost { reason } => {
                bail!("connection {} was lost: {reason}", self.index)
            }
            Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                while let Some(id) = connection.streams().accept(Dir::Uni) {
                    let inlet = match self.http {
                        Some(_) => Inlet::Head(Vec::new()),
                        None => Inlet::Subscription(Frames::default()),
                    };
                    self.inlets.push((id, inlet));
                    self.read_inlet(connection, id, sink)?;
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => {
                if Some(id) == self.control {
                    self.read_control(connection, id, sink)?;
                } else if self
                    .http
                    .as_ref()
                    .is_some_and(|http| http.connect == Some(id))
                {
                    self.read_connect(connection, id)?;
                } else if !self.stalled {
                    self.read_inlet(connection, id, sink)?;
                }
            }
            _ => {}
        }
        self.flush(connection)
    }

    /// The QUIC handshake is done.
    fn begin(&mut self, connection: &mut Connection) -> Result<()> {
        let Some(http) = &mut self.http else {
            self.control = Some(open(connection, Dir::Bi)?);
            return Ok(());
        };
        let settings = open(connection, Dir::Uni)?;
        write_head(connection.send_stream(settings), &webtransport::settings())?;
        let connect = open(connection, Dir::Bi)?;
        http.connect = Some(connect);
        let request = webtransport::connect(http.server)?;
        write_head(connection.send_stream(connect), &request)
    }

    fn read_connect(&mut self, connection: &mut Connection, id: StreamId) -> Result<()> {
        let Some(http) = &mut self.http else {
            return Ok(());
        };
        read(connection, id, |piece| {
            http.answer.extend_from_slice(piece);
            Ok(())
        })?;
        if !http.is_accepted && webtransport::is_accepted(&http.answer)? {
            http.is_accepted = true;
            http.answer = Vec::new();
            let control = open(connection, Dir::Bi)?;
            self.control = Some(control);
            write_head(connection.send_stream(control), &webtransport::BIDI_HEAD)?;
        }
        Ok(())
    }

    fn read_control(
        &mut self,
        connection: &mut Connection,
        id: StreamId,
        sink: &mut impl Sink,
    ) -> Result<()> {
        let mut frames = std::mem::take(&mut self.frames);
        let end = read(connection, id, |piece| {
            frames.read(piece, |kind, body| self.on_control(kind, body, sink))
        })?;
        self.frames = frames;
        ensure!(
            end == End::More || self.is_over,
            "the server ended control stream {}",
            self.index
        );
        Ok(())
    }

    fn on_control(&mut self, kind: u64, body: &[u8], sink: &mut impl Sink) -> Result<()> {
        let mut body = Reader(body);
        match kind {
            kind::WELCOME => self.welcomed = true,
            kind::GO_AWAY => bail!("the server goes away with code {}", body.integer()?),
            kind::FAILED => {
                body.integer()?;
                let code = body.integer()?;
                let reason = String::from_utf8_lossy(body.bytes()?);
                bail!("the server refused a request: {code} {reason}");
            }
            kind::SUBSCRIBED if self.wanted > 0 => self.wanted -= 1,
            kind::SUBSCRIBED => {
                body.integer()?;
                let subscription = body.integer()?;
                sink.answer(self, Answer::Subscribed { subscription })?;
            }
            kind::UNSUBSCRIBED => sink.answer(self, Answer::Unsubscribed)?,
            kind::PUBLISHED => sink.answer(self, Answer::Published)?,
            // Of no concern to a load (PROTOCOL §3.5).
            _ => {}
        }
        if self.welcomed && self.wanted == 0 && !self.is_ready {
            self.is_ready = true;
            sink.ready(self)?;
        }
        Ok(())
    }

    fn read_inlet(
        &mut self,
        connection: &mut Connection,
        id: StreamId,
        sink: &mut impl Sink,
    ) -> Result<()> {
        let Some(position) = self.inlets.iter().position(|(inlet, _)| *inlet == id) else {
            return Ok(());
        };
        let inlet = &mut self.inlets[position].1;
        let index = self.index;
        let end = read(connection, id, |piece| inlet.read(piece, index, sink))?;
        if end == End::Over {
            self.inlets.swap_remove(position);
        }
        Ok(())
    }
}

impl Inlet {
    fn read(&mut self, piece: &[u8], session: usize, sink: &mut impl Sink) -> Result<()> {
        match self {
            Self::Ignored => Ok(()),
            Self::Subscription(frames) => frames.read(piece, |kind, body| {
                if kind == kind::PUBLICATION {
                    let (_, payload) = Reader(body).publication()?;
                    sink.publication(session, payload)?;
                }
                // A gap that is told is a gap: the recorder finds it, and a missing tail too.
                Ok(())
            }),
            Self::Head(head) => {
                head.extend_from_slice(piece);
                if head[0] < 0x40 {
                    *self = Self::Ignored;
                    return Ok(());
                }
                if head.len() < webtransport::UNI_HEAD.len() {
                    return Ok(());
                }
                ensure!(
                    head.starts_with(&webtransport::UNI_HEAD),
                    "a stream of the server begins with {:02x?}",
                    &head[..webtransport::UNI_HEAD.len()]
                );
                let rest = head.split_off(webtransport::UNI_HEAD.len());
                *self = Self::Subscription(Frames::default());
                self.read(&rest, session, sink)
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It may go on.
    More,
    /// Finished or reset.
    Over,
}

/// Gives what has come of a stream.
fn read(
    connection: &mut Connection,
    id: StreamId,
    mut on_piece: impl FnMut(&[u8]) -> Result<()>,
) -> Result<End> {
    let mut stream = connection.recv_stream(id);
    // It was finished or stopped before.
    let Ok(mut chunks) = stream.read(true) else {
        return Ok(End::Over);
    };
    let end = drain(&mut chunks, &mut on_piece);
    // The engine sends what is due in any case.
    let _ = chunks.finalize();
    end
}

fn drain(chunks: &mut Chunks<'_>, on_piece: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<End> {
    loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => on_piece(&chunk.bytes)?,
            Err(ReadError::Blocked) => return Ok(End::More),
            Ok(None) | Err(ReadError::Reset(_)) => return Ok(End::Over),
        }
    }
}

fn open(connection: &mut Connection, direction: Dir) -> Result<StreamId> {
    let id = connection.streams().open(direction);
    id.with_context(|| format!("the server permits no {direction} stream"))
}

/// Writes the first words of a stream, for which there is room.
fn write_head(mut stream: SendStream<'_>, bytes: &[u8]) -> Result<()> {
    let written = stream.write(bytes).context("write the head of a stream")?;
    ensure!(written == bytes.len(), "no room for the head of a stream");
    Ok(())
}

/// What a session says first: who it is, and to which channels it subscribes.
pub(crate) fn first_words(token: Option<&str>, channels: usize) -> Vec<u8> {
    let mut words = wire::hello(token);
    for channel in 0..channels as u64 {
        words.extend(wire::subscribe(channel, &wire::channel(channel)));
    }
    words
}

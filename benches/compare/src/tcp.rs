//! Thousands of TLS 1.3 connections over TCP on one thread: epoll, edge-triggered, and rustls.
//!
//! [`Engine`] owns the sockets. Who uses it keeps a state of its own in every [`Link`], is called with plain bytes as
//! they arrive ([`Handler`]), and writes into `Link::outgoing`; encryption and sockets that are full are dealt with here.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use rustix::event::{Timespec, epoll};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

/// One system call fetches what has arrived for a connection: a burst of 32 messages of 200 bytes is 8 KiB, a TLS record
/// at most 16 KiB, and the buffer is shared by all connections, so it may be large.
const READ_BUFFER: usize = 256 * 1024;
/// Events taken from the kernel in one call. A publication to 5,000 subscribers makes thousands due at once.
const EVENTS: usize = 1024;
/// A server that accepts on its one core while it shakes hands answers in milliseconds; in five seconds it is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the owner of the connections does when something happens to one.
pub trait Handler<S> {
    /// The TLS session stands.
    fn ready(&mut self, link: &mut Link<S>) -> Result<()>;

    /// Plain bytes arrived. Returns how many were used; the rest is given again with what follows.
    fn data(&mut self, link: &mut Link<S>, bytes: &[u8]) -> Result<usize>;

    /// The connection is over, for this reason. It is not called again for this link.
    fn closed(&mut self, link: &mut Link<S>, reason: anyhow::Error);
}

/// One connection.
#[derive(Debug)]
pub struct Link<S> {
    /// Its place in the engine, 0 for the first one that was connected.
    pub index: usize,
    /// What the handler keeps with it.
    pub state: S,
    /// Plain bytes to send: append to them in a callback, or outside one and then call [`Engine::flush`].
    pub outgoing: Vec<u8>,
    socket: TcpStream,
    stage: Stage,
    /// Taken out while the handler is called with what it has decrypted.
    session: Option<Box<ClientConnection>>,
    unread: Vec<u8>,
    stalled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Clear,
    /// The handler has asked for TLS in a callback; the engine starts it when that returns.
    TlsWanted,
    Handshake,
    Secure,
}

impl<S> Link<S> {
    /// From here on the connection speaks TLS: for protocols that greet in clear. [`Handler::ready`] tells when it stands.
    pub fn start_tls(&mut self) {
        self.stage = Stage::TlsWanted;
    }

    /// Whether it was told to read no more.
    pub const fn is_stalled(&self) -> bool {
        self.stalled
    }
}

/// The connections, and the thread's wait for them.
pub struct Engine<S> {
    epoll: OwnedFd,
    links: Vec<Option<Link<S>>>,
    tls: Arc<ClientConfig>,
    events: Vec<epoll::Event>,
    read_buffer: Vec<u8>,
}

// The kernel's events have no Debug.
impl<S> fmt::Debug for Engine<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut engine = formatter.debug_struct("Engine");
        engine.field("links", &self.links.len());
        engine.finish_non_exhaustive()
    }
}

impl<S> Engine<S> {
    /// An engine whose connections share `tls`, and with it its store of session tickets.
    pub fn new(tls: Arc<ClientConfig>) -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)
                .context("no epoll instance from the kernel")?,
            links: Vec::new(),
            tls,
            events: Vec::with_capacity(EVENTS),
            read_buffer: vec![0; READ_BUFFER],
        })
    }

    /// Connects and, with `tls_first`, starts the TLS handshake. The connect itself blocks: on one machine that is one
    /// round trip of the kernel's, and callers keep fewer in flight than any server's backlog.
    pub fn connect(&mut self, address: SocketAddr, tls_first: bool, state: S) -> Result<usize> {
        let index = self.links.len();
        let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).with_context(|| {
            format!(
                "connection {index} to {address}: is the server running, and its backlog not full?"
            )
        })?;
        socket.set_nodelay(true).context("set TCP_NODELAY")?;
        socket
            .set_nonblocking(true)
            .context("set the socket to non-blocking")?;
        let interest = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(index as u64),
            interest,
        )
        .with_context(|| {
            format!("watch connection {index}: is the limit of open files (ulimit -n) high enough?")
        })?;
        let (stage, session) = match tls_first {
            true => (Stage::Handshake, Some(self.session()?)),
            false => (Stage::Clear, None),
        };
        self.links.push(Some(Link {
            index,
            state,
            outgoing: Vec::new(),
            socket,
            stage,
            session,
            unread: Vec::new(),
            stalled: false,
        }));
        Ok(index)
    }

    /// The connection at `index`, unless it is over.
    pub fn link(&mut self, index: usize) -> Option<&mut Link<S>> {
        self.links.get_mut(index)?.as_mut()
    }

    /// Reads no more from the connection at `index`, so that it fills up.
    pub fn stall(&mut self, index: usize) {
        if let Some(link) = self.link(index) {
            link.stalled = true;
        }
    }

    /// Sends what stands in the outgoing bytes of the connection at `index`.
    pub fn flush(&mut self, index: usize, handler: &mut impl Handler<S>) {
        self.with_link(index, handler, |_, link, _| link.flush());
    }

    /// Waits until `until` or until something arrives, and deals with all that has.
    pub fn turn(&mut self, until: Instant, handler: &mut impl Handler<S>) -> Result<()> {
        let wait = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(anyhow!(error).context("wait for connections")),
        }
        for event in &events {
            let flags = event.flags;
            self.with_link(
                event.data.u64() as usize,
                handler,
                |engine, link, handler| engine.serve(link, flags, handler),
            );
        }
        self.events = events;
        Ok(())
    }

    /// Takes the connection out of its place, so that it and the engine can be borrowed at once, and puts it back unless
    /// `act` fails.
    fn with_link<H: Handler<S>>(
        &mut self,
        index: usize,
        handler: &mut H,
        act: impl FnOnce(&mut Self, &mut Link<S>, &mut H) -> Result<()>,
    ) {
        let Some(mut link) = self.links.get_mut(index).and_then(Option::take) else {
            return;
        };
        match act(self, &mut link, handler) {
            Ok(()) => self.links[index] = Some(link),
            Err(error) => handler.closed(&mut link, error),
        }
    }

    fn serve(
        &mut self,
        link: &mut Link<S>,
        flags: epoll::EventFlags,
        handler: &mut impl Handler<S>,
    ) -> Result<()> {
        if flags.intersects(epoll::EventFlags::OUT) {
            link.flush()?;
        }
        if link.stalled
            || !flags.intersects(
                epoll::EventFlags::IN
                    | epoll::EventFlags::RDHUP
                    | epoll::EventFlags::HUP
                    | epoll::EventFlags::ERR,
            )
        {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let read = self.read(link, &mut buffer, handler);
        self.read_buffer = buffer;
        read
    }

    fn read(
        &mut self,
        link: &mut Link<S>,
        buffer: &mut [u8],
        handler: &mut impl Handler<S>,
    ) -> Result<()> {
        loop {
            let length = match link.socket.read(buffer) {
                Ok(0) => return Err(anyhow!("the server has closed the connection")),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(anyhow!(error).context("read from the server")),
            };
            link.receive(&buffer[..length], handler)?;
            if link.stage == Stage::TlsWanted {
                link.session = Some(self.session()?);
                link.stage = Stage::Handshake;
            }
            link.flush()?;
            // A short read has emptied the socket: epoll(7) reports what comes after it.
            if length < buffer.len() {
                return Ok(());
            }
        }
    }

    fn session(&self) -> Result<Box<ClientConnection>> {
        let name = ServerName::try_from("localhost").context("the name of the server")?;
        let mut session = ClientConnection::new(self.tls.clone(), name).context("a TLS session")?;
        // Bounded by what the schedule publishes; a limit would truncate a burst without a word.
        session.set_buffer_limit(None);
        Ok(Box::new(session))
    }
}

impl<S> Link<S> {
    fn receive(&mut self, mut bytes: &[u8], handler: &mut impl Handler<S>) -> Result<()> {
        let Some(mut session) = self.session.take() else {
            return self.deliver(bytes, handler);
        };
        while !bytes.is_empty() {
            session
                .read_tls(&mut bytes)
                .context("take in TLS records")?;
            session
                .process_new_packets()
                .context("TLS: does the server speak TLS 1.3?")?;
            if self.stage == Stage::Handshake && !session.is_handshaking() {
                self.stage = Stage::Secure;
                handler.ready(self)?;
            }
            self.drain(&mut session, handler)?;
        }
        self.session = Some(session);
        Ok(())
    }

    fn drain(
        &mut self,
        session: &mut ClientConnection,
        handler: &mut impl Handler<S>,
    ) -> Result<()> {
        let mut reader = session.reader();
        loop {
            let length = match reader.fill_buf() {
                Ok([]) => return Err(anyhow!("the server has ended the TLS session")),
                Ok(plain) => {
                    self.deliver(plain, handler)?;
                    plain.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(anyhow!(error).context("read from the TLS session")),
            };
            reader.consume(length);
        }
    }

    fn deliver(&mut self, bytes: &[u8], handler: &mut impl Handler<S>) -> Result<()> {
        if self.unread.is_empty() {
            let used = handler.data(self, bytes)?;
            self.unread.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let used = handler.data(self, &unread)?;
        unread.drain(..used);
        self.unread = unread;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some(session) = &mut self.session else {
            let written = write_some(&mut self.socket, &self.outgoing)?;
            self.outgoing.drain(..written);
            return Ok(());
        };
        if self.stage == Stage::Secure && !self.outgoing.is_empty() {
            session
                .writer()
                .write_all(&self.outgoing)
                .context("encrypt")?;
            self.outgoing.clear();
        }
        match flush_session(session, &mut self.socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other.context("write to the server"),
        }
    }
}

fn flush_session(session: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(socket)?;
    }
    Ok(())
}

fn write_some(socket: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(length) => written += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(anyhow!(error).context("write to the server")),
        }
    }
    Ok(written)
}

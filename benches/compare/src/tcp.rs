//! Thousands of TLS 1.3 connections over TCP on one thread: epoll, edge-triggered, and rustls.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::event::{
    Timespec,
    epoll::{self, EventFlags},
};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use crate::{
    clock::{self, Nanos, SECOND},
    options::Options,
    report::Report,
    stream_load::{self, Carrier, Codec, Load, Pipe},
    tls,
};

/// One system call fetches what has arrived for a connection: a burst of 32 messages of 200 bytes is 8 KiB, a TLS record
/// at most 16 KiB, and the buffer is shared by all connections, so it may be large.
const READ_BUFFER: usize = 256 * 1024;
/// Events taken from the kernel in one call. A publication to 5,000 subscribers makes thousands due at once.
const EVENTS: usize = 1024;
/// A server that accepts on its one core while it shakes hands answers in milliseconds; in five seconds it is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server has closed its side, or the connection is broken: there may be more to read than the data.
const ENDED: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);

/// Carries out `options` over TLS connections that speak `C`.
///
/// # Errors
/// A connection failed, or the server's process is gone.
pub fn run<C: Codec>(options: &Options) -> Result<Report> {
    let tls = tls::Client::new(&[], false)?.config;
    stream_load::run(options, Engine::<C>::new(tls)?)
}

/// The connections, and the thread's wait for them.
pub struct Engine<C> {
    epoll: OwnedFd,
    links: Vec<Option<Link<C>>>,
    tls: Arc<ClientConfig>,
    events: Vec<epoll::Event>,
    read_buffer: Vec<u8>,
}

/// One connection.
struct Link<C> {
    pipe: Pipe<C>,
    socket: TcpStream,
    stage: Stage,
    /// Taken out while what it has decrypted is read.
    session: Option<Box<ClientConnection>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Clear,
    /// The greeting is over; the engine starts TLS when it has been read.
    TlsWanted,
    Handshake,
    Secure,
}

// The kernel's events have no Debug.
impl<C> fmt::Debug for Engine<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut engine = formatter.debug_struct("Engine");
        engine.field("links", &self.links.len());
        engine.finish_non_exhaustive()
    }
}

impl<C: Codec> Carrier<C> for Engine<C> {
    /// The connect itself blocks: on one machine that is one round trip of the kernel's, and fewer are in flight than any
    /// server's backlog.
    fn connect(&mut self, address: SocketAddr, pipe: Pipe<C>) -> Result<()> {
        let index = self.links.len();
        let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).with_context(|| {
            format!("connection {index} to {address}: does the server run, is its backlog full?")
        })?;
        socket.set_nodelay(true).context("set TCP_NODELAY")?;
        socket
            .set_nonblocking(true)
            .context("set the socket to non-blocking")?;
        let data = epoll::EventData::new_u64(index as u64);
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, data, interest)
            .with_context(|| format!("watch connection {index}"))?;
        let (stage, session) = if C::TLS_FIRST {
            (Stage::Handshake, Some(self.session()?))
        } else {
            (Stage::Clear, None)
        };
        // The first event says that the socket takes data, and begins the handshake.
        self.links.push(Some(Link {
            pipe,
            socket,
            stage,
            session,
        }));
        Ok(())
    }

    fn turn(&mut self, until: Nanos, load: &mut Load) -> Result<()> {
        let wait = until.saturating_sub(clock::now());
        let timeout = Timespec {
            tv_sec: (wait / SECOND).cast_signed(),
            tv_nsec: (wait % SECOND).cast_signed(),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for connections"),
        }
        for event in &events {
            let (index, flags) = (event.data.u64() as usize, event.flags);
            self.with_link(index, load, |engine, link, load| {
                engine.serve(link, flags, load)
            });
        }
        self.events = events;
        Ok(())
    }

    fn pipe(&mut self, index: usize) -> Option<&mut Pipe<C>> {
        let link = self.links.get_mut(index)?.as_mut()?;
        Some(&mut link.pipe)
    }

    fn flush(&mut self, index: usize, load: &mut Load) {
        self.with_link(index, load, |_, link, _| link.flush());
    }
}

impl<C: Codec> Engine<C> {
    /// An engine whose connections share `tls`, and with it its store of session tickets.
    ///
    /// # Errors
    /// The kernel has no epoll instance left.
    pub fn new(tls: ClientConfig) -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("make an epoll instance")?,
            links: Vec::new(),
            tls: Arc::new(tls),
            events: Vec::with_capacity(EVENTS),
            read_buffer: vec![0; READ_BUFFER],
        })
    }

    /// Takes the connection out of its place, so that it and the engine can be borrowed at once, and puts it back unless
    /// `act` fails.
    fn with_link(
        &mut self,
        index: usize,
        load: &mut Load,
        act: impl FnOnce(&mut Self, &mut Link<C>, &mut Load) -> Result<()>,
    ) {
        let Some(mut link) = self.links.get_mut(index).and_then(Option::take) else {
            return;
        };
        match act(self, &mut link, load) {
            Ok(()) => self.links[index] = Some(link),
            Err(error) => load.closed(&link.pipe, error),
        }
    }

    fn serve(&mut self, link: &mut Link<C>, flags: EventFlags, load: &mut Load) -> Result<()> {
        if flags.intersects(EventFlags::OUT) {
            link.flush()?;
        }
        if link.pipe.stalled || !flags.intersects(EventFlags::IN.union(ENDED)) {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let read = self.read(link, &mut buffer, flags.intersects(ENDED), load);
        self.read_buffer = buffer;
        read
    }

    fn read(
        &mut self,
        link: &mut Link<C>,
        buffer: &mut [u8],
        ended: bool,
        load: &mut Load,
    ) -> Result<()> {
        loop {
            let length = match link.socket.read(buffer) {
                Ok(0) => bail!("the server has closed the connection"),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("read from the server"),
            };
            link.receive(&buffer[..length], load)?;
            if link.stage == Stage::TlsWanted {
                link.session = Some(self.session()?);
                link.stage = Stage::Handshake;
            }
            link.flush()?;
            // A short read has emptied the socket: epoll(7) reports what comes after it.
            if length < buffer.len() && !ended {
                return Ok(());
            }
        }
    }

    fn session(&self) -> Result<Box<ClientConnection>> {
        let name = ServerName::try_from("localhost").context("the name of the server")?;
        let tls = Arc::<ClientConfig>::clone(&self.tls);
        let mut session = ClientConnection::new(tls, name).context("make a TLS session")?;
        // Bounded by what the schedule publishes; a limit would truncate a burst without a word.
        session.set_buffer_limit(None);
        Ok(Box::new(session))
    }
}

impl<C: Codec> Link<C> {
    fn receive(&mut self, mut bytes: &[u8], load: &mut Load) -> Result<()> {
        let Some(mut session) = self.session.take() else {
            return self.deliver(bytes, load);
        };
        while !bytes.is_empty() {
            session
                .read_tls(&mut bytes)
                .context("take in TLS records")?;
            session
                .process_new_packets()
                .context("read TLS records: does the server speak TLS 1.3?")?;
            if self.stage == Stage::Handshake && !session.is_handshaking() {
                self.stage = Stage::Secure;
                self.pipe.open();
            }
            self.drain(&mut session, load)?;
        }
        self.session = Some(session);
        Ok(())
    }

    fn drain(&mut self, session: &mut ClientConnection, load: &mut Load) -> Result<()> {
        let mut reader = session.reader();
        loop {
            let length = match reader.fill_buf() {
                Ok([]) => bail!("the server has ended the TLS session"),
                Ok(plain) => {
                    self.deliver(plain, load)?;
                    plain.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("read from the TLS session"),
            };
            reader.consume(length);
        }
    }

    fn deliver(&mut self, bytes: &[u8], load: &mut Load) -> Result<()> {
        if self.pipe.receive(0, bytes, load)? {
            self.stage = Stage::TlsWanted;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let outgoing = &mut self.pipe.outgoing;
        let Some(session) = &mut self.session else {
            let written = write_some(&mut self.socket, outgoing)?;
            outgoing.drain(..written);
            return Ok(());
        };
        if self.stage == Stage::Secure && !outgoing.is_empty() {
            session.writer().write_all(outgoing).context("encrypt")?;
            outgoing.clear();
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
            Err(error) => return Err(error).context("write to the server"),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests;

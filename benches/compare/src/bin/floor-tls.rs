//! The floor of TLS over TCP: rustls and one thread, without a broker. A client says which channels it wants, in the protocol of
//! Tidings on the one connection; then every tick is one write to each.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
};
use rustls::{ServerConfig, ServerConnection};
use tidings_compare::{
    clock::{self, Nanos, SECOND},
    floor::Options,
    process,
    schedule::Schedule,
    tls,
    wire::{self, Frames, Reader, kind},
};

/// The listener among the numbers of clients.
const LISTENER: u64 = u64::MAX;
/// Events that are taken at a time.
const EVENTS: usize = 1024;
/// More than a tick of the longest scenario: a client that leaves so much unread fails the run.
const BACKLOG: usize = 16 << 20;

fn main() -> Result<()> {
    let options = Options::parse();
    process::permit_files()?;
    let mut server = Server::bind(options)?;
    println!("listening {}", server.listener.local_addr()?);
    let mut schedule: Option<Schedule> = None;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let next = schedule.as_ref().and_then(Schedule::next);
        server.wait(&mut events, next)?;
        for event in &events {
            match event.data.u64() {
                LISTENER => server.accept()?,
                index => server.serve(index as usize),
            }
        }
        if let Some(schedule) = &mut schedule {
            while let Some((tick, intended)) = schedule.take(clock::now()) {
                server.publish(tick, intended)?;
            }
        } else if server.is_complete() {
            schedule = Some(server.options.schedule());
        }
    }
}

struct Server {
    options: Options,
    epoll: OwnedFd,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    clients: Vec<Option<Client>>,
}

struct Client {
    socket: TcpStream,
    tls: ServerConnection,
    frames: Frames,
    channels: usize,
}

impl Server {
    fn bind(options: Options) -> Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, options.port);
        let listener = TcpListener::bind(address).context("bind a TCP socket")?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let server = Self {
            options,
            epoll,
            listener,
            tls: Arc::new(tls::server(&[])?),
            clients: Vec::new(),
        };
        server.watch(&server.listener, LISTENER, EventFlags::IN)?;
        Ok(server)
    }

    fn watch(&self, socket: impl AsFd, number: u64, flags: EventFlags) -> Result<()> {
        let data = EventData::new_u64(number);
        epoll::add(&self.epoll, socket, data, flags).context("watch a socket")
    }

    /// Waits for events, or until a time.
    fn wait(&self, events: &mut Vec<Event>, until: Option<Nanos>) -> Result<()> {
        let timeout = until.map(|until| {
            let wait = until.saturating_sub(clock::now());
            Timespec {
                tv_sec: (wait / SECOND).cast_signed(),
                tv_nsec: (wait % SECOND).cast_signed(),
            }
        });
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("wait for sockets"),
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accept a connection"),
            };
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            self.watch(&socket, self.clients.len() as u64, flags)?;
            let mut tls = ServerConnection::new(Arc::clone(&self.tls))?;
            tls.set_buffer_limit(Some(BACKLOG));
            self.clients.push(Some(Client {
                socket,
                tls,
                frames: Frames::default(),
                channels: 0,
            }));
        }
    }

    /// Reads and writes what a client has for us. One that fails is missed by the load, which says so.
    fn serve(&mut self, index: usize) {
        let Some(Some(client)) = self.clients.get_mut(index) else {
            return;
        };
        if client.read().and_then(|()| client.flush()).is_err() {
            self.clients[index] = None;
        }
    }

    fn is_complete(&self) -> bool {
        let Options {
            connections,
            channels,
            ..
        } = self.options;
        let there = self.clients.iter().flatten();
        connections > 0 && there.filter(|client| client.channels == channels).count() == connections
    }

    fn publish(&mut self, tick: u64, intended: Nanos) -> Result<()> {
        let bytes = self.options.frames(tick, intended).concat().concat();
        for client in self.clients.iter_mut().flatten() {
            client.tls.writer().write_all(&bytes)?;
            client.flush()?;
        }
        Ok(())
    }
}

impl Client {
    fn read(&mut self) -> Result<()> {
        let mut plain = [0; 4096];
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => bail!("the client is gone"),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            self.tls.process_new_packets()?;
            while let Ok(count @ 1..) = self.tls.reader().read(&mut plain) {
                self.answer(&plain[..count])?;
            }
        }
    }

    fn answer(&mut self, piece: &[u8]) -> Result<()> {
        let mut answers = Vec::new();
        self.frames.read(piece, |kind, body| {
            if kind == kind::HELLO {
                answers.extend(wire::welcome(1));
            } else if kind == kind::SUBSCRIBE {
                self.channels += 1;
                let request = Reader(body).integer()?;
                answers.extend(wire::subscribed(request, self.channels as u64));
            }
            Ok(())
        })?;
        self.tls.writer().write_all(&answers)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

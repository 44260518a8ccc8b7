//! A UDP socket that takes whole batches: what a QUIC client and the floor of UDP read and write with.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use anyhow::{Context, Result};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force},
};

use crate::clock::{self, Nanos, SECOND};

/// Room for what comes while one batch is read: a fan-out to 5,000 connections is that many datagrams at once, and the kernel
/// accounts 768 bytes or more for each.
const BUFFER: usize = 16 << 20;
/// Batches that are read before what they brought is worked on: more of them delay acknowledgements, fewer cost more calls.
const BATCHES: usize = 4;
/// Longest datagram: the path of a run has an MTU of 1500.
const DATAGRAM: usize = 1500;

/// A UDP socket on loopback.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    input: Vec<u8>,
    received: u64,
    sent: u64,
}

impl Socket {
    /// Binds a port; 0 takes a free one.
    ///
    /// # Errors
    /// It is not to be had.
    pub fn bind(port: u16) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).context("bind a UDP socket")?;
        let state = UdpSocketState::new((&socket).into()).context("set up a UDP socket")?;
        if set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            // Without the right to it, what the system allows must do.
            let _ = state.set_recv_buffer_size((&socket).into(), BUFFER);
        }
        let _ = set_socket_send_buffer_size_force(&socket, BUFFER);
        Ok(Self {
            input: vec![0; DATAGRAM * state.gro_segments() * BATCH_SIZE],
            received: 0,
            sent: 0,
            socket,
            state,
        })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Segments that one send may have.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Whether datagrams may be fragmented on their way, so that no MTU can be found out.
    #[must_use]
    pub fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Datagrams that came.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Datagrams that were sent.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Waits until a time for something to read, and says whether there is.
    ///
    /// # Errors
    /// The socket fails.
    pub fn wait(&self, until: Nanos) -> Result<bool> {
        let wait = until.saturating_sub(clock::now());
        let timeout = Timespec {
            tv_sec: (wait / SECOND).cast_signed(),
            tv_nsec: (wait % SECOND).cast_signed(),
        };
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("wait for the UDP socket"),
        }
    }

    /// Reads what is there, up to a bound.
    ///
    /// # Errors
    /// The socket fails.
    pub fn receive(&mut self, mut on_datagram: impl FnMut(&RecvMeta, &[u8])) -> Result<()> {
        let room = self.input.len() / BATCH_SIZE;
        for _ in 0..BATCHES {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let mut chunks = self.input.chunks_exact_mut(room);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let received = self
                .state
                .recv((&self.socket).into(), &mut slices, &mut metas);
            let count = match received {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP answer to something sent before: who sent it has timers of its own.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error).context("read the UDP socket"),
            };
            for (meta, data) in metas[..count].iter().zip(self.input.chunks_exact(room)) {
                for datagram in data[..meta.len].chunks(meta.stride.max(1)) {
                    self.received += 1;
                    on_datagram(meta, datagram);
                }
            }
            if count < BATCH_SIZE {
                break;
            }
        }
        Ok(())
    }

    /// Sends. What the socket does not take is lost, as on any network.
    pub fn send(&mut self, transmit: &Transmit<'_>) {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        self.sent += transmit.contents.len().div_ceil(segment.max(1)) as u64;
        let _ = self.state.try_send((&self.socket).into(), transmit);
    }
}

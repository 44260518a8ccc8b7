//! The worker's UDP socket, with what the system offers to send and receive many datagrams at a time.

use std::{
    io::{self, IoSliceMut},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use quinn::udp;
use quinn_proto::{EcnCodepoint, Transmit};
use tokio::io::Interest;

use super::port::Datagram;

/// Reads of one system call.
pub(super) const BATCH: usize = udp::BATCH_SIZE;
/// Longest datagram that we take. QUIC over the Internet stays below 1,500; a client may send more on a network that carries it,
/// but only where we say so, and we do not.
const MAX_DATAGRAM: usize = 1500;
/// Asked of the system for each direction; it gives what `net.core.rmem_max` and `wmem_max` allow. Enough for an answer of each of
/// 5,000 clients to one publication.
const BUFFER: usize = 4 << 20;

pub(super) struct Socket {
    io: tokio::net::UdpSocket,
    state: udp::UdpSocketState,
    /// Bytes for each read of a batch.
    read: usize,
}

/// Datagrams of one system call.
pub(super) struct Received {
    buffer: Vec<u8>,
    metas: [udp::RecvMeta; BATCH],
}

impl Received {
    /// Room for the reads of `socket`.
    pub(super) fn new(socket: &Socket) -> Self {
        const NONE: udp::RecvMeta = udp::RecvMeta {
            addr: std::net::SocketAddr::new(
                std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
                0,
            ),
            len: 0,
            stride: 0,
            ecn: None,
            dst_ip: None,
        };
        Self {
            buffer: vec![0; socket.read * BATCH],
            metas: [NONE; BATCH],
        }
    }

    /// What the first `count` reads got; one read may hold several datagrams.
    pub(super) fn datagrams(&self, count: usize) -> impl Iterator<Item = Datagram> + '_ {
        let read = self.buffer.len() / BATCH;
        self.metas[..count]
            .iter()
            .enumerate()
            .flat_map(move |(index, meta)| {
                let bytes = &self.buffer[index * read..index * read + meta.len];
                bytes.chunks(meta.stride.max(1)).map(|bytes| Datagram {
                    remote: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn: meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
                    data: BytesMut::from(bytes),
                })
            })
    }
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = udp::UdpSocketState::new((&socket).into())?;
        // As much as the system allows.
        let _ = state.set_recv_buffer_size((&socket).into(), BUFFER);
        let _ = state.set_send_buffer_size((&socket).into(), BUFFER);
        let read = MAX_DATAGRAM * state.gro_segments();
        Ok(Self {
            io: tokio::net::UdpSocket::from_std(socket)?,
            state,
            read,
        })
    }

    /// Datagrams that one call may send.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// One system call; the number of reads that got something.
    pub(super) fn receive(&self, into: &mut Received) -> usize {
        let mut buffers = into.buffer.chunks_mut(self.read).map(IoSliceMut::new);
        let mut buffers: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        // Not through the runtime, which asks the system for readiness only now and then while there is work.
        match self
            .state
            .recv((&self.io).into(), &mut buffers, &mut into.metas)
        {
            Ok(count) => count,
            Err(error) => {
                // ECONNRESET and the like can be made by anybody on the way: they mean nothing.
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%error, "nothing was received");
                }
                // What comes from here on raises the readiness again.
                let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _ = self.io.try_io(Interest::READABLE, nothing);
                0
            }
        }
    }

    pub(super) fn send(&self, transmit: &Transmit, bytes: &[u8]) -> io::Result<()> {
        let transmit = udp::Transmit {
            destination: transmit.destination,
            ecn: transmit
                .ecn
                .and_then(|ecn| udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &bytes[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.io).into(), &transmit)
        })
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is found again by the next read.
        let _ = ready!(self.io.poll_recv_ready(cx));
        Poll::Ready(())
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = ready!(self.io.poll_send_ready(cx));
        Poll::Ready(())
    }
}

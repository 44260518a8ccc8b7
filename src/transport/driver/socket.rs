//! The worker's UDP socket, with what the system offers to send and receive many datagrams at a time.

use std::{
    future::Future,
    io::{self, IoSliceMut},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use quinn::udp;
use quinn_proto::{EcnCodepoint, Transmit};
use tokio::{
    io::Interest,
    time::{Instant, Sleep, sleep},
};

use super::port::Datagram;

/// Reads of one system call.
pub(super) const BATCH: usize = udp::BATCH_SIZE;
/// Longest datagram that we take. QUIC over the Internet stays below 1,500; a client may send more on a network that carries it,
/// but only where we say so, and we do not.
const MAX_DATAGRAM: usize = 1500;
/// Asked of the system for each direction; it gives what `net.core.rmem_max` and `wmem_max` allow. Enough for an answer of each of
/// 5,000 clients to one publication.
pub(in crate::transport) const BUFFER: usize = 4 << 20;

/// Reads that fail one after the other before the socket is left alone. What somebody on the way can make fails one.
const FAILURES: usize = 8;
/// How long it is left alone then: a worker that can read nothing neither spins nor stays deaf.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Socket {
    io: tokio::net::UdpSocket,
    state: udp::UdpSocketState,
    /// Bytes for each read of a batch.
    read: usize,
    /// The system does not split what is sent at once, though it said so.
    refuses_segments: bool,
    /// Nothing is read until then, because reads fail.
    pause: Option<Pin<Box<Sleep>>>,
    /// The last look at it ended with a pause.
    fails: bool,
    #[cfg(test)]
    pub(super) faults: faults::Faults,
}

/// The socket takes no more for now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// Bytes that it took before: whole datagrams.
    pub(super) sent: usize,
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
            refuses_segments: false,
            pause: None,
            fails: false,
            #[cfg(test)]
            faults: faults::Faults::default(),
        })
    }

    /// Datagrams that one call may send.
    pub(super) fn max_segments(&self) -> usize {
        if self.refuses_segments {
            1
        } else {
            self.state.max_gso_segments()
        }
    }

    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Reads what there is, mostly with one system call; the number of reads that got something.
    pub(super) fn receive(&mut self, into: &mut Received) -> usize {
        if let Some(pause) = &self.pause {
            if Instant::now() < pause.deadline() {
                return 0;
            }
            self.pause = None;
        }
        let mut failures = 0;
        let error = loop {
            match self.read(into) {
                // ECONNRESET and the like can be made by anybody on the way: they mean nothing, and what stands behind them is read.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    tracing::debug!(%error, "a read failed");
                    failures += 1;
                    if failures == FAILURES {
                        break error;
                    }
                }
                read => {
                    if std::mem::take(&mut self.fails) {
                        tracing::warn!("the socket can be read again");
                    }
                    return read.unwrap_or(0);
                }
            }
        };
        if !std::mem::replace(&mut self.fails, true) {
            let pause = PAUSE.as_millis();
            tracing::error!(%error, "the socket cannot be read; it is tried again every {pause} ms");
        }
        self.pause = Some(Box::pin(sleep(PAUSE)));
        0
    }

    /// One system call.
    fn read(&mut self, into: &mut Received) -> io::Result<usize> {
        #[cfg(test)]
        self.faults.read()?;
        let mut buffers = into.buffer.chunks_mut(self.read).map(IoSliceMut::new);
        let mut buffers: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        // Not through the runtime, which asks the system for readiness only now and then while there is work.
        let read = self
            .state
            .recv((&self.io).into(), &mut buffers, &mut into.metas);
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            // What comes from here on raises the readiness again.
            let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.io.try_io(Interest::READABLE, nothing);
        }
        read
    }

    /// Sends what stands at the front of `bytes`. What the system refuses for another reason than that it takes no more now is lost
    /// like any packet.
    ///
    /// # Errors
    /// [`Blocked`]: the rest is to be sent later.
    pub(super) fn send(&mut self, transmit: &Transmit, bytes: &[u8]) -> Result<(), Blocked> {
        let bytes = &bytes[..transmit.size];
        let segment = transmit.segment_size.filter(|size| *size < bytes.len());
        if segment.is_none() || !self.refuses_segments {
            match self.write(transmit, bytes, segment) {
                Err(error) if segment.is_some() && says_no_segments(&error) => {
                    tracing::info!(%error, "the system splits nothing after all; datagrams are sent one by one");
                    self.refuses_segments = true;
                }
                written => return settle(written, 0),
            }
        }
        let mut sent = 0;
        for datagram in bytes.chunks(segment.unwrap_or(bytes.len()).max(1)) {
            settle(self.write(transmit, datagram, None), sent)?;
            sent += datagram.len();
        }
        Ok(())
    }

    /// One system call.
    fn write(
        &mut self,
        transmit: &Transmit,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = udp::Transmit {
            destination: transmit.destination,
            ecn: transmit
                .ecn
                .and_then(|ecn| udp::EcnCodepoint::from_bits(ecn as u8)),
            contents,
            segment_size,
            src_ip: transmit.src_ip,
        };
        #[cfg(test)]
        self.faults.write(&transmit)?;
        self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.io).into(), &transmit)
        })
    }

    /// Ready when there may be something to [`receive`](Self::receive).
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            return Poll::Ready(());
        }
        // An error is found again by the next read.
        let _ = ready!(self.io.poll_recv_ready(cx));
        Poll::Ready(())
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = ready!(self.io.poll_send_ready(cx));
        Poll::Ready(())
    }
}

/// Whether this is how Linux says that a network card, its driver or the way there does not split.
fn says_no_segments(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EINVAL: i32 = 22;
    matches!(error.raw_os_error(), Some(EIO | EINVAL))
}

fn settle(written: io::Result<()>, sent: usize) -> Result<(), Blocked> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Blocked { sent }),
        Err(error) => {
            tracing::debug!(%error, "a datagram was not sent");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// What the system is made to say in tests.
#[cfg(test)]
pub(in crate::transport) mod faults {
    use std::{fmt, io};

    use quinn::udp;

    type Write = Box<dyn FnMut(&udp::Transmit<'_>) -> io::Result<()> + Send>;
    type Read = Box<dyn FnMut() -> io::Result<()> + Send>;

    /// Each is asked before the system, which then is not if it fails.
    #[derive(Default)]
    pub(in crate::transport) struct Faults {
        pub(in crate::transport) write: Option<Write>,
        pub(in crate::transport) read: Option<Read>,
    }

    impl Faults {
        pub(super) fn write(&mut self, transmit: &udp::Transmit<'_>) -> io::Result<()> {
            self.write.as_mut().map_or(Ok(()), |write| write(transmit))
        }

        pub(super) fn read(&mut self) -> io::Result<()> {
            self.read.as_mut().map_or(Ok(()), |read| read())
        }
    }

    impl fmt::Debug for Faults {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Faults").finish_non_exhaustive()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, UdpSocket},
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;

    fn pair() -> (Socket, UdpSocket) {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = bind();
        // What is lost fails the test instead of hanging it.
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        (Socket::new(bind()).unwrap(), peer)
    }

    fn transmit(to: &UdpSocket, size: usize, segment: usize) -> Transmit {
        Transmit {
            destination: to.local_addr().unwrap(),
            ecn: None,
            size,
            segment_size: Some(segment),
            src_ip: None,
        }
    }

    /// Refuses segments with `code`, and says once that it takes no more, after `most` datagrams. Returns how often segments
    /// were refused.
    fn refuse_segments(socket: &mut Socket, code: i32, most: usize) -> Arc<AtomicUsize> {
        let refused = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&refused);
        let mut calls = 0;
        socket.faults.write = Some(Box::new(move |transmit| {
            if transmit.segment_size.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
                return Err(io::Error::from_raw_os_error(code));
            }
            calls += 1;
            if calls == most + 1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        }));
        refused
    }

    async fn writable(socket: &Socket) {
        std::future::poll_fn(|cx| socket.poll_writable(cx)).await;
    }

    fn arrived(at: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let one = |_| {
            let mut buffer = [0; 2000];
            let size = at.recv(&mut buffer).unwrap();
            buffer[..size].to_vec()
        };
        (0..count).map(one).collect()
    }

    #[tokio::test]
    async fn what_is_not_split_by_the_system_is_sent_one_by_one_and_whole() {
        for code in [5, 22] {
            let (mut socket, peer) = pair();
            let refused = refuse_segments(&mut socket, code, usize::MAX - 1);
            writable(&socket).await;
            let bytes: Vec<u8> = (0..250).collect();
            for _ in 0..2 {
                let transmit = transmit(&peer, bytes.len(), 100);
                assert_eq!(socket.send(&transmit, &bytes), Ok(()));
                let sent = [&bytes[..100], &bytes[100..200], &bytes[200..]];
                assert_eq!(arrived(&peer, 3), sent);
            }
            assert_eq!(socket.max_segments(), 1);
            assert_eq!(refused.load(Ordering::Relaxed), 1, "it is not asked again");
        }
    }

    #[tokio::test]
    async fn a_socket_that_takes_no_more_midway_is_given_the_rest_later() {
        let (mut socket, peer) = pair();
        refuse_segments(&mut socket, 5, 2);
        writable(&socket).await;
        let bytes: Vec<u8> = (0..250).collect();
        let whole = transmit(&peer, bytes.len(), 100);
        assert_eq!(socket.send(&whole, &bytes), Err(Blocked { sent: 200 }));
        let rest = transmit(&peer, 50, 100);
        assert_eq!(socket.send(&rest, &bytes[200..]), Ok(()));
        let sent = [&bytes[..100], &bytes[100..200], &bytes[200..]];
        assert_eq!(arrived(&peer, 3), sent);
    }

    #[tokio::test]
    async fn one_read_that_fails_hides_nothing() {
        let (mut socket, peer) = pair();
        let mut first = Some(io::ErrorKind::ConnectionReset);
        socket.faults.read = Some(Box::new(move || {
            first.take().map_or(Ok(()), |kind| Err(kind.into()))
        }));
        let to = socket.io.local_addr().unwrap();
        peer.send_to(b"x", to).unwrap();
        let mut received = Received::new(&socket);
        assert_eq!(socket.receive(&mut received), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_cannot_be_read_is_tried_again_at_leisure() {
        const PAUSES: usize = 50;
        let (mut socket, peer) = pair();
        let fails = Arc::new(Mutex::new(true));
        let tries = Arc::new(AtomicUsize::new(0));
        let (failing, count) = (Arc::clone(&fails), Arc::clone(&tries));
        socket.faults.read = Some(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            match *failing.lock().unwrap() {
                true => Err(io::ErrorKind::OutOfMemory.into()),
                false => Ok(()),
            }
        }));
        let to = socket.io.local_addr().unwrap();
        peer.send_to(b"x", to).unwrap();
        let mut received = Received::new(&socket);
        let start = Instant::now();
        for _ in 0..PAUSES {
            assert_eq!(socket.receive(&mut received), 0);
            // Somebody else has work for the worker meanwhile.
            assert_eq!(socket.receive(&mut received), 0);
            let readable = std::future::poll_fn(|cx| socket.poll_readable(cx));
            let told = tokio::time::timeout(PAUSE * 2, readable).await;
            told.expect("it is looked at again though nothing more arrives");
        }
        assert!(start.elapsed() >= PAUSE * PAUSES as u32);
        assert_eq!(tries.load(Ordering::Relaxed), FAILURES * PAUSES);
        *fails.lock().unwrap() = false;
        assert_eq!(socket.receive(&mut received), 1);
        assert_eq!(received.datagrams(1).next().unwrap().data, &b"x"[..]);
    }
}

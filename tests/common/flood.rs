//! Clients that take what others need.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig,
    crypto::rustls::QuicClientConfig,
};

use super::raw::client_crypto;

/// First packets of QUIC connections, all from one socket, that proves its address where it is asked to and never says more.
pub(crate) struct Initials {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicUsize,
    retries: AtomicUsize,
}

/// Most first packets of one flood.
const MAX_INITIALS: usize = 20_000;

impl Initials {
    /// Sends a first packet at every `pace`. `proves`: whether it answers a Retry.
    pub(crate) fn start(server: SocketAddr, alpn: &[u8], pace: Duration, proves: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let mut flood = Flood {
            socket: UdpSocket::bind(("127.0.0.1", 0)).unwrap(),
            server,
            config: ClientConfig::new(Arc::new(
                QuicClientConfig::try_from(client_crypto(&[alpn])).unwrap(),
            )),
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None),
            open: Vec::new(),
            counts: Arc::clone(&counts),
        };
        flood.socket.set_nonblocking(true).unwrap();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for _ in 0..MAX_INITIALS {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                flood.begin();
                flood.hear(proves);
                std::thread::sleep(pace);
            }
        });
        Self {
            stop,
            counts,
            thread: Some(thread),
        }
    }

    pub(crate) fn sent(&self) -> usize {
        self.counts.sent.load(Ordering::SeqCst)
    }

    pub(crate) fn retries(&self) -> usize {
        self.counts.retries.load(Ordering::SeqCst)
    }
}

impl Drop for Initials {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Flood {
    socket: UdpSocket,
    server: SocketAddr,
    config: ClientConfig,
    endpoint: Endpoint,
    /// The latest, which may be sent a Retry.
    open: Vec<(ConnectionHandle, Connection)>,
    counts: Arc<Counts>,
}

impl Flood {
    fn begin(&mut self) {
        let now = Instant::now();
        let config = self.config.clone();
        let begun = self.endpoint.connect(now, config, self.server, "localhost");
        let (handle, mut connection) = begun.unwrap();
        Self::send(&self.socket, self.server, &mut connection);
        self.counts.sent.fetch_add(1, Ordering::SeqCst);
        self.open.push((handle, connection));
        if self.open.len() > 64 {
            let (handle, _) = self.open.remove(0);
            let drained = quinn_proto::EndpointEvent::drained();
            self.endpoint.handle_event(handle, drained);
        }
    }

    fn send(socket: &UdpSocket, server: SocketAddr, connection: &mut Connection) {
        let mut packet = Vec::new();
        let now = Instant::now();
        while connection.poll_transmit(now, 1, &mut packet).is_some() {
            // A full buffer is a lost packet.
            drop(socket.send_to(&packet, server));
            packet.clear();
        }
    }

    fn hear(&mut self, proves: bool) {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            // RFC 9000 §17.2: long header, fixed bit, type 3.
            if buffer[0] & 0xf0 != 0xf0 {
                continue;
            }
            self.counts.retries.fetch_add(1, Ordering::SeqCst);
            if !proves {
                continue;
            }
            let (now, data) = (Instant::now(), buffer[..length].into());
            let mut answer = Vec::new();
            let heard = self
                .endpoint
                .handle(now, from, None, None, data, &mut answer);
            if let Some(DatagramEvent::ConnectionEvent(handle, event)) = heard
                && let Some((_, connection)) =
                    self.open.iter_mut().find(|(known, _)| *known == handle)
            {
                connection.handle_event(event);
                Self::send(&self.socket, self.server, connection);
            }
        }
    }
}

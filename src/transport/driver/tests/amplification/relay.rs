//! Passes on the datagrams of one client, from addresses that the test chooses, and counts bytes at each of them.

use std::sync::{Mutex, atomic::AtomicBool};

use tokio::sync::Notify;

use super::*;

/// What the server sees as one address of the client.
struct Path {
    socket: UdpSocket,
    /// What arrives here does not reach the client.
    spoofed: bool,
    /// Bytes, and datagrams.
    sent: AtomicUsize,
    datagrams: AtomicUsize,
    received: AtomicUsize,
    /// Bytes that were received before anything large was sent, as a validated client does.
    first: AtomicUsize,
    validated: AtomicBool,
}

struct State {
    front: UdpSocket,
    server: SocketAddr,
    client: Mutex<Option<SocketAddr>>,
    paths: Mutex<Vec<Arc<Path>>>,
    counted: Notify,
}

pub(super) struct Relay {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    tasks: Mutex<JoinSet<()>>,
}

impl Relay {
    pub(super) async fn new(server: SocketAddr) -> Self {
        let front = socket().await;
        let address = front.local_addr().unwrap();
        let state = Arc::new(State {
            front,
            server,
            client: Mutex::default(),
            paths: Mutex::default(),
            counted: Notify::new(),
        });
        let relay = Self {
            address,
            state: Arc::clone(&state),
            tasks: Mutex::default(),
        };
        relay.rebind().await;
        relay
            .tasks
            .lock()
            .unwrap()
            .spawn(async move { state.forward().await });
        relay
    }

    /// From now on the client is at a new address.
    pub(super) async fn rebind(&self) {
        self.add(false).await;
    }

    /// From now on the client's packets come from an address where it is not.
    pub(super) async fn spoof(&self) {
        self.add(true).await;
    }

    async fn add(&self, spoofed: bool) {
        let path = Arc::new(Path {
            socket: socket().await,
            spoofed,
            sent: AtomicUsize::new(0),
            datagrams: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            validated: AtomicBool::new(false),
        });
        self.state.paths.lock().unwrap().push(Arc::clone(&path));
        let state = Arc::clone(&self.state);
        self.tasks
            .lock()
            .unwrap()
            .spawn(async move { state.back(&path).await });
    }

    fn newest(&self) -> Arc<Path> {
        self.state.newest()
    }

    /// Waits until so many more datagrams were sent from the newest address.
    pub(super) async fn sent(&self, datagrams: usize) {
        let path = self.newest();
        let goal = path.datagrams.load(Ordering::SeqCst) + datagrams;
        self.until(|| path.datagrams.load(Ordering::SeqCst) >= goal)
            .await;
    }

    /// Waits until something arrived at the newest address.
    pub(super) async fn answered(&self) {
        let path = self.newest();
        self.until(|| path.received.load(Ordering::SeqCst) > 0)
            .await;
    }

    async fn until(&self, reached: impl Fn() -> bool) {
        let waiting = async {
            loop {
                let counted = self.state.counted.notified();
                if reached() {
                    return;
                }
                counted.await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("it is reached");
    }

    /// Bytes at spoofed addresses are within the limit.
    pub(super) fn check(&self, limit: usize, what: &str) {
        for path in self.state.paths.lock().unwrap().iter() {
            if path.spoofed {
                // What arrived is read first: more may be sent meanwhile, and only helps.
                let received = path.received.load(Ordering::SeqCst);
                let sent = path.sent.load(Ordering::SeqCst);
                assert!(
                    received <= limit * sent,
                    "{received} bytes for {sent}: {what}"
                );
            }
        }
    }

    /// Bytes at new addresses were within the limit until the client had answered there.
    pub(super) fn check_first(&self, limit: usize) {
        for path in self.state.paths.lock().unwrap().iter().skip(1) {
            let first = path.first.load(Ordering::SeqCst);
            assert_eq!(
                first, 0,
                "bytes above {limit} times those sent, before validation"
            );
        }
    }
}

impl State {
    fn newest(&self) -> Arc<Path> {
        Arc::clone(self.paths.lock().unwrap().last().unwrap())
    }

    async fn forward(&self) {
        let mut datagram = [0; 2000];
        loop {
            let (read, from) = self.front.recv_from(&mut datagram).await.unwrap();
            *self.client.lock().unwrap() = Some(from);
            let path = self.newest();
            // Counted before: an answer may come at once.
            path.sent.fetch_add(read, Ordering::SeqCst);
            path.datagrams.fetch_add(1, Ordering::SeqCst);
            // PATH_RESPONSE is padded.
            if read >= 1200 {
                path.validated.store(true, Ordering::SeqCst);
            }
            path.socket
                .send_to(&datagram[..read], self.server)
                .await
                .unwrap();
            self.counted.notify_waiters();
        }
    }

    async fn back(&self, path: &Path) {
        let mut datagram = [0; 2000];
        loop {
            let read = path.socket.recv(&mut datagram).await.unwrap();
            let received = path.received.fetch_add(read, Ordering::SeqCst) + read;
            let sent = path.sent.load(Ordering::SeqCst);
            if received > LIMIT * sent && !path.validated.load(Ordering::SeqCst) {
                path.first.store(received, Ordering::SeqCst);
            }
            self.counted.notify_waiters();
            let client = *self.client.lock().unwrap();
            if !path.spoofed
                && let Some(client) = client
            {
                self.front.send_to(&datagram[..read], client).await.unwrap();
            }
        }
    }
}

//! A way between one client and a server that can be held, and then loses or reorders what it held.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{net::UdpSocket, sync::watch, task::JoinSet};

/// Datagrams go both ways at once; those to the client are kept while it is [held](Self::hold). Dropping it cuts the way.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    near: Arc<UdpSocket>,
    state: Arc<Mutex<State>>,
    held: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    client: Option<SocketAddr>,
    holds: bool,
    held: Vec<Vec<u8>>,
}

impl Gate {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        far.connect(server).await.unwrap();
        let address = near.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let (count, held) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (near, far, state) = (Arc::clone(&near), Arc::clone(&far), Arc::clone(&state));
            async move {
                let mut buffer = [0; 2_000];
                while let Ok((length, from)) = near.recv_from(&mut buffer).await {
                    state.lock().unwrap().client = Some(from);
                    let _ = far.send(&buffer[..length]).await;
                }
            }
        });
        tasks.spawn({
            let (near, state) = (Arc::clone(&near), Arc::clone(&state));
            async move {
                let mut buffer = [0; 2_000];
                loop {
                    let length = match far.recv(&mut buffer).await {
                        Ok(length) => length,
                        // What was sent to a server that is gone.
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                        Err(_) => return,
                    };
                    let client = {
                        let mut state = state.lock().unwrap();
                        if state.holds {
                            state.held.push(buffer[..length].to_vec());
                            count.send_replace(state.held.len());
                            continue;
                        }
                        state.client
                    };
                    if let Some(client) = client {
                        let _ = near.send_to(&buffer[..length], client).await;
                    }
                }
            }
        });
        Self {
            address,
            near,
            state,
            held,
            _tasks: tasks,
        }
    }

    /// From now on nothing reaches the client.
    pub(crate) fn hold(&self) {
        self.state.lock().unwrap().holds = true;
    }

    /// Waits until so many are held.
    pub(crate) async fn holds(&mut self, count: usize) {
        self.held.wait_for(|held| *held >= count).await.unwrap();
    }

    /// Hands on what was held last.
    pub(crate) async fn hand_on_the_last(&self) {
        let (last, client) = {
            let mut state = self.state.lock().unwrap();
            (state.held.pop().unwrap(), state.client.unwrap())
        };
        self.near.send_to(&last, client).await.unwrap();
    }

    /// Hands on everything, and holds no more.
    pub(crate) async fn open(&self) {
        let (held, client) = {
            let mut state = self.state.lock().unwrap();
            state.holds = false;
            (std::mem::take(&mut state.held), state.client.unwrap())
        };
        for datagram in held {
            self.near.send_to(&datagram, client).await.unwrap();
        }
    }

    /// Loses everything that is held, and holds no more.
    pub(crate) fn lose(&self) {
        let mut state = self.state.lock().unwrap();
        state.holds = false;
        state.held.clear();
    }
}

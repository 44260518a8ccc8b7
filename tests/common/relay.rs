//! A way between one client and a server that carries so much and no more.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Datagrams of at most 2,000 bytes go both ways, those to the client at `rate`. Dropping it cuts the way.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// Datagrams that wait for their turn; what comes beyond that is lost, as on any way.
const QUEUE: usize = 100;

impl Relay {
    /// `rate` in bytes a second.
    pub(crate) async fn start(server: SocketAddr, rate: u32) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        far.connect(server).await.unwrap();
        let address = near.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let (client, mut clients) = tokio::sync::watch::channel(None);
        tasks.spawn({
            let (near, far) = (Arc::clone(&near), Arc::clone(&far));
            async move {
                let mut buffer = [0; 2_000];
                while let Ok((length, from)) = near.recv_from(&mut buffer).await {
                    client.send_replace(Some(from));
                    let _ = far.send(&buffer[..length]).await;
                }
            }
        });
        let (queue, mut waiting) = mpsc::channel::<Vec<u8>>(QUEUE);
        tasks.spawn(async move {
            let mut buffer = [0; 2_000];
            while let Ok(length) = far.recv(&mut buffer).await {
                let _ = queue.try_send(buffer[..length].to_vec());
            }
        });
        tasks.spawn(async move {
            let mut free = Instant::now();
            while let Some(datagram) = waiting.recv().await {
                free = free.max(Instant::now())
                    + Duration::from_secs(1) * datagram.len() as u32 / rate;
                sleep_until(free).await;
                let client = *clients.borrow_and_update();
                if let Some(client) = client {
                    let _ = near.send_to(&datagram, client).await;
                }
            }
        });
        Self {
            address,
            _tasks: tasks,
        }
    }
}

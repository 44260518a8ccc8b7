//! A way between one client and a server: it carries so much and no more, or treats datagrams as bad weather does, as a seed has it.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// What happens to datagrams on their way; the same both ways, but for the rate. Default: nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) seed: u64,
    /// Bytes a second towards the client; 0 is no limit.
    pub(crate) rate: u32,
    /// Of 1,000 datagrams so many are lost, come twice, or have one byte changed.
    pub(crate) lost: u32,
    pub(crate) twice: u32,
    pub(crate) changed: u32,
    /// Each is late by up to this much, so that they overtake each other.
    pub(crate) jitter: Duration,
}

/// What may become of a datagram, to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Came,
    Lost,
    Twice,
    Changed,
    /// It was sent on before one that came earlier.
    Overtaking,
    /// The first that came back to a port.
    Answered,
}

const FATES: usize = 6;

/// Datagrams of at most 2,000 bytes go both ways. Dropping it cuts the way.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    server: SocketAddr,
    far: watch::Sender<Arc<UdpSocket>>,
    fates: Arc<[AtomicU64; FATES]>,
    _tasks: JoinSet<()>,
}

/// Datagrams that wait for their turn where there is a rate; what comes beyond that is lost, as on any way.
const QUEUE: usize = 100;
/// The same where there is none.
const LATE: usize = 20_000;

impl Relay {
    /// Towards the client it carries `rate` bytes a second.
    pub(crate) async fn start(server: SocketAddr, rate: u32) -> Self {
        let weather = Weather {
            rate,
            ..Weather::default()
        };
        Self::through(server, weather).await
    }

    pub(crate) async fn through(server: SocketAddr, weather: Weather) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = near.local_addr().unwrap();
        let fates: Arc<[AtomicU64; FATES]> = Arc::default();
        let (far, fars) = watch::channel(far_socket(server).await);
        let (client, clients) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let up = Way::new(Weather { rate: 0, ..weather }, 0, &fates);
        tasks.spawn(up.run(
            {
                let near = Arc::clone(&near);
                async move |buffer: &mut [u8]| {
                    let (length, from) = near.recv_from(buffer).await?;
                    client.send_replace(Some(from));
                    Ok(length)
                }
            },
            {
                let fars = fars.clone();
                move |datagram: &[u8]| drop(fars.borrow().try_send(datagram))
            },
        ));
        let (mut fars, mut heard, counts) = (fars, None, Arc::clone(&fates));
        tasks.spawn(Way::new(weather, 1, &fates).run(
            async move |buffer: &mut [u8]| loop {
                let far = Arc::clone(&fars.borrow_and_update());
                tokio::select! {
                    // Of one that is not there any more nothing comes.
                    Ok(()) = fars.changed() => {}
                    received = far.recv(buffer) => {
                        let port = far.local_addr().ok();
                        if received.is_ok() && heard != port {
                            heard = port;
                            count(&counts, Fate::Answered);
                        }
                        return received;
                    }
                }
            },
            move |datagram: &[u8]| {
                if let Some(client) = *clients.borrow() {
                    drop(near.try_send_to(datagram, client));
                }
            },
        ));
        Self {
            address,
            server,
            far,
            fates,
            _tasks: tasks,
        }
    }

    /// From now on the server sees the client at another port, and what it sends to the one before is lost.
    pub(crate) async fn change_port(&self) {
        self.far.send_replace(far_socket(self.server).await);
    }

    /// How many had this fate until now.
    pub(crate) fn count(&self, fate: Fate) -> u64 {
        self.fates[fate as usize].load(Ordering::Relaxed)
    }
}

fn count(fates: &[AtomicU64; FATES], fate: Fate) {
    fates[fate as usize].fetch_add(1, Ordering::Relaxed);
}

async fn far_socket(server: SocketAddr) -> Arc<UdpSocket> {
    let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    far.connect(server).await.unwrap();
    Arc::new(far)
}

/// One direction.
struct Way {
    weather: Weather,
    fates: Arc<[AtomicU64; FATES]>,
    dice: StdRng,
    /// By the time at which they are due, and the order in which they came.
    waiting: BTreeMap<(Instant, u64), Vec<u8>>,
    came: u64,
    /// When the last that has its turn is through.
    free: Instant,
}

impl Way {
    fn new(weather: Weather, direction: u64, fates: &Arc<[AtomicU64; FATES]>) -> Self {
        Self {
            weather,
            fates: Arc::clone(fates),
            dice: StdRng::seed_from_u64(weather.seed.wrapping_mul(2).wrapping_add(direction)),
            waiting: BTreeMap::new(),
            came: 0,
            free: Instant::now(),
        }
    }

    async fn run(
        mut self,
        mut receive: impl AsyncFnMut(&mut [u8]) -> io::Result<usize>,
        send: impl Fn(&[u8]),
    ) {
        let mut buffer = [0; 2_000];
        loop {
            let first = self.waiting.first_key_value().map(|((due, _), _)| *due);
            tokio::select! {
                biased;
                () = sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {
                    if let Some(((_, number), datagram)) = self.waiting.pop_first() {
                        let overtakes = self.waiting.keys().any(|(_, other)| *other < number);
                        if overtakes {
                            count(&self.fates, Fate::Overtaking);
                        }
                        send(&datagram);
                    }
                }
                // A server that is not there yet is as good as a datagram that is lost.
                received = receive(&mut buffer) => if let Ok(length) = received {
                    self.take(&buffer[..length]);
                },
            }
        }
    }

    /// Rolls the dice the same number of times for each datagram, so that the n-th has the same fate for the same seed.
    fn take(&mut self, datagram: &[u8]) {
        let mut of_thousand = |many: u32| self.dice.random_range(0..1_000) < many;
        let [lost, twice, changed] =
            [self.weather.lost, self.weather.twice, self.weather.changed].map(&mut of_thousand);
        let (place, bit) = (self.dice.random::<u32>(), self.dice.random_range(0..8));
        let late = [self.dice.random::<f64>(), self.dice.random::<f64>()];
        count(&self.fates, Fate::Came);
        let fates = [
            (lost, Fate::Lost),
            (twice, Fate::Twice),
            (changed, Fate::Changed),
        ];
        for (_, fate) in fates.iter().filter(|(struck, _)| *struck) {
            count(&self.fates, *fate);
        }
        if lost {
            return;
        }
        let mut datagram = datagram.to_vec();
        if changed {
            let place = place as usize % datagram.len().max(1);
            if let Some(byte) = datagram.get_mut(place) {
                *byte ^= 1 << bit;
            }
        }
        for late in &late[..1 + usize::from(twice)] {
            self.queue(datagram.clone(), self.weather.jitter.mul_f64(*late));
        }
    }

    fn queue(&mut self, datagram: Vec<u8>, late: Duration) {
        let rate = self.weather.rate;
        let room = if rate == 0 { LATE } else { QUEUE };
        if self.waiting.len() >= room {
            return;
        }
        self.free = self.free.max(Instant::now());
        if rate > 0 {
            self.free += Duration::from_secs(1) * datagram.len() as u32 / rate;
        }
        self.came += 1;
        self.waiting.insert((self.free + late, self.came), datagram);
    }
}

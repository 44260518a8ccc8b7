//! Everybody who reads.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tidings::{
    Message,
    client::{Builder, Client, Event, Socket, State, Subscription},
};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{Failure, record::Record};

/// Attempts to connect at a time: more than that and the server would answer with Retry, which is not what is measured.
const HANDSHAKES: usize = 64;
/// The server shares its port among its workers by the clients' addresses: enough of them that each worker has its part.
const SOCKETS: usize = 64;

/// What publishers and readers know of a channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) name: String,
    /// The number of the next publication.
    pub(crate) next: AtomicU64,
    /// The first number that went to the server of now.
    pub(crate) fresh: AtomicU64,
    /// The number at which a reader has everything.
    pub(crate) goal: AtomicU64,
}

impl Channel {
    fn new(number: usize) -> Self {
        Self {
            name: format!("chat-room-{number}"),
            next: AtomicU64::new(1),
            fresh: AtomicU64::new(1),
            goal: AtomicU64::new(u64::MAX),
        }
    }
}

/// The clients, each with one subscription. Dropping it ends them.
pub(crate) struct Crowd {
    pub(crate) channels: Vec<Arc<Channel>>,
    clients: Vec<Arc<Mutex<Record>>>,
    /// How many have everything.
    there: watch::Sender<usize>,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// Connects and subscribes everybody as fast as it goes. `builder` makes a client.
    pub(crate) async fn connect(
        clients: usize,
        channels: usize,
        builder: impl Fn() -> Builder,
    ) -> Result<Self, Failure> {
        let channels: Vec<_> = (0..channels)
            .map(|number| Arc::new(Channel::new(number)))
            .collect();
        let sockets: Vec<_> = (0..SOCKETS.min(clients)).map(|_| Socket::new()).collect();
        let seats = (0..clients).map(|number| {
            let builder = builder().socket(&sockets[number % sockets.len()]);
            let channel = Arc::clone(&channels[number % channels.len()]);
            async move {
                let client = builder.connect().await?;
                let subscription = client.subscribe(&channel.name).await?;
                Ok::<_, Failure>((client, channel, subscription))
            }
        });
        let seats: Vec<_> = stream::iter(seats)
            .buffer_unordered(HANDSHAKES)
            .try_collect()
            .await?;
        let mut crowd = Self {
            channels,
            clients: Vec::new(),
            there: watch::channel(0).0,
            _tasks: JoinSet::new(),
        };
        for (client, channel, subscription) in seats {
            let record = Arc::<Mutex<Record>>::default();
            crowd
                ._tasks
                .spawn(watch_states(client, Arc::clone(&record)));
            let there = crowd.there.clone();
            crowd
                ._tasks
                .spawn(read(subscription, channel, Arc::clone(&record), there));
            crowd.clients.push(record);
        }
        Ok(crowd)
    }

    /// What is looked at next begins: nobody has everything until the publishers say what that is.
    pub(crate) fn begin(&self) {
        for channel in &self.channels {
            channel.goal.store(u64::MAX, Ordering::SeqCst);
        }
        for client in &self.clients {
            lock(client).begin();
        }
        self.there.send_replace(0);
    }

    /// What is published from now on goes to another server.
    pub(crate) fn another_server(&self) {
        for channel in &self.channels {
            let next = channel.next.load(Ordering::SeqCst);
            channel.fresh.store(next, Ordering::SeqCst);
        }
    }

    /// Waits until everybody has everything; when that was, or how many have not.
    pub(crate) async fn all_there(&self, patience: Duration) -> Result<Instant, Failure> {
        let mut there = self.there.subscribe();
        let everybody = there.wait_for(|there| *there == self.clients.len());
        if timeout(patience, everybody).await.is_err() {
            let late = self.clients.len() - *self.there.borrow();
            let ended = self.records(|record| record.ended.then_some(())).len();
            return Err(format!("{late} clients do not catch up in {patience:?}, {ended} of all have no subscription any more").into());
        }
        let last = self.records(|record| record.caught_up).into_iter().max();
        Ok(last.ok_or("there is nobody")?)
    }

    /// Something of each client that has it.
    pub(crate) fn records<T>(&self, what: impl Fn(&Record) -> Option<T>) -> Vec<T> {
        let clients = self.clients.iter();
        clients.filter_map(|client| what(&lock(client))).collect()
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch_states(client: Client, record: Arc<Mutex<Record>>) {
    let mut states = client.states();
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        let mut record = lock(&record);
        match state {
            State::Reconnecting { attempt, reason } => {
                record.left.get_or_insert_with(Instant::now);
                record.failed = record.failed.max(attempt);
                if attempt > 0 {
                    record.failure = Some(reason);
                }
            }
            // A state may follow another before anybody looks.
            State::Connected(_) => record.came_back = Some(Instant::now()),
            _ => return,
        }
    }
}

async fn read(
    mut subscription: Subscription,
    channel: Arc<Channel>,
    record: Arc<Mutex<Record>>,
    there: watch::Sender<usize>,
) {
    while let Some(event) = subscription.next().await {
        let mut record = lock(&record);
        match event {
            Event::Publication(publication) => {
                let Some(number) = number_of(&publication.message) else {
                    // Nobody else publishes here.
                    record.lost += 1;
                    continue;
                };
                record.publication(number, channel.fresh.load(Ordering::SeqCst));
                let goal = channel.goal.load(Ordering::SeqCst);
                if number >= goal && record.caught_up.is_none() {
                    record.caught_up = Some(Instant::now());
                    there.send_modify(|there| *there += 1);
                }
            }
            Event::Break { before, after } if before == after => record.recovered += 1,
            Event::Break { before, after } if before.epoch != after.epoch => record.anew += 1,
            // What is missing now, the next number tells.
            Event::Break { .. } | Event::Lagged { .. } | Event::Skipped { .. } => {}
            _ => break,
        }
    }
    lock(&record).ended = true;
}

fn number_of(message: &Message) -> Option<u64> {
    let Message::Data(data) = message else {
        return None;
    };
    let number = data.bytes.first_chunk()?;
    Some(u64::from_le_bytes(*number))
}

//! Who publishes: one connection, and on it one task for each channel.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future, stream};
use tidings::{Message, client::Client};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{Failure, crowd::Channel};

/// Publications of one channel that wait for their acknowledgement at a time.
const WINDOW: usize = 64;

/// What each publication is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Publications a second to each channel; none at 0.
    pub(crate) rate: f64,
    /// Bytes of each.
    pub(crate) size: usize,
}

/// A number of publications to be made at once; the answer is sent when they are acknowledged.
type Order = (u64, oneshot::Sender<Result<(), Failure>>);

/// Dropping it ends them where they are: nobody knows what became of what was not acknowledged.
pub(crate) struct Publishers {
    orders: Vec<mpsc::Sender<Order>>,
    _tasks: JoinSet<()>,
}

impl Publishers {
    pub(crate) fn start(client: &Client, channels: &[Arc<Channel>], pace: Pace) -> Self {
        let mut tasks = JoinSet::new();
        let orders = channels.iter().enumerate().map(|(turn, channel)| {
            let (order, orders) = mpsc::channel(1);
            let publisher = Publisher {
                client: client.clone(),
                channel: Arc::clone(channel),
                size: pace.size,
            };
            let late = turn as f64 / channels.len() as f64;
            tasks.spawn(publisher.run(pace.rate, late, orders));
            order
        });
        Self {
            orders: orders.collect(),
            _tasks: tasks,
        }
    }

    /// Publishes `count` to each channel as fast as it goes, and makes the last of them the goal of its readers; returns when all
    /// are acknowledged.
    pub(crate) async fn burst(&self, count: u64) -> Result<(), Failure> {
        let answers = self.orders.iter().map(async |orders| {
            let (answer, answered) = oneshot::channel();
            let ended = "a publication failed";
            orders.send((count, answer)).await.map_err(|_| ended)?;
            answered.await.map_err(|_| ended)?
        });
        future::try_join_all(answers).await?;
        Ok(())
    }
}

struct Publisher {
    client: Client,
    channel: Arc<Channel>,
    size: usize,
}

impl Publisher {
    /// The first publication by the timetable is `late` of a distance after the beginning. Ends with the first that fails.
    async fn run(self, rate: f64, late: f64, mut orders: mpsc::Receiver<Order>) {
        let live = rate > 0.0;
        let distance = Duration::from_secs_f64(1.0 / if live { rate } else { 1.0 });
        let mut ticks = interval_at(Instant::now() + distance.mul_f64(late), distance);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick(), if live => {
                    let number = self.channel.next.fetch_add(1, Ordering::SeqCst);
                    if let Err(error) = self.publish(number).await {
                        eprintln!("recovery-load: {}: number {number}: {error}", self.channel.name);
                        return;
                    }
                }
                order = orders.recv() => {
                    let Some((count, answer)) = order else { return };
                    let done = self.burst(count).await;
                    let failed = done.is_err();
                    let _ = answer.send(done);
                    if failed {
                        return;
                    }
                }
            }
        }
    }

    async fn burst(&self, count: u64) -> Result<(), Failure> {
        let first = self.channel.next.fetch_add(count, Ordering::SeqCst);
        let last = first + count - 1;
        self.channel.goal.store(last, Ordering::SeqCst);
        stream::iter(first..=last)
            .map(|number| self.publish(number))
            .buffered(WINDOW)
            .try_collect()
            .await
    }

    async fn publish(&self, number: u64) -> Result<(), Failure> {
        let mut bytes = vec![0; self.size];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let data = Message::data("", bytes);
        self.client.publish(&self.channel.name, data).await?;
        Ok(())
    }
}

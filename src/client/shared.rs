//! One subscription with several readers.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::subscription::{Event, Subscription};
use crate::wire::{ChannelName, Offset, Position, Publication};

/// Most events that wait for a reader; of more the oldest go, and the reader is told.
const QUEUE: usize = 256;

/// A subscription that several readers of one client share: each clone receives every event from its creation on.
///
/// The stream of the server is read by whoever waits in [`next`](Self::next). A reader that is slower than another one keeps 256 events;
/// what goes beyond that is told as [`Event::Lagged`], and holds up nobody. Dropping the last clone unsubscribes.
///
/// ```
/// use tidings::{client::Transport, testing::TestServer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = TestServer::start().await;
/// let client = server.client("ann", Transport::Quic).await?;
/// let mut list = client.subscribe("global").await?.share();
/// let mut badge = list.clone();
/// server.broker().announce("hello")?;
/// for reader in [&mut list, &mut badge] {
///     let publication = reader.next_publication().await.ok_or("it ended")?;
///     assert_eq!(publication.message.as_text(), Some("hello"));
/// }
/// # Ok(()) }
/// ```
pub struct SharedSubscription {
    hub: Arc<Hub>,
    number: u64,
}

struct Hub {
    name: ChannelName,
    source: tokio::sync::Mutex<Subscription>,
    readers: Mutex<Readers>,
    /// Told of each event that a reader took from the source.
    arrived: Notify,
}

#[derive(Default)]
struct Readers {
    last: u64,
    queues: HashMap<u64, Queue>,
    ended: bool,
}

/// What waits for one reader, and what it missed before that.
#[derive(Default)]
struct Queue {
    broke: Option<(Position, Position)>,
    missed: Option<(Offset, Offset)>,
    events: VecDeque<Event>,
}

impl Queue {
    fn push(&mut self, event: Event) {
        if self.events.len() == QUEUE
            && let Some(oldest) = self.events.pop_front()
        {
            self.miss(oldest);
        }
        self.events.push_back(event);
    }

    fn miss(&mut self, event: Event) {
        let (from, to) = match event {
            Event::Publication(publication) => (publication.offset, publication.offset),
            Event::Lagged { from, to } | Event::Skipped { from, to } => (from, to),
            Event::Break { before, after } => {
                let start = match (self.broke, self.missed.take()) {
                    (Some((start, _)), _) => start,
                    (None, Some((from, _))) => Position {
                        offset: from.saturating_sub(1),
                        ..before
                    },
                    (None, None) => before,
                };
                self.broke = Some((start, after));
                return;
            }
            // Nothing follows it that could take its place.
            Event::End { .. } => return,
        };
        let first = self.missed.map_or(from, |(first, _)| first);
        self.missed = Some((first, to));
    }

    fn pop(&mut self) -> Option<Event> {
        if let Some((before, after)) = self.broke.take() {
            return Some(Event::Break { before, after });
        }
        if let Some((from, to)) = self.missed.take() {
            return Some(Event::Lagged { from, to });
        }
        self.events.pop_front()
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>) -> SharedSubscription {
        let number = {
            let mut readers = self.lock();
            readers.last += 1;
            let number = readers.last;
            readers.queues.insert(number, Queue::default());
            number
        };
        SharedSubscription {
            hub: Arc::clone(self),
            number,
        }
    }

    fn hand_out(&self, event: Option<Event>) {
        {
            let mut readers = self.lock();
            match event {
                Some(event) => {
                    for queue in readers.queues.values_mut() {
                        queue.push(event.clone());
                    }
                }
                None => readers.ended = true,
            }
        }
        self.arrived.notify_waiters();
    }
}

impl Subscription {
    /// The same subscription for several readers: each clone receives every event from its creation on.
    #[must_use]
    pub fn share(self) -> SharedSubscription {
        let hub = Hub {
            name: self.name().clone(),
            source: tokio::sync::Mutex::new(self),
            readers: Mutex::default(),
            arrived: Notify::new(),
        };
        Arc::new(hub).join()
    }
}

impl SharedSubscription {
    /// The channel, or the name of the stream.
    #[must_use]
    pub fn name(&self) -> &ChannelName {
        &self.hub.name
    }

    /// The next event of this reader; `None` after [`Event::End`]. Cancel safe: another reader goes on. A future that was polled and is
    /// neither polled again nor dropped may hold up the others.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let mut arrived = std::pin::pin!(self.hub.arrived.notified());
            // It counts from here on: what came before is found below.
            arrived.as_mut().enable();
            if let Some(known) = self.pop() {
                return known;
            }
            tokio::select! {
                () = arrived => {}
                mut source = self.hub.source.lock() => {
                    // Another reader may have been here meanwhile.
                    if let Some(known) = self.pop() {
                        return known;
                    }
                    let event = source.next().await;
                    self.hub.hand_out(event);
                }
            }
        }
    }

    /// The next publication, whatever else happens; `None` at the end. For readers that do not care about gaps.
    pub async fn next_publication(&mut self) -> Option<Publication> {
        loop {
            if let Event::Publication(publication) = self.next().await? {
                return Some(publication);
            }
        }
    }

    /// What waits for this reader, `Some(None)` at the end; `None` where the source is to be read.
    fn pop(&self) -> Option<Option<Event>> {
        let mut readers = self.hub.lock();
        let event = readers.queues.get_mut(&self.number).and_then(Queue::pop);
        match event {
            Some(event) => Some(Some(event)),
            None if readers.ended => Some(None),
            None => None,
        }
    }
}

impl Clone for SharedSubscription {
    /// A further reader, of what comes from now on.
    fn clone(&self) -> Self {
        self.hub.join()
    }
}

impl Drop for SharedSubscription {
    fn drop(&mut self) {
        let queue = self.hub.lock().queues.remove(&self.number);
        drop(queue);
    }
}

impl fmt::Debug for SharedSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSubscription")
            .field("name", &self.hub.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Epoch, Message};

    fn publication(offset: Offset) -> Event {
        Event::Publication(Publication {
            offset,
            time: 0,
            publisher: None,
            message: Message::text("x"),
        })
    }

    #[test]
    fn what_a_slow_reader_misses_is_told_without_a_hole() {
        let mut queue = Queue::default();
        for offset in 1..=QUEUE as u64 + 10 {
            queue.push(publication(offset));
        }
        assert_eq!(queue.pop(), Some(Event::Lagged { from: 1, to: 10 }));
        assert_eq!(queue.pop(), Some(publication(11)));
        assert_eq!(queue.events.len(), QUEUE - 1);
    }

    #[test]
    fn a_break_that_goes_with_what_was_missed_is_told_first() {
        let at = |epoch, offset| Position {
            epoch: Epoch(epoch),
            offset,
        };
        let mut queue = Queue::default();
        queue.push(publication(6));
        queue.push(Event::Break {
            before: at(1, 6),
            after: at(2, 0),
        });
        for offset in 1..=QUEUE as u64 + 2 {
            queue.push(publication(offset));
        }
        let broke = Event::Break {
            before: at(1, 5),
            after: at(2, 0),
        };
        assert_eq!(queue.pop(), Some(broke));
        assert_eq!(queue.pop(), Some(Event::Lagged { from: 1, to: 2 }));
        assert_eq!(queue.pop(), Some(publication(3)));
    }
}

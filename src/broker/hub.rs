//! This node's channels: a sharded map with eviction.

use std::{
    collections::BinaryHeap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use hashbrown::HashTable;

use super::{
    NoRoom,
    channel::Channel,
    clock::Uptime,
    quota::{Account, CHANNEL, Ledger},
};
use crate::wire::ChannelName;

/// Enough that publishers on a few dozen cores seldom meet on one lock, few enough that a sweep of an empty hub is nothing.
const SHARDS: usize = 64;

/// The key of a channel is its own name: a look-up reads one pointer of the table, and then what its caller needs anyhow.
type Shard = HashTable<Arc<Channel>>;

#[derive(Debug)]
pub(super) struct Hub {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    channels: AtomicUsize,
    max_channels: usize,
    /// Those that sessions created.
    of_clients: AtomicUsize,
}

impl Hub {
    pub(super) fn new(max_channels: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            channels: AtomicUsize::new(0),
            max_channels,
            of_clients: AtomicUsize::new(0),
        }
    }

    /// The name's hash, and the shard with all names of such a hash. The table takes the highest and the lowest bits.
    fn shard(&self, name: &ChannelName) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(name);
        let index = (hash >> 32) as usize % SHARDS;
        let shard = self.shards[index].lock();
        (hash, shard.unwrap_or_else(PoisonError::into_inner))
    }

    fn hash(&self) -> impl Fn(&Arc<Channel>) -> u64 {
        |channel| self.hasher.hash_one(&channel.name)
    }

    pub(super) fn find(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        let (hash, shard) = self.shard(name);
        shard.find(hash, |channel| channel.name == *name).cloned()
    }

    pub(super) fn find_or_insert(
        &self,
        name: &ChannelName,
        creator: Option<&Arc<Account>>,
        ledger: &Ledger,
        make: impl FnOnce() -> Channel,
    ) -> Result<Arc<Channel>, NoRoom> {
        let (hash, mut shard) = self.shard(name);
        if let Some(channel) = shard.find(hash, |channel| channel.name == *name) {
            return Ok(Arc::clone(channel));
        }
        self.admit(creator, ledger)?;
        let channel = Arc::new(make());
        shard.insert_unique(hash, Arc::clone(&channel), self.hash());
        Ok(channel)
    }

    /// Counts a channel that `creator`, or the server, is about to create.
    fn admit(&self, creator: Option<&Arc<Account>>, ledger: &Ledger) -> Result<(), NoRoom> {
        let max = self.max_channels;
        // No room of the reserve for clients.
        let reserve = if max > 1 { max.div_ceil(10) } else { 0 };
        if ledger.exceeds(CHANNEL, creator.is_some()) {
            return Err(NoRoom::Overloaded);
        }
        if !count_up(&self.channels, max) {
            return Err(NoRoom::TooManyChannels { max });
        }
        let Some(creator) = creator else {
            return Ok(());
        };
        let max = max - reserve;
        let admitted = if count_up(&self.of_clients, max) {
            creator.open_channel().inspect_err(|_| {
                self.of_clients.fetch_sub(1, Ordering::Relaxed);
            })
        } else {
            Err(NoRoom::TooManyChannels { max })
        };
        admitted.inspect_err(|_| {
            self.channels.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Trims the largest logs where little memory is left: to half of the largest that a log may be by default, and again to half of it.
    pub(super) fn relieve(&self, ledger: &Ledger) {
        if ledger.excess() == 0 {
            return;
        }
        let target = ledger.used() - ledger.excess();
        let mut largest = LARGEST_LOG;
        while largest >= SMALLEST_LOG && ledger.used() > target {
            for shard in &self.shards {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                for channel in shard.iter() {
                    channel.shed(largest);
                }
            }
            largest /= 2;
        }
    }

    /// Evicts channels without readers for `idle` milliseconds that hold nothing young enough to be kept. Lock order: shard, then channel; nothing takes them the
    /// other way round.
    pub(super) fn sweep(&self, now: Uptime, idle: u64) -> usize {
        let (mut evicted, mut of_clients) = (0, 0);
        let mut removed = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|channel| {
                let evicted = channel.sweep(now, idle, &mut removed);
                of_clients += usize::from(evicted && channel.is_of_client());
                !evicted
            });
            evicted += before - shard.len();
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit(self.hash());
            }
            drop(shard);
            removed.clear();
        }
        self.channels.fetch_sub(evicted, Ordering::Relaxed);
        self.of_clients.fetch_sub(of_clients, Ordering::Relaxed);
        evicted
    }

    /// Every channel, one shard after the other, whose lock is held meanwhile.
    pub(super) fn for_each(&self, mut call: impl FnMut(&Channel)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.iter().for_each(|channel| call(channel));
        }
    }

    /// The first `limit` channels behind `after`, by name. It looks at all of them, one shard after the other.
    pub(super) fn page(&self, after: Option<&ChannelName>, limit: usize) -> Vec<Arc<Channel>> {
        // The last of those found so far on top.
        let mut found = BinaryHeap::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for channel in shard.iter() {
                let wanted = after.is_none_or(|after| channel.name > *after)
                    && (found.len() < limit
                        || found
                            .peek()
                            .is_some_and(|last: &ByName| channel.name < last.0.name));
                if wanted {
                    found.push(ByName(Arc::clone(channel)));
                    if found.len() > limit {
                        found.pop();
                    }
                }
            }
        }
        let sorted = found.into_sorted_vec();
        sorted.into_iter().map(|ByName(channel)| channel).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.channels.load(Ordering::Relaxed)
    }
}

/// Bytes of the largest log that is kept when memory is short, at first and at last.
const LARGEST_LOG: usize = 1 << 20;
const SMALLEST_LOG: usize = 1 << 10;

/// Counts one more, unless there are `max`.
fn count_up(counter: &AtomicUsize, max: usize) -> bool {
    let counted = counter.fetch_add(1, Ordering::Relaxed) < max;
    if !counted {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
    counted
}

struct ByName(Arc<Channel>);

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

/// What happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    publications: AtomicU64,
    lagged: AtomicU64,
    skipped: AtomicU64,
    subscriptions: AtomicUsize,
}

impl Counters {
    pub(super) fn published(&self) {
        self.publications.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lagged(&self, missed: u64) {
        self.lagged.fetch_add(missed, Ordering::Relaxed);
    }

    pub(super) fn skipped(&self, left_out: u64) {
        self.skipped.fetch_add(left_out, Ordering::Relaxed);
    }

    pub(super) fn subscribed(&self) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unsubscribed(&self) {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, channels: usize, memory: usize) -> super::Stats {
        super::Stats {
            channels,
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            publications: self.publications.load(Ordering::Relaxed),
            lagged: self.lagged.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            memory,
        }
    }
}

//! Who is in a channel. Its members stand beside its log, under the same lock, so that what was told of them always is what the log
//! says up to its head: changes wait until the server's next round, which puts all of a channel into one publication.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    hash::{BuildHasher, RandomState},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{Broker, channel::Channel, reader::Reader};
use crate::wire::{Attendance, ChannelName, Member, Position, Presence, UserId};

/// Most changes that one publication lists: 13 KiB where every user's identity is as long as it may be.
const MAX_CHANGES: usize = 64;
/// Most changes that one publication takes in, listed or not: it bounds how long the channel is locked (about a microsecond each).
const MAX_TOLD: usize = if cfg!(test) { 1024 } else { 8192 };
/// Most members that one answer lists (PROTOCOL §4.15): they fit into a frame whatever the limit of messages is.
const MAX_PAGE: usize = 256;

/// What the members of a channel are told of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Each session, and its user.
    Users,
    /// Each session, by a number that says nothing elsewhere, and no user; how many different users there are all the same.
    Numbers,
}

/// In which channels sessions are told of each other, and what: see [`Config::presence`](super::Config::presence).
pub type Shows = dyn Fn(&ChannelName) -> Option<Shown> + Send + Sync;

/// Presence.
impl Broker {
    /// Which sessions are in a channel, `limit` and 256 of them at most, as of a position: the channel's later
    /// [`Presence`] messages tell what changed, within 250 ms. `None` where the channel's rule has no presence. It
    /// makes no channel.
    #[must_use]
    pub fn presence(&self, channel: &ChannelName, limit: u64) -> Option<Attendance> {
        (self.inner.config.presence)(channel)?;
        let found = self.inner.hub.find(channel);
        let nobody = || Attendance::new(None, 0, 0, Vec::new(), true);
        Some(found.map_or_else(nobody, |found| found.presence(limit)))
    }

    /// The same reader, for as long as which the session is in the channel, where that is told there. Its own coming stands behind its
    /// cursor: it is told of it too.
    pub(crate) fn attended(&self, reader: Reader, session: u64, user: Option<&UserId>) -> Reader {
        match (self.inner.config.presence)(reader.channel()) {
            None => reader,
            Some(shown) => reader.present(|channel| {
                Present::enter(channel, &self.inner.changed, shown, session, user)
            }),
        }
    }

    /// Waits until there is somebody who came or went to be told of.
    pub(crate) async fn presence_changed(&self) {
        self.inner.changed.arrived().await;
    }

    /// How many channels have somebody to be told of.
    pub(crate) fn presence_due(&self) -> usize {
        self.inner.changed.len()
    }

    /// Tells those who came and went in the next `most` such channels, a publication for each.
    pub(crate) fn tell_presence(&self, most: usize) {
        for _ in 0..most {
            let Some(channel) = self.inner.changed.next() else {
                return;
            };
            let (told, more) = channel.tell_presence(self.present(), &self.inner.closed);
            if told {
                self.inner.counters.published();
            }
            if more {
                self.inner.changed.push(&channel);
            }
        }
    }
}

/// The members of one channel.
pub(super) struct Members {
    known: HashMap<u64, Known>,
    /// Those of whom not what is was told: no more than there are sessions, and were at the last round.
    changed: HashSet<u64>,
    /// Of those who were told, each user and the number of its sessions.
    users: HashMap<UserId, usize>,
    /// How many were told.
    told: usize,
    /// It stands on the list of the next round.
    pub(super) listed: bool,
    /// Makes numbers of sessions where those are not shown.
    numbers: Option<RandomState>,
}

struct Known {
    user: Option<UserId>,
    /// Its subscriptions: more than one only while one of them ends.
    subscriptions: u32,
    told: bool,
}

impl Members {
    pub(super) fn new(shown: Shown) -> Self {
        Self {
            known: HashMap::new(),
            changed: HashSet::new(),
            users: HashMap::new(),
            told: 0,
            listed: false,
            numbers: (shown == Shown::Numbers).then(RandomState::new),
        }
    }

    pub(super) fn enter(&mut self, session: u64, user: Option<&UserId>) {
        let known = self.known.entry(session).or_insert_with(|| Known {
            user: user.cloned(),
            subscriptions: 0,
            told: false,
        });
        known.subscriptions += 1;
        if known.subscriptions == 1 {
            self.note(session);
        }
    }

    pub(super) fn leave(&mut self, session: u64) {
        let Some(known) = self.known.get_mut(&session) else {
            return;
        };
        known.subscriptions = known.subscriptions.saturating_sub(1);
        if known.subscriptions > 0 {
            return;
        }
        if !known.told {
            self.known.remove(&session);
        }
        self.note(session);
    }

    /// Who came back, or went before it was told, has not changed.
    fn note(&mut self, session: u64) {
        if !self.changed.remove(&session) {
            self.changed.insert(session);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nobody is here, and everybody knows.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether there is still somebody to be told of.
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What changed since the last call, or as much of it as one publication takes; `None` where that is nothing.
    pub(super) fn tell(&mut self) -> Option<Presence> {
        let changed = if self.changed.len() <= MAX_TOLD {
            mem::take(&mut self.changed)
        } else {
            let some: HashSet<_> = self.changed.iter().take(MAX_TOLD).copied().collect();
            self.changed.retain(|session| !some.contains(session));
            some
        };
        if changed.is_empty() {
            return None;
        }
        let complete = changed.len() <= MAX_CHANGES;
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for session in changed {
            let Some(known) = self.known.get_mut(&session) else {
                continue;
            };
            let came = known.subscriptions > 0;
            if joined.len() + left.len() < MAX_CHANGES {
                let list = if came { &mut joined } else { &mut left };
                list.push(member(self.numbers.as_ref(), session, known));
            }
            if came {
                known.told = true;
                self.told += 1;
                if let Some(user) = &known.user {
                    *self.users.entry(user.clone()).or_default() += 1;
                }
            } else {
                self.told -= 1;
                let user = self.known.remove(&session).and_then(|known| known.user);
                if let Some(user) = user
                    && let Some(sessions) = self.users.get_mut(&user)
                {
                    *sessions -= 1;
                    if *sessions == 0 {
                        self.users.remove(&user);
                    }
                }
            }
        }
        self.shrink();
        Some(Presence {
            joined,
            left,
            connections: self.told as u64,
            users: self.users.len() as u64,
            complete,
        })
    }

    /// After a crowd has gone its room is given back.
    fn shrink(&mut self) {
        if self.known.capacity() > 64 && self.known.len() < self.known.capacity() / 4 {
            self.known.shrink_to_fit();
            self.users.shrink_to_fit();
        }
    }

    /// Those who were told.
    pub(super) fn page(&self, position: Position, limit: u64) -> Attendance {
        let limit = usize::try_from(limit).map_or(MAX_PAGE, |limit| limit.min(MAX_PAGE));
        let told = self.known.iter().filter(|(_, known)| known.told);
        let listed = told
            .take(limit)
            .map(|(session, known)| member(self.numbers.as_ref(), *session, known));
        Attendance::new(
            Some(position),
            self.told as u64,
            self.users.len() as u64,
            listed.collect(),
            self.told <= limit,
        )
    }
}

fn member(numbers: Option<&RandomState>, session: u64, known: &Known) -> Member {
    match numbers {
        // With a key of its own: nobody finds the session of a number, nor the number of the same session in another channel.
        Some(numbers) => Member {
            id: numbers.hash_one(session),
            user: None,
        },
        None => Member {
            id: session,
            user: known.user.as_ref().map(ToString::to_string),
        },
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("told", &self.told)
            .field("changed", &self.changed.len())
            .finish_non_exhaustive()
    }
}

/// Channels whose members changed, each once, in the order in which they did.
#[derive(Debug, Default)]
pub(super) struct Changed {
    channels: Mutex<VecDeque<Arc<Channel>>>,
    arrived: Notify,
}

impl Changed {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Channel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, channel: &Arc<Channel>) {
        self.lock().push_back(Arc::clone(channel));
        self.arrived.notify_one();
    }

    pub(super) fn next(&self) -> Option<Arc<Channel>> {
        let mut channels = self.lock();
        let next = channels.pop_front();
        if channels.is_empty() && channels.capacity() > 64 {
            channels.shrink_to_fit();
        }
        next
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Waits until there is one.
    pub(super) async fn arrived(&self) {
        while self.len() == 0 {
            self.arrived.notified().await;
        }
    }
}

/// A session is in a channel; dropping it leaves.
#[derive(Debug)]
pub(super) struct Present {
    channel: Arc<Channel>,
    changed: Arc<Changed>,
    session: u64,
}

impl Present {
    pub(super) fn enter(
        channel: &Arc<Channel>,
        changed: &Arc<Changed>,
        shown: Shown,
        session: u64,
        user: Option<&UserId>,
    ) -> Self {
        if channel.enter(shown, session, user) {
            changed.push(channel);
        }
        Self {
            channel: Arc::clone(channel),
            changed: Arc::clone(changed),
            session,
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if self.channel.exit(self.session) {
            self.changed.push(&self.channel);
        }
    }
}

#[cfg(test)]
mod tests;

//! Memory and channels: how much there is of them, whose they are, and how much each may have.
//!
//! A channel reports its estimate to the [`Ledger`] in steps of an eighth of its size, so that most publications touch no shared counter.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::NoRoom;
use crate::wire::UserId;

/// Estimated bytes of an empty channel: its state, its name and its place in the hub.
pub(super) const CHANNEL: usize = 1024;
/// Estimated bytes of a publication beside its frame: its entry, the frame's headroom and reference count.
pub(super) const PUBLICATION: usize = 160;
/// Estimated bytes of what is remembered of a publication beside its frame (echo suppression, conflation).
pub(super) const MARK: usize = 128;
/// Estimated bytes of a key in a deduplication window.
pub(super) const KEY: usize = 160;
/// Estimated bytes of a member of a channel with presence.
pub(super) const MEMBER: usize = 256;
/// Estimated bytes of a session: an idle connection has 20 KiB (ARCHITECTURE.md), a busy one buffers besides.
const SESSION: usize = 32 * 1024;
/// Unit of what channels report.
const STEP: usize = 1024;

/// Estimated memory of the logs, channels and sessions of a broker.
#[derive(Debug)]
pub(super) struct Ledger {
    used: AtomicUsize,
    limit: usize,
}

impl Ledger {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether `bytes` more are above the limit. Its last sixteenth is for the server's own channels and publications.
    pub(super) fn exceeds(&self, bytes: usize, for_client: bool) -> bool {
        let reserve = if for_client { self.limit / 16 } else { 0 };
        self.used().saturating_add(bytes) > self.limit - reserve
    }

    /// How many bytes the logs should give up, because little is left of the limit.
    pub(super) fn excess(&self) -> usize {
        let used = self.used();
        let high = self.limit / 8 * 7;
        if used <= high {
            return 0;
        }
        used - self.limit / 4 * 3
    }

    /// Replaces a report by another.
    fn report(&self, before: usize, now: usize) {
        if now > before {
            self.used.fetch_add(now - before, Relaxed);
        } else {
            self.used.fetch_sub(before - now, Relaxed);
        }
    }
}

/// What a channel has reported to the [`Ledger`].
#[derive(Debug, Default)]
pub(super) struct Report(usize);

impl Report {
    /// Reports `size` where the last report is below it or far above it.
    pub(super) fn update(&mut self, ledger: &Ledger, size: usize) {
        if size > self.0 || size < self.0 / 2 {
            self.settle(ledger, size + size / 8);
        }
    }

    /// Reports `size`, rounded up.
    pub(super) fn settle(&mut self, ledger: &Ledger, size: usize) {
        let size = size.next_multiple_of(STEP);
        if size != self.0 {
            ledger.report(self.0, size);
            self.0 = size;
        }
    }

    /// Takes the report back.
    pub(super) fn clear(&mut self, ledger: &Ledger) {
        ledger.report(self.0, 0);
        self.0 = 0;
    }
}

/// Account of a session, or of the sessions of a user: the channels that they created and that are still there, and the memory of what
/// they published and that is still retained.
#[derive(Debug)]
pub(crate) struct Account {
    /// Account of the session's user.
    user: Option<Arc<Self>>,
    channels: AtomicUsize,
    max_channels: usize,
    bytes: AtomicUsize,
    max_bytes: usize,
}

impl Account {
    const fn new(user: Option<Arc<Self>>, max_channels: usize, max_bytes: usize) -> Self {
        Self {
            user,
            channels: AtomicUsize::new(0),
            max_channels,
            bytes: AtomicUsize::new(0),
            max_bytes,
        }
    }

    /// The account that pays for publications: the user's, or the session's where it has no user.
    pub(super) fn payer(self: &Arc<Self>) -> Arc<Self> {
        Arc::clone(self.user.as_ref().unwrap_or(self))
    }

    /// Counts a channel that the session creates.
    pub(super) fn open_channel(&self) -> Result<(), NoRoom> {
        if self.channels.fetch_add(1, Relaxed) >= self.max_channels {
            self.channels.fetch_sub(1, Relaxed);
            return Err(NoRoom::ChannelQuota {
                max: self.max_channels,
            });
        }
        let user = self
            .user
            .as_ref()
            .map_or(Ok(()), |user| user.open_channel());
        if user.is_err() {
            self.channels.fetch_sub(1, Relaxed);
        }
        user
    }

    pub(super) fn close_channel(&self) {
        self.channels.fetch_sub(1, Relaxed);
        if let Some(user) = &self.user {
            user.close_channel();
        }
    }

    /// Whether `bytes` more are above the quota.
    pub(super) fn exceeds(&self, bytes: usize) -> bool {
        self.bytes.load(Relaxed).saturating_add(bytes) > self.max_bytes
    }

    pub(super) const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(super) fn charge(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn usage(&self) -> (usize, usize) {
        (self.channels.load(Relaxed), self.bytes.load(Relaxed))
    }
}

/// Quotas of sessions and users.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quotas {
    pub(super) session_channels: usize,
    pub(super) user_channels: usize,
    pub(super) user_memory: usize,
}

/// Accounts of users that have a session, a channel or a publication.
#[derive(Debug, Default)]
pub(super) struct Accounts(Mutex<HashMap<UserId, Weak<Account>>>);

impl Accounts {
    /// An account for a new session.
    pub(super) fn open(&self, quotas: Quotas, user: Option<&UserId>) -> Account {
        let user = user.map(|user| self.of_user(quotas, user));
        Account::new(user, quotas.session_channels, quotas.user_memory)
    }

    fn of_user(&self, quotas: Quotas, user: &UserId) -> Arc<Account> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = users.get(user).and_then(Weak::upgrade) {
            return known;
        }
        let account = Account::new(None, quotas.user_channels, quotas.user_memory);
        let account = Arc::new(account);
        users.insert(user.clone(), Arc::downgrade(&account));
        account
    }

    /// Forgets users that have nothing any more.
    pub(super) fn sweep(&self) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, account| account.strong_count() > 0);
        if users.capacity() > 64 && users.len() < users.capacity() / 4 {
            users.shrink_to_fit();
        }
    }
}

/// A session's account, and its part of the memory; dropping it frees the memory, and the account once nothing of the session is left.
#[derive(Debug)]
pub(crate) struct Tenancy {
    pub(super) account: Arc<Account>,
    ledger: Arc<Ledger>,
}

impl Tenancy {
    pub(super) fn new(account: Account, ledger: &Arc<Ledger>) -> Result<Self, NoRoom> {
        if ledger.exceeds(SESSION, true) {
            return Err(NoRoom::Overloaded);
        }
        ledger.report(0, SESSION);
        Ok(Self {
            account: Arc::new(account),
            ledger: Arc::clone(ledger),
        })
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.ledger.report(SESSION, 0);
    }
}

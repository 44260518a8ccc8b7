//! The sessions of a server, for who orders something of them from outside.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{Close, Session};
use crate::{
    auth::Grant,
    wire::{Code, UserId},
};

/// Users whose credentials are refused at a time: 1,000,000 of 100 bytes.
const MAX_REVOKED: usize = 1_000_000;

/// The open sessions of a server, over all its workers. Cloning shares it.
///
/// What is found can be subscribed, unsubscribed and closed, from any thread: see [`Session`].
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Session>,
    users: HashMap<UserId, Vec<u64>>,
    revoked: HashMap<UserId, Revoked>,
}

/// Credentials of a user that are refused.
#[derive(Clone, Copy)]
struct Revoked {
    /// Those that were issued before.
    issued_before: SystemTime,
    /// When that is forgotten; `None` for never.
    until: Option<SystemTime>,
}

impl Revoked {
    fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// There is no room to remember another revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credentials of {MAX_REVOKED} users are revoked already: wait until some have expired")]
pub struct TooManyRevocations;

/// Keeps a session on the list; dropping it takes it off.
pub(super) struct Entry {
    sessions: Sessions,
    id: u64,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// The session with this identity, as [`Session::id`] gives it.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Session> {
        let id = parse_id(id)?;
        self.lock().open.get(&id).cloned()
    }

    /// Every session of a user.
    #[must_use]
    pub fn of_user(&self, user: &UserId) -> Vec<Session> {
        let state = self.lock();
        let ids = state.users.get(user).map_or(&[][..], Vec::as_slice);
        ids.iter()
            .filter_map(|id| state.open.get(id))
            .cloned()
            .collect()
    }

    /// At most `limit` sessions, in the order of their identities, after `after` where it is given: call it again with the last
    /// one's until there is none. `None` where `after` is no identity.
    #[must_use]
    pub fn page(&self, after: Option<&str>, limit: usize) -> Option<Vec<Session>> {
        let state = self.lock();
        let all = match after {
            Some(after) => state.open.range(parse_id(after)?.checked_add(1)?..),
            None => state.open.range(..),
        };
        Some(
            all.take(limit)
                .map(|(_, session)| session)
                .cloned()
                .collect(),
        )
    }

    /// Ends every session of a user with [`Code::REVOKED`], and refuses credentials of that user that were issued before now, or say
    /// nothing of when they were, for as long as `keep`: until the last of them would have expired by itself. A revocation for longer
    /// that there is already stays. A token says in which second it was issued, so one of the same second is refused, too. Returns how
    /// many ended.
    ///
    /// # Errors
    /// [`TooManyRevocations`]: nothing was done.
    pub fn revoke(&self, user: &UserId, keep: Duration) -> Result<usize, TooManyRevocations> {
        let now = SystemTime::now();
        {
            let mut state = self.lock();
            if state.revoked.len() >= MAX_REVOKED {
                state.revoked.retain(|_, revoked| !revoked.is_over(now));
            }
            if state.revoked.len() >= MAX_REVOKED && !state.revoked.contains_key(user) {
                return Err(TooManyRevocations);
            }
            // What a clock cannot show is for ever, and what was revoked for longer stays so.
            let mut until = now.checked_add(keep);
            if let Some(known) = state.revoked.get(user) {
                until = match (known.until, until) {
                    (Some(known), Some(until)) => Some(known.max(until)),
                    _ => None,
                };
            }
            let revoked = Revoked {
                issued_before: now,
                until,
            };
            state.revoked.insert(user.clone(), revoked);
        }
        // Who comes from here on is checked before it is on the list.
        let sessions = self.of_user(user);
        for session in &sessions {
            session.close(Code::REVOKED, REVOKED);
        }
        Ok(sessions.len())
    }

    /// Whether the credentials of `grant` were revoked.
    pub(super) fn check(&self, grant: &Grant) -> Result<(), Close> {
        self.lock().check(grant)
    }

    /// Puts a session on the list, unless its credentials were revoked.
    pub(super) fn enter(&self, session: &Session) -> Result<Entry, Close> {
        let id = session.inner().id;
        let mut state = self.lock();
        state.check(&session.grant())?;
        if let Some(user) = session.user() {
            state.users.entry(user.clone()).or_default().push(id);
        }
        state.open.insert(id, session.clone());
        Ok(Entry {
            sessions: self.clone(),
            id,
        })
    }
}

const REVOKED: &str = "the credentials of this session were revoked";

impl State {
    fn check(&self, grant: &Grant) -> Result<(), Close> {
        let revoked = grant.user.as_ref().and_then(|user| self.revoked.get(user));
        let Some(revoked) = revoked else {
            return Ok(());
        };
        let issued_after = grant
            .issued_at
            .is_some_and(|issued_at| issued_at >= revoked.issued_before);
        if issued_after || revoked.is_over(SystemTime::now()) {
            return Ok(());
        }
        Err(Close::new(Code::REVOKED, REVOKED))
    }
}

fn parse_id(id: &str) -> Option<u64> {
    (id.len() == 16)
        .then(|| u64::from_str_radix(id, 16).ok())
        .flatten()
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        let Some(session) = state.open.remove(&self.id) else {
            return;
        };
        if let Some(user) = session.user()
            && let Some(ids) = state.users.get_mut(user)
        {
            ids.retain(|id| *id != self.id);
            if ids.is_empty() {
                state.users.remove(user);
            }
        }
        drop(state);
        // Outside of the lock: it may be the last that holds the session.
        drop(session);
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("open", &self.count())
            .finish_non_exhaustive()
    }
}

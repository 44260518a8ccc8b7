//! The sessions of a server, for who orders something of them from outside.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Close, Session,
    capacity::{Capacity, Place, SessionLimits},
    given::Lost,
    stall,
};
use crate::{
    auth::Grant,
    transport::Prefix,
    wire::{ChannelName, Code, UserId},
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
    capacity: Capacity,
    revoked: HashMap<UserId, Revoked>,
    lost: Lost,
}

/// Credentials of a user that are refused.
struct Revoked {
    /// Those that were issued before, by the microsecond.
    issued_before: SystemTime,
    /// Credentials of that very second, or issued later by a clock that is ahead, which sessions had that the revocation ended.
    used: Vec<Used>,
    /// Latest time of issue of further such credentials, beyond [`MAX_USED`]: none up to there is accepted.
    used_until: Option<SystemTime>,
    /// When that is forgotten; `None` for never.
    until: Option<SystemTime>,
}

/// Times of issue and expiry of credentials.
type Used = (SystemTime, Option<SystemTime>);

/// Most entries of [`Revoked::used`].
const MAX_USED: usize = 64;

impl Revoked {
    fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn concerns(&self, grant: &Grant) -> bool {
        let Some(issued_at) = grant.issued_at else {
            return true;
        };
        // Most issuers write `iat` in whole seconds: it does not say on which side of the revocation its second is.
        let later = issued_at >= self.issued_before || issued_at == to_second(self.issued_before);
        !later
            || self.used_until.is_some_and(|until| issued_at <= until)
            || self.used.contains(&(issued_at, grant.expires_at))
    }

    /// Refuses credentials of a session that the revocation ends, where their time of issue does not.
    fn refuse(&mut self, (issued_at, expires_at): Used) {
        if issued_at < to_second(self.issued_before) || self.used.contains(&(issued_at, expires_at))
        {
            return;
        }
        if self.used.len() < MAX_USED {
            self.used.push((issued_at, expires_at));
        } else {
            self.used_until = self.used_until.max(Some(issued_at));
        }
    }
}

/// Result of [`Sessions::revoke`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// Number of sessions that it ended.
    pub sessions: usize,
    /// Time of the revocation, to the microsecond: credentials that were issued before are refused.
    pub issued_before: SystemTime,
    /// Time at which the revocation is forgotten; `None` for never.
    pub expires: Option<SystemTime>,
}

/// There is no room to remember another revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credentials of {MAX_REVOKED} users are revoked already: wait until some have expired")]
pub struct TooManyRevocations;

/// Keeps a session on the list; dropping it takes it off.
pub(super) struct Entry {
    sessions: Sessions,
    id: u64,
    place: Place,
}

impl Sessions {
    pub(crate) fn new(limits: SessionLimits) -> Self {
        Self(Arc::new(Mutex::new(State {
            capacity: Capacity::new(limits),
            ..State::default()
        })))
    }

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

    /// The session with this number, as [`Session::number`] gives it.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Session> {
        self.lock().open.get(&number).cloned()
    }

    /// Every session of a user.
    #[must_use]
    pub fn of_user(&self, user: &UserId) -> Vec<Session> {
        self.lock().of_user(user)
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
    /// that there is already stays.
    ///
    /// Credentials that are issued afterwards are accepted at once. Where their time of issue has whole seconds (`iat` of most tokens),
    /// those of the revocation's own second are accepted, unless they are credentials of a session that the revocation ended. So are
    /// credentials of an issuer whose clock is ahead.
    ///
    /// # Errors
    /// [`TooManyRevocations`]: nothing was done.
    pub fn revoke(&self, user: &UserId, keep: Duration) -> Result<Revocation, TooManyRevocations> {
        let now = to_micros(SystemTime::now());
        let (sessions, expires) = {
            let mut state = self.lock();
            if state.revoked.len() >= MAX_REVOKED {
                state.revoked.retain(|_, revoked| !revoked.is_over(now));
            }
            if state.revoked.len() >= MAX_REVOKED && !state.revoked.contains_key(user) {
                return Err(TooManyRevocations);
            }
            // What a clock cannot show is for ever, and what was revoked for longer stays so.
            let mut revoked = Revoked {
                issued_before: now,
                used: Vec::new(),
                used_until: None,
                until: now.checked_add(keep),
            };
            if let Some(known) = state.revoked.remove(user) {
                revoked.until = match (known.until, revoked.until) {
                    (Some(known), Some(until)) => Some(known.max(until)),
                    _ => None,
                };
                revoked.used_until = known.used_until;
                known.used.into_iter().for_each(|used| revoked.refuse(used));
            }
            let until = revoked.until;
            let sessions = state.of_user(user);
            for grant in sessions.iter().map(Session::grant) {
                if let Some(issued_at) = grant.issued_at {
                    revoked.refuse((issued_at, grant.expires_at));
                }
            }
            state.lost.forget_all(user);
            // Who comes from here on is checked before it is on the list.
            state.revoked.insert(user.clone(), revoked);
            (sessions, until)
        };
        for session in &sessions {
            session.close(Code::REVOKED, REVOKED);
        }
        Ok(Revocation {
            sessions: sessions.len(),
            issued_before: now,
            expires,
        })
    }

    /// A session was lost: the one of the same user that follows may ask for what this one was given.
    pub(super) fn keep_given(&self, user: &UserId, channels: Vec<ChannelName>) {
        self.lock().lost.keep(user, channels, Instant::now());
    }

    /// Whether the server gave the channel to another session of the user, which is open or was just lost.
    pub(super) fn has_given(&self, user: &UserId, channel: &ChannelName) -> bool {
        let sessions = {
            let state = self.lock();
            if state.lost.has(user, channel, Instant::now()) {
                return true;
            }
            state.of_user(user)
        };
        let mut sessions = sessions.iter();
        sessions.any(|session| {
            let inner = session.inner();
            !inner.ended.is_cancelled() && inner.was_given(channel)
        })
    }

    /// No session of the user was given the channel any more.
    pub(super) fn take_back(&self, user: &UserId, channel: &ChannelName) {
        let sessions = {
            let mut state = self.lock();
            state.lost.forget(user, channel);
            state.of_user(user)
        };
        for session in &sessions {
            session.inner().forget_given(channel);
        }
    }

    /// Whether the credentials of `grant` were revoked.
    pub(super) fn check(&self, grant: &Grant) -> Result<(), Close> {
        self.lock().check(grant)
    }

    /// Ends sessions whose clients have taken nothing for as long as `limit` of what waits for them: of some sessions after `after`, in the
    /// order of their identities. Returns the last of them; `None` after all.
    pub(crate) fn end_stalled(&self, after: Option<u64>, limit: Duration) -> Option<u64> {
        let sessions: Vec<_> = {
            let state = self.lock();
            let from = after.map_or(Some(0), |after| after.checked_add(1))?;
            let open = state.open.range(from..).take(stall::BATCH);
            open.map(|(id, session)| (*id, session.clone())).collect()
        };
        let now = Instant::now();
        for (_, session) in &sessions {
            session.inner().check_stall(now, limit);
        }
        sessions.last().map(|(id, _)| *id)
    }

    /// Whether there may be a place for a client of this address, before it is known which user it is.
    pub(crate) fn may_enter(&self, prefix: Option<Prefix>) -> Result<(), Close> {
        self.lock().capacity.may_take(prefix)
    }

    /// Puts a session on the list, unless its credentials were revoked or there is no place for it.
    pub(super) fn enter(&self, session: &Session, prefix: Option<Prefix>) -> Result<Entry, Close> {
        let id = session.inner().id;
        let (place, evicted) = {
            let mut state = self.lock();
            state.check(&session.grant())?;
            let taken = state.capacity.take(id, prefix, session.user())?;
            state.open.insert(id, session.clone());
            (
                taken.place,
                taken.evicted.and_then(|id| state.open.get(&id).cloned()),
            )
        };
        if let Some(evicted) = evicted {
            evicted.close(Code::TOO_MANY_SESSIONS, EVICTED);
        }
        Ok(Entry {
            sessions: self.clone(),
            id,
            place,
        })
    }
}

const EVICTED: &str =
    "the server is full, and this session's user or address has the most of its sessions";
const REVOKED: &str = "the credentials of this session were revoked";

impl State {
    fn of_user(&self, user: &UserId) -> Vec<Session> {
        let ids = self.capacity.of_user(user);
        let sessions = ids.filter_map(|id| self.open.get(&id));
        sessions.cloned().collect()
    }

    fn check(&self, grant: &Grant) -> Result<(), Close> {
        let revoked = grant.user.as_ref().and_then(|user| self.revoked.get(user));
        let Some(revoked) = revoked else {
            return Ok(());
        };
        if !revoked.concerns(grant) || revoked.is_over(SystemTime::now()) {
            return Ok(());
        }
        Err(Close::new(Code::REVOKED, REVOKED))
    }
}

/// The time without what tokens cannot say of it.
fn to_micros(time: SystemTime) -> SystemTime {
    round_down(time, 1_000)
}

fn to_second(time: SystemTime) -> SystemTime {
    round_down(time, 1_000_000_000)
}

/// The last multiple of some nanoseconds, at most a second of them.
fn round_down(time: SystemTime, nanos: u32) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let beyond = Duration::from_nanos((since.subsec_nanos() % nanos).into());
    time.checked_sub(beyond).unwrap_or(time)
}

fn parse_id(id: &str) -> Option<u64> {
    (id.len() == 16)
        .then(|| u64::from_str_radix(id, 16).ok())
        .flatten()
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        state.capacity.release(&self.place);
        let Some(session) = state.open.remove(&self.id) else {
            return;
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_ended_sessions_are_refused_and_of_too_many_all_up_to_the_latest() {
        let second = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let after = |micros| second + Duration::from_micros(micros);
        let grant = |issued_at| Grant::anonymous().issued_at(issued_at);
        let mut revoked = Revoked {
            issued_before: to_micros(after(400) + Duration::from_nanos(999)),
            used: Vec::new(),
            used_until: None,
            until: None,
        };
        assert_eq!(revoked.issued_before, after(400));
        assert!(revoked.concerns(&Grant::anonymous()));
        for (issued_at, refused) in [
            (after(399), true),
            (after(400), false),
            (after(401), false),
            (second, false),
            (second - Duration::from_nanos(1), true),
            (UNIX_EPOCH, true),
        ] {
            assert_eq!(
                revoked.concerns(&grant(issued_at)),
                refused,
                "{issued_at:?}"
            );
        }
        // An issuer whose clock is three seconds ahead.
        let ahead = second + Duration::from_secs(3);
        revoked.refuse((ahead, Some(after(1))));
        assert!(revoked.concerns(&grant(ahead).expires_at(after(1))));
        assert!(!revoked.concerns(&grant(ahead).expires_at(after(2))));
        for number in 1..MAX_USED as u64 {
            revoked.refuse((second, Some(after(number))));
        }
        assert!(!revoked.concerns(&grant(second)));
        assert!(revoked.concerns(&grant(second).expires_at(after(7))));
        revoked.refuse((second, Some(after(MAX_USED as u64))));
        assert!(revoked.concerns(&grant(second)));
        assert!(!revoked.concerns(&grant(after(400))));
        revoked.refuse((ahead, None));
        assert!(revoked.concerns(&grant(ahead)));
        assert!(!revoked.concerns(&grant(ahead + Duration::from_secs(1))));
    }
}

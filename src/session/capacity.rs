//! Places of sessions, with a fair share for each user and each address.

use super::Close;
use crate::{
    transport::{Prefix, Shares},
    wire::{Code, UserId},
};

/// Most sessions of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionLimits {
    pub(crate) total: usize,
    /// Of one user; `None` for a share of the total alone.
    pub(crate) per_user: Option<usize>,
    /// Of one address; `None` for a share of the total alone.
    pub(crate) per_address: Option<usize>,
}

/// Evicted sessions that have not ended yet: above it nobody is evicted.
const MAX_LEAVING: usize = 1024;

/// Places of sessions.
#[derive(Debug)]
pub(super) struct Capacity {
    limits: SessionLimits,
    next: u64,
    /// Places that are taken, without those of evicted sessions.
    taken: usize,
    /// Sessions that were evicted and have not ended.
    leaving: usize,
    addresses: Shares<Prefix, Holder>,
    users: Shares<UserId, Holder>,
}

/// Whose a place is, as the other table has it.
#[derive(Debug, Clone)]
struct Holder {
    session: u64,
    prefix: Option<Prefix>,
    user: Option<UserId>,
}

/// A place of a session, to be given back with [`Capacity::release`].
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    prefix: Option<Prefix>,
    user: Option<UserId>,
    /// It counts for neither, so that nobody can evict it.
    unshared: bool,
}

/// A place that was given.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) place: Place,
    /// Identity of the session that has to end for it.
    pub(super) evicted: Option<u64>,
}

impl Default for Capacity {
    fn default() -> Self {
        Self::new(SessionLimits {
            total: usize::MAX,
            per_user: None,
            per_address: None,
        })
    }
}

fn refused(reason: String) -> Close {
    Close::new(Code::TOO_MANY_SESSIONS, reason)
}

impl Capacity {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            next: 0,
            taken: 0,
            leaving: 0,
            addresses: Shares::default(),
            users: Shares::default(),
        }
    }

    /// Identities of the sessions of a user.
    pub(super) fn of_user(&self, user: &UserId) -> impl Iterator<Item = u64> {
        self.users.of(user).map(|(_, holder)| holder.session)
    }

    /// Whether a client of this address may get a place, as some user or other.
    pub(super) fn may_take(&self, prefix: Option<Prefix>) -> Result<(), Close> {
        self.address_limit(prefix)?;
        if self.taken < self.limits.total || self.users.largest().is_some() {
            return Ok(());
        }
        self.largest_address(prefix)
            .map(drop)
            .ok_or_else(|| self.full())
    }

    /// Gives a session a place.
    pub(super) fn take(
        &mut self,
        session: u64,
        prefix: Option<Prefix>,
        user: Option<&UserId>,
    ) -> Result<Taken, Close> {
        self.address_limit(prefix)?;
        if let (Some(limit), Some(user)) = (self.limits.per_user, user)
            && self.users.count(user) >= limit
        {
            return Err(refused(format!(
                "this server takes {limit} sessions of one user"
            )));
        }
        let mut evicted = None;
        if self.taken >= self.limits.total {
            let (number, victim) = self.victim(prefix, user).ok_or_else(|| self.full())?;
            self.forget(number, victim.prefix, victim.user.as_ref());
            self.leaving += 1;
            evicted = Some(victim.session);
        }
        let number = self.next;
        self.next += 1;
        self.taken += 1;
        let user = user.cloned();
        let holder = Holder {
            session,
            prefix,
            user: user.clone(),
        };
        if let Some(user) = &user {
            self.users.insert(user.clone(), number, holder.clone());
        }
        if let Some(prefix) = prefix {
            self.addresses.insert(prefix, number, holder);
        }
        let place = Place {
            number,
            unshared: user.is_none() && prefix.is_none(),
            prefix,
            user,
        };
        Ok(Taken { place, evicted })
    }

    /// Takes a place back.
    pub(super) fn release(&mut self, place: &Place) {
        let held = self.forget(place.number, place.prefix, place.user.as_ref());
        if !held && place.unshared {
            self.taken -= 1;
        } else if !held {
            self.leaving -= 1;
        }
    }

    /// Whether the place was held: that of an evicted session is not.
    fn forget(&mut self, number: u64, prefix: Option<Prefix>, user: Option<&UserId>) -> bool {
        let address = prefix.and_then(|prefix| self.addresses.remove(&prefix, number));
        let user = user.and_then(|user| self.users.remove(user, number));
        let held = address.is_some() || user.is_some();
        self.taken -= usize::from(held);
        held
    }

    fn address_limit(&self, prefix: Option<Prefix>) -> Result<(), Close> {
        match (self.limits.per_address, prefix) {
            (Some(limit), Some(prefix)) if self.addresses.count(&prefix) >= limit => Err(refused(
                format!("this server takes {limit} sessions of one address"),
            )),
            _ => Ok(()),
        }
    }

    fn full(&self) -> Close {
        refused(format!("this server takes {} sessions", self.limits.total))
    }

    /// The address that has the most sessions, where it has more than a newcomer's would.
    fn largest_address(&self, newcomer: Option<Prefix>) -> Option<(&Prefix, usize)> {
        let own = newcomer.map_or(0, |prefix| self.addresses.count(&prefix));
        self.addresses
            .largest()
            .filter(|(_, count)| *count > own + 1)
    }

    /// The user that has the most sessions, where it has more than a newcomer would.
    fn largest_user(&self, newcomer: Option<&UserId>) -> Option<(&UserId, usize)> {
        let own = newcomer.map_or(0, |user| self.users.count(user));
        self.users.largest().filter(|(_, count)| *count > own + 1)
    }

    /// The session whose place a newcomer takes: the newest, because those that were there before a flood are older.
    fn victim(&self, prefix: Option<Prefix>, user: Option<&UserId>) -> Option<(u64, Holder)> {
        if self.leaving >= MAX_LEAVING {
            return None;
        }
        let (address, user) = (self.largest_address(prefix), self.largest_user(user));
        let of_user = user.and_then(|(user, _)| self.users.of(user).next_back());
        let of_address = address.and_then(|(address, _)| self.addresses.of(address).next_back());
        let count = |largest: Option<usize>| largest.unwrap_or(0);
        // The flood of one user is not to cost others of its address their places.
        let prefers_user =
            count(user.map(|(_, count)| count)) * 2 >= count(address.map(|(_, count)| count));
        let victim = if prefers_user {
            of_user.or(of_address)
        } else {
            of_address.or(of_user)
        };
        victim.map(|(number, holder)| (number, holder.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn capacity(total: usize) -> Capacity {
        Capacity::new(SessionLimits {
            total,
            per_user: None,
            per_address: None,
        })
    }

    fn prefix(address: &str) -> Option<Prefix> {
        Some(address.parse::<IpAddr>().unwrap().into())
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    /// Takes a place, and says who was evicted.
    fn take(
        capacity: &mut Capacity,
        session: u64,
        address: &str,
        name: Option<&str>,
    ) -> Result<Option<u64>, Code> {
        let name = name.map(user);
        capacity
            .take(session, prefix(address), name.as_ref())
            .map(|taken| taken.evicted)
            .map_err(|close| close.code)
    }

    const FULL: Result<Option<u64>, Code> = Err(Code::TOO_MANY_SESSIONS);

    #[test]
    fn refused_session_takes_no_place() {
        let mut capacity = capacity(1);
        let first = capacity.take(1, prefix("192.0.2.1"), None).unwrap();
        for _ in 0..2 {
            assert!(capacity.may_take(prefix("192.0.2.1")).is_err());
            assert_eq!(take(&mut capacity, 2, "192.0.2.1", Some("a")), FULL);
        }
        capacity.release(&first.place);
        assert_eq!(take(&mut capacity, 3, "192.0.2.1", None), Ok(None));
    }

    #[test]
    fn one_user_cannot_keep_others_out() {
        let mut capacity = capacity(100);
        for session in 0..100 {
            let address = format!("192.0.2.{session}");
            assert_eq!(
                take(&mut capacity, session, &address, Some("flood")),
                Ok(None)
            );
        }
        assert_eq!(take(&mut capacity, 200, "192.0.2.1", Some("flood")), FULL);
        for other in 0..50 {
            let name = format!("user-{other}");
            let evicted = take(&mut capacity, 300 + other, "192.0.2.1", Some(&name));
            assert_eq!(evicted, Ok(Some(99 - other)), "the newest of the flood");
        }
        assert_eq!(capacity.of_user(&user("flood")).count(), 50);
        assert_eq!((capacity.taken, capacity.leaving), (100, 50));
    }

    #[test]
    fn one_address_cannot_keep_others_out() {
        for name in [None, Some("user")] {
            let mut capacity = capacity(100);
            for session in 0..100 {
                let name = name.map(|name| format!("{name}-{session}"));
                let taken = take(&mut capacity, session, "192.0.2.1", name.as_deref());
                assert_eq!(taken, Ok(None));
            }
            assert_eq!(take(&mut capacity, 200, "192.0.2.1", Some("late")), FULL);
            assert!(capacity.may_take(prefix("192.0.2.1")).is_err());
            for other in 0..50 {
                let address = format!("2001:db8:0:{}::1", other % 2);
                let evicted = take(&mut capacity, 300 + other, &address, None);
                // Two addresses share what the flood has, and no more.
                let expected = if other < 66 {
                    Ok(Some(99 - other))
                } else {
                    FULL
                };
                assert_eq!(evicted, expected, "{other}");
            }
        }
    }

    #[test]
    fn flood_of_one_user_spares_others_of_its_address() {
        let mut capacity = capacity(100);
        for session in 0..90 {
            take(&mut capacity, session, "192.0.2.1", Some("flood")).unwrap();
        }
        for session in 90..100 {
            let name = format!("user-{session}");
            take(&mut capacity, session, "192.0.2.1", Some(&name)).unwrap();
        }
        for session in 100..120 {
            let evicted = take(&mut capacity, session, "192.0.2.9", None);
            assert_eq!(evicted, Ok(Some(189 - session)));
        }
    }

    #[test]
    fn equal_holders_keep_their_places() {
        let mut capacity = capacity(3);
        for session in 0..3 {
            let address = format!("192.0.2.{session}");
            take(&mut capacity, session, &address, Some(&address)).unwrap();
        }
        assert!(capacity.may_take(prefix("192.0.2.9")).is_err());
        assert_eq!(take(&mut capacity, 9, "192.0.2.9", Some("new")), FULL);
    }

    #[test]
    fn places_without_address_count_by_user_alone() {
        let mut capacity = capacity(4);
        let anonymous = capacity.take(1, None, None).unwrap();
        for session in 2..5 {
            capacity.take(session, None, Some(&user("flood"))).unwrap();
        }
        assert_eq!(capacity.taken, 4);
        let taken = capacity.take(5, None, None).unwrap();
        assert_eq!(taken.evicted, Some(4));
        capacity.release(&anonymous.place);
        capacity.release(&taken.place);
        assert_eq!((capacity.taken, capacity.leaving), (2, 1));
    }

    #[test]
    fn limits_of_one_user_and_one_address_hold() {
        let mut capacity = Capacity::new(SessionLimits {
            total: 100,
            per_user: Some(2),
            per_address: Some(3),
        });
        let kept: Vec<_> = [("192.0.2.1", "a"), ("2001:db8::1", "a")]
            .map(|(address, name)| {
                capacity
                    .take(0, prefix(address), Some(&user(name)))
                    .unwrap()
            })
            .into_iter()
            .collect();
        assert_eq!(take(&mut capacity, 1, "192.0.2.9", Some("a")), FULL);
        for (session, address) in ["2001:db8::2", "2001:db8::3"].into_iter().enumerate() {
            assert_eq!(take(&mut capacity, session as u64, address, None), Ok(None));
        }
        assert_eq!(take(&mut capacity, 1, "2001:db8::4", Some("b")), FULL);
        assert!(capacity.may_take(prefix("2001:db8::4")).is_err());
        assert_eq!(
            take(&mut capacity, 1, "2001:db8:0:1::4", Some("b")),
            Ok(None)
        );
        for taken in &kept {
            capacity.release(&taken.place);
        }
        assert_eq!(take(&mut capacity, 1, "192.0.2.9", Some("a")), Ok(None));
    }
}

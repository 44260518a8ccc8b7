//! Admission control: which connection ends to make room for a new one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::transport::Prefix;

/// The open connections, each until its [`Admitted`] is dropped.
#[derive(Clone, Default)]
pub(super) struct Admission(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Entry>,
    /// Connections of each address that have not presented the key.
    strangers: HashMap<Prefix, usize>,
    /// Number of the next connection, and of the next event.
    next: u64,
}

struct Entry {
    address: Prefix,
    /// It has presented the key.
    authenticated: bool,
    /// When it was opened, or a request of it began or was answered last, by [`State::next`].
    active: u64,
    evicted: CancellationToken,
}

/// The place of one connection.
pub(super) struct Admitted {
    admission: Admission,
    number: u64,
    /// Cancelled when the connection has to end at once.
    pub(super) evicted: CancellationToken,
}

impl Admission {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a connection; its address is the whole IPv4 address, or the /64 of an IPv6 address.
    pub(super) fn admit(&self, address: IpAddr) -> Admitted {
        let address = Prefix::from(address);
        let evicted = CancellationToken::new();
        let mut state = self.lock();
        let number = state.tick();
        let entry = Entry {
            address,
            authenticated: false,
            active: number,
            evicted: evicted.clone(),
        };
        state.open.insert(number, entry);
        *state.strangers.entry(address).or_default() += 1;
        Admitted {
            admission: self.clone(),
            number,
            evicted,
        }
    }

    /// Ends a connection that has not presented the key: of the address that has the most of them the one that did nothing for longest,
    /// also where its request is not complete. False where every connection has presented the key.
    fn evict(&self) -> bool {
        let mut state = self.lock();
        let strangers = state.open.iter().filter(|(_, entry)| !entry.authenticated);
        let victim = strangers.min_by_key(|(_, entry)| {
            let share = state.strangers.get(&entry.address);
            (Reverse(share), entry.active)
        });
        let Some(number) = victim.map(|(number, _)| *number) else {
            return false;
        };
        if let Some(entry) = state.remove(number) {
            entry.evicted.cancel();
        }
        true
    }

    /// Number of connections that are open and not evicted.
    fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Makes room for one connection among `limit`; false where there is none.
    pub(super) fn make_room(&self, limit: usize) -> bool {
        self.count() < limit || self.evict()
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.open.remove(&number)?;
        if !entry.authenticated {
            self.forget_stranger(entry.address);
        }
        Some(entry)
    }

    fn forget_stranger(&mut self, address: Prefix) {
        if let Some(count) = self.strangers.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.strangers.remove(&address);
            }
        }
    }
}

impl Admitted {
    /// Notes that the head of a request has come, with the key or without.
    pub(super) fn begin_request(&self, authenticated: bool) {
        let mut state = self.admission.lock();
        let now = state.tick();
        if let Some(entry) = state.open.get_mut(&self.number) {
            entry.active = now;
            if authenticated && !entry.authenticated {
                entry.authenticated = true;
                let address = entry.address;
                state.forget_stranger(address);
            }
        }
    }

    /// Notes that the request is answered.
    pub(super) fn end_request(&self) {
        let mut state = self.admission.lock();
        let now = state.tick();
        if let Some(entry) = state.open.get_mut(&self.number) {
            entry.active = now;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(admitted: &Admitted) -> bool {
        admitted.evicted.is_cancelled()
    }

    #[test]
    fn oldest_stranger_of_the_largest_share_is_evicted_and_the_key_protects() {
        let admission = Admission::default();
        let [one, two]: [IpAddr; 2] =
            ["192.0.2.1", "::ffff:192.0.2.2"].map(|ip| ip.parse().unwrap());
        let alone = admission.admit(one);
        let [first, second, third, fourth] = [two; 4].map(|address| admission.admit(address));
        second.begin_request(true);
        third.begin_request(false);
        // The key is remembered, whatever the next request carries.
        second.end_request();
        second.begin_request(false);
        second.end_request();
        // It is the oldest connection, but was answered after the others came.
        first.begin_request(false);
        first.end_request();
        assert!(admission.evict() && gone(&fourth));
        // A request that is not complete does not protect.
        assert!(admission.evict() && gone(&third));
        // Both addresses have one.
        assert!(admission.evict() && gone(&alone));
        assert!(admission.evict() && gone(&first));
        assert!(!admission.evict() && !gone(&second));
        assert!(!admission.make_room(1) && admission.make_room(2));
        assert_eq!(admission.count(), 1);
        drop((alone, first, third, fourth));
        assert_eq!(admission.count(), 1);
        drop(second);
        assert_eq!(admission.count(), 0);
        assert!(admission.lock().strangers.is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_have_one_share() {
        let admission = Admission::default();
        let admit = |address: &str| admission.admit(address.parse().unwrap());
        let alone = admit("2001:db8:0:1::1");
        let many = ["2001:db8:0:2::1", "2001:db8:0:2:ffff::2"].map(admit);
        assert!(admission.evict() && gone(&many[0]) && !gone(&alone));
    }
}

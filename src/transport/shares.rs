//! Fair shares: who holds how much of what is bounded.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Network address of a client as limits see it: an IPv4 address, or the /64 of an IPv6 address, which one host can have to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Prefix(IpAddr);

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl From<SocketAddr> for Prefix {
    fn from(address: SocketAddr) -> Self {
        address.ip().into()
    }
}

/// Holders of places, each place with a number that grows with the time it was taken, and a value.
///
/// Bounded by the number of places: a holder without one is forgotten.
#[derive(Debug)]
pub(crate) struct Shares<K, T = ()> {
    counts: HashMap<K, usize>,
    /// Holders of two places or more, so that most holders cost nothing here.
    ranked: BTreeSet<(usize, K)>,
    places: BTreeMap<(K, u64), T>,
}

impl<K, T> Default for Shares<K, T> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            ranked: BTreeSet::new(),
            places: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord, T> Shares<K, T> {
    /// Gives a holder the place of this number, which is new.
    pub(crate) fn insert(&mut self, holder: K, number: u64, value: T) {
        let count = self.count(&holder) + 1;
        self.rank(&holder, count - 1, count);
        self.counts.insert(holder.clone(), count);
        self.places.insert((holder, number), value);
    }

    /// Takes a place back; `None` where the holder does not have it.
    pub(crate) fn remove(&mut self, holder: &K, number: u64) -> Option<T> {
        let value = self.places.remove(&(holder.clone(), number))?;
        let count = self.count(holder);
        self.rank(holder, count, count - 1);
        if count == 1 {
            self.counts.remove(holder);
        } else {
            self.counts.insert(holder.clone(), count - 1);
        }
        Some(value)
    }

    fn rank(&mut self, holder: &K, before: usize, after: usize) {
        if before > 1 {
            self.ranked.remove(&(before, holder.clone()));
        }
        if after > 1 {
            self.ranked.insert((after, holder.clone()));
        }
    }

    /// Number of places of a holder.
    pub(crate) fn count(&self, holder: &K) -> usize {
        self.counts.get(holder).copied().unwrap_or(0)
    }

    /// Holder of the most places, where that has two at least, and their number.
    pub(crate) fn largest(&self) -> Option<(&K, usize)> {
        self.ranked.last().map(|(count, holder)| (holder, *count))
    }

    /// Places of a holder with their numbers, the oldest first.
    pub(crate) fn of(&self, holder: &K) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let range = (holder.clone(), 0)..=(holder.clone(), u64::MAX);
        self.places
            .range(range)
            .map(|((_, number), value)| (*number, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str) -> Prefix {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn addresses_of_one_host_are_one_prefix() {
        assert_eq!(prefix("::ffff:192.0.2.1"), prefix("192.0.2.1"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.2.2"));
        assert_eq!(prefix("2001:db8::1"), prefix("2001:db8::ffff:0:0:2"));
        assert_ne!(prefix("2001:db8:0:1::1"), prefix("2001:db8:0:2::1"));
        assert_ne!(prefix("::1"), prefix("127.0.0.1"));
    }

    #[test]
    fn largest_holder_follows_every_change() {
        let mut shares = Shares::default();
        assert_eq!(shares.largest(), None);
        shares.insert("a", 1, ());
        assert_eq!(shares.largest(), None, "one place is no share to give up");
        shares.insert("b", 2, ());
        shares.insert("b", 3, ());
        assert_eq!(shares.largest(), Some((&"b", 2)));
        shares.insert("a", 4, ());
        shares.insert("a", 5, ());
        assert_eq!(shares.largest(), Some((&"a", 3)));
        let numbers: Vec<_> = shares.of(&"a").map(|(number, ())| number).collect();
        assert_eq!(numbers, [1, 4, 5]);
        assert_eq!(shares.remove(&"a", 2), None, "the place of another");
        for number in [1, 4, 5] {
            assert_eq!(shares.remove(&"a", number), Some(()));
        }
        assert_eq!(shares.largest(), Some((&"b", 2)));
        shares.remove(&"b", 2);
        shares.remove(&"b", 3);
        assert!(shares.counts.is_empty() && shares.ranked.is_empty() && shares.places.is_empty());
    }
}

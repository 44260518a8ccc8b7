//! Bounds of handshakes in flight, with a fair share for each address.
//!
//! Up to the hard limit every client is admitted. At the limit a newcomer takes the place of the oldest handshake of the address that
//! holds most, or of the socket that holds most, where that holds more than the newcomer would: one address, and one socket of an
//! address that many share, cannot keep others out.

use std::{
    collections::BTreeMap,
    hash::Hash,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::shares::{Prefix, Shares};

/// Handshakes in flight of one port, of all workers together. Cloning shares it.
#[derive(Clone)]
pub(super) struct Admission {
    /// Handshakes in flight above which a client must first prove its address (Retry).
    pub(super) soft: usize,
    hard: usize,
    /// Who goes first of a holder's.
    first: First,
    /// Addresses are those of clients, and not of a proxy.
    counts_addresses: bool,
    table: Arc<Mutex<Table>>,
}

/// Whose place is taken, of those that one holder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// The oldest: handshakes had the most time.
    Oldest,
    /// The newest: sessions that were there before a flood are older.
    Newest,
}

/// What happens at the hard limit where nobody holds more than the newcomer would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// The newcomer is refused.
    Refuse,
    /// The oldest handshake of the newcomer's address ends, or the oldest of all where that has none.
    EndOldest,
}

/// What ends a handshake whose place is taken.
type End = Box<dyn FnOnce() + Send>;

/// Bounded by the hard limit.
#[derive(Default)]
struct Table {
    next: u64,
    addresses: Shares<Prefix>,
    sockets: Shares<SocketAddr>,
    open: BTreeMap<u64, Handshake>,
}

struct Handshake {
    /// `None` behind a proxy.
    socket: Option<SocketAddr>,
    /// `None` until the handshake can be ended.
    end: Option<End>,
}

/// One handshake in flight, until it is dropped or evicted.
pub(crate) struct Permit {
    table: Arc<Mutex<Table>>,
    number: u64,
}

/// Sets what ends a handshake when its place is taken.
pub(crate) struct Eviction {
    table: Weak<Mutex<Table>>,
    number: u64,
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Admission {
    pub(super) fn new(soft: usize, hard: usize) -> Self {
        Self {
            soft,
            hard,
            first: First::Oldest,
            counts_addresses: true,
            table: Arc::default(),
        }
    }

    /// Bounds of connections for as long as they live.
    pub(super) fn of_connections(max: usize) -> Self {
        Self {
            first: First::Newest,
            ..Self::new(max, max)
        }
    }

    /// The same bounds for clients of a proxy: its address says nothing of theirs.
    pub(super) fn behind_proxy(&self) -> Self {
        Self {
            counts_addresses: false,
            ..self.clone()
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        lock(&self.table).open.len()
    }

    /// Whether an address must be proved before a handshake of it begins.
    pub(super) fn must_validate(&self) -> bool {
        self.in_flight() >= self.soft.min(self.hard)
    }

    /// Index of the address whose prefix, and then whose socket, has the fewest handshakes in flight; the first of several.
    pub(super) fn least(&self, addresses: impl Iterator<Item = SocketAddr>) -> Option<usize> {
        let table = lock(&self.table);
        let held = |address| table.held(canonical(address));
        let least = addresses
            .map(held)
            .enumerate()
            .min_by_key(|(_, held)| *held);
        least.map(|(index, _)| index)
    }

    /// A permit, where the limits and fairness leave one.
    pub(super) fn enter(&self, remote: SocketAddr, tie: Tie) -> Option<Permit> {
        let socket = self.counts_addresses.then(|| canonical(remote));
        let mut table = lock(&self.table);
        let mut evicted = None;
        if table.open.len() >= self.hard {
            let victim = table.victim(socket, tie, self.first)?;
            evicted = table.remove(victim);
        }
        let number = table.next;
        table.next += 1;
        if let Some(socket) = socket {
            table.addresses.insert(socket.into(), number, ());
            table.sockets.insert(socket, number, ());
        }
        table.open.insert(number, Handshake { socket, end: None });
        drop(table);
        // Outside of the lock: it takes others.
        if let Some(end) = evicted.and_then(|handshake| handshake.end) {
            end();
        }
        Some(Permit {
            table: Arc::clone(&self.table),
            number,
        })
    }
}

impl First {
    fn of<K: Clone + Eq + Hash + Ord>(self, shares: &Shares<K>, holder: &K) -> Option<u64> {
        let mut places = shares.of(holder);
        let place = match self {
            Self::Oldest => places.next(),
            Self::Newest => places.next_back(),
        };
        place.map(|(number, ())| number)
    }
}

impl Table {
    /// Handshakes in flight of the address, and of the socket.
    fn held(&self, socket: SocketAddr) -> (usize, usize) {
        (
            self.addresses.count(&socket.into()),
            self.sockets.count(&socket),
        )
    }

    fn victim(&self, newcomer: Option<SocketAddr>, tie: Tie, first: First) -> Option<u64> {
        let (address, socket) = newcomer.map_or((0, 0), |newcomer| self.held(newcomer));
        let largest_socket = self.sockets.largest();
        if let Some((largest, count)) = self.addresses.largest()
            && count > address + 1
        {
            // The flood of one socket is not to cost others of its address their places.
            let flood = largest_socket
                .filter(|(socket, most)| Prefix::from(**socket) == *largest && most * 2 >= count);
            return match flood {
                Some((socket, _)) => first.of(&self.sockets, socket),
                None => first.of(&self.addresses, largest),
            };
        }
        if let Some((largest, count)) = largest_socket
            && count > socket + 1
        {
            return first.of(&self.sockets, largest);
        }
        match tie {
            Tie::Refuse => None,
            Tie::EndOldest => {
                let own = |newcomer: SocketAddr| first.of(&self.addresses, &newcomer.into());
                newcomer.and_then(own).or_else(|| {
                    let oldest = self.open.first_key_value();
                    oldest.map(|(number, _)| *number)
                })
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Handshake> {
        let handshake = self.open.remove(&number)?;
        if let Some(socket) = &handshake.socket {
            self.addresses.remove(&(*socket).into(), number);
            self.sockets.remove(socket, number);
        }
        Some(handshake)
    }
}

impl Permit {
    /// A handle that sets what ends the handshake.
    pub(crate) fn eviction(&self) -> Eviction {
        Eviction {
            table: Arc::downgrade(&self.table),
            number: self.number,
        }
    }
}

impl Eviction {
    /// Sets what ends the handshake when its place is taken, until the permit is dropped; called at once where its place was
    /// taken already. To be set before the permit may be dropped.
    pub(crate) fn set(self, end: impl FnOnce() + Send + 'static) {
        let Some(shared) = self.table.upgrade() else {
            return;
        };
        let mut table = lock(&shared);
        match table.open.get_mut(&self.number) {
            Some(handshake) => handshake.end = Some(Box::new(end)),
            None => {
                drop(table);
                end();
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let handshake = lock(&self.table).remove(self.number);
        // Outside of the lock: it may be the last that holds something.
        drop(handshake);
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("soft", &self.soft)
            .field("hard", &self.hard)
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Permit").field(&self.number).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counted {
        admission: Admission,
        ended: Arc<AtomicUsize>,
    }

    impl Counted {
        fn new(hard: usize) -> Self {
            Self {
                admission: Admission::new(1, hard),
                ended: Arc::default(),
            }
        }

        fn enter(&self, address: &str, tie: Tie) -> Option<Permit> {
            let permit = self.admission.enter(address.parse().unwrap(), tie)?;
            let ended = Arc::clone(&self.ended);
            permit.eviction().set(move || {
                ended.fetch_add(1, Ordering::Relaxed);
            });
            Some(permit)
        }

        fn ended(&self) -> usize {
            self.ended.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn newcomer_evicts_oldest_of_the_largest_address() {
        let table = Counted::new(4);
        let held: Vec<_> = (1..5)
            .map(|port| {
                table
                    .enter(&format!("192.0.2.1:{port}"), Tie::Refuse)
                    .unwrap()
            })
            .collect();
        assert!(
            table.enter("192.0.2.1:9", Tie::Refuse).is_none(),
            "the same address"
        );
        assert!(
            table.enter("[::ffff:192.0.2.1]:9", Tie::Refuse).is_none(),
            "the same address, mapped"
        );
        let other = table.enter("192.0.2.2:1", Tie::Refuse).unwrap();
        let second = table.enter("192.0.2.2:2", Tie::Refuse).unwrap();
        assert_eq!((table.ended(), table.admission.in_flight()), (2, 4));
        assert!(
            table.enter("192.0.2.2:3", Tie::Refuse).is_none(),
            "both hold two"
        );
        drop((other, second));
        assert_eq!(table.admission.in_flight(), 2);
        drop(held);
        assert_eq!(table.admission.in_flight(), 0, "evicted permits count once");
    }

    #[test]
    fn newcomer_evicts_the_largest_socket_of_its_own_address() {
        let table = Counted::new(4);
        let polite = table.enter("192.0.2.1:1", Tie::Refuse).unwrap();
        let flood: Vec<_> = (0..3)
            .map(|_| table.enter("192.0.2.1:2", Tie::Refuse).unwrap())
            .collect();
        let newcomer = table.enter("192.0.2.1:3", Tie::Refuse);
        assert!(newcomer.is_some());
        let elsewhere = table.enter("192.0.2.9:3", Tie::Refuse);
        assert!(elsewhere.is_some());
        assert_eq!(table.ended(), 2, "both were of the flood");
        let polite_is_open = lock(&polite.table).open.contains_key(&polite.number);
        assert!(polite_is_open);
        drop(flood);
    }

    #[test]
    fn one_64_is_one_address() {
        let table = Counted::new(3);
        let _held: Vec<_> = (1..4)
            .map(|host| {
                let address = format!("[2001:db8::{host}]:1");
                table.enter(&address, Tie::Refuse).unwrap()
            })
            .collect();
        assert!(table.enter("[2001:db8::9]:1", Tie::Refuse).is_none());
        assert!(table.enter("[2001:db8:0:1::9]:1", Tie::Refuse).is_some());
    }

    #[test]
    fn oldest_gives_way_where_ties_end_the_oldest() {
        let table = Counted::new(2);
        let _first = table.enter("192.0.2.1:1", Tie::EndOldest).unwrap();
        let _second = table.enter("192.0.2.2:1", Tie::EndOldest).unwrap();
        for newcomer in ["192.0.2.3:1", "192.0.2.3:2", "192.0.2.2:2"] {
            drop(table.enter(newcomer, Tie::EndOldest).unwrap());
        }
        assert!(table.ended() >= 1 && table.admission.in_flight() <= 2);
    }

    #[test]
    fn least_prefers_who_holds_least() {
        let table = Counted::new(9);
        let _held = [1, 1, 2].map(|port| table.enter(&format!("192.0.2.1:{port}"), Tie::Refuse));
        let least = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            table.admission.least(addresses)
        };
        assert_eq!(least(&["192.0.2.1:1", "192.0.2.1:2"]), Some(1));
        assert_eq!(least(&["192.0.2.1:3", "192.0.2.2:1"]), Some(1));
        assert_eq!(least(&["192.0.2.2:1", "192.0.2.3:1"]), Some(0));
        assert_eq!(least(&[]), None);
    }
}

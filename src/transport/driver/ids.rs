//! Connection ids that name the worker which has the connection.
//!
//! Several sockets on one port share its datagrams by the client's address (SO_REUSEPORT). A client whose address changes lands
//! on another socket; the id in its packets tells whose connection it is.

use std::hash::{BuildHasher, RandomState};

use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use std::time::Duration;

/// Length of our ids in bytes: one for the worker, seven at random.
const LENGTH: usize = 8;

#[derive(Debug, Clone)]
pub(in crate::transport) struct Ids {
    worker: u8,
    workers: u8,
    /// Shared by the workers of one port. It hides the worker's number from who reads along on the way.
    mask: RandomState,
}

impl Ids {
    /// Of each of `workers` workers.
    pub(in crate::transport) fn of_port(workers: u8) -> impl Iterator<Item = Self> {
        let mask = RandomState::new();
        (0..workers).map(move |worker| Self {
            worker,
            workers,
            mask: mask.clone(),
        })
    }

    pub(super) const fn worker(&self) -> u8 {
        self.worker
    }

    fn mask(&self, rest: &[u8]) -> u8 {
        self.mask.hash_one(rest) as u8
    }

    /// Whose connection a datagram is for; `None` where it is not told by an id of ours: handshakes stay where they arrive.
    pub(super) fn owner(&self, datagram: &[u8]) -> Option<u8> {
        /// A packet with a long header, RFC 9000 §17.2.
        const LONG: u8 = 0x80;
        if self.workers == 1 || *datagram.first()? & LONG != 0 {
            return None;
        }
        let id = datagram.get(1..=LENGTH)?;
        let owner = id[0] ^ self.mask(&id[1..]);
        (owner < self.workers).then_some(owner)
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id: [u8; LENGTH] = rand::random();
        id[0] = self.worker ^ self.mask(&id[1..]);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_reads_whose_an_id_is() {
        let mut ids: Vec<_> = Ids::of_port(3).collect();
        for worker in 0..3 {
            for _ in 0..100 {
                let id = ids[worker as usize].generate_cid();
                let packet = [&[0x41], &id[..], &[0; 20]].concat();
                for reader in &ids {
                    assert_eq!(reader.owner(&packet), Some(worker));
                }
            }
        }
        assert_eq!(ids[0].owner(&[0xc1; 30]), None, "a long header");
        assert_eq!(ids[0].owner(&[0x41; 8]), None, "too short");
    }

    #[test]
    fn a_number_that_no_worker_has_stays_where_it_arrived() {
        let mut of_many = Ids::of_port(200).last().unwrap();
        let few = Ids {
            workers: 2,
            ..of_many.clone()
        };
        let id = of_many.generate_cid();
        assert_eq!(few.owner(&[&[0x41], &id[..]].concat()), None);
    }
}

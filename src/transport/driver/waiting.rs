//! First packets of clients that were not answered yet.

use std::collections::VecDeque;

use quinn_proto::{Endpoint, Incoming};

use crate::transport::admission::Admission;

/// A first packet, and the bytes of its datagram.
pub(super) type First = (Incoming, usize);

/// First packets that wait to be answered: a quarter of a second of handshakes on one core. quinn-proto's own bound,
/// `max_incoming`, is above, so that what is dropped is chosen here.
const MAX_WAITING: usize = 512;

/// First packets in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<First>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a packet. Where there are too many, the oldest goes whose address is not proved, or the oldest of all: its client sends
    /// it again.
    pub(super) fn push(&mut self, first: First, endpoint: &mut Endpoint) {
        if self.0.len() >= MAX_WAITING {
            let unproved = |(incoming, _): &First| !incoming.remote_address_validated();
            let oldest = self.0.iter().position(unproved).unwrap_or(0);
            if let Some((dropped, _)) = self.0.remove(oldest) {
                endpoint.ignore(dropped);
            }
        }
        self.0.push_back(first);
    }

    /// The next packet to be answered: proved addresses go first, and of those who has the fewest handshakes in flight.
    pub(super) fn next(&mut self, admission: &Admission) -> Option<First> {
        let proved = || {
            let all = self.0.iter().enumerate();
            all.filter(|(_, (incoming, _))| incoming.remote_address_validated())
        };
        let least = admission.least(proved().map(|(_, (incoming, _))| incoming.remote_address()));
        let chosen = least.and_then(|least| proved().nth(least));
        let index = chosen.map_or(0, |(index, _)| index);
        self.0.remove(index)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = First> {
        self.0.drain(..)
    }
}

//! Which first packets begin a handshake.

use std::time::Instant;

use quinn_proto::Incoming;

use super::{Arrived, Driver, INITIALS, paths::Paths, waiting::First};
use crate::transport::{
    admission::{Permit, Tie},
    peer_log::{Excerpt, throttled},
    tcp::FULL,
};

/// Handshakes begun in one poll. Each costs a signature, about 0.2 ms.
const ACCEPTS_PER_POLL: usize = 4;
/// First packets answered in one poll. Most cost a Retry or a refusal, a few microseconds each.
const ANSWERS_PER_POLL: usize = 64;

impl Driver {
    pub(super) fn incoming_refused(&mut self) {
        let all: Vec<_> = self.incoming.drain().collect();
        for first in all {
            self.refuse(first);
        }
    }

    fn refuse(&mut self, (incoming, size): First) {
        self.out.clear();
        let transmit = self.endpoint.refuse(incoming, &mut self.out);
        self.respond(&transmit, size);
    }

    /// Answers first packets: below the soft limit all begin a handshake; above it only proved addresses do, and the others are sent a
    /// Retry, which costs no memory; at the hard one [`Admission`](crate::transport::admission::Admission) decides.
    pub(super) fn accept(&mut self) {
        let mut begun = 0;
        for _ in 0..ANSWERS_PER_POLL {
            if begun == ACCEPTS_PER_POLL {
                return;
            }
            let admission = &self.port.admission;
            let Some((incoming, size)) = self.incoming.next(admission) else {
                return;
            };
            let remote = incoming.remote_address();
            if self.closing {
                self.refuse((incoming, size));
            } else if incoming.may_retry() && admission.must_validate() {
                self.out.clear();
                // It may retry, so this does not fail.
                if let Ok(transmit) = self.endpoint.retry(incoming, &mut self.out) {
                    self.respond(&transmit, size);
                }
            } else if let Some(permit) = admission.enter(remote, Tie::Refuse) {
                begun += 1;
                self.begin(incoming, size, permit);
            } else {
                throttled!(FULL, info, %remote, "refused: too many handshakes are in progress");
                self.refuse((incoming, size));
            }
        }
    }

    /// Begins a handshake.
    fn begin(&mut self, incoming: Incoming, size: usize, permit: Permit) {
        let remote = incoming.remote_address();
        let validated = incoming.remote_address_validated();
        let paths = (!validated).then(|| Paths::unvalidated(remote, size));
        self.out.clear();
        let accepted = self
            .endpoint
            .accept(incoming, Instant::now(), &mut self.out, None);
        match accepted {
            Ok((handle, proto)) => {
                let connection = self.insert(handle, proto, paths);
                let evicted = connection.downgrade();
                permit.eviction().set(move || evicted.abandon());
                self.arrivals.push_back(Arrived { connection, permit });
            }
            Err(error) => {
                let cause = error.cause.to_string();
                throttled!(INITIALS, info, %remote, error = %Excerpt(&cause), "no connection: its first packet is refused");
                if let Some(transmit) = error.response {
                    self.respond(&transmit, size);
                }
            }
        }
    }
}

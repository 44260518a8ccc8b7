//! The anti-amplification limit (RFC 9000 §8): to an address that is not validated go at most three times the bytes that came from it.
//!
//! quinn-proto checks its own count before a datagram and not after it, does not count path responses and MTU probes at all, and counts bytes
//! of any address for the newest. Therefore bytes are counted here, for each address.

use std::{net::SocketAddr, time::Instant};

use quinn_proto::Transmit;

use crate::transport::padding;

/// Bytes that may be sent for each that was received, RFC 9000 §8.1.
pub(super) const FACTOR: u64 = 3;
/// Bytes of a datagram during the handshake, at most.
const PACKET: u64 = 1200;
/// Addresses that are counted at a time. A client changes to one, and probes another; what is due to those before is not sent.
const MAX_LIMITED: usize = 4;

/// Addresses of a client that is not always at one validated address.
#[derive(Debug)]
pub(super) struct Paths {
    /// The one that was validated last; none during the handshake.
    validated: Option<SocketAddr>,
    limited: Vec<Limited>,
    /// Something came from another address than the client's: an answer may be due there.
    probed: bool,
}

/// An address that is not validated.
#[derive(Debug)]
struct Limited {
    address: SocketAddr,
    received: u64,
    sent: u64,
}

impl Paths {
    /// A client whose first datagram came from there.
    pub(super) fn unvalidated(address: SocketAddr, received: usize) -> Box<Self> {
        let mut paths = Self {
            validated: None,
            limited: Vec::new(),
            probed: false,
        };
        paths.received(address, received);
        Box::new(paths)
    }

    /// A client at a validated address.
    pub(super) fn validated(address: SocketAddr) -> Box<Self> {
        Box::new(Self {
            validated: Some(address),
            limited: Vec::new(),
            probed: false,
        })
    }

    pub(super) fn received(&mut self, from: SocketAddr, bytes: usize) {
        if self.validated == Some(from) {
            return;
        }
        self.probed = true;
        let bytes = bytes as u64;
        if let Some(known) = self.limited.iter_mut().find(|known| known.address == from) {
            known.received += bytes;
            return;
        }
        if self.limited.len() == MAX_LIMITED {
            self.limited.remove(0);
        }
        self.limited.push(Limited {
            address: from,
            received: bytes,
            sent: 0,
        });
    }

    fn set_validated(&mut self, address: SocketAddr) {
        self.validated = Some(address);
        self.limited.retain(|known| known.address != address);
    }

    /// Bytes that may be sent there.
    fn allowance(&self, to: SocketAddr) -> u64 {
        if self.validated == Some(to) {
            return u64::MAX;
        }
        let known = self.limited.iter().find(|known| known.address == to);
        known.map_or(0, Limited::allowance)
    }

    /// Counts what is to be sent; `false` where it is too much and must not be.
    fn admit(&mut self, to: SocketAddr, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if bytes > self.allowance(to) {
            return false;
        }
        if let Some(known) = self.limited.iter_mut().find(|known| known.address == to) {
            known.sent += bytes;
        }
        true
    }

    /// Makes what one call of the system sends, within the limit of its address. A datagram above the limit is lost like any packet.
    fn transmit(
        &mut self,
        proto: &mut quinn_proto::Connection,
        connected: bool,
        now: Instant,
        segments: usize,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let current = proto.remote_address();
        if connected && self.validated.is_none() {
            self.set_validated(current);
        }
        loop {
            let allowance = self.allowance(current);
            let (segments, limit) = if self.validated.is_none() {
                let datagrams = usize::try_from(allowance / PACKET).unwrap_or(usize::MAX);
                (segments.min(datagrams), u64::MAX)
            } else if allowance == u64::MAX && !self.probed {
                (segments, u64::MAX)
            } else {
                // The datagram may turn out to be for any of them.
                let limits = self.limited.iter().map(Limited::allowance);
                (1, limits.min().unwrap_or(u64::MAX))
            };
            if segments == 0 {
                return None;
            }
            let before = proto.stats();
            let make = || proto.poll_transmit(now, segments, out);
            let (made, removed) = padding::limited(limit, make);
            let mut transmit = made?;
            transmit.size -= removed;
            out.truncate(transmit.size);
            // Until it has validated a path, quinn-proto writes PATH_CHALLENGE into each packet for it but MTU probes and a close.
            let after = proto.stats();
            if connected
                && transmit.destination == current
                && after.frame_tx.path_challenge == before.frame_tx.path_challenge
                && after.path.sent_plpmtud_probes == before.path.sent_plpmtud_probes
                && !proto.is_closed()
            {
                self.set_validated(current);
            }
            if self.admit(transmit.destination, transmit.size) {
                return Some(transmit);
            }
            let (to, bytes) = (transmit.destination, transmit.size);
            tracing::trace!(%to, bytes, "a datagram above the anti-amplification limit is not sent");
            out.clear();
        }
    }
}

impl Limited {
    const fn allowance(&self) -> u64 {
        (FACTOR * self.received).saturating_sub(self.sent)
    }
}

/// Makes what one call of the system sends, within the limit of its address. `paths` is absent where the client's one address is validated.
pub(super) fn transmit(
    paths: &mut Option<Box<Paths>>,
    proto: &mut quinn_proto::Connection,
    connected: bool,
    now: Instant,
    segments: usize,
    out: &mut Vec<u8>,
) -> Option<Transmit> {
    let Some(known) = paths else {
        return proto.poll_transmit(now, segments, out);
    };
    let made = known.transmit(proto, connected, now, segments, out);
    if made.is_none() && known.validated == Some(proto.remote_address()) {
        known.probed = false;
        // Where quinn-proto gave up on an address because too little came from it, the next datagram from there counts with those before.
        if known.limited.is_empty() {
            *paths = None;
        }
    }
    made
}

//! Which epoch belongs to which server.

use std::collections::BTreeMap;

use tidings::wire::Epoch;

use super::{super::record::CallId, Kind, Violation};

/// A server's number.
type Server = usize;

/// What is known of a channel's epochs. An epoch is of a server when a call that began after that one started was acknowledged before
/// it was ended: of every other call both servers may have had a part.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    server: Server,
    serving: bool,
    invoked: BTreeMap<CallId, Server>,
    /// Epoch and where that was seen, in the order in which they were seen.
    known: Vec<(Server, Epoch, usize)>,
}

impl Epochs {
    pub(super) const fn started(&mut self) {
        self.server += 1;
        self.serving = true;
    }

    pub(super) const fn stopping(&mut self) {
        self.serving = false;
    }

    pub(super) fn invoked(&mut self, call: CallId) {
        if self.serving {
            self.invoked.insert(call, self.server);
        }
    }

    pub(super) fn acknowledged(&mut self, at: usize, call: CallId, epoch: Epoch) {
        let same = self.invoked.get(&call) == Some(&self.server);
        let known = |entry: &(Server, Epoch, usize)| (entry.0, entry.1) == (self.server, epoch);
        if self.serving && same && !self.known.iter().any(known) {
            self.known.push((self.server, epoch, at));
        }
    }

    fn server_of(&self, epoch: Epoch) -> Option<Server> {
        let entry = self.known.iter().find(|(_, known, _)| *known == epoch);
        entry.map(|(server, ..)| *server)
    }

    /// Whether the one epoch was over before the other began, as far as is known.
    pub(super) fn is_before(&self, one: Epoch, other: Epoch) -> bool {
        match (self.server_of(one), self.server_of(other)) {
            (Some(one), Some(other)) => one < other,
            _ => false,
        }
    }

    /// The last that was seen.
    pub(super) fn newest(&self) -> Option<Epoch> {
        self.known.last().map(|(_, epoch, _)| *epoch)
    }

    pub(super) fn judge(&self, violations: &mut Vec<Violation>) {
        for (index, (server, epoch, at)) in self.known.iter().enumerate() {
            for (earlier, old, _) in &self.known[..index] {
                let kind = match (earlier == server, old == epoch) {
                    (true, false) => Kind::EpochChanged,
                    (false, true) => Kind::EpochKept,
                    _ => continue,
                };
                violations.push(Violation {
                    kind,
                    what: format!("server {server} has {epoch}, server {earlier} had {old}"),
                    at: *at,
                });
            }
        }
    }

    /// Servers of which an epoch is known.
    pub(super) fn servers(&self) -> usize {
        let mut servers: Vec<_> = self.known.iter().map(|(server, ..)| server).collect();
        servers.dedup();
        servers.len()
    }
}

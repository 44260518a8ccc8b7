//! Who is in a channel, and who came and went (PROTOCOL §3.4, §4.15).

use serde::{Deserialize, Serialize};

use super::position::{Offset, Position};

/// A session that is subscribed to a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its session, as `Welcome` states it; in a channel whose rule hides publishers a number that holds there alone.
    pub id: u64,
    /// Its user; `None` for an anonymous session, and in a channel whose rule hides publishers.
    pub user: Option<String>,
}

/// What changed since the channel's last such message: the server's own, which nobody else may publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Those who came.
    pub joined: Vec<Member>,
    /// Those who went.
    pub left: Vec<Member>,
    /// Sessions in the channel after this.
    pub connections: u64,
    /// Different users of theirs.
    pub users: u64,
    /// Whether everybody who came or went is listed. The numbers are exact all the same.
    pub complete: bool,
}

/// Who is in a channel as of a position: the answer to `ReadPresence`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attendance {
    /// Later [`Presence`] messages of the channel tell what changed since; `None` where the server has no such channel now.
    pub position: Option<Position>,
    /// Sessions in the channel.
    pub connections: u64,
    /// Different users of theirs.
    pub users: u64,
    /// Those that are listed, in no order.
    pub members: Vec<Member>,
    /// Whether that is everybody. The numbers are exact all the same.
    pub complete: bool,
}

impl Attendance {
    /// An answer.
    #[must_use]
    pub const fn new(
        position: Option<Position>,
        connections: u64,
        users: u64,
        members: Vec<Member>,
        complete: bool,
    ) -> Self {
        Self {
            position,
            connections,
            users,
            members,
            complete,
        }
    }

    /// Takes in what a publication of the channel at `offset` tells; one that stands at or before [`position`](Self::position) changes
    /// nothing. Publications must come in order and without a gap, in the log that `position` names.
    ///
    /// Where this or the change is not [`complete`](Self::complete), it is not afterwards, until it is asked for anew; nor where it was asked
    /// for before there was such a channel, so that it has no position.
    pub fn apply(&mut self, offset: Offset, change: &Presence) {
        let Some(position) = &mut self.position else {
            self.complete = false;
            return;
        };
        if position.offset >= offset {
            return;
        }
        position.offset = offset;
        self.members
            .retain(|member| !change.left.iter().any(|left| left.id == member.id));
        self.members.extend(change.joined.iter().cloned());
        self.connections = change.connections;
        self.users = change.users;
        self.complete &= change.complete;
    }
}

#[cfg(test)]
mod tests {
    use super::super::position::Epoch;
    use super::*;

    fn member(id: u64) -> Member {
        Member { id, user: None }
    }

    #[test]
    fn a_change_is_applied_once_and_in_its_place() {
        let position = Position {
            epoch: Epoch(1),
            offset: 7,
        };
        let members = vec![member(1), member(2)];
        let mut present = Attendance::new(Some(position), 2, 0, members, true);
        let mut change = Presence {
            joined: vec![member(3)],
            left: vec![member(1)],
            connections: 2,
            users: 0,
            complete: true,
        };
        present.apply(7, &change);
        assert_eq!(present.members, [member(1), member(2)], "known already");
        present.apply(9, &change);
        assert_eq!(present.members, [member(2), member(3)]);
        assert_eq!(present.position.map(|at| at.offset), Some(9));
        let mut early = Attendance::new(None, 0, 0, Vec::new(), true);
        early.apply(1, &change);
        assert!(!early.complete, "it cannot say what it missed");
        change.connections = 500;
        change.complete = false;
        present.apply(10, &change);
        assert_eq!((present.connections, present.complete), (500, false));
    }
}

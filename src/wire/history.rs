//! What is asked of a channel's log, and what it has (PROTOCOL §4.11).

use serde::{Deserialize, Serialize};

use super::{
    message::Publication,
    position::{Epoch, Offset, Position},
};

/// Which publications of a log are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// Those after this position, or before it where they are asked for in reverse. `None`: from the oldest, or from the newest.
    pub from: Option<Position>,
    /// Most that are wanted. An answer holds fewer where the server's own bound is lower (PROTOCOL §4.11).
    pub limit: u64,
    /// Newest first.
    pub reverse: bool,
}

impl HistoryQuery {
    /// The oldest that are kept, in order.
    #[must_use]
    pub const fn oldest(limit: u64) -> Self {
        Self {
            from: None,
            limit,
            reverse: false,
        }
    }

    /// The newest, newest first.
    #[must_use]
    pub const fn newest(limit: u64) -> Self {
        Self {
            from: None,
            limit,
            reverse: true,
        }
    }

    /// The same from a position on, which itself is left out.
    #[must_use]
    pub const fn from(mut self, position: Position) -> Self {
        self.from = Some(position);
        self
    }
}

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The log.
    pub epoch: Epoch,
    /// The oldest publication that is kept; the one after `last` where there is none.
    pub first: Offset,
    /// The newest publication; 0 before the first.
    pub last: Offset,
}

/// A part of a channel's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// What the log holds; `None` where the server has no such channel now.
    pub kept: Option<Kept>,
    /// Whether the publications follow the position that was asked for without a hole. Where they would not, there are none.
    pub complete: bool,
    /// In the order that was asked for.
    pub publications: Vec<Publication>,
}

impl History {
    /// An answer.
    #[must_use]
    pub const fn new(kept: Option<Kept>, complete: bool, publications: Vec<Publication>) -> Self {
        Self {
            kept,
            complete,
            publications,
        }
    }

    /// Where the next page goes on: `None` where this one is empty.
    #[must_use]
    pub fn next(&self) -> Option<Position> {
        Some(Position {
            epoch: self.kept?.epoch,
            offset: self.publications.last()?.offset,
        })
    }
}

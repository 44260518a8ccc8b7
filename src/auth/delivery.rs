//! How the publications of a channel are delivered: a part of its rule.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What becomes of a subscription whose stream does not take publications as fast as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnLag {
    /// It falls behind, and gets everything that the log still has; what it misses is told as `Lagged` (PROTOCOL §5.3). For chats and
    /// orders.
    #[default]
    Continue,
    /// It goes on with the newest publication when its stream takes more again; what is left out is told as `Skipped` (PROTOCOL §5.5).
    /// While the stream takes everything, everything is delivered, without a delay. For states of which each replaces the one before.
    Latest,
    /// It ends with [`Code::LAGGED`](crate::wire::Code::LAGGED) instead of going on with a gap (PROTOCOL §5.4). For readers that rather begin anew.
    Cut,
}

/// Whose publications go first where a connection cannot take all at once. Requests and their answers go before all of them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Priority {
    /// What nobody waits for.
    Low,
    /// Everything else.
    #[default]
    Normal,
    /// What somebody waits for.
    High,
    /// What is worthless late.
    Urgent,
}

/// How the publications of a channel are delivered to each subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Delivery {
    /// What becomes of a reader that is too slow.
    pub on_lag: OnLag,
    /// Whose publications go first on a connection.
    pub priority: Priority,
    /// A publication that is older when its turn comes is left out, and told as `Skipped` (PROTOCOL §5.5). To the millisecond; `None`: as
    /// long as it is kept.
    pub max_age: Option<Duration>,
}

impl Delivery {
    /// Whether publications may be left out because they are no longer worth their way.
    pub(crate) fn is_fresh(&self) -> bool {
        self.on_lag == OnLag::Latest || self.max_age.is_some()
    }

    /// Whether it matters how much waits for the network behind what was written.
    pub(crate) fn is_impatient(&self) -> bool {
        self.is_fresh() || self.priority != Priority::Normal
    }
}

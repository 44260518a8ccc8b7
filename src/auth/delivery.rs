//! How the publications of a channel are delivered: a part of its rule.

use std::{num::NonZeroU32, time::Duration};

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
    /// The same for each conflation key (PROTOCOL §4.14): of the publications with one key it goes on with the newest, and gets all that
    /// have none. For many states in one channel.
    #[serde(rename = "latest_per_key")]
    LatestPerKey,
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

/// When the newest of the publications that travel as datagrams comes on the subscription's stream, too, or instead, where nothing is
/// lost (PROTOCOL §5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keyframes {
    /// After so many publications by datagram. `None`: only after a time. Default `None`.
    pub messages: Option<NonZeroU32>,
    /// So long after the stream had one, if there is a newer. A millisecond at least, and a day at most. Default 1 s: a state is wrong for little longer,
    /// whatever the network loses.
    pub interval: Duration,
}

impl Default for Keyframes {
    fn default() -> Self {
        Self {
            messages: None,
            interval: Duration::from_secs(1),
        }
    }
}

impl Keyframes {
    /// The same, with one after so many publications.
    #[must_use]
    pub const fn messages(mut self, messages: NonZeroU32) -> Self {
        self.messages = Some(messages);
        self
    }

    /// The same, with one after another time.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
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
    /// Publications travel as datagrams, the newest wins, and these repeat it (PROTOCOL §5.6). To a client without datagrams it is as
    /// with [`OnLag::Latest`]. `None`: they travel on the subscription's stream.
    pub datagrams: Option<Keyframes>,
}

impl Delivery {
    /// Whether publications may be left out because they are no longer worth their way.
    pub(crate) fn is_fresh(&self) -> bool {
        let conflates = matches!(self.on_lag, OnLag::Latest | OnLag::LatestPerKey);
        conflates || self.max_age.is_some() || self.datagrams.is_some()
    }

    /// True where the newest publication is a state, which outlives its age.
    pub(crate) const fn is_of_states(&self) -> bool {
        matches!(self.on_lag, OnLag::Latest | OnLag::LatestPerKey) || self.datagrams.is_some()
    }

    /// Whether it matters how much waits for the network behind what was written.
    pub(crate) fn is_impatient(&self) -> bool {
        self.is_fresh() || self.priority != Priority::Normal
    }
}

//! What happened in a run.

/// What happened, so that a simulation in which little happens is noticed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    /// In the hub.
    pub(super) publications: u64,
    pub(super) delivered: u64,
    /// Publications that subscribers were told they missed.
    pub(super) lagged: u64,
    /// Times that listeners were told so.
    pub(super) listeners_lagged: u64,
    pub(super) woken: u64,
    pub(super) waited: u64,
    pub(super) evicted: u64,
    pub(super) refused: u64,
    pub(super) ended: u64,
    pub(super) left: u64,
    /// Times that readers were told by their audience.
    pub(super) due: u64,
    /// Times that workers were called.
    pub(super) called: u64,
    /// Readers that continued with something that they had missed.
    pub(super) resumed: u64,
    /// Readers that continued at the head.
    pub(super) resumed_idle: u64,
    pub(super) not_recovered: u64,
    /// Readers that began with something that stood there before them.
    pub(super) latest: u64,
    /// Publications that were left out for readers.
    pub(super) skipped: u64,
    /// Publications with a key, those that stood there already, and keys that stood for another message.
    pub(super) keyed: u64,
    pub(super) duplicates: u64,
    pub(super) reused: u64,
    pub(super) restarted: u64,
    pub(super) stepped_back: u64,
}

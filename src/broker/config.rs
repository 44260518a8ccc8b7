//! What a broker is told.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    clock::{system_time, system_uptime},
    log::Retention,
    presence::Shows,
};
use crate::wire::{ChannelName, Epoch, Timestamp};

/// Bounds of a [`Broker`](super::Broker), and what it takes from outside so that a test can play it.
#[derive(Clone)]
pub struct Config {
    /// Most channels at a time. Default 1,000,000. An idle one is about 1 KiB. A tenth of them, rounded up where the limit is above 1, is
    /// reserved: no session can create a channel there, but by an automatic subscription.
    pub max_channels: usize,
    /// Most channels that one session has created and that are still there. Default 10,000.
    pub session_channels: usize,
    /// Most channels that all sessions of one user have created and that are still there. Default 20,000.
    pub user_channels: usize,
    /// Memory for channels, publications, deduplication keys, presence and sessions, in bytes, as estimated. Default: no limit. At the limit
    /// nothing grows: a publication makes room by trimming its own channel, or is refused. From seven eighths on, sweeps trim the largest
    /// logs. The last sixteenth is for channels and publications of the server itself.
    pub memory: usize,
    /// Memory of what one user published (without a user: one session) and that is still retained, in bytes. Default 128 MiB. At the limit
    /// a publication makes room by trimming older ones of the same user from its channel, or is refused.
    pub user_memory: usize,
    /// Largest message in bytes, as PROTOCOL §3.4 counts them. Default 64 KiB.
    pub max_message: usize,
    /// Idle timeout of a channel: how long it is kept without readers and new publications, at least. A channel that holds publications
    /// younger than its [`Retention::age`] is kept longer. With the channel its epoch ends. Default 60 s.
    pub idle: Duration,
    /// How much of which channel is kept.
    pub retention: Arc<dyn Fn(&ChannelName) -> Retention + Send + Sync>,
    /// In which channels sessions are told of each other, and what. Default: in none.
    pub presence: Arc<Shows>,
    /// Time of day of publications: milliseconds since 1970-01-01 UTC. Default: the system's clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Milliseconds since a fixed moment, by a clock that is never set: ages and idle times follow it. Default: the system's monotonic clock.
    pub uptime: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Where epochs come from: 64 random bits.
    pub epochs: Arc<dyn Fn() -> Epoch + Send + Sync>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_channels: 1_000_000,
            session_channels: 10_000,
            user_channels: 20_000,
            memory: usize::MAX,
            user_memory: 128 << 20,
            max_message: 64 * 1024,
            idle: Duration::from_secs(60),
            retention: Arc::new(|_| Retention::default()),
            presence: Arc::new(|_| None),
            clock: Arc::new(system_time),
            uptime: Arc::new(system_uptime()),
            epochs: Arc::new(|| Epoch(rand::random())),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("max_channels", &self.max_channels)
            .field("memory", &self.memory)
            .field("max_message", &self.max_message)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

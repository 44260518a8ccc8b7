//! Signs of life for a server with a short idle timeout. quinn's interval is chosen before the server's timeout is known, so this one comes
//! on top of it where it is shorter. A WebSocket has its own (`transport/mux/pump.rs`).

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::transport::{Connection, dial::SHORTEST_IDLE};

/// When the next sign of life is due.
#[derive(Debug, Default)]
pub(in crate::client) struct Pulse {
    /// Absent where quinn's own are enough.
    interval: Option<Duration>,
    next: Option<Instant>,
}

impl Pulse {
    /// For a connection that sends a PING after a silence of `keep_alive` already.
    pub(in crate::client) fn new(connection: &Connection, keep_alive: Duration) -> Self {
        let mut pulse = Self::default();
        if let Some(idle) = connection.peer_idle() {
            pulse.bound(idle, keep_alive);
        }
        pulse
    }

    /// The server gives up a connection from which nothing came for `idle`.
    pub(in crate::client) fn bound(&mut self, idle: Duration, keep_alive: Duration) {
        if idle.is_zero() {
            return;
        }
        let interval = idle.max(SHORTEST_IDLE) / 3;
        if interval < self.interval.unwrap_or(keep_alive) {
            self.interval = Some(interval);
            self.next = None;
        }
    }

    /// Waits until one is due. Cancel safe.
    pub(in crate::client) async fn due(&mut self) {
        let Some(interval) = self.interval else {
            return pending().await;
        };
        let next = *self.next.get_or_insert_with(|| Instant::now() + interval);
        sleep_until(next).await;
        self.next = None;
    }
}

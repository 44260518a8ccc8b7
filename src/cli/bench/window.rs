//! The closed loop: a bounded number of publications is on its way, and the next one waits for the oldest.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

use tokio::sync::Notify;

/// Publications of one publisher, each with the deliveries that it still has to make.
#[derive(Debug)]
pub(super) struct Window {
    left: Vec<AtomicU64>,
    freed: Notify,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        Self {
            left: (0..size).map(|_| AtomicU64::new(0)).collect(),
            freed: Notify::new(),
        }
    }

    /// Waits until the publication that had this number's place is delivered to everybody. Cancel safe.
    pub(super) async fn free(&self, number: u64) {
        while self.place(number).load(Acquire) > 0 {
            // One task waits, and a permit is kept for it, so no wake is missed.
            self.freed.notified().await;
        }
    }

    /// The publication with this number is sent, to this many.
    pub(super) fn send(&self, number: u64, readers: u64) {
        self.place(number).store(readers, Release);
    }

    /// It was delivered to one of them.
    pub(super) fn deliver(&self, number: u64) {
        if self.place(number).fetch_sub(1, AcqRel) == 1 {
            self.freed.notify_one();
        }
    }

    fn place(&self, number: u64) -> &AtomicU64 {
        let place = number % self.left.len() as u64;
        &self.left[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_place_is_free_again_when_everybody_has_the_publication() {
        let window = Window::new(2);
        for number in 0..2 {
            assert!(window.free(number).now_or_never().is_some());
            window.send(number, 2);
        }
        window.deliver(1);
        window.deliver(1);
        assert!(
            window.free(2).now_or_never().is_none(),
            "the oldest is on its way"
        );
        window.deliver(0);
        assert!(window.free(2).now_or_never().is_none(), "to one reader");
        window.deliver(0);
        assert!(window.free(2).now_or_never().is_some());
    }
}

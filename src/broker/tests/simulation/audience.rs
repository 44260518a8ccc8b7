//! What one audience should do for its worker.

#[derive(Debug, Default)]
pub(super) struct Audience {
    /// The waker of the newest poll.
    waker: Option<u64>,
    /// It was woken since.
    called: bool,
    pub(super) polling: bool,
}

impl Audience {
    pub(super) const fn polls(&mut self, waker: u64) {
        self.waker = Some(waker);
        self.called = false;
        self.polling = true;
    }

    pub(super) fn called(&mut self, waker: u64) {
        if self.waker == Some(waker) {
            self.called = true;
        }
    }

    /// Whether its worker will come round: it was called, or has not been there yet.
    pub(super) const fn is_awake(&self) -> bool {
        self.called || self.waker.is_none()
    }
}

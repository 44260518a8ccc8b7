//! How soon a silence is noticed. A client that only reads sends nothing, and who sends nothing to a server that was killed hears nothing
//! of it. A busy connection that falls silent is therefore asked at once instead of by the next PING, and again and again until it answers:
//! QUIC itself repeats what is lost after ever longer pauses, and the server may be back long before the next.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::transport::Connection;

/// How often a busy connection is looked at, and for how long it is silent when it is asked.
const BUSY: Duration = Duration::from_secs(1);
/// How often a connection is looked at that is not busy, and one that does not answer is asked. Its idle timeout bounds how often.
const IDLE: Duration = Duration::from_secs(2);
/// A connection is busy that had something for so many looks one after the other.
const STREAK: u32 = 3;

/// What a connection had to say up to now.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Frames that were heard at the last look.
    heard: u64,
    /// Answers to what this asked: they are no sign of being busy.
    answers: u64,
    /// Looks one after the other that found something.
    streak: u32,
    /// It was asked, and nothing was heard since.
    asked: bool,
    /// When it is looked at next.
    next: Option<Instant>,
}

impl Watch {
    /// Waits until a connection that was busy is silent. Cancel safe.
    pub(super) async fn silence(&mut self, connection: &Connection) {
        loop {
            let pause = if self.streak > 0 { BUSY } else { IDLE };
            let next = *self.next.get_or_insert_with(|| Instant::now() + pause);
            sleep_until(next).await;
            self.next = None;
            if self.look(connection.heard()) {
                return;
            }
        }
    }

    /// What was asked after a silence is answered.
    pub(super) const fn answered(&mut self) {
        self.answers += 1;
        self.asked = false;
    }

    fn look(&mut self, heard: u64) -> bool {
        let heard = heard.saturating_sub(self.answers);
        if heard > self.heard {
            (self.heard, self.streak) = (heard, self.streak.saturating_add(1));
            self.asked = false;
            return false;
        }
        self.asked |= std::mem::take(&mut self.streak) >= STREAK;
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_busy_and_falls_silent_is_asked_until_it_answers() {
        let mut watch = Watch::default();
        let looks = [1, 2, 9, 9, 9, 9].map(|heard| watch.look(heard));
        assert_eq!(looks, [false, false, false, true, true, true]);
        // Its answer makes nobody busy.
        watch.answered();
        let looks = [10, 10, 11, 12, 12, 12].map(|heard| watch.look(heard));
        assert_eq!(looks, [false; 6]);
        let looks = [13, 14, 15, 15, 16, 16].map(|heard| watch.look(heard));
        assert_eq!(looks, [false, false, false, true, false, false]);
    }
}

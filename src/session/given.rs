//! Channels that the server itself subscribed a user's session to, beyond the end of that session: the one that follows may ask for them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::wire::{ChannelName, UserId};

/// Time for a client to come back: the idle timeout of its old connection is noticed elsewhere, and its waits are 20 s at most.
const KEEP: Duration = Duration::from_secs(120);
/// Most channels of all users. Beyond it what expired goes, and otherwise nothing more is kept.
const MAX: usize = 100_000;

/// Pause between searches for what expired.
const PAUSE: Duration = Duration::from_secs(1);

/// What was given to sessions that were lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    users: HashMap<UserId, Vec<(ChannelName, Instant)>>,
    count: usize,
    /// When it was last looked for what expired.
    expired: Option<Instant>,
}

impl Lost {
    pub(super) fn keep(&mut self, user: &UserId, channels: Vec<ChannelName>, now: Instant) {
        if channels.is_empty() {
            return;
        }
        // Many sessions may end at once, and nothing expires so soon.
        let due = self.expired.is_none_or(|last| now >= last + PAUSE);
        if self.count + channels.len() > MAX && due {
            self.expired = Some(now);
            self.expire(now);
        }
        let until = now + KEEP;
        for channel in channels {
            self.forget(user, &channel);
            if self.count >= MAX {
                return;
            }
            let kept = self.users.entry(user.clone()).or_default();
            kept.push((channel, until));
            self.count += 1;
        }
    }

    pub(super) fn has(&self, user: &UserId, channel: &ChannelName, now: Instant) -> bool {
        let kept = self.users.get(user).into_iter().flatten();
        kept.into_iter()
            .any(|(known, until)| known == channel && *until > now)
    }

    pub(super) fn forget(&mut self, user: &UserId, channel: &ChannelName) {
        let Some(kept) = self.users.get_mut(user) else {
            return;
        };
        let before = kept.len();
        kept.retain(|(known, _)| known != channel);
        self.count -= before - kept.len();
        if kept.is_empty() {
            self.users.remove(user);
        }
    }

    pub(super) fn forget_all(&mut self, user: &UserId) {
        let kept = self.users.remove(user);
        self.count -= kept.map_or(0, |kept| kept.len());
    }

    fn expire(&mut self, now: Instant) {
        self.users.retain(|_, kept| {
            kept.retain(|(_, until)| *until > now);
            !kept.is_empty()
        });
        self.count = self.users.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_time_and_number() {
        let mut lost = Lost::default();
        let (ann, now) = (UserId::parse("ann").unwrap(), Instant::now());
        let name = |number: usize| ChannelName::parse(&format!("c-{number}")).unwrap();
        lost.keep(&ann, vec![name(1), name(2), name(1)], now);
        assert_eq!(lost.count, 2);
        assert!(lost.has(&ann, &name(1), now));
        assert!(!lost.has(&UserId::parse("bob").unwrap(), &name(1), now));
        assert!(!lost.has(&ann, &name(1), now + KEEP), "it expires");
        lost.forget(&ann, &name(1));
        assert!(!lost.has(&ann, &name(1), now));
        for number in 0..MAX / 500 + 10 {
            let user = UserId::parse(&format!("u-{number}")).unwrap();
            lost.keep(&user, (0..500).map(name).collect(), now);
        }
        assert_eq!(lost.count, MAX);
        // What expired makes room.
        lost.keep(&ann, vec![name(7)], now + KEEP);
        assert_eq!(lost.count, 1);
        assert!(lost.has(&ann, &name(7), now + KEEP));
    }
}

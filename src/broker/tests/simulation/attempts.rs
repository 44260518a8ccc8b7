//! Publishers with keys: they try again, with the same message or, by mistake, another one. What a log should remember of it.

use std::collections::{BTreeMap, VecDeque};

use super::{
    checker::Checker,
    driver::Driver,
    event::{Key, Seen, tagged},
    stage::{Stage, name_of},
    violation::{Kind, Verdict, broken},
};
use crate::wire::{Epoch, Message, Offset, UserId};

/// Milliseconds for which PROTOCOL §4.12 has a key remembered.
pub(super) const WINDOW: u64 = 300_000;

/// A publication with a key.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    name: usize,
    once: Once,
    message: Message,
}

/// A key, whose it is, and the number of the message that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Once {
    pub(super) owner: Option<UserId>,
    pub(super) key: u64,
    pub(super) tag: u64,
}

impl Driver {
    /// Publishes with a new key, or tries again.
    pub(super) fn attempt(&mut self) -> &'static str {
        let again = !self.attempts.is_empty() && self.dice.percent(60);
        let mut attempt = if again {
            self.attempts[self.dice.below(self.attempts.len())].clone()
        } else {
            self.keys += 1;
            let owner = self.dice.pick(&[None, Some("ann"), Some("bob")]);
            self.draw_attempt(owner.map(|name| UserId::parse(name).expect("a user")))
        };
        if again {
            match self.dice.below(10) {
                // The key of another publisher, and another message.
                0 => attempt.once.owner = Some(UserId::parse("eve").expect("a user")),
                1 => self.change(&mut attempt),
                _ => {}
            }
        } else {
            if self.attempts.len() == 8 {
                self.attempts.swap_remove(self.dice.below(8));
            }
            self.attempts.push(attempt.clone());
        }
        self.stage.publish_once(&attempt);
        "publish with a key"
    }

    fn draw_attempt(&mut self, owner: Option<UserId>) -> Attempt {
        let mut attempt = Attempt {
            name: self.dice.below(self.plan.names),
            once: Once {
                owner,
                // Publishers may have the same in mind.
                key: self.keys % 40,
                tag: 0,
            },
            message: Message::text(""),
        };
        self.change(&mut attempt);
        attempt
    }

    fn change(&self, attempt: &mut Attempt) {
        let number = self.stage.tag();
        attempt.message = tagged(number, 5);
        attempt.once.tag = number;
    }
}

impl Stage {
    fn publish_once(&self, attempt: &Attempt) {
        let broker = self.lock().broker.clone().expect("it is on stage");
        let Attempt {
            name,
            once,
            message,
        } = attempt;
        self.offer_as(
            Key::Hub(*name),
            once.owner.clone(),
            message.clone(),
            Some(once.clone()),
        );
        let key = once.key.to_string();
        let result = broker.publish_once(&name_of(*name), once.owner.as_ref(), &key, message);
        self.settle(result.map(|published| (published.position, published.duplicate)));
    }
}

/// The keys that a log remembers.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: BTreeMap<(Option<String>, u64), (u64, Offset)>,
    order: VecDeque<(u64, (Option<String>, u64))>,
}

impl Keys {
    fn find(&self, once: &Once) -> Option<(u64, Offset)> {
        self.known.get(&Self::name(once)).copied()
    }

    fn name(once: &Once) -> (Option<String>, u64) {
        let owner = once.owner.as_ref().map(|owner| owner.as_str().to_owned());
        (owner, once.key)
    }

    fn insert(&mut self, now: u64, once: &Once, offset: Offset) {
        self.expire(now);
        self.known.insert(Self::name(once), (once.tag, offset));
        self.order.push_back((now, Self::name(once)));
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether any is left.
    pub(super) fn expire(&mut self, now: u64) -> bool {
        while let Some((time, _)) = self.order.front()
            && now.saturating_sub(*time) > WINDOW
        {
            let (_, name) = self.order.pop_front().expect("it is there");
            self.known.remove(&name);
        }
        !self.order.is_empty()
    }
}

impl Checker {
    /// What the log knows of the key of the publication that is judged next.
    fn known(&self, log: Key) -> Option<(u64, Offset)> {
        self.logs.get(&log)?.keys.find(self.once.as_ref()?)
    }

    /// Something was stored: nothing may stand there with this key.
    pub(super) fn stored(&mut self, log: Key, epoch: Epoch, sent: &Seen) -> Verdict {
        let known = self.known(log);
        let live = self.logs.get(&log).is_some_and(|log| log.epoch == epoch);
        if let (Some((_, offset)), true) = (known, live) {
            let what = format!("{sent:?} stands at {offset}");
            return broken(Kind::StoredTwice, what);
        }
        Ok(())
    }

    /// It was stored.
    pub(super) fn remember(&mut self, log: Key, sent: &Seen, at: u64) {
        if let Some(once) = self.once.take() {
            self.tally.keyed += 1;
            self.log(log).keys.insert(at, &once, sent.0.offset);
        }
    }

    /// The broker says that it stood there already.
    pub(super) fn duplicate(&mut self, log: Key, epoch: Epoch, offset: Offset) -> Verdict {
        let known = self.known(log);
        let once = self.once.take();
        let what = format!("{once:?} at {epoch}:{offset}, known: {known:?}");
        let right = self.logs.get(&log).map(|log| log.epoch);
        match (known, once) {
            (Some((tag, at)), Some(once)) if tag == once.tag => {
                self.tally.duplicates += 1;
                match at == offset && right == Some(epoch) {
                    true => Ok(()),
                    false => broken(Kind::StoredTwice, what),
                }
            }
            _ => broken(Kind::WrongDuplicate, what),
        }
    }

    /// The broker says that the key stands for another message.
    pub(super) fn reused(&mut self, log: Key) -> bool {
        let known = self.known(log);
        let once = self.once.take();
        let just = known
            .zip(once)
            .is_some_and(|((tag, _), once)| tag != once.tag);
        self.tally.reused += u64::from(just);
        just
    }
}

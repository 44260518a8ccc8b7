//! Keys with which a publisher may try again: a publication with a key is stored once (PROTOCOL §4.12).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use super::clock::Uptime;
use crate::wire::{Message, Offset};

/// Longest key, in bytes.
pub(super) const MAX_KEY: usize = 128;
/// Keys of one channel that are remembered at most; then the oldest of the publisher that has most goes for each new one.
const MAX_KEYS: usize = 16_384;
/// Milliseconds for which a key is remembered, unless there are too many.
const WINDOW: u64 = 5 * 60 * 1000;

/// Makes [`Token`]s. Whoever does not know its secret finds no two keys or messages that it takes for the same.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    first: RandomState,
    second: RandomState,
}

/// A publisher's key and what is published with it, as much as is remembered of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    /// Whose key it is.
    publisher: u64,
    key: u128,
    content: u64,
}

impl Tokens {
    /// A key is its publisher's own: what others publish with the same has nothing to do with it.
    pub(super) fn token(&self, publisher: Option<&str>, key: &str, message: &Message) -> Token {
        let halves =
            [&self.first, &self.second].map(|half| u128::from(half.hash_one((publisher, key))));
        let content = match message {
            Message::Notification(inside) => {
                self.first.hash_one((0, &inside.text, inside.timestamp))
            }
            Message::Announcement(inside) => {
                self.first.hash_one((1, &inside.text, inside.timestamp))
            }
            Message::Data(inside) => self
                .first
                .hash_one((2, &inside.content_type, &inside.bytes)),
            // Refused before anybody asks for its token.
            Message::Presence(_) => 0,
        };
        Token {
            publisher: self.first.hash_one(publisher),
            key: halves[0] << 64 | halves[1],
            content,
        }
    }
}

/// The keys of one channel: a deduplication window for each publisher, so that nobody's keys displace those of a publisher with fewer.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<u128, (u64, Offset)>,
    /// In the order in which they came, by number.
    order: BTreeMap<u64, Remembered>,
    /// Numbers of each publisher's keys, in order.
    windows: HashMap<u64, VecDeque<u64>>,
    /// Number of the next.
    next: u64,
}

#[derive(Debug)]
struct Remembered {
    at: Uptime,
    publisher: u64,
    key: u128,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    New,
    /// The same message stands there.
    Same(Offset),
    /// Another message was published with it.
    Other,
}

impl Keys {
    pub(super) fn find(&self, token: Token) -> Known {
        match self.known.get(&token.key) {
            None => Known::New,
            Some((content, offset)) if *content == token.content => Known::Same(*offset),
            Some(_) => Known::Other,
        }
    }

    /// Remembers a key that is [new](Known::New).
    pub(super) fn insert(&mut self, now: Uptime, token: Token, offset: Offset) {
        self.expire(now);
        while self.order.len() >= MAX_KEYS {
            self.forget_one();
        }
        let Token {
            publisher,
            key,
            content,
        } = token;
        self.known.insert(key, (content, offset));
        let number = self.next;
        self.next += 1;
        let at = now;
        self.order.insert(number, Remembered { at, publisher, key });
        self.windows.entry(publisher).or_default().push_back(number);
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Forgets those whose time is over; whether any is left.
    pub(super) fn expire(&mut self, now: Uptime) -> bool {
        while let Some((_, oldest)) = self.order.first_key_value()
            && now.saturating_sub(oldest.at) > WINDOW
        {
            self.forget_oldest_of(oldest.publisher);
        }
        !self.order.is_empty()
    }

    /// Makes room for a key: the oldest of the publisher with most keys goes. The walk over all publishers is done for a channel with
    /// `MAX_KEYS` keys alone.
    fn forget_one(&mut self) {
        let windows = self.windows.iter();
        let most = windows.max_by_key(|(_, window)| window.len());
        if let Some((&publisher, _)) = most {
            self.forget_oldest_of(publisher);
        }
    }

    /// Keys of one publisher are as old as their order says.
    fn forget_oldest_of(&mut self, publisher: u64) {
        let Some(window) = self.windows.get_mut(&publisher) else {
            return;
        };
        let number = window.pop_front();
        if window.is_empty() {
            self.windows.remove(&publisher);
        }
        if let Some(forgotten) = number.and_then(|number| self.order.remove(&number)) {
            self.known.remove(&forgotten.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(tokens: &Tokens, key: &str, text: &str) -> Token {
        tokens.token(None, key, &Message::text(text))
    }

    #[test]
    fn a_key_stands_for_one_message_of_one_publisher() {
        let tokens = Tokens::default();
        let mut keys = Keys::default();
        keys.insert(0, token(&tokens, "a", "x"), 7);
        assert_eq!(keys.find(token(&tokens, "a", "x")), Known::Same(7));
        assert_eq!(keys.find(token(&tokens, "a", "y")), Known::Other);
        assert_eq!(keys.find(token(&tokens, "b", "x")), Known::New);
        let notification = Message::notification("x", 0);
        let other_kind = tokens.token(None, "a", &notification);
        assert_eq!(keys.find(other_kind), Known::Other);
        let other_user = tokens.token(Some("1"), "a", &Message::text("x"));
        assert_eq!(keys.find(other_user), Known::New);
    }

    #[test]
    fn keys_are_forgotten_after_five_minutes_or_when_there_are_too_many() {
        let tokens = Tokens::default();
        let mut keys = Keys::default();
        let first = token(&tokens, "first", "x");
        keys.insert(1_000, first, 1);
        assert!(keys.expire(1_000 + WINDOW));
        assert_eq!(keys.find(first), Known::Same(1));
        assert!(!keys.expire(1_001 + WINDOW));
        assert_eq!(keys.find(first), Known::New);
        keys.insert(0, first, 1);
        for number in 1..MAX_KEYS as u64 {
            keys.insert(0, token(&tokens, &number.to_string(), "x"), number);
        }
        assert_eq!(keys.find(first), Known::Same(1));
        keys.insert(0, token(&tokens, "one more", "x"), 1);
        assert_eq!(keys.find(first), Known::New);
        assert_eq!(keys.known.len(), keys.order.len());
    }

    #[test]
    fn keys_of_another_publisher_displace_none_of_a_publisher_with_fewer() {
        let tokens = Tokens::default();
        let message = Message::text("x");
        let of = |publisher: &str, number: u64| {
            tokens.token(Some(publisher), &number.to_string(), &message)
        };
        let mut keys = Keys::default();
        for number in 0..100 {
            keys.insert(0, of("mine", number), number);
        }
        let flood = 3 * MAX_KEYS as u64;
        for number in 0..flood {
            keys.insert(1, of("flood", number), number);
        }
        for number in 0..100 {
            assert_eq!(keys.find(of("mine", number)), Known::Same(number));
        }
        assert_eq!(keys.find(of("flood", flood - 1)), Known::Same(flood - 1));
        assert_eq!(keys.find(of("flood", 0)), Known::New);
        // Several that flood share what the others leave.
        for number in 0..flood {
            keys.insert(2, of("another", number), number);
        }
        assert_eq!(keys.find(of("mine", 0)), Known::Same(0));
        let half = MAX_KEYS as u64 / 2 - 100;
        assert_eq!(
            keys.find(of("flood", flood - half)),
            Known::Same(flood - half)
        );
        assert_eq!(
            keys.find(of("another", flood - half)),
            Known::Same(flood - half)
        );
        assert_eq!(keys.len(), MAX_KEYS);
        assert_eq!(keys.known.len(), keys.order.len());
        let windows = keys.windows.values().map(VecDeque::len);
        assert_eq!(windows.sum::<usize>(), MAX_KEYS);
        assert!(keys.expire(1 + WINDOW), "of the others");
        assert_eq!(keys.find(of("mine", 0)), Known::New);
        assert!(!keys.expire(3 + WINDOW));
        assert!(keys.known.is_empty() && keys.windows.is_empty());
    }
}

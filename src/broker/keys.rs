//! Keys with which a publisher may try again: a publication with a key is stored once (PROTOCOL §4.12).

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use super::clock::Uptime;
use crate::wire::{Message, Offset};

/// Longest key, in bytes.
pub(super) const MAX_KEY: usize = 128;
/// Keys of one channel that are remembered at most; the oldest go.
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
            key: halves[0] << 64 | halves[1],
            content,
        }
    }
}

/// The keys of one channel.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<u128, (u64, Offset)>,
    /// In the order in which they came, with the time.
    order: VecDeque<(Uptime, u128)>,
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
            self.forget_oldest();
        }
        self.known.insert(token.key, (token.content, offset));
        self.order.push_back((now, token.key));
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Forgets those whose time is over; whether any is left.
    pub(super) fn expire(&mut self, now: Uptime) -> bool {
        while let Some((time, _)) = self.order.front()
            && now.saturating_sub(*time) > WINDOW
        {
            self.forget_oldest();
        }
        !self.order.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.known.remove(&key);
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
}

//! Which writers of a session are due.

use std::sync::Mutex;

use super::writers::lock;
use crate::{broker::Due, transport::Prompt};

/// Keys of the places that have something to write, and how the connection is told of the first.
pub(super) struct Bell {
    prompt: Option<Prompt>,
    due: Mutex<List>,
}

/// Keys of places, each once: however long nobody looks, it is no longer than the places.
#[derive(Default)]
struct List {
    keys: Vec<u32>,
    /// A bit for each key that is listed.
    listed: Vec<u64>,
}

impl List {
    fn push(&mut self, key: u32) {
        let (word, bit) = (key as usize / 64, 1 << (key % 64));
        if self.listed.len() <= word {
            self.listed.resize(word + 1, 0);
        }
        if self.listed[word] & bit == 0 {
            self.listed[word] |= bit;
            self.keys.push(key);
        }
    }

    fn take(&mut self) -> Vec<u32> {
        self.listed.fill(0);
        std::mem::take(&mut self.keys)
    }
}

impl Due for Bell {
    fn due(&self, key: u32) {
        let first = {
            let mut due = lock(&self.due);
            let first = due.keys.is_empty();
            due.push(key);
            first
        };
        if first {
            self.ring();
        }
    }
}

impl Bell {
    pub(super) fn new(prompt: Option<Prompt>) -> Self {
        Self {
            prompt,
            due: Mutex::default(),
        }
    }

    pub(super) fn ring(&self) {
        if let Some(prompt) = &self.prompt {
            prompt.prompt();
        }
    }

    /// Lists a key for a look that comes anyway.
    pub(super) fn list(&self, key: u32) {
        lock(&self.due).push(key);
    }

    /// All that are listed.
    pub(super) fn take(&self) -> Vec<u32> {
        lock(&self.due).take()
    }

    /// Gives the room of a list back that is done with, where it is small.
    pub(super) fn give_back(&self, mut room: Vec<u32>) {
        room.clear();
        let mut list = lock(&self.due);
        if list.keys.is_empty() && room.capacity() <= 16 {
            list.keys = room;
        }
    }
}

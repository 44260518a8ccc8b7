//! What a log should be: all that was accepted, and from where on it is still held.

use std::collections::BTreeSet;

use super::super::super::{
    Retention,
    quota::{CHANNEL, KEY, PUBLICATION},
};
use super::{
    attempts::Keys,
    event::{ReaderId, Seen},
};
use crate::wire::{Epoch, Offset, Publication, Start, draft::Draft};

/// What `Subscription` promises of one batch.
pub(super) const BATCH_COUNT: Offset = 64;
pub(super) const BATCH_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Log {
    pub(super) epoch: Epoch,
    pub(super) readers: BTreeSet<ReaderId>,
    /// When a sweep first found nobody, since the last publication or arrival.
    pub(super) idle_since: Option<u64>,
    pub(super) keys: Keys,
    /// Most memory since the last sweep.
    pub(super) largest: usize,
    /// Its poster is gone.
    pub(super) closed: bool,
    retention: Retention,
    /// Never trimmed: entry `n` has offset `n + 1`.
    entries: Vec<Entry>,
    first: Offset,
}

#[derive(Debug)]
struct Entry {
    publication: Publication,
    /// When it was accepted, by the clock that is never set.
    at: u64,
    /// Bytes of this frame and of all before it.
    end: usize,
}

impl Log {
    pub(super) fn new(epoch: Epoch, retention: Retention) -> Self {
        Self {
            keys: Keys::default(),
            epoch,
            readers: BTreeSet::new(),
            idle_since: None,
            largest: 0,
            closed: false,
            retention,
            entries: Vec::new(),
            first: 1,
        }
    }

    pub(super) fn head(&self) -> Offset {
        self.entries.len() as Offset
    }

    /// Oldest offset that is held.
    pub(super) const fn first(&self) -> Offset {
        self.first
    }

    /// Where a reader begins, and whether it continues.
    pub(super) fn begin(&self, start: Start) -> (Offset, bool) {
        let (first, head) = (self.first, self.head());
        match start {
            Start::After(position) | Start::AfterOrOldest(position) => {
                let here = position.epoch == self.epoch;
                // What it has seen last may be the one before the oldest.
                match here && (first..=head + 1).any(|next| next - 1 == position.offset) {
                    true => (position.offset, true),
                    false if matches!(start, Start::AfterOrOldest(_)) => (first - 1, false),
                    false => (head, false),
                }
            }
            Start::Latest(count) => {
                let kept = head + 1 - first;
                (head - kept.min(count), false)
            }
            _ => (head, false),
        }
    }

    /// The publication as every reader should see it.
    pub(super) fn at(&self, offset: Offset) -> &Publication {
        &self.entries[offset as usize - 1].publication
    }

    /// Takes a publication whose time is the clock's.
    pub(super) fn accept(&mut self, sent: &Seen, at: u64) {
        let now = sent.0.time;
        let mut publication = sent.0.clone();
        publication.time = self
            .entries
            .last()
            .map_or(now, |newest| newest.publication.time.max(now));
        let frame = Draft::new(publication.publisher.as_deref(), &publication.message)
            .seal(publication.offset, publication.time);
        let end = self.end(self.head()) + frame.len();
        self.entries.push(Entry {
            publication,
            at,
            end,
        });
        self.trim(at);
        self.largest = self.largest.max(self.memory());
    }

    /// From now on the log begins with the oldest publication from which all fits, or with the newest, which only its age takes away.
    pub(super) fn trim(&mut self, now: u64) {
        let head = self.head();
        self.first = (self.first..head)
            .find(|first| self.fits(*first, now))
            .unwrap_or(head)
            .max(self.first);
        if self.first == head && head > 0 && !self.retention.keep_latest && !self.is_young(now) {
            self.first = head + 1;
        }
    }

    /// Whether the newest publication is held and within its age.
    pub(super) fn is_young(&self, now: u64) -> bool {
        self.first <= self.head() && self.age(self.head(), now) <= self.retention.age.as_millis()
    }

    fn age(&self, offset: Offset, now: u64) -> u128 {
        u128::from(now - self.entries[offset as usize - 1].at)
    }

    fn fits(&self, first: Offset, now: u64) -> bool {
        self.head() - first < self.retention.count as Offset
            && self.end(self.head()) - self.end(first - 1) <= self.retention.bytes
            && self.age(first, now) <= self.retention.age.as_millis()
    }

    /// The last offset of those from `next` on that a reader of what is not older than `since` does not want.
    pub(super) fn too_old(&self, next: Offset, since: u64) -> Option<Offset> {
        let old = |offset: &Offset| self.entries[*offset as usize - 1].at < since;
        (next.max(self.first)..=self.head()).take_while(old).last()
    }

    /// Bytes of frames that are held.
    pub(super) fn bytes(&self) -> usize {
        self.size(self.first, self.head())
    }

    /// What the broker should estimate.
    pub(super) fn memory(&self) -> usize {
        let entries = (self.head() + 1 - self.first) as usize;
        CHANNEL + self.bytes() + entries * PUBLICATION + self.keys.len() * KEY
    }

    /// Bytes of the frames with these offsets, both ends included.
    pub(super) fn size(&self, from: Offset, to: Offset) -> usize {
        self.end(to) - self.end(from - 1)
    }

    fn end(&self, offset: Offset) -> usize {
        match offset {
            0 => 0,
            _ => self.entries[offset as usize - 1].end,
        }
    }

    /// Last offset of a batch that begins with `next` and is read now.
    pub(super) fn batch_end(&self, next: Offset) -> Offset {
        let last = self.head().min(next + BATCH_COUNT - 1);
        (next..=last)
            .take_while(|offset| *offset == next || self.size(next, *offset) <= BATCH_BYTES)
            .last()
            .unwrap_or(next)
    }
}

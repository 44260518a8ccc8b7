//! A few shared things that are read far more often than changed: cloning it takes what it holds as it is now.

use std::sync::Arc;

/// Nothing is allocated, and nothing touched, for an empty one: of a hundred thousand channels, most have nobody.
#[derive(Debug)]
pub(super) struct List<T>(Option<Arc<[Arc<T>]>>);

impl<T> List<T> {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    fn of(items: impl Iterator<Item = Arc<T>>) -> Self {
        let items: Arc<[_]> = items.collect();
        Self((!items.is_empty()).then_some(items))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.iter().flat_map(|items| items.iter())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn add(&mut self, item: &Arc<T>) {
        *self = Self::of(self.iter().chain([item]).cloned());
    }

    /// Keeps what `keep` says; nothing is allocated where that is all.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        if self.iter().any(|item| !keep(item)) {
            *self = Self::of(self.iter().filter(|item| keep(item)).cloned());
        }
    }

    pub(super) fn remove(&mut self, item: &Arc<T>) {
        let others = self.iter().filter(|known| !Arc::ptr_eq(known, item));
        *self = Self::of(others.cloned());
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

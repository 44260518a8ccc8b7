//! Data of the application on a grant.

use std::{any::Any, fmt, sync::Arc};

/// Values of the application that a [`Grant`](super::Grant) carries, one of each type. Cloning shares them.
///
/// Two of them are equal where they hold the very same values, not merely equal ones.
#[derive(Clone, Default)]
pub struct GrantData {
    values: Vec<Arc<dyn Any + Send + Sync>>,
}

impl GrantData {
    /// Adds a value; it takes the place of one of the same type.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        self.values.retain(|known| !(**known).is::<T>());
        self.values.push(Arc::new(value));
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.values
            .iter()
            .find_map(|known| (**known).downcast_ref())
    }

    /// The value of this type, shared.
    #[must_use]
    pub fn share<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let mut values = self.values.iter();
        values.find_map(|known| Arc::downcast(Arc::clone(known)).ok())
    }

    /// True without a value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl PartialEq for GrantData {
    fn eq(&self, other: &Self) -> bool {
        self.values.len() == other.values.len()
            && (self.values.iter().zip(&other.values)).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl Eq for GrantData {}

impl fmt::Debug for GrantData {
    /// The number of values alone: what they hold may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantData")
            .field("values", &self.values.len())
            .finish_non_exhaustive()
    }
}

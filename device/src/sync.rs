//! A value that several tasks read and replace; never held across an await.

use std::sync::{Mutex, PoisonError};

/// A value behind a lock that is held for one read or write only.
#[derive(Debug, Default)]
pub struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    /// Shares a value.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Looks at or changes it.
    pub fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces it.
    pub fn set(&self, value: T) {
        // The old value is dropped after the lock is released.
        let _old = self.with(|held| std::mem::replace(held, value));
    }
}

impl<T: Clone> Shared<T> {
    /// A copy of it.
    pub fn get(&self) -> T {
        self.with(|held| held.clone())
    }
}

impl<T> Shared<Option<T>> {
    /// Takes it out.
    pub fn take(&self) -> Option<T> {
        self.with(Option::take)
    }
}

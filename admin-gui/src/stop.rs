//! How a person ends work that runs: at any moment before its last request, never after it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A person ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ended by a person: nothing of it is visible")]
pub struct Stopped;

/// One handle for who works and who may end the work; clones are the same handle.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    told: Notify,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Going,
    Stopped,
    /// The request that makes things visible is out, or about to be.
    Last,
}

impl Stop {
    fn change(&self, change: impl FnOnce(&mut State)) -> State {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        *state
    }

    /// Ends the work; false if it is too late for that.
    #[must_use]
    pub fn stop(&self) -> bool {
        let state = self.change(|state| {
            if *state == State::Going {
                *state = State::Stopped;
            }
        });
        self.0.told.notify_waiters();
        state == State::Stopped
    }

    /// Whether it was ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.change(|_| {}) == State::Stopped
    }

    /// Whether it can still be ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.change(|_| {}) == State::Going
    }

    /// For loops that cannot wait: whether to go on.
    ///
    /// # Errors
    /// It was ended.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_stopped() { Err(Stopped) } else { Ok(()) }
    }

    /// The last moment: from here on it cannot be ended.
    ///
    /// # Errors
    /// It was ended before.
    pub fn last(&self) -> Result<(), Stopped> {
        let state = self.change(|state| {
            if *state == State::Going {
                *state = State::Last;
            }
        });
        if state == State::Stopped {
            Err(Stopped)
        } else {
            Ok(())
        }
    }

    /// The last request is known to have changed nothing: it can be ended again.
    pub fn reopen(&self) {
        self.change(|state| {
            if *state == State::Last {
                *state = State::Going;
            }
        });
    }

    /// Waits until it is ended; for ever if it never is.
    pub async fn stopped(&self) {
        loop {
            // Made before the look: a word between look and wait is not missed.
            let told = self.0.told.notified();
            if self.is_stopped() {
                return;
            }
            told.await;
        }
    }

    /// Works until it is done or ended; ended work is dropped where it waits.
    ///
    /// # Errors
    /// It was ended.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(Stopped),
            done = work => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_what_waits_and_comes_too_late_for_the_last_request() {
        let stop = Stop::default();
        let waiting = stop.clone();
        let task = tokio::spawn(async move { waiting.or(std::future::pending::<()>()).await });
        assert!(stop.stop());
        assert_eq!(task.await.unwrap(), Err(Stopped));
        assert_eq!(stop.last(), Err(Stopped));

        let late = Stop::default();
        late.last().unwrap();
        assert!(!late.stop() && !late.is_open() && late.check().is_ok());
        late.reopen();
        assert!(late.stop() && late.is_stopped());
    }
}

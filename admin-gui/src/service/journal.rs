//! What happens, for people who watch: a bounded tail of steps and messages, and everything as it comes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::control::{AuthorEvent, Level, LoggedMessage};
use tokio::sync::broadcast;
use tuf::UnixTime;

use crate::limits::{KEPT_EVENTS, WATCH_LAG};

/// The tail and the watchers.
#[derive(Debug)]
pub(super) struct Journal {
    kept: Mutex<VecDeque<AuthorEvent>>,
    watchers: broadcast::Sender<AuthorEvent>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            watchers: broadcast::channel(WATCH_LAG).0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<AuthorEvent>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells an event; steps and messages are kept, snapshots are not: they are made anew for each watcher.
    pub(super) fn tell(&self, event: AuthorEvent) {
        let mut kept = self.lock();
        if matches!(event, AuthorEvent::Step(_) | AuthorEvent::Message(_)) {
            if kept.len() >= KEPT_EVENTS {
                kept.pop_front();
            }
            kept.push_back(event.clone());
        }
        // Sent under the lock: a watcher that starts now gets each event once. No receiver is no error.
        let _ = self.watchers.send(event);
    }

    /// A message for a person, under a stable id.
    pub(super) fn say(&self, at: UnixTime, level: Level, id: &str, text: String) {
        match level {
            Level::Info => tracing::info!(target: "drover", id, "{text}"),
            Level::Warning => tracing::warn!(target: "drover", id, "{text}"),
            Level::Error => tracing::error!(target: "drover", id, "{text}"),
        }
        self.tell(AuthorEvent::Message(LoggedMessage {
            at,
            level,
            id: id.to_owned(),
            text,
        }));
    }

    /// What is kept, oldest first, and everything from now on.
    pub(super) fn watch(&self) -> (Vec<AuthorEvent>, broadcast::Receiver<AuthorEvent>) {
        let kept = self.lock();
        (kept.iter().cloned().collect(), self.watchers.subscribe())
    }

    /// How many watch.
    pub(super) fn watchers(&self) -> usize {
        self.watchers.receiver_count()
    }
}

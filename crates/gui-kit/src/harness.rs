//! Drives a window in a test, without a display: by role and label, over the real service.
// A test ends loudly.
#![allow(clippy::panic, clippy::missing_panics_doc)]

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use crate::link::Wake;

/// How long a test waits for a window to show something.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rung by a link when the window should draw again, so that a test waits for news and not for time.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    rung: Arc<(Mutex<u64>, Condvar)>,
}

impl Bell {
    /// What the link is to call.
    #[must_use]
    pub fn wake(&self) -> Wake {
        let rung = Arc::clone(&self.rung);
        Arc::new(move || {
            *rung.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            rung.1.notify_all();
        })
    }

    /// Draws until `shown` is true of the window, each time that the bell rings. A frame is also drawn every 100 ms,
    /// for what depends on time alone. Panics with all that the window shows where it never becomes true.
    pub fn wait<S>(
        &self,
        harness: &mut Harness<'_, S>,
        what: &str,
        mut shown: impl FnMut(&Harness<'_, S>) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        let (count, changed) = &*self.rung;
        let mut seen = *count.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            harness.step();
            if shown(harness) {
                // Once more: what has just appeared may want a second frame for its layout.
                harness.step();
                return;
            }
            assert!(
                Instant::now() < deadline,
                "never shown: {what}; the window shows:\n{}",
                labels(harness)
            );
            let guard = count.lock().unwrap_or_else(PoisonError::into_inner);
            let waited =
                changed.wait_timeout_while(guard, Duration::from_millis(100), |count| *count == seen);
            seen = *waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// [`Self::wait`] for a label that contains `text`.
    pub fn wait_for<S>(&self, harness: &mut Harness<'_, S>, text: &str) {
        self.wait(harness, text, |harness| {
            harness.query_all_by_label_contains(text).next().is_some()
        });
    }

    /// [`Self::wait`] until no label contains `text`.
    pub fn wait_gone<S>(&self, harness: &mut Harness<'_, S>, text: &str) {
        self.wait(harness, &format!("no {text}"), |harness| {
            harness.query_all_by_label_contains(text).next().is_none()
        });
    }
}

/// All that the window shows, a line each: role, label, value.
#[must_use]
pub fn labels<S>(harness: &Harness<'_, S>) -> String {
    let mut lines = Vec::new();
    for node in harness.root().children_recursive() {
        let node = node.accesskit_node();
        let (label, value) = (node.label(), node.value());
        if label.is_some() || value.is_some() {
            lines.push(format!("{:?} {:?} {:?}", node.role(), label, value));
        }
    }
    lines.join("\n")
}

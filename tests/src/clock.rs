//! Another time of day, through libfaketime: for one program, or for a site whose days pass while it runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use mtls::{Clock, SystemClock};
use tempfile::TempDir;
use tuf::clock::Believed;

use crate::forge::DAY;

/// Where Debian's package `faketime` puts its library.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The environment that gives a program another wall clock: `+16d`, or `@1970-01-02 00:00:00`. The time since
/// boot stays as it is, as on a real machine. None where libfaketime is not installed.
#[must_use]
pub fn fake(clock: &str) -> Option<Vec<(String, String)>> {
    preloaded(&[("FAKETIME", clock)])
}

fn preloaded(how: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let set = [("LD_PRELOAD", LIBRARY), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let all = set.iter().chain(how);
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Path::new(LIBRARY).exists().then(|| all.map(own).collect())
}

/// The clock on the wall of every program of a site, and of the test: it can be set on while they run. The time since
/// boot stays as it is.
#[derive(Debug, Clone)]
pub struct SiteClock {
    ahead: Arc<AtomicI64>,
    folder: Arc<TempDir>,
    env: Vec<(String, String)>,
}

impl SiteClock {
    /// A clock that is right; none where libfaketime is not installed.
    ///
    /// # Panics
    /// If there is no room for its file.
    #[must_use]
    pub fn new() -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("clock").display().to_string();
        // Without the second setting a program looks at the file every ten seconds.
        let env = preloaded(&[("FAKETIME_TIMESTAMP_FILE", &file), ("FAKETIME_NO_CACHE", "1")])?;
        let clock = Self {
            ahead: Arc::default(),
            folder: Arc::new(folder),
            env,
        };
        clock.set_days(0);
        Some(clock)
    }

    /// Sets it to so many days from now.
    ///
    /// # Panics
    /// If its file cannot be written.
    pub fn set_days(&self, days: i64) {
        let file = self.folder.path().join("clock");
        durable::replace(file, format!("+{days}d\n").as_bytes(), 0o644).expect("the clock's file");
        self.ahead.store(days * DAY, Ordering::Relaxed);
    }

    /// What makes a program go by it.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }
}

impl Clock for SiteClock {
    fn now(&self) -> Believed {
        let right = SystemClock.now();
        let now = right.now.plus_seconds(self.ahead.load(Ordering::Relaxed));
        Believed { now, ..right }
    }
}

//! Every limit of the windows' common part, each with its reason.

use std::time::Duration;

/// How often a snapshot is read where no event asks for it sooner: a second is what a person calls "now".
pub const REFRESH: Duration = Duration::from_secs(1);
/// Events come in bursts; one reading answers all of a burst.
pub const SETTLE: Duration = Duration::from_millis(60);
/// How long one request may take. Backups and hashing of large files are the slow ones.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(600);
/// How long a reading of the snapshot may take before the service is called deaf.
pub const READ_PATIENCE: Duration = Duration::from_secs(10);
/// First pause before the service is looked for again, doubled up to [`RETRY_CAP`].
pub const RETRY_BASE: Duration = Duration::from_millis(200);
/// Longest pause before the service is looked for again.
pub const RETRY_CAP: Duration = Duration::from_secs(3);
/// How long a service that was started may take until it listens.
pub const START_PATIENCE: Duration = Duration::from_secs(20);
/// Commands that wait for the link's thread; a person cannot click faster.
pub const COMMANDS: usize = 64;
/// Events between two frames that are kept for the window; older ones are dropped.
pub const PENDING_EVENTS: usize = 10_000;
/// Lines of an event list.
pub const EVENT_LINES: usize = 100_000;
/// Characters of one line of an event list; the rest is cut off.
pub const EVENT_LINE_CHARS: usize = 1_000;
/// Toasts on the window at a time.
pub const TOASTS: usize = 4;
/// How long a toast stays.
pub const TOAST_SECONDS: f64 = 6.0;
/// A file of texts.
pub const MAX_TEXTS: u64 = 1 << 20;
/// Entries of one folder that the chooser lists.
pub const CHOOSER_ENTRIES: usize = 20_000;
/// Last used folders and files that the chooser remembers.
pub const CHOOSER_RECENT: usize = 8;
/// Characters of a path that a person types: Linux takes no longer one (`PATH_MAX`).
pub const CHOOSER_PATH: usize = 4096;

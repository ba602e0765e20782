//! Every cap of the repository, each with its reason.

use std::time::Duration;

use crate::http::PlaceLimits;

/// Configuration file: a page of text.
pub const CONFIG_BYTES: u64 = 64 << 10;
/// The trusted root that the author handed over; the cap that clients have.
pub const ROOT_BYTES: u64 = 512 << 10;
/// Lifetime of what this program signs (DESIGN section 4).
pub const ONLINE_LIFETIME_SECONDS: i64 = 14 * 24 * 3600;
/// Online keys in the folder: one in force, one to come, and a few that were made and never named.
pub const ONLINE_KEYS: usize = 16;
/// How long a signature is left alone before it is renewed (DESIGN section 4).
pub const RENEW_AFTER_SECONDS: i64 = 12 * 3600;
/// How often the program looks whether something is due: renewal, lease, collection.
pub const TICK: Duration = Duration::from_secs(5);
/// How often the lease is renewed: twice before it runs out.
pub const LEASE_RENEW_SECONDS: i64 = 10;
/// A lease that was not renewed for this long belongs to nobody.
pub const LEASE_SECONDS: i64 = 30;
/// Snapshot files kept: a client that has read a timestamp asks for its snapshot within minutes.
pub const KEPT_SNAPSHOTS: u64 = 16;
/// Teams that one request may bring lists of.
pub const TEAMS: usize = 64;
/// Targets files kept of each role, for the same reason and for a look back.
pub const KEPT_TARGETS: u64 = 64;
/// Receipts kept: for repeated requests and for a look back over decades of weekly releases.
pub const KEPT_PUBLISHES: u64 = 10_000;
/// Uploaded files that no metadata lists, and files that were taken off the list, are removed after this.
pub const ABANDONED_SECONDS: i64 = 24 * 3600;
/// How often such files are looked for.
pub const COLLECT_SECONDS: i64 = 600;
/// Uploads that wait for their metadata: a restored repository may be handed back a few thousand files.
pub const WAITING_UPLOADS: usize = 4096;
/// Their bytes: eight of the largest files.
pub const WAITING_BYTES: u64 = 8 * protocol::limits::MAX_TARGET;
/// Uploads kept open between two pieces, so that their hash need not be computed again.
pub const OPEN_UPLOADS: usize = 8;
/// Bytes of an upload that are handed to the disk at a time.
pub const WRITE_BYTES: usize = 1 << 20;
/// Bytes of a target that are read at a time.
pub const READ_BYTES: usize = 128 << 10;
/// Body of a reports request: as many as a request may hold, half of them large.
pub const REPORTS_BODY: usize = 16 << 20;
/// Reports in one page for the author.
pub const REPORT_PAGE: u64 = 500;
/// Bytes of reports in one page for the author.
pub const REPORT_PAGE_BYTES: u64 = 4 << 20;
/// Root files in one request: a mirror hands back all it has, decades of rotations.
pub const ROOTS_PER_REQUEST: usize = 1024;
/// A manager may claim versions of snapshot and timestamp this far ahead of the clock and no further: a stolen
/// manager certificate must not be able to use the version numbers up. The author may.
pub const CLAIMED_VERSION_AHEAD: u64 = 24 * 3600;
/// Seconds until a client is asked to come again while the repository waits for recovery.
pub const RETRY_AFTER_SECONDS: u32 = 10;
/// Pages of the database copied at a time during a backup, so that readers get their turn.
pub const BACKUP_PAGES: i32 = 256;
/// How old the counted outcomes on the page may be: counting reads an index of all reports.
pub const OUTCOMES_AGE: Duration = Duration::from_secs(5);
/// Versions of one component that the page shows; the rest is a link away.
pub const PAGE_VERSIONS: usize = 50;
/// Entries of a record that are kept: a few years of daily releases.
pub const RECORD_FILES: u32 = 8;

/// What peers may cost and what is kept of what they send. Tests make it small.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Listeners at `/events`: a few managers and windows of each site.
    pub subscribers: PlaceLimits,
    /// Downloads of targets at a time; a slow client is cut by the listener.
    pub downloads: PlaceLimits,
    /// A body must bring at least this many bytes in every [`Self::pace_window`].
    pub pace_bytes: u64,
    /// See [`Self::pace_bytes`].
    pub pace_window: Duration,
    /// Reports kept; the oldest go, of whoever has most.
    pub kept_reports: u64,
    /// Bytes of reports kept; the oldest go, of whoever has most.
    pub kept_report_bytes: u64,
    /// What the listener allows.
    pub serve: mtls::serve::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        let places = PlaceLimits {
            all: 256,
            anonymous: 192,
            each: 32,
        };
        Self {
            subscribers: places,
            downloads: places,
            pace_bytes: 4 << 10,
            pace_window: Duration::from_secs(15),
            kept_reports: 100_000,
            kept_report_bytes: 1 << 30,
            serve: mtls::serve::Limits {
                // Peers are sites, not devices: a few hundred managers, authors and mirrors.
                connections: 2048,
                handshakes: 64,
                per_address: 128,
                ..mtls::serve::Limits::default()
            },
        }
    }
}
/// Seconds before its certificate's end from which a repository warns: time for the author to travel.
pub const CERTIFICATE_WARNING_SECONDS: i64 = 30 * 86_400;

//! Every cap of this program, each with its reason.

use std::time::Duration;

/// Characters of a new passphrase: it is all that stands between a stolen disk and signed software.
pub const PASSPHRASE_MIN: usize = 12;
/// Bytes of a passphrase read from a descriptor or a credential: more is the wrong file.
pub const PASSPHRASE_MAX: usize = 1024;
/// Times that a person at a terminal may mistype the passphrase.
pub const PASSPHRASE_TRIES: u32 = 3;
/// Bits of a new RSA key; verifiers of a release accept nothing below.
pub const RSA_BITS: usize = 3072;
/// Most RSA bits that are accepted: twice as long signs eight times slower.
pub const RSA_BITS_MAX: usize = 8192;

/// Characters of a key id by which people tell keys apart: 32 bits, and no two that a site has are alike.
pub const SHORT_KEY: usize = 8;
/// Bytes of the public half of a key: an RSA key of 8192 bits in PEM has 1.5 kB.
pub const PUBLIC_KEY_BYTES: u64 = 16 << 10;
/// Bytes of what a team hands over: a key and an empty list; also of the site's certificate.
pub const TEAM_FILE_BYTES: u64 = 64 << 10;
/// Public halves looked at in one folder.
pub const KEYS_IN_A_FOLDER: usize = 256;

/// Bytes of `author.toml`.
pub const CONFIG_BYTES: u64 = 64 << 10;
/// Bytes of what a device tells of itself (`device plan --json`).
pub const FACTS_BYTES: u64 = 256 << 10;
/// Seconds that certificates and metadata of a rehearsal are good for: a day, and it ends within minutes.
pub const REHEARSAL_SECONDS: i64 = 86_400;
/// How long a rehearsal may take in all, unless it is said otherwise.
pub const REHEARSAL: Duration = Duration::from_secs(600);
/// How long one run of a rehearsal's device may take beside what its packages ask for.
pub const REHEARSAL_RUN: Duration = Duration::from_secs(30);
/// Seconds after which a version that is made to fail in a rehearsal has failed.
pub const REHEARSAL_SICK_SECONDS: u32 = 2;
/// Between two looks at a rehearsal's device that starts or ends.
pub const REHEARSAL_LOOK: Duration = Duration::from_millis(5);
/// How long a killed program may take to be gone.
pub const REHEARSAL_ANSWER: Duration = Duration::from_secs(5);
/// Files of a program's data that a rehearsal compares.
pub const REHEARSAL_FILES: usize = 10_000;
/// Bytes of the log of a rehearsal's device that are read for its last words.
pub const REHEARSAL_LOG: u64 = 16 << 20;
/// Bytes of `update.toml`.
pub const MANIFEST_BYTES: u64 = 256 << 10;
/// Bytes at a file's start that tell what it is: an ELF header and a `#!` line fit in.
pub const HEAD_BYTES: usize = 4096;

/// Seconds to connect, TLS included.
pub const CONNECT: Duration = Duration::from_secs(10);
/// Seconds without a byte from the repository before a read is given up.
pub const READ: Duration = Duration::from_secs(30);
/// Bytes of one upload request; a broken link costs at most this much again.
pub const PIECE: u64 = 16 << 20;
/// Bytes per read while uploading: the unit of progress.
pub const CHUNK: usize = 128 << 10;
/// Bytes of an answer that is not metadata and not a page of reports: a receipt with its steps.
pub const ANSWER_BYTES: usize = 1 << 20;
/// Bytes of one page of reports: `REPORTS_PAGE` of the largest reports.
pub const REPORT_PAGE_BYTES: usize = 32 << 20;
/// Reports asked for at once.
pub const REPORTS_PAGE: u64 = 500;
/// Reports read for one view, the newest: two of each of ten thousand devices.
pub const REPORTS_READ: u64 = 20_000;
/// Pages of reports read for one view; a page of large reports is shorter than it was asked for.
pub const REPORT_PAGES: usize = 1_000;

/// Times that a broken upload is picked up again within one publish.
pub const UPLOAD_TRIES: u32 = 5;
/// First wait between two tries; doubles, with full jitter, up to [`UPLOAD_WAIT_MAX`].
pub const UPLOAD_WAIT: Duration = Duration::from_millis(250);
/// Longest wait between two tries.
pub const UPLOAD_WAIT_MAX: Duration = Duration::from_secs(4);
/// Times that a publish is tried again because somebody else published in between.
pub const CONFLICT_TRIES: u32 = 4;

/// Lifetime of a root: one year.
pub const ROOT_SECONDS: i64 = 365 * 86_400;
/// Seconds that two signers' clocks may be apart: a day.
pub const CLOCKS_APART: i64 = 86_400;
/// Lifetime of a targets role: 180 days.
pub const TARGETS_SECONDS: i64 = 180 * 86_400;
/// Root files handed back at once: a key change a month for decades.
pub const ROOTS: u32 = 1024;
/// Lines of the upload record that one view reads.
pub const RECORDS: usize = 10_000;
/// Packed folders kept in `drafts/`; the oldest go first.
pub const DRAFTS: usize = 4;

/// Minutes that the release key may stay open: a working day, no more.
pub const KEY_MINUTES: u32 = 480;
/// Between two looks at the repository while a window watches.
pub const REFRESH: Duration = Duration::from_secs(30);
/// The same while it does not answer: whoever has just started it waits in front of the window.
pub const REFRESH_AWAY: Duration = Duration::from_secs(3);
/// Between two looks at the key's time and at whether anybody is there.
pub const TICK: Duration = Duration::from_secs(1);
/// A service that nobody needs ends after so long; the next window starts one in a moment.
pub const IDLE: Duration = Duration::from_secs(600);
/// How long an ending service waits for a job that is past the point of no return.
pub const ENDING: Duration = Duration::from_secs(20);
/// How long a cancel waits for the job's end before it answers.
pub const CANCEL: Duration = Duration::from_secs(5);
/// Shortest time between two words about a job's bytes: a bar does not move faster.
pub const PROGRESS: Duration = Duration::from_millis(100);
/// Drafts that a preflight has read and a publish may name: one for each open window and a few more.
pub const DRAFTS_KEPT: usize = 8;
/// Steps and messages kept for windows that come later.
pub const KEPT_EVENTS: usize = 1000;
/// Events that a slow window may be behind before it gets a new snapshot instead.
pub const WATCH_LAG: usize = 256;
/// Verified reports kept in memory, the newest: ten thousand devices told twice.
pub const REPORTS_KEPT: usize = 20_000;
/// Refused reports shown, the newest.
pub const REFUSED_SHOWN: usize = 50;
/// Entries of the upload record in one answer.
pub const HISTORY: usize = 2000;
/// Devices in one answer.
pub const FLEET_PAGE: usize = 1000;
/// Updates whose latencies one answer shows.
pub const LATENCY_UPDATES: usize = 100;
/// Bytes of rows in one answer: a line on the control socket, with room for what is around them.
pub const ANSWER_ROWS: usize = protocol::limits::MAX_CONTROL_LINE - (512 << 10);
/// Versions of a component in a snapshot, the newest.
pub const SNAPSHOT_VERSIONS: usize = 100;
/// Reasons of failures in a snapshot; the fleet's pages have them all.
pub const SNAPSHOT_REASONS: usize = 20;

/// Devices that the author's window keeps and shows; a larger site is asked for on the command line.
pub const WINDOW_FLEET: usize = 20_000;

/// Updates whose latencies the author's window shows.
pub const WINDOW_RELEASES: usize = 30;

/// Minutes that the author's window keeps the key open where a person asks for it.
pub const WINDOW_KEEP_MINUTES: u32 = 15;

/// Characters of a name, a version or an address typed into the author's window: more than any that is accepted, so
/// that one too long is refused with a reason and not cut in silence.
pub const WINDOW_FIELD: usize = 400;

/// Bytes of a package that are read at once while it is looked at.
pub(crate) const READ_BUFFER: usize = 256 * 1024;

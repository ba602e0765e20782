//! Every cap of the gateway, each with its reason. Sizes of messages are in `protocol::limits`.

use std::time::Duration;

pub use crate::buckets::Rate;

/// Bytes of `manager.toml`: a page of settings.
pub const CONFIG_BYTES: u64 = 64 << 10;
/// Bytes of a certificate, key or root file in the gateway's folder.
pub const SITE_FILE_BYTES: u64 = 4 << 20;
/// Repository addresses: one and a few to fall back to.
pub const REPOSITORIES: usize = 8;
/// Devices on the list: ten thousand is the design's figure, with room.
pub const DEVICES: usize = 20_000;
/// Changes of the database that share one transaction at most: the disk is waited for once, and nobody for long.
pub const COMMIT_BATCH: usize = 256;
/// Bytes of one page of the device table: well below what a line of the control socket may have.
pub const PAGE_BYTES: usize = 1 << 20;
/// Seconds for which it is remembered how much was sent in each.
pub const PULSE_SECONDS: usize = 120;

/// Steps and messages kept for a window that opens later.
pub const KEPT_EVENTS: usize = 1_000;
/// Of these, about one device at most: beyond it its own oldest goes.
pub const KEPT_OF_ONE_DEVICE: usize = 100;
/// Steps and messages that a slow watcher may lag behind before it loses some.
pub const WATCH_BACKLOG: usize = 4_096;
/// Alarms kept; the oldest goes first.
pub const ALARMS: usize = 100;
/// Addresses of strangers that are named in alarms, beside those; the oldest goes first.
pub const STRANGERS: usize = 8;

/// Lines of the download record given back at most.
pub const HISTORY: usize = 10_000;

/// Memory of one password computation, in blocks of 1 KiB: the standard's 19 MiB, and room for a later choice.
pub const PASSWORD_BLOCKS: usize = 64 << 10;
/// Password checks waiting for their turn; more are told to come later.
pub const PASSWORD_QUEUE: usize = 16;
/// Longest password, in bytes: nobody types more, and the hash must not become work for an attacker.
pub const PASSWORD_BYTES: usize = 1_024;
/// Shortest password, in characters.
pub const PASSWORD_MIN_CHARS: usize = 8;

/// How long a one-time code works.
pub const CODE_SECONDS: i64 = 24 * 3_600;
/// Wrong passwords after which a code is void.
pub const CODE_FAILURES: u32 = 5;
/// Wrong tries to enrol from one address, beyond which it is told to wait and named in an alarm.
pub const ENROLL_WRONG: Rate = Rate {
    burst: 10,
    every: Duration::from_secs(6),
};
/// Wrong passwords of devices, of whichever, that an operator may type; beyond them all wait, and an alarm says so.
pub const PASSWORD_WRONG: Rate = Rate {
    burst: 10,
    every: Duration::from_secs(6),
};
/// How long a wrong try to enrol waits for its answer: nobody who types notices, and a flood is held up by its own
/// connections.
pub const ENROLL_REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// Connections of the joining port: a site's devices do not join all at once.
pub const JOINING_CONNECTIONS: usize = 256;
/// Addresses whose wrong tries are remembered; beyond it the one that was idle for longest is forgotten.
pub const RATE_BUCKETS: usize = 10_000;
/// Bytes of an enrolment or renewal request: a CSR of 1 KiB, a password and a name.
pub const ENROLL_BODY: usize = 16 << 10;

/// Event streams of one device: one in use, others half open after a lost link.
pub const STREAMS_PER_DEVICE: usize = 8;
/// Messages waiting in one event stream; a stream that is fuller than this is dropped and starts anew.
pub const STREAM_BACKLOG: usize = 64;
/// Starts of one device's machine whose boot id is remembered, to notice two machines under one name.
pub const BOOTS_PER_DEVICE: usize = 64;
/// Seconds within which no machine starts so often: one that does not stay up needs ten for each start, at least.
pub const BOOTS_SECONDS: i64 = 600;
/// Bytes of what a device tells of itself, kept in memory: 64 components with their failed digests.
pub const HELLO_BYTES: usize = 256 << 10;
/// Characters of a boot id: a UUID, with room.
pub const BOOT_ID: usize = 64;
/// Steps in one progress request.
pub const PROGRESS_EVENTS: usize = 64;
/// Downloads of one device at a time: the current one, and a few that hang half open after a lost link.
pub const DOWNLOADS_PER_DEVICE: usize = 4;
/// Seconds a device's download waits for its turn before it is told to come later.
pub const DOWNLOAD_WAIT: Duration = Duration::from_secs(5);
/// Seconds in `Retry-After` for whoever has to come later.
pub const RETRY_AFTER_SECONDS: u64 = 2;
/// Bytes of one piece of a target on its way to a device: large, so that TLS and the disk work in bulk.
pub const SEND_PIECE: usize = 256 << 10;

/// First wait after an order was refused or failed on a device; doubles up to [`ORDER_RETRY_MAX`].
pub const ORDER_RETRY: Duration = Duration::from_secs(60);
/// Longest wait before an order that failed is sent again.
pub const ORDER_RETRY_MAX: Duration = Duration::from_secs(3_600);
/// How often desired and reported are compared, beside every event that may change one of them.
pub const RECONCILE: Duration = Duration::from_secs(5);
/// Releases before the newest one of a component, per processor and hardware, among which a fallback is looked for:
/// nobody stops so many in a row.
pub const OLDER_RELEASES: usize = 16;
/// Updates remembered per device for waits; the oldest goes first.
pub const RETRIES_PER_DEVICE: usize = 64;

/// How long a doubt about two machines under one name stays open, seconds: they are asked for the key once in it.
pub const CHALLENGE_SECONDS: i64 = 3_600;
/// Machines that an alarm about one name tells of.
pub const CHALLENGE_SHOWN: usize = 4;
/// Of these, from one address: two behind one router.
pub const CHALLENGE_SHOWN_AT: usize = 2;

/// Digests of a device's newest reports, to tell a repetition from a contradiction.
pub const REMEMBERED_REPORTS: i64 = 256;
/// Reports of one device, each counted as often as it has begun a [`REPORT_PIECE`]: all that an agent keeps (512), each
/// of a long update, twice over; later on one a second, and an update has one or two.
pub const REPORT_RATE: Rate = Rate {
    burst: 1_024,
    every: Duration::from_secs(1),
};
/// Bytes of a report that count as one: an update that tells 40 steps.
pub const REPORT_PIECE: usize = 16 << 10;
/// Steps that one device tells as they happen: an agent tells at most four a second of each component's download.
pub const PROGRESS_RATE: Rate = Rate {
    burst: 512,
    every: Duration::from_millis(50),
};
/// Hellos and event streams of one device: once for each connection, and with each poll where there is no stream.
pub const GREETING_RATE: Rate = Rate {
    burst: 64,
    every: Duration::from_millis(250),
};
/// New certificates of one device, at either port: it asks once in twenty days, and again where the answer was lost.
pub const RENEWAL_RATE: Rate = Rate {
    burst: 16,
    every: Duration::from_secs(30),
};
/// Bytes of reports waiting for the repository: weeks of a large site. Beyond it the oldest goes of whoever has most,
/// with an alarm.
pub const OUTBOX_BYTES: i64 = 512 << 20;
/// Bytes that a waiting report counts beside its own: its place in the tables.
pub const OUTBOX_ROW: i64 = 1 << 10;
/// Reports in one request to the repository.
pub const FORWARD_BATCH: usize = 64;
/// Bytes of one request to the repository, so that a batch of large reports is split.
pub const FORWARD_BYTES: usize = 3 << 20;
/// Updates whose own steps are being collected.
pub const OWN_UPDATES: usize = 64;
/// Own steps of one update in one report.
pub const OWN_STEPS: usize = 150;
/// How long own steps are collected before they are reported.
pub const OWN_REPORT_WAIT: Duration = Duration::from_secs(2);

/// Time to connect to a repository.
pub const CONNECT: Duration = Duration::from_secs(10);
/// Time for one metadata file or one API answer.
pub const ANSWER: Duration = Duration::from_secs(60);
/// Bytes of an API answer.
pub const ANSWER_BYTES: u64 = 4 << 20;
/// Longest wait added by back-off between two checks.
pub const CHECK_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// First back-off of an interrupted file.
pub const FETCH_BACKOFF: Duration = Duration::from_secs(2);
/// Longest back-off of an interrupted file.
pub const FETCH_BACKOFF_MAX: Duration = Duration::from_secs(600);
/// Failed tries in a row after which a file that does not come is an alarm: a link may break now and then.
pub const FETCH_TRIES: u32 = 3;
/// First wait before a file that arrived wrong from every address is asked for again.
pub const WRONG_FILE_WAIT: Duration = Duration::from_secs(3_600);
/// Longest wait before such a file is asked for again.
pub const WRONG_FILE_WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Digests with a breaker; the oldest goes first.
pub const BREAKERS: usize = 1_000;
/// Time after which the mirror is looked through again for what it need not keep: devices move on.
pub const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// Time without a byte after which a transfer is interrupted.
pub const STALL: Duration = Duration::from_secs(30);
/// Slowest average rate of a transfer that is kept, in bytes per second.
pub const FLOOR_RATE: u64 = 4 << 10;
/// Time before the floor rate is applied.
pub const FLOOR_AFTER: Duration = Duration::from_secs(60);
/// Generations of metadata that are kept for devices in the middle of a refresh.
pub const KEPT_GENERATIONS: usize = 4;
/// Root files served to devices: a rotation every day for three years.
pub const ROOTS: usize = 1_024;
/// Rounds of one recovery: ask, upload what is missing, ask again.
pub const RECOVER_ROUNDS: usize = 3;
/// Bytes of one line of the repository's event stream.
pub const EVENT_LINE: usize = 64 << 10;

/// Waiting releases that the status tells in full; the others are counted, and the device table has them all.
pub const WAITING_SHOWN: usize = 50;
/// Seconds before the end of its own certificate from which the gateway warns: time for the author to travel.
pub const CERTIFICATE_WARNING_SECONDS: i64 = 30 * 86_400;
/// How often the gateway looks when its certificate ends.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

/// Bytes of a backup: the list of ten thousand devices, metadata and keys.
pub const BACKUP_BYTES: u64 = 512 << 20;
/// Shortest passphrase of a backup, in characters.
pub const PASSPHRASE_MIN_CHARS: usize = 12;
/// Argon2id's cost of a backup's key: KiB of memory, passes, lanes; half a second on a small gateway.
pub const BACKUP_COST: (u32, u32, u32) = (64 << 10, 3, 1);
/// The most that a backup's header may ask for.
pub const BACKUP_COST_MAX: (u32, u32, u32) = (256 << 10, 10, 4);
/// Seconds after which a text that a peer can repeat at will is said again.
pub const SAY_AGAIN: i64 = 60;
/// Such texts that are remembered; while there are more, new ones are not said.
pub const SPARSE_TEXTS: usize = 1_000;

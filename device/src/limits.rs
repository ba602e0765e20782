//! Every cap of the agent, each with its reason.

use std::time::Duration;

/// How often one update may fail for reasons of this device, such as a full disk, before it is held against the release:
/// each time the old version is stopped for it.
pub const MAX_EXCUSES: u32 = 3;
/// Restarts of agent or machine within one attempt before it is given up: power may go away twice by
/// accident, not four times.
pub const MAX_RESTARTS: u32 = 3;
/// The same while an update module works or undoes: it may reboot the machine for each.
pub const MAX_MODULE_RESTARTS: u32 = 8;
/// Reboots of a roll back whose end its module does not confirm, before what is installed counts as inconsistent.
pub const MAX_UNDO_REBOOTS: u32 = 3;
/// Failed digests remembered per component; the oldest is forgotten.
pub const MAX_BAD: usize = 16;

/// Time to connect and to shake hands, on a slow radio link.
pub const DIAL_TIME: Duration = Duration::from_secs(15);
/// Time until the head of an answer is here.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Time for a whole small answer (hello, reports, renewal).
pub const BODY_TIME: Duration = Duration::from_secs(60);
/// Bytes of a small JSON answer.
pub const MAX_ANSWER: u64 = 4 << 20;
/// Bytes of one line of the event stream: an order has about 500.
pub const MAX_EVENT_LINE: usize = 64 << 10;
/// Keep-alive intervals without a byte after which the event stream is dead.
pub const DEAD_AFTER_KEEP_ALIVES: u32 = 3;
/// Request connections that exist at the same time, the event stream not counted: one for a download, one
/// for what is said meanwhile.
pub const MAX_REQUEST_CONNECTIONS: usize = 2;
/// Seconds between hellos whatever the manager says: not faster than this…
pub const MIN_POLL_SECONDS: u64 = 1;
/// … and not slower than this.
pub const MAX_POLL_SECONDS: u64 = 3600;
/// Hello although the event stream is open: what both sides believe is compared this often.
pub const HELLO_WITH_EVENTS: Duration = Duration::from_secs(300);
/// First upper bound of a waiting time after a failed connection.
pub const BACK_OFF_BASE: Duration = Duration::from_secs(1);
/// Largest upper bound of a waiting time after failed connections.
pub const BACK_OFF_CAP: Duration = Duration::from_secs(60);

/// Tries of one download before an order is given up; each waits with back-off and resumes.
pub const DOWNLOAD_TRIES: u32 = 10;
/// A download slower than this for [`DOWNLOAD_WINDOW`] is cut off and tried again: 256 bytes a second is
/// less than the slowest radio link that is worth using.
pub const DOWNLOAD_FLOOR_BYTES: u64 = 256 * 20;
/// The time over which the floor is measured.
pub const DOWNLOAD_WINDOW: Duration = Duration::from_secs(20);
/// One try of a download ends after this and resumes with a new connection.
pub const DOWNLOAD_TIME: Duration = Duration::from_secs(6 * 3600);
/// Time between two progress events of a download.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Bytes of a download that wait for the disk before no more are taken from the network; as many are on their
/// way to the disk meanwhile, so twice this and one piece of the connection at most.
pub const WRITE_PIECE: usize = 256 << 10;
/// Bytes of a download after which it is flushed: neither its end nor a record of another component then waits for
/// gigabytes. A slow card flushes this in about a second.
pub const FLUSH_EVERY: u64 = 8 << 20;
/// Bytes of an earlier try that are hashed in one piece: a fraction of a second.
pub const HASH_PIECE: u64 = 16 << 20;
/// Tries to take up a part whose last piece a dropped download is still writing…
pub const PART_TRIES: u32 = 600;
/// … and the pause between two of them: a minute in all, longer than a slow card takes for a piece and a flush.
pub const PART_PAUSE: Duration = Duration::from_millis(100);
/// Threads for disk work beside the agent's own.
pub const DISK_THREADS: usize = 8;
/// Releases that are unpacked, checked or removed at the same time; the other threads stay for what is short.
pub const LONG_WORK: usize = 3;
/// Room that stays free on the disk beside a release: journal, records and data need to go on.
pub const DISK_RESERVE: u64 = 1 << 20;

/// First upper bound of the waiting time before an update that failed here is tried again.
pub const RETRY_BASE: Duration = Duration::from_secs(5);
/// Largest upper bound of it.
pub const RETRY_CAP: Duration = Duration::from_secs(900);

/// A machine with less load than this, in percent of all its processors, may be idle.
pub const IDLE_LOAD_PERCENT: u32 = 50;
/// How often is looked whether a release that waits may be activated, where nothing says so before.
pub const WAIT_LOOK: Duration = Duration::from_secs(30);
/// Pause between two such looks where something says that there is a reason; while it says so again and again, twice as
/// long each time.
pub const WAIT_GAP: Duration = Duration::from_millis(200);
/// How often that pause doubles at most: 12.8 s, as each look may have to be written down.
pub const WAIT_DOUBLINGS: u32 = 6;
/// How often the seconds of waiting are written down: a power cut takes away no more than this.
pub const WAIT_MARK: Duration = Duration::from_secs(600);
/// How often the manager is told at most that a release waits for something else now.
pub const WAIT_TELL: Duration = Duration::from_secs(60);
/// Steps of one attempt that tell of its waiting; the others are told in the log only.
pub const MAX_WAIT_STEPS: usize = 16;
/// Characters of a condition's words that are shown and told.
pub const MAX_CONDITION: usize = 250;
/// Conditions of all components that a hello or a report names, at most 1.5 KB each: a manager takes 256 KiB.
pub const MAX_TOLD_CONDITIONS: usize = 96;
/// Interlocks that may be set at the same time; also power supplies that are looked at.
pub const MAX_INTERLOCKS: usize = 256;
/// Windows, and interlocks, that device.toml may name for one component.
pub const MAX_SITE_CONDITIONS: usize = 16;
/// Characters of an interlock's words about who holds it.
pub const MAX_HOLDER: usize = 100;
/// Bytes that are read of a figure of the system or of an interlock.
pub const MAX_SENSOR: u64 = 512;

/// `/proc/meminfo`: some fifty short lines.
pub const MAX_MEMINFO: u64 = 16 * 1024;

/// Lines of the install record in which earlier pauses are looked for.
pub const MEASURED_LINES: usize = 200;

/// Earlier pauses that a prediction is made from: the newest.
pub const MEASURED_PAUSES: usize = 9;

/// How long `device apply --once` waits for an answer of the manager: a slow radio link has shaken hands by then, twice.
pub const ONCE_ANSWER: Duration = Duration::from_secs(60);
/// How long it takes at most, if it is not told otherwise.
pub const ONCE_LIMIT: Duration = Duration::from_secs(3600);
/// How long it waits for its reports to be taken.
pub const ONCE_REPORTS: Duration = Duration::from_secs(15);
/// Pause between two of its looks at what is under way.
pub const ONCE_LOOK: Duration = Duration::from_millis(20);

/// Events kept for who starts to watch.
pub const KEPT_EVENTS: usize = 256;
/// Events that a slow watcher may lag behind before it loses some.
pub const WATCH_LAG: usize = 256;
/// Progress events that wait to be sent; more are dropped, they are a courtesy.
pub const MAX_WAITING_PROGRESS: usize = 128;
/// How long progress is collected before it is sent.
pub const PROGRESS_PAUSE: Duration = Duration::from_millis(20);
/// Commands that wait at one component.
pub const MAX_WAITING_COMMANDS: usize = 32;

/// Signed reports that wait for a manager; the oldest is dropped beyond that.
pub const MAX_WAITING_REPORTS: usize = 512;
/// Steps of one attempt kept for its report; leaves room for those of its end.
pub const MAX_ATTEMPT_EVENTS: usize = protocol::limits::MAX_REPORT_EVENTS - 10;

/// Bytes of a program's output before its file is set aside; one older file is kept, so twice this at most.
pub const MAX_OUTPUT: u64 = 1 << 20;
/// Bytes that are copied at once. Where two programs of a component write at the same time, as when a worker of the
/// old one outlives it, a file may be longer than [`MAX_OUTPUT`] by this.
pub const OUTPUT_PIECE: usize = 64 << 10;
/// How long the last output of a program that has ended is waited for.
pub const OUTPUT_WAIT: Duration = Duration::from_millis(500);
/// How often tasks that have ended are forgotten.
pub const TASKS_CHECK: Duration = Duration::from_secs(2);
/// Bytes of a failed program's last output that are looked at for the reason.
pub const REASON_TAIL: u64 = 2048;
/// Lines of it that go into the reason.
pub const REASON_LINES: usize = 3;

/// First upper bound of the waiting time before a program that ended is started again.
pub const RESTART_BASE: Duration = Duration::from_millis(200);
/// Largest upper bound while it still counts as running.
pub const RESTART_CAP: Duration = Duration::from_secs(10);
/// Ends in a row after which the loop breaker opens: the component is shown as failing.
pub const LOOP_BREAKER: u32 = 6;
/// Largest upper bound of the waiting time when the loop breaker is open.
pub const FAILING_CAP: Duration = Duration::from_secs(300);
/// A program that ran this long has ended for the first time again.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Longest time that a release may ask for between SIGTERM and SIGKILL.
pub const MAX_STOP: Duration = Duration::from_secs(600);
/// Time for a process group to vanish after SIGKILL.
pub const KILL_WAIT: Duration = Duration::from_secs(5);
/// How long a live program that runs may take to be found at its socket; it dials again within two seconds.
pub const LIVE_REPORT: Duration = Duration::from_secs(3);
/// Pause between two looks at a new program that has yet to report.
pub const HANDING_LOOK: Duration = Duration::from_millis(20);
/// How long an agent that starts waits for a program to say whether it serves, beyond what it may stand still.
pub const LIVE_SETTLE: Duration = Duration::from_secs(10);
/// Bytes of the file that says that a handing over was decided.
pub const MAX_DECISION: u64 = 64;

/// First pause between two health probes after a start.
pub const FIRST_PROBE: Duration = Duration::from_millis(5);
/// Longest pause between two health probes while a program starts.
pub const SLOWEST_PROBE: Duration = Duration::from_millis(250);
/// Pause between two health probes on probation.
pub const PROBATION_PROBE: Duration = Duration::from_millis(500);
/// Failed probes in a row that end a probation.
pub const PROBATION_FAILURES: u32 = 3;
/// Time for one health probe.
pub const PROBE_TIME: Duration = Duration::from_secs(5);
/// Bytes of a health answer that are read.
pub const MAX_HEALTH_BODY: u64 = 4096;
/// Longest start and probation that a release may ask for.
pub const MAX_PROVE: Duration = Duration::from_secs(24 * 3600);

/// Seconds in which an update module ends each of its states, unless the settings say so otherwise: those of Mender.
pub const MODULE_SECONDS: u64 = 14_400;
/// Time between SIGTERM and SIGKILL for a module that took too long: that of Mender.
pub const MODULE_STOP: Duration = Duration::from_secs(60);
/// Bytes of a module's answer: it is one word.
pub const MODULE_ANSWER: u64 = 256;
/// How often is looked whether a module has opened the pipe that it is to read next.
pub const PIPE_PAUSE: Duration = Duration::from_millis(5);
/// Bytes that are written to a module's pipe at once.
pub const PIPE_PIECE: usize = 64 << 10;
/// Time in which a machine that was told to reboot goes down.
pub const REBOOT_TIME: Duration = Duration::from_secs(600);

/// Starts of a new agent on trial: machine or launcher may go down twice by accident, and a trial that is ended by a
/// signal is started again.
pub const MAX_TRIAL_STARTS: u32 = 3;
/// How often the launcher looks whether a new agent has proved itself.
pub const TRIAL_LOOK: Duration = Duration::from_secs(1);
/// Seconds beyond those of its own proof that a new agent gets before its launcher ends it.
pub const TRIAL_GRACE: u64 = 60;
/// Time in which a new agent hears the manager that the agent before it heard: several tries over a slow link.
pub const AGENT_HEARD: Duration = Duration::from_secs(600);
/// Pause between two looks at what a new agent has taken over so far.
pub const AGENT_LOOK: Duration = Duration::from_millis(20);
/// Pieces of its output that are still read of an agent that has ended: more than a pipe holds.
pub const LAST_PIECES: usize = 16;
/// Pause between two looks at processes that were killed.
pub const STRAYS_PAUSE: Duration = Duration::from_millis(5);

/// Tries to take the lock of an agent that may be dying…
pub const LOCK_TRIES: u32 = 50;
/// … and the pause between two of them: a second in all.
pub const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a program that name its processor.
pub const ELF_HEAD: u64 = 64;

/// Bytes of a program's data that are saved: more is not copied while a program stands still.
pub const MAX_DATA_BYTES: u64 = 8 << 30;
/// Files, folders and links of them.
pub const MAX_DATA_ENTRIES: usize = 50_000;
/// What a copy of data may take beside the bytes themselves, for each file: a block.
pub const DATA_ENTRY_BYTES: u64 = 4096;
/// Bytes by which transformed data may be larger than twice the data before.
pub const TRANSFORM_GROWTH: u64 = 16 << 20;
/// How often is looked whether a program that transforms data takes too much of the disk.
pub const TRANSFORM_LOOK: Duration = Duration::from_secs(1);
/// First upper bound of the waiting time before data are put back once more…
pub const PUT_BACK_BASE: Duration = Duration::from_millis(100);
/// … and the largest: the component does not run meanwhile.
pub const PUT_BACK_CAP: Duration = Duration::from_secs(60);

/// Bytes of /etc/passwd: ten thousand users.
pub const MAX_ACCOUNTS: u64 = 1 << 20;

/// Bytes of device.toml.
pub const MAX_SETTINGS: u64 = 64 << 10;
/// Bytes of an author's root file.
pub const MAX_ROOT: u64 = 512 << 10;
/// Bytes of a typed code, password or file of them.
pub const MAX_TYPED: u64 = 4096;
/// How often the certificate's age is looked at.
pub const RENEW_CHECK: Duration = Duration::from_secs(600);
/// Bytes of a release's description record: files and their digests.
pub const MAX_STAGED_FILES: usize = 100_000;

/// Entries of the install record that the window shows.
pub const WINDOW_HISTORY: usize = 200;
/// Refused requests that it shows until they are closed.
pub const WINDOW_REFUSALS: usize = 4;

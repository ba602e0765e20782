//! Every cap of this crate, each with its reason.

/// A component's name: fits a file name with room for a suffix.
pub const COMPONENT_BYTES: usize = 64;

/// A version as text: twenty digits thrice and a pre-release.
pub const VERSION_BYTES: usize = 64;

/// `component/version/file name` in all: what a tar header and every file system carry.
pub const TARGET_PATH_BYTES: usize = 256;

/// A path inside a package: what a plain tar header carries (100 bytes of name, 155 of prefix).
pub const PAYLOAD_PATH_BYTES: usize = 240;

/// Folders above a file in a package.
pub const PAYLOAD_DEPTH: usize = 16;

/// `update.toml`: some hundred lines.
pub const MANIFEST_BYTES: u64 = 64 * 1024;

/// Words on a program's command line.
pub const ARGUMENTS: usize = 64;

/// Variables a release adds to a program's environment.
pub const VARIABLES: usize = 64;

/// One argument, one variable, a health address.
pub const WORD_BYTES: usize = 4096;

/// A description, a reason.
pub const TEXT_BYTES: usize = 4096;

/// Hardware names a release lists.
pub const HARDWARE: usize = 64;

/// Longest time to start, to stop, or to prove itself: an hour, so that no release holds a device.
pub const SECONDS: u32 = 3600;

/// Entries of a package.
pub const PACKAGE_ENTRIES: usize = 10_000;

/// Unpacked bytes of a package, unless the device asks for less.
pub const PACKAGE_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Piece in which files are copied: memory stays constant.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Components a release requires.
pub const REQUIRED_COMPONENTS: usize = 32;

/// Releases of one set: each device holds all of them twice, old and new, until the last is proved.
pub const SET_MEMBERS: usize = 16;

/// Schemas of data a release can take over.
pub const SCHEMAS: usize = 64;

/// Seconds in which a running program stands still and has handed over, unless the release says so otherwise.
pub const LIVE_READY_SECONDS: u32 = 10;

/// Seconds in which the new version must then be able to serve, unless the release says so otherwise.
pub const LIVE_STILL_SECONDS: u32 = 5;

/// The most that either of them can be: whoever stands still serves nobody.
pub const LIVE_SECONDS: u32 = 600;

/// Seconds in which a program that transforms data ends, unless the release says so otherwise: a minute.
pub const TRANSFORM_SECONDS: u32 = 60;

/// Windows of a policy.
pub const WINDOWS: usize = 16;

/// Days a policy may let a release wait: a year.
pub const POLICY_DAYS: u32 = 365;

/// Protocols and operations of a program that a release wants at rest.
pub const IDLE_NAMES: usize = 16;

/// Milliseconds that a program which hands over is expected to pause, where none was measured: what is aimed at.
pub const LIVE_PAUSE_MS: u64 = 10;

/// Bytes of state that are carried over in a millisecond, where nothing was measured: a slow memory card's.
pub const CARRIED_PER_MS: u64 = 20_000;

/// Milliseconds that a restart of a program is expected to take, where none was measured.
pub const RESTART_PAUSE_MS: u64 = 500;

/// Milliseconds that a restart of the machine is expected to take, where none was measured: two minutes.
pub const REBOOT_PAUSE_MS: u64 = 120_000;

/// Faults of an `update.toml` that are told at once.
pub const FAULTS: usize = 20;

/// The highest release counter: what every JSON reader takes for a whole number.
pub const COUNTER: u64 = 9_007_199_254_740_991;

/// Memory and disk a release may ask for: a thousand terabytes.
pub const DEVICE_BYTES: u64 = 1_000_000_000_000_000;

/// Padding behind a package's end: tar programs fill up to a record of twenty blocks.
pub const END_BYTES: usize = 16 * 1024;

/// First bytes of the program that are looked at: an ELF header.
pub const HEAD_BYTES: usize = 512;

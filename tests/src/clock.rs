//! Another time of day for one program, through libfaketime.

use std::path::Path;

/// Where Debian's package `faketime` puts its library.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The environment that gives a program another wall clock: `+16d`, or `@1970-01-02 00:00:00`. The time since
/// boot stays as it is, as on a real machine. None where libfaketime is not installed.
#[must_use]
pub fn fake(clock: &str) -> Option<Vec<(String, String)>> {
    let set = [
        ("LD_PRELOAD", LIBRARY),
        ("FAKETIME", clock),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Path::new(LIBRARY).exists().then(|| set.map(own).to_vec())
}

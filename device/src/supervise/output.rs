//! What programs write: appended to a file each, bounded, and quoted when they fail.
//!
//! The programs write into the file themselves, without the agent in between: so they go on when the agent
//! is not there. A file that is full is copied to `.1` and emptied; a program that writes more than that
//! between two looks loses some.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::limits::{MAX_OUTPUT, REASON_LINES, REASON_TAIL};

/// One program's output file.
#[derive(Debug, Clone)]
pub struct Output {
    path: PathBuf,
}

impl Output {
    /// The output in `path`; its folder must exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Opens it for a program to append to.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)
    }

    /// How long it is now: where the next program's output will begin.
    #[must_use]
    pub fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Copies the end of a full file to `.1` and empties it.
    ///
    /// # Errors
    /// Those of the disk; a full disk empties the file all the same.
    pub fn bound(&self) -> Result<bool, durable::Error> {
        if self.length() <= MAX_OUTPUT {
            return Ok(false);
        }
        let kept = self.tail(0, MAX_OUTPUT);
        let copied = durable::replace(older(&self.path), &kept, 0o640);
        let emptied = OpenOptions::new()
            .write(true)
            .open(&self.path)
            .and_then(|file| file.set_len(0));
        copied?;
        emptied.map_err(|source| durable::Error::Io {
            action: "empty",
            path: self.path.clone(),
            source,
        })?;
        Ok(true)
    }

    /// At most the last `max` bytes written after `from`.
    fn tail(&self, from: u64, max: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            let length = file.metadata().map_or(0, |found| found.len());
            let start = if from > length { 0 } else { from };
            let begin = start.max(length.saturating_sub(max));
            if file.seek(SeekFrom::Start(begin)).is_ok() {
                file.take(max).read_to_end(&mut bytes).ok();
            }
        }
        bytes
    }

    /// The last lines written after `from`, on one line, without control characters; empty if none.
    #[must_use]
    pub fn last_words(&self, from: u64) -> String {
        quote(&self.tail(from, REASON_TAIL))
    }
}

/// The last few lines of some output, fit for a reason.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = lines
        .get(lines.len().saturating_sub(REASON_LINES)..)
        .unwrap_or_default();
    last.join(" | ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn last_words_are_those_of_the_newest_start_only() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::new(dir.path().join("a.log"));
        output.open().unwrap().write_all(b"old line\n").unwrap();
        let from = output.length();
        output
            .open()
            .unwrap()
            .write_all(b"one\n\ntwo\x1b[31m\nthree\nfour\n")
            .unwrap();
        assert_eq!(output.last_words(from), "two [31m | three | four");
    }

    #[test]
    fn a_full_file_is_emptied_while_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::new(dir.path().join("a.log"));
        let mut writer = output.open().unwrap();
        let big = vec![b'x'; usize::try_from(MAX_OUTPUT).unwrap() + 10];
        writer.write_all(&big).unwrap();
        assert!(output.bound().unwrap());
        writer.write_all(b"after\n").unwrap();
        assert_eq!(output.length(), 6);
        assert_eq!(
            std::fs::metadata(dir.path().join("a.log.1")).unwrap().len(),
            MAX_OUTPUT
        );
        assert!(!output.bound().unwrap());
    }
}

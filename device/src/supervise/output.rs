//! What programs write: kept in a bounded file each, and quoted when they fail.
//!
//! A program writes into a pipe, and a small process at its other end, the copier, into the file: the bound holds
//! however fast a program writes, and program and copier go on when the agent is not there
//! (docs/decisions/005-output-goes-through-a-copier.md).

use std::fs::File;
use std::io::{self, PipeWriter, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use durable::{Bounded, Files};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use super::process::Process;
use crate::limits::{MAX_OUTPUT, OUTPUT_PIECE, OUTPUT_WAIT, REASON_LINES, REASON_TAIL};

/// The agent's own command that copies.
pub const COPY_OUTPUT: &str = "copy-output";

/// One program's output file.
#[derive(Debug, Clone)]
pub struct Output {
    path: PathBuf,
}

/// A place in the output: where a program's own begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which file, should it be set aside.
    file: u64,
    length: u64,
}

impl Output {
    /// The output in `path`; its folder must exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the next program's output will begin.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let found = std::fs::metadata(&self.path);
        found.map_or(Mark { file: 0, length: 0 }, |found| Mark {
            file: found.ino(),
            length: found.len(),
        })
    }

    /// Starts the copier; what is written into the pipe ends up in the file.
    ///
    /// # Errors
    /// Those of the system: no descriptors or processes are left.
    pub async fn copier(&self, program: &Path) -> io::Result<(Copier, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        // Nothing of a program's: neither its mark, nor a folder that it keeps busy.
        command
            .arg0("device")
            .arg(COPY_OUTPUT)
            .arg(&self.path)
            .env_clear()
            .current_dir("/")
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok((Copier::watch(Process::spawn(command).await?), writer))
    }

    /// The last lines written after `from`, on one line, without control characters; empty if none.
    #[must_use]
    pub fn last_words(&self, from: Mark) -> String {
        let now = self.mark();
        if now.file == from.file {
            return quote(&tail(&self.path, from.length));
        }
        // Set aside meanwhile: what was written before that is in the older file.
        let older = Bounded::older(&self.path);
        let begun = std::fs::metadata(&older).is_ok_and(|found| found.ino() == from.file);
        let mut bytes = tail(&older, if begun { from.length } else { 0 });
        bytes.extend(tail(&self.path, 0));
        let surplus = bytes
            .len()
            .saturating_sub(usize::try_from(REASON_TAIL).unwrap_or(usize::MAX));
        quote(bytes.get(surplus..).unwrap_or_default())
    }
}

/// At most the last bytes of a file that lie after `from`.
fn tail(path: &Path, from: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |found| found.len());
        let begin = from.max(length.saturating_sub(REASON_TAIL));
        if file.seek(SeekFrom::Start(begin)).is_ok() {
            file.take(REASON_TAIL).read_to_end(&mut bytes).ok();
        }
    }
    bytes
}

/// The process that copies one program's output. Dropped, it goes on: it ends when nobody can write any more.
#[derive(Debug)]
pub struct Copier {
    pid: i32,
    start_ticks: u64,
    gone: watch::Receiver<bool>,
}

impl Copier {
    /// Watches a copier, so that its end is known and nothing of it is left.
    #[must_use]
    pub fn watch(process: Process) -> Self {
        let (told, gone) = watch::channel(false);
        let (pid, start_ticks) = (process.pid(), process.start_ticks());
        tokio::spawn(async move {
            process.ended().await;
            told.send_replace(true);
        });
        Self {
            pid,
            start_ticks,
            gone,
        }
    }

    /// What finds it again: its pid and its start in clock ticks since boot.
    #[must_use]
    pub fn found_by(&self) -> (i32, u64) {
        (self.pid, self.start_ticks)
    }

    /// Waits a moment until all that an ended program has written is in the file. Something else of the program's may
    /// still hold the pipe: that is not waited for.
    pub async fn done(&self) {
        let mut gone = self.gone.clone();
        timeout(OUTPUT_WAIT, gone.wait_for(|gone| *gone)).await.ok();
    }
}

/// What the copier does: reads standard input to its end, and keeps the newest of it in `path`.
///
/// A disk that refuses loses output and never stops the program that writes it.
///
/// # Errors
/// Standard input cannot be read.
pub fn copy(path: &Path) -> io::Result<()> {
    // It ends with its program alone: a signal to everything would take the program's last words, and its life with
    // the next line that it writes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let _kept = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::quit())?,
    ];
    drop(entered);
    let mut kept = Bounded::new(Files::real(), path, MAX_OUTPUT, 0o640);
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; OUTPUT_PIECE];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => drop(kept.append(buffer.get(..count).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A reason with what was written last, if anything was.
#[must_use]
pub fn with_words(reason: &str, words: &str) -> String {
    if words.is_empty() {
        reason.to_owned()
    } else {
        format!("{reason}; its last output: {words}")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn write(output: &Output, bytes: &[u8]) {
        let mut file = Bounded::new(Files::real(), &output.path, MAX_OUTPUT, 0o640);
        file.append(bytes).unwrap();
    }

    fn output() -> (tempfile::TempDir, Output) {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::new(dir.path().join("a.log"));
        (dir, output)
    }

    #[test]
    fn last_words_are_those_of_the_newest_start_only() {
        let (_dir, output) = output();
        write(&output, b"old line\n");
        let from = output.mark();
        assert_eq!(output.last_words(from), "");
        write(&output, b"one\n\ntwo\x1b[31m\nthree\nfour\n");
        assert_eq!(output.last_words(from), "two [31m | three | four");
    }

    #[test]
    fn last_words_are_found_on_both_sides_of_a_file_that_was_set_aside() {
        let (_dir, output) = output();
        write(&output, b"old line\n");
        let from = output.mark();
        let mut fill = vec![b'x'; usize::try_from(MAX_OUTPUT).unwrap() - 9 - 4];
        fill.extend(b"\none\ntwo\n");
        write(&output, &fill);
        assert_ne!(output.mark().file, from.file);
        assert!(output.last_words(from).ends_with("x | one | two"));
    }

    #[test]
    fn what_was_written_before_the_start_is_not_quoted_after_a_file_was_set_aside() {
        let (_dir, output) = output();
        write(&output, &vec![b'\n'; usize::try_from(MAX_OUTPUT).unwrap() - 12]);
        write(&output, b"old line\n");
        let from = output.mark();
        write(&output, b"\n\n\nnew\n");
        assert_eq!(output.last_words(from), "new");
    }
}

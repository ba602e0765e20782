//! Append-only records of what people ask about, as text and as JSON side by side.
//!
//! `NAME.log` has a line for people, `NAME.jsonl` the same event for programs. Each line is one
//! write and one flush; a line torn by a cut is dropped at the next opening, an append that fails
//! leaves no part of a line. Files are bounded: a full pair becomes `NAME.1.log`, `NAME.1.jsonl`,
//! the oldest pair goes. One process writes; any may read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::files::Files;
use crate::limits;
use crate::record::RecordError;

/// How much a log may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of one file; a file that would grow past it is set aside.
    pub bytes: u64,
    /// Files set aside of each form, at most [`limits::LOG_KEPT_FILES`]; the oldest is removed.
    pub keep: u32,
}

impl Default for LogLimits {
    /// 1 MiB and four older: some ten thousand lines, ten MiB in all.
    fn default() -> Self {
        Self {
            bytes: 1024 * 1024,
            keep: 4,
        }
    }
}

/// A pair of line files.
#[derive(Debug)]
pub struct RecordLog {
    files: Files,
    dir: PathBuf,
    name: String,
    limits: LogLimits,
    open: Mutex<Pair>,
}

#[derive(Debug)]
struct Pair {
    json: Lines,
    text: Lines,
}

#[derive(Debug)]
struct Lines {
    file: File,
    path: PathBuf,
    length: u64,
}

const JSON: &str = "jsonl";
const TEXT: &str = "log";

impl RecordLog {
    /// Opens the log `name` in `dir`, creating both; drops a torn last line. Files have mode 0640.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(dir: impl Into<PathBuf>, name: &str, limits: LogLimits) -> Result<Self, Error> {
        Self::open_on(Files::real(), dir, name, limits)
    }

    /// [`Self::open`] on a disk of the caller's choice.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open_on(
        files: Files,
        dir: impl Into<PathBuf>,
        name: &str,
        limits: LogLimits,
    ) -> Result<Self, Error> {
        let dir = dir.into();
        let limits = LogLimits {
            keep: limits.keep.min(limits::LOG_KEPT_FILES),
            ..limits
        };
        files.create_dir(&dir, 0o750)?;
        let pair = open_pair(&files, &dir, name)?;
        Ok(Self {
            files,
            dir,
            name: name.to_owned(),
            limits,
            open: Mutex::new(pair),
        })
    }

    /// Adds one event: `record` as a JSON line, `text` as a line for people (control characters
    /// become spaces, overlong text is cut). Two flushes.
    ///
    /// # Errors
    /// A record that has no JSON form or is longer than [`limits::LOG_JSON_LINE_BYTES`]; those of
    /// the disk. Then neither file has the event.
    pub fn append(&self, record: &impl Serialize, text: &str) -> Result<(), RecordError> {
        let path = self.path(0, JSON);
        let mut json = serde_json::to_vec(record).map_err(|source| RecordError::Encode {
            path: path.clone(),
            source,
        })?;
        json.push(b'\n');
        if json.len() > limits::LOG_JSON_LINE_BYTES {
            return Err(Error::TooLarge {
                path,
                max: limits::LOG_JSON_LINE_BYTES as u64,
            }
            .into());
        }
        let text = text_line(text);
        let mut pair = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let full =
            |lines: &Lines, more: usize| lines.length > 0 && lines.length + more as u64 > self.limits.bytes;
        if full(&pair.json, json.len()) || full(&pair.text, text.len()) {
            self.rotate()?;
            *pair = open_pair(&self.files, &self.dir, &self.name)?;
        }
        let before = pair.json.length;
        pair.json.append(&self.files, &json)?;
        if let Err(e) = pair.text.append(&self.files, text.as_bytes()) {
            pair.json.cut(&self.files, before);
            return Err(e.into());
        }
        Ok(())
    }

    /// The last `last` events, oldest first. Lines that are not a `T` (older formats) are skipped.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read<T: DeserializeOwned>(&self, last: usize) -> Result<Vec<T>, Error> {
        Self::read_in(&self.dir, &self.name, last)
    }

    /// The last `last` lines for people, oldest first.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read_text(&self, last: usize) -> Result<Vec<String>, Error> {
        tail(&self.dir, &self.name, TEXT, last, |line| Some(line.to_owned()))
    }

    /// [`Self::read`] without opening the log for writing: for another process.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read_in<T: DeserializeOwned>(dir: &Path, name: &str, last: usize) -> Result<Vec<T>, Error> {
        tail(dir, name, JSON, last, |line| serde_json::from_str(line).ok())
    }

    fn path(&self, age: u32, form: &str) -> PathBuf {
        file_path(&self.dir, &self.name, age, form)
    }

    /// Sets the current pair aside; the oldest falls off when all places are taken. A rotation
    /// cut in the middle leaves a free place, which the next one uses.
    fn rotate(&self) -> Result<(), Error> {
        for form in [TEXT, JSON] {
            let free = (0..=self.limits.keep).find(|age| !self.path(*age, form).exists());
            let last = free.unwrap_or(self.limits.keep);
            for age in (0..last).rev() {
                let from = self.path(age, form);
                let to = self.path(age + 1, form);
                self.files
                    .disk()
                    .rename(&from, &to)
                    .map_err(|e| Error::io("set aside", &from, e))?;
            }
            if self.limits.keep == 0 {
                self.files.unlink(&self.path(0, form))?;
            }
        }
        self.files.sync_parent(&self.path(0, JSON))
    }
}

fn open_pair(files: &Files, dir: &Path, name: &str) -> Result<Pair, Error> {
    let json = Lines::open(files, file_path(dir, name, 0, JSON))?;
    let text = Lines::open(files, file_path(dir, name, 0, TEXT))?;
    files.sync_parent(&json.path)?;
    Ok(Pair { json, text })
}

fn file_path(dir: &Path, name: &str, age: u32, form: &str) -> PathBuf {
    dir.join(if age == 0 {
        format!("{name}.{form}")
    } else {
        format!("{name}.{age}.{form}")
    })
}

/// One line without a way to forge a second.
fn text_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() >= limits::LOG_TEXT_LINE_BYTES {
            break;
        }
        line.push(c);
    }
    line.push('\n');
    line
}

impl Lines {
    fn open(files: &Files, path: PathBuf) -> Result<Self, Error> {
        let failed = |action| move |e| (action, e);
        let opened = (|| {
            let mut file = files.disk().open_append(&path, 0o640).map_err(failed("open"))?;
            let found = file.metadata().map_err(failed("look at"))?.len();
            let length = whole_lines(&mut file, found).map_err(failed("read"))?;
            if length < found {
                files.disk().truncate(&file, length).map_err(failed("mend"))?;
            }
            Ok((file, length))
        })();
        match opened {
            Ok((file, length)) => Ok(Self { file, path, length }),
            Err((action, e)) => Err(Error::io(action, &path, e)),
        }
    }

    fn append(&mut self, files: &Files, line: &[u8]) -> Result<(), Error> {
        let before = self.length;
        let done = files.write_all(&self.file, &self.path, line).and_then(|()| {
            files
                .disk()
                .sync_file(&self.file)
                .map_err(|e| Error::io("flush", &self.path, e))
        });
        match done {
            Ok(()) => self.length += line.len() as u64,
            Err(_) => self.cut(files, before),
        }
        done
    }

    /// Takes back what was added since the file had `length` bytes. If even that fails, the next
    /// opening drops the torn line.
    fn cut(&mut self, files: &Files, length: u64) {
        if let Err(error) = files.disk().truncate(&self.file, length) {
            tracing::warn!(path = %self.path.display(), %error, "cannot take back part of a line");
        }
        self.length = length;
    }
}

/// The length of `file` up to its last line feed.
fn whole_lines(file: &mut File, length: u64) -> std::io::Result<u64> {
    let window = length.min(limits::LOG_JSON_LINE_BYTES as u64);
    file.seek(SeekFrom::Start(length - window))?;
    let mut end = Vec::new();
    file.take(window).read_to_end(&mut end)?;
    let torn = end.iter().rev().take_while(|byte| **byte != b'\n').count();
    Ok(length - torn as u64)
}

fn tail<T>(
    dir: &Path,
    name: &str,
    form: &str,
    last: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let last = last.min(limits::LOG_READ_LINES);
    let mut found = Vec::new();
    'files: for age in 0..=limits::LOG_KEPT_FILES {
        let path = file_path(dir, name, age, form);
        let bytes = match Files::real().read_limited(&path, limits::RECORD_BYTES) {
            Ok(bytes) => bytes,
            // No older file, or the gap left by a rotation that was cut.
            Err(e) if e.is_missing() => continue,
            Err(e) => return Err(e),
        };
        let text = String::from_utf8_lossy(&bytes);
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in complete.lines().rev() {
            if found.len() == last {
                break 'files;
            }
            found.extend(parse(line));
        }
    }
    found.reverse();
    Ok(found)
}

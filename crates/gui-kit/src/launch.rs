//! Starts the headless service where none runs.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use control::Client;

use crate::limits::START_PATIENCE;

/// How a service is started: a process of its own, in a process group of its own, so that closing the window, or
/// Ctrl-C in the terminal that it came from, does not end it.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where its log goes; appended to.
    pub log: PathBuf,
}

/// What became of a start.
#[derive(Debug)]
pub(crate) enum Launched {
    /// It listens.
    Listening,
    /// It does not; why, for a person.
    Failed(String),
}

impl Launch {
    /// Starts this very program with other arguments.
    ///
    /// # Errors
    /// The operating system does not know where this program's file is.
    pub fn own(arguments: impl IntoIterator<Item = OsString>, log: &Path) -> std::io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            arguments: arguments.into_iter().collect(),
            log: log.to_owned(),
        })
    }

    /// Starts it and waits until somebody listens at `socket`.
    pub(crate) async fn run(&self, socket: &Path) -> Launched {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => {
                return Launched::Failed(format!("{} cannot be started: {error}", self.program.display()));
            }
        };
        let deadline = tokio::time::Instant::now() + START_PATIENCE;
        loop {
            if Client::connect(socket, "").await.is_ok() {
                // Whoever outlives whom: the service goes on; a thread takes its end so that no zombie stays.
                let reaper = std::thread::Builder::new().name("reaper".into());
                let _ = reaper.spawn(move || child.wait());
                return Launched::Listening;
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Launched::Failed(format!("it ended at once ({status}): {}", self.last_words()));
            }
            if tokio::time::Instant::now() >= deadline {
                return Launched::Failed(format!(
                    "it was started but does not listen; its log is {}",
                    self.log.display()
                ));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn spawn(&self) -> std::io::Result<std::process::Child> {
        let log = File::options().append(true).create(true).open(&self.log)?;
        Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
    }

    /// The last line of the log that says something.
    fn last_words(&self) -> String {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
            let mut bytes = Vec::new();
            file.take(4096).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        line.unwrap_or("it left no word").to_owned()
    }
}

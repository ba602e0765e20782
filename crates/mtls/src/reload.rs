//! Certificates that are replaced take effect without a restart.
//!
//! The folders of the files are watched (files are replaced by renaming, so a watch on the file itself would
//! lose it), and every minute the files are compared anyway. New files that cannot be used leave the old
//! configuration in place and say so once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};
use tuf::Digest;

use crate::credentials::{Error, FILE_LIMIT};
use protocol::chain;

/// How long the files must be left alone before they are read: a certificate and its key are two files.
pub const SETTLE: Duration = Duration::from_millis(200);
/// How often the files are compared even if nothing was reported (network file systems report nothing).
pub const COMPARE: Duration = Duration::from_secs(60);

/// Builds a value (a `ServerConfig`, a `ClientConfig`, a client made from one) from `files` now, and again
/// whenever one of them changes.
///
/// The first build must succeed. The watching ends when every receiver is dropped. Needs a tokio runtime.
pub fn watch<T, B>(files: Vec<PathBuf>, build: B) -> Result<watch::Receiver<Arc<T>>, Error>
where
    T: Send + Sync + 'static,
    B: Fn() -> Result<T, Error> + Send + 'static,
{
    watch_every(COMPARE, files, build)
}

fn watch_every<T, B>(
    compare: Duration,
    files: Vec<PathBuf>,
    build: B,
) -> Result<watch::Receiver<Arc<T>>, Error>
where
    T: Send + Sync + 'static,
    B: Fn() -> Result<T, Error> + Send + 'static,
{
    // Watch first, then read: a change in between is seen twice rather than never.
    let (events, changed) = mpsc::channel(1);
    // Where the system watches no more folders (inotify's limits), a change is seen within a minute.
    let watcher = match watcher(&files, events) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            let reason = chain(&error);
            warn!(
                reason,
                "the certificates' folder is not watched; its files are compared every minute"
            );
            None
        }
    };
    let seen = contents(&files);
    let (sender, receiver) = watch::channel(Arc::new(build()?));
    tokio::spawn(follow(Follower {
        compare,
        files,
        build,
        seen,
        sender,
        changed,
        _watcher: watcher,
    }));
    Ok(receiver)
}

struct Follower<T, B> {
    compare: Duration,
    files: Vec<PathBuf>,
    build: B,
    seen: Vec<Option<Digest>>,
    sender: watch::Sender<Arc<T>>,
    changed: mpsc::Receiver<()>,
    _watcher: Option<RecommendedWatcher>,
}

async fn follow<T, B>(mut state: Follower<T, B>)
where
    T: Send + Sync + 'static,
    B: Fn() -> Result<T, Error> + Send + 'static,
{
    let mut ticks = interval(state.compare);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = state.sender.closed() => return,
            _ = ticks.tick() => {}
            Some(()) = state.changed.recv() => {
                sleep(SETTLE).await;
                while state.changed.try_recv().is_ok() {}
            }
        }
        state.reload();
    }
}

impl<T, B: Fn() -> Result<T, Error>> Follower<T, B> {
    fn reload(&mut self) {
        let now = contents(&self.files);
        if now == self.seen {
            return;
        }
        self.seen = now;
        let names = self
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect::<Vec<_>>()
            .join(", ");
        match (self.build)() {
            Ok(new) => {
                info!(files = names, "replaced certificates have been read");
                self.sender.send_replace(Arc::new(new));
            }
            Err(error) => {
                let reason = chain(&error);
                warn!(
                    files = names,
                    reason, "replaced certificates cannot be used; the old ones stay"
                );
            }
        }
    }
}

fn watcher(files: &[PathBuf], events: mpsc::Sender<()>) -> Result<RecommendedWatcher, Error> {
    let first = files.first().cloned().unwrap_or_default();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is no change. An error (a full queue) may hide one.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = events.try_send(());
        }
    })
    .map_err(|source| Error::Watch { path: first, source })?;
    let folders: BTreeSet<PathBuf> = files.iter().map(|file| folder(file)).collect();
    for path in folders {
        watcher
            .watch(&path, RecursiveMode::NonRecursive)
            .map_err(|source| Error::Watch {
                path: path.clone(),
                source,
            })?;
    }
    Ok(watcher)
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn contents(files: &[PathBuf]) -> Vec<Option<Digest>> {
    files
        .iter()
        .map(|file| {
            durable::read_limited(file, FILE_LIMIT)
                .ok()
                .map(|bytes| Digest::of(&bytes))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As where the system watches no more folders; here there is none yet.
    #[tokio::test]
    async fn files_in_a_folder_that_is_not_watched_are_compared_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("late/tls.pem");
        let read = file.clone();
        let build = move || Ok(std::fs::read(&read).unwrap_or_default());
        let mut receiver = watch_every(Duration::from_millis(10), vec![file.clone()], build).unwrap();
        assert!(receiver.borrow_and_update().is_empty());
        std::fs::create_dir(dir.path().join("late")).unwrap();
        std::fs::write(dir.path().join("new"), "new").unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        tokio::time::timeout(COMPARE, receiver.changed())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(**receiver.borrow(), *b"new");
    }
}

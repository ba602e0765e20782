//! Update modules: where they are found, what they are given, how they are called.
//!
//! Source: Mender's Update Module protocol, version 3 (`Documentation/update-modules-v3-file-api.md`). A module is an
//! executable of the device; it is called as `MODULE STATE TREE` in the tree of files that is made for one change, and
//! every state but a query may write what it likes.

use std::fs::{self, File};
use std::future::Future;
use std::io::{self, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use durable::Files;
use release::ModuleName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::launch::{MARK, passed_on};
use super::output::{Copier, Mark, Output, with_words};
use super::process::{Exit, Process};
use super::tree::{NEXT, make_pipes, remove_pipes, store_files};
use crate::limits::{MODULE_ANSWER, MODULE_STOP, OUTPUT_WAIT, PIPE_PAUSE, PIPE_PIECE};
use crate::settings::Modules;
use crate::stage::StagedFile;

/// Where programs are sought if the agent's own environment does not say it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a module cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModuleFault {
    /// It is not there.
    #[error("the update module {name} is not on this device: there is no {}", path.display())]
    Missing {
        /// Which.
        name: ModuleName,
        /// Where it was sought.
        path: PathBuf,
    },
    /// Somebody else could change it.
    #[error("the update module {name} is not called: {} {why}", path.display())]
    Unsafe {
        /// Which.
        name: ModuleName,
        /// It, or a folder that it lies in.
        path: PathBuf,
        /// What is wrong with that.
        why: &'static str,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] durable::Error),
    /// The disk refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Modules {
    /// The executable of a module: a plain file that only root or the agent's own user can change or replace.
    ///
    /// # Errors
    /// It is not there, or somebody else could change it.
    pub fn find(&self, name: &ModuleName) -> Result<PathBuf, ModuleFault> {
        let refuse = |path: &Path, why| {
            Err(ModuleFault::Unsafe {
                name: name.clone(),
                path: path.to_owned(),
                why,
            })
        };
        let missing = |_| ModuleFault::Missing {
            name: name.clone(),
            path: self.folder.join(name.as_str()),
        };
        let folder = fs::canonicalize(&self.folder).map_err(missing)?;
        let path = folder.join(name.as_str());
        let found = fs::symlink_metadata(&path).map_err(missing)?;
        if !found.is_file() {
            return refuse(&path, "is no plain file");
        }
        if found.mode() & 0o111 == 0 {
            return refuse(&path, "is not executable");
        }
        for place in path.ancestors() {
            let found = fs::symlink_metadata(place).map_err(missing)?;
            if !is_owner(found.uid()) {
                return refuse(place, "belongs neither to root nor to the agent's user");
            }
            // In a sticky folder, such as /tmp, others can add and not replace; what is in it is looked at by itself.
            let sticky = found.is_dir() && found.mode() & 0o1000 != 0 && place != folder;
            if found.mode() & 0o022 != 0 && !sticky {
                return refuse(place, "can be written by others");
            }
        }
        Ok(path)
    }
}

fn is_owner(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// One module at work on one tree.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its name.
    pub name: ModuleName,
    /// Its executable.
    pub program: PathBuf,
    /// Its tree.
    pub tree: PathBuf,
    /// Where it writes.
    pub output: PathBuf,
    /// The program that copies what it writes.
    pub copier: PathBuf,
    /// Time for each state.
    pub limit: Duration,
}

/// A state that is being carried out.
struct Running {
    process: Process,
    copier: Copier,
    output: Output,
    from: Mark,
}

/// How much of its streams a module has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Nothing,
    Some,
    All,
}

impl Work {
    /// Carries out a state.
    ///
    /// # Errors
    /// It could not be called, failed or took too long; with its last words.
    pub async fn call(&self, state: &str) -> Result<(), String> {
        let running = self.start(state, None).await?;
        self.end(state, running).await
    }

    /// Asks a question; the answer is one line, empty if the module has none.
    ///
    /// # Errors
    /// As for [`Self::call`]; an answer of several lines.
    pub async fn ask(&self, query: &str) -> Result<String, String> {
        let cannot = |error: io::Error| format!("{query} of the update module {}: {error}", self.name);
        let (reader, writer) = io::pipe().map_err(cannot)?;
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(cannot)?;
        let running = self.start(query, Some(writer)).await?;
        // Of a longer answer the rest is not waited for: the pipe is closed.
        let reading = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut said = Vec::new();
            reader.take(MODULE_ANSWER).read_to_end(&mut said).await?;
            Ok::<_, io::Error>(said)
        }));
        self.end(query, running).await?;
        let said = match timeout(OUTPUT_WAIT, reading).await {
            Ok(Ok(read)) => read.map_err(cannot)?,
            Ok(Err(error)) => return Err(cannot(error.into())),
            Err(_) => return Err(cannot(io::ErrorKind::TimedOut.into())),
        };
        let said = String::from_utf8_lossy(&said);
        let mut lines = said.lines();
        let first = lines.next().unwrap_or_default().trim().to_owned();
        if lines.next().is_some() {
            return Err(format!(
                "the update module {} answers {query} with more than one line",
                self.name
            ));
        }
        Ok(first)
    }

    /// The state `Download`: the module reads the files as streams, or finds them in its tree afterwards.
    ///
    /// # Errors
    /// As for [`Self::call`]; a module that reads some and not all; those of the disk.
    pub async fn download(&self, files: &Files, payload: &Path, staged: &[StagedFile]) -> Result<(), String> {
        let given: Vec<(String, u64)> = staged
            .iter()
            .filter_map(|file| Some((file.path.strip_prefix("payload/")?.to_owned(), file.size)))
            .collect();
        let names: Vec<String> = given.iter().map(|(name, _)| name.clone()).collect();
        let sizes = yes(
            &self.ask("ProvidePayloadFileSizes").await?,
            "ProvidePayloadFileSizes",
        )?;
        let state = if sizes {
            "DownloadWithFileSizes"
        } else {
            "Download"
        };
        let pipes = names.clone();
        self.on_disk(files, move |files, tree| make_pipes(files, tree, &pipes))
            .await?;
        let progress = self.stream(state, payload, &given, sizes).await?;
        let payload = payload.to_owned();
        self.on_disk(files, move |files, tree| {
            remove_pipes(files, tree)?;
            match progress {
                Progress::All => Ok(()),
                Progress::Nothing | Progress::Some => store_files(files, tree, &payload, &names),
            }
        })
        .await
    }

    async fn stream(
        &self,
        state: &str,
        payload: &Path,
        given: &[(String, u64)],
        sizes: bool,
    ) -> Result<Progress, String> {
        let mut progress = Progress::Nothing;
        let running = self.start(state, None).await?;
        let fed = {
            let feeding = feed(&self.tree, payload, given, sizes, &mut progress);
            let end = self.end(state, running);
            tokio::pin!(feeding, end);
            tokio::select! {
                ended = &mut end => ended.map(|()| Ok(())),
                fed = &mut feeding => end.await.map(|()| fed),
            }
        }?;
        match (fed, progress) {
            (Err(error), _) => Err(format!(
                "{state} of the update module {} stopped reading a stream: {error}",
                self.name
            )),
            (Ok(()), Progress::Some) => Err(format!(
                "{state} of the update module {} ended before it had read all streams",
                self.name
            )),
            (Ok(()), progress) => Ok(progress),
        }
    }

    async fn on_disk(
        &self,
        files: &Files,
        work: impl FnOnce(&Files, &Path) -> Result<(), ModuleFault> + Send + 'static,
    ) -> Result<(), String> {
        let (files, tree) = (files.clone(), self.tree.clone());
        match spawn_blocking(move || work(&files, &tree)).await {
            Ok(done) => done.map_err(|fault| crate::trust::chain(&fault)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn start(&self, state: &str, answer: Option<PipeWriter>) -> Result<Running, String> {
        let cannot = |error: io::Error| {
            format!(
                "{state} of the update module {} cannot be called: {error}",
                self.name
            )
        };
        let output = Output::new(self.output.clone());
        let from = output.mark();
        let (copier, words) = output.copier(&self.copier).await.map_err(cannot)?;
        let mut command = Command::new(&self.program);
        command.arg(state).arg(&self.tree).current_dir(&self.tree);
        command.env_clear().env("PATH", PATH).envs(passed_on());
        // Finds it again should the agent end meanwhile.
        command.env("HOME", &self.tree).env(MARK, &self.tree);
        let said = match answer {
            Some(answer) => answer,
            None => words.try_clone().map_err(cannot)?,
        };
        command.stdin(Stdio::null()).stdout(said).stderr(words);
        let process = Process::spawn(command).await.map_err(cannot)?;
        Ok(Running {
            process,
            copier,
            output,
            from,
        })
    }

    /// Waits for the end of a state.
    async fn end(&self, state: &str, running: Running) -> Result<(), String> {
        let Running {
            process,
            copier,
            output,
            from,
        } = running;
        let how = match timeout(self.limit, process.ended()).await {
            Ok(Exit::Code(0)) => return Ok(()),
            Ok(exit) => exit.to_string(),
            Err(_) => {
                process.stop(MODULE_STOP).await;
                format!("it did not end within {} s", self.limit.as_secs())
            }
        };
        copier.done().await;
        let reason = format!("{state} of the update module {}: {how}", self.name);
        Err(with_words(&reason, &output.last_words(from)))
    }
}

/// What a module answers to a question of yes or no; nothing is no.
///
/// # Errors
/// Another answer.
pub fn yes(answer: &str, query: &str) -> Result<bool, String> {
    match answer {
        "Yes" => Ok(true),
        "No" | "" => Ok(false),
        other => Err(format!("{query} is answered with {other:?}, neither Yes nor No")),
    }
}

/// Names one stream after the other in `stream-next` and writes each into its pipe when the module opens it.
async fn feed(
    tree: &Path,
    payload: &Path,
    given: &[(String, u64)],
    sizes: bool,
    progress: &mut Progress,
) -> io::Result<()> {
    let next = tree.join(NEXT);
    for (at, (name, size)) in given.iter().enumerate() {
        let mut pipe = opened(&next).await?;
        *progress = Progress::Some;
        let line = if sizes {
            format!("streams/{name} {size}\n")
        } else {
            format!("streams/{name}\n")
        };
        pipe.write_all(line.as_bytes()).await?;
        drop(pipe);
        let mut pipe = opened(&tree.join("streams").join(name)).await?;
        pour(payload.join(name), &mut pipe).await?;
        if at + 1 == given.len() {
            // Before its end is seen at the other side: the module may end with it.
            *progress = Progress::All;
        }
        drop(pipe);
    }
    opened(&next).await.map(drop)
}

/// Waits until the module opens a pipe: a writer cannot be told of it (open(2), `ENXIO`).
fn opened(path: &Path) -> impl Future<Output = io::Result<pipe::Sender>> {
    let path = path.to_owned();
    async move {
        loop {
            match pipe::OpenOptions::new().open_sender(&path) {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                    sleep(PIPE_PAUSE).await;
                }
                other => return other,
            }
        }
    }
}

async fn pour(path: PathBuf, pipe: &mut pipe::Sender) -> io::Result<()> {
    let mut file = spawn_blocking(move || File::open(path)).await??;
    let mut buffer = vec![0; PIPE_PIECE];
    loop {
        let (count, read_file, read_buffer) = spawn_blocking(move || {
            let count = file.read(&mut buffer)?;
            Ok::<_, io::Error>((count, file, buffer))
        })
        .await??;
        (file, buffer) = (read_file, read_buffer);
        match buffer.get(..count) {
            Some(bytes) if !bytes.is_empty() => pipe.write_all(bytes).await?,
            _ => return Ok(()),
        }
    }
}

//! The local control socket of a long-running program: its windows and command lines are clients of it.
//!
//! A Unix socket in a folder of mode 0700; whoever connects must be the program's own user or root, by the
//! kernel's word (`SO_PEERCRED`). One JSON value per line: a request, then one answer, or a stream of answers
//! until one side closes. Answers are `protocol::control::Answer`s: `{"Ok": …}` or `{"Err": Problem}`.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod client;

use std::fs::{File, OpenOptions, TryLockError};
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protocol::control::Answer;
use protocol::device::Problem;
use protocol::limits::MAX_CONTROL_LINE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tracing::debug;

pub use client::Client;

/// Clients at a time: a window or two, a few command lines, a monitor.
pub const MAX_CLIENTS: usize = 32;
/// How long a client may take to send its request once it has connected.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take none of an answer before it is cut off.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Why a control socket cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("{} does not run: there is nobody at {}", .program, .path.display())]
    NotRunning {
        /// The program.
        program: String,
        /// The socket.
        path: PathBuf,
    },
    /// Somebody listens already.
    #[error("another process listens at {}: stop it first", .0.display())]
    Running(PathBuf),
    /// The folder is open to others.
    #[error("{} is open to other users (mode {mode:04o}): run chmod 700 {}", .dir.display(), .dir.display())]
    Open {
        /// The folder.
        dir: PathBuf,
        /// Its bits.
        mode: u32,
    },
    /// The operating system refused.
    #[error("cannot use the control socket {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The other side closed without an answer.
    #[error("the program ended before it answered")]
    Closed,
    /// A line longer than [`MAX_CONTROL_LINE`].
    #[error("a line of more than {MAX_CONTROL_LINE} bytes")]
    TooLong,
    /// Not the JSON that was expected.
    #[error("the program speaks another version: its answer cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// The program refuses.
    #[error("{}", .0.message)]
    Refused(Problem),
}

/// What a program answers to a request.
#[derive(Debug)]
pub enum Reply {
    /// One value.
    One(Answer<serde_json::Value>),
    /// Values until the receiver ends or the client goes away.
    Stream(mpsc::Receiver<serde_json::Value>),
}

impl Reply {
    /// One value, or the problem.
    pub fn of<T: Serialize>(result: Result<T, Problem>) -> Self {
        Self::One(result.and_then(|value| {
            serde_json::to_value(value).map_err(|error| Problem {
                code: "internal".into(),
                message: format!("the answer has no JSON form: {error}"),
            })
        }))
    }
}

/// How many clients are connected to a server; lives on its own.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<AtomicUsize>);

impl Clients {
    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn come(&self) -> Here {
        self.0.fetch_add(1, Ordering::Relaxed);
        Here(Arc::clone(&self.0))
    }
}

/// One client, as long as it is connected.
struct Here(Arc<AtomicUsize>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that is open; [`Server::run`] serves it. Removed from disk when dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    clients: Clients,
    /// `PATH.lock`, locked as long as this server lives: of two that start at once only one goes on, and
    /// neither removes the other's socket.
    _lock: File,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Opens the socket; its folder is made with mode 0700 where it is missing. A socket that a killed program
    /// left behind is replaced; one that somebody listens on is not.
    ///
    /// # Errors
    /// Somebody listens; the folder is open to others; those of the operating system.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io)?;
        let mode = std::fs::metadata(dir).map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::Open {
                dir: dir.to_owned(),
                mode,
            });
        }
        let lock = lock(path)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                let tried = UnixStream::connect(path).await;
                if !matches!(&tried, Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused) {
                    return Err(Error::Running(path.to_owned()));
                }
                std::fs::remove_file(path).map_err(io)?;
            }
            Ok(_) => return Err(io(std::io::Error::other("something else than a socket is there"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io(e)),
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            clients: Clients::default(),
            _lock: lock,
        })
    }

    /// How many clients are connected, for a program that ends when nobody needs it.
    #[must_use]
    pub fn clients(&self) -> Clients {
        self.clients.clone()
    }

    /// Serves for ever; drop the future to stop.
    pub async fn run<R, H, F>(&self, handler: H)
    where
        R: DeserializeOwned + Send + 'static,
        H: Fn(R) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let places = Arc::new(Semaphore::new(MAX_CLIENTS));
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "a control client could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (handler, here) = (handler.clone(), self.clients.come());
            tasks.spawn(async move {
                if let Err(error) = serve_one(stream, handler.as_ref()).await {
                    debug!(%error, "a control client was cut off");
                }
                drop((place, here));
            });
        }
    }
}

/// The lock that the running program holds.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let io = |source| Error::Io {
        path: PathBuf::from(&name),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Running(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

async fn serve_one<R, H, F>(stream: UnixStream, handler: &H) -> Result<(), Error>
where
    R: DeserializeOwned,
    H: Fn(R) -> F,
    F: Future<Output = Reply>,
{
    let io = |source| Error::Io {
        path: PathBuf::new(),
        source,
    };
    let peer = stream.peer_cred().map_err(io)?;
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() != own && peer.uid() != 0 {
        return Err(Error::Refused(Problem {
            code: "not-yours".into(),
            message: format!("user {} may not control a program of user {own}", peer.uid()),
        }));
    }
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let line = match tokio::time::timeout(REQUEST_PATIENCE, read_line(&mut lines)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        };
        let reply = match serde_json::from_slice::<R>(&line) {
            Ok(request) => handler(request).await,
            // The request may carry a secret: the answer names the fault, not the text.
            Err(error) => Reply::One(Err(Problem {
                code: "malformed".into(),
                message: format!("the request cannot be read (column {})", error.column()),
            })),
        };
        match reply {
            Reply::One(answer) => send(&mut write, &answer).await?,
            Reply::Stream(mut values) => {
                let mut gone = [0u8; 1];
                loop {
                    tokio::select! {
                        value = values.recv() => match value {
                            Some(value) => send(&mut write, &Answer::Ok(value)).await?,
                            None => return Ok(()),
                        },
                        // Nothing more is expected from the client; the end of its stream ends ours.
                        _ = tokio::io::AsyncReadExt::read(&mut lines, &mut gone) => return Ok(()),
                    }
                }
            }
        }
    }
}

async fn send(
    write: &mut (impl tokio::io::AsyncWrite + Unpin),
    answer: &Answer<serde_json::Value>,
) -> Result<(), Error> {
    let mut line = serde_json::to_vec(answer).map_err(Error::Malformed)?;
    line.push(b'\n');
    match tokio::time::timeout(ANSWER_PATIENCE, write.write_all(&line)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Error::Closed),
    }
}

/// One line without its end, at most [`MAX_CONTROL_LINE`] bytes; none at the end of the stream.
async fn read_line(lines: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Vec<u8>>, Error> {
    let mut line = Vec::new();
    loop {
        let chunk = lines.fill_buf().await.map_err(|source| Error::Io {
            path: PathBuf::new(),
            source,
        })?;
        if chunk.is_empty() {
            return if line.is_empty() {
                Ok(None)
            } else {
                Err(Error::Closed)
            };
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        if line.len() + part.len() > MAX_CONTROL_LINE {
            return Err(Error::TooLong);
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        lines.consume(used);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn echo(request: u32) -> Reply {
        match request {
            0 => Reply::of::<()>(Err(Problem {
                code: "zero".into(),
                message: "not zero".into(),
            })),
            1..10 => Reply::of(Ok(request * 2)),
            _ => {
                let (sender, receiver) = mpsc::channel(4);
                for number in 0..3 {
                    sender.send(number.into()).await.unwrap();
                }
                Reply::Stream(receiver)
            }
        }
    }

    async fn running() -> (tempfile::TempDir, PathBuf, tokio::task::JoinHandle<()>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control/socket");
        let server = Server::open(&path).await.unwrap();
        let task = tokio::spawn(async move { server.run(echo).await });
        (dir, path, task)
    }

    #[tokio::test]
    async fn answers_refusals_and_streams_arrive() {
        let (_dir, path, _task) = running().await;
        let mut client = Client::connect(&path, "echo").await.unwrap();
        assert_eq!(client.call::<u32>(&4).await.unwrap(), 8);
        assert!(
            matches!(client.call::<u32>(&0).await, Err(Error::Refused(problem)) if problem.code == "zero")
        );
        client.send(&10).await.unwrap();
        for number in 0..3 {
            assert_eq!(client.next::<u32>().await.unwrap(), Some(number));
        }
        assert_eq!(client.next::<u32>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn nonsense_and_endless_lines_do_not_stop_the_server() {
        let (_dir, path, _task) = running().await;
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let line = vec![b'x'; 1 << 16];
        let mut sent = 0;
        while sent <= MAX_CONTROL_LINE && stream.write_all(&line).await.is_ok() {
            sent += line.len();
        }
        let mut client = Client::connect(&path, "echo").await.unwrap();
        assert!(
            matches!(client.call::<u32>(&"four").await, Err(Error::Refused(problem)) if problem.code == "malformed")
        );
        assert_eq!(client.call::<u32>(&4).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn a_socket_in_use_is_not_taken_and_a_dead_one_is_replaced() {
        let (_dir, path, task) = running().await;
        assert!(matches!(Server::open(&path).await, Err(Error::Running(_))));
        task.abort();
        let _ = task.await;
        // As a killed program leaves it: the file is there, nobody listens.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(
            Client::connect(&path, "echo").await,
            Err(Error::NotRunning { .. })
        ));
        Server::open(&path).await.unwrap();
    }

    #[tokio::test]
    async fn of_two_that_start_at_once_one_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control/socket");
        // As a killed program leaves it.
        drop(Server::open(&path).await.unwrap());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (one, two) = tokio::join!(Server::open(&path), Server::open(&path));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        assert!(
            UnixStream::connect(&path).await.is_ok(),
            "the one that goes on has its socket"
        );
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control/socket");
        drop(Server::open(&path).await.unwrap());
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(Server::open(&path).await, Err(Error::Io { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn a_folder_that_others_can_enter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("control");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = Server::open(&folder.join("socket")).await.unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    /// Lines of a client that means harm or is of another version, the last one perhaps without its end.
    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            "[0-9]{1,3}".prop_map(String::into_bytes),
            "\\PC{0,40}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..60),
        ];
        let end = prop_oneof![9 => Just(&b"\n"[..]), 1 => Just(&b""[..])];
        prop::collection::vec((line, end), 0..8).prop_map(|lines| {
            lines
                .iter()
                .flat_map(|(line, end)| [line, *end].concat())
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn whatever_a_client_sends_only_answers_come_back(sent in lines()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (_dir, path, _task) = running().await;
                let (mut read, mut write) = UnixStream::connect(&path).await.unwrap().into_split();
                // A stream of answers ends the connection, whatever else was asked.
                let _ = write.write_all(&sent).await;
                let _ = write.shutdown().await;
                let mut back = Vec::new();
                let _ = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut back).await;
                for line in back.split_inclusive(|byte| *byte == b'\n') {
                    assert!(serde_json::from_slice::<Answer<serde_json::Value>>(line).is_ok(), "{line:?}");
                }
                let mut client = Client::connect(&path, "echo").await.unwrap();
                assert_eq!(client.call::<u32>(&4).await.unwrap(), 8);
            });
        }

        #[test]
        fn whatever_a_program_sends_its_client_reads_to_the_end(sent in lines()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("socket");
                let listener = UnixListener::bind(&path).unwrap();
                let mut client = Client::connect(&path, "played").await.unwrap();
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(&sent).await.unwrap();
                drop(stream);
                let mut answers = 0;
                while let Ok(Some(_)) = client.next::<u32>().await {
                    answers += 1;
                }
                // None of these lines is an answer.
                assert_eq!(answers, 0);
            });
        }
    }
}

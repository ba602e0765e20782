//! The bridge between a window and its service: snapshots and events in, commands out.
//!
//! A thread of its own speaks to the control socket; the window only takes what lies ready and never waits. The
//! window is woken when something that it shows has changed, and only then.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};

use crate::launch::{Launch, Launched};
use crate::limits::{
    ANSWER_PATIENCE, COMMANDS, PENDING_EVENTS, READ_PATIENCE, REFRESH, RETRY_BASE, RETRY_CAP, SETTLE,
};
pub use protocol::chain;

/// A future that a [`Service`] gives; boxed, since it is called once a second.
pub type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, control::Error>> + Send + 'a>>;

/// One kind of service, as its window sees it.
pub trait Service: Send + Sync + 'static {
    /// What the window draws; a new one wakes the window only if it differs.
    type Snapshot: PartialEq + Send + Sync + 'static;
    /// What the `Watch` request streams.
    type Event: DeserializeOwned + Send + 'static;
    /// What the service is asked.
    type Request: Serialize + Send + Sync + 'static;

    /// Its program's name.
    fn program(&self) -> &'static str;
    /// Reads everything that the window shows.
    fn read<'a>(&'a self, client: &'a mut Client) -> Reading<'a, Self::Snapshot>;
    /// The request whose answers are events.
    fn watch(&self) -> Self::Request;
}

/// How the window stands to its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// Nothing is known yet.
    Connecting,
    /// None ran: one was started.
    Starting,
    /// It answers.
    Connected,
    /// It does not answer; what is shown is from before.
    Lost {
        /// Why, for a person.
        reason: String,
    },
}

/// What the window draws.
pub struct View<S: Service> {
    /// How the window stands to its service.
    pub connection: Connection,
    /// The newest snapshot; none before the first.
    pub snapshot: Option<Arc<S::Snapshot>>,
    /// When the snapshot was last known to be true.
    pub read_at: Option<Instant>,
}

impl<S: Service> Clone for View<S> {
    fn clone(&self) -> Self {
        Self {
            connection: self.connection.clone(),
            snapshot: self.snapshot.clone(),
            read_at: self.read_at,
        }
    }
}

/// What became of a command.
#[derive(Debug)]
pub struct Answer {
    /// The number that [`Link::send`] gave.
    pub ticket: u64,
    /// The service's answer, or why there is none.
    pub result: Result<serde_json::Value, control::Error>,
}

impl Answer {
    /// The answer as a type of the protocol.
    ///
    /// # Errors
    /// The service refuses, is gone, or speaks another version.
    pub fn into<T: DeserializeOwned>(self) -> Result<T, control::Error> {
        self.result
            .and_then(|value| serde_json::from_value(value).map_err(control::Error::Malformed))
    }
}

/// Who is told that the window should draw again. Called from the link's thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

struct Shared<S: Service> {
    state: Mutex<State<S>>,
    wake: Wake,
    hurry: Notify,
}

struct State<S: Service> {
    view: View<S>,
    events: VecDeque<S::Event>,
    /// The watch stream began again: it repeats what it has kept.
    restarted: bool,
    answers: Vec<Answer>,
    closed: bool,
}

impl<S: Service> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State<S>) -> bool) {
        if change(&mut self.lock()) {
            (self.wake)();
        }
    }

    fn connection(&self, connection: Connection) {
        self.change(|state| {
            let changed = state.view.connection != connection;
            state.view.connection = connection;
            changed
        });
    }
}

/// The window's end. Dropping it ends its thread; the service goes on.
pub struct Link<S: Service> {
    shared: Arc<Shared<S>>,
    commands: mpsc::Sender<(u64, S::Request)>,
    next: u64,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<S: Service> fmt::Debug for Link<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// What happened since the last frame.
#[derive(Debug)]
pub struct News<E> {
    /// New events. After a new connection the service repeats those it has kept: then [`Self::restarted`] is
    /// set and what the window kept from before is to be dropped first.
    pub events: VecDeque<E>,
    /// The stream of events began anew.
    pub restarted: bool,
    /// Answers to commands.
    pub answers: Vec<Answer>,
}

impl<S: Service> Link<S> {
    /// Begins to look for the service at `socket`. Where nobody listens and `launch` is given, the service is started
    /// once, as a process of its own.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(service: S, socket: &Path, launch: Option<Launch>, wake: Wake) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                view: View {
                    connection: Connection::Connecting,
                    snapshot: None,
                    read_at: None,
                },
                events: VecDeque::new(),
                restarted: false,
                answers: Vec::new(),
                closed: false,
            }),
            wake,
            hurry: Notify::new(),
        });
        let (commands, queue) = mpsc::channel(COMMANDS);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (own, socket) = (Arc::clone(&shared), socket.to_owned());
        let thread = std::thread::Builder::new().name("link".into()).spawn(move || {
            runtime.block_on(run(Arc::new(service), own, socket, launch, queue));
        })?;
        Ok(Self {
            shared,
            commands,
            next: 1,
            thread: Some(thread),
        })
    }

    /// What to draw.
    #[must_use]
    pub fn view(&self) -> View<S> {
        self.shared.lock().view.clone()
    }

    /// Takes what happened since the last call.
    #[must_use]
    pub fn news(&self) -> News<S::Event> {
        let mut state = self.shared.lock();
        News {
            events: std::mem::take(&mut state.events),
            restarted: std::mem::take(&mut state.restarted),
            answers: std::mem::take(&mut state.answers),
        }
    }

    /// Sends a command; its [`Answer`] comes with [`Self::news`] under the ticket that is given back. None: too
    /// many wait already.
    pub fn send(&mut self, request: S::Request) -> Option<u64> {
        let ticket = self.next;
        self.commands.try_send((ticket, request)).ok()?;
        self.next += 1;
        Some(ticket)
    }

    /// Looks for a lost service at once.
    pub fn try_now(&self) {
        self.shared.hurry.notify_one();
    }
}

impl<S: Service> Drop for Link<S> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.hurry.notify_one();
        // The channel's end ends the thread; it holds nothing that must be waited for but its own memory.
        let (closed, _) = mpsc::channel(1);
        self.commands = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run<S: Service>(
    service: Arc<S>,
    shared: Arc<Shared<S>>,
    socket: PathBuf,
    mut launch: Option<Launch>,
    mut commands: mpsc::Receiver<(u64, S::Request)>,
) {
    let mut wait = RETRY_BASE;
    while !shared.lock().closed {
        let error = match connect(&socket, service.program()).await {
            Ok((client, watcher)) => {
                wait = RETRY_BASE;
                match attend(&service, &shared, &socket, client, watcher, &mut commands).await {
                    Some(error) => error,
                    None => return,
                }
            }
            Err(error) => error,
        };
        if let (control::Error::NotRunning { .. }, Some(start)) = (&error, launch.take()) {
            shared.connection(Connection::Starting);
            match start.run(&socket).await {
                Launched::Listening => continue,
                Launched::Failed(reason) => shared.connection(Connection::Lost { reason }),
            }
        } else {
            shared.connection(Connection::Lost {
                reason: chain(&error),
            });
        }
        // Commands that nobody can take are answered, not kept: a click must not act an hour later.
        while let Ok((ticket, _)) = commands.try_recv() {
            answer(&shared, ticket, Err(control::Error::Closed));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_CAP),
            () = shared.hurry.notified() => wait = RETRY_BASE,
            command = commands.recv() => match command {
                Some((ticket, _)) => answer(&shared, ticket, Err(control::Error::Closed)),
                None => return,
            },
        }
    }
}

async fn connect(socket: &Path, program: &str) -> Result<(Client, Client), control::Error> {
    Ok((
        Client::connect(socket, program).await?,
        Client::connect(socket, program).await?,
    ))
}

/// Serves one connection until it breaks (its error) or the window closes (none).
async fn attend<S: Service>(
    service: &Arc<S>,
    shared: &Arc<Shared<S>>,
    socket: &Path,
    mut client: Client,
    mut watcher: Client,
    commands: &mut mpsc::Receiver<(u64, S::Request)>,
) -> Option<control::Error> {
    if let Err(error) = watcher.send(&service.watch()).await {
        return Some(error);
    }
    shared.lock().restarted = true;
    shared.lock().events.clear();
    let mut tasks = tokio::task::JoinSet::new();
    let mut due = tokio::time::Instant::now();
    loop {
        tokio::select! {
            event = watcher.next::<S::Event>() => match event {
                Ok(Some(event)) => {
                    shared.change(|state| {
                        if state.events.len() == PENDING_EVENTS {
                            state.events.pop_front();
                        }
                        state.events.push_back(event);
                        state.events.len() == 1
                    });
                    due = due.min(tokio::time::Instant::now() + SETTLE);
                }
                Ok(None) => return Some(control::Error::Closed),
                // An event of a newer version is no reason to show nothing.
                Err(control::Error::Malformed(error)) => tracing::debug!(%error, "an event cannot be read"),
                Err(error) => return Some(error),
            },
            () = tokio::time::sleep_until(due) => {
                let reading = tokio::time::timeout(READ_PATIENCE, service.read(&mut client)).await;
                match reading {
                    Ok(Ok(snapshot)) => took(shared, snapshot),
                    Ok(Err(error)) => return Some(error),
                    Err(_) => return Some(control::Error::Closed),
                }
                due = tokio::time::Instant::now() + REFRESH;
            }
            Some(_) = tasks.join_next(), if !tasks.is_empty() => due = tokio::time::Instant::now(),
            command = commands.recv() => {
                let (ticket, request) = command?;
                let (shared, socket, program) = (Arc::clone(shared), socket.to_owned(), service.program());
                tasks.spawn(async move {
                    let asked = tokio::time::timeout(ANSWER_PATIENCE, ask(&socket, program, request)).await;
                    answer(&shared, ticket, asked.unwrap_or(Err(control::Error::Closed)));
                });
            }
            () = shared.hurry.notified() => {
                if shared.lock().closed {
                    return None;
                }
                due = tokio::time::Instant::now();
            }
        }
    }
}

fn took<S: Service>(shared: &Shared<S>, snapshot: S::Snapshot) {
    shared.change(|state| {
        let view = &mut state.view;
        view.read_at = Some(Instant::now());
        let same = view.snapshot.as_deref() == Some(&snapshot) && view.connection == Connection::Connected;
        if !same {
            view.snapshot = Some(Arc::new(snapshot));
            view.connection = Connection::Connected;
        }
        !same
    });
}

async fn ask<R: Serialize>(
    socket: &Path,
    program: &str,
    request: R,
) -> Result<serde_json::Value, control::Error> {
    let mut client = Client::connect(socket, program).await?;
    client.send(&request).await?;
    drop(request);
    client.next().await?.ok_or(control::Error::Closed)
}

fn answer<S: Service>(shared: &Shared<S>, ticket: u64, result: Result<serde_json::Value, control::Error>) {
    shared.change(|state| {
        state.answers.push(Answer { ticket, result });
        true
    });
}

/// How long ago, for "what is shown is from …".
#[must_use]
pub fn age(at: Option<Instant>) -> Option<Duration> {
    at.map(|at| at.elapsed())
}

#[cfg(test)]
mod tests;

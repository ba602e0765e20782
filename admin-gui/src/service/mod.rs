//! The desk as a service of its own process: windows and command lines are clients of its control socket.
//!
//! A window gets snapshots and sends commands (`protocol::control::AuthorRequest`); one that closes stops
//! nothing, and two see the same. The service asks the repository in its own time and answers from what it
//! knows. It ends by itself when nobody needs it.

mod answer;
mod check;
mod jobs;
mod journal;
mod key;
mod looking_back;
mod refresh;
mod snapshot;
mod state;
mod wizard;
mod words;
mod work;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use control::Server;
use tokio::time::Instant;

use crate::config::Folder;
use crate::desk::Senses;
use crate::limits::{ENDING, IDLE, REFRESH, REFRESH_AWAY, TICK};
use crate::service::state::Service;
use crate::upload::Patience;

/// What a service is given.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Another address of the repository than the one in `author.toml`.
    pub repository: Option<String>,
    /// Clock and randomness.
    pub senses: Senses,
    /// How long a broken upload is picked up again.
    pub patience: Patience,
    /// How often things are done by themselves.
    pub pace: Pace,
    /// The device program for rehearsals; none: the one beside this program, else in the search path.
    pub device: Option<std::path::PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            repository: None,
            senses: Senses::system(),
            patience: Patience::default(),
            pace: Pace::default(),
            device: None,
        }
    }
}

/// How often things are done by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks at the repository while somebody watches.
    pub refresh: Duration,
    /// The same while it does not answer.
    pub refresh_away: Duration,
    /// Between two looks at the key's time and at whether anybody is there.
    pub tick: Duration,
    /// With nobody there, nothing running and the key locked for so long, the service ends.
    pub idle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            refresh: REFRESH,
            refresh_away: REFRESH_AWAY,
            tick: TICK,
            idle: IDLE,
        }
    }
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The folder.
    #[error("cannot use the folder {}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The control socket.
    #[error(transparent)]
    Control(#[from] control::Error),
}

/// Serves the desk in `dir`, an author's folder, a site's folder or one that is to become one, until `shutdown`
/// or until nobody needs it any more.
///
/// # Errors
/// [`ServiceError`]: the folder cannot be used, or another service runs there.
pub async fn run(dir: &Path, setup: Setup, shutdown: impl Future<Output = ()>) -> Result<(), ServiceError> {
    let failed = |source| ServiceError::Folder {
        dir: dir.to_owned(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let dir = std::fs::canonicalize(dir).map_err(failed)?;
    let socket = Folder::find(&dir).socket();
    let server = Server::open(&socket).await?;
    let service = Arc::new(Service::open(dir, setup));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(refresh::run(Arc::clone(&service)));
    tracing::info!(target: "drover", socket = %socket.display(), "ready");
    tokio::select! {
        () = shutdown => tracing::info!(target: "drover", "told to end"),
        () = until_nobody_needs(&service) => tracing::info!(target: "drover", "ends: nobody needs it"),
        () = serve(&service, &server) => {}
        () = serve_the_new_site(&service, &socket) => {}
    }
    // What can still be undone is; what is past that is waited for, so that its record is written.
    service.end_jobs(ENDING).await;
    service.lock_key();
    tasks.shutdown().await;
    Ok(())
}

async fn serve(service: &Arc<Service>, server: &Server) {
    service.count(server.clients());
    let answering = Arc::clone(service);
    server
        .run(move |request| answer::answer(Arc::clone(&answering), request))
        .await;
}

/// A site that was made in a folder without one has its author's folder, and there its socket: clients that come
/// later find this service at that place too.
async fn serve_the_new_site(service: &Arc<Service>, first: &Path) {
    let mut sockets = service.sockets();
    loop {
        let socket = sockets.borrow_and_update().clone();
        if let Some(socket) = socket.filter(|socket| socket != first) {
            match Server::open(&socket).await {
                Ok(server) => return serve(service, &server).await,
                Err(error) => tracing::warn!(target: "drover", %error, "not served at the new site"),
            }
        }
        if sockets.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Ends when nobody was there, nothing ran and the key was locked for long enough.
async fn until_nobody_needs(service: &Arc<Service>) {
    let pace = service.setup.pace;
    let mut needed = Instant::now();
    loop {
        tokio::time::sleep(pace.tick).await;
        service.close_key_in_time();
        if service.is_needed() {
            needed = Instant::now();
        } else if needed.elapsed() >= pace.idle {
            return;
        }
    }
}

//! The command line.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use control::Client;
use protocol::Name;
use protocol::control::{RepositoryRequest, RepositoryStatus};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::Folder;
use crate::{Config, Options, Server, backup, online, service};

/// The repository: stores and serves signed releases; can forge nothing.
#[derive(Debug, Parser)]
#[command(name = "repo-server", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the repository until it is told to stop (SIGTERM, SIGINT).
    Run {
        /// The repository's folder: repo.toml, certificates, keys, root.json.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// How the log is written to standard error; RUST_LOG says how much.
        #[arg(long, value_enum, default_value_t = Log::Text)]
        log: Log,
    },
    /// Tells how a running repository is.
    Status {
        /// The repository's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Makes a new key for snapshot and timestamp; it signs nothing before a root names it.
    ///
    /// The private half stays in the repository's folder. The author puts the public half into the next root: see
    /// `admin-gui root replace`.
    NewKey {
        /// What it is called: online-2, for instance; the files are online-keys/NAME.pem and NAME.pub.
        name: Name,
        /// The repository's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Lets a running repository write a copy of its database and files into a new folder.
    Backup {
        /// The folder; must not exist.
        path: PathBuf,
        /// The repository's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Puts a backup into the folder of a stopped repository without a state.
    ///
    /// The repository then signs nothing until the author or a manager has handed back the newest targets roles.
    Restore {
        /// The backup's folder.
        backup: PathBuf,
        /// The repository's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "repo-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Run { dir, log } => serve(&dir, log).await,
            Command::Status { dir, json } => status(&dir, json).await,
            Command::NewKey { name, dir } => new_key(&name, &dir),
            Command::Backup { path, dir } => {
                let path = std::path::absolute(path)?;
                let mut client = Client::connect(&Folder::new(&dir).socket(), "repo-server").await?;
                client
                    .call::<()>(&RepositoryRequest::Backup { path: path.clone() })
                    .await?;
                say(&format!("backup written to {}", path.display()))
            }
            Command::Restore { backup, dir } => restore(&backup, &dir),
        }
    })
}

async fn serve(dir: &Path, log: Log) -> Result<()> {
    start_log(log);
    raise_descriptors();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(dir, Options::default()).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!(target: "drover", "stopping");
    server.stop().await;
    Ok(())
}

/// Sockets and files need descriptors; many systems give 1024 and allow far more.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        warn!(%error, "the limit of open files stays at {:?}", limit.current);
    }
}

fn start_log(log: Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log {
        Log::Text => builder.init(),
        Log::Json => builder.json().init(),
    }
}

async fn status(dir: &Path, json: bool) -> Result<()> {
    let mut client = Client::connect(&Folder::new(dir).socket(), "repo-server").await?;
    let status: RepositoryStatus = client.call(&RepositoryRequest::Status).await?;
    if json {
        return say(&serde_json::to_string_pretty(&status)?);
    }
    let until = |time: Option<tuf::UnixTime>| time.map_or("-".to_owned(), |time| time.to_string());
    let [root, timestamp, snapshot, targets] = status.versions;
    let mut text = format!(
        "repo-server {} at https://{}\n\
         root {root}, timestamp {timestamp}, snapshot {snapshot}, targets {targets}\n\
         timestamp and snapshot until {}, targets until {}\n\
         {} files, {} bytes, {} reports",
        status.program,
        status.address,
        until(status.online_until),
        until(status.targets_until),
        status.files,
        status.bytes,
        status.reports,
    );
    text.push_str(&format!(
        "\ncertificate until {}",
        until(status.certificate_until)
    ));
    if let Some(trouble) = &status.trouble {
        text.push_str(&format!("\nwarning: {trouble}"));
    }
    say(&text)
}

fn new_key(name: &Name, dir: &Path) -> Result<()> {
    let folder = Folder::new(dir);
    service::identity(&folder, &Config::load(dir)?)?;
    let made = online::make(&folder, name)?;
    say(&format!(
        "key {} is made; it signs nothing before a root names it.\n\
         Bring {} to the author: admin-gui root replace online FILE",
        made.id,
        made.public.display()
    ))
}

fn restore(backup: &Path, dir: &Path) -> Result<()> {
    let folder = Folder::new(dir);
    let identity = service::identity(&folder, &Config::load(dir)?)?;
    backup::restore(backup, &folder, &identity.site)
        .with_context(|| format!("{} was not restored", backup.display()))?;
    say(
        "restored. Start the repository: it signs nothing until the author (admin-gui recover) or a manager has \
         handed back the newest targets roles; managers do so by themselves",
    )
}

/// One or more lines to standard output; a reader that went away is no error of ours.
fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

//! The command line that the public conformance suite of The Update Framework drives (its `CLIENT-CLI.md`), built
//! on the code by which gateway and device verify: `tuf`, and `durable`'s trusted state and drivers.
//!
//! What is trusted stands in the folder `trusted-state`; the JSON files beside it are copies for the suite to look
//! at and are never read back. No build time is given: the suite lives at dates of its own choice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use durable::{Fetch, TrustStore};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use mtls::{Clock, FlooredClock};
use tokio::net::TcpStream;
use tuf::{Limits, Role, TargetFile, TrustedState};

/// The suite's targets are small; nothing larger is held in memory.
const TARGET_BYTES: u64 = 64 << 20;
/// For one file. The suite's server answers from memory.
const ANSWER: Duration = Duration::from_secs(30);

/// A TUF client for the public conformance suite.
#[derive(Parser)]
#[command(name = "tuf-conformance-client")]
struct Options {
    /// Where what is trusted is kept.
    #[arg(long, value_name = "DIR")]
    metadata_dir: PathBuf,
    /// Where the repository's metadata are.
    #[arg(long, value_name = "URL")]
    metadata_url: Option<String>,
    /// A target to download; may be repeated.
    #[arg(long, value_name = "NAME")]
    target_name: Vec<String>,
    /// Where targets are put.
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    /// Where the repository's targets are.
    #[arg(long, value_name = "URL")]
    target_base_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Begin with this root.
    Init {
        /// The root to trust.
        root: PathBuf,
    },
    /// Bring the top-level metadata up to date.
    Refresh,
    /// Refresh, then download the targets that are named.
    Download,
}

/// The suite knows two exit codes only.
fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = Options::try_parse()
        .map_err(anyhow::Error::from)
        .and_then(|options| runtime?.block_on(run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let trusted = options.metadata_dir.join("trusted-state");
    if let Command::Init { root } = &options.command {
        let root = durable::read_limited(root, Limits::default().root_length)?;
        let store = TrustStore::create(&trusted, &root, None)?;
        return export(&store.load()?, &options.metadata_dir);
    }
    let store = TrustStore::open(&trusted)?;
    let mut client = Client {
        state: store.take_up()?,
        store,
        remote: Remote::at(options.metadata_url.as_deref(), "--metadata-url")?,
        clock: FlooredClock::new(None),
    };
    let outcome = match options.command {
        Command::Download => client.download_all(options).await,
        _ => client.refresh().await,
    };
    // What was accepted before an error is trusted too.
    export(&client.state, &options.metadata_dir)?;
    outcome
}

struct Client {
    store: TrustStore,
    state: TrustedState,
    remote: Remote,
    clock: FlooredClock,
}

impl Client {
    async fn refresh(&mut self) -> Result<()> {
        self.clock.set_floor(self.state.not_before());
        let (state, outcome) = durable::refresh(
            &self.store,
            self.state.clone(),
            &self.remote,
            self.clock.now().now,
            Limits::default(),
        )
        .await;
        self.state = state;
        outcome?;
        Ok(())
    }

    /// In order, all after one refresh; the first that fails ends it.
    async fn download_all(&mut self, options: &Options) -> Result<()> {
        let dir = options.target_dir.as_deref().context("--target-dir is missing")?;
        let targets = Remote::at(options.target_base_url.as_deref(), "--target-base-url")?;
        self.refresh().await?;
        for name in &options.target_name {
            let target = self.look_up(name).await?;
            self.download(&targets, name, &target, dir)
                .await
                .with_context(|| format!("{name:?}"))?;
        }
        Ok(())
    }

    async fn look_up(&mut self, name: &str) -> Result<TargetFile> {
        let (state, found) = durable::look_up(
            &self.store,
            self.state.clone(),
            &self.remote,
            name,
            self.clock.now().now,
            Limits::default(),
        )
        .await;
        self.state = state;
        let (_, target) = found?.with_context(|| format!("no role names {name:?}"))?;
        Ok(target)
    }

    async fn download(&self, targets: &Remote, name: &str, target: &TargetFile, dir: &Path) -> Result<()> {
        ensure!(target.length <= TARGET_BYTES, "longer than {TARGET_BYTES} bytes");
        // One path segment, the same for every content of this name.
        let file = dir.join(segment(name));
        let cached = durable::read_limited(&file, target.length);
        if cached.is_ok_and(|bytes| target.check(name, &bytes).is_ok()) {
            return Ok(());
        }
        let path = match target.hashes.preferred() {
            Some(hash) if self.state.root().consistent_snapshot => tuf::target_path(name, &hash),
            _ => name.to_owned(),
        };
        let path: Vec<_> = path.split('/').map(segment).collect();
        let bytes = targets.get(&path.join("/"), target.length).await?;
        let bytes = bytes.context("the repository does not have it")?;
        target.check(name, &bytes)?;
        durable::replace(&file, &bytes, 0o644)?;
        Ok(())
    }
}

/// Replaces the copies of the trusted files: those that are trusted no more are removed.
fn export(state: &TrustedState, dir: &Path) -> Result<()> {
    let mut kept = BTreeSet::new();
    for (file, bytes) in state.roles() {
        durable::replace(dir.join(&file), bytes, 0o644)?;
        kept.insert(std::ffi::OsString::from(file));
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let copy = entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "json");
        if copy && !kept.contains(&entry.file_name()) {
            durable::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// One path segment of a URL or of this machine, percent-encoded.
fn segment(text: &str) -> String {
    let role = Role::Delegated(text.to_owned()).file_name();
    role.strip_suffix(".json").unwrap_or(&role).to_owned()
}

#[derive(Debug, thiserror::Error)]
enum RemoteError {
    #[error("the repository does not answer")]
    Silent,
    #[error("the repository answers {0}")]
    Status(StatusCode),
    #[error("the repository cannot be reached")]
    Connect(#[from] std::io::Error),
    #[error("no request can be made of the address")]
    Request(#[from] http::Error),
    #[error("the transfer ended early")]
    Transfer(#[from] hyper::Error),
}

/// A folder of the suite's server: plain HTTP on loopback, one connection a request.
struct Remote {
    authority: String,
    path: String,
}

impl Remote {
    fn at(url: Option<&str>, option: &str) -> Result<Self> {
        let url: Uri = url.with_context(|| format!("{option} is missing"))?.parse()?;
        ensure!(url.scheme_str() == Some("http"), "{option} is no http address");
        let authority = url
            .authority()
            .with_context(|| format!("{option} names no host"))?;
        Ok(Self {
            authority: authority.to_string(),
            path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The file at `path`, at most one byte more than `max` of it, rounded up to a frame; none if there is none.
    async fn get(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        tokio::time::timeout(ANSWER, self.get_patiently(path, max))
            .await
            .map_err(|_| RemoteError::Silent)?
    }

    async fn get_patiently(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = hyper::Request::get(format!("{}/{path}", self.path))
            .header(http::header::HOST, &self.authority)
            .body(Empty::<Bytes>::new())?;
        let mut response = sender.send_request(request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(RemoteError::Status(status)),
        }
        let mut bytes = Vec::new();
        while let Some(frame) = response.frame().await {
            if let Some(data) = frame?.data_ref() {
                bytes.extend_from_slice(data);
            }
            // The verifier sees that there is more, and refuses it.
            if bytes.len() as u64 > max {
                break;
            }
        }
        Ok(Some(bytes))
    }
}

impl Fetch for Remote {
    type Error = RemoteError;

    async fn metadata(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        self.get(path, max).await
    }
}

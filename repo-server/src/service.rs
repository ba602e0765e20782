//! The running program: listener, timer, control socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use mtls::serve::Connections;
use mtls::{ClientAuth, Clock, Credentials, SiteCa, SystemClock};
use protocol::{Identity, Name, Role};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::Floored;
use crate::config::Folder;
use crate::limits::TICK;
use crate::{Config, Limits, Repository, control_socket, http};

/// What a caller may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What peers may cost.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
        }
    }
}

/// A repository that is being served.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    repository: Arc<Repository>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    /// Opens the repository in `dir` and serves it.
    ///
    /// # Errors
    /// A file of the folder is missing or wrong, another process signs, the address is taken.
    pub async fn start(dir: &Path, options: Options) -> Result<Self> {
        let folder = Folder::new(dir);
        let config = Config::load(dir)?;
        let identity = identity(&folder, &config)?;
        let clock = Arc::new(Floored::new(options.clock));
        let tls = mtls::reload::watch(
            vec![folder.tls(), folder.tls_key(), folder.ca()],
            tls_settings(folder.clone(), identity.site.clone(), clock.clone()),
        )?;

        let opened = {
            let (folder, limits) = (folder.clone(), options.limits.clone());
            tokio::task::spawn_blocking(move || {
                let repository = Repository::open(&folder, identity, limits, clock)?;
                repository.tick();
                anyhow::Ok(repository)
            })
        };
        let repository = Arc::new(opened.await??);
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}: is another program there?", config.listen))?;
        let address = listener.local_addr()?;
        repository.set_address(address.to_string());
        let addresses = serde_json::json!({ "listen": address.to_string() });
        durable::replace(folder.addresses(), serde_json::to_vec_pretty(&addresses)?, 0o644)?;
        let socket = control::Server::open(&folder.socket()).await?;

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let app = http::router(Arc::clone(&repository), stop.clone());
        let serve_limits = options.limits.serve.clone();
        tasks.spawn(mtls::serve::serve(
            listener,
            tls,
            app,
            serve_limits,
            Connections::new(),
            stop.clone(),
        ));
        tasks.spawn(tick(Arc::clone(&repository), stop.clone()));
        let (controlled, stopped) = (Arc::clone(&repository), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = socket.run(move |request| control_socket::answer(Arc::clone(&controlled), request)) => {}
            }
        });
        info!(target: "drover", %address, site = %repository.site(), "ready");
        Ok(Self {
            address,
            repository,
            stop,
            tasks,
        })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The repository behind it.
    #[must_use]
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Ends it: requests in flight get a few seconds, the lease is given back.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let repository = self.repository;
        let _ = tokio::task::spawn_blocking(move || repository.release()).await;
    }
}

/// Who we are, by our certificate; the configuration must agree.
pub(crate) fn identity(folder: &Folder, config: &Config) -> Result<Identity> {
    let credentials = Credentials::load(&folder.tls(), &folder.tls_key())?;
    let identity = credentials.identity()?;
    if identity.role != Role::Repository {
        bail!(
            "{} is the certificate of {identity}, not of a repository",
            folder.tls().display()
        );
    }
    for (what, set, found) in [
        ("site", &config.site, &identity.site),
        ("name", &config.name, &identity.name),
    ] {
        if let Some(set) = set
            && set != found
        {
            bail!("repo.toml says {what} {set}, the certificate in tls.pem says {found}");
        }
    }
    Ok(identity)
}

fn tls_settings(
    folder: Folder,
    site: Name,
    clock: Arc<dyn Clock>,
) -> impl Fn() -> Result<mtls::ServerConfig, mtls::Error> + Send {
    move || {
        let credentials = Credentials::load(&folder.tls(), &folder.tls_key())?;
        let ca = SiteCa::load(&folder.ca())?;
        let accept = [Role::Author, Role::Manager];
        let protocols = [mtls::HTTP_2, mtls::HTTP_1_1];
        let auth = ClientAuth::Optional;
        mtls::server_config(&credentials, &ca, &site, auth, &accept, &protocols, clock.clone())
    }
}

async fn tick(repository: Arc<Repository>, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let repository = Arc::clone(&repository);
        let _ = tokio::task::spawn_blocking(move || repository.tick()).await;
    }
}

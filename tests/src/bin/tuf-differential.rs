//! Repositories made by our editors and mutants of them, one a line as JSON, each with our verdict: what
//! `scripts/differential` gives to python-tuf and tough.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use clap::Parser;
use e2e::differential::{Case, case, foreign, mutants, plans};
use e2e::packages::app;
use e2e::{Authored, Site, SiteOptions};
use protocol::Step;

/// Repositories and mutants with our verdict, for another implementation to judge.
#[derive(Parser)]
#[command(name = "tuf-differential")]
struct Options {
    /// How many mutants.
    #[arg(long, default_value_t = 2000)]
    mutants: usize,
    /// The same seed makes the same changes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What a gateway mirrors of a site whose author has RSA keys and has published one release.
async fn of_a_site() -> anyhow::Result<Case> {
    let options = SiteOptions {
        key_type: "rsa".into(),
        ..SiteOptions::default()
    };
    let site = Site::running(options).await;
    let work = tempfile::tempdir()?;
    let mut follow = site.follow();
    site.release(&app(work.path(), "1.0.0")).await;
    follow.step(|event| event.step == Step::MirrorVerified).await;
    let dir = site.path("manager");
    let state = durable::TrustStore::open(dir.join("state/trust"))?.load()?;
    let mirror = durable::Store::open(dir.join("state/mirror"))?;
    let mut targets = BTreeMap::new();
    for (name, target) in state.all_targets() {
        let digest = target.sha256().context("a release without SHA-256")?;
        let mut bytes = Vec::new();
        mirror.open_file(&digest)?.read_to_end(&mut bytes)?;
        targets.insert(name.to_owned(), (tuf::target_path(name, &digest), bytes));
    }
    Ok(foreign("a site with RSA keys", &state, &targets))
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let now = mtls::Clock::now(&mtls::SystemClock).now;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut out = std::io::stdout().lock();
    let mut failed = None;
    let mut write = |case: Case| {
        let line = serde_json::to_string(&case).map_err(std::io::Error::from);
        if let Err(error) = line.and_then(|line| writeln!(out, "{line}")) {
            failed = Some(error);
        }
    };
    for plan in plans() {
        let authored = Authored::new(plan.clone(), now);
        write(case(&format!("{plan:?}"), false, &authored, now));
    }
    write(runtime.block_on(of_a_site())?);
    mutants(options.mutants, options.seed, now, &mut write);
    failed.map_or(Ok(()), |error| Err(error.into()))
}

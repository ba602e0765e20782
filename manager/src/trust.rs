//! The gateway's trusted state: taken up at each start, begun once, and the way back when it is damaged.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use durable::{TrustError, TrustStore};
use tuf::{Limits, TrustedState};

use crate::config::Paths;
use crate::limits;

/// What a person does about it; devices stay as they are meanwhile.
const WAY_BACK: &str = "run `manager repair-trust --dir DIR`; devices run on meanwhile and take nothing new";

/// The trusted state. On the first start it is begun from the author's root, which is kept for devices as well.
pub(crate) fn open(paths: &Paths) -> Result<(TrustStore, TrustedState)> {
    let root = durable::read_limited(paths.root(), limits::SITE_FILE_BYTES)?;
    // The roots for devices are kept once the state has begun: a gateway that has one has trusted before, and must
    // not begin anew by itself.
    let trust = if paths.trust().exists() || has_roots(paths)? {
        TrustStore::open(paths.trust()).context(WAY_BACK)?
    } else {
        TrustStore::create(paths.trust(), &root, None)?
    };
    let state = trust.take_up().context(WAY_BACK)?;
    let first = TrustedState::init(&root, None, &Limits::default())
        .with_context(|| format!("{} is not a trusted root", paths.root().display()))?;
    let name = format!("{}.root.json", first.root().version);
    if !paths.roots().join(&name).exists() {
        durable::replace(paths.roots().join(name), &root, 0o644)?;
    }
    Ok((trust, state))
}

fn has_roots(paths: &Paths) -> Result<bool> {
    let roots = paths.roots();
    let mut entries =
        std::fs::read_dir(&roots).with_context(|| format!("cannot look into {}", roots.display()))?;
    Ok(entries.next().is_some())
}

/// Anchors the gateway again in the author's root: the one in its folder, or `root`. It must not run. With `forget`
/// also where nothing can be read any more of what was remembered against old metadata.
///
/// # Errors
/// A gateway runs in the folder; the root is not acceptable; nothing is remembered and `forget` is not given; the disk.
pub async fn repair(dir: &Path, root: Option<&Path>, forget: bool) -> Result<()> {
    let paths = Paths::new(dir);
    let _alone = control::Server::open(&paths.socket()).await?;
    let root = durable::read_limited(root.unwrap_or(&paths.root()), limits::SITE_FILE_BYTES)?;
    match TrustStore::recover(paths.trust(), &root, None) {
        Ok(_) => Ok(()),
        Err(TrustError::StateDamaged { .. } | TrustError::Missing(_)) if forget => {
            durable::remove_tree(paths.trust())?;
            TrustStore::create(paths.trust(), &root, None)?;
            Ok(())
        }
        Err(error @ (TrustError::StateDamaged { .. } | TrustError::Missing(_))) => Err(anyhow::Error::new(
            error,
        )
        .context(
            "the copy of the floors cannot be read either; if you know that nobody can show this gateway old \
                 metadata, add --danger-forget-floors",
        )),
        Err(error) => bail!(anyhow::Error::new(error).context("cannot repair the trusted state")),
    }
}

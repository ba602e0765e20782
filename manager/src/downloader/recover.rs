//! Handing a repository that has gone back what it has forgotten (DESIGN section 4): newest roles, then files.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use protocol::author::{Recover, RoleFile};
use tuf::{Digest, TrustedState};

use super::chain;
use crate::gateway::Gateway;
use crate::limits;
use crate::repository::Repository;

/// Hands back; what the repository does not take is said in the log and tried again with the next check.
pub(super) async fn hand_back(gateway: &Arc<Gateway>, state: &TrustedState, repository: &Repository) {
    let text = format!(
        "{} has forgotten releases; this gateway hands them back",
        repository.base()
    );
    gateway.journal.alarm(gateway.now(), "repository", &text);
    if state.targets().is_none() {
        return;
    }
    let recover = forgotten(gateway, state);
    for _ in 0..limits::RECOVER_ROUNDS {
        match repository.recover(&recover).await {
            Ok(answer) if answer.missing.is_empty() => {
                gateway.downloader.wake.notify_one();
                return;
            }
            Ok(answer) => {
                let mut handed = false;
                for digest in answer.missing {
                    match upload(gateway, repository, digest).await {
                        Ok(()) => handed = true,
                        Err(error) => {
                            let error = format!("{error:#}");
                            tracing::warn!(target: "drover", error, "a file could not be handed back");
                        }
                    }
                }
                if !handed {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(target: "drover", error = chain(&error), "the repository does not take it back");
                return;
            }
        }
    }
}

/// Every root, the newest targets roles, and the highest versions of the others.
fn forgotten(gateway: &Gateway, state: &TrustedState) -> Recover {
    let role_file = |name: String, bytes: &[u8]| {
        let body = String::from_utf8(bytes.to_vec()).ok()?;
        Some(RoleFile { name, body })
    };
    let mut roots = Vec::new();
    for version in 1..=state.root().version.min(limits::ROOTS as u64) {
        let name = format!("{version}.root.json");
        if let Ok(bytes) = durable::read_limited(gateway.paths.roots().join(&name), limits::SITE_FILE_BYTES) {
            roots.extend(role_file(name, &bytes));
        }
    }
    let others = ["root.json", "snapshot.json"];
    let targets = super::versioned(state)
        .filter(|(name, _)| {
            name.split_once('.')
                .is_some_and(|(_, role)| !others.contains(&role))
        })
        .filter(|(name, _)| name != "timestamp.json")
        .filter_map(|(name, bytes)| role_file(name, bytes))
        .collect();
    Recover {
        roots,
        targets,
        snapshot: state.snapshot().map_or(0, |role| role.version),
        timestamp: state.timestamp().map_or(0, |role| role.version),
    }
}

async fn upload(gateway: &Gateway, repository: &Repository, digest: Digest) -> anyhow::Result<()> {
    // From here on it is not removed.
    let sending = gateway.sends.send(&digest);
    let _sending = sending.ok_or_else(|| anyhow::anyhow!("{digest} is being removed"))?;
    let length = gateway
        .mirror
        .has(&digest)
        .ok_or_else(|| anyhow::anyhow!("{digest} is not in the mirror"))?;
    let mut offset = repository.upload_state(&digest).await?.received;
    let mut file = gateway.mirror.open_file(&digest)?;
    while offset < length {
        let mut piece = Vec::new();
        file.seek(SeekFrom::Start(offset))?;
        (&mut file).take(limits::ANSWER_BYTES).read_to_end(&mut piece)?;
        let state = repository.upload(&digest, length, offset, piece).await?;
        anyhow::ensure!(state.received > offset, "the repository does not take the bytes");
        offset = state.received;
    }
    Ok(())
}

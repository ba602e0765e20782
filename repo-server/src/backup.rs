//! Backup of a running repository, restore of a stopped one.
//!
//! ```text
//! BACKUP/repository.db   a consistent copy of the database
//! BACKUP/store/DIGEST    the files that the targets role lists, hashed while they were copied
//! BACKUP/backup.json     written last: a folder without it is half a backup
//! ```
//! Private keys and certificates are not in it: they come with the site's own folder.

use std::io::Read;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use durable::{Store, StoreError};
use protocol::Name;
use rusqlite::Connection;
use rusqlite::backup::Backup;
use serde::{Deserialize, Serialize};
use tracing::info;
use tuf::{Digest, UnixTime};

use crate::config::Folder;
use crate::db::{Database, RECOVERING};
use crate::limits::{BACKUP_PAGES, CONFIG_BYTES, READ_BYTES};
use crate::{Refusal, Repository};

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    format: u32,
    site: Name,
    at: UnixTime,
    targets: u64,
    files: usize,
}

const FORMAT: u32 = 1;
const LABEL: &str = "backup.json";
const DATABASE: &str = "repository.db";

impl Repository {
    /// Writes a copy of database and files into the new folder `path`.
    ///
    /// # Errors
    /// The folder exists; those of the disk. What was written stays, without its label.
    pub fn backup(&self, path: &Path) -> Result<(), Refusal> {
        if !path.is_absolute() || path.exists() {
            let path = path.display();
            return Err(Refusal::Malformed(format!(
                "{path} must be a full path to a folder that does not exist"
            )));
        }
        let _alone = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        durable::create_dir(path, 0o700).context("creating the backup's folder")?;
        let (listing, targets) = {
            let core = self.core();
            copy_database(core.database.connection(), &path.join(DATABASE))?;
            (
                core.listing.clone(),
                core.trusted.targets().map_or(0, |role| role.version),
            )
        };
        let store = Store::open(path.join("store"))?;
        let files = listing.digests();
        for entry in listing.entries.values() {
            let mut reader = self.storage.read(&entry.sha256, 0..entry.length)?;
            copy_file(&mut reader, &store, entry.sha256, entry.length)?;
        }
        durable::sync_tree(path).context("flushing the backup")?;
        let label = Label {
            format: FORMAT,
            site: self.site().clone(),
            at: self.now(),
            targets,
            files: files.len(),
        };
        let text = serde_json::to_vec_pretty(&label).map_err(anyhow::Error::new)?;
        durable::replace(path.join(LABEL), text, 0o600).context("labelling the backup")?;
        info!(path = %path.display(), targets, files = files.len(), "backup written");
        Ok(())
    }
}

/// Puts a backup into the folder of a repository that has no state; it then waits for what it forgot.
///
/// # Errors
/// The folder has a state, the backup is not whole or of another site; those of the disk. Nothing is in place
/// then.
pub(crate) fn restore(backup: &Path, folder: &Folder, site: &Name) -> Result<()> {
    let label = read_label(backup)?;
    if label.site != *site {
        bail!(
            "{} is a backup of site {}, this is a repository of {site}",
            backup.display(),
            label.site
        );
    }
    let state = folder.state();
    if state.exists() {
        let state = state.display();
        bail!("{state} exists: stop the repository and move that folder away, then restore again");
    }
    let building = folder.dir.join("state.restoring");
    durable::remove_tree(&building)?;
    durable::create_dir(&building, 0o700)?;
    let store = Store::open(building.join("store"))?;
    let files = Store::open(backup.join("store"))?;
    for stored in files.list()? {
        let mut reader = files.open_file(&stored.digest)?;
        copy_file(&mut reader, &store, stored.digest, stored.length)?;
    }
    let source = Connection::open(backup.join(DATABASE)).context("opening the backup's database")?;
    let copy = building.join(DATABASE);
    copy_database(&source, &copy)?;
    let mut database = Database::open(&copy)?;
    let change = database.begin()?;
    change.set(RECOVERING, b"1")?;
    change.drop_lease(None)?;
    change.commit()?;
    drop(database);
    durable::sync_tree(&building)?;
    durable::rename_dir(&building, &state)?;
    Ok(())
}

fn read_label(backup: &Path) -> Result<Label> {
    let path = backup.join(LABEL);
    let bytes = durable::read_limited(&path, CONFIG_BYTES)
        .with_context(|| format!("{} is not a finished backup", backup.display()))?;
    let label: Label = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not the label of a backup", path.display()))?;
    if label.format != FORMAT {
        bail!(
            "{} has format {}, this program reads {FORMAT}",
            path.display(),
            label.format
        );
    }
    Ok(label)
}

fn copy_database(from: &Connection, to: &Path) -> Result<()> {
    let mut target = Connection::open(to).with_context(|| format!("creating {}", to.display()))?;
    let backup = Backup::new(from, &mut target)?;
    backup.run_to_completion(BACKUP_PAGES, Duration::ZERO, None)?;
    Ok(())
}

fn copy_file(reader: &mut impl Read, store: &Store, digest: Digest, length: u64) -> Result<()> {
    let mut incoming = match store.begin(digest, length) {
        Ok(incoming) => incoming,
        Err(StoreError::Held { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = reader
            .read(&mut buffer)
            .with_context(|| format!("reading {digest}"))?;
        if count == 0 {
            break;
        }
        incoming.write(buffer.get(..count).unwrap_or_default())?;
    }
    incoming.finish().with_context(|| format!("copying {digest}"))?;
    Ok(())
}

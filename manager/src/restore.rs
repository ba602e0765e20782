//! Makes a gateway's folder from a backup, on a machine where no gateway runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use protocol::{Name, Secret};

use crate::backup::{self, Contents};
use crate::config::Paths;
use crate::database::{Database, meta, set_meta};
use crate::limits;

/// Counters of the gateway's own reports that a restored one leaves out: those may have been used since the
/// backup, and two reports under one number would look like two gateways.
const COUNTER_GAP: u64 = 1_000_000;

/// A backup that has been opened, before anything is written.
#[derive(Debug)]
pub struct Restore {
    contents: Contents,
    staging: PathBuf,
    dir: PathBuf,
    database: Database,
    /// The devices on its list.
    pub devices: BTreeSet<Name>,
}

impl Restore {
    /// Opens the backup at `file` for the folder `dir`, which must be missing or empty. What is needed to read
    /// the list lies beside `dir` until [`Self::finish`] or until this is dropped.
    ///
    /// # Errors
    /// A wrong passphrase, a damaged backup, a folder that is in use.
    pub fn open(file: &Path, dir: &Path, passphrase: &Secret) -> Result<Self> {
        if !is_free(dir)? {
            bail!(
                "{} is not empty: restore into a new folder, and never beside a gateway that still runs",
                dir.display()
            );
        }
        let sealed = durable::read_limited(file, limits::BACKUP_BYTES + (16 << 20))?;
        let contents = backup::open(&sealed, passphrase)?;
        let name = dir
            .file_name()
            .with_context(|| format!("{} has no name", dir.display()))?;
        let staging = dir.with_file_name(format!(".{}.restoring", name.to_string_lossy()));
        durable::remove_tree(&staging)?;
        match stage(&contents, &staging) {
            Ok((database, devices)) => Ok(Self {
                contents,
                staging,
                dir: dir.to_owned(),
                database,
                devices,
            }),
            Err(error) => {
                durable::remove_tree(&staging)?;
                Err(error)
            }
        }
    }

    /// Whose backup it is and from when, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        let index = &self.contents.index;
        format!(
            "gateway {} of site {}, as of {}",
            index.name, index.site, index.made
        )
    }

    /// Keeps the devices in `keep`, takes all others off the list, voids open codes and moves the folder into
    /// place; gives the names that were taken off.
    ///
    /// # Errors
    /// A name that is not on the list; those of database and disk. Nothing is in place then.
    pub fn finish(self, keep: &BTreeSet<Name>) -> Result<Vec<Name>> {
        if let Some(name) = keep.difference(&self.devices).next() {
            bail!("{name} is not on the backup's list: nothing was restored");
        }
        let gone: Vec<Name> = self.devices.difference(keep).cloned().collect();
        let names: Vec<String> = gone.iter().map(ToString::to_string).collect();
        self.database.run_now(|db| {
            db.execute("DELETE FROM codes", [])?;
            for name in &names {
                db.execute("DELETE FROM devices WHERE name = ?1", [name])?;
            }
            let counter = meta(db, "own-counter")?
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0);
            set_meta(
                db,
                "own-counter",
                &counter.saturating_add(COUNTER_GAP).to_string(),
            )
        })?;
        self.database.settle()?;
        durable::sync_tree(&self.staging)?;
        durable::rename_dir(&self.staging, &self.dir)?;
        Ok(gone)
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        // After `finish` there is nothing left; else a folder with keys must not stay behind.
        if let Err(error) = durable::remove_tree(&self.staging) {
            tracing::warn!(%error, "remove this folder by hand: it holds keys");
        }
    }
}

fn is_free(dir: &Path) -> Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("cannot look into {}", dir.display())),
    }
}

fn stage(contents: &Contents, staging: &Path) -> Result<(Database, BTreeSet<Name>)> {
    let paths = Paths::new(staging);
    for dir in [staging.to_owned(), paths.state(), paths.trust(), paths.roots()] {
        durable::create_dir(dir, 0o700)?;
    }
    for (path, bytes) in &contents.files {
        durable::replace(staging.join(path), bytes, 0o600)?;
    }
    for needed in backup::SITE_FILES
        .into_iter()
        .chain(["state/pepper", "state/manager.db"])
    {
        if !staging.join(needed).exists() {
            bail!("the backup has no {needed}: nothing was restored");
        }
    }
    let database = Database::open(&paths.database())?;
    let names: Vec<String> = database.run_now(|db| {
        let mut statement = db.prepare("SELECT name FROM devices")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect()
    })?;
    let devices = names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()
        .context("the backup's list has a name that is none")?;
    Ok((database, devices))
}

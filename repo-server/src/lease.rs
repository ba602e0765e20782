//! One signer: two processes that sign with one database would make two histories.
//!
//! The lease is a row in the database, renewed while the process lives. On the same machine a locked file tells
//! at once whether the holder is dead: the kernel lets go of the lock with the process.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use tuf::UnixTime;

use crate::Refusal;
use crate::db::Database;
use crate::limits::LEASE_SECONDS;

/// The right to sign, while it is held.
#[derive(Debug)]
pub(crate) struct Lease {
    holder: String,
    _lock: File,
}

impl Lease {
    /// Takes the lease: it is free, run out, ours of before, or its holder on this machine is dead.
    pub(crate) fn take(
        lock: &Path,
        database: &mut Database,
        now: UnixTime,
        boot_id: &str,
    ) -> Result<Self, Refusal> {
        let machine = machine();
        let holder = format!("process {} on {machine}", std::process::id());
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(lock)
            .with_context(|| format!("cannot open {}", lock.display()))?;
        let change = database.begin()?;
        let held = change.lease()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let (holder, _, until) = held.unwrap_or_else(|| {
                    (
                        "another process".to_owned(),
                        machine.clone(),
                        now.plus_seconds(LEASE_SECONDS),
                    )
                });
                return Err(Refusal::LeaseHeld { holder, until });
            }
            Err(TryLockError::Error(error)) => {
                let error = anyhow::Error::new(error).context(format!("cannot lock {}", lock.display()));
                return Err(error.into());
            }
        }
        if let Some((holder, theirs, until)) = held
            && theirs != machine
            && until > now
            && until <= now.plus_seconds(LEASE_SECONDS)
        {
            return Err(Refusal::LeaseHeld { holder, until });
        }
        // A holder that is unique even if process ids come around again.
        let holder = format!("{holder} (boot {})", boot_id.get(..8).unwrap_or(boot_id));
        change.take_lease(&holder, &machine, now.plus_seconds(LEASE_SECONDS))?;
        change.commit()?;
        Ok(Self { holder, _lock: file })
    }

    /// Who we are in the table.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }
}

/// This machine's name: leases of other machines are waited for.
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn taken(dir: &Path) -> (Database, Result<Lease, Refusal>) {
        let mut database = Database::open(&dir.join("x.db")).unwrap();
        let lease = Lease::take(&dir.join("lock"), &mut database, NOW, "b00t");
        (database, lease)
    }

    #[test]
    fn a_second_process_is_refused_and_told_who_signs() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, first) = taken(dir.path());
        let first = first.unwrap();
        let (_database, second) = taken(dir.path());
        let error = second.unwrap_err();
        assert!(
            matches!(&error, Refusal::LeaseHeld { holder, .. } if holder == first.holder()),
            "{error}"
        );
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
    }

    #[test]
    fn the_lease_of_a_dead_process_is_taken_over_at_once() {
        let dir = tempfile::tempdir().unwrap();
        drop(taken(dir.path()));
        taken(dir.path()).1.unwrap();
    }

    #[test]
    fn the_lease_of_another_machine_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        for (until, refused) in [(NOW.plus_seconds(10), true), (NOW, false)] {
            let change = database.begin().unwrap();
            change
                .take_lease("process 1 on elsewhere", "elsewhere", until)
                .unwrap();
            change.commit().unwrap();
            let outcome = Lease::take(&dir.path().join("lock"), &mut database, NOW, "b00t");
            assert_eq!(outcome.is_err(), refused, "until {until}");
        }
    }
}

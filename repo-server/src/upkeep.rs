//! What a repository does by itself: renews its signatures and its lease, removes what was abandoned.

use std::collections::HashSet;
use std::sync::PoisonError;

use mtls::Clock as _;
use tracing::{info, warn};

use crate::counters::add;
use crate::limits::{
    ABANDONED_SECONDS, COLLECT_SECONDS, LEASE_RENEW_SECONDS, LEASE_SECONDS, RENEW_AFTER_SECONDS,
};
use crate::refusal::chain;
use crate::repository::Prepared;
use crate::{Refusal, Repository};

impl Repository {
    /// Re-signs snapshot and timestamp if they are due; says whether they were.
    ///
    /// # Errors
    /// The root does not name our key, or root or targets have expired; the disk is full.
    pub fn renew(&self) -> Result<bool, Refusal> {
        let now = self.now();
        let mut core = self.core();
        let Some(timestamp) = core.trusted.timestamp() else {
            return Ok(false);
        };
        let age = timestamp
            .signed_at
            .map_or(i64::MAX, |signed_at| now.seconds_since(signed_at));
        if core.recovering || age < RENEW_AFTER_SECONDS {
            return Ok(false);
        }
        let last = Self::last_versions(&core)?;
        let online = self.online.sign(&core.trusted, last, now)?;
        let trusted = Self::verify_as_client(&core, &[], &core.trusted, &[], &online, now)?;
        let listing = core.listing.clone();
        let prepared = Prepared {
            roots: Vec::new(),
            targets: None,
            teams: Vec::new(),
            online,
            trusted,
            listing,
            update: None,
        };
        self.commit(&mut core, prepared, now, |_| Ok(()))?;
        info!(
            timestamp = core.trusted.timestamp().map_or(0, |role| role.version),
            "renewed"
        );
        add(&self.counters.renewals, 1);
        Ok(true)
    }

    /// What is due: the lease, renewal, abandoned files. Called every few seconds.
    pub fn tick(&self) {
        if let Err(error) = self.keep_lease() {
            self.complain("lease", &error);
        } else {
            match self.renew() {
                Ok(_) => *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = None,
                Err(error) => {
                    add(&self.counters.renewal_failures, 1);
                    self.complain("snapshot and timestamp cannot be renewed", &error);
                }
            }
        }
        if let Err(error) = self.collect_if_due() {
            self.complain("collecting abandoned files", &error);
        }
    }

    fn keep_lease(&self) -> Result<(), Refusal> {
        let now = self.clock.now().now;
        let mut core = self.core();
        if core
            .prolonged
            .is_some_and(|last| (0..LEASE_RENEW_SECONDS).contains(&now.seconds_since(last)))
        {
            return Ok(());
        }
        let change = core.database.begin()?;
        self.prolong(&change)?;
        change.commit()?;
        core.prolonged = Some(now);
        Ok(())
    }

    /// Says what is wrong once, not every five seconds.
    fn complain(&self, what: &str, error: &Refusal) {
        let text = format!("{what}: {}", chain(error));
        let mut last = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(&text) {
            warn!("{text}");
            *last = Some(text);
        }
    }

    fn collect_if_due(&self) -> Result<(), Refusal> {
        let now = self.clock.now().now;
        let mut core = self.core();
        let due = core
            .collected
            .is_none_or(|last| now.seconds_since(last).abs() >= COLLECT_SECONDS);
        if !due {
            return Ok(());
        }
        core.collected = Some(now);
        drop(core);
        self.collect()
    }

    /// Removes uploads that nobody has listed for [`ABANDONED_SECONDS`], and what a killed process left.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn collect(&self) -> Result<(), Refusal> {
        let now = self.clock.now().now;
        let _alone = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        // Until the files are gone: a publish must not begin to list one that is being removed.
        let mut core = self.core();
        if core.recovering {
            return Ok(());
        }
        let change = core.database.begin()?;
        change.forget_abandoned(now.plus_seconds(-ABANDONED_SECONDS))?;
        change.commit()?;
        let mut keep: HashSet<_> = core.database.uploads()?;
        keep.extend(core.listing.digests());
        self.uploads.close_idle_but(&keep);
        let freed = self.storage.collect(&keep)?;
        drop(core);
        if freed > 0 {
            info!(bytes = freed, "abandoned uploads removed");
        }
        Ok(())
    }

    /// The lease must still be ours when something is signed.
    pub(crate) fn prolong(&self, change: &crate::db::Change<'_>) -> Result<(), Refusal> {
        let until = self.clock.now().now.plus_seconds(LEASE_SECONDS);
        if change.keep_lease(self.lease.holder(), until)? {
            return Ok(());
        }
        let (holder, _, until) = change
            .lease()?
            .unwrap_or_else(|| ("another process".to_owned(), String::new(), until));
        Err(Refusal::LeaseHeld { holder, until })
    }

    /// Gives the lease back, so that another process need not wait for it to run out.
    pub fn release(&self) {
        let mut core = self.core();
        let dropped = core.database.begin().and_then(|change| {
            change.drop_lease(Some(self.lease.holder()))?;
            change.commit()
        });
        if let Err(error) = dropped {
            warn!(%error, "the lease could not be given back; it runs out by itself");
        }
    }
}

//! The step from one root to the next: the only way keys change.

use std::sync::Arc;

use crate::envelope::Envelope;
use crate::schema::{Metadata, Root};
use crate::state::Held;
use crate::{Error, Limits, TrustedState};

impl TrustedState {
    /// Takes the next root: signed by the old threshold and its own, exactly one version up. Returns its version.
    ///
    /// Files and floors whose keys it changes are dropped with it (5.3.11).
    pub(crate) fn accept_root(&mut self, file: &str, bytes: &[u8], limits: &Limits) -> Result<u64, Error> {
        let envelope = Envelope::parse(bytes, file, Root::TYPE, limits)?;
        let before = Arc::clone(&self.root);
        let old = &before.signed;
        envelope.verify(&old.root, &old.keys, &format!("root version {}", old.version))?;
        let new: Root = envelope.read(limits)?;
        let held: Held<Root> = Held::verify(
            bytes,
            file,
            limits,
            &new.root,
            &new.keys,
            &format!("root version {}", new.version),
        )?;
        let expected = old.version.saturating_add(1);
        if new.version != expected {
            return Err(Error::RootVersion {
                file: file.to_owned(),
                expected,
                found: new.version,
            });
        }
        self.floors.accept_root(&new);
        if old.timestamp.digest() != new.timestamp.digest() {
            self.timestamp = None;
        }
        if old.snapshot.digest() != new.snapshot.digest() {
            self.snapshot = None;
        }
        // Targets stay as long as the new root's keys vouch for them.
        self.targets = self.targets.take().and_then(|held| {
            let raw = held.raw.as_bytes();
            let limits = Limits::of_own_state();
            let again = Held::verify(
                raw,
                "targets.json",
                &limits,
                &new.targets,
                &new.keys,
                "the new root",
            );
            again.ok().map(Arc::new)
        });
        self.root = Arc::new(held);
        Ok(new.version)
    }
}

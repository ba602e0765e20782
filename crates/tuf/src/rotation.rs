//! The step from one root to the next: the only way keys change.

use std::sync::Arc;

use crate::envelope::Envelope;
use crate::schema::{Metadata, RoleKeys, Root};
use crate::state::Held;
use crate::{Error, Limits, Role, TrustedState};

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
        // Files stay as long as the new root's keys vouch for them; timestamp and snapshot only under the same key set.
        let same = |role| old.role(role).map(RoleKeys::digest) == new.role(role).map(RoleKeys::digest);
        self.timestamp =
            vouched(self.timestamp.take(), &Role::Timestamp, &new).filter(|_| same(&Role::Timestamp));
        self.snapshot =
            vouched(self.snapshot.take(), &Role::Snapshot, &new).filter(|_| same(&Role::Snapshot));
        self.targets = vouched(self.targets.take(), &Role::Targets, &new);
        self.root = Arc::new(held);
        Ok(new.version)
    }
}

/// A file that is held, if a root's keys sign it: the same keyids may stand for a key that the root does not list.
fn vouched<T: Metadata>(held: Option<Arc<Held<T>>>, role: &Role, root: &Root) -> Option<Arc<Held<T>>> {
    let (held, keys) = (held?, root.role(role)?);
    let limits = Limits::of_own_state();
    let raw = held.raw.as_bytes();
    let again = Held::verify(raw, &role.file_name(), &limits, keys, &root.keys, "the new root");
    again.ok().map(Arc::new)
}

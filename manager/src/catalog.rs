//! What the verified metadata offers: the newest release of each component, and whether it is in the mirror.

use std::collections::BTreeMap;

use protocol::UpdateId;
use release::{Component, Release, TargetPath};
use tuf::{Digest, TrustedState};

/// One release that the metadata lists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offer {
    pub(crate) update: UpdateId,
    pub(crate) target: TargetPath,
    pub(crate) digest: Digest,
    pub(crate) length: u64,
    pub(crate) release: Release,
    /// In the mirror, whole and verified.
    pub(crate) mirrored: bool,
}

/// The newest releases, per component; several of one version may fit different hardware.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    pub(crate) newest: BTreeMap<Component, Vec<Offer>>,
}

impl Catalog {
    /// Reads the trusted targets; what is not a release of ours is passed over. Withdrawn ones are not offered.
    pub(crate) fn read(state: &TrustedState, mirrored: impl Fn(&Digest, u64) -> bool) -> Self {
        let mut newest: BTreeMap<Component, Vec<Offer>> = BTreeMap::new();
        for (name, target) in state.all_targets() {
            let Some(offer) = offer(name, target, &mirrored) else {
                continue;
            };
            let held = newest.entry(offer.release.component.clone()).or_default();
            match held
                .first()
                .map(|first| first.release.version.cmp(&offer.release.version))
            {
                Some(std::cmp::Ordering::Greater) => {}
                Some(std::cmp::Ordering::Equal) => held.push(offer),
                _ => *held = vec![offer],
            }
        }
        Self { newest }
    }

    pub(crate) fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.newest.values().flatten()
    }

    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<&Offer> {
        self.offers().find(|offer| offer.digest == *digest)
    }
}

fn offer(name: &str, target: &tuf::TargetFile, mirrored: &impl Fn(&Digest, u64) -> bool) -> Option<Offer> {
    let release = Release::from_custom(target.custom.as_ref()?).ok()?;
    let (path, digest) = (name.parse::<TargetPath>().ok()?, target.sha256()?);
    let right = path.component() == &release.component && path.version() == &release.version;
    if !right || release.withdrawn.is_some() {
        return None;
    }
    Some(Offer {
        update: release.update_id.parse().ok()?,
        target: path,
        digest,
        length: target.length,
        mirrored: mirrored(&digest, target.length),
        release,
    })
}

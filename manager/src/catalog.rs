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

/// The newest releases, per component: the newest one for each processor and hardware, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    pub(crate) newest: BTreeMap<Component, Vec<Offer>>,
}

impl Catalog {
    /// Reads the trusted targets; what is not a release of ours is passed over. Withdrawn ones are not offered.
    pub(crate) fn read(state: &TrustedState, mirrored: impl Fn(&Digest, u64) -> bool) -> Self {
        let offers = state
            .all_targets()
            .filter_map(|(name, target)| offer(name, target, &mirrored));
        Self::of(offers)
    }

    fn of(offers: impl Iterator<Item = Offer>) -> Self {
        let mut newest: BTreeMap<Component, Vec<Offer>> = BTreeMap::new();
        for offer in offers {
            let held = newest.entry(offer.release.component.clone()).or_default();
            match held
                .iter_mut()
                .find(|held| same_hardware(&held.release, &offer.release))
            {
                Some(held) if held.release.version >= offer.release.version => {}
                Some(held) => *held = offer,
                None => held.push(offer),
            }
        }
        for held in newest.values_mut() {
            held.sort_by(|a, b| b.release.version.cmp(&a.release.version));
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

/// Whether two releases are for the same devices.
fn same_hardware(a: &Release, b: &Release) -> bool {
    a.arch == b.arch && a.hardware == b.hardware
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

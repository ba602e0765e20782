//! What the verified metadata offers: the newest release of each component, and whether it is in the mirror.

use std::collections::BTreeMap;

use protocol::UpdateId;
use release::{Component, Release, TargetPath};
use tuf::{Digest, TrustedState};

use crate::limits;

/// Updates that are not offered any more, and why.
pub(crate) type Stopped = BTreeMap<UpdateId, String>;

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

/// What is listed: the newest release of each component for each processor and hardware, and some before it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    /// Per component, newest first.
    pub(crate) newest: BTreeMap<Component, Vec<Offer>>,
    /// The [`limits::OLDER_RELEASES`] before each of those, newest first: see [`Self::fallbacks`].
    older: BTreeMap<Component, Vec<Offer>>,
}

impl Catalog {
    /// Reads the trusted targets; what is not a release of ours is passed over. Withdrawn ones are not offered.
    pub(crate) fn read(state: &TrustedState, mirrored: impl Fn(&Digest, u64) -> bool) -> Self {
        let offers = state
            .all_targets()
            .filter_map(|(name, target)| offer(name, target, &mirrored));
        Self::of(offers)
    }

    pub(crate) fn of(offers: impl Iterator<Item = Offer>) -> Self {
        let mut offers: Vec<Offer> = offers.collect();
        offers.sort_by(|a, b| b.release.version.cmp(&a.release.version));
        let mut catalog = Self::default();
        for offer in offers {
            let newest = catalog.newest.entry(offer.release.component.clone()).or_default();
            match newest.iter().find(|held| same_hardware(held, &offer)) {
                None => newest.push(offer),
                // The same version for the same devices twice: the first one counts.
                Some(held) if held.release.version == offer.release.version => {}
                Some(_) => {
                    let older = catalog.older.entry(offer.release.component.clone()).or_default();
                    let before = older.iter().filter(|held| same_hardware(held, &offer)).count();
                    if before < limits::OLDER_RELEASES {
                        older.push(offer);
                    }
                }
            }
        }
        catalog
    }

    /// The newest ones.
    pub(crate) fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.newest.values().flatten()
    }

    /// The newest ones and those before them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Offer> {
        self.offers().chain(self.older.values().flatten())
    }

    /// All of them, to be changed.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Offer> {
        self.newest.values_mut().chain(self.older.values_mut()).flatten()
    }

    /// For each newest release of a component that is stopped the newest one before it that is not, for the same
    /// processor and hardware: what a device gets that runs nothing of the component.
    pub(crate) fn fallbacks_of<'a>(
        &'a self,
        component: &Component,
        stopped: &'a Stopped,
    ) -> impl Iterator<Item = &'a Offer> {
        let of = |releases: &'a BTreeMap<Component, Vec<Offer>>| {
            releases.get(component).map(Vec::as_slice).unwrap_or_default()
        };
        let (newest, older) = (of(&self.newest), of(&self.older));
        let held = newest.iter().filter(|offer| stopped.contains_key(&offer.update));
        held.filter_map(|newest| {
            older
                .iter()
                .find(|offer| same_hardware(offer, newest) && !stopped.contains_key(&offer.update))
        })
    }

    /// [`Self::fallbacks_of`] all components.
    pub(crate) fn fallbacks<'a>(&'a self, stopped: &'a Stopped) -> impl Iterator<Item = &'a Offer> {
        self.newest
            .keys()
            .flat_map(|component| self.fallbacks_of(component, stopped))
    }

    /// What should be in the mirror: the newest ones, and the fallbacks.
    pub(crate) fn sought<'a>(&'a self, stopped: &'a Stopped) -> impl Iterator<Item = &'a Offer> {
        self.offers().chain(self.fallbacks(stopped))
    }

    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<&Offer> {
        self.all().find(|offer| offer.digest == *digest)
    }
}

/// Whether two releases are for the same devices.
fn same_hardware(a: &Offer, b: &Offer) -> bool {
    let (a, b) = (&a.release, &b.release);
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

//! What the repository offers, as its verified metadata says it.

use release::{Component, Release, Version};
use serde::Serialize;
use tuf::{Digest, TargetFile, Targets, TrustedState};

/// One release in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its target's path.
    pub path: String,
    /// Bytes of the target.
    pub length: u64,
    /// SHA-256 of the target.
    pub digest: Option<Digest>,
    /// What is signed about it.
    pub release: Release,
}

/// All releases, by component and version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    releases: Vec<Listed>,
}

impl Catalogue {
    /// Reads it from verified metadata; targets of other systems are left out.
    #[must_use]
    pub fn of(state: &TrustedState) -> Self {
        Self::of_targets(state.all_targets())
    }

    /// Reads it from one list alone.
    #[must_use]
    pub fn of_list(list: &Targets) -> Self {
        Self::of_targets(list.targets.iter().map(|(path, target)| (path.as_str(), target)))
    }

    fn of_targets<'a>(targets: impl Iterator<Item = (&'a str, &'a TargetFile)>) -> Self {
        let mut releases: Vec<Listed> = targets
            .filter_map(|(path, target)| {
                let release = Release::from_custom(target.custom.as_ref()?).ok()?;
                Some(Listed {
                    path: path.to_owned(),
                    length: target.length,
                    digest: target.sha256(),
                    release,
                })
            })
            .collect();
        releases.sort_by(|a, b| {
            let (a, b) = (&a.release, &b.release);
            (&a.component, &a.version, a.counter).cmp(&(&b.component, &b.version, b.counter))
        });
        Self { releases }
    }

    /// Every release, by component and version.
    #[must_use]
    pub fn releases(&self) -> &[Listed] {
        &self.releases
    }

    /// The components, each once.
    #[must_use]
    pub fn components(&self) -> Vec<Component> {
        let mut names: Vec<_> = self
            .releases
            .iter()
            .map(|listed| listed.release.component.clone())
            .collect();
        names.dedup();
        names
    }

    /// The releases of a component, oldest version first.
    pub fn of_component<'a>(&'a self, component: &Component) -> impl DoubleEndedIterator<Item = &'a Listed> {
        // Sorted by component: they stand together.
        let from = self
            .releases
            .partition_point(|listed| listed.release.component < *component);
        let to = self
            .releases
            .partition_point(|listed| listed.release.component <= *component);
        self.releases.get(from..to).unwrap_or_default().iter()
    }

    /// The release that devices are to run: the highest counter that is not withdrawn.
    #[must_use]
    pub fn current(&self, component: &Component) -> Option<&Listed> {
        self.of_component(component)
            .filter(|listed| listed.release.withdrawn.is_none())
            .max_by_key(|listed| listed.release.counter)
    }

    /// The newest version there ever was, withdrawn ones included: a number is used once.
    #[must_use]
    pub fn newest(&self, component: &Component) -> Option<&Listed> {
        self.of_component(component)
            .max_by(|a, b| a.release.version.cmp(&b.release.version))
    }

    /// One release.
    #[must_use]
    pub fn find(&self, component: &Component, version: &Version) -> Option<&Listed> {
        self.of_component(component)
            .find(|listed| listed.release.version == *version)
    }

    /// A release of the component with exactly these bytes.
    #[must_use]
    pub fn same_bytes(&self, component: &Component, digest: &Digest) -> Option<&Listed> {
        self.of_component(component)
            .find(|listed| listed.digest.as_ref() == Some(digest))
    }

    /// The highest release counter of a component so far; 0 if there is none.
    #[must_use]
    pub fn counter(&self, component: &Component) -> u64 {
        self.of_component(component)
            .map(|listed| listed.release.counter)
            .max()
            .unwrap_or(0)
    }
}

//! The way back from damaged trusted state: the author's root again, and nothing older than is remembered.

use std::path::Path;

use anyhow::Context;
use durable::{TrustError, TrustStore};

use crate::generation::GenerationStore;
use crate::layout::Layout;
use crate::limits::MAX_ROOT;
use crate::world::World;

/// Anchors the device again. The agent must not run. With `forget` also where no floor can be read any
/// more: then the counters of what is installed become the floors.
///
/// # Errors
/// The root is not acceptable; the floors are damaged too and `forget` is not given; the disk.
pub fn repair(layout: &Layout, world: &World, root: &Path, forget: bool) -> anyhow::Result<()> {
    let root = durable::read_limited(root, MAX_ROOT)?;
    let recovered = TrustStore::recover(layout.trust(), &root, Some(crate::BUILT));
    let (store, mut state) = match recovered {
        Ok(recovered) => recovered,
        Err(TrustError::StateDamaged { .. } | TrustError::Missing(_)) if forget => {
            world.files.remove_tree(&layout.trust())?;
            let store =
                TrustStore::create_on(world.files.clone(), layout.trust(), &root, Some(crate::BUILT))?;
            let state = store.load()?;
            (store, state)
        }
        Err(error @ (TrustError::StateDamaged { .. } | TrustError::Missing(_))) => {
            let error = anyhow::Error::new(error);
            return Err(error.context(
                "the copy of the floors cannot be read either; if you know that nobody can show this device \
                 old metadata, add --danger-forget-floors",
            ));
        }
        Err(error) => return Err(error).context("cannot repair the trusted state"),
    };
    let (generation, _) = GenerationStore::open(&world.files, layout, Default::default)?;
    for (component, slot) in generation.get().components {
        if let Some(current) = slot.current {
            state.raise_release_floor(component.as_str(), current.counter);
        }
    }
    store.save(&state)?;
    Ok(())
}

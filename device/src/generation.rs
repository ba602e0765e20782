//! The generation: what each component runs and where its install life stands, as one durable record.
//!
//! Pointer and journal are the same file, so that they never disagree. A copy is written whenever nothing
//! is under way; if the record is damaged, the copy says what ran before the last update, and what the
//! release folders say is the last resort: a device that boots runs something that was committed.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use durable::{Files, Record, RecordError};
use release::Component;
use serde::{Deserialize, Serialize};
use tuf::Digest;

use crate::layout::Layout;
use crate::machine::Slot;
use crate::sync::Shared;

/// What is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Rises with every change.
    pub number: u64,
    /// Per component.
    pub components: BTreeMap<Component, Slot>,
}

/// The one writer of the generation.
#[derive(Debug)]
pub struct GenerationStore {
    record: Record<Generation>,
    copy: Record<Generation>,
    held: Shared<Generation>,
    /// Whether what is held is on disk.
    on_disk: Shared<bool>,
    /// Held while something is written: who only reads does not wait for the disk.
    writing: Mutex<()>,
}

impl GenerationStore {
    /// Reads the generation; says in the second value what was wrong with it, if anything.
    ///
    /// # Errors
    /// Those of the disk; a record of a newer agent. Damage is no error: `rebuild` then says what is known
    /// otherwise.
    pub fn open(
        files: &Files,
        layout: &Layout,
        rebuild: impl FnOnce() -> Generation,
    ) -> Result<(Self, Option<String>), RecordError> {
        let at = |name: &str| Record::on(files.clone(), layout.state().join(name), "generation", 1);
        let (record, copy) = (at("generation.rec"), at("generation.copy.rec"));
        let (generation, trouble) = match (record.load(), copy.load()) {
            (Ok(Some(found)), _) => (found, None),
            (Ok(None), Ok(None)) => (Generation::default(), None),
            (Err(RecordError::Damaged { .. }) | Ok(None), Ok(Some(older))) => (
                older,
                Some("the record of what is installed was damaged; its copy was used".to_owned()),
            ),
            (Err(RecordError::Damaged { .. }) | Ok(None), Err(RecordError::Damaged { .. }) | Ok(None)) => (
                rebuild(),
                Some(
                    "the record of what is installed was damaged; it was rebuilt from the release folders"
                        .into(),
                ),
            ),
            (Err(other), _) | (_, Err(other)) => return Err(other),
        };
        let store = Self {
            record,
            copy,
            held: Shared::new(generation),
            on_disk: Shared::new(trouble.is_none()),
            writing: Mutex::default(),
        };
        if trouble.is_some()
            && let Err(error) = store.save()
        {
            tracing::warn!(target: "drover", error = %crate::trust::chain(&error), "the mended record cannot be written yet");
        }
        Ok((store, trouble))
    }

    /// What it says now.
    #[must_use]
    pub fn get(&self) -> Generation {
        self.held.get()
    }

    /// What it says of one component.
    #[must_use]
    pub fn slot(&self, component: &Component) -> Slot {
        self.held
            .with(|held| held.components.get(component).cloned())
            .unwrap_or_default()
    }

    /// Changes one component's slot, durable on return. With `insist` the change holds in memory even if it
    /// cannot be written, and goes to disk with the next change that can.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, component: &Component, slot: &Slot, insist: bool) -> Result<(), RecordError> {
        let _alone = self.alone();
        let mut next = self.get();
        next.number = next.number.saturating_add(1);
        next.components.insert(component.clone(), slot.clone());
        let saved = self.record.save(&next);
        // What failed may be there nevertheless: then it is not known what a restart finds.
        self.on_disk.set(saved.is_ok());
        if saved.is_ok() || insist {
            self.held.set(next);
        }
        saved
    }

    /// Whether a restart would find what [`Self::get`] says: what only an older state needs may be removed.
    #[must_use]
    pub fn is_on_disk(&self) -> bool {
        self.on_disk.get()
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes both records as they should be now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn save(&self) -> Result<(), RecordError> {
        let _alone = self.alone();
        let now = self.get();
        self.record.save(&now)?;
        self.on_disk.set(true);
        self.renew_copy(&now)
    }

    /// Renews the copy if nothing is under way.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn save_copy(&self) -> Result<(), RecordError> {
        let _alone = self.alone();
        self.renew_copy(&self.get())
    }

    fn renew_copy(&self, now: &Generation) -> Result<(), RecordError> {
        if now.components.values().all(Slot::is_at_rest) {
            self.copy.save(now)?;
        }
        Ok(())
    }

    /// Every release that some component still needs.
    #[must_use]
    pub fn needed(&self) -> HashSet<Digest> {
        self.held
            .with(|held| held.components.values().flat_map(Slot::needed).collect())
    }
}

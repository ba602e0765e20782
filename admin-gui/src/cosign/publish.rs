//! A draft begins at one desk, and becomes visible from one when enough keys have signed it.

use std::path::Path;

use protocol::UpdateId;
use release::{Component, Release, Version};
use tuf::editor::TargetsEditor;

use crate::cosign::{Basis, CosignError, ListDraft, What};
use crate::desk::{Desk, Unlocked, View};
use crate::draft::Draft;
use crate::limits::TARGETS_SECONDS;
use crate::maintain::Entry;
use crate::progress::{Progress, Sink};
use crate::publish::{PublishError, Published, Run, target_of};
use crate::record::Action;
use crate::roles;
use crate::stop::Stop;
use crate::visible::{Change, VisibleError};

impl Unlocked {
    /// Begins the list that releases a draft's bytes, signed by this desk's keys, as a file; nothing is uploaded.
    ///
    /// # Errors
    /// [`CosignError`]; no file is left then.
    pub async fn begin_release(&self, draft: &Draft, out: &Path) -> Result<ListDraft, CosignError> {
        let desk = &self.desk;
        let view = desk.look().await?;
        let report = desk.judged(draft, &view);
        let Some(manifest) = draft.manifest.as_ref().filter(|_| report.passes()) else {
            return Err(PublishError::Preflight(Box::new(report)).into());
        };
        if draft.is_stale() {
            return Err(PublishError::Changed(draft.file.display().to_string()).into());
        }
        let update = desk.new_update().map_err(PublishError::from)?.to_string();
        let now = desk.senses.now();
        let release = manifest.release(update, report.counter, draft.form, draft.file_name.clone(), now);
        let (path, target) = target_of(draft, &release)?;
        self.begin(&view, out, |editor| editor.add_target(&path, &target))
    }

    /// Begins the list that takes a release back.
    ///
    /// # Errors
    /// As [`Self::begin_release`].
    pub async fn begin_withdrawal(
        &self,
        component: &Component,
        version: &Version,
        reason: &str,
        out: &Path,
    ) -> Result<ListDraft, CosignError> {
        let view = self.desk.look().await?;
        let (path, target) = self.desk.withdrawal(&view, component, version, reason)?;
        self.begin(&view, out, |editor| editor.add_target(&path, &target))
    }

    /// Begins the list that changes nothing but its expiry; works on expired metadata too.
    ///
    /// # Errors
    /// As [`Self::begin_release`].
    pub async fn begin_renewal(&self, out: &Path) -> Result<ListDraft, CosignError> {
        let view = self.desk.look_even_if_expired().await?;
        self.begin(&view, out, |editor| editor)
    }

    fn begin(
        &self,
        view: &View,
        out: &Path,
        change: impl FnOnce(TargetsEditor) -> TargetsEditor,
    ) -> Result<ListDraft, CosignError> {
        if out.exists() {
            return Err(CosignError::Exists(out.to_owned()));
        }
        let desk = &self.desk;
        let (now, base) = (
            desk.senses.now(),
            desk.base_targets(view).map_err(PublishError::from)?,
        );
        let expires = now.plus_seconds(TARGETS_SECONDS);
        let signed = roles::begun_targets(&base, &self.signers(), expires, change)?;
        // By the rules of those who are to sign it.
        let draft = ListDraft::of(out, &signed.bytes(), Basis::of(desk, view)?, now)?;
        draft.keep()?;
        Ok(draft)
    }
}

impl ListDraft {
    /// Writes it to its file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn keep(&self) -> Result<(), CosignError> {
        durable::replace(&self.path, self.bytes(), 0o644).map_err(|source| CosignError::File {
            path: self.path.clone(),
            source,
        })
    }
}

impl Desk {
    /// Reads a draft against what the repository serves, or, where that has expired, what was verified.
    ///
    /// # Errors
    /// [`CosignError`].
    pub async fn read_list(&self, path: &Path) -> Result<(View, ListDraft), CosignError> {
        let view = self.look_even_if_expired().await?;
        let draft = ListDraft::read(path, Basis::of(self, &view)?, self.senses.now())?;
        Ok((view, draft))
    }

    /// Publishes a draft that has all its signatures; no key is needed. `file` has the bytes of a release.
    ///
    /// # Errors
    /// [`CosignError`]; nothing is visible then. What is missing is found before anything is uploaded.
    pub async fn publish_list(
        &self,
        path: &Path,
        file: Option<&Draft>,
        sink: &Sink,
    ) -> Result<Published, CosignError> {
        let (view, list) = self.read_list(path).await?;
        list.check_finished()?;
        let signer = list
            .first_signer()
            .ok_or_else(|| CosignError::Unsigned(list.path.clone()))?;
        let change = Change {
            expects: view.targets_version(),
            roots: self.pending_roots(&view).map_err(PublishError::from)?,
            targets: Some(list.role_file()?),
            lists: Vec::new(),
            target: list
                .target()
                .and_then(|(path, target)| Some((path.to_owned(), target.sha256()?))),
        };
        let done = match (&list.what, file) {
            (What::Release { release, target, .. }, Some(file)) => {
                let wanted = target.sha256().filter(|digest| *digest != file.digest);
                if let Some(wanted) = wanted {
                    return Err(CosignError::OtherFile {
                        file: file.source.clone(),
                        found: file.digest,
                        wanted,
                    });
                }
                self.send_release(release, file, &change, signer, sink).await
            }
            (What::Release { release, .. }, None) => {
                return Err(CosignError::NoFile {
                    release: format!("{} {}", release.component, release.version),
                    path: list.path,
                });
            }
            (_, Some(_)) => return Err(CosignError::NeedsNoFile(list.path)),
            (what, None) => self.send_list(what, &change, signer, sink).await,
        };
        match done {
            // The list that was faster says that the draft is stale, and what to do.
            Err(error @ PublishError::Visible(VisibleError::Conflict(_))) => {
                self.read_list(path).await?;
                Err(error.into())
            }
            other => Ok(other?),
        }
    }

    async fn send_release(
        &self,
        release: &Release,
        file: &Draft,
        change: &Change,
        signer: tuf::KeyId,
        sink: &Sink,
    ) -> Result<Published, PublishError> {
        let update = release.update_id.parse().unwrap_or_else(|_| nobodys_update());
        let named = (release.component.clone(), release.version.clone());
        let stop = Stop::default();
        let mut run = Run::new(self, signer, (sink, &stop), update, named);
        run.signed_elsewhere();
        let sent = run.send(file, release, change).await;
        run.close(file, sent)
    }

    async fn send_list(
        &self,
        what: &What,
        change: &Change,
        signer: tuf::KeyId,
        sink: &Sink,
    ) -> Result<Published, PublishError> {
        let (release, entry, event) = match what {
            What::Withdrawal { release, withdrawn } => {
                let entry = Entry {
                    action: Action::Withdraw,
                    subject: Some((release.component.clone(), release.version.clone())),
                };
                let event = self.withdrawn(release, &withdrawn.reason);
                (Some((**release).clone()), entry, Some(event))
            }
            _ => {
                let entry = Entry {
                    action: Action::Renew,
                    subject: None,
                };
                (None, entry, None)
            }
        };
        let events: Vec<_> = event.into_iter().collect();
        for event in &events {
            sink(&Progress::Step(Box::new(event.clone())));
        }
        let mut warnings = Vec::new();
        let outcome = async {
            let receipt = self.make_visible(change, None, &events).await?;
            self.confirm(change, &receipt, &mut warnings).await?;
            Ok(receipt)
        };
        let outcome = outcome.await.map(|receipt| Published {
            update: None,
            release,
            receipt,
            events,
            sent: 0,
            warnings,
        });
        self.note(&entry, signer, outcome)
    }
}

/// A description without a valid id has not come through `Release::from_custom`.
fn nobodys_update() -> UpdateId {
    UpdateId::from_random([0; 16])
}

//! From the click to the repository's receipt: preflight again, sign, upload, publish as a compare-and-swap.
//!
//! Nothing is visible before the last request, and that one is all or nothing: whatever is interrupted before it
//! leaves bytes at the repository that the next try goes on from. An answer that gets lost is looked up.

use protocol::author::Receipt;
use protocol::messages::{self, Message};
use protocol::{Event, Step, UpdateId};
use release::{Component, Release, Version};
use serde::Serialize;
use tuf::KeyId;
use tuf::schema::{Hashes, TargetFile};

use crate::catalogue::Catalogue;
use crate::desk::{Desk, LookError, Unlocked, View};
use crate::draft::{Draft, chain};
use crate::limits::{CONFLICT_TRIES, TARGETS_SECONDS};
use crate::preflight::{Preflight, preflight};
use crate::progress::{Progress, Sink};
use crate::record::{self, Action, UploadRecord};
use crate::roles::{self, RolesError};
use crate::stop::{Stop, Stopped};
use crate::upload::{Cargo, UploadError, upload};
use crate::visible::{Change, VisibleError};

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The checks say no; the report says which.
    #[error("not published: {}", .0.refusal().map_or("the release is not complete", |check| check.text.as_str()))]
    Preflight(Box<Preflight>),
    /// The file is not what was checked any more.
    #[error("{0} changed after it was checked: publish it again")]
    Changed(String),
    /// The repository's state is not known.
    #[error(transparent)]
    Look(#[from] LookError),
    /// Signing.
    #[error("signing failed: nothing was published")]
    Sign(#[from] RolesError),
    /// The description cannot be signed.
    #[error("the release's description is not valid: nothing was published")]
    Describe(#[from] release::ReleaseError),
    /// The upload.
    #[error("the upload did not end: nothing was published, the next try goes on where it stopped")]
    Upload(#[from] UploadError),
    /// The last request.
    #[error(transparent)]
    Visible(#[from] VisibleError),
    /// No such release to withdraw.
    #[error("{0} is not in the repository: see `admin-gui status`")]
    NoSuchRelease(String),
    /// The release of somebody else.
    #[error("{0} is not on this desk's own list: who published it can withdraw it")]
    NotOurs(String),
    /// Nobody delegates to this desk's team any more.
    #[error("the site has no such team any more: ask the author")]
    NoTeam,
    /// Already withdrawn.
    #[error("{0} is withdrawn already")]
    AlreadyWithdrawn(String),
    /// A reason that does not fit.
    #[error("the reason has {0} characters: 1 to {max}", max = protocol::limits::MAX_REASON)]
    Reason(usize),
    /// A file of this desk.
    #[error("cannot use this desk's files")]
    Disk(#[from] durable::Error),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Random(#[from] getrandom::Error),
    /// A person ended it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl PublishError {
    /// Somebody else published in between, or the cable broke and the repository has not heard of it.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Visible(VisibleError::Conflict(_)) => true,
            Self::Visible(VisibleError::Refused(error)) => error.is_cut(),
            _ => false,
        }
    }
}

/// A release that devices can now get, or another change that is visible.
#[derive(Debug, Clone, Serialize)]
pub struct Published {
    /// The update; none for changes without a release.
    pub update: Option<UpdateId>,
    /// The release as it is signed; none for a renewal.
    pub release: Option<Release>,
    /// The repository's receipt.
    pub receipt: Receipt,
    /// The author's and the repository's steps.
    pub events: Vec<Event>,
    /// Bytes that had to be sent.
    pub sent: u64,
    /// What went wrong afterwards and changes nothing for the devices.
    pub warnings: Vec<String>,
}

impl Unlocked {
    /// Publishes a draft. The call is the click: the key is open, the clock of the update starts here.
    ///
    /// # Errors
    /// [`PublishError`]; nothing is visible then, and the try is in the record of uploads.
    pub async fn publish(&self, draft: &Draft, sink: &Sink) -> Result<Published, PublishError> {
        self.publish_until(draft, sink, &Stop::default()).await
    }

    /// The same, until a person ends it: up to the last request, that leaves nothing visible.
    ///
    /// # Errors
    /// As [`Self::publish`]; [`PublishError::Stopped`].
    pub async fn publish_until(
        &self,
        draft: &Draft,
        sink: &Sink,
        stop: &Stop,
    ) -> Result<Published, PublishError> {
        let (Some(component), Some(version)) = (draft.component.clone(), draft.version.clone()) else {
            return Err(PublishError::Preflight(Box::new(preflight(
                draft,
                &Catalogue::default(),
            ))));
        };
        let (update, named) = (self.desk.new_update()?, (component, version));
        let mut run = Run::new(&self.desk, self.signer(), (sink, stop), update, named);
        let outcome = run.with_retries(self, draft).await;
        run.close(draft, outcome)
    }
}

impl Unlocked {
    fn sign(&self, view: &View, draft: &Draft, release: &Release) -> Result<Change, PublishError> {
        let desk = &self.desk;
        let (path, target) = target_of(draft, release)?;
        let expires = desk.senses.now().plus_seconds(TARGETS_SECONDS);
        let base = desk.base_targets(view)?;
        let authority = desk.authority(&view.state).ok_or(PublishError::NoTeam)?;
        let targets = roles::next_targets(&base, &self.signers(), expires, &authority, |editor| {
            editor.add_target(&path, &target)
        })?;
        Ok(Change {
            expects: view.targets_version(),
            roots: desk.pending_roots(view)?,
            targets: Some(targets),
            lists: Vec::new(),
            target: Some((path, draft.digest)),
        })
    }
}

/// The target of a release: its path, and what is signed about it.
pub(crate) fn target_of(draft: &Draft, release: &Release) -> Result<(String, TargetFile), PublishError> {
    let path = release.target_path().map_err(release::ReleaseError::from)?;
    let target = TargetFile {
        length: draft.length,
        hashes: Hashes::sha256(draft.digest),
        custom: Some(release.to_custom()?),
    };
    Ok((path.as_str().to_owned(), target))
}

/// A publish while it runs.
pub(crate) struct Run<'a> {
    desk: &'a Desk,
    /// The key that stands in the record.
    signer: KeyId,
    sink: &'a Sink,
    stop: &'a Stop,
    update: UpdateId,
    component: Component,
    version: Version,
    steps: Vec<Event>,
    sent: u64,
}

impl<'a> Run<'a> {
    /// Begins with the click.
    pub(crate) fn new(
        desk: &'a Desk,
        signer: KeyId,
        (sink, stop): (&'a Sink, &'a Stop),
        update: UpdateId,
        (component, version): (Component, Version),
    ) -> Self {
        let mut run = Self {
            desk,
            signer,
            sink,
            stop,
            update,
            component,
            version,
            steps: Vec::new(),
            sent: 0,
        };
        run.step(Step::Clicked);
        run
    }

    /// What was checked and signed before, on the machines of those who have the keys.
    pub(crate) fn signed_elsewhere(&mut self) {
        self.step(Step::Preflighted);
        self.step(Step::Signed);
    }

    /// The end, good or not: it is told, and written into the record.
    pub(crate) fn close(
        &self,
        draft: &Draft,
        outcome: Result<Published, PublishError>,
    ) -> Result<Published, PublishError> {
        match outcome {
            Ok(published) => Ok(self.settle(draft, published)),
            Err(error) => {
                self.lament(draft, &error);
                Err(error)
            }
        }
    }

    fn step(&mut self, step: Step) {
        let desk = self.desk;
        let event = Event {
            update: self.update,
            actor: desk.author.clone(),
            step,
            component: self.component.clone(),
            version: self.version.clone(),
            device: None,
            at: (desk.senses.stamp)(),
            bytes: None,
            total: None,
            reason: None,
        };
        (self.sink)(&Progress::Step(Box::new(event.clone())));
        self.steps.push(event);
    }

    fn say(&self, message: &Message, draft: &Draft) {
        (self.sink)(&Progress::message(message, &draft.file_name));
    }

    fn has(&self, step: Step) -> bool {
        self.steps.iter().any(|event| event.step == step)
    }

    /// Whoever else published in between, the click stays the same.
    async fn with_retries(&mut self, unlocked: &Unlocked, draft: &Draft) -> Result<Published, PublishError> {
        let mut tries = 0;
        loop {
            self.steps.truncate(1);
            tries += 1;
            match self.once(unlocked, draft).await {
                Err(error) if error.is_worth_another_try() && tries < CONFLICT_TRIES => {
                    // It is known that nothing became visible.
                    self.stop.reopen();
                    (self.sink)(&Progress::Trouble(chain(&error)));
                }
                other => return other,
            }
        }
    }

    async fn once(&mut self, unlocked: &Unlocked, draft: &Draft) -> Result<Published, PublishError> {
        let desk = self.desk;
        let view = self.stop.or(desk.look()).await??;
        let report = desk.judged(draft, &view);
        let Some(manifest) = draft.manifest.as_ref().filter(|_| report.passes()) else {
            return Err(PublishError::Preflight(Box::new(report)));
        };
        if draft.is_stale() {
            return Err(PublishError::Changed(draft.file.display().to_string()));
        }
        self.step(Step::Preflighted);
        self.say(&messages::CHOSEN, draft);

        let (update, now) = (self.update.to_string(), desk.senses.now());
        let release = manifest.release(update, report.counter, draft.form, draft.file_name.clone(), now);
        let change = unlocked.sign(&view, draft, &release)?;
        self.step(Step::Signed);
        self.say(&messages::SIGNED, draft);
        self.send(draft, &release, &change).await
    }

    /// The bytes, then the one request that makes them visible.
    pub(crate) async fn send(
        &mut self,
        draft: &Draft,
        release: &Release,
        change: &Change,
    ) -> Result<Published, PublishError> {
        let desk = self.desk;
        let cargo = Cargo {
            path: &draft.file,
            digest: draft.digest,
            length: draft.length,
        };
        let uploading = upload(&desk.repository, &cargo, desk.patience, self.sink);
        self.sent += self.stop.or(uploading).await??;
        self.step(Step::Uploaded);
        self.stop.last()?;

        let receipt = desk.make_visible(change, Some(self.update), &self.steps).await?;
        self.step(Step::Published);
        self.say(&messages::UPLOADED, draft);
        let mut warnings = Vec::new();
        desk.confirm(change, &receipt, &mut warnings).await?;
        let events = self.steps.iter().chain(&receipt.events).cloned().collect();
        Ok(Published {
            update: Some(self.update),
            release: Some(release.clone()),
            receipt,
            events,
            sent: self.sent,
            warnings,
        })
    }

    /// What is done once the release is out; it cannot fail any more, only warn.
    fn settle(&self, draft: &Draft, mut published: Published) -> Published {
        let Published { receipt, events, .. } = &published;
        let record = self.record(draft, published.release.as_ref(), None, Some(receipt), events);
        if let Err(error) = record::append(&self.desk.folder.records(), &record) {
            published.warnings.push(format!(
                "the record of uploads was not written: {}",
                chain(&error)
            ));
        }
        // A packed folder is packed again when it is needed; the author's own file is never touched.
        if draft.is_packed()
            && let Err(error) = durable::remove_file(&draft.file)
        {
            published
                .warnings
                .push(format!("the packed draft is still there: {}", chain(&error)));
        }
        published
    }

    /// What is done when it failed: the document's message, and the record.
    fn lament(&self, draft: &Draft, error: &PublishError) {
        if self.has(Step::Signed) {
            self.say(&messages::UPLOAD_FAILED, draft);
        } else if self.has(Step::Preflighted) {
            self.say(&messages::SIGN_FAILED, draft);
        }
        let record = self.record(draft, None, Some(chain(error)), None, &self.steps);
        if let Err(error) = record::append(&self.desk.folder.records(), &record) {
            (self.sink)(&Progress::Trouble(format!(
                "the record of uploads was not written: {}",
                chain(&error)
            )));
        }
    }

    fn record(
        &self,
        draft: &Draft,
        release: Option<&Release>,
        failure: Option<String>,
        receipt: Option<&Receipt>,
        events: &[Event],
    ) -> UploadRecord {
        let desk = self.desk;
        let now = desk.senses.now();
        UploadRecord {
            action: Action::Publish,
            source: Some(draft.source.clone()),
            release_time: release.map_or(now, |release| release.released),
            application_name: Some(self.component.clone()),
            version_number: Some(self.version.clone()),
            upload_time: receipt.map_or(now, |receipt| receipt.at),
            update: Some(self.update),
            digest: Some(draft.digest),
            size: Some(draft.length),
            signer: self.signer,
            author: desk.author.clone(),
            failure,
            receipt: receipt.cloned(),
            events: events.to_vec(),
        }
    }
}

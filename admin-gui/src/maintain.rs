//! Changes without a new release: withdraw one, sign roles again before they expire, hand a restored repository
//! what it has forgotten.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::author::{Receipt, Recover, RoleFile};
use protocol::{Event, Step, UpdateId};
use release::{Component, Form, Release, Version};
use tuf::{Digest, KeyId, Role, TargetFile, UnixTime};

use crate::ceremony::mark_withdrawn;
use crate::desk::{Desk, LookError, Unlocked, View};
use crate::draft::{Draft, Options, chain};
use crate::limits::{CONFLICT_TRIES, ROOT_SECONDS, TARGETS_SECONDS};
use crate::passphrase::Passphrase;
use crate::progress::{Progress, Sink, nobody};
use crate::publish::{PublishError, Published};
use crate::record::{self, Action, UploadRecord};
use crate::repository::ClientError;
use crate::roles::{self, RolesError};
use crate::signing::{AuthorKey, KeyError};
use crate::upload::{Cargo, UploadError, upload};
use crate::visible::Change;

/// What to sign again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Root and targets.
    All,
    /// The root only.
    Root,
    /// The targets role only.
    Targets,
}

/// Why roles were not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The root key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The rest is like publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Why a repository could not be helped.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// What this desk has verified cannot be read.
    #[error("cannot read what this desk has verified so far")]
    Trust(#[from] durable::TrustError),
    /// A file of this desk.
    #[error("cannot use this desk's files")]
    Disk(#[from] durable::Error),
    /// This desk has seen nothing.
    #[error("this desk has never published and cannot hand anything back")]
    Nothing,
    /// The repository.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An upload.
    #[error(transparent)]
    Upload(#[from] UploadError),
}

/// What was handed back.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HandedBack {
    /// The targets version that the repository serves now.
    pub targets: u64,
    /// Files that were uploaded again.
    pub files: Vec<PathBuf>,
    /// Files that it still lacks and this desk does not have: a gateway's mirror may.
    pub missing: Vec<Digest>,
}

impl Unlocked {
    /// Withdraws a release: it is offered to nobody new and dropped where it is only staged.
    ///
    /// # Errors
    /// [`PublishError`]; nothing changed then.
    pub async fn withdraw(
        &self,
        component: &Component,
        version: &Version,
        reason: &str,
        sink: &Sink,
    ) -> Result<Published, PublishError> {
        check_reason(reason)?;
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            match self.withdraw_once(component, version, reason, sink).await {
                Err(error) if error.is_worth_another_try() && tries < CONFLICT_TRIES => {}
                other => break other,
            }
        };
        let entry = Entry {
            action: Action::Withdraw,
            subject: Some((component.clone(), version.clone())),
        };
        self.record(&entry, outcome)
    }

    async fn withdraw_once(
        &self,
        component: &Component,
        version: &Version,
        reason: &str,
        sink: &Sink,
    ) -> Result<Published, PublishError> {
        let desk = &self.desk;
        let view = desk.look().await?;
        let (path, target) = desk.withdrawal(&view, component, version, reason)?;
        let release = Release::from_custom(target.custom.as_ref().unwrap_or(&serde_json::Value::Null))?;
        let expires = desk.senses.now().plus_seconds(TARGETS_SECONDS);
        let base = desk.base_targets(&view)?;
        let authority = desk.authority(&view.state).ok_or(PublishError::NoTeam)?;
        let targets = roles::next_targets(&base, &self.signers(), expires, &authority, |editor| {
            editor.add_target(&path, &target)
        })?;
        let event = desk.withdrawn(&release, reason);
        let change = Change {
            expects: view.targets_version(),
            roots: desk.pending_roots(&view)?,
            targets: Some(targets),
            lists: Vec::new(),
            target: None,
        };
        sink(&Progress::Step(Box::new(event.clone())));
        let receipt = desk
            .make_visible(&change, None, std::slice::from_ref(&event))
            .await?;
        let mut warnings = Vec::new();
        desk.confirm(&change, &receipt, &mut warnings).await?;
        Ok(Published {
            update: None,
            release: Some(release),
            receipt,
            events: vec![event],
            sent: 0,
            warnings,
        })
    }

    /// Signs roles again with a later expiry. Works on expired metadata too: that is when it is needed most.
    ///
    /// # Errors
    /// [`RenewError`]; nothing changed then.
    pub async fn renew(&self, what: Renewal, passphrase: &Passphrase) -> Result<Published, RenewError> {
        let root_key = match what {
            Renewal::Targets => None,
            _ => {
                let folder = &self.desk.folder;
                let root = self.desk.remembered().map_err(LookError::from);
                let root = root.map_err(PublishError::from)?.state.root().clone();
                let file = folder.key_for(&root.root, folder.root_key());
                Some(AuthorKey::open(&file, passphrase)?)
            }
        };
        let outcome = self.renew_once(what, root_key.as_ref()).await;
        Ok(self.record(
            &Entry {
                action: Action::Renew,
                subject: None,
            },
            outcome,
        )?)
    }

    async fn renew_once(
        &self,
        what: Renewal,
        root_key: Option<&AuthorKey>,
    ) -> Result<Published, PublishError> {
        let desk = &self.desk;
        let view = match desk.look().await {
            Err(LookError::Expired(_)) => desk.remembered().map_err(LookError::from)?,
            other => other?,
        };
        let now = desk.senses.now();
        if let Some(key) = root_key {
            desk.make_root(&view, key, now)?;
        }
        let (expects, base) = desk.newest_targets(&view)?;
        let authority = desk.authority(&view.state).ok_or(PublishError::NoTeam)?;
        let targets = match what {
            // New roots travel alone only where there are targets already.
            Renewal::Root if view.targets_version() > 0 => None,
            _ => Some(roles::next_targets(
                &base,
                &self.signers(),
                now.plus_seconds(TARGETS_SECONDS),
                &authority,
                |editor| editor,
            )?),
        };
        let change = Change {
            expects,
            roots: desk.pending_roots(&view)?,
            targets,
            lists: Vec::new(),
            target: None,
        };
        let receipt = desk.make_visible(&change, None, &[]).await?;
        let mut warnings = Vec::new();
        desk.confirm(&change, &receipt, &mut warnings).await?;
        Ok(Published {
            update: None,
            release: None,
            receipt,
            events: Vec::new(),
            sent: 0,
            warnings,
        })
    }

    /// Writes the try into the record of uploads; a record that cannot be written is a warning.
    fn record(
        &self,
        entry: &Entry,
        outcome: Result<Published, PublishError>,
    ) -> Result<Published, PublishError> {
        self.desk.note(entry, self.signer(), outcome)
    }
}

/// What is written into the record of uploads.
pub(crate) struct Entry {
    pub(crate) action: Action,
    pub(crate) subject: Option<(Component, Version)>,
}

impl Desk {
    /// Writes a try into the record of uploads; a record that cannot be written is a warning.
    pub(crate) fn note(
        &self,
        entry: &Entry,
        signer: KeyId,
        outcome: Result<Published, PublishError>,
    ) -> Result<Published, PublishError> {
        let now = self.senses.now();
        let published = outcome.as_ref().ok();
        let release = published.and_then(|published| published.release.as_ref());
        let receipt: Option<&Receipt> = published.map(|published| &published.receipt);
        let (component, version) = entry.subject.clone().unzip();
        let record = UploadRecord {
            action: entry.action,
            source: None,
            release_time: release.map_or(now, |release| release.released),
            application_name: component,
            version_number: version,
            upload_time: receipt.map_or(now, |receipt| receipt.at),
            update: release.and_then(|release| release.update_id.parse().ok()),
            digest: None,
            size: None,
            signer,
            author: self.author.clone(),
            failure: outcome.as_ref().err().map(|error| chain(error)),
            receipt: receipt.cloned(),
            events: published
                .map(|published| published.events.clone())
                .unwrap_or_default(),
        };
        let written = record::append(&self.folder.records(), &record);
        outcome.map(|mut published| {
            if let Err(error) = written {
                published.warnings.push(format!(
                    "the record of uploads was not written: {}",
                    chain(&error)
                ));
            }
            published
        })
    }
}

/// A reason that everybody can show.
fn check_reason(reason: &str) -> Result<(), PublishError> {
    match reason.chars().count() {
        1..=protocol::limits::MAX_REASON => Ok(()),
        characters => Err(PublishError::Reason(characters)),
    }
}

impl Desk {
    /// The entry of a release on this desk's own list, withdrawn now: its path, and what is said about it then.
    pub(crate) fn withdrawal(
        &self,
        view: &View,
        component: &Component,
        version: &Version,
        reason: &str,
    ) -> Result<(String, TargetFile), PublishError> {
        check_reason(reason)?;
        let name = || format!("{component} {version}");
        let listed = view
            .catalogue
            .find(component, version)
            .ok_or_else(|| PublishError::NoSuchRelease(name()))?;
        if listed.release.withdrawn.is_some() {
            return Err(PublishError::AlreadyWithdrawn(name()));
        }
        let (role, target) = view
            .state
            .target_and_role(&listed.path)
            .ok_or_else(|| PublishError::NoSuchRelease(name()))?;
        if role != self.role() {
            return Err(PublishError::NotOurs(name()));
        }
        let mut target = target.clone();
        mark_withdrawn(&mut target, self.senses.now(), reason);
        Ok((listed.path.clone(), target))
    }

    pub(crate) fn withdrawn(&self, release: &Release, reason: &str) -> Event {
        Event {
            // A description without a valid id has not come through `Release::from_custom`.
            update: release
                .update_id
                .parse()
                .unwrap_or_else(|_| UpdateId::from_random([0; 16])),
            actor: self.author.clone(),
            step: Step::Withdrawn,
            component: release.component.clone(),
            version: release.version.clone(),
            device: None,
            at: (self.senses.stamp)(),
            bytes: None,
            total: None,
            reason: Some(reason.to_owned()),
        }
    }

    /// The next root, kept in `roots/` before anybody sees it; one that waits there already is used.
    fn make_root(&self, view: &View, key: &AuthorKey, now: UnixTime) -> Result<(), PublishError> {
        if !self.pending_roots(view)?.is_empty() {
            return Ok(());
        }
        let base = view.state.raw(&Role::Root).unwrap_or_default();
        let root = roles::renewed_root(base, key, now.plus_seconds(ROOT_SECONDS))?;
        durable::replace(
            self.folder.root_version(root.version),
            root.file.body.as_bytes(),
            0o644,
        )?;
        Ok(())
    }

    /// The newest targets role, from the repository or from this desk, and its version (0: not published yet).
    pub(crate) fn newest_targets(&self, view: &View) -> Result<(u64, Vec<u8>), PublishError> {
        if self.config.team.is_some() {
            return Ok((view.targets_version(), self.base_targets(view)?));
        }
        let verified = view.state.raw(&Role::Targets);
        let max = tuf::Limits::default().targets_length;
        let own = match durable::read_limited(self.folder.targets(), max) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error.into()),
        };
        let version = |bytes: &[u8]| tuf::unverified_version(bytes).unwrap_or(0);
        match (verified, own) {
            (Some(verified), Some(own)) if version(&own) > version(verified) => Ok((version(&own), own)),
            (Some(verified), _) => Ok((view.targets_version(), verified.to_vec())),
            (None, Some(own)) => Ok((0, own)),
            (None, None) => Err(RolesError::Rules(tuf::Error::Missing {
                file: "targets.json".to_owned(),
            })
            .into()),
        }
    }

    /// Hands a repository that was restored from a backup the newest roles, and the files that this desk has.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn recover(&self, sink: &Sink) -> Result<HandedBack, RecoverError> {
        let state = self.trust.load()?;
        let raw = state
            .raw(&Role::Targets)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let (Some(targets), Some(body)) = (state.targets(), raw) else {
            return Err(RecoverError::Nothing);
        };
        let mut lists = vec![RoleFile {
            name: Role::Targets.versioned_file_name(targets.version),
            body,
        }];
        for name in state.delegated_names() {
            let role = Role::Delegated(name.to_owned());
            if let (Some(list), Some(raw)) = (state.delegated(name), state.raw(&role)) {
                lists.push(RoleFile {
                    name: role.versioned_file_name(list.version),
                    body: String::from_utf8_lossy(raw).into_owned(),
                });
            }
        }
        let recover = Recover {
            roots: self.roots_after(0)?,
            targets: lists,
            snapshot: state.snapshot().map_or(0, |snapshot| snapshot.version),
            timestamp: state.timestamp().map_or(0, |timestamp| timestamp.version),
        };
        let mut answer = self.repository.recover(&recover).await?;
        let mut files = Vec::new();
        if !answer.missing.is_empty() {
            let own = self.own_files(&answer.missing);
            for (digest, draft) in &own {
                let cargo = Cargo {
                    path: &draft.file,
                    digest: *digest,
                    length: draft.length,
                };
                upload(&self.repository, &cargo, self.patience, sink).await?;
                files.push(draft.source.clone());
            }
            if !own.is_empty() {
                answer = self.repository.recover(&recover).await?;
            }
        }
        Ok(HandedBack {
            targets: answer.targets,
            files,
            missing: answer.missing,
        })
    }

    /// Files of earlier publishes that are still where they were and still the same.
    fn own_files(&self, wanted: &[Digest]) -> BTreeMap<Digest, Draft> {
        let records = record::read(&self.folder.records()).unwrap_or_default();
        let mut found = BTreeMap::new();
        for entry in records.into_iter().rev() {
            let (Some(digest), Some(source)) = (entry.digest, entry.source) else {
                continue;
            };
            if !wanted.contains(&digest) || found.contains_key(&digest) {
                continue;
            }
            if let Ok(draft) = self.draft(&source, &Options::default(), &nobody())
                && draft.digest == digest
                && (draft.form == Form::Single || draft.faults.is_empty())
            {
                found.insert(digest, draft);
            }
        }
        found
    }
}

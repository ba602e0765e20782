//! The repository: one writer, one current state, one transaction per change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use durable::{LogLimits, RecordLog};
use mtls::{Clock, SiteCa, Vouchers};
use protocol::control::RepositoryStatus;
use protocol::{Identity, Name, Role, UpdateId};
use tokio::sync::watch;
use tracing::warn;
use tuf::{Digest, TrustedState, UnixTime};

use crate::clock::Floored;
use crate::config::Folder;
use crate::counters::Counters;
use crate::db::{Database, FLOORS, RECOVERING, TRUSTED};
use crate::lease::Lease;
use crate::limits::{CERTIFICATE_WARNING_SECONDS, KEPT_SNAPSHOTS, KEPT_TARGETS, RECORD_FILES, ROOT_BYTES};
use crate::listing::Listing;
use crate::online::{LastVersions, Online, OnlineFiles};
use crate::reports::Outcomes;
use crate::storage::{self, Storage};
use crate::uploads::Uploads;
use crate::visible::{RoleBytes, Visible};
use crate::{Limits, Refusal, check};

/// A repository that is open. Methods block; from asynchronous code they are called on blocking threads.
#[derive(Debug)]
pub struct Repository {
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) uploads: Uploads,
    pub(crate) counters: Counters,
    pub(crate) record: RecordLog,
    pub(crate) online: Online,
    pub(crate) lease: Lease,
    core: Mutex<Core>,
    reader: Mutex<Database>,
    /// Held while files are collected or copied, so that a backup does not lose one under its hands.
    pub(crate) collecting: Mutex<()>,
    visible: watch::Sender<Arc<Visible>>,
    pub(crate) clock: Arc<Floored>,
    /// What renewal last complained about, so that it is said once.
    pub(crate) complaint: Mutex<Option<String>>,
    pub(crate) outcomes: Mutex<Option<(Instant, Arc<Outcomes>)>>,
    address: Mutex<String>,
    /// Whose key signs a report.
    pub(crate) vouchers: Vouchers,
    /// The certificate that this repository serves with, and its key.
    certificate: [PathBuf; 2],
}

/// What only one thread changes at a time.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) database: Database,
    /// What a client that has followed us would hold.
    pub(crate) trusted: TrustedState,
    pub(crate) listing: Arc<Listing>,
    pub(crate) recovering: bool,
    /// When files were last collected.
    pub(crate) collected: Option<UnixTime>,
    /// When the lease was last renewed.
    pub(crate) prolonged: Option<UnixTime>,
    /// Files that a verified targets role lists and that are not here: what a manager may upload.
    pub(crate) wanted: BTreeMap<Digest, u64>,
}

/// A team's role as it came: name, version, bytes.
pub(crate) type TeamFile = (String, u64, Vec<u8>);

/// A new state that has passed every check and is not visible yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) roots: Vec<(u64, Vec<u8>)>,
    pub(crate) targets: Option<(u64, Vec<u8>)>,
    /// Teams' new roles: name, version, bytes.
    pub(crate) teams: Vec<TeamFile>,
    pub(crate) online: OnlineFiles,
    pub(crate) trusted: TrustedState,
    pub(crate) listing: Arc<Listing>,
    pub(crate) update: Option<UpdateId>,
}

impl Repository {
    /// Opens the repository in `folder`: takes the lease, makes or loads the database, removes what a killed
    /// process left.
    ///
    /// # Errors
    /// Another process signs; a file is missing, unreadable or damaged.
    pub(crate) fn open(
        folder: &Folder,
        identity: Identity,
        limits: Limits,
        clock: Arc<Floored>,
    ) -> Result<Self> {
        durable::create_dir(folder.state(), 0o700)?;
        let mut database = Database::open(&folder.database())?;
        let boot_id = mtls::stamp().boot_id;
        let lease = Lease::take(&folder.lock(), &mut database, clock.now().now, &boot_id)?;
        let online = Online::load(folder)?;
        let trusted = load_trusted(folder, &mut database)?;
        if let Some(floor) = trusted.not_before() {
            clock.set_floor(floor);
        }
        let listing = Arc::new(Listing::read(&trusted, &[])?);
        let recovering = database.setting(RECOVERING)?.is_some();
        let log = LogLimits {
            keep: RECORD_FILES,
            ..LogLimits::default()
        };
        let reader = Database::open_reader(&folder.database())?;
        let vouchers = Vouchers::new(&SiteCa::load(&folder.ca())?, &identity.site)?;
        let repository = Self {
            identity,
            vouchers,
            limits,
            storage: Arc::new(storage::Folder::open(&folder.store())?),
            uploads: Uploads::default(),
            counters: Counters::default(),
            record: RecordLog::open(folder.records(), "publish", log)?,
            online,
            lease,
            core: Mutex::new(Core {
                database,
                trusted,
                listing,
                recovering,
                collected: None,
                prolonged: None,
                wanted: BTreeMap::new(),
            }),
            reader: Mutex::new(reader),
            collecting: Mutex::new(()),
            visible: watch::channel(Arc::default()).0,
            clock,
            complaint: Mutex::default(),
            outcomes: Mutex::default(),
            address: Mutex::default(),
            certificate: [folder.tls(), folder.tls_key()],
        };
        repository.show(&repository.core(), None);
        if recovering {
            warn!("restored from a backup: nothing is signed until the newest targets roles are handed back");
        }
        repository.first_targets(&folder.targets())?;
        Ok(repository)
    }

    /// The author's first, empty targets role lies beside the root: with it a new repository is complete, and
    /// clients have something to verify before the first release.
    fn first_targets(&self, path: &std::path::Path) -> Result<()> {
        let (new, recovering) = {
            let core = self.core();
            (core.trusted.targets().is_none(), core.recovering)
        };
        if !new || recovering || !path.exists() {
            return Ok(());
        }
        let body = String::from_utf8(durable::read_limited(
            path,
            tuf::Limits::default().targets_length,
        )?)?;
        let files = vec![protocol::author::RoleFile {
            name: "1.targets.json".into(),
            body,
        }];
        let first = protocol::author::Publish {
            update: None,
            expects: 0,
            roots: Vec::new(),
            targets: files,
            events: Vec::new(),
        };
        // A first role that cannot be used (expired, of another version) waits for the author's next one.
        if let Err(refusal) = self.publish(&self.identity, &first) {
            warn!(%refusal, "{} is not published", path.display());
        }
        Ok(())
    }

    /// The believed time, never before anything that was signed here.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        let now = self.clock.now().now;
        match self.visible.borrow().signed_at {
            Some(signed_at) => now.max(signed_at),
            None => now,
        }
    }

    /// What readers see now.
    #[must_use]
    pub fn visible(&self) -> Arc<Visible> {
        self.visible.borrow().clone()
    }

    /// Follows what readers see.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Visible>> {
        self.visible.subscribe()
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        // Memory is changed only after the database; a panic between leaves both as they were.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reader(&self) -> MutexGuard<'_, Database> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who this repository is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The site it belongs to.
    #[must_use]
    pub fn site(&self) -> &Name {
        &self.identity.site
    }

    pub(crate) fn set_address(&self, address: String) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// A metadata file that is not among the newest, by its parts.
    pub(crate) fn old_role_file(&self, role: &str, version: u64) -> Result<Option<RoleBytes>, Refusal> {
        Ok(self.reader().role_file(role, version)?.map(RoleBytes::new))
    }

    /// Highest versions of snapshot and timestamp ever stored here.
    pub(crate) fn last_versions(core: &Core) -> Result<LastVersions, Refusal> {
        let version =
            |role| -> Result<u64, Refusal> { Ok(core.database.newest(role)?.map_or(0, |file| file.version)) };
        Ok(LastVersions {
            snapshot: version("snapshot")?,
            timestamp: version("timestamp")?,
        })
    }

    /// Verifies the prepared files once more, as a client that has followed us, and gives what it holds then. `next` is
    /// what is to be served, `fresh` names the teams whose role is new in it.
    ///
    /// A team that let its role expire stops nobody else; any other fault of a team's role is a fault of the change.
    pub(crate) fn verify_as_client(
        core: &Core,
        roots: &[(u64, Vec<u8>)],
        next: &TrustedState,
        fresh: &[TeamFile],
        online: &OnlineFiles,
        now: UnixTime,
    ) -> Result<TrustedState, Refusal> {
        let mut files: BTreeMap<String, Vec<u8>> = roots
            .iter()
            .map(|(version, bytes)| (tuf::Role::Root.versioned_file_name(*version), bytes.clone()))
            .collect();
        let teams = next
            .delegated_names()
            .map(|name| tuf::Role::Delegated(name.to_owned()));
        for role in std::iter::once(tuf::Role::Targets).chain(teams) {
            if let Some((name, bytes)) = named_file(next, &role) {
                files.insert(name, bytes.to_vec());
            }
        }
        files.insert(
            tuf::Role::Snapshot.versioned_file_name(online.snapshot_version),
            online.snapshot.clone(),
        );
        files.insert(tuf::Role::Timestamp.file_name(), online.timestamp.clone());
        let (client, lapses) = check::as_client(&core.trusted, &files, now, &tuf::Limits::default())?;
        let is_new = |role: &tuf::Role| fresh.iter().any(|(name, _, _)| name == role.name());
        let fault = lapses
            .into_iter()
            .find(|(role, error)| is_new(role) || !matches!(error, tuf::Error::Expired { .. }));
        match fault {
            Some((_, error)) => Err(error.into()),
            None => Ok(client),
        }
    }

    /// Makes a prepared state durable and then visible: all of it or nothing.
    pub(crate) fn commit(
        &self,
        core: &mut Core,
        prepared: Prepared,
        now: UnixTime,
        more: impl FnOnce(&crate::db::Change<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let before = core.listing.clone();
        let change = core.database.begin()?;
        self.prolong(&change)?;
        for (version, bytes) in &prepared.roots {
            change.put_role("root", *version, bytes, now)?;
        }
        if let Some((version, bytes)) = &prepared.targets {
            change.put_role("targets", *version, bytes, now)?;
            change.trim_role("targets", KEPT_TARGETS)?;
        }
        for (name, version, bytes) in &prepared.teams {
            change.put_role(name, *version, bytes, now)?;
            change.trim_role(name, KEPT_TARGETS)?;
        }
        let OnlineFiles {
            snapshot_version,
            snapshot,
            timestamp_version,
            timestamp,
        } = &prepared.online;
        change.put_role("snapshot", *snapshot_version, snapshot, now)?;
        change.trim_role("snapshot", KEPT_SNAPSHOTS)?;
        change.put_role("timestamp", *timestamp_version, timestamp, now)?;
        change.trim_role("timestamp", 1)?;
        let after = prepared.listing.digests();
        for digest in &after {
            change.forget_upload(digest)?;
        }
        // Files that were taken off the list stay for a while: somebody may be fetching them.
        for entry in before
            .entries
            .values()
            .filter(|entry| !after.contains(&entry.sha256))
        {
            change.note_upload(&entry.sha256, entry.length, Role::Repository, now)?;
        }
        change.set(TRUSTED, &prepared.trusted.to_bytes())?;
        change.set(FLOORS, &prepared.trusted.floors_bytes())?;
        change.unset(RECOVERING)?;
        more(&change)?;
        change.commit()?;

        let before = std::mem::replace(&mut core.trusted, prepared.trusted);
        if before.root().version < core.trusted.root().version {
            self.online.retire(before.root(), core.trusted.root());
        }
        core.listing = prepared.listing;
        core.recovering = false;
        core.wanted.clear();
        self.show(core, prepared.update);
        Ok(())
    }

    /// Replaces what readers see.
    fn show(&self, core: &Core, update: Option<UpdateId>) {
        let trusted = &core.trusted;
        let teams: Vec<tuf::Role> = trusted
            .delegated_names()
            .map(|name| tuf::Role::Delegated(name.to_owned()))
            .collect();
        let versions = [
            trusted.root().version,
            trusted.timestamp().map_or(0, |role| role.version),
            trusted.snapshot().map_or(0, |role| role.version),
            trusted.targets().map_or(0, |role| role.version),
        ];
        let roles = [
            tuf::Role::Root,
            tuf::Role::Timestamp,
            tuf::Role::Snapshot,
            tuf::Role::Targets,
        ];
        let named = roles.iter().chain(&teams).filter_map(|role| {
            let (name, bytes) = named_file(trusted, role)?;
            Some((name, RoleBytes::new(bytes.to_vec())))
        });
        let online = [
            trusted.timestamp().map(|role| role.expires),
            trusted.snapshot().map(|role| role.expires),
        ];
        let mut visible = Visible {
            recovering: core.recovering,
            metadata: named.collect(),
            versions,
            root_until: Some(trusted.root().expires),
            targets_until: trusted.targets().map(|role| role.expires),
            online_until: online.into_iter().flatten().min(),
            signed_at: trusted.timestamp().and_then(|role| role.signed_at),
            update,
            ..Visible::default()
        };
        visible.set_listing(core.listing.clone());
        self.visible.send_replace(Arc::new(visible));
    }

    /// What a monitor must know of: none while all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let (visible, now) = (self.visible(), self.clock.now().now);
        let mut all = Vec::new();
        if visible.recovering {
            all.push("restored from a backup: waits for the newest targets roles".to_owned());
        }
        if let Some(until) = visible.online_until.filter(|until| *until <= now) {
            all.push(format!("snapshot and timestamp have been expired since {until}"));
        }
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(complaint.clone());
        drop(complaint);
        let ends = self.certificate_until();
        let soon = ends.filter(|until| until.seconds_since(now) < CERTIFICATE_WARNING_SECONDS);
        all.extend(soon.map(certificate_ends));
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// When the certificate in the folder ends; none if it cannot be read.
    #[must_use]
    pub fn certificate_until(&self) -> Option<UnixTime> {
        let [certificate, key] = &self.certificate;
        let credentials = mtls::Credentials::load(certificate, key).ok()?;
        Some(credentials.validity().ok()?.not_after)
    }

    /// The repository, at a glance.
    ///
    /// # Errors
    /// Those of the database.
    pub fn status(&self) -> Result<RepositoryStatus, Refusal> {
        let visible = self.visible();
        let (files, bytes) = visible.totals();
        let (reports, _) = self.reader().report_totals()?;
        Ok(RepositoryStatus {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            address: self
                .address
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            versions: visible.versions,
            online_until: visible.online_until,
            targets_until: visible.targets_until,
            recovering: visible.recovering,
            files,
            bytes,
            reports,
            certificate_until: self.certificate_until(),
            trouble: self.trouble(),
        })
    }
}

/// A role's file by its name in the repository: `7.targets.json`.
pub(crate) fn named_file<'a>(state: &'a TrustedState, role: &tuf::Role) -> Option<(String, &'a [u8])> {
    let bytes = state.raw(role)?;
    let version = match role {
        tuf::Role::Timestamp => return Some((role.file_name(), bytes)),
        tuf::Role::Root => state.root().version,
        tuf::Role::Snapshot => state.snapshot()?.version,
        tuf::Role::Targets => state.targets()?.version,
        tuf::Role::Delegated(name) => state.delegated(name)?.version,
    };
    Some((role.versioned_file_name(version), bytes))
}

/// The verifier's memory: from the database, or begun with the author's root.
fn load_trusted(folder: &Folder, database: &mut Database) -> Result<TrustedState> {
    let path = folder.root();
    let root = durable::read_limited(&path, ROOT_BYTES)
        .with_context(|| format!("the author's root must be at {}", path.display()))?;
    let limits = tuf::Limits::default();
    let given = TrustedState::init(&root, None, &limits)
        .with_context(|| format!("{} is not a root that signs itself", path.display()))?;
    if let Some(bytes) = database.setting(TRUSTED)? {
        let floors = database.setting(FLOORS)?;
        let trusted = TrustedState::from_parts(&bytes, floors.as_deref())
            .context("the trusted state in the database: restore a backup")?;
        let version = given.root().version;
        if database
            .role_file("root", version)?
            .is_some_and(|ours| ours != root)
        {
            bail!(
                "{} is version {version} of another repository's root",
                path.display()
            );
        }
        return Ok(trusted);
    }
    let change = database.begin()?;
    change.put_role("root", given.root().version, &root, UnixTime(0))?;
    change.set(TRUSTED, &given.to_bytes())?;
    change.set(FLOORS, &given.floors_bytes())?;
    change.commit()?;
    Ok(given)
}

fn certificate_ends(until: UnixTime) -> String {
    format!(
        "the repository's certificate ends at {until}, and nobody will talk to it then: `certs issue repository NAME \
         --replace` on the author's desk makes a new one"
    )
}

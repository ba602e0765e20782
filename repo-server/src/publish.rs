//! Publishing: what the author signed becomes visible, whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use protocol::author::{Publish, Receipt, RoleFile};
use protocol::limits::MAX_REPORT_EVENTS;
use protocol::{Event, Identity, Name, Step, UpdateId};
use release::Component;
use serde::Serialize;
use tracing::{error, info, warn};
use tuf::{Digest, NewFiles, TrustedState, UnixTime};

use crate::counters::add;
use crate::limits::{READ_BYTES, ROOTS_PER_REQUEST, TEAMS};
use crate::listing::{Changes, Entry, Listing};
use crate::refusal::chain;
use crate::repository::{Core, Prepared, TeamFile};
use crate::{Refusal, Repository};

/// The files of a request, by what their names say.
#[derive(Debug, Default)]
pub(crate) struct NewRoles {
    /// Version and bytes, in order.
    pub(crate) roots: Vec<(u64, Vec<u8>)>,
    /// Version and bytes of the top-level targets.
    pub(crate) targets: Option<(u64, Vec<u8>)>,
    /// Teams' roles.
    pub(crate) teams: Vec<TeamFile>,
}

impl NewRoles {
    /// Sorts files by role; a name that is not of its place is refused.
    pub(crate) fn read(roots: &[RoleFile], targets: &[RoleFile]) -> Result<Self, Refusal> {
        if roots.len() > ROOTS_PER_REQUEST {
            return Err(Refusal::Malformed(format!(
                "more than {ROOTS_PER_REQUEST} root files in one request"
            )));
        }
        let mut read = Self::default();
        for file in roots {
            match split_name(&file.name) {
                Some((version, "root")) => read.roots.push((version, file.body.clone().into_bytes())),
                _ => {
                    return Err(Refusal::Malformed(format!(
                        "{:?} is not a root's name",
                        file.name
                    )));
                }
            }
        }
        for file in targets {
            match split_name(&file.name) {
                Some((version, "targets")) if read.targets.is_none() => {
                    read.targets = Some((version, file.body.clone().into_bytes()));
                }
                Some((_, "targets")) => {
                    return Err(Refusal::Malformed(
                        "more than one top-level targets file".to_owned(),
                    ));
                }
                Some((_, "root" | "snapshot" | "timestamp")) | None => {
                    let name = &file.name;
                    return Err(Refusal::Malformed(format!(
                        "{name:?} is not the name of a targets role"
                    )));
                }
                Some((version, team)) => {
                    if read.teams.iter().any(|(name, _, _)| name == team) || read.teams.len() >= TEAMS {
                        return Err(Refusal::Malformed(format!(
                            "{team} comes twice, or there are more than {TEAMS} teams"
                        )));
                    }
                    let team = team_name(team)?;
                    read.teams.push((team, version, file.body.clone().into_bytes()));
                }
            }
        }
        Ok(read)
    }
}

/// A team's name is safe in a path and an address; other delegations are not for this repository.
fn team_name(name: &str) -> Result<String, Refusal> {
    let parsed = name.parse::<Name>();
    parsed
        .map(|name| name.to_string())
        .map_err(|_| Refusal::Delegated {
            team: name.to_owned(),
            why: "its name is not 1 to 64 letters, digits, '.', '_' and '-'".to_owned(),
        })
}

/// `7.targets.json` → 7, `targets`; none for anything that is not such a name in its one spelling.
pub(crate) fn split_name(name: &str) -> Option<(u64, &str)> {
    let (version, role) = name.strip_suffix(".json")?.split_once('.')?;
    let number: u64 = version.parse().ok()?;
    (number > 0 && number.to_string() == version && !role.is_empty()).then_some((number, role))
}

/// One line of the record (R-004-45, DESIGN section 11).
#[derive(Debug, Serialize)]
struct Line<'a> {
    at: UnixTime,
    outcome: &'static str,
    author: String,
    update: Option<UpdateId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<UnixTime>,
    targets: u64,
    milliseconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Repository {
    /// Verifies a new state like a client, signs it, stores it in one transaction and makes it visible.
    ///
    /// Repeating a publish whose answer was lost gives the same receipt.
    ///
    /// # Errors
    /// The first rule that is broken; nothing has changed then.
    pub fn publish(&self, author: &Identity, request: &Publish) -> Result<Receipt, Refusal> {
        let begun = Instant::now();
        let outcome = self.try_publish(author, request);
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok((receipt, changes)) => {
                add(&self.counters.publishes, 1);
                info!(targets = receipt.targets, update = ?receipt.update, milliseconds, "published");
                self.record_accepted(author, receipt, changes, milliseconds);
            }
            Err(refusal) => {
                add(&self.counters.refused, 1);
                let reason = chain(refusal);
                warn!(%author, update = ?request.update, reason, "publish refused");
                let (text, at) = (format!("refused: {reason}"), self.now());
                let line = Line {
                    reason: Some(reason),
                    ..Line::new(
                        at,
                        "refused",
                        author,
                        request.update,
                        request.expects,
                        milliseconds,
                    )
                };
                self.write_record(&line, &text);
            }
        }
        outcome.map(|(receipt, _)| receipt)
    }

    fn try_publish(&self, author: &Identity, request: &Publish) -> Result<(Receipt, Changes), Refusal> {
        if request.events.len() > MAX_REPORT_EVENTS {
            return Err(Refusal::Malformed(format!(
                "more than {MAX_REPORT_EVENTS} events"
            )));
        }
        let new = NewRoles::read(&request.roots, &request.targets)?;
        if new.roots.is_empty() && new.targets.is_none() && new.teams.is_empty() {
            return Err(Refusal::Malformed(
                "there is nothing to publish in this request".to_owned(),
            ));
        }
        let mut core = self.core();
        if core.recovering {
            return Err(Refusal::Recovering);
        }
        let current = core.trusted.targets().map_or(0, |targets| targets.version);
        if let Some(receipt) = Self::repeated(&core, &new)? {
            return Ok((receipt, Changes::default()));
        }
        if request.expects != current {
            return Err(Refusal::Conflict {
                expects: request.expects,
                current,
            });
        }
        let root = core.trusted.root().version;
        if let Some((offered, _)) = new.roots.first().filter(|(version, _)| *version <= root) {
            return Err(Refusal::RootConflict {
                offered: *offered,
                current: root,
            });
        }
        if let Some((version, _)) = &new.targets
            && *version != current.saturating_add(1)
        {
            let next = current.saturating_add(1);
            return Err(Refusal::NotNext(format!(
                "the next targets file is {next}.targets.json, not {version}"
            )));
        }
        for (team, version, _) in &new.teams {
            let current = core.trusted.delegated(team).map_or(0, |role| role.version);
            if *version <= current {
                return Err(Refusal::Conflict {
                    expects: version.saturating_sub(1),
                    current,
                });
            }
        }
        let now = self.now();
        let (prepared, changes) = self.prepare(&core, new, request.update, now)?;
        let receipt = self.receipt(&prepared, &changes, now);
        self.commit(&mut core, prepared, now, |change| {
            Ok(change.put_publish(&receipt, &author.to_string(), &request.events)?)
        })?;
        Ok((receipt, changes))
    }

    /// The receipt of an earlier request with the very same targets, if that is what is current.
    fn repeated(core: &Core, new: &NewRoles) -> Result<Option<Receipt>, Refusal> {
        let held = |role: &tuf::Role| core.trusted.raw(role);
        let (role, version) = match (&new.targets, new.teams.as_slice()) {
            (Some((version, bytes)), []) if held(&tuf::Role::Targets) == Some(bytes) => ("targets", version),
            (None, [(team, version, bytes)]) if held(&tuf::Role::Delegated(team.clone())) == Some(bytes) => {
                (team.as_str(), version)
            }
            _ => return Ok(None),
        };
        for (version, bytes) in &new.roots {
            if core.database.role_file("root", *version)?.as_ref() != Some(bytes) {
                return Ok(None);
            }
        }
        Ok(core.database.receipt(role, *version)?)
    }

    /// Every check, in the order: signatures and versions, listing, files, our own signatures, a whole refresh.
    pub(crate) fn prepare(
        &self,
        core: &Core,
        new: NewRoles,
        update: Option<UpdateId>,
        now: UnixTime,
    ) -> Result<(Prepared, Changes), Refusal> {
        let limits = tuf::Limits::default();
        let roots: Vec<Vec<u8>> = new.roots.iter().map(|(_, bytes)| bytes.clone()).collect();
        let teams: Vec<_> = new
            .teams
            .iter()
            .map(|(name, _, bytes)| (name.clone(), bytes.clone()))
            .collect();
        let files = NewFiles {
            roots: &roots,
            targets: new.targets.as_ref().map(|(_, bytes)| bytes.as_slice()),
            delegated: &teams,
        };
        let upload = tuf::verify_upload(&core.trusted, files, now, &limits)?;
        let named = new.roots.iter().map(|(version, _)| version);
        if !named.eq(upload.roots.iter().map(|(version, _)| version)) {
            return Err(Refusal::NotNext(
                "a root's name and its version differ".to_owned(),
            ));
        }
        let Some(targets) = &upload.targets else {
            return Err(Refusal::NotNext(
                "there is no targets role yet: publish one with the root".to_owned(),
            ));
        };
        if let Some((version, _)) = &new.targets
            && *version != targets.version
        {
            let found = targets.version;
            return Err(Refusal::NotNext(format!(
                "{version}.targets.json says version {found}"
            )));
        }
        for ((name, version, _), (_, role)) in new.teams.iter().zip(&upload.delegated) {
            if *version != role.version {
                let found = role.version;
                return Err(Refusal::NotNext(format!(
                    "{version}.{name}.json says version {found}"
                )));
            }
        }
        check_delegations(&upload.state, &new.teams)?;
        let listing = Arc::new(Listing::read(&upload.state, &new.teams)?);
        let changes = core.listing.step(&listing)?;
        self.check_files(&listing, &changes)?;

        let last = Self::last_versions(core)?;
        let online = self.online.sign(&upload.state, last, now)?;
        let (roots, next) = (&upload.roots, &upload.state);
        let trusted = Self::verify_as_client(core, roots, next, &new.teams, &online, now)?;
        let prepared = Prepared {
            roots: upload.roots,
            targets: new.targets,
            teams: new.teams,
            online,
            trusted,
            listing,
            update,
        };
        Ok((prepared, changes))
    }

    /// Every listed file is here with its length; those listed newly also with every digest they list.
    pub(crate) fn check_files(&self, listing: &Listing, changes: &Changes) -> Result<(), Refusal> {
        for entry in listing.entries.values() {
            let (target, digest) = (entry.name.clone(), entry.sha256);
            match self.storage.length(&digest) {
                None => return Err(Refusal::MissingTarget { target, digest }),
                Some(found) if found != entry.length => {
                    return Err(Refusal::WrongLength {
                        target,
                        listed: entry.length,
                        found,
                    });
                }
                Some(_) => {}
            }
        }
        // The store has checked SHA-256 while the bytes came in.
        let mut added = changes.added.iter().filter_map(|name| listing.entries.get(name));
        added.try_for_each(|entry| self.check_sha512(entry))
    }

    fn check_sha512(&self, entry: &Entry) -> Result<(), Refusal> {
        let Some(listed) = &entry.sha512 else {
            return Ok(());
        };
        let mut reader = self.storage.read(&entry.sha256, 0..entry.length)?;
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA512);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = reader.read(&mut buffer).context("reading an uploaded file")?;
            if count == 0 {
                break;
            }
            context.update(buffer.get(..count).unwrap_or_default());
        }
        if hex::encode(context.finish()) == *listed {
            return Ok(());
        }
        Err(Refusal::WrongDigest {
            target: entry.name.clone(),
            algorithm: "SHA-512",
        })
    }

    fn receipt(&self, prepared: &Prepared, changes: &Changes, now: UnixTime) -> Receipt {
        let trusted = &prepared.trusted;
        let stamp = mtls::stamp();
        let steps = changes
            .added
            .iter()
            .map(|name| (name, Step::Accepted))
            .chain(changes.withdrawn.iter().map(|name| (name, Step::Withdrawn)));
        let event = |(name, step): (&String, Step)| {
            let release = &prepared.listing.entries.get(name)?.release;
            Some(Event {
                update: prepared.update.or_else(|| release.update_id.parse().ok())?,
                actor: self.identity.clone(),
                step,
                component: release.component.clone(),
                version: release.version.clone(),
                device: None,
                at: stamp.clone(),
                bytes: None,
                total: None,
                reason: release
                    .withdrawn
                    .as_ref()
                    .map(|withdrawn| withdrawn.reason.clone()),
            })
        };
        // A change of one team's list alone is receipted as that.
        let (team, role, version) = match (&prepared.targets, prepared.teams.as_slice()) {
            (None, [(team, version, _)]) => (team.parse().ok(), tuf::Role::Delegated(team.clone()), *version),
            _ => {
                let version = trusted.targets().map_or(0, |role| role.version);
                (None, tuf::Role::Targets, version)
            }
        };
        Receipt {
            update: prepared.update,
            team,
            targets: version,
            targets_digest: Digest::of(trusted.raw(&role).unwrap_or_default()),
            snapshot: prepared.online.snapshot_version,
            timestamp: prepared.online.timestamp_version,
            at: now,
            events: steps.filter_map(event).collect(),
        }
    }

    fn record_accepted(&self, author: &Identity, receipt: &Receipt, changes: &Changes, milliseconds: u64) {
        let listing = self.visible().listing.clone();
        let kinds: BTreeMap<&str, &[String]> = [
            ("accepted", &changes.added[..]),
            ("withdrawn", &changes.withdrawn[..]),
        ]
        .into();
        for (outcome, names) in kinds {
            for entry in names.iter().filter_map(|name| listing.entries.get(name)) {
                let line = Line {
                    target: Some(&entry.name),
                    digest: Some(entry.sha256),
                    bytes: Some(entry.length),
                    released: Some(entry.release.released),
                    reason: entry
                        .release
                        .withdrawn
                        .as_ref()
                        .map(|withdrawn| withdrawn.reason.clone()),
                    ..Line::new(
                        receipt.at,
                        outcome,
                        author,
                        receipt.update,
                        receipt.targets,
                        milliseconds,
                    )
                };
                let text = format!(
                    "{outcome} {} ({} bytes, {})",
                    entry.name, entry.length, entry.sha256
                );
                self.write_record(&line, &text);
            }
        }
        for name in &changes.removed {
            let line = Line {
                target: Some(name),
                ..Line::new(
                    receipt.at,
                    "removed",
                    author,
                    receipt.update,
                    receipt.targets,
                    milliseconds,
                )
            };
            self.write_record(&line, &format!("removed {name} from the list"));
        }
    }

    fn write_record(&self, line: &Line<'_>, text: &str) {
        let text = format!("{} {} {text}", line.at, line.author);
        if let Err(failure) = self.record.append(line, &text) {
            error!(
                reason = chain(&failure),
                "the record of publishes cannot be written"
            );
        }
    }
}

impl Line<'_> {
    fn new(
        at: UnixTime,
        outcome: &'static str,
        author: &Identity,
        update: Option<UpdateId>,
        targets: u64,
        milliseconds: u64,
    ) -> Self {
        let author = author.to_string();
        Self {
            at,
            outcome,
            author,
            update,
            target: None,
            digest: None,
            bytes: None,
            released: None,
            targets,
            milliseconds,
            reason: None,
        }
    }
}

/// Which delegations this repository takes: teams, one level deep, each for whole components, each with a list.
///
/// What else a client would understand is refused, because nobody here could say whose release it is.
pub(crate) fn check_delegations(state: &TrustedState, fresh: &[TeamFile]) -> Result<(), Refusal> {
    let delegations = state.targets().and_then(|targets| targets.delegations.as_ref());
    for role in delegations.into_iter().flat_map(|delegations| &delegations.roles) {
        let team = team_name(&role.name)?;
        let refuse = |why: &str| Refusal::Delegated {
            team: team.clone(),
            why: why.to_owned(),
        };
        let whole = |path: &String| {
            let component = path
                .strip_suffix("/*/*")
                .and_then(|name| name.parse::<Component>().ok());
            component.is_some()
        };
        if !role.paths.as_ref().is_some_and(|paths| paths.iter().all(whole)) {
            return Err(refuse("its paths are not COMPONENT/*/*"));
        }
        if !role.terminating {
            return Err(refuse("it does not end the search for its components"));
        }
        let list = state.delegated(&role.name).ok_or_else(|| {
            refuse("it has no list yet: publish its first one, signed by its key, with the delegation")
        })?;
        let is_new = fresh.iter().any(|(name, _, _)| *name == role.name);
        if is_new
            && list
                .delegations
                .as_ref()
                .is_some_and(|inner| !inner.roles.is_empty())
        {
            return Err(refuse("a team cannot delegate further"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_have_one_spelling() {
        assert_eq!(split_name("7.targets.json"), Some((7, "targets")));
        for bad in [
            "targets.json",
            "07.targets.json",
            "0.targets.json",
            "+7.targets.json",
            "7..json",
            "7.targets",
        ] {
            assert_eq!(split_name(bad), None, "{bad}");
        }
    }
}

//! Where things stand: per component and per role, and what the devices made of it.

use std::collections::BTreeMap;

use protocol::{Identity, UpdateId};
use release::{Component, Version};
use serde::Serialize;
use tuf::{Digest, Role, UnixTime};

use crate::desk::{Desk, View};
use crate::draft::chain;
use crate::fleet::Reports;

/// Days before an expiry from which on it is shown as a warning.
const WARN_DAYS: i64 = 30;
/// The same for what the repository signs for 14 days and renews every 12 hours.
const ONLINE_WARN_DAYS: i64 = 7;

/// The whole picture.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Who asks.
    pub author: Identity,
    /// The repository's address.
    pub repository: String,
    /// Why the repository's state could not be verified now; what follows is what was verified last.
    pub trouble: Option<String>,
    /// The repository has no metadata yet.
    pub is_empty: bool,
    /// Since when nothing new would be accepted by devices.
    pub stale_since: Option<UnixTime>,
    /// The metadata roles.
    pub roles: Vec<RoleStatus>,
    /// When the author's certificate expires, and what to do if that is soon.
    pub certificate: (UnixTime, Option<String>),
    /// The components.
    pub components: Vec<ComponentStatus>,
    /// Reports that do not verify.
    pub refused_reports: Vec<String>,
    /// Teams whose list is left out, and why.
    pub lapses: Vec<String>,
}

/// One role of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleStatus {
    /// `root`, `timestamp`, `snapshot`, `targets`, or a team's name.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: UnixTime,
    /// Whole days until then; negative when it is past.
    pub days_left: i64,
    /// What to do, if something is to be done soon.
    pub advice: Option<String>,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentStatus {
    /// Its name.
    pub component: Component,
    /// The version that devices are to run; none if all are withdrawn.
    pub current: Option<Version>,
    /// When it was released.
    pub released: Option<UnixTime>,
    /// SHA-256 of its target.
    pub digest: Option<Digest>,
    /// Bytes of its target.
    pub length: Option<u64>,
    /// Its update.
    pub update: Option<UpdateId>,
    /// All versions, oldest first.
    pub versions: Vec<Version>,
    /// Those of them that are withdrawn.
    pub withdrawn: Vec<Version>,
    /// How the current update ended: how many devices for each outcome.
    pub outcomes: BTreeMap<String, usize>,
    /// Where it did not end well, `device: reason`.
    pub reasons: Vec<String>,
}

impl Desk {
    /// Looks at the repository and its reports; where that fails, shows what was verified last and says so.
    ///
    /// # Errors
    /// Only when this desk's own trust cannot be read.
    pub async fn status(&self) -> Result<Status, durable::TrustError> {
        let (view, trouble) = match self.look().await {
            Ok(view) => (view, None),
            Err(error) => (self.remembered()?, Some(chain(&error))),
        };
        let (reports, trouble) = match (trouble, view.is_empty) {
            (None, false) => match self.reports().await {
                Ok(reports) => (reports, None),
                Err(error) => (Reports::default(), Some(format!("no reports: {}", chain(&error)))),
            },
            (trouble, _) => (Reports::default(), trouble),
        };
        Ok(self.picture(&view, &reports, trouble))
    }

    /// The picture of what is known, without asking anybody.
    #[must_use]
    pub fn picture(&self, view: &View, reports: &Reports, trouble: Option<String>) -> Status {
        let now = self.senses.now();
        Status {
            author: self.author.clone(),
            repository: self.repository.base().to_owned(),
            trouble,
            is_empty: view.is_empty,
            stale_since: view.state.stale_since(now),
            roles: roles(view, self.config.team.is_some(), now),
            certificate: self.certificate_status(now),
            components: components(view, reports),
            refused_reports: reports.refused.clone(),
            lapses: view.lapses.clone(),
        }
    }

    fn certificate_status(&self, now: UnixTime) -> (UnixTime, Option<String>) {
        let expires = self.certificate_expires;
        let soon = expires.seconds_since(now) < WARN_DAYS * 86_400;
        (
            expires,
            soon.then(|| {
                let (name, dir) = (&self.author.name, self.folder.dir.display());
                format!("run `certs issue author {name} --ca {dir} --out {dir} --replace`")
            }),
        )
    }
}

fn roles(view: &View, is_team: bool, now: UnixTime) -> Vec<RoleStatus> {
    let state = &view.state;
    let root = state.root();
    let top = [
        Some((Role::Root, root.version, root.expires)),
        state
            .timestamp()
            .map(|role| (Role::Timestamp, role.version, role.expires)),
        state
            .snapshot()
            .map(|role| (Role::Snapshot, role.version, role.expires)),
        state
            .targets()
            .map(|role| (Role::Targets, role.version, role.expires)),
    ];
    let teams = crate::team::teams(state).into_iter().filter_map(|row| {
        let role = Role::Delegated(row.team);
        Some((role, row.version?, row.expires?))
    });
    top.into_iter()
        .flatten()
        .chain(teams)
        .map(|(role, version, expires)| {
            let days_left = expires.seconds_since(now).div_euclid(86_400);
            RoleStatus {
                advice: advice(&role, days_left, is_team, root.root.threshold.get()),
                role: role.name().to_owned(),
                version,
                expires,
                days_left,
            }
        })
        .collect()
}

/// What to do, well ahead of the day on which a role expires.
fn advice(role: &Role, days_left: i64, is_team: bool, signers: u32) -> Option<String> {
    let renew = match role {
        // The repository renews its own two every twelve hours: half their life gone means that it does not.
        Role::Timestamp | Role::Snapshot if days_left < ONLINE_WARN_DAYS => {
            return Some("the repository does not renew it: look after it".to_owned());
        }
        Role::Root if days_left < WARN_DAYS && signers > 1 => {
            format!("run `admin-gui renew`; {signers} people must sign its draft")
        }
        Role::Root | Role::Targets if days_left < WARN_DAYS => "run `admin-gui renew`".to_owned(),
        Role::Delegated(_) if days_left < WARN_DAYS && is_team => "run `admin-gui renew`".to_owned(),
        Role::Delegated(team) if days_left < WARN_DAYS => {
            format!("the team {team} must run `admin-gui renew`")
        }
        _ => return None,
    };
    let who = if is_team && matches!(role, Role::Root | Role::Targets) {
        "the author must "
    } else {
        ""
    };
    Some(format!("{who}{renew}"))
}

fn components(view: &View, reports: &Reports) -> Vec<ComponentStatus> {
    let describe = |component: Component| {
        let listed = view.catalogue.current(&component);
        let current = listed.map(|listed| &listed.release);
        let all = || {
            view.catalogue
                .of_component(&component)
                .map(|listed| &listed.release)
        };
        let update: Option<UpdateId> = current.and_then(|release| release.update_id.parse().ok());
        let (outcomes, reasons) = update.map(|update| reports.outcomes(&update)).unwrap_or_default();
        ComponentStatus {
            current: current.map(|release| release.version.clone()),
            released: current.map(|release| release.released),
            digest: listed.and_then(|listed| listed.digest),
            length: listed.map(|listed| listed.length),
            update,
            versions: all().map(|release| release.version.clone()).collect(),
            withdrawn: all()
                .filter(|release| release.withdrawn.is_some())
                .map(|release| release.version.clone())
                .collect(),
            outcomes,
            reasons,
            component,
        }
    };
    view.catalogue.components().into_iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_warns_well_ahead_and_says_who_renews_it() {
        let team = Role::Delegated("heating".into());
        for (role, days, is_team, signers, words) in [
            (Role::Root, 31, false, 1, None),
            (Role::Root, 29, false, 1, Some("run `admin-gui renew`")),
            (Role::Root, 29, false, 2, Some("2 people must sign its draft")),
            (Role::Root, 29, true, 1, Some("the author must run")),
            (Role::Targets, 29, false, 2, Some("run `admin-gui renew`")),
            (Role::Targets, -1, true, 1, Some("the author must run")),
            (
                team.clone(),
                29,
                false,
                1,
                Some("the team heating must run `admin-gui renew`"),
            ),
            (team.clone(), 29, true, 1, Some("run `admin-gui renew`")),
            (team, 30, true, 1, None),
            (Role::Snapshot, 7, false, 1, None),
            (
                Role::Timestamp,
                6,
                false,
                1,
                Some("the repository does not renew it"),
            ),
        ] {
            let found = advice(&role, days, is_team, signers);
            match words {
                Some(words) => assert!(
                    found.as_ref().is_some_and(|text| text.contains(words)),
                    "{role} {days}: {found:?}"
                ),
                None => assert_eq!(found, None, "{role} {days}"),
            }
        }
    }
}

//! Recovery: the author or a manager hands back what a restored repository has forgotten.

use std::collections::BTreeMap;

use protocol::author::{Recover, Recovered};
use protocol::{Identity, Role};
use tracing::{info, warn};
use tuf::{NewFiles, UnixTime};

use crate::limits::{CLAIMED_VERSION_AHEAD, WAITING_UPLOADS};
use crate::listing::{Changes, Listing};
use crate::online::LastVersions;
use crate::publish::{NewRoles, check_delegations};
use crate::repository::{Core, Prepared, TeamFile};
use crate::{Refusal, Repository};

impl Repository {
    /// Adopts newer targets roles that the author signed, says which files are missing, and, when none is, signs
    /// anew above every version that anybody has seen.
    ///
    /// Also a running repository takes it: the image of its machine may have been rolled back unnoticed.
    ///
    /// # Errors
    /// The files do not verify, or do not follow what is here.
    pub fn recover(&self, peer: &Identity, request: &Recover) -> Result<Recovered, Refusal> {
        let new = NewRoles::read(&request.roots, &request.targets)?;
        let now = self.now();
        let mut core = self.core();
        let known = Self::last_versions(&core)?;
        let last = Self::floors(known, peer, request, now)?;
        let roots = Self::newer_roots(&core, &new)?;
        let targets = Self::newer_targets(&core, &new)?;
        let teams = Self::newer_teams(&core, &new)?;
        let nothing_new = roots.is_empty() && targets.is_none() && teams.is_empty();
        if !core.recovering && nothing_new && last == known {
            let targets = core.trusted.targets().map_or(0, |role| role.version);
            return Ok(Recovered {
                missing: Vec::new(),
                targets,
            });
        }
        let was_recovering = core.recovering;
        let outcome = self.adopt(&mut core, &roots, (targets, teams), last, now)?;
        if outcome.missing.is_empty() {
            warn!(%peer, was_recovering, targets = outcome.targets, "recovered what was handed back");
        } else {
            info!(%peer, missing = outcome.missing.len(), "files are missing for the recovery");
        }
        Ok(outcome)
    }

    /// Versions below which nothing will be signed: ours, and those that the peer has seen.
    fn floors(
        known: LastVersions,
        peer: &Identity,
        request: &Recover,
        now: UnixTime,
    ) -> Result<LastVersions, Refusal> {
        let ahead = u64::try_from(now.0)
            .unwrap_or(0)
            .saturating_add(CLAIMED_VERSION_AHEAD);
        for (role, claimed, known) in [
            ("snapshot", request.snapshot, known.snapshot),
            ("timestamp", request.timestamp, known.timestamp),
        ] {
            // JSON numbers are exact up to 2^53; half of that leaves room for ever.
            let most = if peer.role == Role::Author {
                1 << 52
            } else {
                ahead.max(known)
            };
            if claimed > most {
                return Err(Refusal::ClaimedVersion { role, claimed });
            }
        }
        Ok(LastVersions {
            snapshot: known.snapshot.max(request.snapshot),
            timestamp: known.timestamp.max(request.timestamp),
        })
    }

    /// Roots after ours. One that we have must be the same file.
    fn newer_roots(core: &Core, new: &NewRoles) -> Result<Vec<(u64, Vec<u8>)>, Refusal> {
        let current = core.trusted.root().version;
        let mut newer = Vec::new();
        for (version, bytes) in &new.roots {
            if *version > current {
                newer.push((*version, bytes.clone()));
            } else if core
                .database
                .role_file("root", *version)?
                .is_some_and(|ours| ours != *bytes)
            {
                return Err(Refusal::Fork {
                    role: "root".to_owned(),
                    version: *version,
                });
            }
        }
        Ok(newer)
    }

    fn newer_targets(core: &Core, new: &NewRoles) -> Result<Option<(u64, Vec<u8>)>, Refusal> {
        let Some((version, bytes)) = &new.targets else {
            return Ok(None);
        };
        let current = core.trusted.targets().map_or(0, |role| role.version);
        if *version < current {
            return Ok(None);
        }
        if *version == current {
            if core.trusted.raw(&tuf::Role::Targets) != Some(bytes.as_slice()) {
                return Err(Refusal::Fork {
                    role: "targets".to_owned(),
                    version: *version,
                });
            }
            return Ok(None);
        }
        Ok(Some((*version, bytes.clone())))
    }

    /// Teams' roles after ours. One that we have must be the same file.
    fn newer_teams(core: &Core, new: &NewRoles) -> Result<Vec<TeamFile>, Refusal> {
        let mut newer = Vec::new();
        for (team, version, bytes) in &new.teams {
            let current = core.trusted.delegated(team).map_or(0, |role| role.version);
            let ours = core.trusted.raw(&tuf::Role::Delegated(team.clone()));
            if *version > current {
                newer.push((team.clone(), *version, bytes.clone()));
            } else if *version == current && ours != Some(bytes.as_slice()) {
                return Err(Refusal::Fork {
                    role: team.clone(),
                    version: *version,
                });
            }
        }
        Ok(newer)
    }

    fn adopt(
        &self,
        core: &mut Core,
        roots: &[(u64, Vec<u8>)],
        (new_targets, teams): (Option<(u64, Vec<u8>)>, Vec<TeamFile>),
        last: LastVersions,
        now: UnixTime,
    ) -> Result<Recovered, Refusal> {
        let limits = tuf::Limits::default();
        let root_bytes: Vec<Vec<u8>> = roots.iter().map(|(_, bytes)| bytes.clone()).collect();
        let team_bytes: Vec<_> = teams
            .iter()
            .map(|(name, _, bytes)| (name.clone(), bytes.clone()))
            .collect();
        let raw_new = new_targets.as_ref().map(|(_, bytes)| bytes.as_slice());
        let files = NewFiles {
            roots: &root_bytes,
            targets: raw_new,
            delegated: &team_bytes,
        };
        let upload = tuf::verify_upload(&core.trusted, files, now, &limits)?;
        let Some(targets) = &upload.targets else {
            return Err(Refusal::NotNext(
                "there is no targets role, neither here nor in the request".to_owned(),
            ));
        };
        check_delegations(&upload.state, &teams)?;
        let listing = std::sync::Arc::new(Listing::read(&upload.state, &teams)?);
        let missing: BTreeMap<_, _> = listing
            .entries
            .values()
            .filter(|entry| self.storage.length(&entry.sha256).is_none())
            .map(|entry| (entry.sha256, entry.length))
            .collect();
        if !missing.is_empty() {
            let targets = core.trusted.targets().map_or(0, |role| role.version);
            // Of all that was asked for before, also by others; far more than one repository holds is forgotten.
            if core.wanted.len() > WAITING_UPLOADS {
                core.wanted.clear();
            }
            core.wanted.extend(&missing);
            return Ok(Recovered {
                missing: missing.into_keys().collect(),
                targets,
            });
        }
        let known = &core.listing.entries;
        let added = listing
            .entries
            .keys()
            .filter(|name| !known.contains_key(*name))
            .cloned()
            .collect();
        self.check_files(
            &listing,
            &Changes {
                added,
                ..Changes::default()
            },
        )?;
        let online = self.online.sign(&upload.state, last, now)?;
        let (roots, next) = (&upload.roots, &upload.state);
        let trusted = Self::verify_as_client(core, roots, next, &teams, &online, now)?;
        let version = targets.version;
        let prepared = Prepared {
            roots: upload.roots,
            targets: new_targets.map(|(_, bytes)| (version, bytes)),
            teams,
            online,
            trusted,
            listing,
            update: None,
        };
        self.commit(core, prepared, now, |_| Ok(()))?;
        Ok(Recovered {
            missing: Vec::new(),
            targets: version,
        })
    }
}

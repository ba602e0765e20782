//! What a draft changes: one thing that can be told in full, or nothing that is signed.

use protocol::limits::{MAX_REASON, MAX_TARGET};
use release::{Release, Withdrawn};
use serde_json::{Map, Value, json};
use tuf::editor::Signed;
use tuf::schema::{Hashes, TargetFile};
use tuf::{Targets, UnixTime};

use crate::ceremony::mark_withdrawn;
use crate::cosign::Basis;
use crate::limits::{CLOCKS_APART, TARGETS_SECONDS};
use crate::plain::plain;

/// The one thing that a draft changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A new release.
    Release {
        /// Its target's path.
        path: String,
        /// Its bytes.
        target: TargetFile,
        /// What is signed about it.
        release: Box<Release>,
    },
    /// A release is taken back.
    Withdrawal {
        /// The release, as it is then.
        release: Box<Release>,
        /// When and why.
        withdrawn: Withdrawn,
    },
    /// Nothing but a later expiry.
    Renewal,
}

impl What {
    /// In words, all of it: a field that is not told would be signed unseen. Nothing in them speaks to a terminal.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let told = self.told();
        told.iter().map(|line| plain(line)).collect()
    }

    fn told(&self) -> Vec<String> {
        match self {
            Self::Release { target, release, .. } => {
                let mut lines = vec![
                    format!("releases {} {}", release.component, release.version),
                    format!(
                        "  {}: {} bytes, SHA-256 {}",
                        release.file_name,
                        target.length,
                        target
                            .sha256()
                            .map(|digest| digest.to_string())
                            .unwrap_or_default()
                    ),
                ];
                let described = target
                    .custom
                    .as_ref()
                    .and_then(|custom| custom.get(Release::KEY)?.as_object());
                // As JSON: no text can pretend to be another line.
                let told = |(name, value): (&String, &Value)| format!("  {name}: {value}");
                lines.extend(described.into_iter().flatten().map(told));
                lines
            }
            Self::Withdrawal { release, withdrawn } => vec![
                format!("withdraws {} {}", release.component, release.version),
                format!("  at {}, because {}", withdrawn.at, json!(withdrawn.reason)),
            ],
            Self::Renewal => vec!["no release changes".to_owned()],
        }
    }
}

impl Basis {
    /// What is different in a draft; in words why it is not signed, where it is not one plain thing.
    pub(super) fn judge(
        &self,
        draft: &Signed<Targets>,
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<What, String> {
        if expires <= now || expires > now.plus_seconds(TARGETS_SECONDS + CLOCKS_APART) {
            let most = TARGETS_SECONDS / 86_400;
            return Err(format!(
                "it holds until {expires}, where {most} days from now are usual: is a clock wrong?"
            ));
        }
        // Days may pass from signer to signer; a life cut to hours would leave nobody the time to renew it.
        if expires < now.plus_seconds(TARGETS_SECONDS / 2)
            && expires < self.expires.plus_seconds(-CLOCKS_APART)
        {
            let before = self.expires;
            return Err(format!(
                "it holds until {expires}, shorter than the list before, until {before}"
            ));
        }
        let empty = Map::new();
        let object = |list: &Signed<Targets>| list.fields().as_object().cloned().unwrap_or_default();
        let (before, after) = (object(&self.list), object(draft));
        for field in before.keys().chain(after.keys()) {
            if !["version", "expires", "targets"].contains(&field.as_str())
                && before.get(field) != after.get(field)
            {
                return Err(format!(
                    "the field {field:?} is different: a draft changes releases only"
                ));
            }
        }
        let targets = |fields: &Map<String, Value>| fields.get("targets").and_then(Value::as_object).cloned();
        let old = targets(&before).unwrap_or_else(|| empty.clone());
        let new = targets(&after).unwrap_or(empty);
        if let Some(gone) = old.keys().find(|path| !new.contains_key(*path)) {
            return Err(format!(
                "it takes {gone:?} away: a release is withdrawn, not forgotten"
            ));
        }
        let mut changed = new.iter().filter(|(path, value)| old.get(*path) != Some(*value));
        match (changed.next(), changed.next()) {
            (None, _) => Ok(What::Renewal),
            (Some((path, value)), None) => match old.get(path) {
                None => self.release(path, value),
                Some(before) => withdrawal(path, before, value),
            },
            (Some((one, _)), Some((other, _))) => Err(format!(
                "it changes more than one release, {one:?} and {other:?}: a draft changes one"
            )),
        }
    }

    fn release(&self, path: &str, value: &Value) -> Result<What, String> {
        let (target, release) = described(path, value)?;
        let unknown = release.to_custom().ok() != target.custom
            || target.sha256().map(Hashes::sha256).as_ref() != Some(&target.hashes)
            || json!(target) != *value;
        if unknown {
            return Err(format!(
                "what it says about {path:?} is more than this program understands: use the same version everywhere"
            ));
        }
        if release
            .target_path()
            .map(|path| path.as_str().to_owned())
            .ok()
            .as_deref()
            != Some(path)
        {
            return Err(format!("{path:?} is not the path of what it describes"));
        }
        if release.withdrawn.is_some() || target.length == 0 || target.length > MAX_TARGET {
            return Err(format!(
                "{path:?} is withdrawn already, empty or larger than {MAX_TARGET} bytes"
            ));
        }
        self.is_next(&release, &target)?;
        Ok(What::Release {
            path: path.to_owned(),
            target,
            release: Box::new(release),
        })
    }

    /// As the preflight of the desk that began it: newer than all before, by number and by counter, and other bytes.
    fn is_next(&self, release: &Release, target: &TargetFile) -> Result<(), String> {
        let (component, version) = (&release.component, &release.version);
        if let Some(own) = &self.components
            && !own.iter().any(|name| name == component.as_str())
        {
            return Err(format!(
                "{component} is not among the team's components, {}",
                own.join(", ")
            ));
        }
        if let Some(newest) = self.catalogue.newest(component)
            && *version <= newest.release.version
        {
            let newest = &newest.release.version;
            return Err(format!(
                "{component} {version} is not newer than {newest}, which is there"
            ));
        }
        let counted = self.catalogue.counter(component);
        if release.counter <= counted {
            return Err(format!(
                "the counter {} is used already: {counted} is there",
                release.counter
            ));
        }
        if let Some(same) = target
            .sha256()
            .and_then(|digest| self.catalogue.same_bytes(component, &digest))
        {
            let version = &same.release.version;
            return Err(format!("the same bytes were released as {component} {version}"));
        }
        Ok(())
    }
}

/// A target that is there may only be withdrawn.
fn withdrawal(path: &str, before: &Value, after: &Value) -> Result<What, String> {
    let (mut target, old) = described(path, before)?;
    let (_, release) = described(path, after)?;
    let withdrawn = match (&old.withdrawn, &release.withdrawn) {
        (None, Some(withdrawn)) => withdrawn.clone(),
        _ => return Err(format!("it changes the release {path:?}, which is there already")),
    };
    mark_withdrawn(&mut target, withdrawn.at, &withdrawn.reason);
    let characters = withdrawn.reason.chars().count();
    if json!(target) != *after || !(1..=MAX_REASON).contains(&characters) {
        return Err(format!(
            "it changes more of the release {path:?} than that it is withdrawn"
        ));
    }
    Ok(What::Withdrawal {
        release: Box::new(release),
        withdrawn,
    })
}

fn described(path: &str, value: &Value) -> Result<(TargetFile, Release), String> {
    let not = |why: &dyn std::fmt::Display| format!("{path:?} is not understood: {why}");
    let target: TargetFile = serde_json::from_value(value.clone()).map_err(|error| not(&error))?;
    let release =
        Release::from_custom(target.custom.as_ref().unwrap_or(&Value::Null)).map_err(|error| not(&error))?;
    Ok((target, release))
}

//! All that is checked before a passphrase is asked for or anything is signed, as one report.
//!
//! The order is the document's (R-004-29): existence, then version; then what it did not know: form, size,
//! processor. The same checks run again after the click, on the state of that moment.

use release::{Arch, Component, Release, Version};
use serde::Serialize;
use tuf::{Digest, UnixTime};

use crate::catalogue::Catalogue;
use crate::draft::Draft;

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Good.
    Passed,
    /// Not to be published like this.
    Refused,
    /// Cannot be said, because another check is refused.
    Open,
}

impl Verdict {
    /// A sign for a list.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Passed => "✓",
            Self::Refused => "✗",
            Self::Open => "–",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable word: `exists`, `newer`, `form`, `size`, `processor`; on a team's desk `team`.
    pub id: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// For a person: what was found and, where it is refused, what to do.
    pub text: String,
}

/// The release that devices run now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Current {
    /// Its version.
    pub version: Version,
    /// When it was released.
    pub released: UnixTime,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preflight {
    /// What was understood: the component.
    pub component: Option<Component>,
    /// The version.
    pub version: Option<Version>,
    /// The name in the repository.
    pub file_name: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256.
    pub digest: Digest,
    /// The processor it runs on; none: any.
    pub processor: Option<Arch>,
    /// What it replaces.
    pub current: Option<Current>,
    /// The release counter it will get.
    pub counter: u64,
    /// The checks, in order.
    pub checks: Vec<Check>,
}

impl Preflight {
    /// Whether it may be published.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.checks.iter().all(|check| check.verdict == Verdict::Passed)
    }

    /// The first check that is refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.verdict == Verdict::Refused)
    }
}

impl std::fmt::Display for Preflight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
        writeln!(
            f,
            "  component  {}",
            or(self.component.as_ref().map(ToString::to_string), "?")
        )?;
        writeln!(
            f,
            "  version    {}",
            or(self.version.as_ref().map(ToString::to_string), "?")
        )?;
        let replaces = self
            .current
            .as_ref()
            .map(|now| format!("{}, released {}", now.version, now.released));
        writeln!(f, "  replaces   {}", or(replaces, "nothing, it is the first"))?;
        writeln!(f, "  file       {}, {} bytes", self.file_name, self.length)?;
        writeln!(f, "  sha256     {}", self.digest)?;
        writeln!(
            f,
            "  processor  {}",
            or(self.processor.map(|arch| arch.to_string()), "any")
        )?;
        for check in &self.checks {
            writeln!(f, "  {} {:<9} {}", check.verdict.mark(), check.id, check.text)?;
        }
        Ok(())
    }
}

/// Checks a draft against what the repository has.
#[must_use]
pub fn preflight(draft: &Draft, catalogue: &Catalogue) -> Preflight {
    let component = draft.component.as_ref();
    let current = component.and_then(|component| catalogue.current(component));
    let counted = component.map_or(0, |component| catalogue.counter(component));
    let counter = draft
        .manifest
        .as_ref()
        .and_then(|manifest| manifest.counter)
        .unwrap_or(counted + 1);
    Preflight {
        component: draft.component.clone(),
        version: draft.version.clone(),
        file_name: draft.file_name.clone(),
        length: draft.length,
        digest: draft.digest,
        processor: draft
            .manifest
            .as_ref()
            .and_then(|manifest| manifest.arch)
            .or(draft.found_arch),
        current: current.map(|listed| Current {
            version: listed.release.version.clone(),
            released: listed.release.released,
        }),
        counter,
        checks: [
            exists(draft, catalogue),
            newer(draft, catalogue, counter, counted),
        ]
        .into_iter()
        .chain(content(draft, current.map(|listed| &listed.release)))
        .collect(),
    }
}

/// The checks that need no repository; `current` is the release that devices run now, if that is known.
#[must_use]
pub fn content(draft: &Draft, current: Option<&Release>) -> Vec<Check> {
    vec![form(draft), size(draft), processor(draft, current)]
}

fn passed(id: &'static str, text: impl Into<String>) -> Check {
    Check {
        id,
        verdict: Verdict::Passed,
        text: text.into(),
    }
}

fn refused(id: &'static str, text: impl Into<String>) -> Check {
    Check {
        id,
        verdict: Verdict::Refused,
        text: text.into(),
    }
}

fn open(id: &'static str, text: impl Into<String>) -> Check {
    Check {
        id,
        verdict: Verdict::Open,
        text: text.into(),
    }
}

/// R-004-27: by version, and by content too.
fn exists(draft: &Draft, catalogue: &Catalogue) -> Check {
    let id = "exists";
    let (Some(component), Some(version)) = (&draft.component, &draft.version) else {
        return open(id, "component or version is not known yet");
    };
    let existed = protocol::messages::FILE_EXISTED.text;
    if let Some(found) = catalogue.find(component, version) {
        let same = if found.digest == Some(draft.digest) {
            "the same bytes"
        } else {
            "other bytes"
        };
        let when = found.release.released;
        return refused(
            id,
            format!("{existed} ({component} {version} was released {when} with {same})"),
        );
    }
    if let Some(found) = catalogue.same_bytes(component, &draft.digest) {
        let earlier = &found.release.version;
        return refused(
            id,
            format!("{existed} (the same bytes were released as {component} {earlier})"),
        );
    }
    passed(id, format!("{component} {version} is not in the repository yet"))
}

/// R-004-28 and R-004-30: as numbers, never as text; equal is not newer; a number is used once.
fn newer(draft: &Draft, catalogue: &Catalogue, counter: u64, counted: u64) -> Check {
    let id = "newer";
    let (Some(component), Some(version)) = (&draft.component, &draft.version) else {
        return open(id, "component or version is not known yet");
    };
    let Some(newest) = catalogue.newest(component) else {
        return passed(id, format!("the first release of {component}"));
    };
    let Release {
        version: before,
        withdrawn,
        ..
    } = &newest.release;
    let note = if withdrawn.is_some() { " (withdrawn)" } else { "" };
    if version == before {
        return refused(
            id,
            format!("{version} is the current version{note}: choose a newer one"),
        );
    }
    if version < before {
        let older = protocol::messages::OLDER_VERSION.text;
        return refused(
            id,
            format!("{older} (chosen: {version}, current: {before}{note})"),
        );
    }
    if counter <= counted {
        return refused(
            id,
            format!("update.toml says counter {counter}, {counted} is used already: leave it out"),
        );
    }
    passed(id, format!("{version} is newer than {before}{note}"))
}

fn form(draft: &Draft) -> Check {
    let id = "form";
    if !draft.faults.is_empty() {
        return refused(id, draft.faults.join("; "));
    }
    let Some(manifest) = &draft.manifest else {
        return refused(id, "it is not understood");
    };
    // What a device would refuse to read must not be signed: tried with a stand-in for what the click brings.
    let stand_in = manifest.release(
        "0".repeat(32),
        1,
        draft.form,
        draft.file_name.clone(),
        UnixTime(0),
    );
    match stand_in.to_custom() {
        Ok(_) => passed(id, "well formed"),
        Err(error) => refused(id, crate::draft::chain(&error)),
    }
}

fn size(draft: &Draft) -> Check {
    let (id, max) = ("size", protocol::limits::MAX_TARGET);
    match draft.length {
        0 => open(id, "there are no bytes yet"),
        length if length > max => refused(id, format!("{length} bytes: {max} at most")),
        length => passed(id, format!("{length} bytes")),
    }
}

fn processor(draft: &Draft, current: Option<&Release>) -> Check {
    let id = "processor";
    let (named, found) = (draft.named_arch, draft.found_arch);
    let before = current.and_then(|release| release.arch);
    match (named, found, before) {
        (Some(named), Some(found), _) if named != found => refused(
            id,
            format!("the program is built for {found}, not for {named}: build it for {named}"),
        ),
        (None, None, _) if draft.is_elf => refused(
            id,
            "the program is built for a processor that is not known here: name it with --arch",
        ),
        (None, Some(found), Some(before)) if found != before => refused(
            id,
            format!(
                "the program is built for {found}, the current release for {before}: if that is meant, say --arch {found} (or arch in update.toml)"
            ),
        ),
        (named, found, _) => match named.or(found) {
            Some(arch) => passed(id, format!("built for {arch}")),
            None => passed(id, "runs on any processor"),
        },
    }
}

//! What the core knows, as the plain types that a window gets.

use protocol::Outcome;
use protocol::control::{
    CheckRow, CheckVerdict, ComponentRow, Deadline, FleetOutcome, FleetRow, HistoryEntry, KeyFile,
    KeyPurpose, LatencyPoint, PreflightReport, Refusal, RoleRow, SiteStatus,
};
use protocol::messages;

use crate::desk::{Desk, View};
use crate::draft::Draft;
use crate::fleet::{DeviceRow, LatencyRow};
use crate::limits::{REFUSED_SHOWN, SNAPSHOT_REASONS, SNAPSHOT_VERSIONS};
use crate::preflight::{Check, Preflight, Verdict};
use crate::record::UploadRecord;
use crate::service::state::Known;
use crate::status::{ComponentStatus, RoleStatus};

/// The site from verified metadata and reports.
pub(super) fn site(desk: &Desk, view: &View, known: &Known) -> Box<SiteStatus> {
    let picture = desk.picture(view, &known.reports, None);
    let (at, advice) = picture.certificate;
    let mut refused = picture.refused_reports;
    let too_many = refused.len().saturating_sub(REFUSED_SHOWN);
    refused.drain(..too_many);
    Box::new(SiteStatus {
        author: picture.author,
        folder: desk.folder.dir.clone(),
        repository: known.repository.clone(),
        components: picture
            .components
            .into_iter()
            .map(|row| component(row, view))
            .collect(),
        roles: picture.roles.into_iter().map(role).collect(),
        certificate: Deadline { at, advice },
        keys: keys(desk, view),
        devices: known.fleet.len(),
        refused_reports: refused,
    })
}

fn component(row: ComponentStatus, view: &View) -> ComponentRow {
    let listed = view.catalogue.current(&row.component);
    let release = listed.map(|listed| &listed.release);
    let newest = |mut versions: Vec<_>| versions.split_off(versions.len().saturating_sub(SNAPSHOT_VERSIONS));
    let outcomes = [
        Outcome::Committed,
        Outcome::RolledBack,
        Outcome::Refused,
        Outcome::Failed,
    ]
    .into_iter()
    .filter_map(|outcome| Some((outcome, *row.outcomes.get(&outcome.to_string())?)))
    .collect();
    ComponentRow {
        current: row.current,
        released: row.released,
        digest: row.digest,
        length: row.length,
        processor: release.and_then(|release| release.arch),
        description: release.and_then(|release| release.description.clone()),
        update: row.update,
        versions: newest(row.versions),
        withdrawn: newest(row.withdrawn),
        outcomes,
        reasons: row.reasons.into_iter().take(SNAPSHOT_REASONS).collect(),
        component: row.component,
    }
}

fn role(row: RoleStatus) -> RoleRow {
    RoleRow {
        role: row.role,
        version: row.version,
        expires: Deadline {
            at: row.expires,
            advice: row.advice,
        },
    }
}

fn keys(desk: &Desk, view: &View) -> Vec<KeyFile> {
    let folder = &desk.folder;
    [
        (
            folder.root_key(),
            KeyPurpose::Root,
            Some(view.state.root().expires),
        ),
        (
            folder.targets_key(),
            KeyPurpose::Targets,
            view.state.targets().map(|role| role.expires),
        ),
        (
            folder.ca_key(),
            KeyPurpose::Authority,
            Some(desk.authority_expires),
        ),
        (
            folder.tls_key(),
            KeyPurpose::Connection,
            Some(desk.certificate_expires),
        ),
    ]
    .into_iter()
    .map(|(path, key, expires)| KeyFile {
        is_there: path.exists(),
        path,
        key,
        expires,
    })
    .collect()
}

/// A draft and what the checks say of it.
pub(super) fn report(
    draft_id: u64,
    draft: &Draft,
    found: &Preflight,
    unsure: Option<String>,
) -> PreflightReport {
    let manifest = draft.manifest.as_ref();
    PreflightReport {
        draft: draft_id,
        source: draft.source.clone(),
        component: found.component.clone(),
        version: found.version.clone(),
        file_name: found.file_name.clone(),
        length: found.length,
        digest: found.digest,
        processor: found.processor,
        form: draft.form,
        how: manifest
            .and_then(|manifest| manifest.run.as_ref())
            .map(|run| run.how),
        description: manifest.and_then(|manifest| manifest.about.description.clone()),
        previous: found.current.as_ref().map(|current| current.version.clone()),
        previous_released: found.current.as_ref().map(|current| current.released),
        unsure,
        checks: found.checks.iter().map(check).collect(),
        refusals: refusals(found),
    }
}

fn check(check: &Check) -> CheckRow {
    CheckRow {
        id: check.id.to_owned(),
        verdict: match check.verdict {
            Verdict::Passed => CheckVerdict::Passed,
            Verdict::Refused => CheckVerdict::Refused,
            Verdict::Open => CheckVerdict::Open,
        },
        text: check.text.clone(),
    }
}

/// Why it is not to be published, each with the document's prompt where it has one, and both versions named.
pub(super) fn refusals(found: &Preflight) -> Vec<Refusal> {
    let prompts = [messages::FILE_EXISTED, messages::OLDER_VERSION];
    let refused = |check: &&Check| check.verdict == Verdict::Refused;
    let refusal = |check: &Check| {
        let prompt = prompts.iter().find(|prompt| check.text.starts_with(prompt.text));
        Refusal {
            id: prompt.map_or_else(
                || format!("author.check.{}", check.id),
                |prompt| prompt.id.to_owned(),
            ),
            prompt: prompt
                .map_or(check.text.as_str(), |prompt| prompt.text)
                .to_owned(),
            text: match prompt {
                Some(_) => with_versions(&check.text, found),
                None => check.text.clone(),
            },
        }
    };
    let all: Vec<_> = found.checks.iter().filter(refused).map(refusal).collect();
    if all.is_empty() && !found.passes() {
        // Something could not be said at all: that is no yes.
        let text = "component or version is not known: say which it is".to_owned();
        return vec![Refusal {
            id: "author.check.open".to_owned(),
            prompt: text.clone(),
            text,
        }];
    }
    all
}

fn with_versions(text: &str, found: &Preflight) -> String {
    let mut text = text.to_owned();
    let chosen = found.version.as_ref().map(ToString::to_string);
    let current = found.current.as_ref().map(|current| current.version.to_string());
    for (what, version) in [("chosen", chosen), ("current", current)] {
        if let Some(version) = version.filter(|version| !text.contains(version.as_str())) {
            text = format!("{text} ({what}: {version})");
        }
    }
    text
}

pub(super) fn fleet_row(row: DeviceRow) -> FleetRow {
    let outcomes = row.outcomes.into_iter().map(|row| FleetOutcome {
        update: row.update,
        component: row.component,
        version: row.version,
        outcome: row.outcome,
        reason: row.reason,
        at: row.at,
    });
    FleetRow {
        device: row.device,
        last: row.last,
        components: row.components,
        outcomes: outcomes.collect(),
    }
}

pub(super) fn latency(row: LatencyRow) -> LatencyPoint {
    LatencyPoint {
        update: row.update,
        component: row.component,
        version: row.version,
        device: row.device,
        latencies: row.latencies,
        total: row.total,
    }
}

pub(super) fn history(record: UploadRecord) -> HistoryEntry {
    let receipt = record.receipt.as_ref();
    HistoryEntry {
        action: record.action.to_string(),
        source: record.source,
        released: record.release_time,
        component: record.application_name,
        version: record.version_number,
        at: record.upload_time,
        update: record.update,
        digest: record.digest,
        size: record.size,
        signer: record.signer.to_string(),
        author: record.author,
        failure: record.failure,
        receipt: receipt.map(|receipt| [receipt.targets, receipt.snapshot, receipt.timestamp]),
    }
}

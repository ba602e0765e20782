//! What became of it: the devices' signed reports, read back from the repository.

use std::collections::BTreeMap;

use mtls::Vouchers;
use protocol::author::StoredReport;
use protocol::device::ComponentState;
use protocol::{Event, Identity, Latencies, Name, Outcome, Report, Role, UpdateId, latencies};
use release::{Component, Version};
use serde::Serialize;
use tuf::UnixTime;

use crate::desk::Desk;
use crate::limits::{REFUSED_SHOWN, REPORT_PAGES, REPORTS_PAGE, REPORTS_READ};
use crate::record::UploadRecord;
use crate::repository::ClientError;

/// A report that verified.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// Place in the repository's order.
    pub seq: u64,
    /// When it arrived there.
    pub received: UnixTime,
    /// Whose key signed it.
    pub sender: Identity,
    /// What it says.
    pub report: Report,
}

/// All reports that were read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reports {
    /// Those that verified, oldest first.
    pub told: Vec<Told>,
    /// Those that did not, and why: nobody should see any.
    pub refused: Vec<String>,
    /// There are older ones than were read.
    pub is_cut: bool,
}

/// One device as its newest report shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceRow {
    /// Who.
    pub device: Identity,
    /// When it last reported.
    pub last: UnixTime,
    /// What it runs.
    pub components: Vec<ComponentState>,
    /// How the newest update of each component ended.
    pub outcomes: Vec<OutcomeRow>,
}

/// How an update ended on a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutcomeRow {
    /// The update.
    pub update: UpdateId,
    /// The component; none if the report tells no step.
    pub component: Option<Component>,
    /// The version that was tried.
    pub version: Option<Version>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub reason: Option<String>,
    /// When the report arrived.
    pub at: UnixTime,
}

/// The latency types of one update on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LatencyRow {
    /// The update.
    pub update: UpdateId,
    /// The component.
    pub component: Component,
    /// The version.
    pub version: Version,
    /// The device.
    pub device: Name,
    /// Types 1 to 7 and ours, in milliseconds.
    #[serde(flatten)]
    pub latencies: Latencies,
    /// The row "Total" of the document.
    pub total: Option<f64>,
}

impl Desk {
    /// Reads and verifies the newest reports in the repository.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reports(&self) -> Result<Reports, ClientError> {
        Ok(self.reports_after(0).await?.0)
    }

    /// Those behind a place in the repository's order, of them the newest, and the place that was reached.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reports_after(&self, mut after: u64) -> Result<(Reports, u64), ClientError> {
        let mut all = Reports::default();
        let (begun, mut first) = (after, None);
        for _ in 0..REPORT_PAGES {
            let page = self.repository.reports(after, REPORTS_PAGE, REPORTS_READ).await?;
            first = first.or(page.reports.first().map(|stored| stored.seq));
            let is_last = page.reports.is_empty() || page.next <= after;
            for stored in page.reports {
                match verified(&self.vouchers, &stored) {
                    Ok(told) => all.told.push(told),
                    Err(why) => all.refused.push(format!(
                        "report {} of {}: {why}",
                        stored.seq, stored.relayed.sender
                    )),
                }
            }
            if is_last {
                break;
            }
            after = page.next;
        }
        all.is_cut = first.is_some_and(|first| first > begun + 1);
        Ok((all, after))
    }
}

/// The text is checked against the key, the key against the sender's certificate, and that against the site's root, which
/// is the author's own: neither repository nor network can speak for a device.
fn verified(vouchers: &Vouchers, stored: &StoredReport) -> Result<Told, String> {
    let relayed = &stored.relayed;
    if relayed.chain.is_empty() {
        return Err("it comes without its sender's certificate".to_owned());
    }
    let vouched = vouchers.key_of(&relayed.chain, &relayed.sender);
    let vouched = vouched.map_err(|refusal| format!("its sender's certificate: {refusal}"))?;
    if vouched.fingerprint != relayed.report.key {
        return Err("its sender's certificate is for another key".to_owned());
    }
    let report = relayed
        .report
        .verify(&vouched.public_key, &relayed.sender)
        .map_err(|error| error.to_string())?;
    Ok(Told {
        seq: stored.seq,
        received: stored.received,
        sender: relayed.sender.clone(),
        report,
    })
}

impl Reports {
    /// Takes newer ones behind those that are here; of all, the newest `kept` stay.
    pub fn extend(&mut self, newer: Self, kept: usize) {
        self.is_cut = newer.is_cut;
        self.told.extend(newer.told);
        self.refused.extend(newer.refused);
        let too_many = self.told.len().saturating_sub(kept);
        self.told.drain(..too_many);
        let too_many = self.refused.len().saturating_sub(REFUSED_SHOWN);
        self.refused.drain(..too_many);
    }

    /// The devices that have ever reported, by name.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceRow> {
        let mut rows: BTreeMap<&Identity, DeviceRow> = BTreeMap::new();
        for told in self.told.iter().filter(|told| told.sender.role == Role::Device) {
            let row = rows.entry(&told.sender).or_insert_with(|| DeviceRow {
                device: told.sender.clone(),
                last: told.received,
                components: Vec::new(),
                outcomes: Vec::new(),
            });
            row.last = row.last.max(told.received);
            if !told.report.components.is_empty() {
                row.components.clone_from(&told.report.components);
            }
            if let Some(outcome) = outcome_of(told) {
                row.outcomes
                    .retain(|earlier| earlier.component != outcome.component);
                row.outcomes.push(outcome);
            }
        }
        rows.into_values().collect()
    }

    /// How often an update ended in which way, and why where it did not end well (`device: reason`).
    #[must_use]
    pub fn outcomes(&self, update: &UpdateId) -> (BTreeMap<String, usize>, Vec<String>) {
        let mut newest: BTreeMap<&Identity, OutcomeRow> = BTreeMap::new();
        for told in self.told.iter().filter(|told| told.sender.role == Role::Device) {
            if let Some(row) = outcome_of(told).filter(|row| row.update == *update) {
                newest.insert(&told.sender, row);
            }
        }
        let (mut counts, mut reasons) = (BTreeMap::new(), Vec::new());
        for (device, row) in newest {
            *counts.entry(row.outcome.to_string()).or_insert(0) += 1;
            if let Some(reason) = row.reason {
                reasons.push(format!("{}: {reason}", device.name));
            }
        }
        (counts, reasons)
    }

    /// The latency types of every update on every device, newest update last; the author's own steps come from
    /// the record of uploads.
    #[must_use]
    pub fn latencies(&self, records: &[UploadRecord]) -> Vec<LatencyRow> {
        let mut updates: Vec<UpdateId> = Vec::new();
        let mut events: BTreeMap<UpdateId, Vec<Event>> = BTreeMap::new();
        let told = self.told.iter().flat_map(|told| &told.report.events);
        for event in records.iter().flat_map(|record| &record.events).chain(told) {
            let list = events.entry(event.update).or_insert_with(|| {
                updates.push(event.update);
                Vec::new()
            });
            list.push(event.clone());
        }
        let mut rows = Vec::new();
        for update in updates {
            let list = events.remove(&update).unwrap_or_default();
            let mut devices: BTreeMap<Name, (Component, Version)> = BTreeMap::new();
            for event in list.iter().filter(|event| event.actor.role == Role::Device) {
                let subject = (event.component.clone(), event.version.clone());
                devices.entry(event.actor.name.clone()).or_insert(subject);
            }
            for (device, (component, version)) in devices {
                let latencies = latencies(&list, &device);
                let total = latencies.total();
                rows.push(LatencyRow {
                    update,
                    component,
                    version,
                    device,
                    latencies,
                    total,
                });
            }
        }
        rows
    }
}

fn outcome_of(told: &Told) -> Option<OutcomeRow> {
    let last = told.report.events.last();
    Some(OutcomeRow {
        update: told.report.update?,
        component: last.map(|event| event.component.clone()),
        version: last.map(|event| event.version.clone()),
        outcome: told.report.outcome?,
        reason: told.report.reason.clone(),
        at: told.received,
    })
}

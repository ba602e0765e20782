//! The record of uploads, the fleet and the latencies, as much of them as fits into an answer.

use std::sync::Arc;

use protocol::control::{FleetPage, HistoryView, LatencyView};
use protocol::device::Problem;
use serde::Serialize;

use crate::limits::{ANSWER_ROWS, FLEET_PAGE, HISTORY, LATENCY_UPDATES};
use crate::record;
use crate::service::state::Service;
use crate::service::{snapshot, words};

/// How many of the rows fit into an answer.
fn fitting<'a, T: Serialize + 'a>(rows: impl Iterator<Item = &'a T>) -> usize {
    let mut bytes = 0;
    rows.take_while(|row| {
        // What has no JSON form does not come: it costs nothing.
        bytes += serde_json::to_vec(row).map_or(0, |text| text.len() + 1);
        bytes <= ANSWER_ROWS
    })
    .count()
}

/// The newest rows, as many as fit; whether older ones were left out.
fn newest<T: Serialize>(mut rows: Vec<T>) -> (Vec<T>, bool) {
    let count = fitting(rows.iter().rev());
    let is_cut = count < rows.len();
    (rows.split_off(rows.len() - count), is_cut)
}

pub(super) async fn history(service: &Service, last: usize) -> Result<HistoryView, Problem> {
    let records = service.desk()?.folder.records();
    words::blocking(move || {
        let mut records = record::read(&records).map_err(|error| words::problem("author.disk", &error))?;
        let left_out = records.len().saturating_sub(last.min(HISTORY));
        let rows = records
            .split_off(left_out)
            .into_iter()
            .map(snapshot::history)
            .collect();
        let (entries, does_not_fit) = newest(rows);
        Ok(HistoryView {
            entries,
            is_cut: left_out > 0 || does_not_fit,
        })
    })
    .await?
}

pub(super) async fn fleet(
    service: &Service,
    after: Option<String>,
    limit: usize,
) -> Result<FleetPage, Problem> {
    service.desk()?;
    let known = service.known();
    words::blocking(move || {
        let all = &known.fleet;
        let from = after.map_or(0, |after| {
            all.partition_point(|row| row.device.name.as_str() <= after.as_str())
        });
        let rest = all.get(from..).unwrap_or_default();
        let rest = &rest[..rest.len().min(limit.clamp(1, FLEET_PAGE))];
        // At least one, so that whoever turns the pages gets on.
        let devices = rest[..fitting(rest.iter()).max(1).min(rest.len())].to_vec();
        let is_last = from + devices.len() >= all.len();
        FleetPage {
            next: devices
                .last()
                .filter(|_| !is_last)
                .map(|row| row.device.name.to_string()),
            devices,
            total: all.len(),
            asked: known.reports_asked,
            trouble: known.repository.trouble.or(known.reports_trouble),
        }
    })
    .await
}

pub(super) async fn latencies(service: &Service, releases: usize) -> Result<LatencyView, Problem> {
    let records = service.desk()?.folder.records();
    let reports = Arc::clone(&service.known().reports);
    words::blocking(move || {
        let records = record::read(&records).map_err(|error| words::problem("author.disk", &error))?;
        let mut rows = reports.latencies(&records);
        let mut updates: Vec<_> = rows.iter().map(|row| row.update).collect();
        updates.dedup();
        let shown = updates.split_off(updates.len().saturating_sub(releases.min(LATENCY_UPDATES)));
        rows.retain(|row| shown.contains(&row.update));
        let (rows, is_cut) = newest(rows.into_iter().map(snapshot::latency).collect());
        Ok(LatencyView { rows, is_cut })
    })
    .await?
}

//! `/metrics` in Prometheus' text format.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tuf::UnixTime;

use super::{App, blocking};
use crate::Refusal;
use crate::counters::get;

/// All figures, made in one go.
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Refusal> {
    let repository = app.repository.clone();
    let ((reports, report_bytes), certificate_until) = blocking(move || {
        Ok((
            repository.reader().report_totals()?,
            repository.certificate_until(),
        ))
    })
    .await?;
    let visible = app.repository.visible();
    let counters = &app.repository.counters;
    let (files, bytes) = visible.totals();
    let mut text = Text::default();

    text.head(
        "drover_repository_requests_total",
        "counter",
        "Requests answered, by route and status.",
    );
    for (route, status, number) in counters.requests() {
        let labels = format!("{{route=\"{route}\",status=\"{status}\"}}");
        text.line("drover_repository_requests_total", &labels, number);
    }
    for (name, help, counter) in [
        ("target_bytes", "Bytes of targets sent.", &counters.target_bytes),
        (
            "upload_bytes",
            "Bytes of uploads received.",
            &counters.upload_bytes,
        ),
        ("publishes", "Publishes accepted.", &counters.publishes),
        ("publishes_refused", "Publishes refused.", &counters.refused),
        (
            "renewals",
            "Snapshot and timestamp signed again.",
            &counters.renewals,
        ),
        (
            "renewal_failures",
            "Tries to sign again that failed.",
            &counters.renewal_failures,
        ),
        ("reports", "Reports stored.", &counters.reports),
        ("reports_refused", "Reports not believed.", &counters.bad_reports),
        (
            "slow_bodies",
            "Uploads cut because they were too slow.",
            &counters.slow_cut,
        ),
    ] {
        let name = format!("drover_repository_{name}_total");
        text.head(&name, "counter", help);
        text.line(&name, "", get(counter));
    }
    let seconds = |time: Option<UnixTime>| time.map_or(0, |time| u64::try_from(time.0).unwrap_or(0));
    let [root, timestamp, snapshot, targets] = visible.versions;
    text.head(
        "drover_repository_role_version",
        "gauge",
        "Newest version of a role.",
    );
    text.roles(
        "drover_repository_role_version",
        &[
            ("root", root),
            ("timestamp", timestamp),
            ("snapshot", snapshot),
            ("targets", targets),
        ],
    );
    text.head(
        "drover_repository_role_expires_seconds",
        "gauge",
        "When a role ends, in seconds since 1970.",
    );
    text.roles(
        "drover_repository_role_expires_seconds",
        &[
            ("root", seconds(visible.root_until)),
            ("online", seconds(visible.online_until)),
            ("targets", seconds(visible.targets_until)),
            ("certificate", seconds(certificate_until)),
        ],
    );
    for (name, help, value) in [
        (
            "recovering",
            "1 while restored from a backup and waiting.",
            u64::from(visible.recovering),
        ),
        ("files", "Target files.", files as u64),
        ("file_bytes", "Bytes of target files.", bytes),
        ("stored_reports", "Reports kept.", reports),
        ("stored_report_bytes", "Bytes of reports kept.", report_bytes),
        (
            "subscribers",
            "Open event streams.",
            app.subscribers.count() as u64,
        ),
    ] {
        let name = format!("drover_repository_{name}");
        text.head(&name, "gauge", help);
        text.line(&name, "", value);
    }
    Ok((
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text.0,
    )
        .into_response())
}

#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn roles(&mut self, name: &str, values: &[(&str, u64)]) {
        for (role, value) in values {
            self.line(name, &format!("{{role=\"{role}\"}}"), *value);
        }
    }
}

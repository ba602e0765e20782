//! The report: one file that needs no other, for people.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::chart::{Boxes, Lines, time};
use super::numbers::Numbers;
use super::run::{HAND_OVERS, Sample, Series};
use super::{ACTUAL, CLICK, DOCUMENT, DOWNLOAD, TOTAL, TYPES};

pub(crate) const STYLE: &str = include_str!("page.css");
/// Releases of the document's own table.
const DOCUMENT_RUNS: usize = 6;
/// The parts explain the total where no more than so many percent of it are left.
const EXPLAINED: f64 = 2.0;
/// Bytes of raw data in one file, at most.
const MAX_RAW: u64 = 256 << 20;

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Writes `report.html` of the `latency.json` and `security.json` that lie in a folder, both or one of them.
///
/// # Errors
/// One of them cannot be read, or the report not be written.
pub fn write_report(folder: &Path) -> Result<()> {
    let read = |name: &str| -> Result<Option<Value>> {
        let path = folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = durable::read_limited(&path, MAX_RAW)?;
        let value =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", path.display()))?;
        Ok(Some(value))
    };
    let (latency, security) = (read("latency.json")?, read("security.json")?);
    let series: Vec<Series> = match &latency {
        Some(latency) => serde_json::from_value(latency["series"].clone())?,
        None => Vec::new(),
    };
    let text = |key: &str| {
        let all = [&latency, &security].into_iter().flatten();
        let found = all.filter_map(|part| part[key].as_str()).next();
        found.unwrap_or_default().to_owned()
    };
    let rows = security.as_ref().map(|security| &security["rows"]);
    let page = page(&text("machine"), &text("made"), &series, rows);
    durable::replace(folder.join("report.html"), page, 0o644)?;
    Ok(())
}

/// The report of what there is: latency series, and the rows of the security evaluation.
#[must_use]
pub fn page(machine: &str, made: &str, series: &[Series], security: Option<&Value>) -> String {
    let mut out = String::new();
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Drover: evaluation</title>\n<style>{STYLE}</style>\n<main>\n<h1>Drover: evaluation</h1>\n\
         <p class=\"quiet\">{} · {}</p>",
        escape(machine),
        escape(made)
    )
    .ok();
    head(&mut out, series);
    for one in series {
        latency(&mut out, one);
    }
    if let Some(Value::Array(rows)) = security {
        self::security(&mut out, rows);
    }
    how(&mut out);
    out.push_str("</main></html>\n");
    out
}

/// What a reader in a hurry takes away.
fn head(out: &mut String, series: &[Series]) {
    out.push_str("<section class=\"figures\">\n");
    for one in series {
        let click = Numbers::of(one.last().map(TYPES[CLICK].1));
        writeln!(
            out,
            "<div><b>{}</b><span>median from the click to the last device well</span><em>{}</em>\
             <span>99 of 100 within {}, worst {}</span></div>",
            time(click.p50),
            escape(&one.name()),
            time(click.p99),
            time(click.max)
        )
        .ok();
    }
    out.push_str("</section>\n");
    if let Some(one) = series.first() {
        document(out, one);
    }
}

/// Table 6.2 beside ours.
fn document(out: &mut String, one: &Series) {
    write!(
        out,
        "<h2>The document's table 6.2, and the same with these programs</h2>\n\
         <p>The first {DOCUMENT_RUNS} releases of “{}”, milliseconds; beside them what the document says of its own, \
         which was measured in whole seconds with a timer of ten.</p>\n<div class=\"wide\"><table><thead><tr><th>Latency \
         type</th>",
        escape(&one.name())
    )
    .ok();
    let runs: Vec<_> = one.last().take(DOCUMENT_RUNS).collect();
    for run in &runs {
        write!(out, "<th>{}</th>", run.release).ok();
    }
    out.push_str("<th>mean</th><th>sd</th><th>document: mean</th><th>sd</th></tr></thead><tbody>\n");
    for ((name, value), theirs) in TYPES.iter().zip(DOCUMENT) {
        write!(out, "<tr><th>{name}</th>").ok();
        for run in &runs {
            write!(out, "<td>{:.1}</td>", value(run)).ok();
        }
        let numbers = Numbers::of(runs.iter().map(|run| value(run)));
        write!(out, "<td>{:.1}</td><td>{:.1}</td>", numbers.mean, numbers.sd).ok();
        match theirs {
            Some((mean, sd)) => writeln!(
                out,
                "<td class=\"quiet\">{mean:.0}</td><td class=\"quiet\">{sd:.0}</td></tr>"
            ),
            None => writeln!(out, "<td></td><td></td></tr>"),
        }
        .ok();
    }
    out.push_str("</tbody></table></div>\n");
}

/// The charts of a series, by file name without its ending.
#[must_use]
pub fn charts(one: &Series) -> Vec<(&'static str, String)> {
    let name = one.name();
    let of = |kind: usize| -> Vec<f64> { one.last().map(TYPES[kind].1).collect() };
    let title = format!("All latency types, the last device of each release ({name})");
    let lines = Lines {
        title: &title,
        across: "release",
        lines: (DOWNLOAD..TOTAL)
            .chain([ACTUAL])
            .map(|kind| (TYPES[kind].0, of(kind)))
            .collect(),
    };
    let title = format!("Download, total, actual total, from the click ({name})");
    let boxes = Boxes {
        title: &title,
        boxes: [DOWNLOAD, TOTAL, ACTUAL, CLICK]
            .map(|kind| (TYPES[kind].0, of(kind)))
            .into(),
    };
    vec![("lines", lines.svg()), ("boxes", boxes.svg())]
}

fn latency(out: &mut String, one: &Series) {
    let setting = &one.setting;
    writeln!(
        out,
        "<h2>{}</h2>\n<p>{} releases of {:.1} MB each, RSA-PSS signed, to {} real device agents. The table is about the \
         last device of each release: the one that a site waits for.</p>",
        escape(&one.name()),
        setting.releases,
        crate::figures::mb(u64::try_from(setting.bytes).unwrap_or(0)),
        setting.devices
    )
    .ok();
    for (_, svg) in charts(one) {
        writeln!(out, "<figure>{svg}</figure>").ok();
    }
    table(out, one);
    explanation(out, one);
}

fn table(out: &mut String, one: &Series) {
    out.push_str(
        "<div class=\"wide\"><table><thead><tr><th>Latency type, ms</th><th>mean</th><th>± 95 %</th><th>sd</th>\
         <th>min</th><th>median</th><th>90 %</th><th>99 %</th><th>max</th><th></th></tr></thead><tbody>\n",
    );
    for (name, value) in TYPES {
        let n = Numbers::of(one.last().map(value));
        writeln!(
            out,
            "<tr><th>{name}</th><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td>\
             <td>{:.2}</td><td>{:.2}</td><td class=\"quiet\">{}</td></tr>",
            n.mean,
            n.ci95,
            n.sd,
            n.min,
            n.p50,
            n.p90,
            n.p99,
            n.max,
            n.steadiness().as_str()
        )
        .ok();
    }
    out.push_str("</tbody></table></div>\n");
}

/// What carries the total, and what lies between the types.
fn explanation(out: &mut String, one: &Series) {
    let mean = |kind: usize| Numbers::of(one.last().map(TYPES[kind].1)).mean;
    let actual = mean(ACTUAL);
    let between = actual - mean(TOTAL);
    let largest = (DOWNLOAD..TOTAL)
        .max_by(|one, other| mean(*one).total_cmp(&mean(*other)))
        .unwrap_or(DOWNLOAD);
    let percent = |part: f64| if actual == 0.0 { 0.0 } else { part / actual * 100.0 };
    let rest = Numbers::of(one.last().map(Sample::unexplained)).mean;
    let verdict = if percent(rest).abs() <= EXPLAINED {
        "within 2 %, as they must"
    } else {
        "which is more than 2 %: steps are missing"
    };
    writeln!(
        out,
        "<p>The largest part is <b>{}</b> with {:.0} % of the actual total; between the types lie {} ({:.1} %), which the \
         steps name:</p><ul>",
        TYPES[largest].0,
        percent(mean(largest)),
        time(between),
        percent(between)
    )
    .ok();
    for (place, (name, _, _)) in HAND_OVERS.iter().enumerate() {
        let part = Numbers::of(one.last().map(|sample| sample.hand_overs[place]));
        writeln!(
            out,
            "<li>{name}: {} (sd {}), {:.1} %</li>",
            time(part.mean),
            time(part.sd),
            percent(part.mean)
        )
        .ok();
    }
    writeln!(
        out,
        "</ul><p>All parts together explain the actual total but for {} ({:.2} %), {verdict}.</p>",
        time(rest),
        percent(rest)
    )
    .ok();
}

/// The document's table 6.4 and ours, as `scripts/eval-security` writes its rows.
fn security(out: &mut String, rows: &[Value]) {
    out.push_str(
        "<h2>Right inputs are accepted, wrong ones are not (table 6.4)</h2>\n<div class=\"wide\"><table><thead><tr>\
         <th>what is tried</th><th>who refuses</th><th>inputs</th><th>distinct</th><th>accepted</th></tr></thead><tbody>\n",
    );
    for row in rows {
        let text = |key: &str| escape(row[key].as_str().unwrap_or_default());
        let count = |key: &str| row[key].as_u64().unwrap_or(0);
        let right = row["right"].as_bool().unwrap_or(false);
        let wanted = if right { count("trials") } else { 0 };
        let class = if count("accepted") == wanted {
            ""
        } else {
            " class=\"wrong\""
        };
        #[allow(clippy::cast_precision_loss)] // thousands
        let percent = count("accepted") as f64 * 100.0 / count("trials").max(1) as f64;
        writeln!(
            out,
            "<tr{class}><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{percent:.1} %</td></tr>",
            text("what"),
            text("at"),
            count("trials"),
            count("distinct")
        )
        .ok();
    }
    out.push_str("</tbody></table></div>\n");
}

fn how(out: &mut String) {
    out.push_str(
        "<h2>How it was measured</h2>\n<p>The four programs run as processes on one machine, over mutual TLS on \
         loopback. Every step is stamped where it happens by the time since boot, which nobody can set; on one machine \
         the stamps of all programs are of the same clock. A type is the time between two steps, as the document defines \
         it. Percentiles are values that were seen (nearest rank). Waiting for the probation is no part of any figure. The \
         document calls a type stable by its standard deviation: here up to a tenth of the mean is stable, up to a third \
         relatively stable.</p>\n",
    );
}

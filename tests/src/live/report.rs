//! What the benchmark leaves: charts, raw series, figures and one page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::knee::Tried;
use super::scenario::{Course, Strike};
use crate::eval::{STYLE, escape, png};
use crate::figures::{Figure, machine, now};

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Report {
    /// What was tried to find the knee of ours, and of mosquitto.
    pub knees: Vec<(&'static str, f64, Vec<Tried>)>,
    /// Courses.
    pub courses: Vec<Course>,
    /// Kills.
    pub strikes: Vec<Strike>,
    /// The figures of everything.
    pub figures: Vec<Figure>,
}

/// Writes everything into `folder`.
///
/// # Errors
/// Those of the disk.
pub fn write(report: &Report, folder: &Path) -> Result<()> {
    durable::create_dir(folder, 0o755)?;
    let put = |name: &str, bytes: &[u8]| durable::replace(folder.join(name), bytes, 0o644);
    let mut figures = String::new();
    for (name, svg) in super::chart::charts(&report.courses) {
        put(&format!("live-{name}.svg"), svg.as_bytes())?;
        put(&format!("live-{name}.png"), &png(&svg)?)?;
        writeln!(figures, "<figure>{svg}</figure>")?;
    }
    let mut csv = String::from("course,bucket_begin_ms,deliveries,latency_sum_us,latency_max_us\n");
    for course in &report.courses {
        for (place, bucket) in course.record.buckets.iter().enumerate() {
            let begin = place as u64 * super::BUCKET_MS;
            let super::Bucket {
                count,
                sum_us,
                max_us,
            } = bucket;
            writeln!(csv, "\"{}\",{begin},{count},{sum_us},{max_us}", course.name)?;
        }
    }
    put("live.csv", csv.as_bytes())?;
    let courses: Vec<_> = report
        .courses
        .iter()
        .map(|course| {
            json!({ "name": course.name, "rate": course.rate, "at_ms": course.at_ms, "told": course.told,
                    "down_ms": course.down_ms, "total": course.record.total, "load_cpu_s": course.record.load_cpu_s,
                    "seconds": course.record.seconds })
        })
        .collect();
    let raw = json!({ "machine": machine(), "made": now(), "knees": report.knees, "courses": courses,
                      "strikes": report.strikes, "figures": report.figures });
    put("live.json", &serde_json::to_vec_pretty(&raw)?)?;
    put("live.html", page(report, &figures).as_bytes())?;
    Ok(())
}

fn page(report: &Report, charts: &str) -> String {
    let mut out = String::new();
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Drover: live update</title>\n<style>{STYLE}</style>\n<main>\n<h1>Drover: live update under load</h1>\n\
         <p class=\"quiet\">{} · {}</p>\n<p>Document 000's benchmark with the example broker: publishers at a fixed rate, \
         ten subscribers, QoS 2 in and out, everything on this machine, what is remembered on its disk. A latency counts \
         from when the message was due.</p>",
        escape(&machine()),
        escape(&now())
    )
    .ok();
    out.push_str("<h2>Figures</h2><div class=\"wide\"><table><thead><tr><th>figure</th><th>measured</th><th></th><th>goal</th></tr></thead><tbody>\n");
    for figure in &report.figures {
        let goal = figure.goal.map_or(String::new(), |goal| format!("{goal:.0}"));
        let class = if figure.is_over() { " class=\"wrong\"" } else { "" };
        let name = escape(&figure.name);
        writeln!(
            out,
            "<tr{class}><th>{name}</th><td>{:.2}</td><td>{}</td><td>{goal}</td></tr>",
            figure.value, figure.unit
        )
        .ok();
    }
    out.push_str("</tbody></table></div>\n<h2>Courses</h2>\n");
    out.push_str(charts);
    for (name, knee, tried) in &report.knees {
        writeln!(out, "<h2>The knee of {name}: {knee:.0} messages a second</h2><div class=\"wide\"><table><thead><tr>\
                     <th>messages a second</th><th>mean latency at the end, ms</th><th>kept up</th></tr></thead><tbody>").ok();
        for one in tried {
            let kept = if one.kept_up { "yes" } else { "no" };
            writeln!(
                out,
                "<tr><th>{:.0}</th><td>{:.2}</td><td>{kept}</td></tr>",
                one.rate, one.mean_ms
            )
            .ok();
        }
        out.push_str("</tbody></table></div>\n");
    }
    if !report.strikes.is_empty() {
        out.push_str(
            "<h2>kill -9 after each phase</h2><div class=\"wide\"><table><thead><tr><th>killed, after</th>\
                      <th>version that serves</th><th>connections broken</th></tr></thead><tbody>\n",
        );
        for one in &report.strikes {
            let class = if one.must_hold && one.dropped > 0 {
                " class=\"wrong\""
            } else {
                ""
            };
            let note = if one.must_hold {
                ""
            } else {
                " (it served: started again from its journal)"
            };
            writeln!(
                out,
                "<tr{class}><th>{:?}, {}{note}</th><td>{}</td><td>{}</td></tr>",
                one.victim, one.phase, one.serves, one.dropped
            )
            .ok();
        }
        out.push_str("</tbody></table></div>\n");
    }
    out.push_str("</main></html>\n");
    out
}

//! The document's figures 3 and 4 of our own courses: throughput and latency, a window of a second, a step of a tenth.

use super::scenario::Course;
use crate::eval::{Mark, Over};

/// Seconds shown before and after the event.
const BEFORE: f64 = 5.0;
const AFTER: f64 = 10.0;

/// The charts, by file name without its ending.
pub(super) fn charts(courses: &[Course]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for course in courses {
        let name = course.name.replace(' ', "-");
        all.push((
            format!("{name}-throughput"),
            over(&[course], "Deliveries a second", |at| at.1, count),
        ));
        all.push((
            format!("{name}-latency"),
            over(&[course], "Mean latency", |at| at.2, time),
        ));
    }
    let courses: Vec<&Course> = courses.iter().collect();
    all.push((
        "all-throughput".into(),
        over(&courses, "Deliveries a second, all", |at| at.1, count),
    ));
    all.push((
        "all-latency".into(),
        over(&courses, "Mean latency, all", |at| at.2, time),
    ));
    all
}

fn over(
    courses: &[&Course],
    title: &str,
    value: fn(&(f64, f64, f64)) -> f64,
    label: fn(f64) -> String,
) -> String {
    let at = courses.first().map_or(0.0, |course| seconds(course.at_ms));
    let title = match courses {
        [one] => format!(
            "{title}: {}, {:.0} messages a second to ten subscribers",
            one.name, one.rate
        ),
        _ => title.to_owned(),
    };
    Over {
        title: &title,
        span: (at - BEFORE, at + AFTER),
        curves: courses
            .iter()
            .map(|course| {
                (
                    course.name,
                    course
                        .windows()
                        .iter()
                        .map(|point| (point.0, value(point)))
                        .collect(),
                )
            })
            .collect(),
        marks: vec![Mark { at, name: "here" }],
        label,
    }
    .svg()
}

#[allow(clippy::cast_precision_loss)] // milliseconds of a run
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

fn count(value: f64) -> String {
    format!("{value:.0}")
}

fn time(ms: f64) -> String {
    if ms >= 1_000.0 {
        format!("{:.1} s", ms / 1e3)
    } else {
        format!("{ms:.1} ms")
    }
}

//! Curves over time.

use std::fmt::Write as _;

use super::chart::{BOTTOM, COLOURS, Canvas, FAINT, HEIGHT, LEFT, QUIET, RIGHT, TOP, WIDTH, spread, step};

/// Curves over seconds.
#[derive(Debug)]
pub struct Over<'a> {
    /// Above the chart.
    pub title: &'a str,
    /// The first and the last second.
    pub span: (f64, f64),
    /// A name and its points: seconds, value.
    pub curves: Vec<(&'a str, Vec<(f64, f64)>)>,
    /// What happened meanwhile.
    pub marks: Vec<Mark<'a>>,
    /// How a value is written.
    pub label: fn(f64) -> String,
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub struct Mark<'a> {
    /// When, in seconds.
    pub at: f64,
    /// What.
    pub name: &'a str,
}

impl Over<'_> {
    /// The chart.
    #[must_use]
    pub fn svg(&self) -> String {
        let (from, to) = self.span;
        let within = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            points
                .iter()
                .filter(|(at, _)| (from..=to).contains(at))
                .copied()
                .collect()
        };
        let curves: Vec<_> = self
            .curves
            .iter()
            .map(|(name, points)| (*name, within(points)))
            .collect();
        let all = curves
            .iter()
            .flat_map(|(_, points)| points.iter().map(|(_, value)| *value));
        let mut canvas = Canvas::labelled(self.title, RIGHT, all, self.label);
        let width = WIDTH - LEFT - RIGHT;
        let x = |at: f64| LEFT + width * (at - from) / (to - from).max(1e-9);
        let step = step(to - from);
        let mut tick = (from / step).ceil() * step;
        while tick <= to {
            canvas.text(
                x(tick),
                HEIGHT - BOTTOM + 18.0,
                "middle",
                QUIET,
                &format!("{tick:.0}"),
            );
            tick += step;
        }
        canvas.text(
            LEFT + width / 2.0,
            HEIGHT - 10.0,
            "middle",
            QUIET,
            "seconds since the first message",
        );
        for mark in self.marks.iter().filter(|mark| (from..=to).contains(&mark.at)) {
            canvas.line((x(mark.at), TOP - 8.0), (x(mark.at), HEIGHT - BOTTOM), FAINT, 2.0);
            canvas.text(x(mark.at) + 4.0, TOP - 2.0, "start", QUIET, mark.name);
        }
        let mut labels = Vec::new();
        for ((name, points), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            let path: Vec<String> = points
                .iter()
                .map(|(at, value)| format!("{:.1},{:.1}", x(*at), canvas.y(*value)))
                .collect();
            write!(
                canvas.out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
                path.join(" ")
            )
            .ok();
            labels.push((
                canvas.y(points.last().map_or(0.0, |(_, value)| *value)),
                *name,
                *colour,
            ));
        }
        for (y, name, colour) in spread(labels) {
            canvas.text(WIDTH - RIGHT + 12.0, y + 4.0, "start", colour, name);
        }
        canvas.done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::png;

    #[test]
    fn curves_are_drawn_where_they_are_asked_for() {
        let chart = Over {
            title: "deliveries",
            span: (5.0, 15.0),
            curves: vec![(
                "ours",
                (0..20).map(|at| (f64::from(at), f64::from(at) * 10.0)).collect(),
            )],
            marks: vec![
                Mark {
                    at: 10.0,
                    name: "update",
                },
                Mark {
                    at: 30.0,
                    name: "later",
                },
            ],
            label: |value| format!("{value:.0}"),
        };
        let svg = chart.svg();
        assert!(svg.contains("update") && !svg.contains("later"));
        assert!(svg.matches(",").count() >= 11);
        assert!(png(&svg).unwrap().starts_with(b"\x89PNG"));
    }
}

//! Charts as SVG, and the same as PNG.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::numbers::Numbers;

/// Told apart by people who see colours differently too (Okabe and Ito), in an order of contrast on white.
pub(super) const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#444444", "#a6761d",
];
pub(super) const INK: &str = "#1c2630";
pub(super) const FAINT: &str = "#d5dbe1";
pub(super) const QUIET: &str = "#5a6773";
pub(super) const WIDTH: f64 = 960.0;
pub(super) const HEIGHT: f64 = 420.0;
pub(super) const LEFT: f64 = 72.0;
/// Where lines have their names.
pub(super) const RIGHT: f64 = 200.0;
/// Where nothing stands.
const MARGIN: f64 = 28.0;
pub(super) const TOP: f64 = 52.0;
pub(super) const BOTTOM: f64 = 48.0;
/// Pixels of the PNG for each of the SVG.
const SCALE: f32 = 2.0;
/// Room for a line of labels at the right edge.
const LABEL: f64 = 17.0;
/// Ticks of an axis, about.
const TICKS: f64 = 5.0;

/// Lines over the releases.
#[derive(Debug)]
pub struct Lines<'a> {
    /// Above the chart.
    pub title: &'a str,
    /// Below the horizontal axis.
    pub across: &'a str,
    /// A name and its values, milliseconds, from release 1 on.
    pub lines: Vec<(&'a str, Vec<f64>)>,
}

/// Boxes: quarters, middle, whiskers to the ends, and every value as a point.
#[derive(Debug)]
pub struct Boxes<'a> {
    /// Above the chart.
    pub title: &'a str,
    /// A name and its values, milliseconds.
    pub boxes: Vec<(&'a str, Vec<f64>)>,
}

pub(super) struct Canvas {
    pub(super) out: String,
    top: f64,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

/// Milliseconds for an axis or a label.
pub(super) fn time(ms: f64) -> String {
    match ms.abs() {
        large if large >= 10_000.0 => format!("{:.0} s", ms / 1000.0),
        large if large >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        large if large >= 100.0 => format!("{ms:.0} ms"),
        large if large >= 1.0 => format!("{ms:.1} ms"),
        0.0 => "0".to_owned(),
        _ => format!("{ms:.2} ms"),
    }
}

/// The next number of the kind 1, 2 or 5 times a power of ten.
pub(super) fn step(span: f64) -> f64 {
    let rough = (span / TICKS).max(1e-6);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough);
    factor.unwrap_or(10.0) * power
}

impl Canvas {
    fn new(title: &str, right: f64, values: impl Iterator<Item = f64>) -> Self {
        Self::labelled(title, right, values, time)
    }

    /// An empty chart that is high enough, its ticks named by `label`.
    pub(super) fn labelled(
        title: &str,
        right: f64,
        values: impl Iterator<Item = f64>,
        label: fn(f64) -> String,
    ) -> Self {
        let highest = values.fold(0.0_f64, f64::max).max(1.0);
        let step = step(highest);
        let top = (highest / step).ceil() * step;
        let mut canvas = Self {
            out: String::new(),
            top,
        };
        let font = "font-family=\"Ubuntu, 'Ubuntu Light', 'Segoe UI', Roboto, sans-serif\"";
        write!(
            canvas.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\" aria-label=\"{}\" {font} font-size=\"13\">\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
            escape(title)
        )
        .ok();
        canvas.text(LEFT, 28.0, "start", INK, title);
        let mut tick = 0.0;
        while tick <= top + step / 2.0 {
            let y = canvas.y(tick);
            canvas.line((LEFT, y), (WIDTH - right, y), FAINT, 1.0);
            canvas.text(LEFT - 10.0, y + 4.0, "end", QUIET, &label(tick));
            tick += step;
        }
        canvas
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value.max(0.0) / self.top * (HEIGHT - TOP - BOTTOM)
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: &str, colour: &str, text: &str) {
        let text = escape(text);
        write!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
        )
        .ok();
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        write!(
            self.out,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            from.0, from.1, to.0, to.1
        )
        .ok();
    }

    fn dot(&mut self, x: f64, y: f64, radius: f64, colour: &str, opacity: f64) {
        write!(
            self.out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>"
        )
        .ok();
    }

    pub(super) fn done(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }
}

#[allow(clippy::cast_precision_loss)] // places in a list
fn number(place: usize) -> f64 {
    place as f64
}

impl Lines<'_> {
    /// The chart.
    #[must_use]
    pub fn svg(&self) -> String {
        let all = self.lines.iter().flat_map(|(_, values)| values.iter().copied());
        let mut canvas = Canvas::new(self.title, RIGHT, all);
        let longest = self
            .lines
            .iter()
            .map(|(_, values)| values.len())
            .max()
            .unwrap_or(1);
        let width = WIDTH - LEFT - RIGHT;
        let x = |place: usize| LEFT + width * (number(place) + 0.5) / number(longest.max(1));
        for place in 0..longest {
            if longest <= 10 || place == 0 || (place + 1) % 5 == 0 {
                let label = (place + 1).to_string();
                canvas.text(x(place), HEIGHT - BOTTOM + 18.0, "middle", QUIET, &label);
            }
        }
        canvas.text(LEFT + width / 2.0, HEIGHT - 10.0, "middle", QUIET, self.across);
        let mut labels: Vec<(f64, &str, &str)> = Vec::new();
        for ((name, values), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let points: Vec<String> = values
                .iter()
                .enumerate()
                .map(|(place, value)| format!("{:.1},{:.1}", x(place), canvas.y(*value)))
                .collect();
            write!(
                canvas.out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
                points.join(" ")
            )
            .ok();
            for (place, value) in values.iter().enumerate() {
                let y = canvas.y(*value);
                canvas.dot(x(place), y, 2.5, colour, 1.0);
            }
            labels.push((canvas.y(values.last().copied().unwrap_or(0.0)), name, colour));
        }
        for (y, name, colour) in spread(labels) {
            canvas.text(WIDTH - RIGHT + 12.0, y + 4.0, "start", colour, name);
        }
        canvas.done()
    }
}

/// Labels in their order from below, none over another and none below the chart.
pub(super) fn spread<'a>(mut labels: Vec<(f64, &'a str, &'a str)>) -> Vec<(f64, &'a str, &'a str)> {
    labels.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut below = f64::INFINITY;
    for label in &mut labels {
        label.0 = label.0.min(below - LABEL);
        below = label.0;
    }
    labels
}

impl Boxes<'_> {
    /// The chart.
    #[must_use]
    pub fn svg(&self) -> String {
        let all = self.boxes.iter().flat_map(|(_, values)| values.iter().copied());
        let mut canvas = Canvas::new(self.title, MARGIN, all);
        let slot = (WIDTH - LEFT - MARGIN) / number(self.boxes.len().max(1));
        for (place, (name, values)) in self.boxes.iter().enumerate() {
            let colour = COLOURS.get(place % COLOURS.len()).copied().unwrap_or(INK);
            let middle = LEFT + slot * (number(place) + 0.5);
            let half = (slot * 0.22).min(48.0);
            let found = Numbers::of(values.iter().copied());
            let at = |value: f64| canvas.y(value);
            let (low, q1, q2, q3, high) = (
                at(found.min),
                at(found.p25),
                at(found.p50),
                at(found.p75),
                at(found.max),
            );
            canvas.line((middle, low), (middle, q1), colour, 1.5);
            canvas.line((middle, q3), (middle, high), colour, 1.5);
            for end in [low, high] {
                canvas.line(
                    (middle - half / 2.0, end),
                    (middle + half / 2.0, end),
                    colour,
                    1.5,
                );
            }
            write!(
                canvas.out,
                "<rect x=\"{:.1}\" y=\"{q3:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" fill-opacity=\"0.15\" \
                 stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                middle - half,
                half * 2.0,
                (q1 - q3).max(0.5)
            )
            .ok();
            canvas.line((middle - half, q2), (middle + half, q2), colour, 3.0);
            for (nth, value) in values.iter().enumerate() {
                // Beside each other, so that equal ones are seen.
                let aside = (number(nth * 7 % 11) / 10.0 - 0.5) * half;
                let y = canvas.y(*value);
                canvas.dot(middle + aside, y, 2.0, colour, 0.45);
            }
            canvas.text(middle, HEIGHT - BOTTOM + 18.0, "middle", INK, name);
            let said = format!("median {}", time(found.p50));
            canvas.text(middle, HEIGHT - BOTTOM + 35.0, "middle", QUIET, &said);
        }
        canvas.done()
    }
}

/// The PNG of an SVG of ours, with the font that the windows have.
///
/// # Errors
/// The SVG cannot be drawn.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    let mut options = Options::default();
    let fonts = Arc::make_mut(&mut options.fontdb);
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts
        .faces()
        .find_map(|face| Some(face.families.first()?.0.clone()))
        .context("the font has no name")?;
    fonts.set_sans_serif_family(&family);
    let tree = Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE).context("too large")?;
    let mut picture = Pixmap::new(size.width(), size.height()).context("no picture")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut picture.as_mut());
    Ok(picture.encode_png()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_above_the_highest_value_at_round_numbers() {
        for (span, wanted) in [
            (5.0, 1.0),
            (7.0, 2.0),
            (99.0, 20.0),
            (130.0, 50.0),
            (18_000.0, 5000.0),
        ] {
            assert!((step(span) - wanted).abs() < 1e-9, "{span}: {}", step(span));
        }
        let canvas = Canvas::new("t", RIGHT, [130.0].into_iter());
        assert!((canvas.top - 150.0).abs() < 1e-9);
        assert!((canvas.y(0.0) - (HEIGHT - BOTTOM)).abs() < 1e-9 && canvas.y(150.0) <= TOP + 1e-9);
    }

    #[test]
    fn labels_do_not_lie_on_each_other() {
        let labels = spread(vec![
            (100.0, "a", ""),
            (101.0, "b", ""),
            (102.0, "c", ""),
            (300.0, "d", ""),
        ]);
        for pair in labels.windows(2) {
            assert!(pair[0].0 - pair[1].0 >= LABEL - 1e-9, "{labels:?}");
        }
    }

    #[test]
    fn a_chart_becomes_a_picture() {
        let chart = Boxes {
            title: "a < b & c",
            boxes: vec![("one", vec![1.0, 2.0, 3.0]), ("two", vec![4.0])],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b &amp; c"), "{svg}");
        assert!(png(&svg).unwrap().starts_with(b"\x89PNG"));
        let lines = Lines {
            title: "lines",
            across: "release",
            lines: vec![("one", vec![1.0, 2.0]), ("none", Vec::new())],
        };
        assert!(png(&lines.svg()).unwrap().len() > 1000);
    }
}

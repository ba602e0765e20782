//! The seven latency types of the newest updates: over the updates as lines, and as box plots.

use std::collections::BTreeMap;
use std::sync::Arc;

use egui::{Color32, Grid, RichText, ScrollArea, Ui, WidgetInfo};
use egui_plot::{BoxElem, BoxPlot, BoxSpread, HoverPosition, Line, Plot, PlotPoints};
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::theme::{Palette, space};
use gui_kit::widgets::{empty_state, follow_focus};
use protocol::control::LatencyPoint;

use super::Words;
use super::parts::{heading, whole};
use super::source::Past;

/// How many types the document has.
const TYPES: usize = 7;
/// One colour a type; told apart on light and dark ground, in grey by their place in the legend.
const COLORS: [Color32; TYPES] = [
    Color32::from_rgb(0x2a, 0x9d, 0x8f),
    Color32::from_rgb(0xc7, 0x7d, 0x0a),
    Color32::from_rgb(0x4a, 0x7f, 0xd6),
    Color32::from_rgb(0xb0, 0x5c, 0xc4),
    Color32::from_rgb(0xd6, 0x45, 0x50),
    Color32::from_rgb(0x6b, 0x8e, 0x23),
    Color32::from_rgb(0x80, 0x86, 0x8f),
];

/// Figures of one type: milliseconds, sorted.
#[derive(Debug, Clone, Default)]
struct Figures {
    sorted: Vec<f64>,
}

impl Figures {
    fn of(mut values: Vec<f64>) -> Self {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        Self { sorted: values }
    }

    /// The value below which this part of all lies, between neighbours in a straight line.
    fn quantile(&self, part: f64) -> Option<f64> {
        let last = self.sorted.len().checked_sub(1)?;
        #[allow(clippy::cast_precision_loss, reason = "a few hundred figures")]
        let place = part * last as f64;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place among the figures"
        )]
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        let (low, high) = (*self.sorted.get(low)?, *self.sorted.get(high)?);
        Some(low + (high - low) * place.fract())
    }

    #[allow(clippy::cast_precision_loss, reason = "a few hundred figures")]
    fn mean(&self) -> Option<f64> {
        let count = self.sorted.len();
        (count > 0).then(|| self.sorted.iter().sum::<f64>() / count as f64)
    }
}

/// The page, and what it has computed of the newest answer.
#[derive(Debug, Default)]
pub(super) struct Latency {
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    of: Arc<Past>,
    /// `component version` of each update, oldest first.
    names: Vec<String>,
    /// For each update the mean of each type over the devices.
    means: Vec<[Option<f64>; TYPES]>,
    /// All figures of each type.
    figures: [Figures; TYPES],
}

impl Made {
    fn of(past: &Arc<Past>) -> Self {
        let mut updates: Vec<(String, Vec<&LatencyPoint>)> = Vec::new();
        let mut places = BTreeMap::new();
        for point in &past.latencies.rows {
            let place = *places.entry(&point.update).or_insert_with(|| {
                updates.push((format!("{} {}", point.component, point.version), Vec::new()));
                updates.len() - 1
            });
            if let Some((_, points)) = updates.get_mut(place) {
                points.push(point);
            }
        }
        let figures = |points: &[&LatencyPoint], kind: usize| {
            Figures::of(points.iter().filter_map(|point| types(point)[kind]).collect())
        };
        let all: Vec<&LatencyPoint> = past.latencies.rows.iter().collect();
        Self {
            of: Arc::clone(past),
            means: updates
                .iter()
                .map(|(_, points)| std::array::from_fn(|kind| figures(points, kind).mean()))
                .collect(),
            names: updates.into_iter().map(|(name, _)| name).collect(),
            figures: std::array::from_fn(|kind| figures(&all, kind)),
        }
    }
}

fn types(point: &LatencyPoint) -> [Option<f64>; TYPES] {
    let of = &point.latencies;
    [
        of.download,
        of.manager_verification,
        of.transmission,
        of.device_verification,
        of.installation,
        of.restart,
        of.actual_total,
    ]
}

impl Latency {
    pub(super) fn show(&mut self, ui: &mut Ui, past: &Arc<Past>, words: &Words) {
        if past.latencies.rows.is_empty() {
            empty_state(ui, &words.latency_empty, &words.latency_empty_hint, |_| ());
            return;
        }
        if self.made.as_ref().is_none_or(|made| !Arc::ptr_eq(&made.of, past)) {
            self.made = Some(Made::of(past));
        }
        let Some(made) = &self.made else { return };
        let names = [
            words.type_1.as_str(),
            &words.type_2,
            &words.type_3,
            &words.type_4,
            &words.type_5,
            &words.type_6,
            &words.type_7,
        ];
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            follow_focus(ui);
            whole(ui, |ui| {
                let title = fill(&words.latency_lines, &[&made.names.len()]);
                heading(ui, &title, |_| ());
                legend(ui, names);
                lines(ui, made, names, words);
            });
            whole(ui, |ui| {
                heading(ui, &words.latency_boxes, |_| ());
                boxes(ui, made, names, words);
            });
            whole(ui, |ui| table(ui, made, names, words));
        });
    }
}

fn plot<'a>(id: &'static str) -> Plot<'a> {
    Plot::new(id)
        .height(230.0)
        .allow_scroll(false)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_boxed_zoom(false)
        .include_y(0.0)
        .show_background(false)
        .show_grid([false, true])
}

fn lines(ui: &mut Ui, made: &Made, names: [&str; TYPES], words: &Words) {
    let labels = made.names.clone();
    let hovered = made.names.clone();
    #[allow(clippy::cast_precision_loss, reason = "a few updates")]
    let count = made.names.len() as f64;
    let beside = count / 10.0;
    let shown = plot("latency lines")
        .y_axis_label(words.milliseconds.as_str())
        .x_axis_formatter(move |mark, _| label(&labels, mark.value))
        // Room at both sides for half of an update's name.
        .include_x(-beside)
        .include_x(count - 1.0 + beside)
        .label_formatter(move |at| match at {
            HoverPosition::NearDataPoint {
                plot_name, position, ..
            } => {
                let update = label(&hovered, position.x.round());
                Some(format!(
                    "{plot_name}\n{update}\n{}",
                    format::milliseconds(position.y)
                ))
            }
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            for (kind, name) in names.into_iter().enumerate() {
                #[allow(clippy::cast_precision_loss, reason = "a place among a few updates")]
                let points: PlotPoints<'_> = made
                    .means
                    .iter()
                    .enumerate()
                    .filter_map(|(place, means)| means[kind].map(|mean| [place as f64, mean]))
                    .collect();
                plot.line(Line::new(name, points).color(COLORS[kind]).width(1.8));
            }
        });
    shown
        .response
        .widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, &words.latency_lines_name));
}

/// Which colour is which type, above the pictures: inside them it would cover something.
fn legend(ui: &mut Ui, names: [&str; TYPES]) {
    ui.horizontal_wrapped(|ui| {
        for (color, name) in COLORS.into_iter().zip(names) {
            let (rect, _) = ui.allocate_exact_size(egui::vec2(12.0, 12.0), egui::Sense::hover());
            ui.painter().rect_filled(rect.shrink(1.0), 3.0, color);
            ui.label(RichText::new(name).small());
            ui.add_space(space::S);
        }
    });
}

/// The update at this place of the axis; nothing between two.
fn label(names: &[String], at: f64) -> String {
    if (at - at.round()).abs() > 1e-6 || at < 0.0 {
        return String::new();
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above; one too large is not among the names"
    )]
    let place = at.round() as usize;
    names.get(place).cloned().unwrap_or_default()
}

fn boxes(ui: &mut Ui, made: &Made, names: [&str; TYPES], words: &Words) {
    let labels: Vec<String> = (1..=TYPES).map(|kind| kind.to_string()).collect();
    let shown = plot("latency boxes")
        .y_axis_label(words.milliseconds.as_str())
        .x_axis_formatter(move |mark, _| label(&labels, mark.value - 1.0))
        .show(ui, |plot| {
            for (kind, (name, figures)) in names.into_iter().zip(&made.figures).enumerate() {
                let at = |part| figures.quantile(part);
                let (Some(least), Some(q1), Some(median), Some(q3), Some(most)) =
                    (at(0.0), at(0.25), at(0.5), at(0.75), at(1.0))
                else {
                    continue;
                };
                #[allow(clippy::cast_precision_loss, reason = "1 to 7")]
                let place = (kind + 1) as f64;
                let spread = BoxSpread::new(least, q1, median, q3, most);
                let color = COLORS[kind];
                let elem = BoxElem::new(place, spread)
                    .box_width(0.5)
                    .fill(color.gamma_multiply(0.25))
                    .stroke(egui::Stroke::new(1.5, color));
                plot.box_plot(BoxPlot::new(name, vec![elem]).color(color));
            }
        });
    shown
        .response
        .widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, &words.latency_boxes_name));
}

/// The same figures to read: what a picture shows, a screen reader reads here.
fn table(ui: &mut Ui, made: &Made, names: [&str; TYPES], words: &Words) {
    let palette = Palette::of(ui.visuals());
    ScrollArea::horizontal().id_salt("latency table").show(ui, |ui| {
        Grid::new("latency table")
            .num_columns(7)
            .striped(true)
            .spacing([space::L, space::XS])
            .show(ui, |ui| {
                let words = [
                    &words.latency_type,
                    &words.median,
                    &words.mean,
                    &words.least,
                    &words.most,
                    &words.figures,
                ];
                for word in words {
                    ui.label(RichText::new(word).small().color(palette.weak));
                }
                ui.end_row();
                for (name, figures) in names.into_iter().zip(&made.figures) {
                    ui.label(name);
                    for value in [
                        figures.quantile(0.5),
                        figures.mean(),
                        figures.quantile(0.0),
                        figures.quantile(1.0),
                    ] {
                        ui.label(value.map_or_else(|| "–".to_owned(), format::milliseconds));
                    }
                    ui.label(figures.sorted.len().to_string());
                    ui.end_row();
                }
            });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let figures = Figures::of(vec![4.0, f64::NAN, 1.0, 3.0, 2.0]);
        assert_eq!(figures.sorted, [1.0, 2.0, 3.0, 4.0]);
        let at = |part| figures.quantile(part).unwrap();
        assert_eq!((at(0.0), at(0.5), at(0.25), at(1.0)), (1.0, 2.5, 1.75, 4.0));
        assert_eq!(figures.mean(), Some(2.5));
        assert_eq!(Figures::default().quantile(0.5), None);
        assert_eq!(Figures::default().mean(), None);
    }

    #[test]
    fn only_whole_places_have_a_name() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(label(&names, 1.0), "b");
        for other in [0.5, -1.0, 2.0] {
            assert_eq!(label(&names, other), "");
        }
    }
}

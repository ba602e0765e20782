//! Messages that stay: what happened, why, and what to do; what to do first where there is nothing yet.

use egui::{CornerRadius, Frame, Margin, Response, RichText, Stroke, Ui};

use crate::format;
use crate::link::Connection;
use crate::text::{Kit, fill};
use crate::theme::{Palette, space};

/// How serious something is. A word or a sign always says the same as the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Neither good nor bad.
    Plain,
    /// It is well.
    Good,
    /// A person should look.
    Warn,
    /// It is not well.
    Bad,
}

impl Tone {
    /// Its colour.
    #[must_use]
    pub fn color(self, palette: &Palette) -> egui::Color32 {
        match self {
            Self::Plain => palette.weak,
            Self::Good => palette.good,
            Self::Warn => palette.warn,
            Self::Bad => palette.bad,
        }
    }

    /// Draws its sign, by strokes: no font has it on every machine.
    fn sign(self, ui: &mut Ui, color: egui::Color32) {
        let (rect, _) = ui.allocate_exact_size(egui::vec2(16.0, 16.0), egui::Sense::hover());
        let at = |x: f32, y: f32| rect.min + egui::vec2(x, y);
        let stroke = Stroke::new(1.6, color);
        let painter = ui.painter();
        match self {
            Self::Plain => {
                painter.circle_stroke(rect.center(), 7.0, stroke);
                painter.line_segment([at(8.0, 7.5), at(8.0, 11.5)], stroke);
                painter.circle_filled(at(8.0, 4.8), 1.1, color);
            }
            Self::Good => {
                painter.line(vec![at(2.5, 8.5), at(6.5, 12.5), at(13.5, 4.0)], stroke);
            }
            Self::Warn | Self::Bad => {
                painter.add(egui::Shape::closed_line(
                    vec![at(8.0, 1.5), at(15.0, 14.0), at(1.0, 14.0)],
                    stroke,
                ));
                painter.line_segment([at(8.0, 6.0), at(8.0, 9.5)], stroke);
                painter.circle_filled(at(8.0, 11.8), 1.0, color);
            }
        }
    }
}

/// What happened, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How serious.
    pub tone: Tone,
    /// What happened, in one line.
    pub what: String,
    /// Why; empty where nothing more is known.
    pub why: String,
    /// What the person can do; empty where nothing.
    pub remedy: String,
}

impl Notice {
    /// Shows it over the whole width, with `buttons` below.
    pub fn show<R>(&self, ui: &mut Ui, buttons: impl FnOnce(&mut Ui) -> R) -> R {
        let palette = Palette::of(ui.visuals());
        let color = self.tone.color(palette);
        Frame::new()
            .fill(palette.surface)
            .stroke(Stroke::new(1.0, color))
            .corner_radius(CornerRadius::same(8))
            .inner_margin(Margin::same(12))
            .show(ui, |ui| {
                ui.set_width(ui.available_width());
                ui.horizontal_wrapped(|ui| {
                    self.tone.sign(ui, color);
                    ui.label(RichText::new(&self.what).color(color).strong());
                });
                for line in [&self.why, &self.remedy] {
                    if !line.is_empty() {
                        ui.label(line.as_str());
                    }
                }
                // Without buttons there is no row for them.
                let height = std::mem::take(&mut ui.spacing_mut().interact_size.y);
                ui.horizontal(|ui| {
                    ui.spacing_mut().interact_size.y = height;
                    buttons(ui)
                })
                .inner
            })
            .inner
    }
}

/// What to do first where there is nothing yet.
pub fn empty_state<R>(ui: &mut Ui, title: &str, hint: &str, buttons: impl FnOnce(&mut Ui) -> R) -> R {
    let palette = Palette::of(ui.visuals());
    ui.vertical_centered(|ui| {
        ui.add_space(space::XL);
        ui.label(RichText::new(title).text_style(crate::theme::title()));
        ui.label(RichText::new(hint).color(palette.weak));
        ui.add_space(space::S);
        let inner = buttons(ui);
        ui.add_space(space::XL);
        inner
    })
    .inner
}

/// A short state with its colour and sign: `● connected`.
pub fn pill(ui: &mut Ui, tone: Tone, text: &str) -> Response {
    let palette = Palette::of(ui.visuals());
    let color = tone.color(palette);
    let word = RichText::new(text).color(if tone == Tone::Plain { palette.text } else { color });
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = space::XS;
        // The sign stands before the word, from whichever side the row is filled.
        let from_right = ui.layout().prefer_right_to_left();
        let before = from_right.then(|| ui.label(word.clone()));
        let (rect, _) = ui.allocate_exact_size(egui::vec2(10.0, 10.0), egui::Sense::hover());
        if tone == Tone::Plain {
            ui.painter()
                .circle_stroke(rect.center(), 4.0, Stroke::new(1.5, color));
        } else {
            ui.painter().circle_filled(rect.center(), 4.5, color);
        }
        before.unwrap_or_else(|| ui.label(word))
    })
    .inner
}

/// The banner that says how the window stands to its service; nothing where all is well. True when the person wants
/// the service looked for now.
pub fn connection_notice(
    ui: &mut Ui,
    program: &str,
    connection: &Connection,
    age: Option<std::time::Duration>,
) -> bool {
    let kit = Kit::of(ui.ctx());
    let (what, why, tone) = match connection {
        Connection::Connected => return false,
        Connection::Connecting => (
            fill(&kit.service_connecting, &[&program]),
            String::new(),
            Tone::Plain,
        ),
        Connection::Starting => (
            fill(&kit.service_starting, &[&program]),
            String::new(),
            Tone::Plain,
        ),
        Connection::Lost { reason } => (fill(&kit.service_lost, &[&program]), reason.clone(), Tone::Bad),
    };
    let remedy = match (connection, age) {
        (Connection::Lost { .. }, Some(age)) => {
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            let then = format::ago_shown(ui, tuf::UnixTime(0), tuf::UnixTime(seconds));
            fill(&kit.service_lost_detail, &[&then])
        }
        _ => String::new(),
    };
    let lost = matches!(connection, Connection::Lost { .. });
    let notice = Notice {
        tone,
        what,
        why,
        remedy,
    };
    notice.show(ui, |ui| lost && ui.button(&kit.try_now).clicked())
}

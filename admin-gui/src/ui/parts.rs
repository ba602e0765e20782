//! Small pieces that the pages share.

use egui::{Align, Grid, Layout, RichText, Ui};
use gui_kit::format;
use gui_kit::text::Kit;
use gui_kit::theme::{Palette, card, space, title};
use gui_kit::widgets::{Notice, Tone, pill};
use protocol::Outcome;
use protocol::control::Deadline;

use super::Words;

/// A card over the whole width.
pub(super) fn whole<R>(ui: &mut Ui, draw: impl FnOnce(&mut Ui) -> R) -> R {
    card(ui.visuals())
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            draw(ui)
        })
        .inner
}

/// A heading, and what stands at its right.
pub(super) fn heading(ui: &mut Ui, text: &str, right: impl FnOnce(&mut Ui)) {
    ui.horizontal(|ui| {
        ui.set_min_height(26.0);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            right(ui);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                ui.add(egui::Label::new(RichText::new(text).text_style(title()).strong()).truncate());
            });
        });
    });
}

/// Names and values below each other; a value with `true` can be copied.
pub(super) fn facts(ui: &mut Ui, id: &str, rows: &[(&str, String, bool)]) {
    let palette = Palette::of(ui.visuals());
    Grid::new(id)
        .num_columns(2)
        .spacing([space::L, space::XS])
        .show(ui, |ui| {
            for (name, value, copies) in rows {
                ui.label(RichText::new(*name).color(palette.weak));
                if *copies {
                    copied(ui, name, value);
                } else {
                    ui.horizontal_wrapped(|ui| ui.label(value));
                }
                ui.end_row();
            }
        });
}

/// A value to be copied, with a button that says so; `name` says of what to those who hear it.
pub(super) fn copied(ui: &mut Ui, name: &str, value: &str) {
    let kit = Kit::of(ui.ctx());
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(value).monospace());
        let button = ui.button(&kit.copy);
        button.widget_info(|| {
            let name = format!("{}: {name}", kit.copy);
            egui::WidgetInfo::labeled(egui::Role::Button, true, name)
        });
        if button.clicked() {
            ui.ctx().copy_text(value.to_owned());
        }
    });
}

/// When something ends, in the colour of how near that is.
pub(super) fn deadline(ui: &mut Ui, deadline: &Deadline) {
    let tone = if deadline.advice.is_some() {
        Tone::Warn
    } else {
        Tone::Good
    };
    ui.horizontal_wrapped(|ui| {
        pill(ui, tone, &format::date(deadline.at));
        if let Some(advice) = &deadline.advice {
            ui.label(RichText::new(format::sentence(advice)).small());
        }
    });
}

/// A refusal or a failure.
pub(super) fn bad(what: &str, why: &str, remedy: &str) -> Notice {
    Notice {
        tone: Tone::Bad,
        what: what.to_owned(),
        why: format::sentence(why),
        remedy: remedy.to_owned(),
    }
}

/// How an update ended, in a word.
pub(super) fn outcome(words: &Words, outcome: Outcome) -> (Tone, &str) {
    match outcome {
        Outcome::Committed => (Tone::Good, &words.outcome_committed),
        Outcome::RolledBack => (Tone::Warn, &words.outcome_rolled_back),
        Outcome::Refused => (Tone::Warn, &words.outcome_refused),
        Outcome::Failed => (Tone::Bad, &words.outcome_failed),
    }
}

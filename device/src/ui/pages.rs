//! The pages of few words: history, events, the device itself.

use egui::{RichText, ThemePreference, Ui};
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::theme::{Palette, card};
use gui_kit::widgets::{Tone, empty_state, pill};
use protocol::control::InstallEntry;

use super::model::Model;
use super::parts::{Scene, TOUCH, connection_pill, facts, heading};

/// The install record, newest first.
pub(super) fn history(ui: &mut Ui, scene: &Scene<'_>) {
    let words = scene.words;
    if scene.snapshot.history.is_empty() {
        empty_state(ui, &words.history_empty, &words.history_empty_hint, |_| {});
    }
    for entry in &scene.snapshot.history {
        card(ui.visuals()).show(ui, |ui| {
            ui.set_width(ui.available_width());
            installed(ui, scene, entry);
        });
    }
}

fn installed(ui: &mut Ui, scene: &Scene<'_>, entry: &InstallEntry) {
    let words = scene.words;
    let palette = Palette::of(ui.visuals());
    let (tone, outcome) = match entry.outcome.as_str() {
        "committed" => (Tone::Good, words.outcome_committed.as_str()),
        "rolled back" => (Tone::Warn, words.outcome_rolled_back.as_str()),
        "refused" => (Tone::Warn, words.outcome_refused.as_str()),
        "failed" => (Tone::Bad, words.outcome_failed.as_str()),
        other => (Tone::Plain, other),
    };
    let from = entry
        .from
        .as_ref()
        .map_or_else(|| words.nothing_before.clone(), ToString::to_string);
    heading(ui, &format!("{} {}", entry.component, entry.version), |ui| {
        pill(ui, tone, outcome);
    });
    #[allow(clippy::cast_precision_loss, reason = "a time for people")]
    let took = format::milliseconds(entry.milliseconds as f64);
    let line = fill(&words.history_line, &[&format::time(entry.at), &from, &took]);
    ui.label(RichText::new(line).small().color(palette.weak));
    if let Some(reason) = &entry.reason {
        ui.label(format::sentence(reason));
    }
}

/// What happened, newest last.
pub(super) fn events(ui: &mut Ui, model: &mut Model) {
    ui.spacing_mut().interact_size.y = 34.0;
    model.lines.show(ui, "events");
}

/// Who this device is and how it is connected.
pub(super) fn device(ui: &mut Ui, scene: &Scene<'_>) {
    let (words, status) = (scene.words, &scene.snapshot.status);
    card(ui.visuals()).show(ui, |ui| {
        ui.set_width(ui.available_width());
        heading(ui, &words.connection, |ui| {
            connection_pill(ui, words, status);
        });
        let until = status
            .certificate_until
            .map_or_else(|| words.unknown.clone(), format::time);
        let metadata = match status.stale_since {
            Some(since) => fill(&words.device_metadata_stale, &[&format::time(since)]),
            None => words.device_metadata_fresh.clone(),
        };
        let clock = if status.time_known {
            &words.device_clock_known
        } else {
            &words.device_clock_unknown
        };
        let rows = [
            (words.device_name.as_str(), status.name.to_string()),
            (&words.device_site, status.site.to_string()),
            (&words.device_manager, status.manager.clone()),
            (&words.device_certificate, until),
            (&words.device_metadata, metadata),
            (&words.device_clock, clock.clone()),
            (&words.device_agent, status.program.clone()),
            (&words.device_folder, scene.dir.to_owned()),
        ];
        facts(ui, &rows);
        if !status.connection.is_empty() {
            let palette = Palette::of(ui.visuals());
            ui.label(RichText::new(&status.connection).color(palette.warn));
        }
    });
    look(ui, scene);
}

fn look(ui: &mut Ui, scene: &Scene<'_>) {
    card(ui.visuals()).show(ui, |ui| {
        ui.set_width(ui.available_width());
        heading(ui, &scene.words.device_look, |_| {});
        let now = ui.ctx().options(|options| options.theme_preference);
        ui.horizontal_wrapped(|ui| {
            for (theme, name) in [
                (ThemePreference::Light, &scene.kit.theme_light),
                (ThemePreference::Dark, &scene.kit.theme_dark),
                (ThemePreference::System, &scene.kit.theme_system),
            ] {
                let button = egui::Button::selectable(now == theme, name).min_size(egui::vec2(72.0, TOUCH));
                if ui.add(button).clicked() {
                    ui.ctx().set_theme(theme);
                }
            }
        });
    });
}

//! What is on the way: download information and install information, as the document has them.

use egui::{RichText, Ui};
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::theme::{Palette, card, space};
use gui_kit::widgets::{Notice, Tone, empty_state, meter};
use protocol::control::{About, ComponentDetail};
use protocol::device::ComponentState;
use protocol::{Event, Outcome};
use tuf::UnixTime;

use super::model::Model;
use super::parts::{Scene, heading, is_under_way, stage, stages};

/// Draws the page.
pub(super) fn show(ui: &mut Ui, scene: &Scene<'_>, model: &Model) {
    let status = &scene.snapshot.status;
    if status.components.is_empty() {
        card(ui.visuals()).show(ui, |ui| {
            let words = scene.words;
            ui.set_width(ui.available_width());
            empty_state(
                ui,
                &words.nothing_installed,
                &words.nothing_installed_hint,
                |_| {},
            );
        });
    }
    for state in &status.components {
        let detail = status
            .details
            .iter()
            .find(|detail| detail.component == state.component);
        cards(ui, scene, model, state, detail);
        ui.add_space(space::S);
    }
}

/// Both cards of one component.
pub(super) fn cards(
    ui: &mut Ui,
    scene: &Scene<'_>,
    model: &Model,
    state: &ComponentState,
    detail: Option<&ComponentDetail>,
) {
    card(ui.visuals()).show(ui, |ui| {
        ui.set_width(ui.available_width());
        heading(ui, &scene.words.download_information, |_| {});
        download(ui, scene, model, state, detail);
    });
    card(ui.visuals()).show(ui, |ui| {
        ui.set_width(ui.available_width());
        heading(ui, &scene.words.install_information, |_| {});
        install(ui, scene, state, detail);
    });
}

fn download(
    ui: &mut Ui,
    scene: &Scene<'_>,
    model: &Model,
    state: &ComponentState,
    detail: Option<&ComponentDetail>,
) {
    let words = scene.words;
    let palette = Palette::of(ui.visuals());
    let moved = detail.and_then(|detail| detail.moved.as_ref());
    if let (Some(of), Some(moved)) = (model.meters.get(&state.component), moved) {
        let what = fill(&words.download_of, &[&state.component, &moved.version]);
        ui.label(&what);
        meter(ui, &fill(&words.download_progress, &[&what]), of);
    } else if let Some(done) = model.downloaded.get(&state.component) {
        ui.label(fill(&words.download_of, &[&state.component, &done.version]));
        let figures = match done.took {
            Some((bytes, seconds)) => {
                #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
                let rate = format::rate(bytes as f64 / seconds);
                let time = format::milliseconds(seconds * 1000.0);
                fill(&words.downloaded_in, &[&format::bytes(done.bytes), &time, &rate])
            }
            None => fill(&words.downloaded_all, &[&format::bytes(done.bytes)]),
        };
        ui.label(RichText::new(figures).color(palette.weak));
    } else {
        ui.label(RichText::new(&words.no_download).color(palette.weak));
    }
}

fn install(ui: &mut Ui, scene: &Scene<'_>, state: &ComponentState, detail: Option<&ComponentDetail>) {
    let words = scene.words;
    let last = detail.and_then(|detail| detail.last.as_ref());
    if let Some(last) = last {
        if is_under_way(state) {
            ui.label(fill(&words.download_of, &[&state.component, &last.version]));
            stages(ui, words, stage(last));
        } else {
            ended(ui, scene, state, last);
        }
    }
    let coming = detail.and_then(|detail| {
        let coming = detail.coming.as_ref();
        coming.filter(|about| last.is_some_and(|last| last.version == about.version))
    });
    let running = detail.and_then(|detail| detail.running.as_ref());
    match coming.or(running) {
        Some(release) => about(ui, scene, release),
        None if last.is_none() => {
            let palette = Palette::of(ui.visuals());
            ui.label(RichText::new(&words.no_install).color(palette.weak));
        }
        None => {}
    }
}

/// How the newest update ended.
fn ended(ui: &mut Ui, scene: &Scene<'_>, state: &ComponentState, last: &Event) {
    let words = scene.words;
    let palette = Palette::of(ui.visuals());
    let Some(outcome) = last.step.outcome() else {
        return;
    };
    let facts: [&dyn std::fmt::Display; 2] = [&state.component, &last.version];
    if outcome == Outcome::Committed {
        let at = UnixTime(i64::try_from(last.at.wall_ns / 1_000_000_000).unwrap_or(i64::MAX));
        let text = fill(&words.ended_committed, &[facts[0], facts[1], &format::time(at)]);
        ui.label(RichText::new(text).color(palette.good));
        return;
    }
    let what = match outcome {
        Outcome::RolledBack => &words.ended_rolled_back,
        _ => &words.ended_badly,
    };
    let reason = format::sentence(last.reason.as_deref().unwrap_or_default());
    let why = format::brief(&reason);
    let remedy = if why == reason {
        String::new()
    } else {
        words.whole_reason.clone()
    };
    let notice = Notice {
        tone: Tone::Warn,
        what: fill(what, &facts),
        why,
        remedy,
    };
    notice.show(ui, |_| {});
}

/// What its author says of a release.
fn about(ui: &mut Ui, scene: &Scene<'_>, release: &About) {
    let words = scene.words;
    let palette = Palette::of(ui.visuals());
    match &release.description {
        Some(description) => ui.label(description),
        None => ui.label(RichText::new(&words.no_description).color(palette.weak)),
    };
    let mut line = fill(&words.released, &[&format::time(release.released)]);
    for by in release.vendor.iter().chain(&release.developer) {
        line.push_str(&format!("  ·  {}", fill(&words.by, &[by])));
    }
    if let Some(license) = &release.license {
        line.push_str(&format!("  ·  {}", fill(&words.license, &[license])));
    }
    ui.label(RichText::new(line).small().color(palette.weak));
}

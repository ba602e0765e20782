//! What runs on this device: name, version, running time, and what a person can do about it.

use egui::{Align, FontId, Layout, RichText, Ui};
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::theme::{Palette, card, space};
use gui_kit::widgets::{Notice, Tone, empty_state, meter, pill};
use protocol::control::ComponentDetail;
use protocol::device::{Activity, ComponentState};

use super::model::{Asked, Model};
use super::parts::{Scene, heading, is_under_way, stage, stages, state_of, touch_button};
use super::{notices, update};

/// Draws the page.
pub(super) fn show(ui: &mut Ui, scene: &Scene<'_>, model: &mut Model) {
    notices::show(ui, scene);
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
        return;
    }
    for state in &status.components {
        let detail = status
            .details
            .iter()
            .find(|detail| detail.component == state.component);
        if scene.wide {
            ui.columns(2, |columns| {
                let [left, right] = columns else { return };
                let down = Layout::top_down(Align::Min);
                left.with_layout(down, |ui| application(ui, scene, model, state, detail));
                right.with_layout(down, |ui| update::cards(ui, scene, model, state, detail));
            });
        } else {
            application(ui, scene, model, state, detail);
        }
        ui.add_space(space::S);
    }
}

fn application(
    ui: &mut Ui,
    scene: &Scene<'_>,
    model: &mut Model,
    state: &ComponentState,
    detail: Option<&ComponentDetail>,
) {
    let words = scene.words;
    let palette = Palette::of(ui.visuals());
    let coming = detail
        .and_then(|detail| detail.last.as_ref())
        .map_or_else(String::new, |event| event.version.to_string());
    card(ui.visuals()).show(ui, |ui| {
        ui.set_width(ui.available_width());
        let (tone, text) = state_of(words, state, &coming);
        heading(ui, state.component.as_str(), |ui| {
            pill(ui, tone, &text);
        });
        let version = state
            .version
            .as_ref()
            .map_or_else(|| words.no_version.clone(), ToString::to_string);
        ui.label(RichText::new(&words.current_version).small().color(palette.weak));
        big(ui, &version);
        let running = state.version.is_some()
            && !matches!(
                state.activity,
                Activity::Failing | Activity::Switching | Activity::Empty
            );
        let text = if running {
            let time = format::duration(std::time::Duration::from_secs(state.uptime_seconds));
            fill(&words.running_for, &[&time])
        } else {
            words.not_running.clone()
        };
        ui.label(RichText::new(text).color(palette.weak));
        if let Some(detail) = detail
            && is_under_way(state)
        {
            ui.add_space(space::S);
            progress(ui, scene, model, state, detail);
        }
        actions(ui, scene, model, state);
    });
    waiting(ui, scene, model, state);
    held(ui, scene, state, detail);
}

/// The version, as large as fits: it is read from two metres away.
fn big(ui: &mut Ui, text: &str) {
    let most = if ui.ctx().content_rect().height() < 280.0 {
        40.0
    } else {
        60.0
    };
    #[allow(clippy::cast_precision_loss, reason = "a short text")]
    let fits = ui.available_width() / (text.chars().count().max(1) as f32 * 0.58);
    let font = FontId::proportional(fits.clamp(22.0, most));
    ui.add(egui::Label::new(RichText::new(text).font(font).strong()).wrap());
}

/// How far an update is: bytes while they move, stages after that.
pub(super) fn progress(
    ui: &mut Ui,
    scene: &Scene<'_>,
    model: &Model,
    state: &ComponentState,
    detail: &ComponentDetail,
) {
    let Some(last) = &detail.last else { return };
    let moving = state.activity == Activity::Downloading;
    match model.meters.get(&state.component).filter(|_| moving) {
        Some(of) => {
            let what = format!("{} {}", state.component, last.version);
            meter(ui, &fill(&scene.words.download_progress, &[&what]), of);
        }
        None => stages(ui, scene.words, stage(last)),
    }
}

fn actions(ui: &mut Ui, scene: &Scene<'_>, model: &mut Model, state: &ComponentState) {
    let words = scene.words;
    let releasable = state.held || !state.bad.is_empty();
    if state.previous.is_none() && !releasable {
        return;
    }
    let free = scene.connected && !model.is_busy(&state.component);
    let at_rest = free && !is_under_way(state);
    // Whoever sees a new version misbehave need not wait for the end of its probation.
    let can_go_back = at_rest || free && state.activity == Activity::Probation;
    ui.add_space(space::S);
    ui.horizontal_wrapped(|ui| {
        if releasable && touch_button(ui, at_rest, &words.release).clicked() {
            model.queue.push(Asked::Release(state.component.clone()));
        }
        if let (Some(current), Some(previous)) = (&state.version, &state.previous) {
            let text = fill(&words.roll_back, &[previous]);
            if touch_button(ui, can_go_back, &text).clicked() {
                model.question = Some((state.component.clone(), current.clone(), previous.clone()));
            }
        }
        let going = model.asked.values().find_map(|asked| match asked {
            Asked::RollBack(component, version) if *component == state.component => Some(version),
            _ => None,
        });
        if let Some(version) = going {
            ui.spinner();
            ui.label(fill(&words.rolling_back, &[version]));
        }
    });
}

/// What a release waits for, and the way to say "now".
fn waiting(ui: &mut Ui, scene: &Scene<'_>, model: &mut Model, state: &ComponentState) {
    let Some(waiting) = &state.waiting else { return };
    let words = scene.words;
    let line = |unmet: &protocol::device::Unmet| {
        let text = format::sentence(&unmet.what);
        let since = format::time(unmet.since);
        let held = match unmet.until {
            Some(until) => fill(&words.waits_until, &[&unmet.holder, &since, &format::time(until)]),
            None => fill(&words.waits_since, &[&unmet.holder, &since]),
        };
        format!("{text} {held}")
    };
    let lines: Vec<String> = waiting.unmet.iter().map(line).collect();
    let what = if waiting.fetched {
        &words.waits_what
    } else {
        &words.waits_unfetched
    };
    let then = match (waiting.hours, &waiting.then) {
        (Some(hours), Some(then)) => fill(&words.waits_then, &[&hours, then]),
        _ => words.waits_remedy.clone(),
    };
    let notice = Notice {
        tone: if waiting.asks { Tone::Warn } else { Tone::Plain },
        what: fill(what, &[&state.component, &waiting.version]),
        why: lines.join("\n"),
        remedy: then,
    };
    let free = scene.connected && !model.is_busy(&state.component);
    let mut pressed = false;
    notice.show(ui, |ui| {
        pressed = touch_button(ui, free, &words.activate).clicked();
    });
    if pressed {
        model.queue.push(Asked::Activate(state.component.clone()));
    }
}

/// Why a component is not updated.
fn held(ui: &mut Ui, scene: &Scene<'_>, state: &ComponentState, detail: Option<&ComponentDetail>) {
    let words = scene.words;
    let mut notices = Vec::new();
    if state.held {
        let version = state.version.as_ref().map_or(String::new(), ToString::to_string);
        notices.push(Notice {
            tone: Tone::Warn,
            what: fill(&words.held_what, &[&state.component]),
            why: fill(&words.held_why, &[&version]),
            remedy: words.held_remedy.clone(),
        });
    }
    for bad in detail.iter().flat_map(|detail| &detail.bad).rev().take(1) {
        notices.push(Notice {
            tone: Tone::Warn,
            what: fill(&words.bad_what, &[&state.component, &bad.version]),
            // Beside this card the reason stands under install information.
            why: if scene.wide {
                String::new()
            } else {
                format::brief(&format::sentence(&bad.reason))
            },
            remedy: words.bad_remedy.clone(),
        });
    }
    if state.activity == Activity::Failing {
        let output = format!("{}/output/{}.log", scene.dir, state.component);
        notices.push(Notice {
            tone: Tone::Bad,
            what: fill(&words.failing_what, &[&state.component]),
            why: words.failing_why.clone(),
            remedy: fill(&words.failing_remedy, &[&output]),
        });
    }
    for notice in notices {
        notice.show(ui, |_| {});
    }
}

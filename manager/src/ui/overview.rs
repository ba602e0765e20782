//! The first page: what needs a look, downloader and sender at work, releases, what has just happened.

use std::collections::BTreeMap;
use std::time::Duration;

use egui::{Align, Color32, Grid, Layout, RichText, Role, ScrollArea, Ui, WidgetInfo};
use egui_plot::{Line, Plot, PlotPoints};
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::theme::{self, Palette, card, space};
use gui_kit::widgets::{
    EventList, Meter, Notice, Tone, empty_state, follow_focus, meter, pill, primary_button,
};
use protocol::control::{ManagerRequest, ManagerStatus, ReleaseRow, WaitingRow};
use tuf::UnixTime;

use super::dialog::Dialog;
use super::service::Snapshot;
use super::{Asked, Commands, Words};
use crate::limits::PULSE_SECONDS;

/// Alarms shown in full; the others are counted.
const ALARMS: usize = 3;
/// Width from which two cards stand side by side.
const WIDE: f32 = 600.0;
/// Least height of the event list.
const EVENTS: f32 = 180.0;

pub(super) fn show(
    ui: &mut Ui,
    snapshot: &Snapshot,
    now: UnixTime,
    events: &mut EventList,
    dialog: &mut Option<Dialog>,
    commands: &mut Commands<'_>,
) {
    let status = &snapshot.status;
    let view = ui.available_height();
    ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
        follow_focus(ui);
        let top = ui.cursor().top();
        notices(ui, status, now, dialog, commands.words);
        if ui.available_width() >= WIDE {
            ui.columns(2, |columns| {
                let [left, right] = columns else { return };
                card_of(left, |ui| downloader(ui, status, now, commands));
                card_of(right, |ui| sender(ui, status, commands.words));
            });
        } else {
            card_of(ui, |ui| downloader(ui, status, now, commands));
            card_of(ui, |ui| sender(ui, status, commands.words));
        }
        card_of(ui, |ui| releases(ui, status, commands.words));
        let left = view - (ui.cursor().top() - top) - 30.0;
        card_of(ui, |ui| {
            heading(ui, &commands.words.recent);
            ui.allocate_ui(
                egui::vec2(ui.available_width(), (left - 40.0).max(EVENTS)),
                |ui| {
                    events.show(ui, "recent");
                },
            );
        });
    });
}

fn card_of(ui: &mut Ui, content: impl FnOnce(&mut Ui)) {
    card(ui.visuals()).show(ui, |ui| {
        ui.set_width(ui.available_width());
        content(ui);
    });
}

fn heading(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).text_style(theme::title()).strong());
}

/// A card's title with its state at the right.
fn heading_with(ui: &mut Ui, text: &str, tone: Tone, state: &str) {
    ui.horizontal(|ui| {
        heading(ui, text);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.scope(|ui| pill(ui, tone, state));
        });
    });
}

fn notices(ui: &mut Ui, status: &ManagerStatus, now: UnixTime, dialog: &mut Option<Dialog>, words: &Words) {
    let notice = |what: String, why: String, remedy: String, tone| Notice {
        tone,
        what,
        why,
        remedy,
    };
    if let Some(since) = status.stale_since {
        let what = fill(&words.stale, &[&format::ago_shown(ui, since, now)]);
        notice(what, words.stale_hint.clone(), String::new(), Tone::Warn).show(ui, |_| ());
    }
    for release in &status.releases {
        let Some(reason) = &release.stopped else { continue };
        let what = fill(&words.release_stopped, &[&release.component, &release.version]);
        let last = release.alarm.as_deref().map(format::brief).unwrap_or_default();
        let pressed =
            notice(what, reason.clone(), last, Tone::Bad).show(ui, |ui| ui.button(&words.resume).clicked());
        if pressed {
            *dialog = Some(Dialog::resume(release, reason));
        }
    }
    let waits: BTreeMap<_, Vec<&WaitingRow>> =
        status.waiting.iter().fold(BTreeMap::new(), |mut waits, row| {
            waits
                .entry((&row.component, &row.waiting.version))
                .or_insert_with(Vec::new)
                .push(row);
            waits
        });
    for ((component, version), rows) in waits.iter().take(ALARMS) {
        let Some(first) = rows.first() else { continue };
        let what = fill(&words.release_waits, &[component, version, &rows.len()]);
        let why = fill(
            &words.release_waits_why,
            &[&first.device, &super::state::unmet(&first.waiting)],
        );
        notice(what, why, String::new(), Tone::Plain).show(ui, |_| ());
    }
    // Those of stopped releases have been told already.
    let told: Vec<&String> = status
        .releases
        .iter()
        .filter_map(|release| release.alarm.as_ref())
        .collect();
    let alarms: Vec<&String> = status
        .alarms
        .iter()
        .rev()
        .filter(|alarm| !told.contains(alarm))
        .collect();
    for alarm in alarms.iter().take(ALARMS) {
        notice(
            words.alarm.clone(),
            format::brief(alarm),
            String::new(),
            Tone::Warn,
        )
        .show(ui, |_| ());
    }
    if alarms.len() > ALARMS {
        let more = alarms.len() - ALARMS;
        ui.collapsing(fill(&words.alarms_more, &[&more]), |ui| {
            for alarm in alarms.iter().skip(ALARMS) {
                ui.label(format::brief(alarm));
            }
        });
    }
}

fn downloader(ui: &mut Ui, status: &ManagerStatus, now: UnixTime, commands: &mut Commands<'_>) {
    let words = commands.words;
    let (tone, state) = if status.downloader_running {
        (Tone::Good, &words.running)
    } else {
        (Tone::Plain, &words.stopped)
    };
    heading_with(ui, &words.downloader, tone, state);
    match &status.fetching {
        Some(fetching) => {
            let mut bar = Meter::default();
            bar.set(0.0, fetching.bytes, fetching.total);
            let name = fill(&words.fetching, &[&fetching.component, &fetching.version]);
            ui.label(&name);
            meter(ui, &name, &bar);
        }
        None => {
            ui.label(format::sentence(&status.downloader));
        }
    }
    let next = match status.next_check_seconds {
        Some(0) => words.check_due.clone(),
        Some(seconds) => fill(
            &words.next_check,
            &[&format::duration(Duration::from_secs(seconds))],
        ),
        None => words.no_next_check.clone(),
    };
    let last = match status.last_refresh {
        Some(at) => fill(&words.last_answer, &[&format::ago_shown(ui, at, now)]),
        None => words.never_answered.clone(),
    };
    let how = if status.events_connected {
        &words.by_events
    } else {
        &words.by_timer
    };
    for line in [next.as_str(), last.as_str(), how] {
        ui.label(RichText::new(line).weak());
    }
    ui.add_space(space::XS);
    ui.horizontal_wrapped(|ui| {
        let switching = commands.waits_for(|asked| matches!(asked, Asked::Start | Asked::Stop));
        let running = status.downloader_running;
        if ui
            .add_enabled(!running && !switching, egui::Button::new(&words.start))
            .clicked()
        {
            commands.send(Asked::Start, ManagerRequest::Start);
        }
        if ui
            .add_enabled(running && !switching, egui::Button::new(&words.stop))
            .clicked()
        {
            commands.send(Asked::Stop, ManagerRequest::Stop);
        }
        let checking = commands.waits_for(|asked| *asked == Asked::Check);
        if primary_button(ui, !checking, &words.check_now).clicked() {
            commands.send(Asked::Check, ManagerRequest::CheckNow);
        }
        if checking {
            ui.label(RichText::new(&words.checking).weak());
        }
    });
}

fn sender(ui: &mut Ui, status: &ManagerStatus, words: &Words) {
    let count = fill(&words.connections, &[&status.connected]);
    let tone = if status.connected > 0 {
        Tone::Good
    } else {
        Tone::Plain
    };
    heading_with(ui, &words.sender, tone, &count);
    ui.label(fill(&words.listening_at, &[&status.devices_address]));
    ui.label(RichText::new(fill(&words.joining_at, &[&status.enroll_address])).weak());
    let newest = status.sent_by_second.last().copied().unwrap_or(0);
    let peak = status.sent_by_second.iter().copied().max().unwrap_or(0);
    ui.horizontal_wrapped(|ui| {
        ui.label(fill(&words.rate_now, &[&rate(newest)]));
        for text in [
            fill(&words.sending_now, &[&status.sending]),
            fill(&words.sent_total, &[&format::bytes(status.sent_bytes)]),
        ] {
            ui.label(RichText::new(format!("·  {text}")).weak());
        }
    });
    plot(ui, &status.sent_by_second, words);
    ui.label(
        RichText::new(fill(&words.rate_peak, &[&rate(peak)]))
            .small()
            .weak(),
    );
}

fn rate(bytes: u64) -> String {
    format!("{}/s", format::bytes(bytes))
}

fn plot(ui: &mut Ui, seconds: &[u64], words: &Words) {
    let palette = Palette::of(ui.visuals());
    let missing = PULSE_SECONDS.saturating_sub(seconds.len());
    #[allow(clippy::cast_precision_loss, reason = "a curve for people")]
    let points: PlotPoints<'_> = std::iter::repeat_n(0, missing)
        .chain(seconds.iter().copied())
        .enumerate()
        .map(|(second, bytes)| [second as f64 - (PULSE_SECONDS as f64 - 1.0), bytes as f64])
        .collect();
    let line = Line::new(words.plot_name.as_str(), points)
        .color(palette.accent)
        .width(1.6)
        .fill(0.0);
    let shown = Plot::new("throughput")
        .height(56.0)
        .show_axes(false)
        .show_grid(false)
        .show_background(false)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .allow_double_click_reset(false)
        .show_x(false)
        .show_y(false)
        .sense(egui::Sense::hover())
        .include_y(0.0)
        .include_y(1000.0)
        .set_margin_fraction(egui::vec2(0.0, 0.08))
        .cursor_color(Color32::TRANSPARENT)
        .label_formatter(|_| None)
        .show(ui, |plot| plot.line(line));
    shown
        .response
        .widget_info(|| WidgetInfo::labeled(Role::Image, true, &words.plot_name));
}

fn releases(ui: &mut Ui, status: &ManagerStatus, words: &Words) {
    heading(ui, &words.releases);
    if status.releases.is_empty() {
        empty_state(ui, &words.no_releases, &words.no_releases_hint, |_| ());
        return;
    }
    ScrollArea::horizontal().id_salt("releases").show(ui, |ui| {
        Grid::new("releases")
            .num_columns(6)
            .spacing([space::L + space::S, space::XS + 2.0])
            .show(ui, |ui| {
                for word in [
                    &words.release_component,
                    &words.release_current,
                    &words.release_released,
                    &words.column_state,
                    &words.release_running,
                    &words.release_rolled_back,
                ] {
                    ui.label(RichText::new(word).small().weak());
                }
                ui.end_row();
                for release in &status.releases {
                    release_row(ui, release, words);
                    ui.end_row();
                }
            });
    });
}

fn release_row(ui: &mut Ui, release: &ReleaseRow, words: &Words) {
    ui.label(RichText::new(release.component.to_string()).strong());
    ui.label(RichText::new(release.version.to_string()).strong())
        .on_hover_text(format!(
            "{}  ·  SHA-256 {}",
            fill(&words.release_size, &[&format::bytes(release.length)]),
            release.digest
        ));
    ui.label(format::date(release.released));
    let (tone, state) = match (&release.stopped, release.mirrored) {
        (Some(_), _) => (Tone::Bad, &words.release_held),
        (None, true) if release.fallback => (Tone::Plain, &words.release_fallback),
        (None, true) => (Tone::Good, &words.release_offered),
        (None, false) => (Tone::Plain, &words.release_not_mirrored),
    };
    ui.scope(|ui| pill(ui, tone, state));
    ui.label(release.running.to_string());
    let palette = Palette::of(ui.visuals());
    let color = if release.rolled_back > 0 {
        palette.warn
    } else {
        palette.weak
    };
    ui.label(RichText::new(release.rolled_back.to_string()).color(color));
}

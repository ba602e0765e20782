//! What is published, how the repository is, and the button that it is all about.

use egui::{Grid, RichText, ScrollArea, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::{Palette, large, space};
use gui_kit::widgets::{Notice, Tone, danger_button, empty_state, follow_focus, pill, primary_button};
use protocol::control::{AuthorRequest, ComponentRow, Reach, SiteStatus};
use tuf::UnixTime;

use super::dialog::Dialog;
use super::parts::{deadline, heading, outcome, whole};
use super::{Asked, Commands, Words};

/// What the person did here that another page goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    /// Choose a file.
    Upload,
    /// See the devices.
    Fleet,
}

/// Reasons of failures that are shown.
const REASONS: usize = 3;

pub(super) fn show(
    ui: &mut Ui,
    site: &SiteStatus,
    now: UnixTime,
    dialog: &mut Option<Dialog>,
    commands: &mut Commands<'_>,
) -> Option<Go> {
    let words = commands.words;
    let mut go = None;
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        follow_focus(ui);
        notices(ui, site, dialog, words);
        whole(ui, |ui| {
            heading(ui, &words.applications, |ui| {
                if primary_button(ui, true, &words.upload).clicked() {
                    go = Some(Go::Upload);
                }
            });
            if site.components.is_empty() {
                empty_state(
                    ui,
                    &words.nothing_published,
                    &words.nothing_published_hint,
                    |_| (),
                );
            }
            for (place, row) in site.components.iter().enumerate() {
                if place > 0 {
                    ui.separator();
                }
                if component(ui, row, dialog, words) {
                    go = Some(Go::Fleet);
                }
            }
            ui.add_space(space::XS);
            ui.label(RichText::new(&words.upload_note).small().weak());
        });
        whole(ui, |ui| repository(ui, site, now, dialog, commands));
    });
    go
}

/// What needs a person.
fn notices(ui: &mut Ui, site: &SiteStatus, dialog: &mut Option<Dialog>, words: &Words) {
    if let Some(trouble) = &site.repository.trouble {
        let notice = Notice {
            tone: if site.repository.answers == Reach::Distrusted {
                Tone::Bad
            } else {
                Tone::Warn
            },
            what: words.repository_trouble.clone(),
            why: format::sentence(trouble),
            remedy: String::new(),
        };
        notice.show(ui, |ui| {
            if site.repository.answers == Reach::Distrusted && ui.button(&words.recover_asks).clicked() {
                *dialog = Some(Dialog::recover());
            }
        });
    }
    if let Some(since) = site.repository.stale_since {
        let notice = Notice {
            tone: Tone::Bad,
            what: fill(&words.stale, &[&format::time(since)]),
            why: words.stale_why.clone(),
            remedy: words.stale_remedy.clone(),
        };
        notice.show(ui, |ui| {
            if ui.button(&words.renew_asks).clicked() {
                *dialog = Some(Dialog::renew());
            }
        });
    }
    if let Some(newest) = site.refused_reports.last() {
        let notice = Notice {
            tone: Tone::Bad,
            what: fill(&words.refused_reports, &[&site.refused_reports.len()]),
            why: format::sentence(newest),
            remedy: words.refused_reports_remedy.clone(),
        };
        notice.show(ui, |_| ());
    }
}

/// One application; true where the person wants to see its devices.
fn component(ui: &mut Ui, row: &ComponentRow, dialog: &mut Option<Dialog>, words: &Words) -> bool {
    let palette = Palette::of(ui.visuals());
    let mut to_fleet = false;
    ui.horizontal(|ui| {
        ui.vertical(|ui| {
            ui.set_width(190.0);
            ui.label(RichText::new(&words.app_name).small().color(palette.weak));
            ui.label(RichText::new(row.component.as_str()).strong());
            ui.label(RichText::new(&words.current).small().color(palette.weak));
            let current = row
                .current
                .as_ref()
                .map_or_else(|| words.none_current.clone(), ToString::to_string);
            ui.label(RichText::new(current).text_style(large()));
        });
        ui.vertical(|ui| {
            Grid::new(("component", row.component.as_str()))
                .num_columns(2)
                .spacing([space::M, space::XS])
                .show(ui, |ui| {
                    let mut fact = |name: &str, value: String| {
                        ui.label(RichText::new(name).color(palette.weak));
                        ui.label(value);
                        ui.end_row();
                    };
                    let released = row.released.map_or_else(|| words.not_known.clone(), format::time);
                    fact(&words.release_time, released);
                    if let Some(length) = row.length {
                        fact(&words.size, format::bytes(length));
                    }
                    let any = || words.any_architecture.clone();
                    fact(
                        &words.architecture,
                        row.processor.map_or_else(any, |arch| arch.to_string()),
                    );
                    if let Some(description) = &row.description {
                        fact(&words.description, description.clone());
                    }
                    if !row.withdrawn.is_empty() {
                        let list: Vec<String> = row.withdrawn.iter().map(ToString::to_string).collect();
                        fact(&words.withdrawn, list.join(", "));
                    }
                });
            ui.horizontal_wrapped(|ui| {
                for (ended, count) in &row.outcomes {
                    let (tone, word) = outcome(words, *ended);
                    pill(ui, tone, &fill(&words.devices_outcome, &[count, &word]));
                    ui.add_space(space::S);
                }
                if !row.outcomes.is_empty() && ui.button(&words.see_devices).clicked() {
                    to_fleet = true;
                }
                if let Some(version) = &row.current
                    && danger_button(ui, true, &words.withdraw_asks).clicked()
                {
                    *dialog = Some(Dialog::withdraw(row.component.clone(), version.clone()));
                }
            });
            // Each begins with the device's name; the page of the devices has them whole.
            for reason in row.reasons.iter().take(REASONS) {
                ui.label(RichText::new(format::brief(reason)).small().color(palette.warn));
            }
        });
    });
    to_fleet
}

fn repository(
    ui: &mut Ui,
    site: &SiteStatus,
    now: UnixTime,
    dialog: &mut Option<Dialog>,
    commands: &mut Commands<'_>,
) {
    let words = commands.words;
    let view = &site.repository;
    heading(ui, &words.repository, |ui| {
        let waits = commands.waits_for(|asked| *asked == Asked::Refresh);
        let word = if waits { &words.refreshing } else { &words.refresh };
        if ui.add_enabled(!waits, egui::Button::new(word)).clicked() {
            commands.send(Asked::Refresh, AuthorRequest::Refresh);
        }
        let (tone, word) = reach(view.answers, words);
        pill(ui, tone, word);
    });
    ui.label(RichText::new(&view.address).monospace());
    let when = |at: Option<UnixTime>, ui: &Ui| match at {
        Some(at) => format::ago_shown(ui, at, now),
        None => Kit::of(ui.ctx()).never.clone(),
    };
    let asked = when(view.asked, ui);
    let line = match view.verified {
        Some(_) => fill(&words.asked_verified, &[&asked, &when(view.verified, ui)]),
        None => fill(&words.asked_never, &[&asked]),
    };
    ui.label(RichText::new(line).small().weak());
    if view.is_empty {
        ui.label(&words.repository_empty);
    }
    ui.add_space(space::XS);
    Grid::new("roles")
        .num_columns(3)
        .spacing([space::L, space::XS])
        .show(ui, |ui| {
            for word in [&words.role, &words.version, &words.expires] {
                ui.label(RichText::new(word).small().weak());
            }
            ui.end_row();
            for role in &site.roles {
                ui.label(&role.role);
                ui.label(role.version.to_string());
                deadline(ui, &role.expires);
                ui.end_row();
            }
        });
    if ui.button(&words.renew_asks).clicked() {
        *dialog = Some(Dialog::renew());
    }
}

/// How the repository answers, in a word.
pub(super) fn reach(reach: Reach, words: &Words) -> (Tone, &str) {
    match reach {
        Reach::Unknown => (Tone::Plain, &words.reach_unknown),
        Reach::Yes => (Tone::Good, &words.reach_yes),
        Reach::No => (Tone::Warn, &words.reach_no),
        Reach::Distrusted => (Tone::Bad, &words.reach_distrusted),
    }
}

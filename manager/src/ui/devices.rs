//! The device list: add and delete by name and password, the table, one device in detail.

use std::time::Duration;

use egui::{Frame, Grid, Panel, RichText, ScrollArea, TextEdit, Ui};
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::theme::{self, Palette, card, space};
use gui_kit::widgets::{
    Notice, Tone, danger_button, empty_state, follow_focus, pill, primary_button, secret_field,
};
use protocol::control::{DeviceRow, ManagerRequest};
use protocol::device::{Activity, ComponentState};
use protocol::{Name, NameError, Outcome, Secret};
use tuf::UnixTime;

use super::dialog::Dialog;
use super::service::Snapshot;
use super::state::State;
use super::table::{self, Devices};
use super::{Asked, Commands, Words};
use crate::limits::PASSWORD_BYTES;

/// What the field for a name takes: far more than a name may have, so that what is too long is told, not cut off.
const NAME_FIELD: usize = 1_000;
/// Width from which the details stand beside the table and not below it.
const WIDE: f32 = 1_100.0;

/// What a person has typed, and the table.
#[derive(Debug, Default)]
pub(super) struct Desk {
    name: String,
    password: String,
    pub(super) notice: Option<Notice>,
    pub(super) devices: Devices,
}

impl Desk {
    /// What was typed has been used.
    pub(super) fn done(&mut self) {
        self.name.clear();
        self.password.clear();
        self.notice = None;
    }

    /// A device is gone.
    pub(super) fn deleted(&mut self, name: &Name) {
        self.done();
        self.devices.unselect(name);
    }

    pub(super) fn show(
        &mut self,
        ui: &mut Ui,
        snapshot: &Snapshot,
        now: UnixTime,
        dialog: &mut Option<Dialog>,
        commands: &mut Commands<'_>,
    ) {
        let words = commands.words;
        card(ui.visuals()).show(ui, |ui| {
            ui.set_width(ui.available_width());
            self.management(ui, dialog, commands);
        });
        let close = self.notice.as_ref().is_some_and(|notice| {
            let kit = gui_kit::text::Kit::of(ui.ctx());
            notice.show(ui, |ui| ui.button(&kit.close).clicked())
        });
        if close {
            self.notice = None;
        }
        if snapshot.table.rows.is_empty() {
            empty_state(ui, &words.no_devices, &words.no_devices_hint, |_| ());
            return;
        }
        if let Some(row) = self.devices.selected_row().cloned() {
            let palette = Palette::of(ui.visuals());
            let frame = Frame::new().fill(palette.ground);
            let wide = ui.available_width() >= WIDE;
            let gap = egui::Margin {
                left: if wide { 10 } else { 0 },
                top: if wide { 0 } else { 10 },
                ..egui::Margin::ZERO
            };
            let panel = if wide {
                Panel::right("details").default_size(320.0).min_size(260.0)
            } else {
                let most = ui.available_height();
                Panel::bottom("details")
                    .default_size((most * 0.42).clamp(90.0, 230.0))
                    .max_size((most - 110.0).max(90.0))
            };
            panel
                .resizable(true)
                .show_separator_line(false)
                .frame(frame.inner_margin(gap))
                .show(ui, |ui| {
                    card(ui.visuals()).show(ui, |ui| {
                        ui.set_min_size(ui.available_size());
                        ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
                            follow_focus(ui);
                            details(ui, &row, now, words, dialog);
                        });
                    });
                });
        }
        self.table(ui, snapshot, now, words);
    }

    fn table(&mut self, ui: &mut Ui, snapshot: &Snapshot, now: UnixTime, words: &Words) {
        ui.horizontal_wrapped(|ui| {
            let label = ui.label(&words.filter_devices);
            ui.add(
                TextEdit::singleline(&mut self.devices.filter)
                    .desired_width(200.0)
                    .char_limit(100),
            )
            .labelled_by(label.id);
            let count = fill(
                &words.devices_shown,
                &[&self.devices.shown(), &snapshot.table.rows.len()],
            );
            ui.label(RichText::new(count).small().weak());
        });
        if self.devices.shown() == 0 && !self.devices.filter.is_empty() {
            empty_state(ui, &words.no_match, &words.no_match_hint, |_| ());
            return;
        }
        let palette = Palette::of(ui.visuals());
        Frame::new()
            .fill(palette.surface)
            .stroke(egui::Stroke::new(1.0, palette.border))
            .corner_radius(8)
            .inner_margin(8)
            .show(ui, |ui| {
                ScrollArea::horizontal()
                    .id_salt("device table")
                    .auto_shrink([false, false])
                    .show(ui, |ui| {
                        ui.set_min_width(700.0);
                        self.devices.show(ui, words, now);
                    });
            });
    }

    fn management(&mut self, ui: &mut Ui, dialog: &mut Option<Dialog>, commands: &mut Commands<'_>) {
        let words = commands.words;
        ui.horizontal_wrapped(|ui| {
            let height = ui.spacing().interact_size.y;
            let left = egui::Layout::left_to_right(egui::Align::Center);
            let label = ui.label(&words.device_name);
            let name = ui
                .add(
                    TextEdit::singleline(&mut self.name)
                        .desired_width(150.0)
                        .char_limit(NAME_FIELD),
                )
                .labelled_by(label.id);
            let password = ui
                .allocate_ui_with_layout(egui::vec2(310.0, height), left, |ui| {
                    ui.set_max_width(310.0);
                    secret_field(ui, &words.password, &mut self.password, PASSWORD_BYTES)
                })
                .inner;
            if name.changed() || password.changed() {
                self.notice = None;
            }
            let entered = (name.lost_focus() || password.lost_focus())
                && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let adding = commands.waits_for(|asked| matches!(asked, Asked::Add(_)));
            if primary_button(ui, !adding, &words.add).clicked() || (entered && !adding) {
                self.add(commands);
            }
            let deleting = commands.waits_for(|asked| matches!(asked, Asked::Delete(_)));
            if danger_button(ui, !deleting, &words.delete).clicked()
                && let Some((name, password)) = self.typed(words)
            {
                *dialog = Some(Dialog::delete(name, password.reveal().to_owned()));
            }
        });
    }

    fn add(&mut self, commands: &mut Commands<'_>) {
        if let Some((name, password)) = self.typed(commands.words) {
            self.notice = None;
            let asked = Asked::Add(name.clone());
            commands.send(asked, ManagerRequest::AddDevice { name, password });
        }
    }

    /// What was typed, if it is a name and a password; else a notice says what is wrong.
    fn typed(&mut self, words: &Words) -> Option<(Name, Secret)> {
        if self.name.is_empty() || self.password.is_empty() {
            self.notice = Some(notice(&words.input_empty, "", &words.input_empty_remedy));
            return None;
        }
        match self.name.parse::<Name>() {
            Ok(name) => Some((name, Secret::new(self.password.clone()))),
            Err(error) => {
                let what = match error {
                    NameError::Empty => words.input_empty.clone(),
                    NameError::TooLong(count) => {
                        fill(&words.name_too_long, &[&count, &protocol::limits::MAX_NAME])
                    }
                    NameError::Character { found, place } => {
                        fill(&words.name_character, &[&found.escape_debug(), &place])
                    }
                    NameError::Dots => words.name_dots.clone(),
                };
                self.notice = Some(notice(&what, "", &words.name_remedy));
                None
            }
        }
    }
}

fn notice(what: &str, why: &str, remedy: &str) -> Notice {
    Notice {
        tone: Tone::Bad,
        what: what.to_owned(),
        why: why.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn details(ui: &mut Ui, row: &DeviceRow, now: UnixTime, words: &Words, dialog: &mut Option<Dialog>) {
    let state = State::of(row);
    ui.horizontal_wrapped(|ui| {
        ui.label(
            RichText::new(row.name.as_str())
                .text_style(theme::title())
                .strong(),
        );
        pill(ui, state.tone(), state.word(words));
    });
    if let Some(trouble) = &row.trouble {
        let color = Palette::of(ui.visuals()).bad;
        ui.label(RichText::new(trouble).color(color));
    }
    ui.horizontal_wrapped(|ui| {
        if ui.button(&words.new_code).clicked() {
            *dialog = Some(Dialog::new_code(row.name.clone()));
        }
        if row.quarantine.is_some() {
            if ui.button(&words.readmit_asks).clicked() {
                *dialog = Some(Dialog::readmit(row.name.clone()));
            }
        } else if ui.button(&words.quarantine_asks).clicked() {
            *dialog = Some(Dialog::quarantine(row.name.clone()));
        }
        if danger_button(ui, true, &words.delete_asks).clicked() {
            *dialog = Some(Dialog::delete(row.name.clone(), String::new()));
        }
    });
    Grid::new("facts")
        .num_columns(2)
        .spacing([space::M, space::XS])
        .show(ui, |ui| {
            let seen = table::seen(ui, row, now);
            let mut fact = |name: &str, value: String| {
                ui.label(RichText::new(name).weak());
                ui.add(egui::Label::new(value).wrap());
                ui.end_row();
            };
            fact(
                &words.details_address,
                row.address.clone().unwrap_or_else(|| words.details_none.clone()),
            );
            fact(&words.column_seen, seen);
            if let Some(quarantine) = &row.quarantine {
                let since = format::time(quarantine.since);
                let text = fill(&words.details_quarantined, &[&since, &quarantine.reason]);
                fact(&words.state_quarantined, text);
            }
            if let Some(until) = row.certificate_until {
                fact(&words.details_certificate, format::date(until));
            }
            for component in &row.components {
                fact(component.component.as_ref(), component_line(component, words));
                if let Some(waiting) = &component.waiting {
                    let since = format::time(waiting.since);
                    let text = fill(
                        &words.details_waits,
                        &[&waiting.version, &since, &super::state::unmet(waiting)],
                    );
                    fact(&words.details_waiting, text);
                }
            }
            if let Some(last) = &row.last {
                let outcome = match last.outcome {
                    Outcome::Committed => &words.outcome_committed,
                    Outcome::RolledBack => &words.outcome_rolled_back,
                    Outcome::Refused => &words.outcome_refused,
                    Outcome::Failed => &words.outcome_failed,
                };
                let mut text = format!("{} {} {outcome}", last.component, last.version);
                if let Some(reason) = &last.reason {
                    text.push_str(": ");
                    text.push_str(reason);
                }
                fact(&words.details_last, text);
            }
        });
}

fn component_line(component: &ComponentState, words: &Words) -> String {
    let activity = match component.activity {
        Activity::Empty => &words.activity_empty,
        Activity::Running => &words.activity_running,
        Activity::Downloading => &words.activity_downloading,
        Activity::Staging => &words.activity_staging,
        Activity::Switching => &words.activity_switching,
        Activity::Probation => &words.activity_probation,
        Activity::RollingBack => &words.activity_rolling_back,
        Activity::Failing => &words.activity_failing,
    };
    let version = component.version.as_ref().map(ToString::to_string);
    let mut parts = vec![version.unwrap_or_default(), activity.clone()];
    if component.activity == Activity::Running && component.uptime_seconds > 0 {
        let time = format::duration(Duration::from_secs(component.uptime_seconds));
        parts.push(fill(&words.details_uptime, &[&time]));
    }
    if let Some(previous) = &component.previous {
        parts.push(fill(&words.details_previous, &[previous]));
    }
    if component.held {
        parts.push(words.details_held.clone());
    }
    parts.retain(|part| !part.is_empty());
    parts.join("  ·  ")
}

//! The author's keys and certificates: where they are, when they end, how they are renewed.

use egui::{Grid, RichText, ScrollArea, Ui};
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::theme::{Palette, space};
use gui_kit::widgets::{Tone, follow_focus, pill};
use protocol::control::{AuthorRequest, KeyPurpose, KeyState, SiteStatus};

use super::dialog::Dialog;
use super::parts::{deadline, heading, whole};
use super::{Asked, Commands};

pub(super) fn show(
    ui: &mut Ui,
    site: &SiteStatus,
    key: KeyState,
    dialog: &mut Option<Dialog>,
    commands: &mut Commands<'_>,
) {
    let words = commands.words;
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        follow_focus(ui);
        whole(ui, |ui| {
            heading(ui, &words.signing_key, |ui| match key {
                KeyState::Locked => drop(pill(ui, Tone::Plain, &words.key_locked)),
                KeyState::Open { .. } => drop(pill(ui, Tone::Warn, &words.key_open)),
            });
            match key {
                KeyState::Locked => {
                    ui.label(&words.key_locked_hint);
                }
                KeyState::Open { until } => {
                    ui.label(fill(&words.key_open_until, &[&format::time(until)]));
                    if ui.button(&words.lock_now).clicked() {
                        commands.send(Asked::Lock, AuthorRequest::Lock);
                    }
                }
            }
        });
        whole(ui, |ui| {
            heading(ui, &words.key_files, |_| ());
            ScrollArea::horizontal()
                .id_salt("key files")
                .show(ui, |ui| files(ui, site, words));
            ui.add_space(space::XS);
            ui.label(RichText::new(&words.key_files_hint).small().weak());
        });
        whole(ui, |ui| {
            heading(ui, &words.expiries, |ui| {
                if ui.button(&words.renew_asks).clicked() {
                    *dialog = Some(Dialog::renew());
                }
            });
            Grid::new("expiries")
                .num_columns(2)
                .spacing([space::L, space::XS])
                .show(ui, |ui| {
                    for role in &site.roles {
                        ui.label(fill(&words.role_version, &[&role.role, &role.version]));
                        deadline(ui, &role.expires);
                        ui.end_row();
                    }
                    ui.label(&words.author_certificate);
                    deadline(ui, &site.certificate);
                    ui.end_row();
                });
        });
    });
}

fn files(ui: &mut Ui, site: &SiteStatus, words: &super::Words) {
    let palette = Palette::of(ui.visuals());
    Grid::new("keys")
        .num_columns(3)
        .spacing([space::L, space::XS])
        .show(ui, |ui| {
            for key in &site.keys {
                let purpose = match key.key {
                    KeyPurpose::Root => &words.key_root,
                    KeyPurpose::Targets => &words.key_targets,
                    KeyPurpose::Authority => &words.key_authority,
                    KeyPurpose::Connection => &words.key_connection,
                };
                ui.label(purpose);
                if key.is_there {
                    ui.label(RichText::new(key.path.display().to_string()).monospace());
                } else {
                    let text = fill(&words.key_elsewhere, &[&key.path.display()]);
                    ui.label(RichText::new(text).color(palette.weak));
                }
                ui.label(key.expires.map_or_else(String::new, format::date));
                ui.end_row();
            }
        });
}

//! The first start: a folder that is to become a site's.

use std::path::Path;

use egui::{Grid, RichText, ScrollArea, TextEdit, Ui};
use gui_kit::format;
use gui_kit::text::fill;
use gui_kit::theme::{Palette, large, space};
use gui_kit::widgets::{Notice, Tone, Turn, entered, follow_focus, primary_button, secret_field};
use protocol::Secret;
use protocol::control::{AuthorRequest, InitRequest, SigningKeyKind, SiteMade};
use zeroize::Zeroize as _;

use super::parts::{bad, copied, facts, heading, whole};
use super::publish::why;
use super::{Asked, Commands, Words};
use crate::limits::{PASSPHRASE_MAX, PASSPHRASE_MIN, WINDOW_FIELD};

/// The page.
#[derive(Debug)]
pub(super) struct Wizard {
    site: InitRequest,
    passphrase: String,
    again: String,
    /// The first field gets the keyboard.
    turn: Turn,
    notice: Option<Notice>,
    made: Option<Box<SiteMade>>,
}

impl Default for Wizard {
    fn default() -> Self {
        Self {
            site: InitRequest::default(),
            passphrase: String::new(),
            again: String::new(),
            turn: Turn::open(),
            notice: None,
            made: None,
        }
    }
}

impl Drop for Wizard {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Wizard {
    fn forget(&mut self) {
        self.passphrase.zeroize();
        self.again.zeroize();
    }

    /// Whether what was made is still to be read.
    pub(super) fn is_open(&self) -> bool {
        self.made.is_some()
    }

    /// The site was made, or not.
    pub(super) fn answered(&mut self, answer: Result<SiteMade, control::Error>, words: &Words) {
        match answer {
            Ok(made) => {
                self.forget();
                self.notice = None;
                self.turn = Turn::open();
                self.made = Some(Box::new(made));
            }
            Err(error) => self.notice = Some(bad(&words.site_not_made, &why(&error), "")),
        }
    }

    pub(super) fn show(&mut self, ui: &mut Ui, dir: &str, commands: &mut Commands<'_>) {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            follow_focus(ui);
            ui.set_max_width(720.0);
            if self.made.is_some() {
                self.done(ui, commands.words);
            } else {
                self.ask(ui, dir, commands);
            }
        });
    }

    fn ask(&mut self, ui: &mut Ui, dir: &str, commands: &mut Commands<'_>) {
        let words = commands.words;
        let weak = Palette::of(ui.visuals()).weak;
        ui.label(RichText::new(&words.wizard_title).text_style(large()));
        ui.label(fill(&words.wizard_hint, &[&dir]));
        ui.add_space(space::S);
        whole(ui, |ui| {
            heading(ui, &words.wizard_who, |_| ());
            let site = &mut self.site;
            Grid::new("wizard")
                .num_columns(2)
                .spacing([space::L, space::S])
                .show(ui, |ui| {
                    for (word, text, hint) in [
                        (&words.site_name, &mut site.site, &words.site_name_hint),
                        (&words.author_name, &mut site.author, &words.author_name_hint),
                        (
                            &words.repository_address,
                            &mut site.repository_address,
                            &words.repository_address_hint,
                        ),
                        (
                            &words.manager_address,
                            &mut site.manager_address,
                            &words.manager_address_hint,
                        ),
                    ] {
                        let name = ui.label(word);
                        ui.vertical(|ui| {
                            let field = TextEdit::singleline(text)
                                .char_limit(WINDOW_FIELD)
                                .desired_width(320.0);
                            let field = ui.add(field).labelled_by(name.id);
                            self.turn.give(field);
                            ui.label(RichText::new(hint).small().color(weak));
                        });
                        ui.end_row();
                    }
                    ui.label(&words.key_kind);
                    ui.horizontal_wrapped(|ui| {
                        let kind = &mut site.targets_key;
                        ui.radio_value(kind, SigningKeyKind::Rsa, &words.key_kind_rsa);
                        ui.radio_value(kind, SigningKeyKind::Ed25519, &words.key_kind_ed25519);
                    });
                    ui.end_row();
                });
        });
        let mut go = false;
        whole(ui, |ui| {
            heading(ui, &words.wizard_passphrase, |_| ());
            ui.label(RichText::new(fill(&words.wizard_passphrase_hint, &[&PASSPHRASE_MIN])).color(weak));
            secret_field(ui, &words.passphrase, &mut self.passphrase, PASSPHRASE_MAX);
            let again = secret_field(ui, &words.passphrase_again, &mut self.again, PASSPHRASE_MAX);
            go = entered(ui, &again);
        });
        if let Some(notice) = &self.notice {
            notice.show(ui, |_| ());
        }
        let waits = commands.waits_for(|asked| *asked == Asked::Init);
        ui.horizontal_wrapped(|ui| {
            go |= primary_button(ui, !waits, &words.make_site).clicked();
            if go && !waits {
                self.go(commands);
            }
            if waits {
                ui.spinner();
                ui.label(&words.making_site);
            }
        });
    }

    fn go(&mut self, commands: &mut Commands<'_>) {
        let words = commands.words;
        self.notice = None;
        if self.site.site.trim().is_empty() {
            self.notice = Some(bad(&words.site_name_missing, "", &words.site_name_hint));
        } else if self.passphrase != self.again {
            self.notice = Some(bad(
                &words.passphrases_differ,
                "",
                &words.passphrases_differ_remedy,
            ));
        } else {
            let mut site = self.site.clone();
            for text in [
                &mut site.site,
                &mut site.author,
                &mut site.repository_address,
                &mut site.manager_address,
            ] {
                *text = text.trim().to_owned();
            }
            let passphrase = Secret::new(self.passphrase.clone());
            let site = Box::new(site);
            commands.send(Asked::Init, AuthorRequest::Init { site, passphrase });
        }
    }

    fn done(&mut self, ui: &mut Ui, words: &Words) {
        let Some(made) = &self.made else { return };
        let site = &self.site;
        let notice = Notice {
            tone: Tone::Good,
            what: words.site_made.clone(),
            why: fill(&words.site_made_where, &[&made.dir.display()]),
            remedy: fill(&words.root_ends, &[&format::date(made.root_expires)]),
        };
        notice.show(ui, |_| ());
        whole(ui, |ui| {
            heading(ui, &words.next_steps, |_| ());
            let steps = [
                if site.repository_address.trim().is_empty() {
                    let command = run("repo-server run --dir", &made.repository);
                    (words.next_repository_here.clone(), Some(command))
                } else {
                    let step = fill(&words.next_repository, &[&made.repository.display()]);
                    (step, Some("repo-server run --dir repository".to_owned()))
                },
                if site.manager_address.trim().is_empty() {
                    let command = run("manager window --dir", &made.manager);
                    (words.next_manager_here.clone(), Some(command))
                } else {
                    let step = fill(&words.next_manager, &[&made.manager.display()]);
                    (step, Some("manager run --dir manager".to_owned()))
                },
                (
                    fill(&words.next_devices, &[&made.author.join("root.json").display()]),
                    None,
                ),
                (words.next_backup.clone(), None),
            ];
            for (number, (step, command)) in steps.into_iter().enumerate() {
                ui.label(format!("{}. {step}", number + 1));
                if let Some(command) = command {
                    copied(ui, &command, &command);
                }
            }
        });
        whole(ui, |ui| {
            heading(ui, &words.fingerprints, |_| ());
            ui.label(RichText::new(&words.fingerprints_hint).small().weak());
            let rows = [
                (
                    words.root_fingerprint.as_str(),
                    made.root_fingerprint.to_string(),
                    true,
                ),
                (&words.ca_fingerprint, made.ca_fingerprint.to_string(), true),
            ];
            facts(ui, "fingerprints", &rows);
        });
        if self.turn.give(primary_button(ui, true, &words.go_on)).clicked() {
            self.made = None;
        }
    }
}

/// A command with a folder behind it, for a shell.
fn run(command: &str, dir: &Path) -> String {
    let dir = dir.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if dir.chars().all(plain) {
        format!("{command} {dir}")
    } else {
        format!("{command} '{}'", dir.replace('\'', r"'\''"))
    }
}

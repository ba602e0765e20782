//! What is asked before it is done: taking a release back, signing roles again, helping a restored repository.

use egui::{Modal, RichText, ScrollArea, TextEdit, Ui};
use gui_kit::text::{Kit, fill};
use gui_kit::theme::{space, title};
use gui_kit::widgets::{Notice, Turn, danger_button, entered, follow_focus, primary_button, secret_field};
use protocol::Secret;
use protocol::control::{AuthorRequest, KeyState, RenewWhat};
use release::{Component, Version};
use zeroize::Zeroize as _;

use super::parts::bad;
use super::publish::{is, why};
use super::{Asked, Commands, Words};
use crate::limits::{PASSPHRASE_MAX, WINDOW_FIELD};

/// A question.
#[derive(Debug)]
pub(super) struct Dialog {
    question: Question,
    passphrase: String,
    /// The first field gets the keyboard once it is drawn.
    turn: Turn,
    notice: Option<Notice>,
}

#[derive(Debug)]
enum Question {
    Withdraw {
        component: Component,
        version: Version,
        reason: String,
    },
    Renew(RenewWhat),
    Recover,
}

impl Drop for Dialog {
    fn drop(&mut self) {
        self.passphrase.zeroize();
    }
}

impl Dialog {
    fn of(question: Question) -> Self {
        Self {
            question,
            passphrase: String::new(),
            turn: Turn::open(),
            notice: None,
        }
    }

    pub(super) fn withdraw(component: Component, version: Version) -> Self {
        Self::of(Question::Withdraw {
            component,
            version,
            reason: String::new(),
        })
    }

    pub(super) fn renew() -> Self {
        Self::of(Question::Renew(RenewWhat::Targets))
    }

    pub(super) fn recover() -> Self {
        Self::of(Question::Recover)
    }

    /// The desk refused to begin.
    pub(super) fn refused(&mut self, error: &control::Error, words: &Words) {
        self.passphrase.zeroize();
        let (what, remedy) = if is(error, "author.passphrase.wrong") {
            (&words.wrong_passphrase, words.wrong_passphrase_remedy.as_str())
        } else {
            (&words.not_done, "")
        };
        self.notice = Some(bad(what, &why(error), remedy));
    }

    /// Draws it; true when it is over.
    pub(super) fn show(&mut self, ctx: &egui::Context, key: KeyState, commands: &mut Commands<'_>) -> bool {
        let screen = ctx.content_rect().size();
        let modal = Modal::new(egui::Id::unique("dialog")).show(ctx, |ui| {
            ui.set_width(460.0_f32.min(screen.x - 64.0));
            ScrollArea::vertical()
                .max_height(screen.y - 80.0)
                .min_scrolled_height(screen.y - 80.0)
                .show(ui, |ui| {
                    follow_focus(ui);
                    self.ask(ui, key, commands)
                })
                .inner
        });
        let typed = !self.passphrase.is_empty();
        // A click beside it must not lose what was typed.
        let beside = typed && modal.backdrop_response.clicked();
        (modal.should_close() && !beside) || modal.inner
    }

    fn ask(&mut self, ui: &mut Ui, key: KeyState, commands: &mut Commands<'_>) -> bool {
        let words = commands.words;
        let (heading, hint) = match &self.question {
            Question::Withdraw {
                component, version, ..
            } => (
                fill(&words.withdraw_title, &[component, version]),
                &words.withdraw_hint,
            ),
            Question::Renew(_) => (words.renew_title.clone(), &words.renew_hint),
            Question::Recover => (words.recover_title.clone(), &words.recover_hint),
        };
        ui.label(RichText::new(heading).text_style(title()).strong());
        ui.label(hint);
        ui.add_space(space::XS);
        match &mut self.question {
            Question::Withdraw { reason, .. } => {
                let name = ui.label(&words.withdraw_reason);
                let field = TextEdit::singleline(reason)
                    .char_limit(WINDOW_FIELD)
                    .desired_width(f32::INFINITY);
                self.turn.give(ui.add(field).labelled_by(name.id));
            }
            Question::Renew(what) => {
                for (choice, word) in [
                    (RenewWhat::Targets, &words.renew_targets),
                    (RenewWhat::Root, &words.renew_root),
                    (RenewWhat::All, &words.renew_all),
                ] {
                    self.turn.give(ui.radio_value(what, choice, word));
                }
            }
            Question::Recover => {}
        }
        let mut enter = false;
        // The root key is never kept open, and a repository is helped without any.
        let needed = match &self.question {
            Question::Withdraw { .. } => key == KeyState::Locked,
            Question::Renew(_) => true,
            Question::Recover => false,
        };
        if needed {
            let field = secret_field(ui, &words.passphrase, &mut self.passphrase, PASSPHRASE_MAX);
            enter = entered(ui, &field);
        }
        if let Some(notice) = &self.notice {
            notice.show(ui, |_| ());
        }
        ui.add_space(space::S);
        self.buttons(ui, needed, enter, commands)
    }

    fn buttons(&mut self, ui: &mut Ui, needed: bool, enter: bool, commands: &mut Commands<'_>) -> bool {
        let words = commands.words;
        let waits = commands.waits_for(|asked| *asked == Asked::Dialog);
        let (mut over, mut go) = (false, enter);
        ui.horizontal_wrapped(|ui| {
            over = ui.button(&Kit::of(ui.ctx()).cancel).clicked();
            go |= match &self.question {
                Question::Withdraw { .. } => danger_button(ui, !waits, &words.withdraw),
                Question::Renew(_) => primary_button(ui, !waits, &words.renew),
                Question::Recover => primary_button(ui, !waits, &words.recover),
            }
            .clicked();
            if waits {
                ui.spinner();
            }
        });
        if go && !waits {
            self.go(needed, commands);
        }
        over
    }

    fn go(&mut self, needed: bool, commands: &mut Commands<'_>) {
        let words = commands.words;
        self.notice = None;
        if needed && self.passphrase.is_empty() {
            self.notice = Some(bad(&words.passphrase_missing, "", &words.passphrase_remedy));
            return;
        }
        let passphrase = Secret::new(self.passphrase.clone());
        let request = match &self.question {
            Question::Withdraw { reason, .. } if reason.trim().is_empty() => {
                self.notice = Some(bad(&words.reason_missing, "", &words.reason_remedy));
                return;
            }
            Question::Withdraw {
                component,
                version,
                reason,
            } => AuthorRequest::Withdraw {
                component: component.clone(),
                version: version.clone(),
                reason: reason.trim().to_owned(),
                passphrase: needed.then_some(passphrase),
            },
            Question::Renew(what) => AuthorRequest::Renew {
                what: *what,
                passphrase,
            },
            Question::Recover => AuthorRequest::Recover,
        };
        commands.send(Asked::Dialog, request);
    }
}

//! What is asked before it is done, and the code that a new device gets.

use egui::{Id, Modal, RichText, ScrollArea, TextEdit, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::{Palette, space, title};
use gui_kit::widgets::{danger_button, follow_focus, primary_button, secret_field};
use protocol::control::{AddedDevice, ManagerRequest, ReleaseRow};
use protocol::limits::MAX_REASON;
use protocol::{Name, Secret};
use release::{Component, Version};

use super::code::QrCode;
use super::devices::Desk;
use super::{Asked, Commands, Words};
use crate::limits::PASSWORD_BYTES;

/// What lies over the window.
#[derive(Debug)]
pub(super) enum Dialog {
    /// Take a device off the list?
    Delete {
        name: Name,
        password: String,
        /// On the operator's own authority.
        authority: bool,
    },
    /// A new code for a device on the list.
    NewCode { name: Name, password: String },
    /// Cut a device off?
    Quarantine { name: Name, reason: String },
    /// Let a device in again?
    Readmit(Name),
    /// Offer a stopped release again?
    Resume {
        component: Component,
        version: Version,
        reason: String,
    },
    /// The code for the person at the device.
    Code(Box<Code>),
}

#[derive(Debug)]
pub(super) struct Code {
    added: AddedDevice,
    qr: Option<QrCode>,
    copied: bool,
}

/// What a dialog came to.
enum Choice {
    Stay,
    Close,
}

impl Dialog {
    pub(super) fn delete(name: Name, password: String) -> Self {
        Self::Delete {
            name,
            password,
            authority: false,
        }
    }

    pub(super) fn new_code(name: Name) -> Self {
        Self::NewCode {
            name,
            password: String::new(),
        }
    }

    pub(super) fn quarantine(name: Name) -> Self {
        Self::Quarantine {
            name,
            reason: String::new(),
        }
    }

    pub(super) fn resume(release: &ReleaseRow, reason: &str) -> Self {
        Self::Resume {
            component: release.component.clone(),
            version: release.version.clone(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn code(added: AddedDevice) -> Self {
        let qr = QrCode::of(added.code.reveal());
        Self::Code(Box::new(Code {
            added,
            qr,
            copied: false,
        }))
    }

    /// Draws it; true when it is over.
    pub(super) fn show(&mut self, ctx: &egui::Context, desk: &mut Desk, commands: &mut Commands<'_>) -> bool {
        let kit = Kit::of(ctx);
        let screen = ctx.content_rect().size();
        let modal = Modal::new(Id::unique("dialog")).show(ctx, |ui| {
            let wide = if matches!(self, Self::Code(_)) {
                640.0
            } else {
                440.0_f32
            };
            ui.set_width(wide.min(screen.x - 64.0));
            ScrollArea::vertical()
                .max_height(screen.y - 80.0)
                // Scrolls only where the screen is too small, not where the dialog was smaller a frame ago.
                .min_scrolled_height(screen.y - 80.0)
                .show(ui, |ui| {
                    follow_focus(ui);
                    match self {
                    Self::Delete {
                        name,
                        password,
                        authority,
                    } => delete(ui, &kit, name, password, authority, desk, commands),
                    Self::NewCode { name, password } => new_code(ui, &kit, name, password, desk, commands),
                    Self::Quarantine { name, reason } => quarantine(ui, &kit, name, reason, commands),
                    Self::Readmit(name) => readmit(ui, &kit, name, commands),
                    Self::Resume {
                        component,
                        version,
                        reason,
                    } => resume(ui, &kit, (component, version, reason), commands),
                    Self::Code(code) => show_code(ui, &kit, code, commands.words),
                }})
                .inner
        });
        // The code is shown once: a click beside it, such as on a passing note, must not lose it.
        let beside = matches!(self, Self::Code(_)) && modal.backdrop_response.clicked();
        (modal.should_close() && !beside) || matches!(modal.inner, Choice::Close)
    }
}

fn heading(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).text_style(title()).strong());
    ui.add_space(space::XS);
}

/// The way back and the way on; the way back comes first for the keyboard.
fn buttons(ui: &mut Ui, kit: &Kit, go: impl FnOnce(&mut Ui) -> bool) -> (bool, bool) {
    ui.add_space(space::S);
    ui.horizontal(|ui| {
        let back = ui.button(&kit.cancel).clicked();
        (back, go(ui))
    })
    .inner
}

fn delete(
    ui: &mut Ui,
    kit: &Kit,
    name: &Name,
    password: &mut String,
    authority: &mut bool,
    desk: &mut Desk,
    commands: &mut Commands<'_>,
) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.delete_title, &[name]));
    ui.label(&words.delete_hint);
    ui.add_space(space::S);
    ui.add_enabled_ui(!*authority, |ui| {
        secret_field(ui, &words.password, password, PASSWORD_BYTES);
    });
    ui.checkbox(authority, &words.delete_authority);
    let (back, go) = buttons(ui, kit, |ui| {
        let ready = *authority || !password.is_empty();
        danger_button(ui, ready, &words.delete_device).clicked()
    });
    if go {
        let password = (!*authority).then(|| Secret::new(std::mem::take(password)));
        desk.notice = None;
        let request = ManagerRequest::DeleteDevice {
            name: name.clone(),
            password,
        };
        commands.send(Asked::Delete(name.clone()), request);
    }
    if back || go { Choice::Close } else { Choice::Stay }
}

fn new_code(
    ui: &mut Ui,
    kit: &Kit,
    name: &Name,
    password: &mut String,
    desk: &mut Desk,
    commands: &mut Commands<'_>,
) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.new_code_title, &[name]));
    ui.label(&words.new_code_hint);
    ui.add_space(space::S);
    secret_field(ui, &words.password, password, PASSWORD_BYTES);
    let (back, go) = buttons(ui, kit, |ui| {
        primary_button(ui, !password.is_empty(), &words.make_code).clicked()
    });
    if go {
        desk.notice = None;
        let request = ManagerRequest::NewCode {
            name: name.clone(),
            password: Secret::new(std::mem::take(password)),
        };
        commands.send(Asked::Code, request);
    }
    if back || go { Choice::Close } else { Choice::Stay }
}

fn quarantine(
    ui: &mut Ui,
    kit: &Kit,
    name: &Name,
    reason: &mut String,
    commands: &mut Commands<'_>,
) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.quarantine_title, &[name]));
    ui.label(&words.quarantine_hint);
    ui.add_space(space::S);
    ui.horizontal(|ui| {
        let label = ui.label(&words.quarantine_reason);
        ui.add(
            TextEdit::singleline(reason)
                .desired_width(f32::INFINITY)
                .char_limit(MAX_REASON),
        )
        .labelled_by(label.id);
    });
    let (back, go) = buttons(ui, kit, |ui| {
        danger_button(ui, true, &words.quarantine_go).clicked()
    });
    if go {
        let request = ManagerRequest::Quarantine {
            name: name.clone(),
            reason: std::mem::take(reason),
        };
        commands.send(Asked::Quarantine(name.clone()), request);
    }
    if back || go { Choice::Close } else { Choice::Stay }
}

fn readmit(ui: &mut Ui, kit: &Kit, name: &Name, commands: &mut Commands<'_>) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.readmit_title, &[name]));
    ui.label(&words.readmit_hint);
    let (back, go) = buttons(ui, kit, |ui| {
        primary_button(ui, true, &words.readmit_go).clicked()
    });
    if go {
        let request = ManagerRequest::Readmit { name: name.clone() };
        commands.send(Asked::Readmit(name.clone()), request);
    }
    if back || go { Choice::Close } else { Choice::Stay }
}

fn resume(
    ui: &mut Ui,
    kit: &Kit,
    (component, version, reason): (&Component, &Version, &str),
    commands: &mut Commands<'_>,
) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.resume_title, &[component, version]));
    ui.label(reason);
    ui.label(&words.resume_hint);
    let (back, go) = buttons(ui, kit, |ui| primary_button(ui, true, &words.resume_go).clicked());
    if go {
        let request = ManagerRequest::Resume {
            component: component.clone(),
            version: version.clone(),
        };
        commands.send(Asked::Resume(component.clone(), version.clone()), request);
    }
    if back || go { Choice::Close } else { Choice::Stay }
}

fn show_code(ui: &mut Ui, kit: &Kit, code: &mut Code, words: &Words) -> Choice {
    let name = &code.added.name;
    heading(ui, &fill(&words.code_title, &[name]));
    let palette = Palette::of(ui.visuals());
    ui.label(&words.code_hint);
    ui.label(
        RichText::new(fill(&words.code_until, &[&format::time(code.added.code_until)])).color(palette.weak),
    );
    ui.add_space(space::S);
    let height = ui.ctx().content_rect().height() - 300.0;
    ui.horizontal_top(|ui| {
        if let Some(qr) = &code.qr {
            qr.show(ui, height.clamp(150.0, 280.0), &fill(&words.code_qr, &[name]));
        }
        ui.vertical(|ui| {
            let label = ui.label(&words.code_name);
            let mut text = code.added.code.reveal();
            ui.add(
                TextEdit::multiline(&mut text)
                    .font(egui::TextStyle::Monospace)
                    .desired_rows(5)
                    .desired_width(f32::INFINITY),
            )
            .labelled_by(label.id);
            ui.horizontal(|ui| {
                let word = if code.copied { &kit.copied } else { &kit.copy };
                if primary_button(ui, true, word).clicked() {
                    ui.ctx().copy_text(code.added.code.reveal().to_owned());
                    code.copied = true;
                }
            });
        });
    });
    ui.add_space(space::S);
    if ui.button(&kit.done).clicked() {
        Choice::Close
    } else {
        Choice::Stay
    }
}

//! What is asked before it is done, and the code that a new device gets.

use egui::{Id, Modal, RichText, ScrollArea, TextBuffer, TextEdit, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::{Palette, space, title};
use gui_kit::widgets::{Turn, danger_button, entered, follow_focus, primary_button, secret_field};
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
pub(super) struct Dialog {
    what: What,
    /// What comes first has the keyboard: a field, or else the way back.
    turn: Turn,
}

#[derive(Debug)]
enum What {
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
    fn open(what: What) -> Self {
        let turn = Turn::open();
        Self { what, turn }
    }

    pub(super) fn delete(name: Name, password: String) -> Self {
        Self::open(What::Delete {
            name,
            password,
            authority: false,
        })
    }

    pub(super) fn new_code(name: Name) -> Self {
        Self::open(What::NewCode {
            name,
            password: String::new(),
        })
    }

    pub(super) fn quarantine(name: Name) -> Self {
        Self::open(What::Quarantine {
            name,
            reason: String::new(),
        })
    }

    pub(super) fn readmit(name: Name) -> Self {
        Self::open(What::Readmit(name))
    }

    pub(super) fn resume(release: &ReleaseRow, reason: &str) -> Self {
        Self::open(What::Resume {
            component: release.component.clone(),
            version: release.version.clone(),
            reason: reason.to_owned(),
        })
    }

    pub(super) fn code(added: AddedDevice) -> Self {
        let qr = QrCode::of(added.code.reveal());
        Self::open(What::Code(Box::new(Code {
            added,
            qr,
            copied: false,
        })))
    }

    /// Draws it; true when it is over.
    pub(super) fn show(&mut self, ctx: &egui::Context, desk: &mut Desk, commands: &mut Commands<'_>) -> bool {
        let kit = Kit::of(ctx);
        let screen = ctx.content_rect().size();
        let is_code = matches!(self.what, What::Code(_));
        let modal = Modal::new(Id::unique("dialog")).show(ctx, |ui| {
            let wide = if is_code { 640.0 } else { 440.0_f32 };
            ui.set_width(wide.min(screen.x - 64.0));
            ScrollArea::vertical()
                .max_height(screen.y - 80.0)
                // Scrolls only where the screen is too small, not where the dialog was smaller a frame ago.
                .min_scrolled_height(screen.y - 80.0)
                .show(ui, |ui| {
                    follow_focus(ui);
                    self.what.draw(ui, &kit, &mut self.turn, desk, commands)
                })
                .inner
        });
        // The code is shown once: a click beside it, such as on a passing note, must not lose it.
        let beside = is_code && modal.backdrop_response.clicked();
        (modal.should_close() && !beside) || matches!(modal.inner, Choice::Close)
    }
}

impl What {
    fn draw(
        &mut self,
        ui: &mut Ui,
        kit: &Kit,
        turn: &mut Turn,
        desk: &mut Desk,
        commands: &mut Commands<'_>,
    ) -> Choice {
        match self {
            Self::Delete {
                name,
                password,
                authority,
            } => delete(ui, kit, turn, name, (password, authority), desk, commands),
            Self::NewCode { name, password } => new_code(ui, kit, turn, name, password, desk, commands),
            Self::Quarantine { name, reason } => quarantine(ui, kit, turn, name, reason, commands),
            Self::Readmit(name) => readmit(ui, kit, turn, name, commands),
            Self::Resume {
                component,
                version,
                reason,
            } => resume(ui, kit, turn, (component, version, reason), commands),
            Self::Code(code) => show_code(ui, kit, turn, code, commands.words),
        }
    }
}

fn heading(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).text_style(title()).strong());
    ui.add_space(space::XS);
}

/// The way back and the way on; the way back comes first for the keyboard.
fn buttons(ui: &mut Ui, kit: &Kit, turn: &mut Turn, go: impl FnOnce(&mut Ui) -> bool) -> (bool, bool) {
    ui.add_space(space::S);
    ui.horizontal(|ui| {
        let back = turn.give(ui.button(&kit.cancel)).clicked();
        (back, go(ui))
    })
    .inner
}

fn delete(
    ui: &mut Ui,
    kit: &Kit,
    turn: &mut Turn,
    name: &Name,
    (password, authority): (&mut String, &mut bool),
    desk: &mut Desk,
    commands: &mut Commands<'_>,
) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.delete_title, &[name]));
    ui.label(&words.delete_hint);
    ui.add_space(space::S);
    let mut enter = false;
    ui.add_enabled_ui(!*authority, |ui| {
        let field = secret_field(ui, &words.password, password, PASSWORD_BYTES);
        enter = entered(ui, &turn.give(field));
    });
    ui.checkbox(authority, &words.delete_authority);
    let (back, go) = buttons(ui, kit, turn, |ui| {
        let ready = *authority || !password.is_empty();
        danger_button(ui, ready, &words.delete_device).clicked() || (enter && ready)
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
    turn: &mut Turn,
    name: &Name,
    password: &mut String,
    desk: &mut Desk,
    commands: &mut Commands<'_>,
) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.new_code_title, &[name]));
    ui.label(&words.new_code_hint);
    ui.add_space(space::S);
    let field = secret_field(ui, &words.password, password, PASSWORD_BYTES);
    let enter = entered(ui, &turn.give(field));
    let (back, go) = buttons(ui, kit, turn, |ui| {
        let ready = !password.is_empty();
        primary_button(ui, ready, &words.make_code).clicked() || (enter && ready)
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
    turn: &mut Turn,
    name: &Name,
    reason: &mut String,
    commands: &mut Commands<'_>,
) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.quarantine_title, &[name]));
    ui.label(&words.quarantine_hint);
    ui.add_space(space::S);
    let field = ui.horizontal(|ui| {
        let label = ui.label(&words.quarantine_reason);
        ui.add(
            TextEdit::singleline(reason)
                .desired_width(f32::INFINITY)
                .char_limit(MAX_REASON),
        )
        .labelled_by(label.id)
    });
    let enter = entered(ui, &turn.give(field.inner));
    let (back, go) = buttons(ui, kit, turn, |ui| {
        danger_button(ui, true, &words.quarantine_go).clicked() || enter
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

fn readmit(ui: &mut Ui, kit: &Kit, turn: &mut Turn, name: &Name, commands: &mut Commands<'_>) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.readmit_title, &[name]));
    ui.label(&words.readmit_hint);
    let (back, go) = buttons(ui, kit, turn, |ui| {
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
    turn: &mut Turn,
    (component, version, reason): (&Component, &Version, &str),
    commands: &mut Commands<'_>,
) -> Choice {
    let words = commands.words;
    heading(ui, &fill(&words.resume_title, &[component, version]));
    ui.label(reason);
    ui.label(&words.resume_hint);
    let (back, go) = buttons(ui, kit, turn, |ui| {
        primary_button(ui, true, &words.resume_go).clicked()
    });
    if go {
        let request = ManagerRequest::Resume {
            component: component.clone(),
            version: version.clone(),
        };
        commands.send(Asked::Resume(component.clone(), version.clone()), request);
    }
    if back || go { Choice::Close } else { Choice::Stay }
}

fn show_code(ui: &mut Ui, kit: &Kit, turn: &mut Turn, code: &mut Code, words: &Words) -> Choice {
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
            // Cut anywhere: a dash of a name is no better place than another.
            let mut layout = |ui: &Ui, text: &dyn TextBuffer, width: f32| {
                let font = egui::TextStyle::Monospace.resolve(ui.style());
                let color = ui.visuals().text_color();
                let mut job = egui::text::LayoutJob::simple(text.as_str().to_owned(), font, color, width);
                job.wrap.break_anywhere = true;
                ui.fonts_mut(|fonts| fonts.layout_job(job))
            };
            ui.add(
                TextEdit::multiline(&mut text)
                    .layouter(&mut layout)
                    .desired_rows(4)
                    .desired_width(f32::INFINITY),
            )
            .labelled_by(label.id);
            ui.horizontal(|ui| {
                let word = if code.copied { &kit.copied } else { &kit.copy };
                if turn.give(primary_button(ui, true, word)).clicked() {
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

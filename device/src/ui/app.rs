//! The window: `logic` moves the news in and the requests out, `ui` draws.

use std::sync::Arc;
use std::time::Duration;

use eframe::{App, Frame};
use egui::{Align, Button, CentralPanel, Context, Id, Label, Layout, Modal, Panel, RichText, ScrollArea, Ui};
use gui_kit::link::{Connection, age};
use gui_kit::text::{Texts, fill};
use gui_kit::theme::{Palette, space, title};
use gui_kit::widgets::{connection_notice, danger_button, empty_state, follow_focus};
use mtls::Clock;

use super::model::{Asked, Model, Page};
use super::parts::{Scene, TOUCH, WIDE, connection_pill, quoted, touch_button};
use super::source::Source;
use super::texts::Words;
use super::{overview, pages, update};

/// The device's window.
#[derive(Debug)]
pub struct DeviceWindow {
    source: Source,
    texts: Texts<Words>,
    clock: Arc<dyn Clock>,
    /// The device's folder, as a person would type it.
    dir: String,
    model: Model,
}

impl DeviceWindow {
    /// A window on `source`, the device in the folder `dir`.
    #[must_use]
    pub fn new(source: Source, texts: Texts<Words>, clock: Arc<dyn Clock>, dir: String) -> Self {
        Self {
            source,
            texts,
            clock,
            dir,
            model: Model::default(),
        }
    }

    fn send(&mut self) {
        let Some(link) = self.source.link() else { return };
        if std::mem::take(&mut self.model.try_now) {
            link.try_now();
        }
        for asked in std::mem::take(&mut self.model.queue) {
            match link.send(asked.request()) {
                Some(ticket) => drop(self.model.asked.insert(ticket, asked)),
                None => {
                    let why = self.texts.own.too_many.clone();
                    self.model.refuse(&asked, why, &self.texts.own);
                }
            }
        }
    }
}

impl App for DeviceWindow {
    fn logic(&mut self, ctx: &Context, _: &mut Frame) {
        let now = ctx.input(|input| input.time);
        if let Some(link) = self.source.link() {
            self.model.view = Some(link.view());
            let news = link.news();
            self.model.take(news, now, &mtls::stamp(), &self.texts.own);
        }
        self.send();
        if let Some(left) = self.model.look_left(now) {
            ctx.request_repaint_after(Duration::from_secs_f64(left.max(0.0) + 0.02));
        }
    }

    fn ui(&mut self, ui: &mut Ui, _: &mut Frame) {
        ui.spacing_mut().button_padding = egui::vec2(14.0, 8.0);
        let words = Arc::clone(&self.texts.own);
        let kit = Arc::clone(&self.texts.kit);
        let snapshot = self.model.snapshot();
        if snapshot.is_some() {
            tabs(ui, &words, &mut self.model);
        }
        CentralPanel::default().show(ui, |ui| {
            let Some(view) = self.model.view.clone() else {
                not_enrolled(ui, &words, &kit.copy, &self.dir);
                return;
            };
            let whole = self.model.page == Page::Events && snapshot.is_some();
            let scroll = if whole {
                ScrollArea::neither()
            } else {
                ScrollArea::vertical()
            };
            scroll
                .auto_shrink(false)
                .id_salt(self.model.page as u8)
                .show(ui, |ui| {
                    follow_focus(ui);
                    let age = age(view.read_at);
                    if connection_notice(ui, &words.service, &view.connection, age) {
                        self.model.try_now = true;
                    }
                    if matches!(view.connection, Connection::Lost { .. }) {
                        let command = format!("device run --dir {}", quoted(&self.dir));
                        ui.label(fill(&words.start_agent, &[&command]));
                    }
                    refusals(ui, &mut self.model, &kit.close);
                    let Some(snapshot) = &snapshot else { return };
                    if restarting(ui, &words, &self.model) {
                        return;
                    }
                    let scene = Scene {
                        words: &words,
                        kit: &kit,
                        snapshot,
                        now: self.clock.now().now,
                        dir: &self.dir,
                        connected: view.connection == Connection::Connected,
                        wide: ui.available_width() >= WIDE,
                    };
                    page(ui, &scene, &mut self.model);
                });
        });
        question(ui.ctx(), &words, &kit.cancel, &mut self.model);
        self.model.toasts.show(ui.ctx());
    }
}

fn page(ui: &mut Ui, scene: &Scene<'_>, model: &mut Model) {
    match model.page {
        Page::Overview => overview::show(ui, scene, model),
        Page::Update => update::show(ui, scene, model),
        Page::History => pages::history(ui, scene),
        Page::Events => pages::events(ui, model),
        Page::Device => pages::device(ui, scene),
    }
}

fn tabs(ui: &mut Ui, words: &Words, model: &mut Model) {
    let snapshot = model.snapshot();
    let open = &mut model.page;
    Panel::bottom("pages").show(ui, |ui| {
        ui.add_space(space::XS);
        ScrollArea::horizontal()
            .auto_shrink([false, true])
            .show(ui, |ui| {
                follow_focus(ui);
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing.x = space::XS;
                    ui.spacing_mut().button_padding.x = 6.0;
                    let pages = [
                        (Page::Overview, &words.page_overview),
                        (Page::Update, &words.page_update),
                        (Page::History, &words.page_history),
                        (Page::Events, &words.page_events),
                        (Page::Device, &words.page_device),
                    ];
                    #[allow(clippy::cast_precision_loss, reason = "five")]
                    let width = (ui.available_width() / pages.len() as f32 - space::XS).clamp(72.0, 112.0);
                    for (page, name) in pages {
                        let button =
                            Button::selectable(*open == page, name).min_size(egui::vec2(width, TOUCH));
                        if ui.add(button).clicked() {
                            *open = page;
                        }
                    }
                    // Where there is room: whose window this is, in sight on every page.
                    if let Some(snapshot) = &snapshot
                        && ui.available_width() > 240.0
                    {
                        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                            let status = &snapshot.status;
                            connection_pill(ui, words, status);
                            ui.add_space(space::S);
                            let who = fill(&words.whose, &[&status.name, &status.site]);
                            ui.label(RichText::new(who).color(Palette::of(ui.visuals()).weak));
                        });
                    }
                });
            });
        ui.add_space(space::XS);
    });
}

fn not_enrolled(ui: &mut Ui, words: &Words, copy: &str, dir: &str) {
    let command = format!("device enroll --dir {} --root {}", quoted(dir), words.root_place);
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        empty_state(ui, &words.not_enrolled, &words.not_enrolled_hint, |ui| {
            ui.add(Label::new(RichText::new(&command).monospace()).wrap());
            if touch_button(ui, true, copy).clicked() {
                ui.ctx().copy_text(command.clone());
            }
            ui.label(&words.not_enrolled_then);
        });
    });
}

fn refusals(ui: &mut Ui, model: &mut Model, close: &str) {
    model
        .refusals
        .retain(|notice| !notice.show(ui, |ui| touch_button(ui, true, close).clicked()));
}

/// The cleared window while an application restarts. True where it is shown.
fn restarting(ui: &mut Ui, words: &Words, model: &Model) -> bool {
    let Some(restart) = &model.restart else {
        return false;
    };
    ui.vertical_centered(|ui| {
        ui.add_space((ui.available_height() / 2.0 - 70.0).max(space::S));
        ui.add(egui::Spinner::new().size(32.0));
        ui.add_space(space::S);
        let text = fill(&words.restart_what, &[&restart.component]);
        ui.label(RichText::new(text).text_style(title()));
        ui.label(
            RichText::new(fill(&words.restart_to, &[&restart.version])).text_style(gui_kit::theme::large()),
        );
    });
    true
}

/// Asks before a roll back.
fn question(ctx: &Context, words: &Words, cancel: &str, model: &mut Model) {
    let Some((component, from, to)) = model.question.clone() else {
        return;
    };
    let response = Modal::new(Id::unique("roll back")).show(ctx, |ui| {
        let width = (ui.ctx().content_rect().width() - 48.0).clamp(160.0, 420.0);
        ui.set_width(width);
        ui.spacing_mut().button_padding = egui::vec2(14.0, 8.0);
        ui.label(RichText::new(fill(&words.ask_roll_back, &[&component, &to])).text_style(title()));
        ui.add_space(space::XS);
        ui.label(fill(&words.ask_roll_back_why, &[&from, &to]));
        ui.add_space(space::M);
        ui.horizontal_wrapped(|ui| {
            let no = touch_button(ui, true, cancel);
            if ui.memory(|memory| memory.focused().is_none()) {
                no.request_focus();
            }
            let yes = danger_button(ui, true, &fill(&words.roll_back, &[&to]));
            (no.clicked(), yes.clicked())
        })
        .inner
    });
    let (no, yes) = response.inner;
    if yes {
        model.queue.push(Asked::RollBack(component, to));
        // Sent with the next frame.
        ctx.request_repaint();
    }
    if yes || no || response.should_close() {
        model.question = None;
    }
}

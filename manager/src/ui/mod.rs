//! The gateway's window: downloader and sender at work, the device list, what has happened.
//!
//! A view over a snapshot and a queue of commands: `logic()` moves data in and answers out, `ui()` draws. The
//! gateway is another process; closing the window stops nothing.

mod code;
mod devices;
mod dialog;
mod overview;
mod service;
mod state;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use egui::{CentralPanel, Frame, Margin, Panel, RichText, Ui};
use gui_kit::app::{self, Window};
use gui_kit::icon::Mark;
use gui_kit::launch::Launch;
use gui_kit::link::{self, Answer, Connection, Link, View, Wake};
use gui_kit::text::{Texts, fill};
use gui_kit::texts;
use gui_kit::theme::{self, Look, Palette, space};
use gui_kit::widgets::{
    EventLine, EventList, Notice, Toasts, Tone, connection_notice, empty_state, pill, theme_button,
};
use mtls::Clock as _;
use protocol::control::{AddedDevice, CheckResult, Level, ManagerEvent, ManagerRequest};
use protocol::{Name, Role, Step, messages};
use release::{Component, Version};
use tuf::UnixTime;

pub use service::{Gateway, Snapshot, Table};

use crate::config::Paths;
use devices::Desk;
use dialog::Dialog;

texts! {
    /// The words of the gateway's window.
    Words {
        title, tab_overview, tab_devices, tab_events, connected_of, alarms_count, waiting_title, waiting_hint,
        downloader, running, stopped, start, stop, check_now, checking, next_check, check_due, no_next_check, last_answer,
        never_answered, by_events, by_timer, fetching, check_new, check_nothing, check_failed,
        sender, listening_at, joining_at, connections, sending_now, sent_total, rate_now, rate_peak, plot_name,
        releases, no_releases, no_releases_hint, release_component, release_current, release_size, release_released, release_running,
        release_rolled_back, release_not_mirrored, release_offered, release_fallback,
        release_stopped, release_held, resume, resume_go, resume_title, resume_hint, resumed, alarm, alarms_more, stale, stale_hint,
        quarantine_asks, quarantine_title, quarantine_hint, quarantine_reason, quarantine_go, quarantined, readmit_asks,
        readmit_title, readmit_hint, readmit_go, readmitted, state_quarantined, details_quarantined,
        recent, device_name, password, add, delete, new_code, filter_devices, devices_shown,
        no_devices, no_devices_hint, no_match, no_match_hint,
        column_name, column_state, column_version, column_seen, column_progress, column_reason,
        row_name, progress_of, reason_of,
        state_trouble, state_failing, state_failed, state_rolled_back, state_refused, state_waiting, state_away,
        state_empty, state_running, doing_ordered, doing_downloading, doing_checking, doing_installing,
        doing_restarting, doing_trial,
        step_noticed, step_fetch_started, step_fetched, step_mirror_verify_started, step_mirror_verified,
        step_offered, step_sent, step_ordered, step_download_started, step_downloaded, step_verify_started,
        step_verified, step_install_started, step_staged, step_stopping, step_stopped, step_switched, step_started,
        step_healthy, step_committed, step_refused, step_failed, step_fetch_failed, step_rolled_back, step_withdrawn,
        step_published,
        details_none, details_address, details_certificate, details_previous, details_held,
        details_uptime, details_last, outcome_committed, outcome_rolled_back, outcome_refused, outcome_failed,
        doing_waiting, step_waiting, details_waiting, details_waits, release_waits, release_waits_why,
        activity_empty, activity_running, activity_downloading, activity_staging, activity_switching,
        activity_probation, activity_rolling_back, activity_failing,
        delete_title, delete_hint, delete_authority, delete_device, delete_asks, make_code, code_title, code_hint, code_until, code_name, code_qr,
        new_code_title, new_code_hint,
        input_empty, input_empty_remedy, name_too_long, name_character, name_dots, name_remedy, device_existed,
        device_existed_remedy, device_mismatch, device_mismatch_remedy, device_unknown, device_unknown_remedy,
        password_length, password_length_remedy, device_added, device_deleted, not_done, no_answer,
        no_answer_remedy, too_many_commands,
    }
}

/// The window's words in English, a flat TOML file.
pub const ENGLISH: &str = include_str!("en.toml");

/// Where the window takes the wall time from.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// Opens the window of the gateway in `dir` and shows it until it is closed; starts the gateway where none runs.
///
/// # Errors
/// The texts cannot be read; there is no display.
pub fn run(dir: &Path, texts: Option<&Path>, look: Look) -> Result<()> {
    let dir = std::path::absolute(dir)?;
    let texts = Texts::<Words>::load(ENGLISH, texts)?;
    let arguments = ["run".into(), "--dir".into(), dir.clone().into_os_string()];
    let launch = Launch::own(arguments, &dir.join("manager.log"))?;
    let window = Window {
        id: "drover-manager",
        title: texts.own.title.clone(),
        mark: Mark::Manager,
        size: [1080.0, 760.0],
        min_size: [640.0, 400.0],
    };
    let socket = Paths::new(&dir).socket();
    let clock: Clock = Arc::new(|| mtls::SystemClock.now().now);
    app::run(&window, move |context| {
        context.egui_ctx.set_theme(look.0);
        let wake = app::wake(&context.egui_ctx);
        ManagerWindow::open(&socket, Some(launch), texts, clock, wake)
    })
    .context("the gateway goes on without its window")
}

/// What a command was, until its answer is here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Start,
    Stop,
    Check,
    Add(Name),
    Code,
    Delete(Name),
    Quarantine(Name),
    Readmit(Name),
    Resume(Component, Version),
}

/// Takes commands out of the window.
struct Commands<'a> {
    link: &'a mut Link<Gateway>,
    pending: &'a mut BTreeMap<u64, Asked>,
    toasts: &'a mut Toasts,
    words: &'a Words,
}

impl Commands<'_> {
    fn send(&mut self, asked: Asked, request: ManagerRequest) {
        match self.link.send(request) {
            Some(ticket) => {
                self.pending.insert(ticket, asked);
            }
            None => self.toasts.push(Tone::Bad, &self.words.too_many_commands),
        }
    }

    fn waits_for(&self, wanted: impl Fn(&Asked) -> bool) -> bool {
        self.pending.values().any(wanted)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tab {
    Overview,
    Devices,
    Events,
}

/// The window.
pub struct ManagerWindow {
    link: Link<Gateway>,
    view: View<Gateway>,
    pending: BTreeMap<u64, Asked>,
    texts: Texts<Words>,
    clock: Clock,
    now: UnixTime,
    events: EventList,
    toasts: Toasts,
    tab: Tab,
    desk: Desk,
    dialog: Option<Dialog>,
    ready: bool,
}

impl ManagerWindow {
    /// A window over the gateway at `socket`; `wake` is called when there is something new to draw.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(
        socket: &Path,
        launch: Option<Launch>,
        texts: Texts<Words>,
        clock: Clock,
        wake: Wake,
    ) -> std::io::Result<Self> {
        let link = Link::open(Gateway::default(), socket, launch, wake)?;
        Ok(Self {
            view: link.view(),
            link,
            pending: BTreeMap::new(),
            texts,
            now: clock(),
            clock,
            events: EventList::default(),
            toasts: Toasts::default(),
            tab: Tab::Overview,
            desk: Desk::default(),
            dialog: None,
            ready: false,
        })
    }

    fn answer(&mut self, answer: Answer) {
        let Some(asked) = self.pending.remove(&answer.ticket) else {
            return;
        };
        let words = Arc::clone(&self.texts.own);
        match asked {
            Asked::Check => match answer.into::<CheckResult>() {
                Ok(found) if found.failed => {
                    let text = fill(&words.check_failed, &[&found.message]);
                    self.toasts.push(Tone::Bad, text);
                }
                Ok(found) if found.changed => self.toasts.push(Tone::Good, &words.check_new),
                Ok(_) => self.toasts.push(Tone::Plain, &words.check_nothing),
                Err(error) => self.refused(&error),
            },
            Asked::Add(_) | Asked::Code => match answer.into::<AddedDevice>() {
                Ok(added) => {
                    if matches!(asked, Asked::Add(_)) {
                        self.toasts.push(Tone::Good, &words.device_added);
                        self.desk.done();
                    }
                    self.desk.notice = None;
                    self.dialog = Some(Dialog::code(added));
                }
                Err(error) => self.desk.notice = Some(refusal(&words, &error)),
            },
            Asked::Delete(name) => match answer.into::<()>() {
                Ok(()) => {
                    self.toasts.push(Tone::Good, &words.device_deleted);
                    self.desk.deleted(&name);
                }
                Err(error) => self.desk.notice = Some(refusal(&words, &error)),
            },
            Asked::Quarantine(name) => match answer.into::<()>() {
                Ok(()) => self.toasts.push(Tone::Good, fill(&words.quarantined, &[&name])),
                Err(error) => self.refused(&error),
            },
            Asked::Readmit(name) => match answer.into::<()>() {
                Ok(()) => self.toasts.push(Tone::Good, fill(&words.readmitted, &[&name])),
                Err(error) => self.refused(&error),
            },
            Asked::Resume(component, version) => match answer.into::<()>() {
                Ok(()) => {
                    let text = fill(&words.resumed, &[&component, &version]);
                    self.toasts.push(Tone::Good, text);
                }
                Err(error) => self.refused(&error),
            },
            Asked::Start | Asked::Stop => {
                if let Err(error) = answer.into::<()>() {
                    self.refused(&error);
                }
            }
        }
    }

    fn refused(&mut self, error: &control::Error) {
        let notice = refusal(&self.texts.own, error);
        let text = [&notice.what, &notice.why, &notice.remedy]
            .into_iter()
            .filter(|part| !part.is_empty())
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ");
        self.toasts.push(Tone::Bad, text);
    }

    fn header(&mut self, ui: &mut Ui) {
        let words = Arc::clone(&self.texts.own);
        let snapshot = self.view.snapshot.clone();
        ui.horizontal(|ui| {
            let title = snapshot.as_ref().map_or_else(
                || words.title.clone(),
                |snapshot| format!("{} · {}", snapshot.status.site, snapshot.status.name),
            );
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                theme_button(ui);
                if let Some(snapshot) = &snapshot {
                    let status = &snapshot.status;
                    let all =
                        status.connected == status.devices && self.view.connection == Connection::Connected;
                    let tone = if all { Tone::Good } else { Tone::Plain };
                    let text = fill(&words.connected_of, &[&status.connected, &status.devices]);
                    ui.scope(|ui| pill(ui, tone, &text));
                    if !status.alarms.is_empty() {
                        let text = fill(&words.alarms_count, &[&status.alarms.len()]);
                        ui.scope(|ui| pill(ui, Tone::Warn, &text));
                    }
                }
                ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                    ui.add(
                        egui::Label::new(RichText::new(title).text_style(theme::title()).strong()).truncate(),
                    );
                });
            });
        });
        ui.horizontal(|ui| {
            for (tab, word) in [
                (Tab::Overview, &words.tab_overview),
                (Tab::Devices, &words.tab_devices),
                (Tab::Events, &words.tab_events),
            ] {
                ui.selectable_value(&mut self.tab, tab, word);
            }
        });
    }

    fn content(&mut self, ui: &mut Ui) {
        let words = Arc::clone(&self.texts.own);
        let age = link::age(self.view.read_at);
        if connection_notice(ui, "manager", &self.view.connection, age) {
            self.link.try_now();
        }
        let Some(snapshot) = self.view.snapshot.clone() else {
            if self.view.connection == Connection::Connected {
                ui.spinner();
            } else {
                empty_state(ui, &words.waiting_title, &words.waiting_hint, |_| ());
            }
            return;
        };
        let mut commands = Commands {
            link: &mut self.link,
            pending: &mut self.pending,
            toasts: &mut self.toasts,
            words: &words,
        };
        match self.tab {
            Tab::Overview => overview::show(
                ui,
                &snapshot,
                self.now,
                &mut self.events,
                &mut self.dialog,
                &mut commands,
            ),
            Tab::Devices => self
                .desk
                .show(ui, &snapshot, self.now, &mut self.dialog, &mut commands),
            Tab::Events => self.events.show(ui, "events"),
        }
        if let Some(dialog) = &mut self.dialog
            && dialog.show(ui.ctx(), &mut self.desk, &mut commands)
        {
            self.dialog = None;
        }
    }
}

impl eframe::App for ManagerWindow {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        if !self.ready {
            self.ready = true;
            self.texts.install(ctx);
        }
        self.now = (self.clock)();
        self.view = self.link.view();
        let news = self.link.news();
        if news.restarted {
            self.events.clear();
        }
        for event in news.events {
            if let Some(line) = line(&self.texts.own, event) {
                self.events.push(line);
            }
        }
        for answer in news.answers {
            self.answer(answer);
        }
        if let Some(snapshot) = &self.view.snapshot {
            self.desk.devices.follow(&snapshot.table, &self.texts.own);
        }
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let palette = Palette::of(ui.visuals());
        let margin = Margin::symmetric(16, 10);
        let bar = Frame::new().fill(palette.surface).inner_margin(margin);
        Panel::top("header").frame(bar).show(ui, |ui| self.header(ui));
        let ground = Frame::new().fill(palette.ground).inner_margin(Margin::same(12));
        CentralPanel::default().frame(ground).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = space::S;
            self.content(ui);
        });
        self.toasts.show(ui.ctx());
    }
}

/// An event as a line; none for what the table shows better.
fn line(words: &Words, event: ManagerEvent) -> Option<EventLine> {
    match event {
        ManagerEvent::Message(message) => Some(EventLine {
            at: message.at,
            level: message.level,
            text: message.text,
        }),
        ManagerEvent::Step(event) if event.step == Step::Downloading => None,
        ManagerEvent::Step(event) => {
            let device = match &event.device {
                None if event.actor.role == Role::Device => Some(&event.actor.name),
                other => other.as_ref(),
            };
            let mut text = format!("{} {}", event.component, event.version);
            if let Some(device) = device {
                text.push_str(&format!(" · {device}"));
            }
            text.push_str(" · ");
            text.push_str(state::step(words, event.step, device.is_some()));
            if let Some(reason) = &event.reason {
                text.push_str(": ");
                text.push_str(reason);
            }
            let level = match event.step {
                Step::Failed => Level::Error,
                Step::RolledBack | Step::Refused | Step::Withdrawn => Level::Warning,
                _ => Level::Info,
            };
            Some(EventLine {
                at: UnixTime(i64::try_from(event.at.wall_ns / 1_000_000_000).unwrap_or(i64::MAX)),
                level,
                text,
            })
        }
    }
}

/// What the gateway refused, why, and what the person can do.
fn refusal(words: &Words, error: &control::Error) -> Notice {
    let control::Error::Refused(problem) = error else {
        return Notice {
            tone: Tone::Bad,
            what: words.no_answer.clone(),
            why: link::chain(error),
            remedy: words.no_answer_remedy.clone(),
        };
    };
    let known = [
        (
            messages::INPUT_EMPTY.id,
            &words.input_empty,
            &words.input_empty_remedy,
        ),
        (
            messages::DEVICE_EXISTED.id,
            &words.device_existed,
            &words.device_existed_remedy,
        ),
        (
            messages::DEVICE_MISMATCH.id,
            &words.device_mismatch,
            &words.device_mismatch_remedy,
        ),
        (
            messages::DEVICE_UNKNOWN.id,
            &words.device_unknown,
            &words.device_unknown_remedy,
        ),
        (
            "manager.password.length",
            &words.password_length,
            &words.password_length_remedy,
        ),
    ];
    let found = known.into_iter().find(|(code, ..)| *code == problem.code);
    let (what, why, remedy) = found.map_or_else(
        || (words.not_done.clone(), problem.message.clone(), String::new()),
        |(_, what, remedy)| (what.clone(), String::new(), remedy.clone()),
    );
    Notice {
        tone: Tone::Bad,
        what,
        why,
        remedy,
    }
}

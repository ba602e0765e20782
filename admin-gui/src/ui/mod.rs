//! The author's window: what is published, Upload, the record, the devices, the latencies, the keys.
//!
//! A view over a snapshot and a queue of commands: `logic()` moves data in and answers out, `ui()` draws. The desk is
//! another process (`admin-gui serve`); closing the window stops nothing, and two windows see the same.

mod dialog;
mod fleet;
mod history;
mod job;
mod keys;
mod latency;
mod overview;
mod parts;
mod publish;
mod rehearsal;
mod report;
mod source;
mod texts;
mod wizard;

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use egui::{CentralPanel, Frame, Margin, Panel, RichText, Ui};
use gui_kit::app::{self, Window};
use gui_kit::icon::Mark;
use gui_kit::launch::Launch;
use gui_kit::link::{self, Answer, Connection, Link, View, Wake};
use gui_kit::text::{Texts, fill};
use gui_kit::theme::{self, Look, Palette, space};
use gui_kit::widgets::{
    Chooser, EventLine, EventList, Toasts, Tone, connection_notice, empty_state, pill, theme_button,
};
use mtls::Clock as _;
use protocol::control::{AuthorEvent, AuthorRequest, JobEnd, JobKind, JobStatus, KeyState, SiteState};
use protocol::messages;
use tuf::UnixTime;

pub use source::{Desk, Past, Snapshot};
pub use texts::{ENGLISH, Words};

use crate::config::Folder;
use dialog::Dialog;
use publish::Publish;
use wizard::Wizard;

/// Where the window takes the wall time from.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// Shows the window of the desk in `dir`, an author's folder, a site's, or one that is to become one, until it is
/// closed; starts the desk's service where none runs.
///
/// # Errors
/// The texts cannot be used; the folder cannot be made; there is no display.
pub fn run(dir: &Path, texts: Option<&Path>, look: Look) -> Result<()> {
    let texts = Texts::<Words>::load(ENGLISH, texts)?;
    std::fs::create_dir_all(dir).with_context(|| format!("the folder {} cannot be made", dir.display()))?;
    let dir = std::fs::canonicalize(dir)?;
    let folder = Folder::find(&dir);
    let log = folder.control();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&log)
        .with_context(|| format!("{} cannot be made", log.display()))?;
    let arguments = ["serve".into(), "--dir".into(), dir.clone().into_os_string()];
    let launch = Launch::own(arguments, &log.join("log"))?;
    let window = Window {
        id: "drover-author",
        title: texts.own.title.clone(),
        mark: Mark::Author,
        size: [1080.0, 760.0],
        min_size: [640.0, 400.0],
    };
    let clock: Clock = Arc::new(|| mtls::SystemClock.now().now);
    let start = std::env::home_dir().unwrap_or_else(|| dir.clone());
    app::run(&window, move |context| {
        context.egui_ctx.set_theme(look.0);
        let wake = app::wake(&context.egui_ctx);
        AuthorWindow::open(&folder.socket(), Some(launch), texts, clock, &start, wake)
    })
    .context("the desk can be used without its window too")
}

/// What a command was, until its answer is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Refresh,
    Preflight,
    Unlock,
    Lock,
    Publish,
    Rehearse,
    Cancel,
    /// What a dialog asked for.
    Dialog,
    Init,
}

/// Takes commands out of the window.
struct Commands<'a> {
    link: &'a mut Link<Desk>,
    pending: &'a mut BTreeMap<u64, Asked>,
    toasts: &'a mut Toasts,
    words: &'a Words,
}

impl Commands<'_> {
    fn send(&mut self, asked: Asked, request: AuthorRequest) {
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
enum Page {
    Overview,
    History,
    Fleet,
    Latency,
    Keys,
    Events,
}

/// The window.
pub struct AuthorWindow {
    link: Link<Desk>,
    view: View<Desk>,
    pending: BTreeMap<u64, Asked>,
    texts: Texts<Words>,
    clock: Clock,
    now: UnixTime,
    /// The job that was heard of last, fresher than the snapshot's.
    job: Option<JobStatus>,
    events: EventList,
    toasts: Toasts,
    page: Page,
    chooser: Chooser,
    publish: Publish,
    history: history::History,
    fleet: fleet::Fleet,
    latency: latency::Latency,
    wizard: Wizard,
    dialog: Option<Dialog>,
    ready: bool,
}

impl AuthorWindow {
    /// A window over the desk at `socket`, whose chooser begins in `start`; `wake` is called when there is something
    /// new to draw.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(
        socket: &Path,
        launch: Option<Launch>,
        texts: Texts<Words>,
        clock: Clock,
        start: &Path,
        wake: Wake,
    ) -> std::io::Result<Self> {
        let chooser = Chooser::open(start, Arc::clone(&wake))?;
        let link = Link::open(Desk::default(), socket, launch, wake)?;
        Ok(Self {
            view: link.view(),
            link,
            pending: BTreeMap::new(),
            texts,
            now: clock(),
            clock,
            job: None,
            events: EventList::default(),
            toasts: Toasts::default(),
            page: Page::Overview,
            chooser,
            publish: Publish::default(),
            history: history::History::default(),
            fleet: fleet::Fleet::default(),
            latency: latency::Latency::default(),
            wizard: Wizard::default(),
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
            Asked::Preflight => self.publish.checked(answer.into(), &words),
            Asked::Publish => self.publish.begun(answer.into(), &words),
            Asked::Rehearse => self.publish.rehearsing(answer.into(), &words),
            Asked::Unlock => {
                let mut commands = Commands {
                    link: &mut self.link,
                    pending: &mut self.pending,
                    toasts: &mut self.toasts,
                    words: &words,
                };
                self.publish.unlocked(answer.into(), &mut commands);
            }
            Asked::Init => self.wizard.answered(answer.into(), &words),
            Asked::Dialog => match answer.into::<JobStatus>() {
                Ok(_) => self.dialog = None,
                Err(error) => match &mut self.dialog {
                    Some(dialog) => dialog.refused(&error, &words),
                    None => self.toasts.push(Tone::Bad, publish::why(&error)),
                },
            },
            Asked::Refresh | Asked::Lock | Asked::Cancel => {
                if let Err(error) = answer.result {
                    self.toasts.push(Tone::Bad, publish::why(&error));
                }
            }
        }
    }

    /// What the desk said about a job.
    fn heard(&mut self, job: JobStatus) {
        let before = self.job.as_ref().filter(|before| before.id == job.id);
        let ends = job.end.is_some() && before.is_some_and(|before| before.end.is_none());
        if ends {
            match &job.end {
                Some(JobEnd::Done { text, .. }) if job.kind == JobKind::Publish => {
                    // The document's notification (R-004-35), beside what the desk says in full.
                    let name = job.subject.replace(' ', "_");
                    self.toasts.push(Tone::Good, messages::UPLOADED.with(name));
                    tracing::debug!(text, "published");
                }
                Some(JobEnd::Done { text, .. }) if job.kind != JobKind::Check => {
                    self.toasts.push(Tone::Good, gui_kit::format::sentence(text));
                }
                Some(JobEnd::Failed { problem, .. })
                    if !matches!(
                        job.kind,
                        JobKind::Publish | JobKind::Check | JobKind::Init | JobKind::Rehearse
                    ) =>
                {
                    self.toasts
                        .push(Tone::Bad, gui_kit::format::sentence(&problem.message));
                }
                _ => {}
            }
        }
        // First heard of, in whichever way: begun before this window was opened, or by another.
        let running = job.kind == JobKind::Publish && job.end.is_none();
        if before.is_none() && running && !self.publish.is_open() {
            self.publish.follow(job.id);
            self.page = Page::Overview;
        }
        self.job = Some(job);
    }

    fn follow_snapshot(&mut self) {
        let Some(snapshot) = &self.view.snapshot else {
            return;
        };
        let status = &snapshot.status;
        let newer = |job: &JobStatus| self.job.as_ref().is_none_or(|known| known.id < job.id);
        let unseen = status.job.as_ref().filter(|job| newer(job)).cloned();
        let ended = status.last_job.as_ref().filter(|job| {
            let known = self.job.as_ref();
            known.is_some_and(|known| known.id == job.id && known.end.is_none())
        });
        let heard = unseen.or_else(|| ended.cloned());
        if let Some(job) = heard {
            self.heard(job);
        }
    }

    fn header(&mut self, ui: &mut Ui) {
        let words = Arc::clone(&self.texts.own);
        let snapshot = self.view.snapshot.clone();
        let site = snapshot
            .as_ref()
            .and_then(|snapshot| match &snapshot.status.site {
                SiteState::Ready(site) => Some(site),
                _ => None,
            });
        ui.horizontal(|ui| {
            let title = site.map_or_else(
                || words.title.clone(),
                |site| format!("{} · {}", site.author.site, site.author.name),
            );
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                theme_button(ui);
                if let (Some(site), Some(snapshot)) = (site, &snapshot) {
                    if let KeyState::Open { .. } = snapshot.status.key {
                        ui.scope(|ui| pill(ui, Tone::Warn, &words.key_open));
                    }
                    let (tone, word) = overview::reach(site.repository.answers, &words);
                    let text = fill(&words.repository_is, &[&word]);
                    ui.scope(|ui| pill(ui, tone, &text));
                }
                ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                    let title = RichText::new(title).text_style(theme::title()).strong();
                    ui.add(egui::Label::new(title).truncate());
                });
            });
        });
        if site.is_none() {
            return;
        }
        ui.horizontal_wrapped(|ui| {
            for (page, word) in [
                (Page::Overview, &words.page_overview),
                (Page::History, &words.page_history),
                (Page::Fleet, &words.page_fleet),
                (Page::Latency, &words.page_latency),
                (Page::Keys, &words.page_keys),
                (Page::Events, &words.page_events),
            ] {
                ui.selectable_value(&mut self.page, page, word);
            }
        });
    }

    fn content(&mut self, ui: &mut Ui) {
        let words = Arc::clone(&self.texts.own);
        let age = link::age(self.view.read_at);
        if connection_notice(ui, &words.service, &self.view.connection, age) {
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
        let status = &snapshot.status;
        let site = match &status.site {
            SiteState::Ready(site) if !self.wizard.is_open() => site,
            SiteState::Broken { problem } => {
                parts::bad(&words.site_broken, &problem.message, "").show(ui, |_| ());
                return;
            }
            _ => {
                let dir = status.dir.display().to_string();
                self.wizard.show(ui, &dir, &mut commands);
                return;
            }
        };
        if self.publish.takes_drops()
            && let Some(path) = Chooser::dropped(ui.ctx())
        {
            self.page = Page::Overview;
            self.chooser.remember(path.clone());
            self.publish.take(path, &mut commands);
        }
        match self.page {
            Page::Overview if self.publish.is_open() => {
                let job = self.job.as_ref();
                let to_devices = self
                    .publish
                    .show(ui, status.key, job, &mut self.chooser, &mut commands);
                if to_devices {
                    self.page = Page::Fleet;
                }
            }
            Page::Overview => match overview::show(ui, site, self.now, &mut self.dialog, &mut commands) {
                Some(overview::Go::Upload) => self.publish.choose(&mut self.chooser),
                Some(overview::Go::Fleet) => self.page = Page::Fleet,
                None => {}
            },
            Page::History => self.history.show(ui, &snapshot.past, &words),
            Page::Fleet => self.fleet.show(ui, &snapshot.past, self.now, &words),
            Page::Latency => self.latency.show(ui, &snapshot.past, &words),
            Page::Keys => keys::show(ui, site, status.key, &mut self.dialog, &mut commands),
            Page::Events => self.events.show(ui, "events"),
        }
        if let Some(dialog) = &mut self.dialog
            && dialog.show(ui.ctx(), status.key, &mut commands)
        {
            self.dialog = None;
        }
    }
}

impl eframe::App for AuthorWindow {
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
            // Another service counts its jobs anew.
            self.job = None;
        }
        for event in news.events {
            match event {
                AuthorEvent::Job(job) => self.heard(job),
                AuthorEvent::Message(message) => self.events.push(EventLine {
                    at: message.at,
                    level: message.level,
                    text: message.text,
                }),
                AuthorEvent::Step(_) | AuthorEvent::Status(_) => {}
            }
        }
        for answer in news.answers {
            self.answer(answer);
        }
        self.follow_snapshot();
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

//! The way of a release from the click on Upload to the receipt: choose, look at what was understood, passphrase, sign,
//! upload.

use std::path::PathBuf;

use egui::{Grid, RichText, ScrollArea, TextEdit, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::{Palette, space};
use gui_kit::widgets::{
    Choice, Chooser, Meter, Notice, Tone, Turn, entered, follow_focus, meter, primary_button, secret_field,
};
use protocol::Secret;
use protocol::control::{
    AuthorRequest, CheckVerdict, JobPhase, JobStatus, KeyState, PreflightReport, PublishOptions, PublishWhat,
};
use zeroize::Zeroize as _;

use super::job::{ended, phase, steps};
use super::parts::{bad, heading, whole};
use super::rehearsal::Rehearsal;
use super::report::{refusals, understood};
use super::{Asked, Commands, Words};
use crate::limits::{PASSPHRASE_MAX, WINDOW_FIELD, WINDOW_KEEP_MINUTES};

/// Where the person is.
#[derive(Debug, Default)]
enum Stage {
    /// Not here.
    #[default]
    Away,
    /// Choosing a file or folder.
    Choosing,
    /// It is being read and checked.
    Reading,
    /// What was understood of it; not signed yet.
    Report(Box<PreflightReport>),
    /// A job of this number signs and uploads; none: it has not been given yet.
    Running(Option<u64>),
    /// Choosing the package that a rehearsal begins with.
    ChoosingOld(Box<PreflightReport>),
    /// It cannot be read or checked at all.
    Unreadable,
}

/// The page.
#[derive(Debug, Default)]
pub(super) struct Publish {
    stage: Stage,
    source: PathBuf,
    /// What is typed about a single file.
    component: String,
    version: String,
    description: String,
    passphrase: String,
    /// What comes next, a field or a button, gets the keyboard once it is drawn.
    turn: Turn,
    keep: bool,
    notice: Option<Notice>,
    meter: Meter,
    /// The job whose bytes the meter follows.
    metered: Option<(u64, JobPhase)>,
    rehearsal: Rehearsal,
}

/// What the person wants next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Choose,
    Rehearse,
    Check,
    Leave,
    Devices,
}

impl Drop for Publish {
    fn drop(&mut self) {
        self.passphrase.zeroize();
    }
}

impl Publish {
    /// Whether the person is on the way.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Away)
    }

    /// Whether a file that is dropped on the window now begins a way of its own.
    pub(super) fn takes_drops(&self) -> bool {
        !matches!(
            self.stage,
            Stage::Choosing | Stage::ChoosingOld(_) | Stage::Reading | Stage::Running(_)
        )
    }

    /// Opens the chooser.
    pub(super) fn choose(&mut self, chooser: &mut Chooser) {
        self.forget();
        chooser.again();
        self.stage = Stage::Choosing;
    }

    fn forget(&mut self) {
        self.passphrase.zeroize();
        self.notice = None;
        self.rehearsal.forget();
        self.component.clear();
        self.version.clear();
        self.description.clear();
    }

    /// A file or folder was chosen: reads and checks it.
    pub(super) fn take(&mut self, path: PathBuf, commands: &mut Commands<'_>) {
        self.forget();
        self.source = path;
        self.check(commands);
    }

    fn check(&mut self, commands: &mut Commands<'_>) {
        let typed = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        let options = Box::new(PublishOptions {
            component: typed(&self.component),
            version: typed(&self.version),
            description: typed(&self.description),
            ..PublishOptions::default()
        });
        let path = self.source.clone();
        self.notice = None;
        self.stage = Stage::Reading;
        commands.send(Asked::Preflight, AuthorRequest::Preflight { path, options });
    }

    /// The answer to a check.
    pub(super) fn checked(&mut self, answer: Result<PreflightReport, control::Error>, words: &Words) {
        if !matches!(self.stage, Stage::Reading) {
            return;
        }
        match answer {
            Ok(report) => {
                self.source.clone_from(&report.source);
                self.turn = Turn::open();
                self.stage = Stage::Report(Box::new(report));
            }
            Err(error) if is(&error, "author.cancelled") => self.stage = Stage::Away,
            Err(error) => {
                self.notice = Some(bad(&words.unreadable, &why(&error), ""));
                self.turn = Turn::open();
                self.stage = Stage::Unreadable;
            }
        }
    }

    /// The key was opened, or not: signs, or says why not.
    pub(super) fn unlocked(&mut self, answer: Result<KeyState, control::Error>, commands: &mut Commands<'_>) {
        let Stage::Report(report) = &self.stage else {
            return;
        };
        match answer {
            Ok(_) => {
                let what = PublishWhat::Draft(report.draft);
                let passphrase = None;
                commands.send(Asked::Publish, AuthorRequest::Publish { what, passphrase });
            }
            Err(error) => self.refused(&error, commands.words),
        }
    }

    /// The job was taken, or refused.
    pub(super) fn begun(&mut self, answer: Result<JobStatus, control::Error>, words: &Words) {
        match answer {
            Ok(job) => {
                self.passphrase.zeroize();
                self.notice = None;
                self.turn = Turn::open();
                self.stage = Stage::Running(Some(job.id));
            }
            Err(error) => self.refused(&error, words),
        }
    }

    fn refused(&mut self, error: &control::Error, words: &Words) {
        let (what, remedy) = if is(error, "author.passphrase.wrong") {
            (&words.wrong_passphrase, words.wrong_passphrase_remedy.as_str())
        } else {
            (&words.not_published, "")
        };
        self.passphrase.zeroize();
        self.turn = Turn::open();
        self.notice = Some(bad(what, &why(error), remedy));
    }

    /// The rehearsal was begun, or refused.
    pub(super) fn rehearsing(&mut self, answer: Result<JobStatus, control::Error>, words: &Words) {
        self.rehearsal.begun(answer, words);
    }

    /// A publish that runs already, begun here before or in another window, is shown where nothing else is.
    pub(super) fn follow(&mut self, job: u64) {
        self.stage = Stage::Running(Some(job));
    }

    /// Draws the page; true where the person wants to see the devices.
    pub(super) fn show(
        &mut self,
        ui: &mut Ui,
        key: KeyState,
        job: Option<&JobStatus>,
        chooser: &mut Chooser,
        commands: &mut Commands<'_>,
    ) -> bool {
        let words = commands.words;
        if matches!(self.stage, Stage::Choosing) {
            heading(ui, &words.choose_title, |_| ());
            match chooser.show(ui) {
                Some(Choice::Chosen(path)) => {
                    chooser.remember(path.clone());
                    self.take(path, commands);
                }
                Some(Choice::Cancelled) => self.stage = Stage::Away,
                None => {}
            }
            return false;
        }
        if let Stage::ChoosingOld(report) = &self.stage {
            let report = report.clone();
            heading(ui, &words.rehearse_choose, |_| ());
            match chooser.show(ui) {
                Some(Choice::Chosen(from)) => {
                    chooser.remember(from.clone());
                    self.rehearsal.forget();
                    let path = self.source.clone();
                    commands.send(Asked::Rehearse, AuthorRequest::Rehearse { path, from });
                    self.stage = Stage::Report(report);
                }
                Some(Choice::Cancelled) => self.stage = Stage::Report(report),
                None => {}
            }
            return false;
        }
        self.rehearsal.hear(job);
        let wish = ScrollArea::vertical()
            .auto_shrink(false)
            .show(ui, |ui| {
                follow_focus(ui);
                match &self.stage {
                    Stage::Reading => self.reading(ui, job, commands),
                    Stage::Report(_) => self.report(ui, key, commands),
                    Stage::Running(id) => self.running(ui, job.filter(|job| Some(job.id) == *id), commands),
                    Stage::Unreadable => self.unreadable(ui, words),
                    Stage::Away | Stage::Choosing | Stage::ChoosingOld(_) => None,
                }
            })
            .inner;
        match wish {
            Some(Wish::Choose) => self.choose(chooser),
            Some(Wish::Check) => self.check(commands),
            Some(Wish::Rehearse) => {
                if let Stage::Report(report) = &self.stage {
                    let report = report.clone();
                    chooser.again();
                    self.stage = Stage::ChoosingOld(report);
                }
            }
            Some(Wish::Leave | Wish::Devices) => {
                self.forget();
                self.stage = Stage::Away;
            }
            None => {}
        }
        wish == Some(Wish::Devices)
    }

    fn reading(&mut self, ui: &mut Ui, job: Option<&JobStatus>, commands: &mut Commands<'_>) -> Option<Wish> {
        let words = commands.words;
        whole(ui, |ui| {
            heading(ui, &words.reading_title, |_| ());
            ui.label(self.source.display().to_string());
            let job = job.filter(|job| job.end.is_none());
            self.progress(ui, job, words);
            ui.add_space(space::S);
            let kit = Kit::of(ui.ctx());
            if ui.button(&kit.cancel).clicked() {
                commands.send(
                    Asked::Cancel,
                    AuthorRequest::Cancel {
                        job: job.map(|job| job.id),
                    },
                );
            }
        });
        None
    }

    /// The bar of a job that moves bytes, a turning sign for what cannot be counted.
    fn progress(&mut self, ui: &mut Ui, job: Option<&JobStatus>, words: &Words) {
        let Some(job) = job else {
            ui.spinner();
            return;
        };
        ui.label(phase(words, job.phase));
        if job.total > 0 {
            if self.metered != Some((job.id, job.phase)) {
                self.metered = Some((job.id, job.phase));
                self.meter = Meter::default();
            }
            let now = ui.input(|input| input.time);
            self.meter.set(now, job.done, job.total);
            meter(ui, phase(words, job.phase), &self.meter);
        } else {
            ui.spinner();
        }
        if let Some(trouble) = &job.trouble {
            let color = Palette::of(ui.visuals()).warn;
            ui.label(RichText::new(format::sentence(trouble)).color(color));
        }
    }

    fn unreadable(&mut self, ui: &mut Ui, words: &Words) -> Option<Wish> {
        let mut wish = None;
        let Some(notice) = &self.notice else {
            return Some(Wish::Leave);
        };
        let close = Kit::of(ui.ctx()).close.clone();
        let turn = &mut self.turn;
        notice.show(ui, |ui| {
            if turn
                .give(primary_button(ui, true, &words.choose_another))
                .clicked()
            {
                wish = Some(Wish::Choose);
            }
            if ui.button(&words.check_again).clicked() {
                wish = Some(Wish::Check);
            }
            if ui.button(close).clicked() {
                wish = Some(Wish::Leave);
            }
        });
        wish
    }

    fn report(&mut self, ui: &mut Ui, key: KeyState, commands: &mut Commands<'_>) -> Option<Wish> {
        let words = commands.words;
        let Stage::Report(report) = &self.stage else {
            return None;
        };
        let report = report.clone();
        let says_little = report.component.is_none() || report.version.is_none();
        // Where something is to be typed, its field comes next and not the button.
        let mut later = Turn::default();
        let turn = if says_little { &mut later } else { &mut self.turn };
        let mut wish = refusals(ui, &report, turn, words);
        whole(ui, |ui| understood(ui, &report, words));
        if report.passes() {
            whole(ui, |ui| wish = self.rehearsal.show(ui, commands).or(wish.take()));
            whole(ui, |ui| {
                wish = self.sign(ui, &report, key, commands).or(wish.take());
            });
        }
        if report.form == release::Form::Single || says_little {
            whole(ui, |ui| wish = self.typed(ui, words).or(wish.take()));
        }
        whole(ui, |ui| {
            heading(ui, &words.checks, |_| ());
            for check in &report.checks {
                let tone = match check.verdict {
                    CheckVerdict::Passed => Tone::Good,
                    CheckVerdict::Refused => Tone::Bad,
                    CheckVerdict::Open => Tone::Plain,
                };
                gui_kit::widgets::pill(ui, tone, &format::sentence(&check.text));
            }
        });
        wish
    }

    /// What a single file does not say itself.
    fn typed(&mut self, ui: &mut Ui, words: &Words) -> Option<Wish> {
        heading(ui, &words.say_yourself, |_| ());
        ui.label(RichText::new(&words.say_yourself_hint).small().weak());
        let mut enter = false;
        Grid::new("typed")
            .num_columns(2)
            .spacing([space::L, space::XS])
            .show(ui, |ui| {
                for (word, text) in [
                    (&words.app_name, &mut self.component),
                    (&words.version, &mut self.version),
                    (&words.description, &mut self.description),
                ] {
                    let name = ui.label(word);
                    let field = TextEdit::singleline(text)
                        .char_limit(WINDOW_FIELD)
                        .desired_width(280.0);
                    let field = ui.add(field).labelled_by(name.id);
                    enter |= entered(ui, &self.turn.give(field));
                    ui.end_row();
                }
            });
        let again = ui.button(&words.check_again).clicked();
        (again || enter).then_some(Wish::Check)
    }

    fn sign(
        &mut self,
        ui: &mut Ui,
        report: &PreflightReport,
        key: KeyState,
        commands: &mut Commands<'_>,
    ) -> Option<Wish> {
        let words = commands.words;
        let mut go = false;
        heading(ui, &words.sign_title, |_| ());
        let waits = commands.waits_for(|asked| matches!(asked, Asked::Unlock | Asked::Publish));
        match key {
            KeyState::Open { until } => {
                ui.label(fill(&words.key_open_until, &[&format::time(until)]));
            }
            KeyState::Locked => {
                let field = secret_field(ui, &words.passphrase, &mut self.passphrase, PASSPHRASE_MAX);
                go = entered(ui, &self.turn.give(field));
                ui.checkbox(&mut self.keep, fill(&words.keep_open, &[&WINDOW_KEEP_MINUTES]));
            }
        }
        if let Some(notice) = &self.notice {
            notice.show(ui, |_| ());
        }
        let mut wish = None;
        ui.horizontal_wrapped(|ui| {
            // Whose key is open has only this to press.
            go |= self
                .turn
                .give(primary_button(ui, !waits, &words.sign_and_publish))
                .clicked();
            if ui.button(&words.choose_another).clicked() {
                wish = Some(Wish::Choose);
            }
            if ui.button(&Kit::of(ui.ctx()).cancel).clicked() {
                wish = Some(Wish::Leave);
            }
            if waits {
                ui.spinner();
            }
        });
        if go && !waits {
            self.go(report.draft, key, commands);
        }
        wish
    }

    fn go(&mut self, draft: u64, key: KeyState, commands: &mut Commands<'_>) {
        self.notice = None;
        let what = PublishWhat::Draft(draft);
        if let KeyState::Open { .. } = key {
            let passphrase = None;
            commands.send(Asked::Publish, AuthorRequest::Publish { what, passphrase });
            return;
        }
        if self.passphrase.is_empty() {
            self.notice = Some(bad(
                &commands.words.passphrase_missing,
                "",
                &commands.words.passphrase_remedy,
            ));
            return;
        }
        let passphrase = Secret::new(self.passphrase.clone());
        if self.keep {
            let keep_minutes = WINDOW_KEEP_MINUTES;
            let request = AuthorRequest::Unlock {
                passphrase,
                keep_minutes,
            };
            commands.send(Asked::Unlock, request);
        } else {
            let passphrase = Some(passphrase);
            commands.send(Asked::Publish, AuthorRequest::Publish { what, passphrase });
        }
    }

    fn running(&mut self, ui: &mut Ui, job: Option<&JobStatus>, commands: &mut Commands<'_>) -> Option<Wish> {
        let words = commands.words;
        let Some(job) = job else {
            ui.spinner();
            return None;
        };
        let mut wish = None;
        match &job.end {
            None => whole(ui, |ui| {
                heading(ui, &fill(&words.publishing, &[&job.subject]), |_| ());
                steps(ui, job.phase, words);
                self.progress(ui, Some(job), words);
                ui.add_space(space::S);
                let cancel = &Kit::of(ui.ctx()).cancel;
                let waits = commands.waits_for(|asked| *asked == Asked::Cancel);
                if ui
                    .add_enabled(job.can_cancel && !waits, egui::Button::new(cancel))
                    .clicked()
                {
                    commands.send(Asked::Cancel, AuthorRequest::Cancel { job: Some(job.id) });
                }
            }),
            Some(end) => wish = ended(ui, job, end, &mut self.turn, words),
        }
        wish
    }
}

/// Whether the desk refused with this code.
pub(super) fn is(error: &control::Error, code: &str) -> bool {
    matches!(error, control::Error::Refused(problem) if problem.code == code)
}

/// What the desk said, or why it said nothing.
pub(super) fn why(error: &control::Error) -> String {
    match error {
        control::Error::Refused(problem) => problem.message.clone(),
        other => gui_kit::link::chain(other),
    }
}

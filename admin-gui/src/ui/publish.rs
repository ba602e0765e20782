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
    AuthorRequest, CheckVerdict, JobEnd, JobPhase, JobStatus, KeyState, PreflightReport, PublishOptions,
    PublishWhat,
};
use zeroize::Zeroize as _;

use super::parts::{bad, facts, heading, whole};
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
}

/// What the person wants next.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Choose,
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
        !matches!(self.stage, Stage::Choosing | Stage::Reading | Stage::Running(_))
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
        let wish = ScrollArea::vertical()
            .auto_shrink(false)
            .show(ui, |ui| {
                follow_focus(ui);
                match &self.stage {
                    Stage::Reading => self.reading(ui, job, commands),
                    Stage::Report(_) => self.report(ui, key, commands),
                    Stage::Running(id) => self.running(ui, job.filter(|job| Some(job.id) == *id), commands),
                    Stage::Unreadable => self.unreadable(ui, words),
                    Stage::Away | Stage::Choosing => None,
                }
            })
            .inner;
        match wish {
            Some(Wish::Choose) => self.choose(chooser),
            Some(Wish::Check) => self.check(commands),
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

/// Why it is not to be published, with the document's prompt; the chooser opens again.
fn refusals(ui: &mut Ui, report: &PreflightReport, turn: &mut Turn, words: &Words) -> Option<Wish> {
    let mut wish = None;
    let last = report.refusals.len().checked_sub(1)?;
    let cancel = Kit::of(ui.ctx()).cancel.clone();
    for (place, refusal) in report.refusals.iter().enumerate() {
        bad(&refusal.prompt, &refusal.text, "").show(ui, |ui| {
            if place == last {
                if turn
                    .give(primary_button(ui, true, &words.choose_another))
                    .clicked()
                {
                    wish = Some(Wish::Choose);
                }
                if ui.button(&cancel).clicked() {
                    wish = Some(Wish::Leave);
                }
            }
        });
    }
    wish
}

fn understood(ui: &mut Ui, report: &PreflightReport, words: &Words) {
    let unknown = || words.not_known.clone();
    heading(ui, &words.understood, |_| ());
    let version = report.version.as_ref();
    let previous = report
        .previous
        .as_ref()
        .map(|previous| match report.previous_released {
            Some(at) => fill(&words.previous_of, &[previous, &format::date(at)]),
            None => previous.to_string(),
        });
    let form = match report.form {
        release::Form::Package => &words.form_package,
        release::Form::Single => &words.form_single,
    };
    let mut rows = vec![
        (
            words.app_name.as_str(),
            report
                .component
                .as_ref()
                .map_or_else(unknown, ToString::to_string),
            false,
        ),
        (
            &words.version,
            version.map_or_else(unknown, ToString::to_string),
            false,
        ),
        (
            &words.previous,
            previous.unwrap_or_else(|| words.no_previous.clone()),
            false,
        ),
        (&words.file, report.source.display().to_string(), false),
        (&words.kind, form.clone(), false),
        (&words.size, format::bytes(report.length), false),
        (
            &words.architecture,
            report
                .processor
                .map_or_else(|| words.any_architecture.clone(), |arch| arch.to_string()),
            false,
        ),
        (&words.digest, report.digest.to_string(), true),
    ];
    if let Some(description) = &report.description {
        rows.push((&words.description, description.clone(), false));
    }
    facts(ui, "understood", &rows);
    if let Some(unsure) = &report.unsure {
        let color = Palette::of(ui.visuals()).warn;
        ui.label(RichText::new(format::sentence(unsure)).color(color));
    }
}

/// The four steps, those done marked.
fn steps(ui: &mut Ui, at: JobPhase, words: &Words) {
    let order = |phase| match phase {
        JobPhase::Starting | JobPhase::Reading | JobPhase::Checking => 0,
        JobPhase::Signing => 1,
        JobPhase::Uploading => 2,
        JobPhase::Publishing | JobPhase::Published | JobPhase::Ended => 3,
    };
    ui.horizontal_wrapped(|ui| {
        for (place, word) in [
            &words.step_check,
            &words.step_sign,
            &words.step_upload,
            &words.step_publish,
        ]
        .into_iter()
        .enumerate()
        {
            let tone = if place < order(at) {
                Tone::Good
            } else {
                Tone::Plain
            };
            let text = if place == order(at) {
                RichText::new(word).strong()
            } else {
                RichText::new(word).weak()
            };
            if tone == Tone::Good {
                gui_kit::widgets::pill(ui, tone, word);
            } else {
                ui.label(text);
            }
            ui.add_space(space::M);
        }
    });
}

fn ended(ui: &mut Ui, job: &JobStatus, end: &JobEnd, turn: &mut Turn, words: &Words) -> Option<Wish> {
    let mut wish = None;
    let close = Kit::of(ui.ctx()).close.clone();
    let notice = match end {
        JobEnd::Done { text, warnings, .. } => Notice {
            tone: if warnings.is_empty() {
                Tone::Good
            } else {
                Tone::Warn
            },
            what: format::sentence(text),
            why: warnings
                .iter()
                .map(|text| format::sentence(text))
                .collect::<Vec<_>>()
                .join(" "),
            remedy: words.published_hint.clone(),
        },
        JobEnd::Failed { problem, refusals } => {
            let mut why = format::sentence(&problem.message);
            for refusal in refusals {
                why.push('\n');
                why.push_str(&refusal.text);
            }
            bad(
                &fill(&words.failed_publish, &[&job.subject]),
                &why,
                &words.nothing_visible,
            )
        }
        JobEnd::Cancelled => Notice {
            tone: Tone::Plain,
            what: fill(&words.cancelled, &[&job.subject]),
            why: String::new(),
            remedy: words.nothing_visible.clone(),
        },
    };
    notice.show(ui, |ui| {
        let failed = !matches!(end, JobEnd::Done { .. });
        if failed && turn.give(primary_button(ui, true, &words.try_again)).clicked() {
            wish = Some(Wish::Check);
        }
        if !failed && turn.give(primary_button(ui, true, &words.see_devices)).clicked() {
            wish = Some(Wish::Devices);
        }
        let another = if failed {
            &words.choose_another
        } else {
            &words.upload_another
        };
        if ui.button(another).clicked() {
            wish = Some(Wish::Choose);
        }
        if ui.button(&close).clicked() {
            wish = Some(Wish::Leave);
        }
    });
    wish
}

/// Where a job is, in a word.
fn phase(words: &Words, phase: JobPhase) -> &str {
    match phase {
        JobPhase::Starting => &words.phase_starting,
        JobPhase::Reading => &words.phase_reading,
        JobPhase::Checking => &words.phase_checking,
        JobPhase::Signing => &words.phase_signing,
        JobPhase::Uploading => &words.phase_uploading,
        JobPhase::Publishing => &words.phase_publishing,
        JobPhase::Published | JobPhase::Ended => &words.phase_published,
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

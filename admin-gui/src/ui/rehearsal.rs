//! The rehearsal of an update, offered before anything is signed.

use egui::{CollapsingHeader, RichText, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::space;
use gui_kit::widgets::{Notice, Tone, pill};
use protocol::control::{AuthorRequest, Finding, JobEnd, JobStatus, Level};

use super::parts::{bad, heading};
use super::publish::{Wish, why};
use super::{Asked, Commands, Words};

/// The newest rehearsal that was asked for here.
#[derive(Debug, Default)]
pub(super) struct Rehearsal {
    /// Its number.
    job: Option<u64>,
    /// What was heard of it last: the desk tells of another job by and by.
    seen: Option<JobStatus>,
    /// Why it did not even begin.
    notice: Option<Notice>,
}

impl Rehearsal {
    /// Another file is looked at.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The answer to the request.
    pub(super) fn begun(&mut self, answer: Result<JobStatus, control::Error>, words: &Words) {
        match answer {
            Ok(job) => self.job = Some(job.id),
            Err(error) => self.notice = Some(bad(&words.not_rehearsed, &why(&error), "")),
        }
    }

    /// What the desk says of a job.
    pub(super) fn hear(&mut self, job: Option<&JobStatus>) {
        if let Some(job) = job.filter(|job| Some(job.id) == self.job) {
            self.seen = Some(job.clone());
        }
    }

    /// Draws it.
    pub(super) fn show(&self, ui: &mut Ui, commands: &mut Commands<'_>) -> Option<Wish> {
        let words = commands.words;
        let mut wish = None;
        let runs = self.seen.as_ref().is_some_and(|job| job.end.is_none());
        heading(ui, &words.rehearse_title, |_| ());
        if self.seen.is_none() {
            ui.label(RichText::new(&words.rehearse_hint).small().weak());
        }
        if let Some(notice) = &self.notice {
            notice.show(ui, |_| ());
        }
        if let Some(job) = &self.seen {
            match &job.end {
                None => {
                    job.findings.iter().for_each(|finding| one(ui, finding));
                    ui.horizontal(|ui| {
                        ui.spinner();
                        ui.label(&words.phase_rehearsing);
                        if ui.button(&Kit::of(ui.ctx()).cancel).clicked() {
                            commands.send(Asked::Cancel, AuthorRequest::Cancel { job: Some(job.id) });
                        }
                    });
                }
                Some(end) => {
                    ended(end, words).show(ui, |_| ());
                    found(ui, &job.findings, words);
                }
            }
            ui.add_space(space::S);
        }
        let waits = runs || commands.waits_for(|asked| *asked == Asked::Rehearse);
        let name = if self.seen.is_some() {
            &words.rehearse_again
        } else {
            &words.rehearse
        };
        if ui.add_enabled(!waits, egui::Button::new(name)).clicked() {
            wish = Some(Wish::Rehearse);
        }
        wish
    }
}

/// What a person should look at; what was well, where it is wanted.
fn found(ui: &mut Ui, findings: &[Finding], words: &Words) {
    let is_well = |finding: &&Finding| finding.level == Level::Info;
    findings
        .iter()
        .filter(|finding| !is_well(finding))
        .for_each(|finding| one(ui, finding));
    let well = findings.iter().filter(is_well);
    let title = fill(&words.rehearsal_well, &[&well.clone().count()]);
    CollapsingHeader::new(title)
        .id_salt("rehearsed")
        .show(ui, |ui| well.for_each(|finding| one(ui, finding)));
}

/// One line: how it is to be taken, what it was, what was seen.
fn one(ui: &mut Ui, finding: &Finding) {
    let tone = match finding.level {
        Level::Info => Tone::Good,
        Level::Warning => Tone::Warn,
        Level::Error => Tone::Bad,
    };
    pill(ui, tone, &format!("{}: {}", finding.part, finding.text));
}

fn ended(end: &JobEnd, words: &Words) -> Notice {
    match end {
        JobEnd::Done { text, .. } => Notice {
            tone: Tone::Good,
            what: format::sentence(text),
            why: String::new(),
            remedy: String::new(),
        },
        JobEnd::Failed { problem, .. } => bad(
            &words.rehearsal_bad,
            &problem.message,
            &words.rehearsal_bad_remedy,
        ),
        JobEnd::Cancelled => Notice {
            tone: Tone::Plain,
            what: words.rehearsal_cancelled.clone(),
            why: String::new(),
            remedy: String::new(),
        },
    }
}

//! A release on its way: its steps, and its end.

use egui::{RichText, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::space;
use gui_kit::widgets::{Notice, Tone, Turn, primary_button};
use protocol::control::{JobEnd, JobPhase, JobStatus};

use super::Words;
use super::parts::bad;
use super::publish::Wish;

/// The four steps, those done marked.
pub(super) fn steps(ui: &mut Ui, at: JobPhase, words: &Words) {
    let order = |phase| match phase {
        JobPhase::Starting | JobPhase::Reading | JobPhase::Checking | JobPhase::Rehearsing => 0,
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

pub(super) fn ended(
    ui: &mut Ui,
    job: &JobStatus,
    end: &JobEnd,
    turn: &mut Turn,
    words: &Words,
) -> Option<Wish> {
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
pub(super) fn phase(words: &Words, phase: JobPhase) -> &str {
    match phase {
        JobPhase::Starting => &words.phase_starting,
        JobPhase::Reading => &words.phase_reading,
        JobPhase::Checking => &words.phase_checking,
        JobPhase::Rehearsing => &words.phase_rehearsing,
        JobPhase::Signing => &words.phase_signing,
        JobPhase::Uploading => &words.phase_uploading,
        JobPhase::Publishing => &words.phase_publishing,
        JobPhase::Published | JobPhase::Ended => &words.phase_published,
    }
}

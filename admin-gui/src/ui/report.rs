//! What was understood of a file, and why it is not to be published.

use egui::{RichText, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::Palette;
use gui_kit::widgets::{Turn, primary_button};
use protocol::control::PreflightReport;

use super::Words;
use super::parts::{bad, facts, heading};
use super::publish::Wish;

/// Why it is not to be published, with the document's prompt; the chooser opens again.
pub(super) fn refusals(
    ui: &mut Ui,
    report: &PreflightReport,
    turn: &mut Turn,
    words: &Words,
) -> Option<Wish> {
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

pub(super) fn understood(ui: &mut Ui, report: &PreflightReport, words: &Words) {
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

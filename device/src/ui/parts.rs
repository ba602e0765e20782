//! Small pieces that the pages share.

use egui::{Align, Button, Layout, Response, RichText, Role, Sense, Ui, WidgetInfo};
use gui_kit::text::{Kit, fill};
use gui_kit::theme::{Palette, space, title};
use gui_kit::widgets::{Tone, pill};
use protocol::control::DeviceStatus;
use protocol::device::{Activity, ComponentState};
use protocol::{Event, Step};
use tuf::UnixTime;

use super::source::Snapshot;
use super::texts::Words;

/// Height of what a finger presses, in points.
pub(super) const TOUCH: f32 = 40.0;
/// From this width on, things stand beside each other, in points.
pub(super) const WIDE: f32 = 840.0;

/// What every page is drawn from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The window's words.
    pub(super) words: &'a Words,
    /// The widgets' words.
    pub(super) kit: &'a Kit,
    /// What is shown.
    pub(super) snapshot: &'a Snapshot,
    /// The time that the window believes.
    pub(super) now: UnixTime,
    /// The device's folder, as a person would type it.
    pub(super) dir: &'a str,
    /// Whether there is an agent to be asked.
    pub(super) connected: bool,
    /// Whether things can stand beside each other.
    pub(super) wide: bool,
}

/// A text as one word of a command line.
#[must_use]
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A button that a finger finds.
pub(super) fn touch_button(ui: &mut Ui, enabled: bool, text: &str) -> Response {
    ui.add_enabled(enabled, Button::new(text).min_size(egui::vec2(96.0, TOUCH)))
}

/// A heading, and what stands at its right.
pub(super) fn heading(ui: &mut Ui, text: &str, right: impl FnOnce(&mut Ui)) {
    ui.horizontal(|ui| {
        ui.set_min_height(24.0);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            right(ui);
            ui.with_layout(
                Layout::left_to_right(Align::Center).with_main_align(Align::Min),
                |ui| {
                    ui.add(egui::Label::new(RichText::new(text).text_style(title()).strong()).truncate());
                },
            );
        });
    });
}

/// What a component does, in a word.
#[must_use]
pub(super) fn state_of(words: &Words, state: &ComponentState, coming: &str) -> (Tone, String) {
    match state.activity {
        Activity::Empty => (Tone::Plain, words.state_empty.clone()),
        Activity::Running => (Tone::Good, words.state_running.clone()),
        Activity::Downloading => (Tone::Good, fill(&words.state_downloading, &[&coming])),
        Activity::Staging => (Tone::Good, fill(&words.state_staging, &[&coming])),
        Activity::Switching => (Tone::Warn, words.state_switching.clone()),
        Activity::Probation => (Tone::Warn, words.state_probation.clone()),
        Activity::RollingBack => (Tone::Warn, words.state_rolling_back.clone()),
        Activity::Failing => (Tone::Bad, words.state_failing.clone()),
    }
}

/// How the device stands to its gateway.
pub(super) fn connection_pill(ui: &mut Ui, words: &Words, status: &DeviceStatus) {
    if status.connected {
        pill(ui, Tone::Good, &words.connected);
    } else if status.connection.is_empty() {
        pill(ui, Tone::Plain, &words.connected_polling);
    } else {
        pill(ui, Tone::Warn, &words.not_connected);
    }
}

/// Whether something changes now.
#[must_use]
pub(super) fn is_under_way(state: &ComponentState) -> bool {
    matches!(
        state.activity,
        Activity::Downloading
            | Activity::Staging
            | Activity::Switching
            | Activity::Probation
            | Activity::RollingBack
    )
}

/// Which of the five stages of an update is under way, from 0; five when all are done.
#[must_use]
pub(super) fn stage(last: &Event) -> usize {
    match last.step {
        Step::Downloaded | Step::VerifyStarted => 1,
        Step::Verified | Step::InstallStarted => 2,
        Step::Staged | Step::Waiting | Step::Stopping | Step::Stopped | Step::Switched | Step::Started => 3,
        Step::Healthy => 4,
        Step::Committed => 5,
        _ => 0,
    }
}

/// The stages of an update as one bar: those that are done, the one under way, those to come.
pub(super) fn stages(ui: &mut Ui, words: &Words, at: usize) {
    let names = [
        &words.stage_download,
        &words.stage_check,
        &words.stage_install,
        &words.stage_restart,
        &words.stage_probation,
    ];
    let palette = Palette::of(ui.visuals());
    let text = match names.get(at) {
        Some(name) => fill(&words.stage_name, &[&(at + 1), &names.len(), name]),
        None => words.stage_done.clone(),
    };
    let (rect, response) = ui.allocate_exact_size(egui::vec2(ui.available_width(), 8.0), Sense::hover());
    #[allow(clippy::cast_precision_loss, reason = "five")]
    let step = rect.width() / names.len() as f32;
    for (index, _) in names.iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "five")]
        let left = rect.left() + step * index as f32;
        let size = egui::vec2(step - 4.0, rect.height());
        let part = egui::Rect::from_min_size(egui::pos2(left, rect.top()), size);
        let color = match index.cmp(&at) {
            std::cmp::Ordering::Less => palette.accent,
            std::cmp::Ordering::Equal => palette.accent.gamma_multiply(0.55),
            std::cmp::Ordering::Greater => palette.border,
        };
        ui.painter().rect_filled(part, 4.0, color);
    }
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, &text);
        #[allow(clippy::cast_precision_loss, reason = "five")]
        let done = at as f64 / names.len() as f64;
        info.value = Some(done * 100.0);
        info
    });
    ui.label(RichText::new(&text).small().color(palette.weak));
    ui.add_space(space::XS);
}

/// Rows of names and values, one below the other where the window is narrow.
pub(super) fn facts(ui: &mut Ui, rows: &[(&str, String)]) {
    let palette = Palette::of(ui.visuals());
    ui.spacing_mut().interact_size.y = 20.0;
    for (name, value) in rows {
        ui.horizontal_wrapped(|ui| {
            let width = 130.0_f32.min(ui.available_width() * 0.4);
            ui.allocate_ui_with_layout(
                egui::vec2(width, 20.0),
                Layout::left_to_right(Align::Center),
                |ui| {
                    ui.set_width(width);
                    ui.label(RichText::new(*name).color(palette.weak));
                },
            );
            ui.label(value);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_shown_as_it_must_be_typed() {
        assert_eq!(quoted("/var/lib/drover"), "/var/lib/drover");
        assert_eq!(quoted("/home/a b/it's"), r"'/home/a b/it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}

//! A list of what happened: bounded, filtered, copied, and fast however long it is.

use std::collections::VecDeque;

use egui::{Label, RichText, ScrollArea, TextEdit, Ui};
use protocol::control::Level;
use tuf::UnixTime;

use crate::format;
use crate::limits::{EVENT_LINE_CHARS, EVENT_LINES};
use crate::text::{Kit, fill};
use crate::theme::{Palette, space};
use crate::widgets::Tone;

fn word(level: Level, kit: &Kit) -> &str {
    match level {
        Level::Info => &kit.info,
        Level::Warning => &kit.warning,
        Level::Error => &kit.error,
    }
}

fn tone(level: Level) -> Tone {
    match level {
        Level::Info => Tone::Plain,
        Level::Warning => Tone::Warn,
        Level::Error => Tone::Bad,
    }
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLine {
    /// Wall time.
    pub at: UnixTime,
    /// How much it matters.
    pub level: Level,
    /// What happened, in one line.
    pub text: String,
}

impl EventLine {
    fn copied(&self, kit: &Kit) -> String {
        format!(
            "{}\t{}\t{}\n",
            format::time(self.at),
            word(self.level, kit),
            self.text
        )
    }
}

/// The newest [`EVENT_LINES`] lines and which of them are shown. What is shown is kept as an index that follows new
/// lines and is made anew only when the filter changes: a frame costs the same at ten lines and at a hundred thousand.
#[derive(Debug, Clone, Default)]
pub struct EventList {
    lines: VecDeque<EventLine>,
    /// The number of the oldest line that is kept; numbers only rise.
    first: u64,
    /// Numbers of the lines that are shown.
    shown: VecDeque<u64>,
    least: Level,
    filter: String,
    /// What `shown` was made for, in lower case.
    applied: (Level, String),
}

impl EventList {
    /// Adds a line at the end; the oldest goes where there are too many.
    pub fn push(&mut self, mut line: EventLine) {
        if line.text.contains(char::is_control) {
            line.text = line.text.replace(char::is_control, " ");
        }
        if let Some((end, _)) = line.text.char_indices().nth(EVENT_LINE_CHARS) {
            line.text.truncate(end);
            line.text.push('…');
        }
        if self.lines.len() >= EVENT_LINES {
            self.lines.pop_front();
            if self.shown.front() == Some(&self.first) {
                self.shown.pop_front();
            }
            self.first += 1;
        }
        if wanted(&line, &self.applied) {
            self.shown.push_back(self.first + self.lines.len() as u64);
        }
        self.lines.push_back(line);
    }

    /// Forgets everything but the filter.
    pub fn clear(&mut self) {
        self.first += self.lines.len() as u64;
        self.lines.clear();
        self.shown.clear();
    }

    /// Lines that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing has happened yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Lines that the filter lets through.
    #[must_use]
    pub fn shown(&self) -> usize {
        self.shown.len()
    }

    fn line(&self, index: usize) -> Option<&EventLine> {
        let number = self.shown.get(index)?.checked_sub(self.first)?;
        self.lines.get(usize::try_from(number).ok()?)
    }

    /// Brings the index in line with the filter. A filter that only grew looks at what is shown already.
    fn apply(&mut self) {
        let wish = (self.least, self.filter.trim().to_lowercase());
        if wish == self.applied {
            return;
        }
        let narrower = wish.0 >= self.applied.0 && wish.1.contains(&self.applied.1);
        if narrower {
            let (lines, first) = (&self.lines, self.first);
            self.shown.retain(|number| {
                let index = usize::try_from(number - first).unwrap_or(usize::MAX);
                lines.get(index).is_some_and(|line| wanted(line, &wish))
            });
        } else {
            let numbered = (self.first..).zip(&self.lines);
            self.shown = numbered
                .filter(|(_, line)| wanted(line, &wish))
                .map(|(number, _)| number)
                .collect();
        }
        self.applied = wish;
    }

    /// Shows filter and lines, the newest at the end and in view until the person scrolls up. Takes the height that
    /// is there; `id` tells two lists of one window apart.
    pub fn show(&mut self, ui: &mut Ui, id: &str) {
        let kit = Kit::of(ui.ctx());
        ui.push_id(id, |ui| {
            self.controls(ui, &kit);
            self.apply();
            if self.shown.is_empty() {
                ui.weak(&kit.no_events);
                return;
            }
            let height = ui.text_style_height(&egui::TextStyle::Body);
            ScrollArea::vertical()
                .auto_shrink([false, false])
                .stick_to_bottom(true)
                .show_rows(ui, height, self.shown.len(), |ui, rows| {
                    // A row is as high as its text, which is what the rows out of view are taken for.
                    ui.spacing_mut().interact_size.y = 0.0;
                    for row in rows {
                        if let Some(line) = self.line(row) {
                            show_line(ui, &kit, line);
                        }
                    }
                });
        });
    }

    fn controls(&mut self, ui: &mut Ui, kit: &Kit) {
        ui.horizontal_wrapped(|ui| {
            let name = ui.label(&kit.filter);
            ui.add(
                TextEdit::singleline(&mut self.filter)
                    .desired_width(160.0)
                    .char_limit(100),
            )
            .labelled_by(name.id);
            for (level, word) in [
                (Level::Info, &kit.all_levels),
                (Level::Warning, &kit.only_warnings),
                (Level::Error, &kit.only_errors),
            ] {
                ui.selectable_value(&mut self.least, level, word);
            }
            if ui
                .add_enabled(!self.shown.is_empty(), egui::Button::new(&kit.copy))
                .clicked()
            {
                let lines = (0..self.shown.len()).filter_map(|index| self.line(index));
                let text: String = lines.map(|line| line.copied(kit)).collect();
                ui.ctx().copy_text(text);
            }
            let count = fill(&kit.events_shown, &[&self.shown.len(), &self.lines.len()]);
            ui.label(RichText::new(count).small().weak());
        });
        ui.add_space(space::XS);
    }
}

fn wanted(line: &EventLine, (least, filter): &(Level, String)) -> bool {
    line.level >= *least && contains(&line.text, filter)
}

/// Whether `text` contains `filter` (in lower case), whatever the case of `text`.
fn contains(text: &str, filter: &str) -> bool {
    if filter.is_empty() {
        return true;
    }
    if text.is_ascii() && filter.is_ascii() {
        let (text, filter) = (text.as_bytes(), filter.as_bytes());
        return text
            .windows(filter.len())
            .any(|part| part.eq_ignore_ascii_case(filter));
    }
    text.to_lowercase().contains(filter)
}

/// Below this width a list is shown in short form, in points.
const NARROW: f32 = 560.0;

fn show_line(ui: &mut Ui, kit: &Kit, line: &EventLine) {
    let palette = Palette::of(ui.visuals());
    ui.horizontal(|ui| {
        // Where there is little room, the text gets it: no date, and the level only where it matters.
        let narrow = ui.available_width() < NARROW;
        let mut time = format::time(line.at);
        if narrow && let Some((_, clock)) = time.split_once(' ') {
            time = clock.to_owned();
        }
        ui.label(RichText::new(time).monospace().color(palette.weak));
        let (tone, word) = (tone(line.level), word(line.level, kit));
        if !narrow || line.level != Level::Info {
            let size = egui::vec2(64.0, ui.text_style_height(&egui::TextStyle::Body));
            let left = egui::Layout::left_to_right(egui::Align::Center);
            ui.allocate_ui_with_layout(size, left, |ui| {
                ui.set_min_width(size.x);
                ui.label(RichText::new(word).color(tone.color(palette)));
            });
        }
        let color = if line.level == Level::Info {
            palette.text
        } else {
            tone.color(palette)
        };
        ui.add(Label::new(RichText::new(&line.text).color(color)).truncate());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui_kittest::Harness;
    use egui_kittest::kittest::Queryable as _;

    fn line(number: usize, level: Level) -> EventLine {
        EventLine {
            at: UnixTime(number as i64),
            level,
            text: format!("Line {number}"),
        }
    }

    fn list(lines: usize) -> EventList {
        let mut list = EventList::default();
        for number in 0..lines {
            let level = if number % 10 == 0 {
                Level::Warning
            } else {
                Level::Info
            };
            list.push(line(number, level));
        }
        list
    }

    fn window(list: EventList) -> Harness<'static, EventList> {
        let size = egui::vec2(700.0, 400.0);
        Harness::builder()
            .with_size(size)
            .build_ui_state(|ui, list: &mut EventList| list.show(ui, "events"), list)
    }

    #[test]
    fn the_oldest_lines_go_and_the_index_follows() {
        let mut list = list(EVENT_LINES + 25);
        assert_eq!((list.len(), list.shown()), (EVENT_LINES, EVENT_LINES));
        assert_eq!(list.line(0).unwrap().text, "Line 25");
        list.least = Level::Warning;
        list.apply();
        assert_eq!(list.shown(), EVENT_LINES / 10);
        for number in 0..20 {
            list.push(line(EVENT_LINES + 25 + number, Level::Error));
        }
        assert_eq!(list.shown(), EVENT_LINES / 10 + 20 - 2);
        list.clear();
        assert_eq!((list.len(), list.shown()), (0, 0));
    }

    #[test]
    fn a_filter_that_shrinks_brings_lines_back() {
        let mut list = list(1000);
        for (filter, shown) in [("LINE 99", 11), ("line 999", 1), ("é", 0), ("", 1000)] {
            list.filter = filter.to_owned();
            list.apply();
            assert_eq!(list.shown(), shown, "{filter}");
        }
    }

    #[test]
    fn a_line_cannot_break_the_list() {
        let mut list = EventList::default();
        list.push(EventLine {
            text: "a\nb\u{7}".to_owned() + &"x".repeat(2 * EVENT_LINE_CHARS),
            ..line(0, Level::Info)
        });
        let text = &list.line(0).unwrap().text;
        assert!(text.starts_with("a b x") && text.chars().count() == EVENT_LINE_CHARS + 1);
    }

    #[test]
    fn a_hundred_thousand_lines_show_the_newest_and_are_filtered_and_copied() {
        let mut window = window(list(EVENT_LINES));
        window.run();
        window.get_by_label("Line 99999");
        assert!(
            window.query_by_label("Line 0").is_none(),
            "only what is in view is drawn"
        );
        window.get_by_label("Filter").focus();
        window.get_by_label("Filter").type_text("line 4242");
        window.run();
        window.get_by_label("Line 4242");
        window.get_by_label("Warnings and errors").click();
        window.run();
        window.get_by_label("Line 42420");
        assert!(window.query_by_label("Line 4242").is_none());
        window.get_by_label("Copy").click();
        window.step();
        let copied = window
            .output()
            .platform_output
            .commands
            .iter()
            .find_map(|command| match command {
                egui::OutputCommand::CopyText(text) => Some(text.clone()),
                _ => None,
            });
        assert_eq!(copied.unwrap(), "1970-01-01 11:47:00\tWarning\tLine 42420\n");
    }
}

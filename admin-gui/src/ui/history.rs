//! The record of uploads: searched, sorted, looked into.

use std::sync::Arc;

use egui::{Panel, RichText, ScrollArea, TextEdit, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::{Palette, space};
use gui_kit::widgets::{Column, Rows, Sorting, Table, empty_state};
use protocol::control::HistoryEntry;

use super::Words;
use super::parts::facts;
use super::source::Past;

/// What an entry is known by when others come: its time, and what was done to what.
type Entry = (i64, String);

fn key(entry: &HistoryEntry) -> Entry {
    (entry.at.0, format!("{} {:?}", entry.action, entry.update))
}

/// The page.
#[derive(Debug, Default)]
pub(super) struct History {
    filter: String,
    table: Table<Entry>,
    /// The places that are shown, in order.
    order: Vec<usize>,
    made: Option<(Arc<Past>, String, Sorting)>,
}

impl History {
    fn follow(&mut self, past: &Arc<Past>, words: &Words) {
        let filter = self.filter.trim().to_lowercase();
        let sorting = self.table.sorting;
        let same = self
            .made
            .as_ref()
            .is_some_and(|(of, by, order)| Arc::ptr_eq(of, past) && *by == filter && *order == sorting);
        if same {
            return;
        }
        let entries = &past.history;
        self.order = (0..entries.len())
            .filter(|place| filter.is_empty() || contains(&entries[*place], &filter, words))
            .collect();
        match sorting.column {
            0 => {}
            1 => self.order.sort_by_key(|place| entries[*place].component.clone()),
            2 => self.order.sort_by_key(|place| entries[*place].version.clone()),
            3 => self.order.sort_by_key(|place| entries[*place].action.clone()),
            4 => self.order.sort_by_key(|place| entries[*place].size),
            _ => self.order.sort_by_key(|place| entries[*place].failure.clone()),
        }
        if sorting.down {
            self.order.reverse();
        }
        self.made = Some((Arc::clone(past), filter, sorting));
    }

    pub(super) fn show(&mut self, ui: &mut Ui, past: &Arc<Past>, words: &Words) {
        self.follow(past, words);
        if past.history.is_empty() {
            empty_state(ui, &words.history_empty, &words.history_empty_hint, |_| ());
            return;
        }
        let kit = Kit::of(ui.ctx());
        ui.horizontal(|ui| {
            let name = ui.label(&kit.filter);
            ui.add(TextEdit::singleline(&mut self.filter).desired_width(220.0))
                .labelled_by(name.id);
            let shown = fill(&words.entries_shown, &[&self.order.len(), &past.history.len()]);
            ui.label(RichText::new(shown).small().weak());
            if past.history_is_cut {
                ui.label(RichText::new(&words.history_cut).small().weak());
            }
        });
        let selected = self.table.selected.as_ref();
        let selected =
            selected.and_then(|wanted| past.history.iter().position(|entry| key(entry) == *wanted));
        if let Some(entry) = selected.and_then(|place| past.history.get(place)) {
            let panel = Panel::bottom("entry").resizable(true).default_size(190.0);
            panel.show(ui, |ui| {
                ScrollArea::vertical()
                    .auto_shrink(false)
                    .show(ui, |ui| details(ui, entry, words));
            });
        }
        self.rows(ui, past, selected, words);
    }

    fn rows(&mut self, ui: &mut Ui, past: &Arc<Past>, selected: Option<usize>, words: &Words) {
        let column = |word, width, least| Column { word, width, least };
        let columns = [
            column(&words.upload_time, 170.0, 120.0),
            column(&words.app_name, 160.0, 80.0),
            column(&words.version, 90.0, 60.0),
            column(&words.action, 90.0, 70.0),
            column(&words.size, 80.0, 60.0),
            column(&words.result, 120.0, 80.0),
        ];
        let rows = Rows {
            id: "history",
            columns: &columns,
            count: self.order.len(),
            place: selected.and_then(|row| self.order.iter().position(|place| *place == row)),
        };
        let order = &self.order;
        let entry = |place: usize| order.get(place).and_then(|place| past.history.get(*place));
        self.table.show(
            ui,
            rows,
            |place| entry(place).map(key),
            |line, place| {
                let Some(entry) = entry(place) else { return };
                let empty = String::new;
                let component = entry.component.as_ref().map_or_else(empty, ToString::to_string);
                let version = entry.version.as_ref().map_or_else(empty, ToString::to_string);
                let time = format::time(entry.at);
                let action = action(words, &entry.action);
                let described = fill(&words.entry_name, &[&time, &component, &version, &action]);
                line.name(&time, &described);
                line.text(RichText::new(component));
                line.text(RichText::new(version));
                line.text(RichText::new(action));
                line.text(RichText::new(entry.size.map_or_else(empty, format::bytes)));
                line.cell(|ui| {
                    let palette = Palette::of(ui.visuals());
                    let text = match &entry.failure {
                        None => RichText::new(&words.result_done).color(palette.good),
                        Some(failure) => RichText::new(format::sentence(failure)).color(palette.bad),
                    };
                    gui_kit::widgets::cut(ui, text);
                });
            },
        );
    }
}

fn action<'a>(words: &'a Words, action: &'a str) -> &'a str {
    match action {
        "publish" => &words.action_publish,
        "withdraw" => &words.action_withdraw,
        "renew" => &words.action_renew,
        other => other,
    }
}

fn contains(entry: &HistoryEntry, filter: &str, words: &Words) -> bool {
    let has = |text: &str| text.to_lowercase().contains(filter);
    has(&format::time(entry.at))
        || has(action(words, &entry.action))
        || entry.component.as_ref().is_some_and(|name| has(name.as_str()))
        || entry
            .version
            .as_ref()
            .is_some_and(|version| has(&version.to_string()))
        || entry
            .digest
            .as_ref()
            .is_some_and(|digest| has(&digest.to_string()))
        || entry
            .source
            .as_ref()
            .is_some_and(|path| has(&path.display().to_string()))
        || entry.failure.as_deref().is_some_and(has)
}

fn details(ui: &mut Ui, entry: &HistoryEntry, words: &Words) {
    let mut rows: Vec<(&str, String, bool)> = Vec::new();
    if let Some(source) = &entry.source {
        rows.push((&words.source, source.display().to_string(), false));
    }
    rows.push((&words.release_time, format::time(entry.released), false));
    rows.push((&words.upload_time, format::time(entry.at), false));
    if let Some(failure) = &entry.failure {
        rows.push((&words.result, format::sentence(failure), false));
    }
    if let Some(digest) = &entry.digest {
        rows.push((&words.digest, digest.to_string(), true));
    }
    if let Some(update) = &entry.update {
        rows.push((&words.update, update.to_string(), true));
    }
    rows.push((&words.signer, entry.signer.clone(), true));
    rows.push((&words.author, entry.author.to_string(), false));
    if let Some([targets, snapshot, timestamp]) = entry.receipt {
        let text = fill(&words.receipt_of, &[&targets, &snapshot, &timestamp]);
        rows.push((&words.receipt, text, false));
    }
    ui.add_space(space::XS);
    facts(ui, "entry", &rows);
}

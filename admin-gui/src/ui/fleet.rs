//! Which devices run what, how far they are, and what failed, from their signed reports.

use std::sync::Arc;

use egui::{Panel, RichText, ScrollArea, TextEdit, Ui};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::Palette;
use gui_kit::widgets::{Column, Notice, Rows, Sorting, Table, Tone, empty_state, pill};
use protocol::Name;
use protocol::control::FleetRow;
use tuf::UnixTime;

use super::Words;
use super::parts::{facts, heading, outcome};
use super::source::Past;

/// The page.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    filter: String,
    table: Table<Name>,
    order: Vec<usize>,
    made: Option<(Arc<Past>, String, Sorting)>,
}

impl Fleet {
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
        let devices = &past.devices;
        self.order = (0..devices.len())
            .filter(|place| filter.is_empty() || contains(&devices[*place], &filter, words))
            .collect();
        match sorting.column {
            0 => {}
            1 => self.order.sort_by_cached_key(|place| runs(&devices[*place])),
            2 => self.order.sort_by_cached_key(|place| doing(&devices[*place])),
            3 => self.order.sort_by_cached_key(|place| {
                let newest = newest(&devices[*place]);
                // What went wrong first.
                newest.map_or(9, |newest| match newest.outcome {
                    protocol::Outcome::Failed => 0,
                    protocol::Outcome::RolledBack => 1,
                    protocol::Outcome::Refused => 2,
                    protocol::Outcome::Committed => 3,
                })
            }),
            4 => self
                .order
                .sort_by_key(|place| std::cmp::Reverse(devices[*place].last.0)),
            _ => self.order.sort_by_cached_key(|place| {
                let reason = reason(&devices[*place]).to_owned();
                (reason.is_empty(), reason)
            }),
        }
        if sorting.down {
            self.order.reverse();
        }
        self.made = Some((Arc::clone(past), filter, sorting));
    }

    pub(super) fn show(&mut self, ui: &mut Ui, past: &Arc<Past>, now: UnixTime, words: &Words) {
        self.follow(past, words);
        if let Some(trouble) = &past.devices_trouble {
            let notice = Notice {
                tone: Tone::Warn,
                what: words.reports_old.clone(),
                why: format::sentence(trouble),
                remedy: String::new(),
            };
            notice.show(ui, |_| ());
        }
        if past.devices.is_empty() {
            empty_state(ui, &words.fleet_empty, &words.fleet_empty_hint, |_| ());
            return;
        }
        ui.horizontal(|ui| {
            let name = ui.label(&Kit::of(ui.ctx()).filter);
            ui.add(TextEdit::singleline(&mut self.filter).desired_width(220.0))
                .labelled_by(name.id);
            let shown = fill(&words.devices_shown, &[&self.order.len(), &past.devices_total]);
            ui.label(RichText::new(shown).small().weak());
        });
        let selected = self.place(past);
        if let Some(row) = selected.and_then(|place| past.devices.get(place)) {
            let panel = Panel::bottom("device").resizable(true).default_size(190.0);
            panel.show(ui, |ui| {
                ScrollArea::vertical()
                    .auto_shrink(false)
                    .show(ui, |ui| details(ui, row, words));
            });
        }
        self.rows(ui, past, selected, now, words);
    }

    /// The selected device's place among all; they come by name.
    fn place(&self, past: &Arc<Past>) -> Option<usize> {
        let name = self.table.selected.as_ref()?;
        let found = past.devices.binary_search_by(|row| row.device.name.cmp(name));
        found.ok()
    }

    fn rows(&mut self, ui: &mut Ui, past: &Arc<Past>, selected: Option<usize>, now: UnixTime, words: &Words) {
        let column = |word, width, least| Column { word, width, least };
        let columns = [
            column(&words.device, 140.0, 80.0),
            column(&words.runs, 170.0, 80.0),
            column(&words.doing, 110.0, 70.0),
            column(&words.last_update, 150.0, 90.0),
            column(&words.last_report, 100.0, 70.0),
            column(&words.reason, 120.0, 80.0),
        ];
        let rows = Rows {
            id: "fleet",
            columns: &columns,
            count: self.order.len(),
            place: selected.and_then(|row| self.order.iter().position(|place| *place == row)),
        };
        let order = &self.order;
        let row = |place: usize| order.get(place).and_then(|place| past.devices.get(*place));
        let key = |place: usize| row(place).map(|row| row.device.name.clone());
        self.table.show(ui, rows, key, |line, place| {
            let Some(row) = row(place) else { return };
            let runs = runs(row);
            line.name(row.device.name.as_str(), &format!("{}: {runs}", row.device.name));
            line.text(RichText::new(runs));
            line.text(RichText::new(doing(row)));
            line.cell(|ui| {
                if let Some(newest) = newest(row) {
                    let (tone, word) = outcome(words, newest.outcome);
                    pill(ui, tone, word);
                }
            });
            line.cell(|ui| {
                let text = format::ago_shown(ui, row.last, now);
                gui_kit::widgets::cut(ui, RichText::new(text).weak());
            });
            line.text(RichText::new(format::sentence(reason(row))).weak());
        });
    }
}

fn runs(row: &FleetRow) -> String {
    let one = |state: &protocol::device::ComponentState| match &state.version {
        Some(version) => format!("{} {version}", state.component),
        None => state.component.to_string(),
    };
    row.components.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What it is doing, where that is more than running.
fn doing(row: &FleetRow) -> String {
    let busy =
        |state: &&protocol::device::ComponentState| state.activity != protocol::device::Activity::Running;
    let activities = row
        .components
        .iter()
        .filter(busy)
        .map(|state| state.activity.to_string());
    let waiting = row
        .components
        .iter()
        .filter_map(|state| Some(state.waiting.as_ref()?.to_string()));
    let words: Vec<String> = activities.chain(waiting).collect();
    words.join(", ")
}

fn newest(row: &FleetRow) -> Option<&protocol::control::FleetOutcome> {
    row.outcomes.iter().max_by_key(|outcome| outcome.at.0)
}

fn reason(row: &FleetRow) -> &str {
    newest(row)
        .and_then(|newest| newest.reason.as_deref())
        .unwrap_or_default()
}

fn contains(row: &FleetRow, filter: &str, words: &Words) -> bool {
    let has = |text: &str| text.to_lowercase().contains(filter);
    has(row.device.name.as_str())
        || has(&runs(row))
        || has(&doing(row))
        || has(reason(row))
        || newest(row).is_some_and(|newest| has(outcome(words, newest.outcome).1))
}

fn details(ui: &mut Ui, row: &FleetRow, words: &Words) {
    heading(ui, row.device.name.as_str(), |_| ());
    let mut facts_of = vec![(words.last_report.as_str(), format::time(row.last), false)];
    for state in &row.components {
        let version = state
            .version
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        let mut text = format!("{version} · {}", state.activity);
        if let Some(previous) = &state.previous {
            text.push_str(" · ");
            text.push_str(&fill(&words.before, &[previous]));
        }
        if state.held {
            text.push_str(" · ");
            text.push_str(&words.held);
        }
        facts_of.push((state.component.as_str(), text, false));
    }
    facts(ui, "device", &facts_of);
    for ended in &row.outcomes {
        let (tone, word) = outcome(words, ended.outcome);
        ui.horizontal_wrapped(|ui| {
            pill(ui, tone, word);
            let version = ended
                .version
                .as_ref()
                .map_or_else(String::new, ToString::to_string);
            let component = ended
                .component
                .as_ref()
                .map_or_else(String::new, ToString::to_string);
            ui.label(format!("{component} {version}"));
            ui.label(RichText::new(format::time(ended.at)).small().weak());
        });
        if let Some(reason) = &ended.reason {
            let color = Palette::of(ui.visuals()).warn;
            ui.label(RichText::new(format::sentence(reason)).color(color));
        }
    }
}

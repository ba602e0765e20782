//! The device table: sorted, filtered, selected; only rows in view are drawn, however many there are.

use std::sync::Arc;

use egui::{RichText, Role, Sense, Ui, WidgetInfo};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::Palette;
use gui_kit::widgets::{Cells, Rows, Sorting, cut};
use protocol::Name;
use protocol::control::DeviceRow;
use tuf::UnixTime;

use super::Words;
use super::service::Table;
use super::state::{self, State};

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    State,
    Version,
    Seen,
    Progress,
    Reason,
}

impl Column {
    const ALL: [Self; 6] = [
        Self::Name,
        Self::State,
        Self::Version,
        Self::Seen,
        Self::Progress,
        Self::Reason,
    ];

    fn word(self, words: &Words) -> &str {
        match self {
            Self::Name => &words.column_name,
            Self::State => &words.column_state,
            Self::Version => &words.column_version,
            Self::Seen => &words.column_seen,
            Self::Progress => &words.column_progress,
            Self::Reason => &words.column_reason,
        }
    }
}

/// What an index was made for: while this is the same, the index is right.
#[derive(Debug, Clone, PartialEq)]
struct Made {
    table: Table,
    column: Column,
    down: bool,
    filter: String,
}

/// The table's own state: filter, sorting and selection, and the index that follows from them.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) filter: String,
    shown: gui_kit::widgets::Table<Name>,
    made: Option<Made>,
    /// Places in the table's rows, in the order in which they are shown.
    order: Vec<u32>,
}

impl Devices {
    /// Rows that the filter lets through.
    pub(crate) fn shown(&self) -> usize {
        self.order.len()
    }

    /// The selected device.
    fn selected(&self) -> Option<&Name> {
        self.shown.selected.as_ref()
    }

    /// A device that is gone is not selected any more.
    pub(crate) fn unselect(&mut self, name: &Name) {
        self.shown.selected.take_if(|selected| selected == name);
    }

    /// Makes the index anew where table, sorting or filter have changed. Called once a frame, before drawing.
    pub(crate) fn follow(&mut self, table: &Table, words: &Words) {
        let Sorting { column, down } = self.shown.sorting;
        let column = Column::ALL.get(column).copied().unwrap_or(Column::Name);
        let filter = self.filter.trim().to_lowercase();
        let same = self.made.as_ref().is_some_and(|made| {
            made.table == *table && made.column == column && made.down == down && made.filter == filter
        });
        if same {
            return;
        }
        let made = Made {
            table: table.clone(),
            column,
            down,
            filter,
        };
        let rows = &table.rows;
        self.order.clear();
        let numbered = (0_u32..).zip(rows.iter());
        self.order.extend(
            numbered
                .filter(|(_, row)| made.filter.is_empty() || contains(row, &made.filter, words))
                .map(|(place, _)| place),
        );
        // The rows come by name, and every sort keeps that order within equals.
        match column {
            Column::Name => {}
            Column::State => sort(&mut self.order, rows, State::of),
            Column::Version => sort(&mut self.order, rows, |row| {
                row.components
                    .first()
                    .map(|state| (state.component.clone(), state.version.clone()))
            }),
            Column::Seen => sort(&mut self.order, rows, |row| {
                (!row.connected, row.last_seen.map(|at| -at.0))
            }),
            Column::Progress => sort(&mut self.order, rows, |row| {
                let progress = row.progress.as_ref();
                // The furthest first; those without an update last.
                std::cmp::Reverse(progress.map(|progress| (progress.step, progress.bytes)))
            }),
            Column::Reason => sort(&mut self.order, rows, |row| {
                let reason = state::reason(words, row);
                (reason.is_empty(), reason)
            }),
        }
        if down {
            self.order.reverse();
        }
        self.made = Some(made);
    }

    fn row(&self, place: usize) -> Option<&Arc<DeviceRow>> {
        let made = self.made.as_ref()?;
        made.table
            .rows
            .get(usize::try_from(*self.order.get(place)?).ok()?)
    }

    /// The selected device's place in the table's rows, whether the filter lets it through or not.
    fn selected_place(&self) -> Option<usize> {
        let name = self.selected()?;
        let rows = &self.made.as_ref()?.table.rows;
        rows.binary_search_by(|row| row.name.cmp(name)).ok()
    }

    /// The selected device's row, whether the filter lets it through or not.
    pub(crate) fn selected_row(&self) -> Option<&Arc<DeviceRow>> {
        self.made.as_ref()?.table.rows.get(self.selected_place()?)
    }

    /// Draws it over the place that is there.
    pub(crate) fn show(&mut self, ui: &mut Ui, words: &Words, now: UnixTime) {
        let selected = self.selected_place().and_then(|place| u32::try_from(place).ok());
        let place = selected.and_then(|row| self.order.iter().position(|other| *other == row));
        let columns = Column::ALL.map(|column| {
            let (width, least) = match column {
                Column::Name => (140.0, 80.0),
                Column::State => (130.0, 80.0),
                Column::Version => (130.0, 60.0),
                Column::Seen | Column::Progress => (90.0, 60.0),
                Column::Reason => (80.0, 80.0),
            };
            gui_kit::widgets::Column {
                word: column.word(words),
                width,
                least,
            }
        });
        let mut shown = std::mem::take(&mut self.shown);
        let key = |place| self.row(place).map(|row| row.name.clone());
        let rows = Rows {
            id: "devices",
            columns: &columns,
            count: self.order.len(),
            place,
        };
        shown.show(ui, rows, key, |line, place| {
            if let Some(row) = self.row(place) {
                cells(line, words, row, now);
            }
        });
        self.shown = shown;
    }
}

fn sort<K: Ord>(order: &mut [u32], rows: &[Arc<DeviceRow>], key: impl Fn(&DeviceRow) -> K) {
    order.sort_by_cached_key(|place| {
        let row = usize::try_from(*place).ok().and_then(|place| rows.get(place));
        row.map(|row| key(row))
    });
}

fn contains(row: &DeviceRow, filter: &str, words: &Words) -> bool {
    let has = |text: &str| text.to_lowercase().contains(filter);
    has(row.name.as_str())
        || has(State::of(row).word(words))
        || has(&state::versions(row))
        || has(&state::reason(words, row))
        || row.address.as_deref().is_some_and(has)
}

/// Draws a row.
fn cells(line: &mut Cells<'_, '_, '_>, words: &Words, row: &DeviceRow, now: UnixTime) {
    let state = State::of(row);
    let described = fill(&words.row_name, &[&row.name, &state.word(words)]);
    line.name(row.name.as_str(), &described);
    line.cell(|ui| {
        let palette = Palette::of(ui.visuals());
        let color = match state {
            State::Running => palette.text,
            _ => state.tone().color(palette),
        };
        dot(ui, state.tone());
        cut(ui, RichText::new(state.word(words)).color(color));
    });
    line.text(RichText::new(state::versions(row)));
    line.cell(|ui| {
        let seen = seen(ui, row, now);
        cut(ui, RichText::new(seen).weak());
    });
    line.cell(|ui| {
        if let Some(part) = state::part(row) {
            bar(ui, words, row, part);
        }
    });
    line.text(RichText::new(state::reason(words, row)).weak());
}

fn dot(ui: &mut Ui, tone: gui_kit::widgets::Tone) {
    let color = tone.color(Palette::of(ui.visuals()));
    let (rect, _) = ui.allocate_exact_size(egui::vec2(10.0, 10.0), Sense::hover());
    if tone == gui_kit::widgets::Tone::Plain {
        ui.painter()
            .circle_stroke(rect.center(), 3.5, egui::Stroke::new(1.5, color));
    } else {
        ui.painter().circle_filled(rect.center(), 4.0, color);
    }
}

fn bar(ui: &mut Ui, words: &Words, row: &DeviceRow, part: f32) {
    let palette = Palette::of(ui.visuals());
    let percent = format!("{:.0} %", part * 100.0);
    let width = (ui.available_width() - 46.0).max(16.0);
    let (rect, response) = ui.allocate_exact_size(egui::vec2(width, 6.0), Sense::hover());
    ui.painter().rect_filled(rect, 3.0, palette.border);
    let mut done = rect;
    done.set_width(rect.width() * part);
    ui.painter().rect_filled(done, 3.0, palette.accent);
    let name = fill(&words.progress_of, &[&row.name]);
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, &name);
        info.value = Some(f64::from(part * 100.0));
        info
    });
    cut(ui, RichText::new(percent).small());
}

/// When a device last spoke: one that is connected does so now.
pub(crate) fn seen(ui: &Ui, row: &DeviceRow, now: UnixTime) -> String {
    let kit = Kit::of(ui.ctx());
    match row.last_seen {
        _ if row.connected => kit.just_now.clone(),
        Some(at) => format::ago_shown(ui, at, now),
        None => kit.never.clone(),
    }
}

//! The device table: sorted, filtered, selected; only rows in view are drawn, however many there are.

use std::sync::Arc;

use egui::{Align, Id, Key, Label, Layout, Response, RichText, Role, Sense, Ui, WidgetInfo};
use egui_extras::{Column as Width, TableBuilder, TableRow};
use gui_kit::format;
use gui_kit::text::{Kit, fill};
use gui_kit::theme::Palette;
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

/// The table's own state: sorting, filter, selection, and the index that follows from them.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) filter: String,
    pub(crate) selected: Option<Name>,
    column: Option<(Column, bool)>,
    made: Option<Made>,
    /// Places in the table's rows, in the order in which they are shown.
    order: Vec<u32>,
    /// The row that gets the keyboard once it is drawn.
    focus: Option<Name>,
}

impl Devices {
    /// Rows that the filter lets through.
    pub(crate) fn shown(&self) -> usize {
        self.order.len()
    }

    /// Makes the index anew where table, sorting or filter have changed. Called once a frame, before drawing.
    pub(crate) fn follow(&mut self, table: &Table, words: &Words) {
        let (column, down) = self.column.unwrap_or((Column::Name, false));
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

    /// The selected device's row, whether the filter lets it through or not.
    pub(crate) fn selected_row(&self) -> Option<&Arc<DeviceRow>> {
        let name = self.selected.as_ref()?;
        let rows = &self.made.as_ref()?.table.rows;
        let place = rows.binary_search_by(|row| row.name.cmp(name)).ok()?;
        rows.get(place)
    }

    /// Draws it over the place that is there.
    pub(crate) fn show(&mut self, ui: &mut Ui, words: &Words, now: UnixTime) {
        let wish = self.keys(ui);
        let (mut sorted, mut clicked) = (None, None);
        let height = ui.spacing().interact_size.y;
        ui.spacing_mut().item_spacing.y = 1.0;
        let mut table = TableBuilder::new(ui)
            .id_salt("devices")
            .striped(true)
            .sense(Sense::CLICK)
            .animate_scrolling(false)
            .min_scrolled_height(60.0)
            .auto_shrink([false, false])
            .cell_layout(Layout::left_to_right(Align::Center))
            .column(Width::initial(140.0).at_least(80.0).resizable(true).clip(true))
            .column(Width::initial(130.0).at_least(80.0).resizable(true).clip(true))
            .column(Width::initial(130.0).at_least(60.0).resizable(true).clip(true))
            .column(Width::initial(90.0).at_least(60.0).resizable(true).clip(true))
            .column(Width::initial(90.0).at_least(60.0).resizable(true).clip(true))
            .column(Width::remainder().at_least(80.0).clip(true));
        if let Some(place) = wish {
            table = table.scroll_to_row(place, None);
        }
        let current = self.column.unwrap_or((Column::Name, false));
        let focus = self.focus.clone();
        table
            .header(height, |mut header| {
                for column in Column::ALL {
                    header.col(|ui| {
                        if heading(ui, words, column, current).clicked() {
                            sorted = Some(column);
                        }
                    });
                }
            })
            .body(|body| {
                body.rows(height, self.order.len(), |mut line| {
                    let Some(row) = self.row(line.index()) else { return };
                    let selected = self.selected.as_ref() == Some(&row.name);
                    line.set_selected(selected);
                    let name = cells(&mut line, words, row, selected, now);
                    if focus.as_ref() == Some(&row.name) {
                        name.request_focus();
                    }
                    if name.clicked() || name.gained_focus() || line.response().clicked() {
                        clicked = Some((row.name.clone(), name));
                    }
                });
            });
        self.focus = None;
        if let Some((name, response)) = clicked {
            response.request_focus();
            self.selected = Some(name);
        }
        if let Some(column) = sorted {
            let down = current.0 == column && !current.1;
            self.column = Some((column, down));
        }
        if let Some(row) = wish.and_then(|place| self.row(place)) {
            let name = row.name.clone();
            self.selected = Some(name.clone());
            self.focus = Some(name);
            ui.ctx().request_repaint();
        }
    }

    /// The place that the keyboard asks for: arrows, pages and ends, while a row has the keyboard.
    fn keys(&self, ui: &Ui) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        if !ui.memory(|memory| memory.has_focus(row_id(selected))) {
            return None;
        }
        let rows = &self.made.as_ref()?.table.rows;
        let row = rows.binary_search_by(|row| row.name.cmp(selected)).ok()?;
        let row = u32::try_from(row).ok()?;
        let place = self.order.iter().position(|other| *other == row)?;
        let last = self.order.len().checked_sub(1)?;
        let next = ui.input(|input| {
            let step = |key, to| input.key_pressed(key).then_some(to);
            step(Key::ArrowDown, place + 1)
                .or(step(Key::ArrowUp, place.saturating_sub(1)))
                .or(step(Key::PageDown, place + 10))
                .or(step(Key::PageUp, place.saturating_sub(10)))
                .or(step(Key::Home, 0))
                .or(step(Key::End, last))
        });
        next.map(|place| place.min(last))
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

fn row_id(name: &Name) -> Id {
    Id::unique(("device row", name.as_str()))
}

fn heading(ui: &mut Ui, words: &Words, column: Column, current: (Column, bool)) -> Response {
    let word = column.word(words);
    let response = ui.add(egui::Button::new(RichText::new(word).strong()).frame(false));
    if current.0 == column {
        // Drawn by hand: no font has the sign on every machine.
        let color = ui.visuals().text_color();
        let (rect, _) = ui.allocate_exact_size(egui::vec2(8.0, 8.0), Sense::hover());
        let (tip, base) = if current.1 {
            (rect.bottom(), rect.top())
        } else {
            (rect.top(), rect.bottom())
        };
        let points = vec![
            egui::pos2(rect.left(), base),
            egui::pos2(rect.right(), base),
            egui::pos2(rect.center().x, tip),
        ];
        ui.painter()
            .add(egui::Shape::convex_polygon(points, color, egui::Stroke::NONE));
    }
    let order = match current {
        (other, _) if other != column => &words.sort_by,
        (_, false) => &words.sorted_up,
        (_, true) => &words.sorted_down,
    };
    let name = fill(order, &[&word]);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    response.on_hover_text(&name)
}

/// Draws a row; gives its name's response, which takes the keyboard.
fn cells(
    line: &mut TableRow<'_, '_>,
    words: &Words,
    row: &DeviceRow,
    selected: bool,
    now: UnixTime,
) -> Response {
    let state = State::of(row);
    let mut name = None;
    line.col(|ui| name = Some(name_cell(ui, words, row, state, selected)));
    line.col(|ui| {
        let palette = Palette::of(ui.visuals());
        let color = match state {
            State::Running => palette.text,
            _ => state.tone().color(palette),
        };
        dot(ui, state.tone());
        text(ui, RichText::new(state.word(words)).color(color));
    });
    line.col(|ui| text(ui, RichText::new(state::versions(row))));
    line.col(|ui| text(ui, RichText::new(seen(ui, row, now)).weak()));
    line.col(|ui| {
        if let Some(part) = state::part(row) {
            bar(ui, words, row, part);
        }
    });
    let (_, last) = line.col(|ui| text(ui, RichText::new(state::reason(words, row)).weak()));
    name.unwrap_or(last)
}

/// The name takes the keyboard and speaks for its row.
fn name_cell(ui: &mut Ui, words: &Words, row: &DeviceRow, state: State, selected: bool) -> Response {
    let response = ui.interact(ui.max_rect(), row_id(&row.name), Sense::click());
    if response.has_focus() {
        let filter = egui::EventFilter {
            vertical_arrows: true,
            ..Default::default()
        };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        let ring = ui.visuals().selection.stroke;
        ui.painter()
            .rect_stroke(ui.max_rect(), 3.0, ring, egui::StrokeKind::Inside);
    }
    let described = fill(&words.row_name, &[&row.name, &state.word(words)]);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, selected, &described));
    ui.add_space(4.0);
    text(ui, RichText::new(row.name.as_str()).strong());
    response
}

fn text(ui: &mut Ui, text: RichText) {
    ui.add(Label::new(text).truncate().selectable(false));
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
    text(ui, RichText::new(percent).small());
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

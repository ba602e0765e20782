//! A table that is sorted, selected and walked by keyboard; only rows in view are drawn, however many there are.

use std::fmt::Debug;
use std::hash::Hash;

use egui::{Align, EventFilter, Id, Key, Label, Layout, Response, RichText, Role, Sense, Ui, WidgetInfo};
use egui_extras::{Column as Width, TableBuilder, TableRow};

use crate::text::{Kit, fill};

/// Rows that a page key passes.
const PAGE: usize = 10;

/// A column's word and its widths, in points.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// Its heading.
    pub word: &'a str,
    /// Its first width; a person can change it. The last column takes what is left.
    pub width: f32,
    /// Its least width.
    pub least: f32,
}

/// Which column the rows follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sorting {
    /// Its place among the columns.
    pub column: usize,
    /// From the end to the beginning.
    pub down: bool,
}

/// What a table shows now.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The table's name, one on a page.
    pub id: &'a str,
    /// Its columns.
    pub columns: &'a [Column<'a>],
    /// How many rows.
    pub count: usize,
    /// The selected row's place, if it is among them.
    pub place: Option<usize>,
}

/// A table's state: sorting and selection. Rows are known by keys that stay theirs when the order changes.
#[derive(Debug)]
pub struct Table<K> {
    /// The order that the rows are to be shown in; whoever has the rows sorts them.
    pub sorting: Sorting,
    /// The selected row.
    pub selected: Option<K>,
    /// The row that gets the keyboard once it is drawn.
    focus: Option<K>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            sorting: Sorting::default(),
            selected: None,
            focus: None,
        }
    }
}

/// A row while it is drawn.
#[expect(missing_debug_implementations, reason = "egui_extras' row has none")]
pub struct Cells<'a, 'b, 'c> {
    line: &'a mut TableRow<'b, 'c>,
    id: Id,
    selected: bool,
    name: Option<Response>,
}

impl Cells<'_, '_, '_> {
    /// The first cell: the row's name. It takes the keyboard and speaks for its row as `described`.
    pub fn name(&mut self, name: &str, described: &str) {
        let (id, selected) = (self.id, self.selected);
        let mut response = None;
        self.line.col(|ui| {
            let cell = ui.interact(ui.max_rect(), id, Sense::click());
            if cell.has_focus() {
                let filter = EventFilter {
                    vertical_arrows: true,
                    ..Default::default()
                };
                ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));
                let ring = ui.visuals().selection.stroke;
                ui.painter()
                    .rect_stroke(ui.max_rect(), 3.0, ring, egui::StrokeKind::Inside);
            }
            cell.widget_info(|| WidgetInfo::selected(Role::Button, true, selected, described));
            ui.add_space(4.0);
            cut(ui, RichText::new(name).strong());
            response = Some(cell);
        });
        self.name = response;
    }

    /// The next cell, drawn by hand.
    pub fn cell(&mut self, draw: impl FnOnce(&mut Ui)) {
        self.line.col(draw);
    }

    /// The next cell: a text that is cut where it does not fit.
    pub fn text(&mut self, text: RichText) {
        self.line.col(|ui| cut(ui, text));
    }
}

/// A text in a cell, cut where it does not fit.
pub fn cut(ui: &mut Ui, text: RichText) {
    ui.add(Label::new(text).truncate().selectable(false));
}

impl<K: Clone + PartialEq + Hash + Debug> Table<K> {
    /// Draws the rows over the place that is there. `key` knows the row at a place, and `draw` draws one, its name
    /// first. True when another sorting was chosen.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        rows: Rows<'_>,
        key: impl Fn(usize) -> Option<K>,
        mut draw: impl FnMut(&mut Cells<'_, '_, '_>, usize),
    ) -> bool {
        let Rows {
            id,
            columns,
            count,
            place,
        } = rows;
        let row_id = |key: &K| Id::unique((id, key));
        let wish = self.keys(ui, count, place, row_id);
        let (mut sorted, mut clicked) = (None, None);
        let height = ui.spacing().interact_size.y;
        ui.spacing_mut().item_spacing.y = 1.0;
        let mut table = TableBuilder::new(ui)
            .id_salt(id)
            .striped(true)
            .sense(Sense::CLICK)
            .animate_scrolling(false)
            .min_scrolled_height(60.0)
            .auto_shrink([false, false])
            .cell_layout(Layout::left_to_right(Align::Center));
        for (number, column) in columns.iter().enumerate() {
            let width = if number + 1 == columns.len() {
                Width::remainder()
            } else {
                Width::initial(column.width).resizable(true)
            };
            table = table.column(width.at_least(column.least).clip(true));
        }
        if let Some(place) = wish {
            table = table.scroll_to_row(place, None);
        }
        let sorting = self.sorting;
        table
            .header(height, |mut header| {
                for (number, column) in columns.iter().enumerate() {
                    header.col(|ui| {
                        let down = (sorting.column == number).then_some(sorting.down);
                        if heading(ui, column.word, down).clicked() {
                            sorted = Some(number);
                        }
                    });
                }
            })
            .body(|body| {
                body.rows(height, count, |mut line| {
                    let place = line.index();
                    let Some(key) = key(place) else { return };
                    let selected = self.selected.as_ref() == Some(&key);
                    line.set_selected(selected);
                    let id = row_id(&key);
                    let mut cells = Cells {
                        line: &mut line,
                        id,
                        selected,
                        name: None,
                    };
                    draw(&mut cells, place);
                    let Some(name) = cells.name else { return };
                    if self.focus.as_ref() == Some(&key) {
                        name.request_focus();
                    }
                    if name.clicked() || name.gained_focus() || line.response().clicked() {
                        clicked = Some((key, name));
                    }
                });
            });
        self.focus = None;
        if let Some((key, response)) = clicked {
            response.request_focus();
            self.selected = Some(key);
        }
        if let Some(key) = wish.and_then(key) {
            self.selected = Some(key.clone());
            self.focus = Some(key);
            ui.ctx().request_repaint();
        }
        if let Some(column) = sorted {
            let down = sorting.column == column && !sorting.down;
            self.sorting = Sorting { column, down };
        }
        sorted.is_some()
    }

    /// The place that the keyboard asks for: arrows, pages and ends, while a row has the keyboard.
    fn keys(&self, ui: &Ui, count: usize, place: Option<usize>, row_id: impl Fn(&K) -> Id) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        if !ui.memory(|memory| memory.has_focus(row_id(selected))) {
            return None;
        }
        let (place, last) = (place?, count.checked_sub(1)?);
        let next = ui.input(|input| {
            let step = |key, to| input.key_pressed(key).then_some(to);
            step(Key::ArrowDown, place + 1)
                .or(step(Key::ArrowUp, place.saturating_sub(1)))
                .or(step(Key::PageDown, place + PAGE))
                .or(step(Key::PageUp, place.saturating_sub(PAGE)))
                .or(step(Key::Home, 0))
                .or(step(Key::End, last))
        });
        next.map(|place| place.min(last))
    }
}

/// A heading that sorts; `down` is the order by it, where the rows follow it.
fn heading(ui: &mut Ui, word: &str, down: Option<bool>) -> Response {
    let response = ui.add(egui::Button::new(RichText::new(word).strong()).frame(false));
    if let Some(down) = down {
        // Drawn by hand: no font has the sign on every machine.
        let color = ui.visuals().text_color();
        let (rect, _) = ui.allocate_exact_size(egui::vec2(8.0, 8.0), Sense::hover());
        let (tip, base) = if down {
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
    let kit = Kit::of(ui.ctx());
    let order = match down {
        None => &kit.sort_by,
        Some(false) => &kit.sorted_up,
        Some(true) => &kit.sorted_down,
    };
    let name = fill(order, &[&word]);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    response.on_hover_text(&name)
}

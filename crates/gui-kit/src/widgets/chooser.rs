//! Chooses a file or a folder inside the window, so that a test can drive it and no portal is needed.
//!
//! Drop something, type a path (Tab completes), or walk: arrows select, Enter or a double click opens, Alt+Up goes up,
//! Escape gives up. Folders are read by a thread of its own; drawing only takes what lies ready.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use egui::{Event, Key, Modifiers, RichText, ScrollArea, TextEdit, Ui, Vec2};

use crate::format;
use crate::limits::{CHOOSER_ENTRIES, CHOOSER_PATH, CHOOSER_RECENT};
use crate::link::Wake;
use crate::text::{Kit, fill};
use crate::theme::{Palette, space};
use crate::widgets::primary_button;
use folder::Problem;
use folder::{Ask, Entry, Listing, Told, answer};

mod folder;

/// What the person did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This file or folder, which was there and readable a moment ago.
    Chosen(PathBuf),
    /// Nothing.
    Cancelled,
}

/// A file chooser. It keeps where it was between two uses.
#[derive(Debug)]
pub struct Chooser {
    asks: SyncSender<Ask>,
    told: Receiver<Told>,
    /// The reader has a question.
    busy: bool,
    /// What to ask when the reader is free; a newer question replaces it.
    next: Option<Ask>,
    listing: Listing,
    /// The folder that was last asked for.
    place: PathBuf,
    typed: String,
    selected: Option<OsString>,
    problem: Option<Problem>,
    recent: Vec<PathBuf>,
    /// The path field takes the keyboard in the next frame.
    focus: bool,
    /// The list moves to what is selected in the next frame.
    scroll: bool,
}

impl Chooser {
    /// A chooser that begins in `start`; `wake` draws the window again when a folder was read.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(start: &Path, wake: Wake) -> std::io::Result<Self> {
        let (asks, questions) = sync_channel::<Ask>(1);
        let (tell, told) = sync_channel::<Told>(1);
        std::thread::Builder::new()
            .name("chooser".into())
            .spawn(move || {
                while let Ok(ask) = questions.recv() {
                    if tell.send(answer(ask)).is_err() {
                        return;
                    }
                    wake();
                }
            })?;
        let mut chooser = Self {
            asks,
            told,
            busy: false,
            next: None,
            listing: Listing::default(),
            place: start.to_owned(),
            typed: String::new(),
            selected: None,
            problem: None,
            recent: Vec::new(),
            focus: true,
            scroll: false,
        };
        chooser.list(start.to_owned());
        Ok(chooser)
    }

    /// Begins anew where it was: the folder is read again, the path field takes the keyboard.
    pub fn again(&mut self) {
        self.problem = None;
        self.focus = true;
        self.list(self.place.clone());
    }

    /// What was chosen before, newest first.
    #[must_use]
    pub fn recent(&self) -> &[PathBuf] {
        &self.recent
    }

    /// Puts `path` in front of what was chosen before.
    pub fn remember(&mut self, path: PathBuf) {
        self.recent.retain(|old| *old != path);
        self.recent.insert(0, path);
        self.recent.truncate(CHOOSER_RECENT);
    }

    /// What was dropped on the window in this frame, if it is a file or folder of this machine.
    #[must_use]
    pub fn dropped(ctx: &egui::Context) -> Option<PathBuf> {
        ctx.input(|input| {
            input
                .raw
                .dropped_files
                .iter()
                .map(|file| file.path().to_path_buf())
                .find(|path| path.is_absolute())
        })
    }

    /// Draws it over all the room there is.
    pub fn show(&mut self, ui: &mut Ui) -> Option<Choice> {
        let kit = Kit::of(ui.ctx());
        let mut choice = self.take();
        if let Some(path) = Self::dropped(ui.ctx()) {
            self.ask(Ask::Look { path, whole: true });
        }
        if ui.input(|input| input.raw.events.contains(&Event::WindowFocused(true))) {
            // Whoever was elsewhere may have put there what is now looked for.
            self.reread();
        }
        ui.label(RichText::new(&kit.choose_drop).color(Palette::of(ui.visuals()).weak));
        let enter = self.path_row(ui, &kit);
        self.recent_row(ui, &kit);
        if let Some(problem) = &self.problem {
            problem.notice(&kit).show(ui, |_| ());
        }
        if ui.input_mut(|input| input.consume_key(Modifiers::ALT, Key::ArrowUp)) {
            self.up();
        }
        let opened = self.entries(ui, &kit);
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            let open = primary_button(ui, !self.typed.trim().is_empty(), &kit.choose_open).clicked();
            if open || enter || opened {
                self.open_typed();
            }
            let folder = self.listing.folder.clone();
            let there = !folder.as_os_str().is_empty();
            if ui
                .add_enabled(there, egui::Button::new(&kit.choose_folder))
                .clicked()
            {
                self.ask(Ask::Look {
                    path: folder,
                    whole: true,
                });
            }
            let escape = ui.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Escape));
            if ui.button(&kit.cancel).clicked() || escape {
                choice = Some(Choice::Cancelled);
            }
        });
        self.flush();
        choice
    }

    fn path_row(&mut self, ui: &mut Ui, kit: &Kit) -> bool {
        let mut enter = false;
        ui.horizontal(|ui| {
            if ui.button(&kit.choose_up).clicked() {
                self.up();
            }
            let name = ui.label(&kit.choose_path);
            let id = ui.make_persistent_id("chooser path");
            let completion = self.completion();
            if ui.memory(|memory| memory.has_focus(id)) {
                if let Some(whole) = &completion
                    && ui.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Tab))
                {
                    self.type_path(whole.clone());
                    to_end(ui.ctx(), id, whole.chars().count());
                }
                for (key, step) in [(Key::ArrowDown, 1), (Key::ArrowUp, -1)] {
                    if ui.input_mut(|input| input.consume_key(Modifiers::NONE, key)) {
                        self.step(step);
                        to_end(ui.ctx(), id, self.typed.chars().count());
                    }
                }
            }
            let before = self.typed.clone();
            let field = ui
                .add(
                    TextEdit::singleline(&mut self.typed)
                        .id(id)
                        .char_limit(CHOOSER_PATH)
                        .desired_width(ui.available_width()),
                )
                .labelled_by(name.id);
            if std::mem::take(&mut self.focus) {
                field.request_focus();
            }
            if field.changed() && before != self.typed {
                self.type_path(self.typed.clone());
            }
            if field.has_focus() {
                // By what is typed now: the next key may come before the next frame.
                let filter = egui::EventFilter {
                    tab: self.completion().is_some(),
                    horizontal_arrows: true,
                    vertical_arrows: true,
                    ..egui::EventFilter::default()
                };
                ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));
            }
            enter = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            self.focus = enter;
        });
        enter
    }

    fn recent_row(&mut self, ui: &mut Ui, kit: &Kit) {
        if self.recent.is_empty() {
            return;
        }
        let mut wanted = None;
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(&kit.choose_recent).color(Palette::of(ui.visuals()).weak));
            for path in &self.recent {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                if ui.link(name).on_hover_text(path.to_string_lossy()).clicked() {
                    wanted = Some(path.clone());
                }
            }
        });
        if let Some(path) = wanted {
            self.ask(Ask::Look { path, whole: true });
        }
    }

    /// The folder's entries; true when one is to be opened.
    fn entries(&mut self, ui: &mut Ui, kit: &Kit) -> bool {
        let weak = Palette::of(ui.visuals()).weak;
        if self.listing.too_many {
            ui.label(RichText::new(fill(&kit.choose_too_many, &[&CHOOSER_ENTRIES])).color(weak));
        }
        let (_, part) = split(&self.typed);
        let shown: Vec<&Entry> = self.listing.shown(part, self.selected.is_some()).collect();
        if shown.is_empty() {
            let text = match (self.busy || self.next.is_some(), self.listing.entries.is_empty()) {
                (true, _) => &kit.choose_reading,
                (false, true) => &kit.choose_empty,
                (false, false) => &kit.choose_no_match,
            };
            if self.problem.is_none() {
                ui.label(RichText::new(text).color(weak));
            }
            return false;
        }
        let height = (ui.available_height() - 48.0).max(96.0);
        let row = ui.text_style_height(&egui::TextStyle::Body) + 8.0;
        let (mut picked, mut opened) = (None, false);
        let mut area = ScrollArea::vertical()
            .max_height(height)
            .auto_shrink([false, true]);
        if std::mem::take(&mut self.scroll)
            && let Some(index) = shown
                .iter()
                .position(|entry| Some(&entry.name) == self.selected.as_ref())
        {
            #[allow(clippy::cast_precision_loss, reason = "at most 20,000 rows")]
            let top = index as f32 * (row + ui.spacing().item_spacing.y) - height / 2.0;
            area = area.vertical_scroll_offset(top.max(0.0));
        }
        area.show_rows(ui, row, shown.len(), |ui, range| {
            for entry in &shown[range] {
                let on = self.selected.as_ref() == Some(&entry.name);
                let response = draw(ui, entry, on, row);
                let enter = response.has_focus() && ui.input(|input| input.key_pressed(Key::Enter));
                if response.clicked() || response.double_clicked() || enter {
                    picked = Some(entry.name.clone());
                    opened |= enter || response.double_clicked();
                }
            }
        });
        if let Some(name) = picked {
            self.select(name);
        }
        opened
    }

    fn select(&mut self, name: OsString) {
        self.typed = self.listing.folder.join(&name).to_string_lossy().into_owned();
        self.selected = Some(name);
        self.problem = None;
    }

    fn step(&mut self, step: isize) {
        let (_, part) = split(&self.typed);
        let names: Vec<_> = self
            .listing
            .shown(part, self.selected.is_some())
            .map(|entry| &entry.name)
            .collect();
        let at = names
            .iter()
            .position(|name| Some(*name) == self.selected.as_ref());
        let to = match at {
            Some(at) => at.saturating_add_signed(step).min(names.len().saturating_sub(1)),
            None => 0,
        };
        if let Some(name) = names.get(to).map(|name| (*name).clone()) {
            self.select(name);
            self.scroll = true;
        }
    }

    fn up(&mut self) {
        if let Some(parent) = self.listing.folder.parent() {
            self.list(parent.to_owned());
        }
    }

    fn list(&mut self, folder: PathBuf) {
        self.ask(Ask::List {
            folder,
            part: String::new(),
            show: true,
        });
    }

    /// Reads the folder again; what is typed and selected stays.
    fn reread(&mut self) {
        self.ask(Ask::List {
            folder: self.place.clone(),
            part: self.listing.part.clone(),
            show: false,
        });
    }

    fn open_typed(&mut self) {
        let path = match &self.selected {
            Some(name) => self.listing.folder.join(name),
            None => PathBuf::from(self.typed.trim()),
        };
        if path.as_os_str().is_empty() {
            return;
        }
        self.ask(Ask::Look {
            path: self.listing.folder.join(path),
            whole: false,
        });
    }

    fn type_path(&mut self, text: String) {
        let (folder, part) = split(&text);
        let folder = self.listing.folder.join(folder);
        let moved = folder != self.listing.folder;
        if moved || (part != self.listing.part && (self.listing.too_many || !self.listing.part.is_empty())) {
            let part = if moved { String::new() } else { part.to_owned() };
            self.ask(Ask::List {
                folder,
                part,
                show: false,
            });
        }
        self.typed = text;
        self.selected = None;
        self.problem = None;
    }

    /// The typed path with as much added as all entries that begin with it share.
    fn completion(&self) -> Option<String> {
        let (folder, part) = split(&self.typed);
        if part.is_empty()
            || self.selected.is_some()
            || self.listing.folder.join(folder) != self.listing.folder
        {
            return None;
        }
        let mut names = self
            .listing
            .entries
            .iter()
            .filter_map(|entry| Some((entry.name.to_str()?, entry.folder)))
            .filter(|(name, _)| name.starts_with(part));
        let (first, folder_alone) = names.next()?;
        let (mut common, mut alone) = (first, true);
        for (name, _) in names {
            alone = false;
            let length = common.char_indices().zip(name.chars()).find(|((_, a), b)| a != b);
            let length = length.map_or(common.len().min(name.len()), |((at, _), _)| at);
            common = &common[..length];
        }
        let mut whole = format!("{folder}{common}");
        if alone && folder_alone {
            whole.push('/');
        }
        (whole != self.typed).then_some(whole)
    }

    fn ask(&mut self, ask: Ask) {
        self.next = Some(ask);
        self.flush();
    }

    fn flush(&mut self) {
        if !self.busy
            && let Some(ask) = self.next.take()
        {
            self.busy = self.asks.try_send(ask).is_ok();
        }
    }

    fn take(&mut self) -> Option<Choice> {
        let told = match self.told.try_recv() {
            Ok(told) => told,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
        };
        self.busy = false;
        if self.next.is_some() {
            // The person has gone on since.
            return None;
        }
        match told {
            Told::Listed { listing, show } => {
                if show {
                    self.typed = with_slash(&listing.folder);
                    self.selected = None;
                }
                self.problem = None;
                self.place.clone_from(&listing.folder);
                self.listing = listing;
                None
            }
            Told::Failed(problem) => {
                self.problem = Some(problem);
                None
            }
            Told::Chosen(path) => {
                self.remember(path.clone());
                Some(Choice::Chosen(path))
            }
        }
    }
}

/// A row: the name, and at the right how large a file is.
fn draw(ui: &mut Ui, entry: &Entry, on: bool, height: f32) -> egui::Response {
    let name = entry.name.to_string_lossy();
    let size = Vec2::new(ui.available_width(), height);
    let button = if entry.folder {
        egui::Button::selectable(on, format!("{name}/"))
    } else {
        let weak = Palette::of(ui.visuals()).weak;
        egui::Button::selectable(on, name).right_text(RichText::new(format::bytes(entry.size)).color(weak))
    };
    ui.add(button.truncate().min_size(size))
}

/// A typed path's folder with its slash, and the part behind it.
fn split(typed: &str) -> (&str, &str) {
    typed.rfind('/').map_or(("", typed), |at| typed.split_at(at + 1))
}

fn with_slash(folder: &Path) -> String {
    let mut text = folder.to_string_lossy().into_owned();
    if !text.ends_with('/') {
        text.push('/');
    }
    text
}

/// Puts the cursor behind the last character.
fn to_end(ctx: &egui::Context, id: egui::Id, characters: usize) {
    let mut state = egui::text_edit::TextEditState::load(ctx, id).unwrap_or_default();
    let end = egui::text::CCursor::new(characters);
    state
        .cursor
        .set_char_range(Some(egui::text::CCursorRange::one(end)));
    state.store(ctx, id);
}

#[cfg(test)]
mod tests;

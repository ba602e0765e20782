//! Buttons whose weight says what they do.

use egui::{Button, Response, RichText, Stroke, Ui};

use crate::theme::Palette;

/// The one thing that a person came to do here.
pub fn primary_button(ui: &mut Ui, enabled: bool, text: &str) -> Response {
    let palette = Palette::of(ui.visuals());
    let button = Button::new(RichText::new(text).color(palette.on_accent)).fill(palette.accent);
    ui.add_enabled(enabled, button)
}

/// What cannot be taken back.
pub fn danger_button(ui: &mut Ui, enabled: bool, text: &str) -> Response {
    let palette = Palette::of(ui.visuals());
    let button = Button::new(RichText::new(text).color(palette.bad)).stroke(Stroke::new(1.0, palette.bad));
    ui.add_enabled(enabled, button)
}

/// Light, dark, or as the system: each press goes on to the next.
pub fn theme_button(ui: &mut Ui) {
    use egui::ThemePreference::{Dark, Light, System};
    let kit = crate::text::Kit::of(ui.ctx());
    let current = ui.ctx().options(|options| options.theme_preference);
    let (word, next) = match current {
        System => (&kit.theme_system, Light),
        Light => (&kit.theme_light, Dark),
        Dark => (&kit.theme_dark, System),
    };
    if ui.button(egui::RichText::new(word).small()).clicked() {
        ui.ctx().set_theme(next);
    }
}

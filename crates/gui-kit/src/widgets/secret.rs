//! A field for a password.

use egui::{Response, TextEdit, Ui};

use crate::text::Kit;

/// A labelled field whose text is hidden until **Show** is pressed. The text lies in `text` and nowhere else; egui's
/// undo history does not keep it, and a hidden field shows dots.
pub fn secret_field(ui: &mut Ui, label: &str, text: &mut String, limit: usize) -> Response {
    let kit = Kit::of(ui.ctx());
    let id = ui.make_persistent_id(("secret", label));
    let mut shown = ui.data(|data| data.get_temp::<bool>(id).unwrap_or(false));
    let response = ui
        .horizontal(|ui| {
            let name = ui.label(label);
            let width = (ui.available_width() - 84.0).clamp(80.0, 320.0);
            let field = ui
                .add(
                    TextEdit::singleline(text)
                        .password(!shown)
                        .char_limit(limit)
                        .desired_width(width),
                )
                .labelled_by(name.id);
            let word = if shown { &kit.hide } else { &kit.show };
            if ui
                .button(word)
                .on_hover_text(format!("{word}: {label}"))
                .clicked()
            {
                shown = !shown;
            }
            field
        })
        .inner;
    ui.data_mut(|data| data.insert_temp(id, shown));
    response
}

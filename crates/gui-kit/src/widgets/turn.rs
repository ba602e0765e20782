//! What comes next has the keyboard.

use egui::{Id, Response, Ui};

/// Who gets the keyboard next without anybody's Tab: the first field or button that is drawn and may have it.
#[derive(Debug, Default)]
pub struct Turn {
    is_open: bool,
    given: Option<Id>,
}

impl Turn {
    /// The next one that is drawn.
    #[must_use]
    pub fn open() -> Self {
        Self {
            is_open: true,
            given: None,
        }
    }

    /// Gives it, once. Asked again until it is there: what a layout draws on trial gets none.
    pub fn give(&mut self, response: Response) -> Response {
        let its = self.given.is_none_or(|id| id == response.id);
        if self.is_open && its && response.enabled() {
            self.is_open = !response.has_focus();
            self.given = Some(response.id);
            if self.is_open {
                response.request_focus();
            }
        }
        response
    }
}

/// Whether Enter ended a field: what its button does is done without Tab.
#[must_use]
pub fn entered(ui: &Ui, field: &Response) -> bool {
    field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter))
}

//! What has the keyboard is to be seen.

use egui::{Id, Ui};

/// Moves the scroll area that `ui` is the content of to what has just got the keyboard, where that is out of sight.
/// Called as the first thing in the area. Once for each change: whoever then scrolls away is not pulled back.
pub fn follow_focus(ui: &Ui) {
    let key = ui.scope_id().with("followed");
    let focused = ui.memory(egui::Memory::focused);
    let followed = ui.data(|data| data.get_temp::<Option<Id>>(key)).flatten();
    if followed == focused {
        return;
    }
    let response = focused.and_then(|id| ui.ctx().read_response(id));
    if focused.is_some() && response.is_none() {
        // It was never drawn yet: its place is known with the next frame.
        return;
    }
    // What is drawn for the first time is measured first, and moves: its place is known once it stays.
    let place = response.as_ref().map(|response| response.rect);
    let measured = ui.scope_id().with("measured");
    if place.is_some() && ui.data(|data| data.get_temp(measured)) != Some(place) {
        ui.data_mut(|data| data.insert_temp(measured, place));
        ui.request_repaint();
        return;
    }
    ui.data_mut(|data| data.insert_temp(key, focused));
    let Some(response) = response.filter(|response| response.layer_id == ui.layer_id()) else {
        return;
    };
    // What stands elsewhere, such as in a bar above, is not cut off by this area.
    let cut = response.rect.size() - response.interact_rect.size().max(egui::Vec2::ZERO);
    if cut.max_elem() > 0.5 {
        // At once: what glides is pressed beside.
        let rect = response.rect.expand(8.0);
        ui.scroll_to_rect_animation(rect, None, egui::style::ScrollAnimation::none());
    }
}

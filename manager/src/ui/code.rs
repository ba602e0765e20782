//! A QR code, painted: dark on white in both themes, with the quiet zone that readers need.

use egui::{Color32, Mesh, Rect, Response, Role, Sense, Ui, WidgetInfo};

/// Modules of quiet zone on each side (ISO/IEC 18004, 5.3.8).
const QUIET: i32 = 4;

/// The modules of a code.
#[derive(Debug)]
pub(super) struct QrCode {
    side: i32,
    /// Dark modules, each a column and a row.
    dark: Vec<(i32, i32)>,
}

impl QrCode {
    /// The code of a text; none where the text is too long for one.
    pub(super) fn of(text: &str) -> Option<Self> {
        let code = qrcodegen::QrCode::encode_text(text, qrcodegen::QrCodeEcc::Medium).ok()?;
        let side = code.size();
        let all = (0..side).flat_map(|row| (0..side).map(move |column| (column, row)));
        let dark = all
            .filter(|(column, row)| code.get_module(*column, *row))
            .collect();
        Some(Self { side, dark })
    }

    /// Draws it as large as fits `most` points, each module a whole number of the screen's pixels; `name` is what a
    /// screen reader says.
    pub(super) fn show(&self, ui: &mut Ui, most: f32, name: &str) -> Response {
        let modules = self.side + 2 * QUIET;
        let pixels = ui.pixels_per_point();
        #[allow(clippy::cast_precision_loss, reason = "at most 185")]
        let count = modules as f32;
        let module = (most * pixels / count).floor().max(2.0) / pixels;
        let (rect, response) = ui.allocate_exact_size(egui::Vec2::splat(count * module), Sense::hover());
        ui.painter().rect_filled(rect, 4.0, Color32::WHITE);
        let corner = egui::pos2(
            (rect.min.x * pixels).round() / pixels,
            (rect.min.y * pixels).round() / pixels,
        );
        let mut mesh = Mesh::default();
        for (column, row) in &self.dark {
            #[allow(clippy::cast_precision_loss, reason = "at most 185")]
            let at = egui::vec2((column + QUIET) as f32, (row + QUIET) as f32) * module;
            mesh.add_colored_rect(
                Rect::from_min_size(corner + at, egui::Vec2::splat(module)),
                Color32::BLACK,
            );
        }
        ui.painter().add(mesh);
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, name));
        response
    }
}

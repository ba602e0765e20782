//! How the windows look: colours with enough contrast in light and dark, spacing, sizes of type.

use egui::{
    Color32, Context, CornerRadius, FontFamily, FontId, Frame, Margin, Stroke, TextStyle, Theme, Visuals,
};

/// Distances, in points.
pub mod space {
    /// Between a sign and its word.
    pub const XS: f32 = 4.0;
    /// Between things of one group.
    pub const S: f32 = 8.0;
    /// Inside of a card.
    pub const M: f32 = 12.0;
    /// Between cards.
    pub const L: f32 = 16.0;
    /// Around an empty state.
    pub const XL: f32 = 32.0;
}

/// The colours of one theme. Every text colour reads on every ground with a contrast of at least 4.5 to 1
/// (WCAG 2.2, 1.4.3); a test computes it.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    /// The window's ground.
    pub ground: Color32,
    /// A card's ground.
    pub surface: Color32,
    /// A field's ground, and every second row of a table.
    pub sunken: Color32,
    /// Borders and rules.
    pub border: Color32,
    /// Text.
    pub text: Color32,
    /// Text of less weight.
    pub weak: Color32,
    /// What can be pressed, and what is selected.
    pub accent: Color32,
    /// Text on the accent.
    pub on_accent: Color32,
    /// It is well.
    pub good: Color32,
    /// A person should look.
    pub warn: Color32,
    /// It is not well.
    pub bad: Color32,
}

const fn rgb(hex: u32) -> Color32 {
    let [_, r, g, b] = hex.to_be_bytes();
    Color32::from_rgb(r, g, b)
}

/// The light theme.
pub const LIGHT: Palette = Palette {
    ground: rgb(0xF3_F5F7),
    surface: rgb(0xFF_FFFF),
    sunken: rgb(0xEE_F1F4),
    border: rgb(0xD3_D9DF),
    text: rgb(0x1B_2026),
    weak: rgb(0x53_5D67),
    accent: rgb(0x0B_6170),
    on_accent: rgb(0xFF_FFFF),
    good: rgb(0x17_6A31),
    warn: rgb(0x7D_4E00),
    bad: rgb(0xB4_1F28),
};

/// The dark theme.
pub const DARK: Palette = Palette {
    ground: rgb(0x12_161A),
    surface: rgb(0x1B_2026),
    sunken: rgb(0x22_2830),
    border: rgb(0x38_414B),
    text: rgb(0xE7_EBEF),
    weak: rgb(0xA3_AEB9),
    accent: rgb(0x55_C4D4),
    on_accent: rgb(0x06_1F24),
    good: rgb(0x5B_C97A),
    warn: rgb(0xE5_B54A),
    bad: rgb(0xFF_8A82),
};

impl Palette {
    /// The colours of what is drawn now.
    #[must_use]
    pub fn of(visuals: &Visuals) -> &'static Self {
        if visuals.dark_mode { &DARK } else { &LIGHT }
    }
}

/// The style of a title within a window.
#[must_use]
pub fn title() -> TextStyle {
    TextStyle::Name("title".into())
}

/// The style of a figure or a name that is read from two metres away.
#[must_use]
pub fn large() -> TextStyle {
    TextStyle::Name("large".into())
}

/// Gives both themes their looks.
pub fn install(ctx: &Context) {
    for (theme, palette) in [(Theme::Light, &LIGHT), (Theme::Dark, &DARK)] {
        ctx.style_mut_of(theme, |style| {
            style.visuals = visuals(theme, palette);
            style.spacing.item_spacing = egui::vec2(space::S, space::S);
            style.spacing.button_padding = egui::vec2(12.0, 5.0);
            style.spacing.interact_size = egui::vec2(40.0, 28.0);
            style.spacing.window_margin = Margin::same(16);
            style.spacing.menu_margin = Margin::same(8);
            style.spacing.scroll = egui::style::ScrollStyle::solid();
            style.text_styles = [
                (TextStyle::Small, FontId::new(12.0, FontFamily::Proportional)),
                (TextStyle::Body, FontId::new(14.0, FontFamily::Proportional)),
                (TextStyle::Button, FontId::new(14.0, FontFamily::Proportional)),
                (TextStyle::Monospace, FontId::new(13.0, FontFamily::Monospace)),
                (TextStyle::Heading, FontId::new(20.0, FontFamily::Proportional)),
                (title(), FontId::new(16.0, FontFamily::Proportional)),
                (large(), FontId::new(26.0, FontFamily::Proportional)),
            ]
            .into();
        });
    }
}

fn visuals(theme: Theme, palette: &Palette) -> Visuals {
    let mut visuals = theme.default_visuals();
    let radius = CornerRadius::same(6);
    visuals.panel_fill = palette.ground;
    visuals.window_fill = palette.surface;
    visuals.window_stroke = Stroke::new(1.0, palette.border);
    visuals.window_corner_radius = CornerRadius::same(10);
    visuals.menu_corner_radius = CornerRadius::same(8);
    visuals.extreme_bg_color = palette.sunken;
    visuals.text_edit_bg_color = Some(palette.sunken);
    visuals.faint_bg_color = palette.sunken;
    visuals.code_bg_color = palette.sunken;
    visuals.hyperlink_color = palette.accent;
    visuals.warn_fg_color = palette.warn;
    visuals.error_fg_color = palette.bad;
    visuals.weak_text_color = Some(palette.weak);
    visuals.selection.bg_fill = palette.accent.gamma_multiply(0.28);
    visuals.selection.stroke = Stroke::new(1.5, palette.accent);
    let widgets = &mut visuals.widgets;
    for (widget, fill, border) in [
        (&mut widgets.noninteractive, palette.surface, palette.border),
        (&mut widgets.inactive, palette.sunken, palette.border),
        (&mut widgets.hovered, palette.sunken, palette.weak),
        (&mut widgets.active, palette.border, palette.accent),
        (&mut widgets.open, palette.sunken, palette.accent),
    ] {
        widget.bg_fill = fill;
        widget.weak_bg_fill = fill;
        widget.bg_stroke = Stroke::new(1.0, border);
        widget.fg_stroke = Stroke::new(1.2, palette.text);
        widget.corner_radius = radius;
        widget.expansion = 0.0;
    }
    visuals
}

/// A card: a group of things on a ground of its own.
pub fn card(visuals: &Visuals) -> Frame {
    let palette = Palette::of(visuals);
    Frame::new()
        .fill(palette.surface)
        .stroke(Stroke::new(1.0, palette.border))
        .corner_radius(CornerRadius::same(8))
        .inner_margin(Margin::same(14))
}

/// Which look a window begins with, as a person writes it: `system`, `light` or `dark`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look(pub egui::ThemePreference);

impl Default for Look {
    fn default() -> Self {
        Self(egui::ThemePreference::System)
    }
}

impl std::str::FromStr for Look {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "system" => Ok(Self(egui::ThemePreference::System)),
            "light" => Ok(Self(egui::ThemePreference::Light)),
            "dark" => Ok(Self(egui::ThemePreference::Dark)),
            _ => Err("say system, light or dark".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, WCAG 2.2.
    fn luminance(color: Color32) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(color.r()) + 0.7152 * linear(color.g()) + 0.0722 * linear(color.b())
    }

    fn contrast(one: Color32, other: Color32) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_text_reads_on_every_ground() {
        for (name, palette) in [("light", LIGHT), ("dark", DARK)] {
            for ground in [palette.ground, palette.surface, palette.sunken] {
                for text in [
                    palette.text,
                    palette.weak,
                    palette.accent,
                    palette.good,
                    palette.warn,
                    palette.bad,
                ] {
                    let found = contrast(text, ground);
                    assert!(found >= 4.5, "{name}: {text:?} on {ground:?} has {found:.2}");
                }
            }
            assert!(
                contrast(palette.on_accent, palette.accent) >= 4.5,
                "{name}: on the accent"
            );
        }
    }
}

//! The programs' icon, drawn here: a rounded tile with a mark for each program.

use egui::IconData;

/// What is drawn on the tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The author: an arrow that leaves the desk.
    Author,
    /// The gateway: one that serves many.
    Manager,
    /// The device: a chip.
    Device,
}

const SIDE: u32 = 64;
/// Samples a pixel and axis.
const FINE: u32 = 4;

/// The icon, 64 by 64.
#[must_use]
pub fn icon(mark: Mark) -> IconData {
    let mut rgba = Vec::with_capacity((SIDE * SIDE * 4) as usize);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (mut tile, mut ink) = (0u32, 0u32);
            for sample in 0..FINE * FINE {
                let at = |whole: u32, part: u32| {
                    #[allow(clippy::cast_precision_loss, reason = "below 256")]
                    let value = (whole * FINE + part) as f32;
                    (value + 0.5) / (SIDE * FINE) as f32 * 2.0 - 1.0
                };
                let (px, py) = (at(x, sample % FINE), at(y, sample / FINE));
                if rounded(px, py, 0.96, 0.96, 0.42) {
                    tile += 1;
                    ink += u32::from(marked(mark, px, py));
                }
            }
            let all = FINE * FINE;
            let mix = |ground: u32, on: u32| ((ground * (tile - ink) + on * ink) / tile.max(1)).min(255);
            let color = [
                mix(0x0B, 0xFF),
                mix(0x61, 0xFF),
                mix(0x70, 0xFF),
                tile * 255 / all,
            ];
            rgba.extend(color.map(|part| u8::try_from(part).unwrap_or(u8::MAX)));
        }
    }
    IconData {
        rgba,
        width: SIDE,
        height: SIDE,
    }
}

fn rounded(x: f32, y: f32, half_width: f32, half_height: f32, radius: f32) -> bool {
    let (dx, dy) = (
        (x.abs() - half_width + radius).max(0.0),
        (y.abs() - half_height + radius).max(0.0),
    );
    x.abs() <= half_width && y.abs() <= half_height && dx * dx + dy * dy <= radius * radius
}

fn disc(x: f32, y: f32, cx: f32, cy: f32, radius: f32) -> bool {
    (x - cx).powi(2) + (y - cy).powi(2) <= radius * radius
}

/// On the line from (ax, ay) to (bx, by), `half` thick to each side.
fn line(x: f32, y: f32, (ax, ay): (f32, f32), (bx, by): (f32, f32), half: f32) -> bool {
    let (dx, dy) = (bx - ax, by - ay);
    let along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    disc(x, y, ax + along * dx, ay + along * dy, half)
}

fn marked(mark: Mark, x: f32, y: f32) -> bool {
    match mark {
        Mark::Author => {
            line(x, y, (0.0, 0.25), (0.0, -0.55), 0.1)
                || line(x, y, (0.0, -0.55), (-0.32, -0.2), 0.1)
                || line(x, y, (0.0, -0.55), (0.32, -0.2), 0.1)
                || line(x, y, (-0.5, 0.55), (0.5, 0.55), 0.1)
        }
        Mark::Manager => {
            let ends = [(-0.52, 0.5), (0.0, 0.58), (0.52, 0.5), (0.0, -0.58)];
            disc(x, y, 0.0, 0.0, 0.2)
                || ends
                    .iter()
                    .any(|end| line(x, y, (0.0, 0.0), *end, 0.06) || disc(x, y, end.0, end.1, 0.14))
        }
        Mark::Device => {
            let pin = |at: f32| {
                line(x, y, (at, -0.66), (at, 0.66), 0.055) || line(x, y, (-0.66, at), (0.66, at), 0.055)
            };
            let body = rounded(x, y, 0.46, 0.46, 0.1);
            (body && !rounded(x, y, 0.3, 0.3, 0.06))
                || (!body && (pin(-0.22) || pin(0.22)))
                || disc(x, y, 0.0, 0.0, 0.12)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_an_icon_of_its_own() {
        let icons = [Mark::Author, Mark::Manager, Mark::Device].map(|mark| icon(mark).rgba);
        assert!(icons.iter().all(|icon| icon.len() == (SIDE * SIDE * 4) as usize));
        assert!(icons[0] != icons[1] && icons[1] != icons[2] && icons[0] != icons[2]);
    }
}

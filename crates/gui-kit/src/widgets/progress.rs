//! A bar with bytes, rate and time left.

use egui::{CornerRadius, Response, Role, Sense, Ui, WidgetInfo};

use crate::format;
use crate::text::Kit;
use crate::theme::Palette;

/// Follows a transfer: what it has done, and how fast over the last seconds.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    done: u64,
    total: u64,
    /// Time and bytes of the last readings, oldest first.
    points: std::collections::VecDeque<(f64, u64)>,
}

/// Seconds over which the rate is taken, and readings kept for it.
const SPAN: f64 = 4.0;
const POINTS: usize = 64;

impl Meter {
    /// Takes a reading at `now` (seconds of any clock that only goes forward).
    pub fn set(&mut self, now: f64, done: u64, total: u64) {
        if done < self.done || total != self.total {
            self.points.clear();
        }
        (self.done, self.total) = (done, total);
        if self.points.back().is_none_or(|(_, last)| *last != done) {
            self.points.push_back((now, done));
        }
        while self.points.len() > POINTS || self.points.front().is_some_and(|(at, _)| now - at > SPAN) {
            self.points.pop_front();
        }
    }

    /// Bytes a second; none before there are two readings.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let ((first, from), (last, to)) = (self.points.front()?, self.points.back()?);
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        (last > first).then(|| (to - from) as f64 / (last - first))
    }

    /// Seconds left; none where the rate is not known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        let rate = self.rate().filter(|rate| *rate > 0.0)?;
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time for people, clamped"
        )]
        Some(
            ((self.total.saturating_sub(self.done)) as f64 / rate)
                .clamp(0.0, 1e9)
                .ceil() as u64,
        )
    }

    /// The part that is done, 0 to 1.
    #[must_use]
    pub fn part(&self) -> f32 {
        if self.total == 0 {
            return 0.0;
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "a part from 0 to 1"
        )]
        let part = (self.done as f64 / self.total as f64) as f32;
        part.clamp(0.0, 1.0)
    }

    /// `1.2 MB of 3.0 MB · 800 kB/s · 3 s left`.
    #[must_use]
    pub fn text(&self, kit: &Kit) -> String {
        let mut text = format!("{} / {}", format::bytes(self.done), format::bytes(self.total));
        if self.done < self.total {
            if let Some(rate) = self.rate() {
                text.push_str(&format!("  ·  {}", format::rate(rate)));
            }
            if let Some(left) = self.left() {
                text.push_str(&format!("  ·  {}", format::left(kit, left)));
            }
        }
        text
    }
}

/// Shows it as a bar named `label` with its figures below.
pub fn meter(ui: &mut Ui, label: &str, meter: &Meter) -> Response {
    let kit = Kit::of(ui.ctx());
    let palette = Palette::of(ui.visuals());
    ui.vertical(|ui| {
        let (rect, response) = ui.allocate_exact_size(egui::vec2(ui.available_width(), 8.0), Sense::hover());
        let radius = CornerRadius::same(4);
        ui.painter().rect_filled(rect, radius, palette.border);
        let mut done = rect;
        done.set_width(rect.width() * meter.part());
        ui.painter().rect_filled(done, radius, palette.accent);
        let text = meter.text(&kit);
        response.widget_info(|| {
            let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, label);
            info.value = Some(f64::from(meter.part() * 100.0));
            info
        });
        ui.label(egui::RichText::new(text).small().color(palette.weak));
        response
    })
    .inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_follow_the_readings() {
        let mut meter = Meter::default();
        assert_eq!((meter.rate(), meter.left()), (None, None));
        for second in 0..4_u32 {
            meter.set(f64::from(second), u64::from(second) * 1_000_000, 10_000_000);
        }
        assert_eq!(meter.rate(), Some(1_000_000.0));
        assert_eq!(meter.left(), Some(7));
        assert!((meter.part() - 0.3).abs() < 0.001);
        assert_eq!(
            meter.text(&Kit::english()),
            "3.0 MB / 10.0 MB  ·  1.0 MB/s  ·  7 s left"
        );
        meter.set(4.0, 0, 10_000_000);
        assert_eq!(meter.rate(), None, "another try begins anew");
    }
}

//! Messages that come and go by themselves.

use std::collections::VecDeque;

use egui::{Align2, Area, Context, Order, RichText};

use crate::limits::{TOAST_SECONDS, TOASTS};
use crate::text::Kit;
use crate::theme::{Palette, card};
use crate::widgets::Tone;

/// The toasts of one window.
#[derive(Debug, Clone, Default)]
pub struct Toasts {
    shown: VecDeque<(Tone, String, Option<f64>)>,
}

impl Toasts {
    /// Adds one; the oldest goes where there are too many.
    pub fn push(&mut self, tone: Tone, text: impl Into<String>) {
        while self.shown.len() >= TOASTS {
            self.shown.pop_front();
        }
        self.shown.push_back((tone, text.into(), None));
    }

    /// Draws them over everything else, at the lower right. Bad news stays until it is closed.
    pub fn show(&mut self, ctx: &Context) {
        if self.shown.is_empty() {
            return;
        }
        let now = ctx.input(|input| input.time);
        let kit = Kit::of(ctx);
        let mut next = f64::INFINITY;
        let mut closed = None;
        Area::new(egui::Id::unique("toasts"))
            .order(Order::Foreground)
            .anchor(Align2::RIGHT_BOTTOM, [-16.0, -16.0])
            .show(ctx, |ui| {
                for (index, (tone, text, until)) in self.shown.iter_mut().enumerate() {
                    let until = until.get_or_insert(match tone {
                        Tone::Bad => f64::INFINITY,
                        _ => now + TOAST_SECONDS,
                    });
                    next = next.min(*until);
                    let color = tone.color(Palette::of(ui.visuals()));
                    card(ui.visuals())
                        .shadow(ui.visuals().popup_shadow)
                        .show(ui, |ui| {
                            ui.set_max_width(360.0);
                            ui.horizontal_wrapped(|ui| {
                                ui.label(RichText::new(text.as_str()).color(color));
                                let close = ui.button(&kit.close);
                                if close.clicked() {
                                    closed = Some(index);
                                }
                            });
                        });
                }
            });
        if let Some(index) = closed {
            self.shown.remove(index);
        }
        self.shown
            .retain(|(_, _, until)| until.is_none_or(|until| until > now));
        if next.is_finite() {
            ctx.request_repaint_after(std::time::Duration::from_secs_f64((next - now).max(0.0) + 0.01));
        }
    }
}

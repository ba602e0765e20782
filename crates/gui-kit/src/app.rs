//! Opens a window.

use std::sync::Arc;

use eframe::{App, CreationContext, NativeOptions};
use egui::{Context, ViewportBuilder};

use crate::icon::{Mark, icon};
use crate::link::Wake;
use crate::theme;

/// What a window is before anything is drawn.
#[derive(Debug, Clone)]
pub struct Window {
    /// Its application id, for the desktop.
    pub id: &'static str,
    /// Its title.
    pub title: String,
    /// Its mark.
    pub mark: Mark,
    /// Its first size, in points.
    pub size: [f32; 2],
    /// What it cannot be made smaller than.
    pub min_size: [f32; 2],
}

/// Why no window can be shown.
#[derive(Debug, thiserror::Error)]
#[error("no window can be shown here: {0}; the same can be done on the command line, see --help")]
pub struct NoWindow(String);

/// Shows the window until it is closed.
///
/// # Errors
/// [`NoWindow`] where there is no display or it cannot draw.
pub fn run<A: App + 'static>(
    window: &Window,
    make: impl FnOnce(&CreationContext<'_>) -> std::io::Result<A> + 'static,
) -> Result<(), NoWindow> {
    let options = NativeOptions {
        viewport: ViewportBuilder::default()
            .with_app_id(window.id)
            .with_title(&window.title)
            .with_icon(icon(window.mark))
            .with_inner_size(window.size)
            .with_min_inner_size(window.min_size)
            .with_drag_and_drop(true),
        ..NativeOptions::default()
    };
    let make = move |context: &CreationContext<'_>| -> Result<Box<dyn App>, Box<dyn std::error::Error + Send + Sync>> {
        theme::install(&context.egui_ctx);
        Ok(Box::new(make(context)?))
    };
    eframe::run_native(window.id, options, Box::new(make)).map_err(|error| NoWindow(error.to_string()))
}

/// Wakes a window from another thread.
#[must_use]
pub fn wake(ctx: &Context) -> Wake {
    let ctx = ctx.clone();
    Arc::new(move || ctx.request_repaint())
}

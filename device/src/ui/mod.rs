//! The device's window: what runs, what is on the way, what happened. A client of the agent's control socket, in a
//! process of its own; closing it stops nothing.
//!
//! [`source`] brings the news, [`model`] keeps them, [`app`] draws: nothing that draws waits, locks or touches a disk.

pub mod app;
pub mod model;
mod notices;
mod overview;
mod pages;
mod parts;
pub mod source;
pub mod texts;
mod update;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use egui::{ThemePreference, ViewportCommand};
use gui_kit::app::{Window, run, wake};
use gui_kit::icon::Mark;
use gui_kit::launch::Launch;
use gui_kit::text::Texts;
use mtls::SystemClock;

use crate::layout::Layout;
use app::DeviceWindow;
use source::Source;
use texts::{ENGLISH, Words};

/// How the window is opened.
#[derive(Debug, Clone, Copy)]
pub struct Looks<'a> {
    /// A translation of its words.
    pub texts: Option<&'a Path>,
    /// Light, dark, or as the system.
    pub theme: ThemePreference,
    /// Over the whole screen, as on a panel on a wall.
    pub full_screen: bool,
}

/// Shows the window of the device in `dir` until it is closed; starts its agent where none runs.
///
/// # Errors
/// The texts cannot be used; there is no display.
pub fn show(dir: &Path, looks: Looks<'_>) -> anyhow::Result<()> {
    let words = Texts::<Words>::load(ENGLISH, looks.texts)?;
    let layout = Layout::new(dir).context("the current folder is gone")?;
    let typed = dir.display().to_string();
    let run_agent = ["run", "--dir"].map(Into::into).into_iter();
    let log = layout.root().join("agent.log");
    let launch = Launch::own(run_agent.chain([layout.root().as_os_str().to_owned()]), &log)
        .context("cannot find this program's own file")?;
    let window = Window {
        id: "drover-device",
        title: words.own.title.clone(),
        mark: Mark::Device,
        size: [960.0, 600.0],
        min_size: [240.0, 160.0],
    };
    let Looks {
        theme, full_screen, ..
    } = looks;
    run(&window, move |context| {
        let ctx = &context.egui_ctx;
        words.install(ctx);
        ctx.set_theme(theme);
        if full_screen {
            ctx.send_viewport_cmd(ViewportCommand::Fullscreen(true));
        }
        let source = Source::open(layout, Some(launch), wake(ctx))?;
        Ok(DeviceWindow::new(source, words, Arc::new(SystemClock), typed))
    })?;
    Ok(())
}

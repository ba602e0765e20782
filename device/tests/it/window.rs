//! The window over the real agent: found by role and label, as a person or a screen reader finds it.

use std::sync::Arc;

use device::agent::Agent;
use device::ui::app::DeviceWindow;
use device::ui::source::Source;
use device::ui::texts::{ENGLISH, Words};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use gui_kit::harness::Bell;
use gui_kit::launch::Launch;
use gui_kit::text::Texts;
use gui_kit::theme;
use mtls::SystemClock;
use protocol::Outcome;
use release::Release;

use crate::repository::{good, script};
use crate::site::Site;

const DESKTOP: [f32; 2] = [960.0, 600.0];
const PANEL: [f32; 2] = [480.0, 320.0];

/// A window and what rings when it should draw.
struct Seen {
    harness: Harness<'static, DeviceWindow>,
    bell: Bell,
}

impl Seen {
    fn open(site: &Site, size: [f32; 2]) -> Self {
        Self::open_with(site, size, 1.0, None)
    }

    fn open_with(site: &Site, size: [f32; 2], scale: f32, launch: Option<Launch>) -> Self {
        let bell = Bell::default();
        let words = Texts::<Words>::load(ENGLISH, None).unwrap();
        let (layout, wake) = (site.layout(), bell.wake());
        let dir = layout.root().display().to_string();
        let harness = Harness::builder()
            .with_size(size)
            .with_pixels_per_point(scale)
            .build_eframe(move |context| {
                theme::install(&context.egui_ctx);
                words.install(&context.egui_ctx);
                let source = Source::open(layout, launch, wake).unwrap();
                DeviceWindow::new(source, words, Arc::new(SystemClock), dir)
            });
        Self { harness, bell }
    }

    fn shows(&mut self, text: &str) {
        self.bell.wait_for(&mut self.harness, text);
    }

    fn gone(&mut self, text: &str) {
        self.bell.wait_gone(&mut self.harness, text);
    }

    /// The label, exactly.
    fn shows_exactly(&mut self, text: &str) {
        self.bell.wait(&mut self.harness, text, |harness| {
            harness.query_all_by_label(text).next().is_some()
        });
    }

    fn press(&mut self, button: &str) {
        self.shows_exactly(button);
        self.harness.get_by_label(button).click();
        self.harness.step();
        self.harness.step();
    }

    fn has(&self, text: &str) -> bool {
        self.harness.query_all_by_label_contains(text).next().is_some()
    }
}

/// A device on which 1.1.0 runs, and 1.0.0 ran before.
async fn with_two_versions(site: &Site) -> (Agent, Release) {
    let (agent, _) = site.with_first_version().await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    (agent, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_shown_with_its_running_time_and_history() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut seen = Seen::open(&site, DESKTOP);
    seen.shows_exactly("1.0.0");
    seen.shows_exactly("thermostat");
    seen.shows("Running time");
    assert!(!seen.has("Roll back"), "there is nothing to go back to");
    seen.press("History");
    seen.shows("before: nothing");
    seen.shows_exactly("Installed");
    seen.press("Device");
    seen.shows_exactly("pump-7");
    seen.shows_exactly("plant");
    seen.shows_exactly("Connected");
    seen.press("Events");
    for message in [
        "Connect server successful",
        "Authenticate success!",
        "Download thermostat 1.0.0 successful!",
        "File verification success",
        "Prepare to install thermostat 1.0.0",
        "thermostat 1.0.0 install successful!",
    ] {
        seen.shows_exactly(message);
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_back_is_asked_for_can_be_cancelled_and_is_released_again() {
    let site = Site::new().await;
    let (agent, _) = with_two_versions(&site).await;
    let mut seen = Seen::open(&site, PANEL);
    seen.press("Roll back to 1.0.0");
    seen.shows("Roll thermostat back to 1.0.0?");
    seen.press("Cancel");
    seen.gone("Roll thermostat back");
    assert_eq!(site.data("running"), "1.1.0", "cancelled is cancelled");

    seen.press("Roll back to 1.0.0");
    seen.shows("Roll thermostat back to 1.0.0?");
    seen.harness
        .get_all_by_label("Roll back to 1.0.0")
        .last()
        .unwrap()
        .click();
    seen.harness.step();
    seen.shows("thermostat runs version 1.0.0 again");
    seen.shows("Updates of thermostat are held");
    seen.shows_exactly("1.0.0");
    assert_eq!(site.data("running"), "1.0.0");

    seen.press("Allow updates");
    seen.shows("thermostat may be updated again");
    seen.shows_exactly("1.1.0");
    seen.gone("are held");
    agent.stop().await;
}

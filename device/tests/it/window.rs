//! The window over the real agent: found by role and label, as a person or a screen reader finds it.

use std::sync::Arc;

use device::agent::Agent;
use device::ui::app::DeviceWindow;
use device::ui::source::Source;
use device::ui::texts::{ENGLISH, Words};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use gui_kit::harness::Bell;
use gui_kit::launch::Launch;
use gui_kit::text::Texts;
use gui_kit::theme;
use mtls::SystemClock;
use protocol::Outcome;
use release::Release;

use crate::repository::{good, script, sick};
use crate::site::{Site, wait_for};

const DESKTOP: [f32; 2] = [960.0, 600.0];
const PANEL: [f32; 2] = [480.0, 320.0];

/// A window and what rings when it should draw.
struct Seen {
    harness: Harness<'static, DeviceWindow>,
    bell: Bell,
    /// What was last put on the clipboard.
    copied: Option<String>,
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
        Self {
            harness,
            bell,
            copied: None,
        }
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
        for _ in 0..3 {
            self.harness.step();
            for command in &self.harness.output().platform_output.commands {
                if let egui::OutputCommand::CopyText(text) = command {
                    self.copied = Some(text.clone());
                }
            }
        }
    }

    /// Presses the button of the question that has come up, which is drawn last.
    fn confirm(&mut self, button: &str) {
        let buttons = self.harness.get_all_by_label(button);
        buttons.last().unwrap().click();
        self.harness.step();
        self.harness.step();
    }

    fn key(&mut self, key: egui::Key) {
        self.harness.key_press(key);
        self.harness.step();
        self.harness.step();
    }

    /// Presses Tab until the button has the focus.
    fn tab_to(&mut self, button: &str) {
        self.shows_exactly(button);
        for _ in 0..40 {
            if self.harness.get_by_label(button).is_focused() {
                return;
            }
            self.key(egui::Key::Tab);
        }
        panic!("{button} cannot be reached by Tab");
    }

    fn is_enabled(&self, button: &str) -> bool {
        let button = self.harness.query_all_by_label_contains(button).next();
        button.is_some_and(|node| !node.accesskit_node().is_disabled())
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_seen_from_download_to_the_new_version() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut seen = Seen::open(&site, PANEL);
    seen.shows_exactly("1.0.0");
    // Its download is cut at the half and goes on a second later: time enough to be seen.
    let mut program = good("1.1.0");
    program.extend(std::iter::repeat_n(b'#', 2 << 20));
    *site.manager.break_after.lock().unwrap() = Some(1 << 20);
    let mut second = script("1.1.0", 2);
    second.description = Some("Warmer, and says so.".into());
    second.vendor = Some("Hearth Works".into());
    second.probation_seconds = 1;
    site.publish(&second, &program, Some("1.0.0"));
    seen.shows("Downloading 1.1.0");
    seen.shows("Download of thermostat 1.1.0");
    seen.shows(" / 2.1 MB");
    assert!(!seen.is_enabled("Roll back"), "not while it is updated");
    // The contents are cleared for a moment and come back with the new version.
    seen.shows("Restarting thermostat");
    assert!(!seen.has("Running time"), "cleared");
    seen.shows_exactly("version 1.1.0");
    seen.gone("Restarting thermostat");
    seen.shows_exactly("1.1.0");
    seen.shows_exactly("Running");
    seen.press("Update");
    seen.shows("thermostat 1.1.0 runs since");
    seen.shows_exactly("Warmer, and says so.");
    seen.shows("by Hearth Works");
    seen.shows("2.1 MB in ");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_fails_is_shown_with_its_reason_and_may_be_tried_again() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let bad = script("1.2.0", 3);
    site.publish(&bad, &sick("1.2.0"), Some("1.0.0"));
    site.ends_with(&bad, Outcome::RolledBack).await;
    site.manager.orders.lock().unwrap().clear();
    let mut seen = Seen::open(&site, DESKTOP);
    seen.shows("thermostat 1.2.0 failed here");
    seen.shows("the sensor does not answer");
    seen.press("History");
    seen.shows_exactly("Rolled back");
    seen.shows("the sensor does not answer");
    seen.press("Events");
    seen.shows("thermostat 1.2.0 install failure!");
    seen.press("Overview");
    seen.press("Allow updates");
    seen.shows("may be updated again");
    seen.gone("thermostat 1.2.0 failed here");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_waits_says_for_what_and_is_installed_on_a_word() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let door = site.layout().interlocks().join("door");
    std::fs::write(&door, "the night shift").unwrap();
    let mut second = script("1.1.0", 2);
    second.policy.urgency = release::Urgency::ByHand;
    second.policy.interlock = Some("door".into());
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let mut seen = Seen::open(&site, DESKTOP);
    seen.shows("thermostat 1.1.0 is here and waits");
    seen.shows("Held by the night shift");
    seen.press("Install now");
    seen.shows("thermostat is not installed now");
    seen.press("Close");
    std::fs::remove_file(door).unwrap();
    seen.gone("Held by the night shift");
    seen.press("Install now");
    site.ends_with(&second, Outcome::Committed).await;
    seen.gone("is here and waits");
    seen.shows_exactly("1.1.0");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_is_told_and_found_again() {
    let site = Site::new().await;
    let (agent, _) = with_two_versions(&site).await;
    let mut seen = Seen::open(&site, PANEL);
    seen.shows_exactly("1.1.0");
    agent.cut_off().await;
    seen.shows("the device agent does not answer");
    seen.shows("device run --dir");
    seen.shows_exactly("1.1.0");
    assert!(!seen.is_enabled("Roll back"), "nobody is there to do it");
    let agent = site.agent().await;
    seen.press("Try now");
    seen.gone("does not answer");
    seen.shows_exactly("Running");
    assert_eq!(site.data("running"), "1.1.0");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_roll_back_says_why() {
    let site = Site::new().await;
    let (agent, _) = with_two_versions(&site).await;
    let mut seen = Seen::open(&site, DESKTOP);
    seen.press("Roll back to 1.0.0");
    seen.shows("Roll thermostat back to 1.0.0?");
    // Somebody else was faster.
    let mut client = control::Client::connect(&site.layout().control(), "device")
        .await
        .unwrap();
    let back = protocol::control::DeviceRequest::Rollback {
        component: crate::site::component(),
    };
    client.call::<()>(&back).await.unwrap();
    seen.confirm("Roll back to 1.0.0");
    seen.shows("thermostat could not be rolled back");
    seen.shows("has no previous version to go back to");
    seen.press("Close");
    seen.gone("could not be rolled back");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_a_site_says_what_to_do_and_goes_on_when_it_has_joined() {
    let site = Site::new().await;
    let launch = Launch {
        program: env!("CARGO_BIN_EXE_device").into(),
        arguments: ["run".into(), "--dir".into(), site.layout().root().into()].to_vec(),
        log: site.dir.path().join("agent.log"),
    };
    let mut seen = Seen::open_with(&site, PANEL, 1.0, Some(launch));
    seen.shows("has not joined a site yet");
    seen.shows("device enroll --dir");
    seen.press("Copy");
    let command = seen.copied.take().unwrap();
    assert!(command.starts_with("device enroll --dir ") && command.ends_with(" --root root.json"));
    site.enrolled().await;
    seen.gone("has not joined a site yet");
    // The window started the agent itself, as a process of its own.
    seen.shows_exactly("No application is running!");
    seen.press("Device");
    seen.shows_exactly("Connected");
    let agent = agent_process(&site);
    drop(seen);
    let mut client = control::Client::connect(&site.layout().control(), "device")
        .await
        .unwrap();
    let status: protocol::control::DeviceStatus = client
        .call(&protocol::control::DeviceRequest::Status)
        .await
        .unwrap();
    assert_eq!(
        status.name.to_string(),
        "pump-7",
        "closing the window stops nothing"
    );
    rustix::process::kill_process(agent, rustix::process::Signal::TERM).unwrap();
    wait_for("the agent's end", || agent_of(&site).is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_away_and_damaged_trust_are_told_with_what_to_do() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    agent.stop().await;
    *site.manager.down.lock().unwrap() = true;
    for entry in std::fs::read_dir(site.layout().trust()).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::write(entry.path(), b"not a record").unwrap();
        }
    }
    let agent = site.agent().await;
    let mut seen = Seen::open(&site, PANEL);
    seen.shows("What this device trusts is damaged");
    seen.shows("device repair-trust --dir");
    seen.shows("is not reached");
    seen.shows_exactly("1.0.0");
    seen.press("Device");
    seen.shows_exactly("Not connected");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_about_to_end_is_told() {
    let site = Site::new().await;
    *site.manager.device_life.lock().unwrap() = 3 * 86_400;
    site.enrolled().await;
    let agent = site.agent().await;
    let mut seen = Seen::open(&site, PANEL);
    seen.shows("The device's certificate ends 20");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_reached_by_keyboard_alone() {
    let site = Site::new().await;
    let (agent, _) = with_two_versions(&site).await;
    let mut seen = Seen::open(&site, PANEL);
    seen.shows_exactly("1.1.0");
    seen.tab_to("History");
    seen.key(egui::Key::Enter);
    seen.shows("before: 1.0.0");
    seen.tab_to("Overview");
    seen.key(egui::Key::Space);
    seen.tab_to("Roll back to 1.0.0");
    seen.key(egui::Key::Enter);
    seen.shows("Roll thermostat back");
    seen.key(egui::Key::Escape);
    seen.gone("Roll thermostat back");
    assert_eq!(site.data("running"), "1.1.0");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_cut_off_on_a_small_panel_or_at_twice_the_size() {
    let site = Site::new().await;
    let (agent, _) = with_two_versions(&site).await;
    for (size, scale) in [(PANEL, 1.0), (PANEL, 2.0), (DESKTOP, 1.0), (DESKTOP, 2.0)] {
        let mut seen = Seen::open_with(&site, size, scale, None);
        seen.shows_exactly("1.1.0");
        for page in ["Overview", "Update", "History", "Events", "Device"] {
            seen.press(page);
            seen.harness.step();
            let root = seen.harness.root();
            for node in root.children_recursive() {
                if node.accesskit_node().bounding_box().is_none() {
                    continue;
                }
                let (role, rect) = (node.accesskit_node().role(), node.rect());
                let name = node.accesskit_node().label().unwrap_or_default();
                assert!(
                    rect.left() >= -0.5 && rect.right() <= size[0] + 0.5,
                    "{page} at {size:?}, {scale}: {role:?} {name:?} at {rect:?}"
                );
                let is_button = role == egui::accesskit::Role::Button;
                if is_button && size == PANEL {
                    let least = if page == "Events" { 24.0 } else { 34.0 };
                    assert!(
                        rect.height() >= least,
                        "{page}: {name:?} is too low for a finger: {rect:?}"
                    );
                }
            }
        }
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_window_draws_once_a_second_at_most() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut seen = Seen::open(&site, PANEL);
    seen.shows_exactly("1.0.0");
    seen.shows_exactly("Running");
    // The running time changes once a second; nothing else may ask for a frame.
    for _ in 0..20 {
        seen.harness.step();
    }
    let output = seen.harness.output();
    let delay = output.viewport_output[&egui::ViewportId::ROOT].repaint_delay;
    assert!(delay >= std::time::Duration::from_secs(1), "{delay:?}");
    agent.stop().await;
}

/// The process that the window has started.
fn agent_of(site: &Site) -> Option<rustix::process::Pid> {
    let dir = site.layout().root().display().to_string();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let runs = line.split('\0').collect::<Vec<_>>();
        let is_agent = runs.get(1..4) == Some(&["run", "--dir", dir.as_str()]);
        is_agent.then(|| rustix::process::Pid::from_raw(pid))?
    })
}

fn agent_process(site: &Site) -> rustix::process::Pid {
    agent_of(site).expect("an agent that the window has started")
}

//! The three windows on a real screen with a window manager, by mouse and keyboard: from the click on Upload to the
//! new version on the device.
//!
//! The programs are built with eframe's inspection for this (`scripts/check` does so), beside the others in
//! `inspection/`: a test finds a button by its name and asks the window for a picture. `DROVER_PICTURES=DIR` keeps the
//! pictures.

mod inspect;
mod screen;

use std::path::{Path, PathBuf};

use e2e::packages::thermostat;
use e2e::process::{bin_dir, eventually};
use e2e::site::{PASSPHRASE, PASSWORD};
use e2e::{Agent, Site, SiteOptions};
use rustix::process::{Pid, Signal, kill_process};

use screen::Screen;

/// A program that is built for these tests, if it is.
fn with_inspection(name: &str) -> Option<PathBuf> {
    let path = bin_dir().join("inspection").join(name);
    path.exists().then_some(path)
}

/// A screen, where there can be one. `DROVER_NO_SCREEN` says that the machine is known to have none.
async fn screen() -> Option<Screen> {
    match Screen::start().await {
        Ok(screen) => return Some(screen),
        Err(why) if std::env::var_os("DROVER_NO_SCREEN").is_some() => eprintln!("skipped: {why}"),
        Err(why) => e2e::skip(&why),
    }
    None
}

/// Processes whose command line names something in this folder.
fn processes_in(dir: &Path) -> Vec<(Pid, String)> {
    let mark = dir.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&mark) && pid != rustix::process::getpid() {
            found.push((pid, line));
        }
    }
    found
}

/// The services that windows have started live on when the windows are closed: they end with the test.
struct Services(PathBuf);

impl Services {
    /// The one service with these words on its command line.
    fn pid(&self, words: &str) -> Pid {
        let found: Vec<_> = processes_in(&self.0)
            .into_iter()
            .filter(|(_, line)| line.contains(words))
            .collect();
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        found[0].0
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for _ in 0..100 {
            let left = processes_in(&self.0);
            if left.is_empty() {
                return;
            }
            for (pid, _) in left {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[tokio::test]
async fn a_click_on_upload_reaches_the_device_through_three_windows() {
    let (Some(author), Some(manager), Some(device)) = (
        with_inspection("admin-gui"),
        with_inspection("manager"),
        with_inspection("device"),
    ) else {
        e2e::skip("the programs are not built with inspection, see scripts/check");
        return;
    };
    let Some(screen) = screen().await else { return };
    let mut site = Site::create(SiteOptions::default()).await;
    let services = Services(site.dir.clone());
    site.start_repository().await;

    // The window starts the gateway, because none runs.
    let mut gateway = screen.open("gateway", &manager, &site.path("manager")).await;
    gateway.shows("plant · gateway").await;
    gateway.press("Devices").await;
    gateway.shows("No devices yet").await;
    gateway.picture("gateway-1-no-devices").await;
    // What no keyboard here has is refused in words, and nothing is added.
    gateway.fill("Device", "").await;
    gateway.paste("Pumpe ß 🙂").await;
    gateway.fill("Password", PASSWORD).await;
    gateway.press("Add").await;
    gateway.shows("name").await;
    gateway.picture("gateway-2-bad-name").await;
    gateway.shows("No devices yet").await;
    gateway.fill("Device", "pump-1").await;
    gateway.fill("Password", PASSWORD).await;
    gateway.press("Add").await;
    gateway.shows("Code for pump-1").await;
    gateway.picture("gateway-2-code").await;
    let code = gateway
        .find("the code", |node| {
            node.role == "multilineTextInput" && node.label == "Code"
        })
        .await
        .value;
    e2e::secrets::learn_codes(&code);
    gateway.press("Done").await;
    gateway.shows("pump-1: Has not joined yet").await;

    // A device that has not joined says how; the window then starts the agent.
    let agent = Agent::new(site.path("devices/pump-1"), "pump-1");
    let mut panel = screen.open("device", &device, &agent.dir).await;
    panel.resize(480, 320).await;
    panel.shows("This device has not joined a site yet").await;
    panel.picture("device-1-not-joined").await;
    let _ = agent.enroll(&code, &site.path("author/root.json")).await.ok();
    panel.shows("No application is running!").await;
    gateway.shows("pump-1: Nothing installed").await;

    // A release goes through all of them, from the click on Upload.
    let work = tempfile::tempdir().unwrap();
    let mut desk = screen.open("author", &author, &site.path("author")).await;
    desk.shows("plant · author").await;
    desk.shows("Nothing is published yet").await;
    desk.picture("author-1-empty").await;
    desk.press("Upload").await;
    desk.shows("Upload: choose a file or a folder").await;
    desk.picture("author-2-chooser").await;
    let first = thermostat(work.path(), "1.0");
    desk.fill("Path", first.to_str().unwrap()).await;
    desk.key("Return").await;
    desk.press("Use this folder").await;
    desk.shows("What was understood").await;
    desk.picture("author-3-understood").await;
    desk.fill("Passphrase", PASSPHRASE).await;
    desk.press("Sign and publish").await;
    desk.shows("Devices that are connected get it now").await;
    desk.picture("author-4-published").await;
    panel
        .find("1.0.0", |node| node.says("1.0.0") && node.role == "label")
        .await;
    panel.shows("Running time").await;
    panel.picture("device-2-running").await;
    gateway.press("Events").await;
    for message in [
        protocol::messages::DOWNLOADED.with("thermostat_1.0.0"),
        protocol::messages::VERIFIED.with("thermostat_1.0.0"),
    ] {
        gateway.shows(&message).await;
    }
    gateway.shows("the new version stays").await;
    gateway.picture("gateway-3-events").await;

    // The service behind the window dies: the window says so, starts nothing by itself in vain, and goes on.
    let killed = services.pid("manager run");
    kill_process(killed, Signal::KILL).unwrap();
    gateway.shows("does not answer").await;
    // Its socket is free when it is gone, which on a loaded machine is a little after its connections have ended.
    let running = || async { processes_in(&services.0).iter().any(|(pid, _)| *pid == killed) };
    eventually("the killed gateway is gone", running, |running| !running).await;
    gateway.picture("gateway-4-lost").await;
    site.start_manager().await;
    gateway.gone("does not answer").await;

    // The next version: the device's window shows the restart and then the new version.
    desk.press("Upload another").await;
    let second = thermostat(work.path(), "1.1");
    desk.fill("Path", second.to_str().unwrap()).await;
    desk.key("Return").await;
    desk.press("Use this folder").await;
    desk.shows("1.0.0, released").await;
    desk.fill("Passphrase", PASSPHRASE).await;
    desk.key("Return").await;
    desk.shows("Devices that are connected get it now").await;
    panel
        .find("1.1.0", |node| node.says("1.1.0") && node.role == "label")
        .await;
    panel.picture("device-3-new-version").await;

    // The author sees what became of it.
    for (page, text) in [
        ("Devices", "pump-1: thermostat 1.1.0"),
        ("Latency", "7 Actual total"),
        ("History", "2 of 2 entries"),
        ("Keys", "Where the keys are"),
        ("Events", "Upload thermostat_1.1.0.tar successfully!"),
        ("Overview", "Publishing"),
    ] {
        desk.press(page).await;
        if page != "Overview" {
            desk.shows(text).await;
        }
        desk.picture(&format!("author-5-{page}")).await;
    }
    desk.close().await;

    // A window that is closed stops nothing.
    gateway.close().await;
    panel.close().await;
    eventually(
        "the device is back",
        || site.manager_status(),
        |status| status.connected == 1,
    )
    .await;
    assert_eq!(agent.shows("thermostat").await, "1.1.0 running");
}

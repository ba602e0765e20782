//! The window over a real desk: every page, button, prompt and way to fail, found by role and label.

use std::path::Path;
use std::sync::Arc;

use admin_gui::ui::{AuthorWindow, Clock, ENGLISH};
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use gui_kit::harness::{Bell, labels};
use gui_kit::text::Texts;
use protocol::control::{AuthorRequest, FleetPage};
use protocol::messages;
use tuf::UnixTime;

use crate::fake::Fake;
use crate::proxy::Proxy;
use crate::service::{Running, file};
use crate::site::{PASSPHRASE, Site, manifest};

/// A window and what rings when it should be drawn.
pub struct Seen {
    pub window: Harness<'static, AuthorWindow>,
    pub bell: Bell,
}

impl Seen {
    pub fn open(socket: &Path) -> Self {
        Self::open_as(socket, [1000.0, 720.0], 1.0)
    }

    pub fn open_as(socket: &Path, size: [f32; 2], scale: f32) -> Self {
        let bell = Bell::default();
        let texts = Texts::load(ENGLISH, None).unwrap();
        let clock: Clock = Arc::new(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            UnixTime(now.unwrap().as_secs().try_into().unwrap())
        });
        let start = std::env::temp_dir();
        let app = AuthorWindow::open(socket, None, texts, clock, &start, bell.wake()).unwrap();
        let window = Harness::builder()
            .with_size(size)
            .with_pixels_per_point(scale)
            .allow_missing_glyphs()
            .build_eframe(|context| {
                gui_kit::theme::install(&context.egui_ctx);
                app
            });
        Self { window, bell }
    }

    pub fn shows(&mut self, text: &str) {
        self.bell.wait_for(&mut self.window, text);
    }

    pub fn gone(&mut self, text: &str) {
        self.bell.wait_gone(&mut self.window, text);
    }

    pub fn has(&self, text: &str) -> bool {
        self.window.query_all_by_label_contains(text).next().is_some()
    }

    pub fn settle(&mut self) {
        self.window.run_steps(6);
    }

    pub fn button<'a>(&'a self, name: &'a str) -> egui_kittest::Node<'a> {
        let mut found = self.window.query_all_by_role_and_label(Role::Button, name);
        let last = found.next_back();
        last.unwrap_or_else(|| panic!("no button {name}:\n{}", labels(&self.window)))
    }

    pub fn press(&mut self, button: &str) {
        self.settle();
        self.button(button).scroll_to_me();
        self.settle();
        self.button(button).click();
        self.settle();
    }

    pub fn field<'a>(&'a self, name: &'a str) -> egui_kittest::Node<'a> {
        let mut fields = self.window.query_all_by_label(name).filter(|node| {
            let role = node.accesskit_node().role();
            matches!(role, Role::TextInput | Role::PasswordInput)
        });
        fields
            .next_back()
            .unwrap_or_else(|| panic!("no field {name}:\n{}", labels(&self.window)))
    }

    pub fn fill(&mut self, name: &str, text: &str) {
        self.settle();
        self.field(name).focus();
        self.settle();
        self.window
            .key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::A);
        self.window.step();
        self.window.key_press(egui::Key::Delete);
        self.window.step();
        if !text.is_empty() {
            self.field(name).type_text(text);
        }
        self.settle();
    }

    /// Upload, the chooser, and the path of a file.
    pub fn choose(&mut self, path: &Path) {
        self.press("Upload");
        self.type_path(path);
    }

    /// The same for a folder, which opens first.
    pub fn type_folder(&mut self, path: &Path) {
        self.type_path(path);
        self.shows("update.toml");
        self.press("Use this folder");
    }

    pub fn type_path(&mut self, path: &Path) {
        self.fill("Path", path.to_str().unwrap());
        self.window.key_press(egui::Key::Enter);
        self.settle();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_uploaded_and_seen_in_record_and_overview() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    seen.shows("Repository: answers");
    assert!(
        seen.has("NOTE: Please upload the newer version than current!"),
        "R-004-23"
    );
    seen.choose(&site.script("heater_1.0", 3_000));
    seen.shows("What was understood");
    for text in ["heater", "1.0.0", "nothing: it is the first", "SHA-256"] {
        assert!(seen.has(text), "{text}:\n{}", labels(&seen.window));
    }
    assert!(fake.kept().published.is_empty(), "nothing is signed by looking");

    // No passphrase, then a wrong one.
    seen.press("Sign and publish");
    seen.shows("The passphrase is missing");
    seen.fill("Passphrase", "not the right one");
    assert!(
        !labels(&seen.window).contains("not the right one"),
        "it is hidden"
    );
    seen.press("Sign and publish");
    seen.shows("This is not the passphrase");
    assert!(fake.kept().published.is_empty());

    seen.fill("Passphrase", PASSPHRASE);
    seen.press("Sign and publish");
    seen.shows("Devices that are connected get it now");
    seen.shows(&messages::UPLOADED.with("heater_1.0.0"));
    assert_eq!(fake.kept().published.len(), 1);
    // The passing note's, then the page's.
    seen.press("Close");
    seen.press("Close");
    seen.shows("Current");
    seen.shows("1.0.0");
    assert!(!seen.has("Nothing is published yet"));

    seen.press("History");
    seen.shows("1 of 1 entries");
    let row = seen
        .window
        .query_all_by_label_contains("heater 1.0.0 published")
        .next();
    row.expect("the entry").click();
    seen.settle();
    seen.shows("snapshot");
    seen.press("Copy: SHA-256");
    seen.press("Events");
    seen.shows("signature success!");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_or_is_older_is_refused_and_the_chooser_opens_again() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut watch = desk.watch().await;
    let first = site.script("heater_1.1", 100);
    let job = desk.publish(file(&first)).await.unwrap();
    let _ = watch.end(job.id).await;

    let mut seen = Seen::open(&desk.socket);
    seen.shows("1.1.0");
    seen.choose(&first);
    seen.shows(messages::FILE_EXISTED.text);
    assert!(
        !seen.has(messages::OLDER_VERSION.text),
        "it is the same, not older"
    );
    assert!(!seen.has("Sign and publish"), "nothing can be signed");
    seen.press("Choose another");
    seen.type_path(&site.script("heater_1.0", 100));
    seen.shows(messages::OLDER_VERSION.text);
    seen.shows("1.1.0");
    assert!(labels(&seen.window).contains("1.0.0"), "both versions are named");
    seen.press("Choose another");
    seen.window.key_press(egui::Key::Escape);
    seen.settle();
    seen.shows("Applications");
    assert_eq!(fake.kept().published.len(), 1);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_kept_open_for_a_while_and_locked_again() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    seen.choose(&site.script("heater_1.0", 100));
    seen.shows("What was understood");
    seen.fill("Passphrase", PASSPHRASE);
    seen.window
        .get_by_role_and_label(Role::CheckBox, "Keep the key open for 15 minutes")
        .click();
    seen.settle();
    seen.press("Sign and publish");
    seen.shows("Devices that are connected get it now");
    seen.shows("Key open");
    seen.press("See devices");
    seen.shows("No device has reported yet");
    seen.press("Overview");
    seen.choose(&site.script("heater_1.1", 100));
    seen.shows("no passphrase is needed");
    seen.press("Sign and publish");
    seen.shows("Devices that are connected get it now");
    assert_eq!(fake.kept().published.len(), 2);
    seen.press("Keys");
    seen.press("Lock now");
    seen.shows("locked");
    seen.gone("Key open");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_vanishes_or_may_not_be_read_says_what_to_do() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    // Between the look and the signature.
    let path = site.script("heater_1.0", 100);
    seen.choose(&path);
    seen.shows("What was understood");
    std::fs::remove_file(&path).unwrap();
    seen.fill("Passphrase", PASSPHRASE);
    seen.press("Sign and publish");
    seen.shows("was not published");
    assert!(seen.has("Nothing of it is visible"), "{}", labels(&seen.window));
    // And before it.
    seen.press("Try again");
    seen.shows("This cannot be published");
    assert!(seen.has("choose it again"), "{}", labels(&seen.window));
    seen.press("Close");
    seen.shows("Applications");
    assert!(fake.kept().published.is_empty());
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_without_a_version_is_named_by_hand() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    seen.choose(&site.script("run.sh", 100));
    seen.shows("Say it yourself");
    assert!(!seen.has("Sign and publish"));
    seen.fill("App Name", "Pumpe ß 🙂");
    seen.fill("Version", "1.0");
    seen.press("Check again");
    seen.shows("This cannot be published");
    seen.press("Choose another");
    seen.type_path(&site.script("run.sh", 100));
    seen.shows("Say it yourself");
    seen.fill("App Name", "heater");
    seen.fill("Version", "1.0");
    seen.press("Check again");
    seen.shows("Sign and publish");
    desk.stop().await;
}

/// A device program that does what the test wants of it.
fn device(site: &Site, script: &str) -> std::path::PathBuf {
    let path = site.temp.path().join("device-program");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).unwrap();
    path
}

/// Offered before anything is signed; what it found is shown line by line, and nothing is published by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_is_offered_before_the_signature() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let answer = r#"echo '{"result":"failed","ended":[],"failing":["heater"],"connection":""}'"#;
    let program = device(&site, answer);
    let desk = Running::start(&site.author(), Some(&fake.url), |setup| {
        setup.device = Some(program.clone());
    })
    .await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    seen.press("Upload");
    seen.type_folder(&site.folder("new", &manifest("1.1")));
    seen.shows("Sign and publish");
    assert!(seen.has("Tries the whole update on this machine"));
    seen.press("Rehearse …");
    seen.shows("choose the package that devices run now");
    // Back without a choice: the way to sign is as it was.
    seen.press("Cancel");
    seen.shows("Sign and publish");
    seen.press("Rehearse …");
    seen.type_folder(&site.folder("old", &manifest("1.0")));
    seen.shows("install 1.0.0: heater does not run");
    seen.shows("The rehearsal found something");
    assert!(seen.has("Sign and publish"), "who is told may decide");
    // What is no older version of it is said too.
    seen.press("Rehearse again …");
    let other = manifest("1.0").replace("heater", "cooler");
    seen.type_folder(&site.folder("other", &other));
    seen.shows("cannot be rehearsed: it is cooler, not heater");
    assert!(fake.kept().published.is_empty(), "nothing was signed");
    desk.stop().await;
}

/// One that lasts is ended by its person; nothing of it is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_is_cancelled() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let program = device(&site, "exec sleep 1000");
    let desk = Running::start(&site.author(), Some(&fake.url), |setup| {
        setup.device = Some(program.clone());
    })
    .await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    seen.press("Upload");
    seen.type_folder(&site.folder("new", &manifest("1.1")));
    seen.shows("Sign and publish");
    seen.press("Rehearse …");
    seen.type_folder(&site.folder("old", &manifest("1.0")));
    seen.shows("Rehearsing on this machine");
    // The first of the two is the rehearsal's.
    let cancel = seen
        .window
        .query_all_by_role_and_label(Role::Button, "Cancel")
        .next();
    cancel.unwrap().click();
    seen.settle();
    seen.shows("The rehearsal was ended");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_followed_and_cancelled_without_a_trace() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    // The upload lasts until it is ended.
    let narrow = Proxy::that_stalls(fake.addr, 1_000_000).await;
    let desk = Running::start(&site.author(), Some(&narrow.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    seen.choose(&site.script("heater_1.0", 4_000_000));
    seen.shows("What was understood");
    seen.fill("Passphrase", PASSPHRASE);
    seen.press("Sign and publish");
    seen.shows("Publishing heater 1.0.0");
    seen.shows("Uploading");
    // A second window sees the same.
    let mut other = Seen::open(&desk.socket);
    other.shows("Publishing heater 1.0.0");
    // A window that closes stops nothing.
    drop(other);
    seen.press("Cancel");
    seen.shows("heater 1.0.0 was cancelled");
    assert!(fake.kept().published.is_empty());
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_away_is_told_and_asked_again() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some("https://127.0.0.1:9"), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Please look at the repository");
    seen.shows("Repository: does not answer");
    seen.press("Refresh");
    seen.shows("Please look at the repository");
    drop(fake);
    desk.stop().await;
    // The service ends: what is shown is from before, and nothing pretends otherwise.
    seen.shows("the author's desk does not answer");
    seen.press("Try now");
    seen.shows("the author's desk does not answer");
    // With or without a press: it is back as soon as the service is.
    let desk = Running::start(&site.author(), Some("https://127.0.0.1:9"), |_| {}).await;
    seen.gone("the author's desk does not answer");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_taken_back_after_a_question_with_a_reason() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut watch = desk.watch().await;
    for name in ["heater_1.0", "heater_1.1"] {
        let job = desk.publish(file(&site.script(name, 100))).await.unwrap();
        let _ = watch.end(job.id).await;
    }
    let mut seen = Seen::open(&desk.socket);
    seen.shows("1.1.0");
    seen.press("Withdraw …");
    seen.shows("Take heater 1.1.0 back?");
    seen.fill("Passphrase", PASSPHRASE);
    seen.press("Withdraw");
    seen.shows("A reason is missing");
    seen.fill("Reason, for devices and operators to read", "fails on model B");
    seen.press("Withdraw");
    seen.gone("Take heater 1.1.0 back?");
    seen.shows("Withdrawn");
    seen.press("Keys");
    seen.press("Renew …");
    seen.shows("Sign again with a later end?");
    seen.fill("Passphrase", "wrong as can be");
    seen.press("Renew");
    seen.shows("This is not the passphrase");
    seen.fill("Passphrase", PASSPHRASE);
    seen.press("Renew");
    seen.gone("Sign again with a later end?");
    seen.press("History");
    seen.shows("4 of 4 entries");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_a_site() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new");
    let desk = Running::start(&dir, Some("https://127.0.0.1:9"), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Make a site");
    seen.press("Make the site");
    seen.shows("The site has no name");
    for (name, part) in [
        ("plant 7", "' '"),
        ("plant/7", "'/'"),
        ("Werk 🙂", "' '"),
        (&"x".repeat(300), "300"),
    ] {
        seen.fill("Site", name);
        seen.fill("Passphrase", PASSPHRASE);
        seen.fill("Once more", PASSPHRASE);
        seen.press("Make the site");
        seen.shows("The site was not made");
        assert!(
            labels(&seen.window).contains(part),
            "{name}:\n{}",
            labels(&seen.window)
        );
    }
    seen.fill("Site", "plant-7");
    seen.fill("Once more", "something else entirely");
    seen.press("Make the site");
    seen.shows("The two passphrases differ");
    seen.fill("Passphrase", "short");
    seen.fill("Once more", "short");
    seen.press("Make the site");
    seen.shows("The site was not made");
    seen.window
        .get_by_role_and_label(Role::RadioButton, "Ed25519")
        .click();
    seen.fill("Passphrase", PASSPHRASE);
    seen.fill("Once more", PASSPHRASE);
    seen.press("Make the site");
    seen.shows("The site is made");
    assert!(dir.join("author/author.toml").exists());
    let here = dir.canonicalize().unwrap();
    seen.press(&format!(
        "Copy: repo-server run --dir {}",
        here.join("repository").display()
    ));
    seen.press("Copy: root.json");
    seen.press("Go on");
    seen.shows("plant-7 · author");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_button_is_cut_off_at_800_by_600_or_at_twice_the_scale() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    for (size, scale) in [([800.0, 600.0], 1.0), ([640.0, 400.0], 2.0)] {
        let mut seen = Seen::open_as(&desk.socket, size, scale);
        seen.shows("Applications");
        for page in ["History", "Devices", "Latency", "Keys", "Events", "Overview"] {
            seen.press(page);
            for node in seen.window.query_all_by_role(Role::Button) {
                let rect = node.rect();
                assert!(
                    rect.left() >= -0.5 && rect.right() <= size[0] + 0.5,
                    "{page} at {size:?}: {:?} {rect:?}",
                    node.accesskit_node().label()
                );
            }
        }
        seen.press("Upload");
        for button in ["Open", "Cancel"] {
            let rect = seen.window.get_by_role_and_label(Role::Button, button).rect();
            assert!(
                rect.right() <= size[0] && rect.bottom() <= size[1],
                "{button} {rect:?}"
            );
        }
    }
    desk.stop().await;
}

/// Frames that nobody can tell apart are not drawn.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_window_draws_when_something_visible_changes() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Repository: answers");
    for (page, least) in [
        ("Overview", 1),
        ("History", u64::MAX),
        ("Devices", u64::MAX),
        ("Latency", u64::MAX),
    ] {
        seen.press(page);
        seen.window.run_steps(20);
        let output = seen.window.output();
        let delay = output.viewport_output[&egui::ViewportId::ROOT].repaint_delay;
        assert!(delay.as_secs() >= least, "{page}: {delay:?}");
    }
    let page: FleetPage = desk
        .ask(&AuthorRequest::Fleet {
            after: None,
            limit: 1,
        })
        .await
        .unwrap();
    assert_eq!(page.total, 0);
    desk.stop().await;
}

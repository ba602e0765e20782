//! The window by keyboard alone: nothing but key events, from the first start to the receipt.

use egui::{Event, Key, Modifiers};
use egui_kittest::kittest::NodeT as _;
use gui_kit::harness::labels;

use crate::fake::Fake;
use crate::service::{Running, file};
use crate::site::{PASSPHRASE, Site};
use crate::window::Seen;

/// How often Tab is pressed for one thing before somebody gives up.
const TABS: usize = 40;

/// The name of what has the keyboard, if it is seen.
fn focused(seen: &Seen) -> Option<String> {
    let size = seen.window.ctx.content_rect();
    let mut all = seen.window.root().children_recursive();
    let node = all.find(|node| node.accesskit_node().is_focused())?;
    let seen = size.expand(1.0).contains_rect(node.rect());
    seen.then(|| node.accesskit_node().label().unwrap_or_default())
}

fn key(seen: &mut Seen, key: Key) {
    seen.window.key_press(key);
    seen.settle();
}

fn write(seen: &mut Seen, text: &str) {
    seen.window.event(Event::Text(text.to_owned()));
    seen.settle();
}

/// Waits for this to have the keyboard without anybody's doing.
fn comes(seen: &mut Seen, name: &str) {
    let bell = seen.bell.clone();
    bell.wait(&mut seen.window, &format!("{name} with the keyboard"), |window| {
        let mut all = window.root().children_recursive();
        all.any(|node| {
            let node = node.accesskit_node();
            node.is_focused() && node.label().as_deref() == Some(name)
        })
    });
    seen.settle();
    assert_eq!(focused(seen).as_deref(), Some(name), "it is to be seen");
}

/// Presses Tab until this has the keyboard; how often.
fn tab_to(seen: &mut Seen, name: &str) -> usize {
    seen.settle();
    for presses in 1..=TABS {
        key(seen, Key::Tab);
        if focused(seen).as_deref() == Some(name) {
            return presses;
        }
    }
    panic!("Tab does not reach {name}:\n{}", labels(&seen.window));
}

fn path(seen: &mut Seen, path: &std::path::Path) {
    comes(seen, "Path");
    seen.window.key_press_modifiers(Modifiers::COMMAND, Key::A);
    write(seen, path.to_str().unwrap());
    key(seen, Key::Enter);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_published_by_keyboard_alone() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut seen = Seen::open_as(&desk.socket, [800.0, 600.0], 1.0);
    seen.shows("Nothing is published yet");
    let presses = tab_to(&mut seen, "Upload");
    assert!(presses <= 12, "{presses} times Tab to Upload");
    key(&mut seen, Key::Enter);
    path(&mut seen, &site.script("heater_1.0", 3_000));
    comes(&mut seen, "Passphrase");
    // Wrong once: the field has the keyboard again.
    write(&mut seen, "not the right one");
    key(&mut seen, Key::Enter);
    seen.shows("This is not the passphrase");
    comes(&mut seen, "Passphrase");
    write(&mut seen, PASSPHRASE);
    tab_to(&mut seen, "Keep the key open for 15 minutes");
    key(&mut seen, Key::Space);
    tab_to(&mut seen, "Sign and publish");
    key(&mut seen, Key::Enter);
    seen.shows("Devices that are connected get it now");
    comes(&mut seen, "See devices");
    assert_eq!(fake.kept().published.len(), 1);

    // The next one, with the key open: Enter, the path, Enter, Enter.
    tab_to(&mut seen, "Upload another");
    key(&mut seen, Key::Enter);
    path(&mut seen, &site.script("heater_1.1", 3_000));
    comes(&mut seen, "Sign and publish");
    key(&mut seen, Key::Enter);
    seen.shows("Devices that are connected get it now");
    comes(&mut seen, "See devices");
    key(&mut seen, Key::Enter);
    seen.shows("No device has reported yet");
    assert_eq!(fake.kept().published.len(), 2);
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_says_little_is_mended_by_keyboard_alone() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut watch = desk.watch().await;
    let first = site.script("heater_1.1", 100);
    let job = desk.publish(file(&first)).await.unwrap();
    let _ = watch.end(job.id).await;
    let mut seen = Seen::open_as(&desk.socket, [800.0, 600.0], 1.0);
    seen.shows("1.1.0");
    tab_to(&mut seen, "Upload");
    key(&mut seen, Key::Enter);
    path(&mut seen, &first);
    comes(&mut seen, "Choose another");
    key(&mut seen, Key::Enter);
    path(&mut seen, &site.script("run.sh", 100));
    comes(&mut seen, "App Name");
    write(&mut seen, "heater");
    key(&mut seen, Key::Tab);
    write(&mut seen, "1.2");
    key(&mut seen, Key::Enter);
    comes(&mut seen, "Passphrase");
    tab_to(&mut seen, "Cancel");
    key(&mut seen, Key::Enter);

    // A question takes the keyboard, and Escape gives up.
    tab_to(&mut seen, "Withdraw …");
    key(&mut seen, Key::Enter);
    comes(&mut seen, "Reason, for devices and operators to read");
    key(&mut seen, Key::Escape);
    seen.gone("Take heater 1.1.0 back?");
    tab_to(&mut seen, "Withdraw …");
    key(&mut seen, Key::Enter);
    comes(&mut seen, "Reason, for devices and operators to read");
    write(&mut seen, "fails on model B");
    tab_to(&mut seen, "Passphrase");
    write(&mut seen, PASSPHRASE);
    key(&mut seen, Key::Enter);
    seen.gone("Take heater 1.1.0 back?");
    seen.shows("Withdrawn");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_is_walked_by_keyboard_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new");
    let desk = Running::start(&dir, Some("https://127.0.0.1:9"), |_| {}).await;
    let mut seen = Seen::open_as(&desk.socket, [800.0, 600.0], 1.0);
    seen.shows("Make a site");
    comes(&mut seen, "Site");
    write(&mut seen, "plant-7");
    for field in ["Author", "Repository", "Gateway"] {
        assert_eq!(tab_to(&mut seen, field), 1, "{field} is the next");
    }
    tab_to(&mut seen, "Ed25519");
    key(&mut seen, Key::Space);
    tab_to(&mut seen, "Passphrase");
    write(&mut seen, PASSPHRASE);
    tab_to(&mut seen, "Once more");
    write(&mut seen, PASSPHRASE);
    key(&mut seen, Key::Enter);
    seen.shows("The site is made");
    comes(&mut seen, "Go on");
    key(&mut seen, Key::Enter);
    seen.shows("plant-7 · author");
    desk.stop().await;
}

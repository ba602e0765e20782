//! The window over a real gateway: every button, prompt and way to fail, found by role and label.

mod devices;
mod looks;

use std::sync::Arc;

use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use gui_kit::harness::{Bell, labels};
use gui_kit::text::Texts;
use manager::Paths;
use manager::ui::{Clock, ENGLISH, ManagerWindow};
use protocol::control::ManagerRequest;
use protocol::{Outcome, messages};

use crate::device::Device;
use crate::site::{Gateway, PASSWORD, Site, now};

pub(crate) type Window = Harness<'static, ManagerWindow>;

pub(crate) fn window(site: &Site, size: [f32; 2], scale: f32) -> (Window, Bell) {
    let bell = Bell::default();
    let socket = Paths::new(&site.folder()).socket();
    let texts = Texts::load(ENGLISH, None).unwrap();
    let clock: Clock = Arc::new(now);
    let app = ManagerWindow::open(&socket, None, texts, clock, bell.wake()).unwrap();
    let window = Harness::builder()
        .with_size(size)
        .with_pixels_per_point(scale)
        // As on the screen: a name may hold what no font here has.
        .allow_missing_glyphs()
        .build_eframe(|context| {
            gui_kit::theme::install(&context.egui_ctx);
            app
        });
    (window, bell)
}

fn plain(site: &Site) -> (Window, Bell) {
    window(site, [1000.0, 700.0], 1.0)
}

fn press(window: &mut Window, button: &str) {
    window.get_by_role_and_label(Role::Button, button).click();
    window.step();
    window.step();
}

fn go(window: &mut Window, tab: &str) {
    window.get_by_label(tab).click();
    window.step();
    window.step();
}

/// The last field of this name: a dialog's lies over the page's.
fn field<'a>(window: &'a Window, name: &'a str) -> egui_kittest::Node<'a> {
    let mut fields = window.get_all_by_label(name).filter(|node| {
        let role = node.accesskit_node().role();
        matches!(
            role,
            Role::TextInput | Role::PasswordInput | Role::MultilineTextInput
        )
    });
    fields.next_back().unwrap()
}

fn fill_in(window: &mut Window, name: &str, text: &str) {
    field(window, name).focus();
    window.step();
    window.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::A);
    window.step();
    window.key_press(egui::Key::Delete);
    window.step();
    if !text.is_empty() {
        field(window, name).type_text(text);
        window.step();
    }
}

fn is_enabled(window: &Harness<'_, ManagerWindow>, button: &str) -> bool {
    let node = window.get_by_role_and_label(Role::Button, button);
    !node.accesskit_node().is_disabled()
}

fn shows(window: &Harness<'_, ManagerWindow>, text: &str) -> bool {
    window.query_all_by_label_contains(text).next().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_names_downloader_sender_and_releases() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "plant · gateway");
    for text in [
        "0 of 0 devices connected",
        "Checked and offered",
        "New releases are found by the timer only",
        &gateway.addresses.devices.to_string(),
        &gateway.addresses.enroll.to_string(),
        "0 B since the start",
    ] {
        assert!(shows(&window, text), "{text}:\n{}", labels(&window));
    }
    window.get_by_label("Demo");
    window.get_by_label("1.0.0");
    window.get_by_label("Bytes sent to devices in each of the last 120 seconds");
    for message in [
        messages::DOWNLOADED.with("Demo_1.0.0"),
        messages::VERIFIED.with("Demo_1.0.0"),
    ] {
        bell.wait_for(&mut window, &message);
    }
    assert!(shows(&window, messages::LISTENING.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn start_stop_and_check_now_do_what_they_say() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "Checked and offered");
    assert!(!is_enabled(&window, "Start") && is_enabled(&window, "Stop"));
    press(&mut window, "Stop");
    bell.wait_for(&mut window, "Stopped");
    bell.wait(&mut window, "Start can be pressed", |window| {
        is_enabled(window, "Start")
    });
    assert!(!is_enabled(&window, "Stop") && !gateway.status().await.downloader_running);
    press(&mut window, "Check now");
    bell.wait_for(&mut window, "Nothing new.");
    site.publish("2.0");
    bell.wait(&mut window, "checked", |window| is_enabled(window, "Check now"));
    press(&mut window, "Check now");
    bell.wait_for(&mut window, "There was something new");
    bell.wait_for(&mut window, "2.0.0");
    press(&mut window, "Start");
    bell.wait(&mut window, "Stop can be pressed", |window| {
        is_enabled(window, "Stop")
    });
    assert!(gateway.status().await.downloader_running);
    site.repositories[0].shelf.lock().unwrap().broken = true;
    press(&mut window, "Check now");
    bell.wait_for(&mut window, "The check failed:");
    bell.wait_for(&mut window, "1 to look at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_soon_is_told_with_the_command_that_helps() {
    let site = Site::new(1).await;
    site.certify(20 * 86_400);
    let _gateway = site.start().await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(
        &mut window,
        "`certs issue manager gateway --ca author --out NEW --host ADDRESS --replace`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_release_says_why_and_is_resumed_after_a_question() {
    let mut site = Site::new(1).await;
    site.publish("0.9");
    site.publish("1.0");
    let gateway = site.start().await;
    for device in ["pump", "valve"] {
        let device = Device::join(&site, &gateway, device).await;
        let order = device.hello(&gateway).await.orders.remove(0);
        let report = device.report(1, &order, Outcome::RolledBack, "ab");
        device.send(&gateway, &[report]).await;
    }
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "Demo 1.0.0 is not offered any more");
    assert!(shows(&window, "2 of 2 devices rolled it back"));
    bell.wait_for(&mut window, "For new devices");
    press(&mut window, "Resume …");
    window.get_by_label("Offer Demo 1.0.0 again?");
    press(&mut window, "Cancel");
    assert!(gateway.status().await.releases[0].stopped.is_some());
    press(&mut window, "Resume …");
    press(&mut window, "Resume");
    bell.wait_for(&mut window, "Demo 1.0.0 is offered again.");
    bell.wait(&mut window, "no Resume", |window| {
        window.query_by_role_and_label(Role::Button, "Resume …").is_none()
    });
    assert!(gateway.status().await.releases[0].stopped.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_leaves_its_last_word_and_one_that_comes_back_is_found() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    gateway.add("pump-7").await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "0 of 1 devices connected");
    gateway.stop().await;
    bell.wait_for(&mut window, "does not answer");
    assert!(shows(&window, "0 of 1 devices connected"), "what was known stays");
    go(&mut window, "Devices");
    fill_in(&mut window, "Device", "valve");
    fill_in(&mut window, "Password", PASSWORD);
    press(&mut window, "Add");
    bell.wait_for(&mut window, "The gateway gave no answer");
    let again = Gateway::start(&site.folder()).await;
    press(&mut window, "Try now");
    bell.wait_gone(&mut window, "does not answer");
    bell.wait_for(&mut window, "pump-7");
    assert_eq!(again.status().await.devices, 1, "a click does not act later");
    press(&mut window, "Add");
    bell.wait_for(&mut window, "Code for valve");
    assert_eq!(
        again
            .ask::<Vec<protocol::control::DeviceRow>>(&ManagerRequest::Devices)
            .await
            .unwrap()
            .len(),
        2
    );
}

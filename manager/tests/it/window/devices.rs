//! The page of devices: added, told off, deleted, followed.

use egui::accesskit::Role;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use gui_kit::harness::labels;
use protocol::{Outcome, Step, messages};

use super::{field, fill_in, go, is_enabled, plain, press, shows, window};
use crate::device::Device;
use crate::site::{PASSWORD, Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_added_and_its_code_shown_copied_and_good() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "plant · gateway");
    go(&mut window, "Devices");
    window.get_by_label("No devices yet");
    fill_in(&mut window, "Device", "pump-7");
    fill_in(&mut window, "Password", PASSWORD);
    assert!(!labels(&window).contains(PASSWORD), "the password is hidden");
    press(&mut window, "Add");
    bell.wait_for(&mut window, "Code for pump-7");
    window.get_by_label("QR code for pump-7");
    assert!(shows(&window, messages::DEVICE_ADDED.text));
    assert!(shows(&window, "It works until "));
    let code = field(&window, "Code");
    let code = code.accesskit_node().value().unwrap();
    window.get_by_role_and_label(Role::Button, "Copy").click();
    window.step();
    let commands = &window.output().platform_output.commands;
    let copied = commands.iter().find_map(|command| match command {
        egui::OutputCommand::CopyText(text) => Some(text.clone()),
        _ => None,
    });
    assert_eq!(copied.as_ref(), Some(&code));
    window.step();
    press(&mut window, "Close");
    assert!(
        labels(&window).contains(&code),
        "a click beside the code, on the note that it lies under, loses it"
    );
    press(&mut window, "Done");
    assert!(
        !labels(&window).contains(&code),
        "the code is not kept on the screen"
    );
    bell.wait_for(&mut window, "pump-7: Has not joined yet");
    let key = certs::new_key().unwrap().to_string();
    crate::device::enroll(&gateway, &code.parse().unwrap(), PASSWORD, &key)
        .await
        .unwrap();
    bell.wait_for(&mut window, "pump-7: Not connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_wrong_is_told_in_words_and_nothing_is_added() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    gateway.add("taken").await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "plant · gateway");
    go(&mut window, "Devices");
    let long = "x".repeat(300);
    for (name, password, told) in [
        ("", "", messages::INPUT_EMPTY.text),
        ("pump", "", messages::INPUT_EMPTY.text),
        ("", PASSWORD, messages::INPUT_EMPTY.text),
        ("pump 7", PASSWORD, "The name has ' ' at place 5"),
        ("../pump", PASSWORD, "The name has '.' at place 1"),
        ("a/b", PASSWORD, "The name has '/' at place 2"),
        ("a..b", PASSWORD, "The name has two dots in a row"),
        (&long, PASSWORD, "The name has 300 characters: 64 at most"),
        ("🚰", PASSWORD, "The name has '🚰' at place 1"),
    ] {
        for button in ["Add", "Delete"] {
            fill_in(&mut window, "Device", name);
            fill_in(&mut window, "Password", password);
            press(&mut window, button);
            assert!(
                shows(&window, told),
                "{name:?} {button}: no {told:?} in\n{}",
                labels(&window)
            );
            press(&mut window, "Close");
            assert!(!shows(&window, told));
        }
    }
    for (name, password, told) in [
        ("taken", PASSWORD, messages::DEVICE_EXISTED.text),
        ("pump", "short", "The password is too short or too long"),
    ] {
        fill_in(&mut window, "Device", name);
        fill_in(&mut window, "Password", password);
        press(&mut window, "Add");
        bell.wait_for(&mut window, told);
    }
    assert_eq!(gateway.status().await.devices, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_asks_first_and_wants_the_right_name_and_password() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    gateway.add("pump-7").await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "plant · gateway");
    go(&mut window, "Devices");
    bell.wait_for(&mut window, "1 of 1 devices");
    for (name, password, told) in [
        ("pump-7", "wrong horse", messages::DEVICE_MISMATCH.text),
        ("nobody", PASSWORD, messages::DEVICE_UNKNOWN.text),
    ] {
        fill_in(&mut window, "Device", name);
        fill_in(&mut window, "Password", password);
        press(&mut window, "Delete");
        window.get_by_label(&format!("Delete {name}?"));
        press(&mut window, "Delete device");
        bell.wait_for(&mut window, told);
    }
    fill_in(&mut window, "Device", "pump-7");
    fill_in(&mut window, "Password", PASSWORD);
    press(&mut window, "Delete");
    press(&mut window, "Cancel");
    assert_eq!(
        gateway.status().await.devices,
        1,
        "nothing happens before the person agrees"
    );
    press(&mut window, "Delete");
    window.key_press(egui::Key::Escape);
    window.step();
    window.step();
    assert!(!shows(&window, "Delete pump-7?"), "Escape is no");
    press(&mut window, "Delete");
    press(&mut window, "Delete device");
    bell.wait_for(&mut window, messages::DEVICE_DELETED.text);
    bell.wait_for(&mut window, "No devices yet");
    assert_eq!(gateway.status().await.devices, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_selected_device_gets_a_new_code_or_goes_on_the_operators_authority() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    gateway.add("pump-7").await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "plant · gateway");
    go(&mut window, "Devices");
    bell.wait_for(&mut window, "pump-7: Has not joined yet");
    press(&mut window, "pump-7: Has not joined yet");
    press(&mut window, "New code …");
    fill_in(&mut window, "Password", PASSWORD);
    press(&mut window, "Make code");
    bell.wait_for(&mut window, "Code for pump-7");
    press(&mut window, "Done");
    press(&mut window, "Delete …");
    assert!(
        !is_enabled(&window, "Delete device"),
        "a password or the operator's own word is needed"
    );
    window.get_by_label_contains("on my own authority").click();
    window.step();
    window.step();
    assert!(is_enabled(&window, "Delete device"));
    press(&mut window, "Delete device");
    bell.wait_for(&mut window, "No devices yet");
    go(&mut window, "Events");
    bell.wait_for(&mut window, "on the operator's authority");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_put_in_quarantine_and_let_in_again_after_questions() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let _stream = pump.events(&gateway).await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "plant · gateway");
    go(&mut window, "Devices");
    bell.wait_for(&mut window, "pump: Nothing installed");
    press(&mut window, "pump: Nothing installed");
    press(&mut window, "Quarantine …");
    press(&mut window, "Cancel");
    assert_eq!(gateway.row("pump").await.unwrap().quarantine, None);
    press(&mut window, "Quarantine …");
    // The field has the keyboard, and Enter does what the button does.
    window.step();
    window.event(egui::Event::Text("its cabinet was open".into()));
    window.step();
    window.key_press(egui::Key::Enter);
    window.step();
    bell.wait_for(&mut window, "pump: In quarantine");
    bell.wait_for(&mut window, "its cabinet was open");
    press(&mut window, "Let in again …");
    press(&mut window, "Let in");
    bell.wait_for(&mut window, "pump is let in again.");
    bell.wait_for(&mut window, "pump: Not connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_at_work_is_followed_step_by_step() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let _stream = pump.events(&gateway).await;
    let order = pump.hello(&gateway).await.orders.remove(0);
    let (mut window, bell) = window(&site, [1000.0, 700.0], 1.0);
    bell.wait_for(&mut window, "1 of 1 devices connected");
    bell.wait_for(&mut window, messages::AUTHENTICATED.text);
    go(&mut window, "Devices");
    bell.wait_for(&mut window, "pump: Update ordered");
    pump.progress(&gateway, &order, Step::Downloading, Some((40, 100)))
        .await;
    bell.wait_for(&mut window, "pump: Downloading");
    window.get_by_label("Download of pump");
    window.get_by_label("40 %");
    pump.progress(&gateway, &order, Step::Healthy, None).await;
    bell.wait_for(&mut window, "pump: On trial");
    let report = pump.report(1, &order, Outcome::RolledBack, "ab");
    pump.send(&gateway, &[report]).await;
    bell.wait_for(&mut window, "pump: Rolled back");
    bell.wait_for(&mut window, "Demo 1.0.0: it did not start");
    go(&mut window, "Events");
    bell.wait_for(&mut window, "Demo 1.0.0 · pump · the new version is healthy");
}

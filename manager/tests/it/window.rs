//! The window over a real gateway: every button, prompt and way to fail, found by role and label.

use std::sync::Arc;
use std::time::Duration;

use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use gui_kit::harness::{Bell, labels};
use gui_kit::text::Texts;
use manager::Paths;
use manager::ui::{Clock, ENGLISH, ManagerWindow};
use protocol::control::ManagerRequest;
use protocol::{Outcome, Step, messages};

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
async fn a_stopped_release_says_why_and_is_resumed_after_a_question() {
    let mut site = Site::new(1).await;
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

/// Every button lies wholly inside of the window, whatever its size and scale.
#[tokio::test(flavor = "multi_thread")]
async fn no_button_is_cut_off_at_800_by_600_or_at_twice_the_scale() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    gateway.add("pump-7").await;
    for (size, scale) in [
        ([800.0, 600.0], 1.0),
        ([800.0, 600.0], 2.0),
        ([640.0, 400.0], 2.0),
    ] {
        let (mut window, bell) = window(&site, size, scale);
        bell.wait_for(&mut window, "Checked and offered");
        check_buttons(&window, size, &["Start", "Stop", "Check now"]);
        go(&mut window, "Devices");
        bell.wait_for(&mut window, "pump-7: Has not joined yet");
        check_buttons(&window, size, &["Add", "Delete", "Show"]);
        press(&mut window, "pump-7: Has not joined yet");
        window.run_steps(3);
        check_buttons(
            &window,
            size,
            &["New code …", "Delete …", "pump-7: Has not joined yet"],
        );
        press(&mut window, "New code …");
        window.run_steps(3);
        check_buttons(&window, size, &["Cancel", "Make code"]);
        fill_in(&mut window, "Password", PASSWORD);
        press(&mut window, "Make code");
        bell.wait_for(&mut window, "Code for pump-7");
        window.run_steps(3);
        check_buttons(&window, size, &["Copy", "Done"]);
        press(&mut window, "Done");
        go(&mut window, "Events");
        check_buttons(&window, size, &["All", "Warnings and errors", "Errors", "Copy"]);
    }
}

fn check_buttons(window: &Window, size: [f32; 2], buttons: &[&str]) {
    for button in buttons {
        let place = window.get_by_role_and_label(Role::Button, button).rect();
        let inside =
            place.min.x >= 0.0 && place.min.y >= 0.0 && place.max.x <= size[0] && place.max.y <= size[1];
        assert!(inside, "{button} at {place:?} in {size:?}");
    }
}

/// Ten thousand devices: sorted, filtered, walked by keyboard; what a frame costs is printed.
/// Frames that nobody can tell apart are not drawn.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_window_draws_when_something_visible_changes() {
    let idle = |window: &mut Window| {
        window.run_steps(20);
        window.output().viewport_output[&egui::ViewportId::ROOT].repaint_delay
    };
    let site = Site::new(1).await;
    let _gateway = site.start().await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "Next check in");
    assert!(
        idle(&mut window) >= Duration::from_secs(1),
        "the times on the first page"
    );
    go(&mut window, "Devices");
    bell.wait_for(&mut window, "No devices yet");
    assert_eq!(idle(&mut window), Duration::MAX, "nothing here changes by itself");
    go(&mut window, "Events");
    assert_eq!(idle(&mut window), Duration::MAX, "nothing here changes by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_devices_are_sorted_filtered_and_walked() {
    let site = Site::new(1).await;
    fill_list(&site, 10_000);
    let _gateway = site.start().await;
    let (mut window, bell) = plain(&site);
    bell.wait_for(&mut window, "0 of 10000 devices connected");
    go(&mut window, "Devices");
    bell.wait_for(&mut window, "10000 of 10000 devices");
    window.get_by_label("pump-00000: Not connected");
    press(&mut window, "Name: sorted upwards");
    window.get_by_label("pump-09999: Not connected");
    press(&mut window, "Name: sorted downwards");
    press(&mut window, "pump-00000: Not connected");
    for key in [egui::Key::ArrowDown, egui::Key::PageDown, egui::Key::ArrowUp] {
        window.key_press(key);
        window.run_steps(3);
    }
    let row = window.get_by_label("pump-00010: Not connected");
    assert!(row.accesskit_node().is_focused(), "{}", labels(&window));
    window.key_press(egui::Key::End);
    window.run_steps(3);
    assert!(
        window
            .get_by_label("pump-09999: Not connected")
            .accesskit_node()
            .is_focused()
    );
    window.key_press(egui::Key::Home);
    window.run_steps(3);
    assert!(
        window
            .get_by_label("pump-00000: Not connected")
            .accesskit_node()
            .is_focused()
    );
    let mut costs: Vec<_> = (0..300)
        .map(|frame| {
            if frame % 3 == 0 {
                window.event(egui::Event::MouseMoved(egui::vec2(1.0, 0.0)));
                window.key_press(egui::Key::PageDown);
            }
            let begun = std::time::Instant::now();
            window.step();
            let output = window.output();
            let shapes = output.shapes.clone();
            let _ = window.ctx.tessellate(shapes, output.pixels_per_point);
            begun.elapsed()
        })
        .collect();
    costs.sort_unstable();
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    println!(
        "10,000 devices, {build} build, CPU of update and tessellation a frame: median {:?}, p99 {:?}, worst {:?}",
        costs[costs.len() / 2],
        costs[costs.len() * 99 / 100],
        costs[costs.len() - 1],
    );
    fill_in(&mut window, "Filter", "pump-0421");
    window.run_steps(2);
    window.get_by_label("10 of 10000 devices");
    fill_in(&mut window, "Filter", "no such device");
    window.run_steps(2);
    window.get_by_label("No device fits the filter");
}

/// Puts devices on the list as an older service has left them.
fn fill_list(site: &Site, count: usize) {
    let path = Paths::new(&site.folder());
    durable::create_dir(path.state(), 0o700).unwrap();
    durable::replace(path.pepper(), "0".repeat(64), 0o600).unwrap();
    let database = manager::database::Database::open(&path.database()).unwrap();
    database
        .run_now(|db| {
            for number in 0..count {
                let name = format!("pump-{number:05}");
                db.execute(
                    "INSERT INTO devices (name, password, added, enrolled) VALUES (?1, '', 0, 1)",
                    [&name],
                )?;
            }
            Ok(())
        })
        .unwrap();
}

use super::folder::read;
use super::*;
use crate::harness::Bell;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use std::fs;

type Shown = (Chooser, Option<Choice>);

fn window(folder: &Path) -> (Bell, Harness<'static, Shown>) {
    let bell = Bell::default();
    let chooser = Chooser::open(folder, bell.wake()).unwrap();
    (bell, drawn(chooser))
}

fn drawn(chooser: Chooser) -> Harness<'static, Shown> {
    Harness::builder()
        .with_size([640.0, 480.0])
        .with_step_dt(1.0 / 60.0)
        .build_ui_state(
            |ui, (chooser, choice): &mut Shown| {
                if let Some(chosen) = chooser.show(ui) {
                    *choice = Some(chosen);
                }
            },
            (chooser, None),
        )
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("releases/old")).unwrap();
    for name in ["releases/heater_1.0", "releases/heater_1.1", "notes", ".hidden"] {
        fs::write(dir.path().join(name), "12345").unwrap();
    }
    dir
}

fn chosen(bell: &Bell, harness: &mut Harness<'_, Shown>) -> Choice {
    bell.wait(harness, "a choice", |harness| harness.state().1.is_some());
    harness.state_mut().1.take().unwrap()
}

fn type_to(harness: &mut Harness<'_, Shown>, text: &str) {
    harness.state_mut().0.type_path(text.to_owned());
    harness.step();
}

#[test]
fn a_double_click_walks_into_a_folder_and_chooses_a_file() {
    let dir = folder();
    let (bell, mut harness) = window(dir.path());
    bell.wait_for(&mut harness, "releases/");
    assert!(harness.query_by_label_contains(".hidden").is_none());
    for label in ["releases/", "heater_1.1"] {
        bell.wait_for(&mut harness, label);
        let at = harness.get_by_label_contains(label).rect().center();
        // A second of the window's time, or the clicks count on from the last double click.
        for _ in 0..60 {
            harness.step();
        }
        for _ in 0..2 {
            for pressed in [true, false] {
                harness.event(egui::Event::PointerMoved(at));
                harness.event(egui::Event::PointerButton {
                    pos: at,
                    button: egui::PointerButton::Primary,
                    pressed,
                    modifiers: Modifiers::NONE,
                });
                harness.step();
            }
        }
    }
    let file = dir.path().join("releases/heater_1.1");
    assert_eq!(chosen(&bell, &mut harness), Choice::Chosen(file.clone()));
    assert_eq!(harness.state().0.recent(), [file]);
}

#[test]
fn the_keyboard_alone_completes_selects_and_opens() {
    let dir = folder();
    let (bell, mut harness) = window(dir.path());
    bell.wait_for(&mut harness, "releases/");
    harness.event(egui::Event::Text("rel".into()));
    harness.step();
    harness.key_press(Key::Tab);
    bell.wait_for(&mut harness, "heater_1.0");
    assert!(harness.state().0.typed.ends_with("/releases/"));
    harness.event(egui::Event::Text("he".into()));
    harness.step();
    harness.key_press(Key::Tab);
    harness.step();
    assert!(harness.state().0.typed.ends_with("/releases/heater_1."));
    harness.key_press(Key::ArrowDown);
    harness.step();
    harness.key_press(Key::Enter);
    harness.step();
    let file = dir.path().join("releases/heater_1.0");
    assert_eq!(chosen(&bell, &mut harness), Choice::Chosen(file));
}

#[test]
fn up_goes_to_the_parent_and_escape_gives_up() {
    let dir = folder();
    let (bell, mut harness) = window(&dir.path().join("releases"));
    bell.wait_for(&mut harness, "heater_1.0");
    harness.get_by_label("Up").click();
    bell.wait_for(&mut harness, "notes");
    harness.key_press(Key::Escape);
    assert_eq!(chosen(&bell, &mut harness), Choice::Cancelled);
}

#[test]
fn a_folder_is_chosen_as_a_whole() {
    let dir = folder();
    let (bell, mut harness) = window(&dir.path().join("releases"));
    bell.wait_for(&mut harness, "heater_1.0");
    harness.get_by_label("Use this folder").click();
    assert_eq!(
        chosen(&bell, &mut harness),
        Choice::Chosen(dir.path().join("releases"))
    );
}

#[test]
fn what_is_missing_is_named() {
    let dir = folder();
    let (bell, mut harness) = window(dir.path());
    bell.wait_for(&mut harness, "releases/");
    let gone = dir.path().join("gone");
    type_to(&mut harness, gone.to_str().unwrap());
    bell.wait_for(&mut harness, "No name here contains this.");
    harness.get_by_label("Open").click();
    bell.wait_for(&mut harness, "There is no such file or folder.");
    bell.wait_for(&mut harness, gone.to_str().unwrap());
    assert_eq!(harness.state().1, None);
}

#[test]
fn a_file_that_vanished_after_it_was_listed_is_named() {
    let dir = folder();
    let (bell, mut harness) = window(dir.path());
    bell.wait_for(&mut harness, "notes");
    fs::remove_file(dir.path().join("notes")).unwrap();
    harness.get_by_label_contains("notes").click();
    harness.step();
    harness.get_by_label("Open").click();
    bell.wait_for(&mut harness, "There is no such file or folder.");
}

#[test]
fn a_folder_without_rights_is_named() {
    let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let problem = Problem::of(Path::new("/secret"), &refused);
    let notice = problem.notice(&Kit::english());
    assert!(notice.what.contains("/secret"), "{notice:?}");
    assert!(notice.why.contains("permission denied"), "{notice:?}");
}

#[test]
fn a_folder_with_too_many_entries_is_cut_and_searched_by_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..=CHOOSER_ENTRIES {
        fs::write(dir.path().join(format!("f{number:05}")), "").unwrap();
    }
    let all = read(dir.path(), "").unwrap();
    assert_eq!((all.entries.len(), all.too_many), (CHOOSER_ENTRIES, true));
    let some = read(dir.path(), "F1999").unwrap();
    assert_eq!((some.entries.len(), some.too_many), (10, false));
}

#[test]
fn what_came_into_the_folder_since_is_shown() {
    let dir = folder();
    let (bell, mut harness) = window(dir.path());
    bell.wait_for(&mut harness, "notes");
    fs::write(dir.path().join("new"), "").unwrap();
    // The person was in another window, and comes back.
    harness.event(egui::Event::WindowFocused(true));
    bell.wait_for(&mut harness, "new");
    fs::write(dir.path().join("newer"), "").unwrap();
    harness.state_mut().0.again();
    bell.wait_for(&mut harness, "newer");
}

#[test]
fn a_chooser_that_is_shown_long_after_it_was_made_is_not_of_then() {
    let dir = folder();
    let (rings, rung) = sync_channel(8);
    let wake: Wake = std::sync::Arc::new(move || rings.send(()).unwrap());
    let mut chooser = Chooser::open(dir.path(), wake).unwrap();
    rung.recv().unwrap();
    fs::write(dir.path().join("new"), "").unwrap();
    chooser.again();
    let mut harness = drawn(chooser);
    Bell::default().wait_for(&mut harness, "new");
}

#[test]
fn what_is_dropped_is_chosen() {
    let dir = folder();
    let (bell, mut harness) = window(dir.path());
    bell.wait_for(&mut harness, "notes");
    let path = dir.path().join("notes");
    harness
        .input_mut()
        .dropped_files
        .push(std::sync::Arc::new(Dropped(path.clone())));
    assert_eq!(chosen(&bell, &mut harness), Choice::Chosen(path));
}

#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("not read".into())
    }
}

#[test]
fn recent_ones_are_bounded_and_newest_first() {
    let dir = folder();
    let (_, mut harness) = window(dir.path());
    let chooser = &mut harness.state_mut().0;
    for number in 0..20 {
        chooser.remember(PathBuf::from(format!("/f{}", number % 10)));
    }
    assert_eq!(chooser.recent().len(), CHOOSER_RECENT);
    assert_eq!(chooser.recent()[0], Path::new("/f9"));
}

#[test]
fn one_that_begins_anew_before_it_was_ever_shown_shows_its_folder() {
    let dir = folder();
    let bell = Bell::default();
    let mut chooser = Chooser::open(dir.path(), bell.wake()).unwrap();
    chooser.again();
    let mut harness = Harness::builder().build_ui_state(
        |ui, (chooser, _): &mut Shown| {
            let _ = chooser.show(ui);
        },
        (chooser, None),
    );
    bell.wait_for(&mut harness, "releases/");
}

//! The window by what is dropped on it, and while much is to be hashed.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gui_kit::harness::labels;

use crate::fake::Fake;
use crate::proxy::Proxy;
use crate::service::Running;
use crate::site::{PASSPHRASE, Site};
use crate::window::Seen;

/// Bytes of the file that is hashed in the suite; `DROVER_BENCH_BYTES` says otherwise (`scripts/bench-windows`).
const HASHED: usize = 64 << 20;

/// A frame's goal in an optimised build.
const WORST: Duration = Duration::from_millis(50);
/// Bytes of a file that is being read for long enough to be taken away meanwhile; it is sparse.
const LONG: u64 = 512 << 20;

/// What is let go over the window.
#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("the window is to read no file".into())
    }
}

impl Seen {
    fn drops(&mut self, path: &Path) {
        self.window.input_mut().dropped_files = vec![std::sync::Arc::new(Dropped(path.to_owned()))];
        self.window.step();
        self.settle();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_a_folder_are_dropped_on_the_window() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    seen.drops(&site.script("heater_1.0", 100));
    seen.shows("What was understood");
    seen.shows("heater");
    seen.press("Cancel");
    seen.shows("Nothing is published yet");
    let manifest = "format = 1\ncomponent = \"boiler\"\nversion = \"3.1.0\"\n\n[run]\nhow = \"exec\"\n\
                    program = \"run.sh\"\n\n[health]\nalive_seconds = 1\n";
    seen.drops(&site.folder("boiler", manifest));
    seen.shows("What was understood");
    seen.shows("boiler");
    seen.shows("3.1.0");
    seen.press("Cancel");
    // What is there no more when it is dropped is told.
    seen.drops(Path::new("/nowhere/heater_2.0"));
    seen.shows("/nowhere/heater_2.0");
    assert!(!seen.has("What was understood"), "{}", labels(&seen.window));
    assert!(fake.kept().published.is_empty());
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_vanishes_while_it_is_hashed_is_told() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    let path = site.script("heater_1.0", 100);
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(LONG)).unwrap();
    file.write_all(b"end").unwrap();
    drop(file);
    seen.window.input_mut().dropped_files = vec![std::sync::Arc::new(Dropped(path.clone()))];
    seen.window.step();
    seen.shows("Reading");
    std::fs::remove_file(&path).unwrap();
    seen.shows("This cannot be published");
    seen.shows("heater_1.0");
    assert!(!seen.has("What was understood"), "{}", labels(&seen.window));
    seen.press("Close");
    seen.shows("Nothing is published yet");
    assert!(fake.kept().published.is_empty());
    desk.stop().await;
}

/// A thread, and all that it starts, that may read only what its user may: also where the tests run as root.
fn without_override(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let mut own = rustix::thread::capabilities(None).unwrap();
        let all =
            rustix::thread::CapabilitySet::DAC_OVERRIDE | rustix::thread::CapabilitySet::DAC_READ_SEARCH;
        own.effective.remove(all);
        rustix::thread::set_capabilities(None, own).unwrap();
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_folder_without_rights_is_told() {
    without_override(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let site = Site::new();
            let fake = Fake::start(&site.repository()).await;
            let desk = Running::start(&site.author(), Some(&fake.url), |_| {}).await;
            let mut seen = Seen::open(&desk.socket);
            seen.shows("Nothing is published yet");
            let script = site.script("heater_1.0", 100);
            let closed = script.with_file_name("closed");
            std::fs::create_dir(&closed).unwrap();
            let rights =
                |mode| std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(mode)).unwrap();
            rights(0o000);
            seen.press("Upload");
            seen.fill("Path", &format!("{}/", closed.display()));
            seen.shows(&format!("This folder cannot be read: {}", closed.display()));
            seen.shows("ermission denied");
            rights(0o700);
            // The way out is the same field.
            seen.type_path(&script);
            seen.shows("What was understood");
            // A folder whose inside nobody may read is no package: it is told by its name, nothing is signed.
            rights(0o000);
            seen.press("Cancel");
            seen.drops(&closed);
            seen.shows("This cannot be published");
            seen.shows("ermission denied");
            rights(0o700);
            assert!(fake.kept().published.is_empty());
            desk.stop().await;
        });
    });
}

/// Frames that were drawn, and what each took: update and tessellation, no GPU.
#[derive(Default)]
struct Frames(Vec<Duration>);

impl Frames {
    fn draw(&mut self, seen: &mut Seen) {
        let begun = Instant::now();
        seen.window.step();
        let output = seen.window.output();
        let shapes = output.shapes.clone();
        let _ = seen.window.ctx.tessellate(shapes, output.pixels_per_point);
        self.0.push(begun.elapsed());
    }

    /// Draws, sixty times a second, until a text is there.
    fn draw_until(&mut self, seen: &mut Seen, text: &str) {
        let begun = Instant::now();
        while !seen.has(text) {
            self.draw(seen);
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "never shown: {text}:\n{}",
                labels(&seen.window)
            );
            std::thread::sleep(Duration::from_millis(16));
        }
    }

    /// Prints what frames took; fails above the goal where `scripts/bench-windows` asks.
    fn tell(&mut self, what: &str) {
        assert!(
            self.0.len() > 2,
            "the window stood still: {} frames",
            self.0.len()
        );
        self.0.sort_unstable();
        let (count, build) = (
            self.0.len(),
            if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        );
        println!(
            "{what}, {build} build: {count} frames, median {:?}, p99 {:?}, worst {:?}",
            self.0[count / 2],
            self.0[count * 99 / 100],
            self.0[count - 1],
        );
        if std::env::var_os("DROVER_BENCH_BYTES").is_some() {
            assert!(self.0[count - 1] < WORST, "a frame took longer than {WORST:?}");
        }
    }
}

/// The desk hashes and signs, and the window goes on drawing. What a frame takes is printed, not judged: see
/// `scripts/bench-windows`.
#[tokio::test(flavor = "multi_thread")]
async fn frames_go_on_while_a_large_file_is_hashed_and_signed() {
    let size = std::env::var("DROVER_BENCH_BYTES").map_or(HASHED, |bytes| bytes.parse().unwrap());
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    // The upload does not end; it is cancelled.
    let narrow = Proxy::that_stalls(fake.addr, 1_000_000).await;
    let desk = Running::start(&site.author(), Some(&narrow.url), |_| {}).await;
    let mut seen = Seen::open(&desk.socket);
    seen.shows("Nothing is published yet");
    let file = site.script("heater_1.0", size);
    let mut frames = Frames::default();
    seen.drops(&file);
    frames.draw_until(&mut seen, "What was understood");
    seen.fill("Passphrase", PASSPHRASE);
    seen.press("Sign and publish");
    frames.draw_until(&mut seen, "Uploading");
    frames.tell(&format!("{} MiB hashed and signed", size >> 20));
    seen.press("Cancel");
    seen.shows("heater 1.0.0 was cancelled");
    assert!(fake.kept().published.is_empty());
    desk.stop().await;
}

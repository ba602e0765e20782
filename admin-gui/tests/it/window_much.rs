//! The window by what is dropped on it, and while much is to be hashed.

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

    fn tell(&mut self, what: &str) {
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

//! A screen in memory with a window manager, and real windows on it, worked with mouse and keyboard.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::Program;
use e2e::packages::put;
use e2e::process::{patience, run};

use rustix::process::{Pid, Signal, kill_process};

use super::inspect::{Inspector, Node};

/// Pause between two looks at a window.
const LOOK: Duration = Duration::from_millis(60);
/// The screen's size, in pixels.
const SCREEN: &str = "1600x1000x24";

/// Xvfb and openbox, while this lives.
#[derive(Debug)]
pub(crate) struct Screen {
    display: String,
    home: tempfile::TempDir,
    // The window manager first: it lives on the screen.
    _manager: Program,
    server: Program,
}

impl Screen {
    /// A screen of its own; none where the programs for one are not installed, with the reason.
    pub(crate) async fn start() -> Result<Self, String> {
        for program in ["Xvfb", "openbox", "xdotool"] {
            let known = std::env::var_os("PATH")
                .is_some_and(|paths| std::env::split_paths(&paths).any(|dir| dir.join(program).is_file()));
            if !known {
                return Err(format!("{program} is not installed"));
            }
        }
        let home = tempfile::tempdir().unwrap();
        let xvfb = ["-displayfd", "1", "-screen", "0", SCREEN, "-nolisten", "tcp"];
        let server = Program::start("Xvfb", Path::new("Xvfb"), xvfb, &[]);
        let number = server
            .wait_line("the screen", |line| line.trim().parse::<u32>().is_ok())
            .await;
        let display = format!(":{}", number.trim());
        let manager = Program::start(
            "openbox",
            Path::new("openbox"),
            ["--sm-disable"],
            &[("DISPLAY", &display)],
        );
        Ok(Self {
            display,
            home,
            _manager: manager,
            server,
        })
    }

    /// Opens a program's window and waits for its first frame.
    pub(crate) async fn open(&self, name: &str, program: &Path, dir: &Path) -> Window {
        let port = {
            let guard = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            guard.local_addr().unwrap().port()
        };
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let inspection = at.to_string();
        let home = self.home.path().display().to_string();
        let dir = dir.display().to_string();
        let args = ["window", "--dir", &dir];
        let env = [
            ("DISPLAY", self.display.as_str()),
            ("EGUI_INSPECTION", &inspection),
            ("HOME", &home),
            ("XDG_RUNTIME_DIR", &home),
            // Empty is as good as absent for winit: no Wayland of the machine that the test runs on.
            ("WAYLAND_DISPLAY", ""),
            ("WAYLAND_SOCKET", ""),
            ("LIBGL_ALWAYS_SOFTWARE", "1"),
        ];
        let program = Program::start(name, program, args, &env);
        let inspector = Inspector::connect(at, patience())
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}\n{}", program.said()));
        let pid = program.pid().to_string();
        let mut window = Window {
            name: name.into(),
            id: String::new(),
            display: self.display.clone(),
            inspector,
            program,
        };
        let found = window
            .xdotool(&["search", "--sync", "--onlyvisible", "--pid", &pid])
            .await;
        window.id = found.lines().last().unwrap().to_owned();
        window
    }
}

/// Xvfb removes its lock and socket only when it is asked to end.
impl Drop for Screen {
    fn drop(&mut self) {
        let pid = i32::try_from(self.server.pid()).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        let _ = kill_process(pid, Signal::TERM);
        let lock = format!("/tmp/.X{}-lock", self.display.trim_start_matches(':'));
        for _ in 0..200 {
            if !Path::new(&lock).exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A real window.
#[derive(Debug)]
pub(crate) struct Window {
    name: String,
    id: String,
    display: String,
    inspector: Inspector,
    program: Program,
}

impl Window {
    async fn xdotool(&self, args: &[&str]) -> String {
        let env = [("DISPLAY", self.display.as_str())];
        run(Path::new("xdotool"), args, "", &env).await.ok().stdout
    }

    /// Waits until the window shows something for which `wanted` is true.
    pub(crate) async fn find(&mut self, what: &str, wanted: impl Fn(&Node) -> bool) -> Node {
        let deadline = tokio::time::Instant::now() + patience();
        loop {
            let tree = self.inspector.tree().await;
            if let Some(node) = tree.iter().find(|node| wanted(node)) {
                return node.clone();
            }
            if tokio::time::Instant::now() >= deadline {
                self.picture(&format!("{}-failed", self.name)).await;
                let shown: Vec<String> = tree
                    .iter()
                    .filter(|node| !(node.label.is_empty() && node.value.is_empty()))
                    .map(|node| {
                        format!(
                            "{} {:?} {:?} {:?}",
                            node.role, node.label, node.value, node.bounds
                        )
                    })
                    .collect();
                panic!(
                    "{} never shows {what}; it shows:\n{}\n{}",
                    self.name,
                    shown.join("\n"),
                    self.program.said()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until some text on the window contains this.
    pub(crate) async fn shows(&mut self, text: &str) -> Node {
        self.find(text, |node| node.says(text)).await
    }

    /// Waits until nothing on the window contains this.
    pub(crate) async fn gone(&mut self, text: &str) {
        let deadline = tokio::time::Instant::now() + patience();
        while self.inspector.tree().await.iter().any(|node| node.says(text)) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{} still shows {text}",
                self.name
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Clicks with the mouse on what has this role and name, as soon as it is there, can be used and lies still.
    pub(crate) async fn click(&mut self, role: &str, name: &str) {
        let wanted = |node: &Node| node.role == role && node.label == name && !node.disabled;
        let node = self.find_still(name, wanted).await;
        self.click_at(node.middle()).await;
    }

    /// [`Self::find`], once it stays where it is.
    async fn find_still(&mut self, name: &str, wanted: impl Fn(&Node) -> bool) -> Node {
        let mut before = self.find(name, &wanted).await;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.find(name, &wanted).await;
            if now.bounds == before.bounds {
                return now;
            }
            before = now;
        }
    }

    /// Clicks a button.
    pub(crate) async fn press(&mut self, name: &str) {
        self.click("button", name).await;
    }

    async fn click_at(&mut self, (x, y): (f64, f64)) {
        self.front().await;
        let (x, y) = (format!("{x:.0}"), format!("{y:.0}"));
        let id = self.id.clone();
        self.xdotool(&["mousemove", "--sync", "--window", &id, &x, &y])
            .await;
        self.xdotool(&["click", "1"]).await;
    }

    /// Clicks into a field and types with the keyboard; what it held before is replaced.
    pub(crate) async fn fill(&mut self, field: &str, text: &str) {
        let wanted =
            |node: &Node| (node.role == "textInput" || node.role == "passwordInput") && node.label == field;
        let node = self.find_still(field, wanted).await;
        self.click_at(node.middle()).await;
        self.key("ctrl+a").await;
        self.type_text(text).await;
    }

    /// Types with the keyboard: what a plain keyboard has.
    pub(crate) async fn type_text(&mut self, text: &str) {
        self.front().await;
        self.xdotool(&["type", "--delay", "12", "--", text]).await;
    }

    /// Puts in a text that no plain keyboard has.
    pub(crate) async fn paste(&mut self, text: &str) {
        self.inspector.text(text).await;
    }

    /// Presses a key by its X name, such as `Return` or `ctrl+a`.
    pub(crate) async fn key(&mut self, key: &str) {
        self.front().await;
        self.xdotool(&["key", key]).await;
    }

    /// Brings it to the front and gives it the keyboard.
    async fn front(&self) {
        self.xdotool(&["windowactivate", "--sync", &self.id]).await;
    }

    /// Makes it so large, in points.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        self.inspector.resize(width, height).await;
    }

    /// Keeps a picture in `DROVER_PICTURES`, where that is set, to be looked at.
    pub(crate) async fn picture(&mut self, name: &str) {
        if let Some(folder) = std::env::var_os("DROVER_PICTURES") {
            let png = self.inspector.picture().await;
            let folder = PathBuf::from(folder);
            std::fs::create_dir_all(&folder).unwrap();
            put(&folder.join(format!("{name}.png")), &png, 0o644);
        }
    }

    /// Closes it as its title bar would: asks, and waits until it is gone.
    pub(crate) async fn close(mut self) {
        self.xdotool(&["windowclose", &self.id]).await;
        self.program.wait().await;
    }
}

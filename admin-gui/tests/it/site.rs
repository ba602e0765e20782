//! A site in a temporary folder, its desk, and files to publish.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use admin_gui::init::{Made, Plan, init};
use admin_gui::progress::{Progress, Sink};
use admin_gui::signing::KeyType;
use admin_gui::{Desk, Draft, Options, Passphrase, Senses, Unlocked};
use protocol::Step;
use tempfile::TempDir;

pub const PASSPHRASE: &str = "correct horse battery";

pub struct Site {
    pub temp: TempDir,
    pub made: Made,
}

impl Site {
    /// With ed25519 keys: made in a moment.
    pub fn new() -> Self {
        Self::with(KeyType::Ed25519)
    }

    pub fn with(kind: KeyType) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut plan = Plan::local(&temp.path().join("plant"), "plant".parse().unwrap()).unwrap();
        plan.targets_key = kind;
        let made = init(&plan, &passphrase(), Senses::system().now()).unwrap();
        Self { temp, made }
    }

    pub fn author(&self) -> PathBuf {
        self.made.dir.join("author")
    }

    pub fn repository(&self) -> PathBuf {
        self.made.dir.join("repository")
    }

    pub fn desk(&self, url: &str) -> Desk {
        let mut desk = Desk::open(&self.author(), Some(url), Senses::system()).unwrap();
        // As often as in earnest, but without the waits.
        desk.patience.longest = std::time::Duration::from_millis(5);
        desk
    }

    pub fn unlocked(&self, url: &str) -> Unlocked {
        self.desk(url).unlock(&passphrase()).unwrap()
    }

    /// A script of this name, as long as wanted.
    pub fn script(&self, name: &str, length: usize) -> PathBuf {
        let path = self.temp.path().join(name);
        let mut text = format!("#!/bin/sh\n# {name}\n").into_bytes();
        text.resize(length.max(text.len()), b'#');
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A folder with `update.toml` and a program.
    pub fn folder(&self, name: &str, manifest: &str) -> PathBuf {
        let path = self.temp.path().join(name);
        let program = path.join("payload/run.sh");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(path.join("update.toml"), manifest).unwrap();
        std::fs::write(&program, format!("#!/bin/sh\necho {name}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

pub fn passphrase() -> Passphrase {
    Passphrase::new(PASSPHRASE).unwrap()
}

pub fn manifest(version: &str) -> String {
    format!(
        "format = 1\ncomponent = \"heater\"\nversion = \"{version}\"\n[run]\nhow = \"exec\"\nprogram = \"run.sh\"\n"
    )
}

pub fn draft(desk: &Desk, path: &Path) -> Draft {
    desk.draft(path, &Options::default(), &admin_gui::progress::nobody())
        .unwrap()
}

/// Remembers what a publish told.
#[derive(Clone, Default)]
pub struct Heard(pub Arc<Mutex<Vec<Progress>>>);

impl Heard {
    pub fn sink(&self) -> Sink {
        let heard = Arc::clone(&self.0);
        Arc::new(move |news| heard.lock().unwrap().push(news.clone()))
    }

    pub fn steps(&self) -> Vec<Step> {
        let heard = self.0.lock().unwrap();
        let step = |news: &Progress| match news {
            Progress::Step(event) => Some(event.step),
            _ => None,
        };
        heard.iter().filter_map(step).collect()
    }

    pub fn messages(&self) -> Vec<&'static str> {
        let heard = self.0.lock().unwrap();
        let id = |news: &Progress| match news {
            Progress::Message { id, .. } => Some(*id),
            _ => None,
        };
        heard.iter().filter_map(id).collect()
    }
}

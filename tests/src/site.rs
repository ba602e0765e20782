//! A site: the folders that `admin-gui init` makes, and its running programs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use protocol::control::{AddedDevice, DeviceRow, DeviceStatus, ManagerStatus};

use crate::process::{Output, Program, bin, run};

/// The passphrase of every test site's author keys.
pub const PASSPHRASE: &str = "correct horse battery staple";
/// The password of every test device.
pub const PASSWORD: &str = "a password for one device";

/// A loopback address that no other site of this machine's running tests uses.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.16.0.0 to 127.239.255.255, spread by process and count; a taken one is noticed when binding.
    for attempt in 0..1000u32 {
        let mix = (pid.wrapping_mul(2_654_435_761) ^ next.wrapping_mul(40_503).wrapping_add(attempt)) >> 4;
        let [_, b, c, d] = mix.to_be_bytes();
        let address = Ipv4Addr::new(127, 16 + b % 224, c, 1 + d % 250);
        if TcpListener::bind((address, 7100)).is_ok() {
            return address;
        }
    }
    panic!("no free loopback address");
}

/// A port of 127.0.0.1 that nobody listens on, below the range for outgoing connections.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..2000 {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + ((std::process::id().wrapping_mul(7919) + next) % 20_000);
        let port = u16::try_from(port).expect("below 32768");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// What differs from site to site.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// The site's name.
    pub name: String,
    /// Author's key: `ed25519` is made at once, `rsa` (the default of the product) takes a second or two.
    pub key_type: String,
    /// Seconds between polls of manager and devices.
    pub poll_seconds: u64,
    /// Whether events are used, or the poll timer only.
    pub events: bool,
    /// Keep the folder after the test.
    pub keep: bool,
    /// Where to make the folder; a temporary one if none.
    pub dir: Option<PathBuf>,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            name: "plant".into(),
            key_type: "ed25519".into(),
            poll_seconds: 10,
            events: true,
            keep: false,
            dir: None,
        }
    }
}

/// A site and its programs.
#[derive(Debug)]
pub struct Site {
    _temporary: Option<tempfile::TempDir>,
    /// The site's folder.
    pub dir: PathBuf,
    /// Its loopback address: 7100 repository, 7101 devices, 7102 enrolment.
    pub address: Ipv4Addr,
    options: SiteOptions,
    /// The repository, while it runs.
    pub repository: Option<Program>,
    /// The manager, while it runs.
    pub manager: Option<Program>,
}

impl Site {
    /// Makes a site with `admin-gui init`; nothing runs yet.
    ///
    /// # Panics
    /// If that fails.
    pub async fn create(options: SiteOptions) -> Self {
        let temporary = match &options.dir {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("drover-")
                    .tempdir()
                    .expect("temporary folder"),
            ),
        };
        let dir = options
            .dir
            .clone()
            .unwrap_or_else(|| temporary.as_ref().expect("made").path().join("site"));
        let address = own_address();
        let mut args: Vec<String> = vec!["init".into(), dir.display().to_string()];
        for (option, value) in [
            ("--site", options.name.clone()),
            ("--key-type", options.key_type.clone()),
            ("--repository-address", format!("{address}:7100")),
            ("--manager-address", address.to_string()),
        ] {
            args.push(option.into());
            args.push(value);
        }
        args.push("--passphrase-stdin".into());
        let _ = run(&bin("admin-gui"), &args, &format!("{PASSPHRASE}\n"), &[])
            .await
            .ok();
        let site = Self {
            _temporary: temporary,
            dir,
            address,
            options,
            repository: None,
            manager: None,
        };
        let settings = site.options.clone();
        site.set(
            "manager/manager.toml",
            "poll_seconds",
            &settings.poll_seconds.to_string(),
        );
        site.set("manager/manager.toml", "events", &settings.events.to_string());
        site
    }

    /// A site whose repository and manager run.
    pub async fn running(options: SiteOptions) -> Self {
        let mut site = Self::create(options).await;
        site.start_repository().await;
        site.start_manager().await;
        site
    }

    /// Sets one top-level setting in a configuration file of the site.
    ///
    /// # Panics
    /// If the file cannot be read or written.
    pub fn set(&self, file: &str, key: &str, value: &str) {
        set_toml(&self.dir.join(file), key, value);
    }

    /// Path of a folder or file of the site.
    #[must_use]
    pub fn path(&self, part: &str) -> PathBuf {
        self.dir.join(part)
    }

    /// Starts the repository and waits until it serves.
    pub async fn start_repository(&mut self) {
        let dir = self.path("repository");
        let program = Program::start("repository", &bin("repo-server"), service("run", &dir), &[]);
        program.wait_line("ready", |line| line.contains("ready")).await;
        self.repository = Some(program);
    }

    /// Starts the manager and waits until it serves.
    pub async fn start_manager(&mut self) {
        let dir = self.path("manager");
        let program = Program::start("manager", &bin("manager"), service("run", &dir), &[]);
        program.wait_line("ready", |line| line.contains("ready")).await;
        self.manager = Some(program);
    }

    /// Runs `admin-gui COMMAND … --dir SITE/author` with the passphrase on standard input where it is needed.
    pub async fn author<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        args.extend(["--dir".into(), self.path("author").display().to_string()]);
        let signs = matches!(args[0].as_str(), "publish" | "withdraw" | "renew");
        if signs {
            args.push("--passphrase-stdin".into());
        }
        run(
            &bin("admin-gui"),
            &args,
            if signs { PASSPHRASE_LINE } else { "" },
            &[],
        )
        .await
    }

    /// Publishes a file or folder; the receipt and the author's steps come back as JSON.
    pub async fn publish(&self, path: &Path, more: &[&str]) -> Output {
        let path = path.display().to_string();
        let mut args = vec!["publish", path.as_str(), "--yes", "--json"];
        args.extend_from_slice(more);
        self.author(args).await
    }

    /// Runs `manager COMMAND … --dir SITE/manager`.
    pub async fn manager<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Output {
        let mut args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        args.extend(["--dir".into(), self.path("manager").display().to_string()]);
        run(&bin("manager"), &args, input, &[]).await
    }

    /// The manager's status.
    pub async fn manager_status(&self) -> ManagerStatus {
        self.manager(["status", "--json"], "").await.ok().json()
    }

    /// The manager's device table.
    pub async fn devices(&self) -> Vec<DeviceRow> {
        self.manager(["devices", "--json"], "").await.ok().json()
    }

    /// The manager's stream of events, as a running `manager watch --json`.
    #[must_use]
    pub fn watch_manager(&self) -> Program {
        let mut args = service("watch", &self.path("manager"));
        args.push("--json".into());
        Program::start("watch", &bin("manager"), args, &[])
    }

    /// Puts a device on the manager's list; the enrolment code comes back.
    pub async fn add_device(&self, name: &str) -> String {
        let line = format!("{PASSWORD}\n");
        let added: AddedDevice = self
            .manager(["add-device", name, "--password-stdin", "--json"], &line)
            .await
            .ok()
            .json();
        added.code.reveal().to_owned()
    }

    /// Adds and enrols a device in a folder of its own; it does not run yet.
    pub async fn enroll(&self, name: &str) -> Agent {
        let code = self.add_device(name).await;
        let agent = Agent::new(self.path(&format!("devices/{name}")), name);
        let _ = agent.enroll(&code, &self.path("author/root.json")).await.ok();
        set_toml(
            &agent.dir.join("device.toml"),
            "poll_seconds",
            &self.options.poll_seconds.to_string(),
        );
        set_toml(
            &agent.dir.join("device.toml"),
            "events",
            &self.options.events.to_string(),
        );
        agent
    }

    /// A device that is enrolled and runs.
    pub async fn device(&self, name: &str) -> Agent {
        let mut agent = self.enroll(name).await;
        agent.start().await;
        agent
    }
}

const PASSPHRASE_LINE: &str = "correct horse battery staple\n";

fn service(command: &str, dir: &Path) -> Vec<String> {
    vec![command.into(), "--dir".into(), dir.display().to_string()]
}

/// Sets one top-level key of a TOML file, keeping the rest as it is.
fn set_toml(path: &Path, key: &str, value: &str) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut out = format!("{key} = {value}\n");
    let mut top = true;
    for line in text.lines() {
        top &= !line.starts_with('[');
        let same = top && line.split('=').next().is_some_and(|word| word.trim() == key);
        if !same {
            out.push_str(line);
            out.push('\n');
        }
    }
    crate::packages::put(path, out.as_bytes(), 0o644);
}

/// A device agent and its folder.
#[derive(Debug)]
pub struct Agent {
    /// Its folder.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// The thermostat's port on this device.
    pub port: u16,
    /// The agent, while it runs.
    pub program: Option<Program>,
    /// More environment for the agent (such as `LD_PRELOAD` for another clock).
    pub env: BTreeMap<String, String>,
}

impl Agent {
    /// A device folder that is not enrolled yet.
    #[must_use]
    pub fn new(dir: PathBuf, name: &str) -> Self {
        Self {
            dir,
            name: name.into(),
            port: free_port(),
            program: None,
            env: BTreeMap::new(),
        }
    }

    /// Runs `device enroll` with code and password on standard input.
    pub async fn enroll(&self, code: &str, root: &Path) -> Output {
        let args = [
            "enroll".to_owned(),
            "--dir".into(),
            self.dir.display().to_string(),
            "--root".into(),
            root.display().to_string(),
            "--stdin".into(),
        ];
        let output = run(&bin("device"), &args, &format!("{code}\n{PASSWORD}\n"), &[]).await;
        if output.code == 0 {
            let path = self.dir.join("device.toml");
            let text = std::fs::read_to_string(&path).expect("device.toml");
            let text = format!("{text}\n[env.thermostat]\nTHERMOSTAT_PORT = \"{}\"\n", self.port);
            crate::packages::put(&path, text.as_bytes(), 0o644);
        }
        output
    }

    /// Starts the agent and waits until it is ready.
    pub async fn start(&mut self) {
        self.start_quietly();
        self.program
            .as_ref()
            .expect("started")
            .wait_line("ready", |line| line.contains("ready"))
            .await;
    }

    /// Starts the agent without waiting.
    pub fn start_quietly(&mut self) {
        let env: Vec<(&str, &str)> = self
            .env
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        self.program = Some(Program::start(
            &self.name,
            &bin("device"),
            service("run", &self.dir),
            &env,
        ));
    }

    /// Runs `device COMMAND … --dir DIR`.
    pub async fn command<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        args.extend(["--dir".into(), self.dir.display().to_string()]);
        run(&bin("device"), &args, "", &[]).await
    }

    /// Its status.
    pub async fn status(&self) -> DeviceStatus {
        self.command(["status", "--json"]).await.ok().json()
    }

    /// Kills the agent alone, as a crash would.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill(&mut self) {
        self.program.take().expect("running").kill().await;
    }

    /// Asks the agent to end.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn stop(&mut self) {
        let _ = self.program.take().expect("running").stop().await;
    }
}

/// What still runs of a device when its agent is gone: the tests end it through the kernel's own list.
impl Drop for Agent {
    fn drop(&mut self) {
        let needle = format!("DROVER_DATA={}", self.dir.display());
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return;
        };
        for entry in processes.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let Ok(environment) = std::fs::read(entry.path().join("environ")) else {
                continue;
            };
            let ours = environment
                .split(|byte| *byte == 0)
                .any(|line| line.starts_with(needle.as_bytes()));
            if let (true, Some(pid)) = (ours, rustix::process::Pid::from_raw(pid)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

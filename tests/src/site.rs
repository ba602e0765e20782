//! A site: the folders that `admin-gui init` makes, and its running programs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mtls::Credentials;
use protocol::author::Receipt;
use protocol::control::{AddedDevice, DeviceRow, DeviceStatus, InstallEntry, ManagerStatus};
use protocol::{Event, UpdateId};
use tuf::UnixTime;

use crate::clock::SiteClock;
use crate::packages::put;
use crate::process::{Output, Program, bin, run};
use crate::secrets;
use crate::steps::Steps;

/// The passphrase of every test site's author keys.
pub const PASSPHRASE: &str = "correct horse battery staple";
/// The password of every test device.
pub const PASSWORD: &str = "a password for one device";

/// A loopback address that no other site of this machine's running tests uses, and what keeps it so.
fn own_address() -> (Ipv4Addr, TcpListener) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.16.0.0 to 127.239.255.255, spread by process and count; who holds the guard port holds the address.
    for attempt in 0..1000u32 {
        let mix = (pid.wrapping_mul(2_654_435_761) ^ next.wrapping_mul(40_503).wrapping_add(attempt)) >> 4;
        let [_, b, c, d] = mix.to_be_bytes();
        let address = Ipv4Addr::new(127, 16 + b % 224, c, 1 + d % 250);
        if let Ok(guard) = TcpListener::bind((address, 7099)) {
            return (address, guard);
        }
    }
    panic!("no free loopback address");
}

/// A port of 127.0.0.1 that nobody else uses while the guard lives; below the range for outgoing connections.
fn own_port() -> (u16, TcpListener) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..2000 {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + ((std::process::id().wrapping_mul(7919).wrapping_add(next)) % 20_000);
        let port = u16::try_from(port).expect("below 32768");
        // The same port of another loopback address stands for it.
        let Ok(guard) = TcpListener::bind((Ipv4Addr::new(127, 255, 255, 254), port)) else {
            continue;
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return (port, guard);
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
    /// What the programs of the site log (`RUST_LOG`), where it matters; `DROVER_TEST_LOG` otherwise.
    pub log: Option<String>,
    /// Where to make the folder; a temporary one if none. It is removed at the end in any case.
    pub dir: Option<PathBuf>,
    /// The clock of all its programs and devices; the machine's if none.
    pub clock: Option<SiteClock>,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            name: "plant".into(),
            key_type: "ed25519".into(),
            poll_seconds: 10,
            events: true,
            dir: None,
            log: None,
            clock: None,
        }
    }
}

/// A site and its programs.
#[derive(Debug)]
pub struct Site {
    /// The repository, while it runs.
    pub repository: Option<Program>,
    /// The manager, while it runs.
    pub manager: Option<Program>,
    /// The site's folder.
    pub dir: PathBuf,
    /// Its loopback address: 7100 repository, 7101 devices, 7102 enrolment, 7103 metrics.
    pub address: Ipv4Addr,
    options: SiteOptions,
    _guard: TcpListener,
    // Last: the folder goes when the programs are gone.
    _folder: tempfile::TempDir,
}

impl Site {
    /// Makes a site with `admin-gui init`; nothing runs yet.
    ///
    /// # Panics
    /// If that fails.
    pub async fn create(options: SiteOptions) -> Self {
        let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new()
            .prefix("drover-")
            .tempdir_in(parent)
            .expect("temporary folder");
        let dir = folder.path().join("site");
        let (address, guard) = own_address();
        let mut args: Vec<String> = vec!["init".into(), dir.display().to_string()];
        for (option, value) in [
            ("--site", options.name.clone()),
            ("--key-type", options.key_type.clone()),
            ("--repository-address", format!("{address}:7100")),
            ("--repository-listen", format!("{address}:7100")),
            ("--manager-address", address.to_string()),
            ("--manager-listen", format!("{address}:7101")),
            ("--enroll-listen", format!("{address}:7102")),
        ] {
            args.push(option.into());
            args.push(value);
        }
        args.push("--passphrase-stdin".into());
        let _ = run(&bin("admin-gui"), &args, &format!("{PASSPHRASE}\n"), &[])
            .await
            .ok();
        secrets::learn_files(&dir);
        for (key, value) in [
            ("poll_seconds", options.poll_seconds.to_string()),
            ("events", options.events.to_string()),
            ("metrics", format!("\"{address}:7103\"")),
        ] {
            set_toml(&dir.join("manager/manager.toml"), key, &value);
        }
        Self {
            repository: None,
            manager: None,
            dir,
            address,
            options,
            _guard: guard,
            _folder: folder,
        }
    }

    /// A site whose repository and manager run.
    pub async fn running(options: SiteOptions) -> Self {
        let mut site = Self::create(options).await;
        site.start_repository().await;
        site.start_manager().await;
        site
    }

    /// The site's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// `host:port` on the site's own address.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
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

    /// The environment of the site's programs.
    fn env<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let log = self.options.log.as_deref().map(|log| ("RUST_LOG", log));
        let own = log.into_iter().chain(self.clock_env());
        own.chain(more.iter().copied()).collect()
    }

    /// The environment of whatever a person at this site starts.
    #[must_use]
    pub fn clock_env(&self) -> Vec<(&str, &str)> {
        let clock = self.options.clock.iter().flat_map(SiteClock::env);
        clock
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// The clock that its programs go by.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn mtls::Clock> {
        match &self.options.clock {
            Some(clock) => Arc::new(clock.clone()),
            None => Arc::new(mtls::SystemClock),
        }
    }

    /// The time that its programs believe it to be.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.clock().now().now
    }

    /// Starts the repository and waits until it serves.
    pub async fn start_repository(&mut self) {
        self.start_repository_with(&[]).await;
    }

    /// The same with more environment, such as another clock.
    pub async fn start_repository_with(&mut self, env: &[(&str, &str)]) {
        secrets::learn_files(&self.path("repository"));
        let args = service("run", &self.path("repository"));
        let program = Program::start("repository", &bin("repo-server"), args, &self.env(env));
        program.wait_ready().await;
        self.repository = Some(program);
    }

    /// Starts the manager and waits until it serves.
    pub async fn start_manager(&mut self) {
        self.start_manager_with(&[]).await;
    }

    /// The same with more environment, such as another clock.
    pub async fn start_manager_with(&mut self, env: &[(&str, &str)]) {
        secrets::learn_files(&self.path("manager"));
        let args = service("run", &self.path("manager"));
        let program = Program::start("manager", &bin("manager"), args, &self.env(env));
        program.wait_ready().await;
        self.manager = Some(program);
    }

    /// Asks the repository to end, and waits.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn stop_repository(&mut self) {
        let _ = self.repository.take().expect("running").stop().await;
    }

    /// Asks the manager to end, and waits.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn stop_manager(&mut self) {
        let _ = self.manager.take().expect("running").stop().await;
    }

    /// Kills the manager, as a power cut would.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill_manager(&mut self) {
        self.manager.take().expect("running").kill().await;
    }

    /// Runs `admin-gui COMMAND … --dir SITE/author` with the passphrase on standard input where it is needed.
    pub async fn author<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.author_at(&self.path("author"), args).await
    }

    /// The same for a folder elsewhere.
    pub async fn author_at<S: AsRef<str>>(&self, dir: &Path, args: impl IntoIterator<Item = S>) -> Output {
        let mut args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        args.extend(["--dir".into(), dir.display().to_string()]);
        let signs = matches!(args[0].as_str(), "publish" | "withdraw" | "renew");
        if signs {
            args.push("--passphrase-stdin".into());
        }
        let input = if signs {
            format!("{PASSPHRASE}\n")
        } else {
            String::new()
        };
        run(&bin("admin-gui"), &args, &input, &self.clock_env()).await
    }

    /// Publishes a file or folder; the receipt and the author's steps come back as JSON.
    pub async fn publish(&self, path: &Path, more: &[&str]) -> Output {
        let path = path.display().to_string();
        let mut args = vec!["publish", path.as_str(), "--yes", "--json"];
        args.extend_from_slice(more);
        self.author(args).await
    }

    /// Publishes a package that must be accepted.
    ///
    /// # Panics
    /// If it is not.
    pub async fn release(&self, path: &Path) -> Published {
        self.publish(path, &[]).await.ok().json()
    }

    /// Runs `repo-server COMMAND … --dir SITE/repository`.
    pub async fn repository<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        args.extend(["--dir".into(), self.path("repository").display().to_string()]);
        run(&bin("repo-server"), &args, "", &self.clock_env()).await
    }

    /// Runs `manager COMMAND … --dir SITE/manager`.
    pub async fn manager<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Output {
        let mut args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        args.extend(["--dir".into(), self.path("manager").display().to_string()]);
        run(&bin("manager"), &args, input, &self.clock_env()).await
    }

    /// The manager's status.
    pub async fn manager_status(&self) -> ManagerStatus {
        self.manager(["status", "--json"], "").await.ok().json()
    }

    /// The manager's device table.
    pub async fn devices(&self) -> Vec<DeviceRow> {
        self.manager(["devices", "--json"], "").await.ok().json()
    }

    /// One row of the manager's device table.
    ///
    /// # Panics
    /// If there is none of that name.
    pub async fn device_row(&self, name: &str) -> DeviceRow {
        let rows = self.devices().await;
        rows.into_iter()
            .find(|row| row.name.as_str() == name)
            .expect("on the list")
    }

    /// The manager's stream of events, as a running `manager watch --json`.
    #[must_use]
    pub fn watch_manager(&self) -> Program {
        let mut args = service("watch", &self.path("manager"));
        args.push("--json".into());
        Program::start("watch", &bin("manager"), args, &[])
    }

    /// The same, searchable.
    #[must_use]
    pub fn watch(&self) -> Steps {
        Steps::of(self.watch_manager())
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
        self.enroll_in(self.path(&format!("devices/{name}")), name).await
    }

    /// The same with its folder elsewhere.
    pub async fn enroll_in(&self, dir: PathBuf, name: &str) -> Agent {
        let code = self.add_device(name).await;
        let mut agent = Agent::new(dir, name);
        let clock = self.options.clock.iter().flat_map(SiteClock::env).cloned();
        agent.env.extend(clock);
        if let Some(log) = &self.options.log {
            agent.env.insert("RUST_LOG".into(), log.clone());
        }
        let _ = agent.enroll(&code, &self.path("author/root.json")).await.ok();
        agent.set("events", &self.options.events.to_string());
        agent
    }

    /// A device that is enrolled and runs.
    pub async fn device(&self, name: &str) -> Agent {
        let mut agent = self.enroll(name).await;
        agent.start().await;
        agent
    }
}

/// What `admin-gui publish --json` prints, as far as tests need it.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Published {
    /// The update.
    pub update: UpdateId,
    /// The repository's word.
    pub receipt: Receipt,
    /// The author's and the repository's steps.
    pub events: Vec<Event>,
    /// Bytes that had to be sent.
    pub sent: u64,
    /// The release as it was signed.
    pub release: release::Release,
}

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
    put(path, out.as_bytes(), 0o644);
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
    _guard: TcpListener,
}

impl Agent {
    /// The identity that it keeps: certificate and key, and what stands in the header `authorization`.
    ///
    /// # Panics
    /// If it has not joined.
    #[must_use]
    pub fn identity(&self) -> (Credentials, String) {
        let at = |file: &str| self.dir.join("identity").join(file);
        let own = Credentials::load(&at("chain.pem"), &at("key.pem")).expect("enrolled");
        let token = std::fs::read_to_string(at("token")).expect("enrolled");
        (own, format!("Bearer {}", token.trim()))
    }

    /// A device folder that is not enrolled yet.
    #[must_use]
    pub fn new(dir: PathBuf, name: &str) -> Self {
        let (port, guard) = own_port();
        Self {
            dir,
            name: name.into(),
            port,
            program: None,
            env: BTreeMap::new(),
            _guard: guard,
        }
    }

    /// Runs `device enroll` with code and password on standard input.
    pub async fn enroll(&self, code: &str, root: &Path) -> Output {
        self.enroll_with(code, PASSWORD, &["--root", &root.display().to_string()])
            .await
    }

    /// The same with a password and options of the caller's choice.
    pub async fn enroll_with(&self, code: &str, password: &str, options: &[&str]) -> Output {
        let dir = self.dir.display().to_string();
        let mut args = vec!["enroll", "--dir", dir.as_str(), "--stdin"];
        args.extend_from_slice(options);
        let output = run(
            &bin("device"),
            &args,
            &format!("{code}\n{password}\n"),
            &self.env(),
        )
        .await;
        if output.code == 0 {
            secrets::learn_files(&self.dir);
            let path = self.dir.join("device.toml");
            let text = std::fs::read_to_string(&path).expect("device.toml");
            let text = format!("{text}\n[env.thermostat]\nTHERMOSTAT_PORT = \"{}\"\n", self.port);
            put(&path, text.as_bytes(), 0o644);
        }
        output
    }

    /// Sets one top-level setting of `device.toml`.
    pub fn set(&self, key: &str, value: &str) {
        set_toml(&self.dir.join("device.toml"), key, value);
    }

    fn env(&self) -> Vec<(&str, &str)> {
        self.env
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    /// Starts the agent and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start(&mut self) {
        self.start_quietly();
        self.running().wait_ready().await;
    }

    /// Starts the agent without waiting.
    pub fn start_quietly(&mut self) {
        self.program = Some(Program::start(
            &self.name,
            &bin("device"),
            service("run", &self.dir),
            &self.env(),
        ));
    }

    /// The running agent.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn running(&self) -> &Program {
        self.program.as_ref().expect("running")
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

    /// Version that a component runs, and its activity, as `1.0.0 running`; `-` where there is none.
    pub async fn shows(&self, component: &str) -> String {
        let output = self.command(["status", "--json"]).await;
        if output.code != 0 {
            return "no answer".into();
        }
        let status: DeviceStatus = output.json();
        status
            .components
            .iter()
            .find(|state| state.component.as_str() == component)
            .map_or_else(
                || "-".to_owned(),
                |state| {
                    let version = state
                        .version
                        .as_ref()
                        .map_or_else(|| "-".to_owned(), ToString::to_string);
                    format!("{version} {}", state.activity)
                },
            )
    }

    /// Its install record, oldest first.
    pub async fn history(&self) -> Vec<InstallEntry> {
        self.command(["history", "--json", "--last", "100"])
            .await
            .ok()
            .json()
    }

    /// Its stream of steps, as a running `device watch --json`.
    #[must_use]
    pub fn watch(&self) -> Steps {
        let mut args = service("watch", &self.dir);
        args.push("--json".into());
        Steps::of(Program::start("watch", &bin("device"), args, &[]))
    }

    /// Ids of the processes that are a component's program: those that carry its mark, their children too.
    #[must_use]
    pub fn processes(&self, component: &str) -> Vec<i32> {
        marked(&format!("DROVER_DATA={}/data/{component}\0", self.dir.display()))
    }

    /// What a component's program has written.
    #[must_use]
    pub fn output(&self, component: &str) -> String {
        std::fs::read_to_string(self.dir.join(format!("output/{component}.log"))).unwrap_or_default()
    }

    /// Kills the agent alone, as a crash would.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill(&mut self) {
        self.program.take().expect("running").kill().await;
    }

    /// Ends what the device runs, as a power cut would: through the kernel's own list.
    pub fn end_programs(&self) {
        for pid in marked(&format!("DROVER_DATA={}/", self.dir.display())) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
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
        // First the agent: it would start them again.
        drop(self.program.take());
        self.end_programs();
    }
}

/// Processes with a variable in their environment that begins so; a NUL marks its end.
fn marked(start: &str) -> Vec<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in processes.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = pid else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else {
            continue;
        };
        let ours = environment
            .split_inclusive(|byte| *byte == 0)
            .any(|line| line.starts_with(start.as_bytes()));
        // A process that has ended keeps its entry, without an environment, until it is waited for.
        if ours {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

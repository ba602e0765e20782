//! The command line: runs the gateway, or talks to the one that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use certs::passphrase::Source;
use clap::{Args, Parser, Subcommand};
use control::Client;
use protocol::control::{
    AddedDevice, CheckResult, DevicePage, DeviceRow, DownloadEntry, ListEntry, ManagerEvent, ManagerRequest,
    ManagerStatus,
};
use protocol::{Name, Secret, messages};
use release::{Component, Version};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::config::Paths;
use crate::limits::{PASSWORD_BYTES, SITE_FILE_BYTES};
use crate::restore::Restore;
use crate::show::{show_devices, show_event, show_history, show_list_history, show_status};

/// The gateway: mirrors the repository and serves every device of the site.
#[derive(Debug, Parser)]
#[command(name = "manager", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Where {
    /// The gateway's folder.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Password {
    /// Read the password from standard input, one line.
    #[arg(long, conflicts_with = "password_fd")]
    password_stdin: bool,
    /// Read the password from this file descriptor, one line.
    #[arg(long, value_name = "N")]
    password_fd: Option<u32>,
}

#[derive(Debug, Args)]
struct Passphrase {
    /// Read the passphrase from standard input, one line.
    #[arg(long, conflicts_with = "passphrase_fd")]
    passphrase_stdin: bool,
    /// Read the passphrase from this file descriptor, one line.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

impl Passphrase {
    fn source(&self) -> Source {
        Source::from_option(self.passphrase_fd.or(self.passphrase_stdin.then_some(0)))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway until it is told to end.
    Run {
        #[command(flatten)]
        at: Where,
        /// How to write the log.
        #[arg(long, value_enum, default_value = "text")]
        log: LogForm,
    },
    /// Opens the gateway's window; starts the gateway where none runs. Closing the window stops nothing.
    #[cfg(feature = "gui")]
    Window {
        /// The gateway's folder.
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
        /// A file with the window's words in another language.
        #[arg(long, value_name = "FILE")]
        texts: Option<PathBuf>,
        /// Colours.
        #[arg(long, value_name = "system|light|dark", default_value = "system")]
        theme: gui_kit::theme::Look,
    },
    /// What the gateway is doing.
    Status(Where),
    /// The devices on the list.
    Devices(Where),
    /// Puts a device on the list and prints the code for the person at the device.
    AddDevice {
        /// The device's name.
        name: String,
        #[command(flatten)]
        password: Password,
        #[command(flatten)]
        at: Where,
    },
    /// A new code for a device on the list.
    NewCode {
        /// The device's name.
        name: String,
        #[command(flatten)]
        password: Password,
        #[command(flatten)]
        at: Where,
    },
    /// Takes a device off the list and cuts its connections.
    DeleteDevice {
        /// The device's name.
        name: String,
        /// Without the device's password, on your own authority; recorded as such.
        #[arg(long, conflicts_with_all = ["password_stdin", "password_fd"])]
        danger_without_password: bool,
        #[command(flatten)]
        password: Password,
        #[command(flatten)]
        at: Where,
    },
    /// Cuts a device off until it is let in again: for one whose key may be in wrong hands.
    Quarantine {
        /// The device's name.
        name: String,
        /// Why, for the record.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        at: Where,
    },
    /// Lets a device in quarantine in again, with the key it has; ends an alarm about two machines of its name.
    Readmit {
        /// The device's name.
        name: String,
        #[command(flatten)]
        at: Where,
    },
    /// Starts the downloader's timer.
    Start(Where),
    /// Stops the downloader's timer; devices stay served.
    Stop(Where),
    /// Checks the repository now.
    CheckNow(Where),
    /// Offers a release again that was stopped because devices rolled it back.
    Resume {
        /// The component.
        component: Component,
        /// The version.
        version: Version,
        #[command(flatten)]
        at: Where,
    },
    /// Tells a device to install a release that waits there now: `manager status` shows what waits, and for what.
    Activate {
        /// The device's name.
        name: String,
        /// The component.
        component: Component,
        /// Although conditions are not met; only where the device's settings allow it, and recorded and reported by it.
        #[arg(long = "override")]
        overriding: bool,
        #[command(flatten)]
        at: Where,
    },
    /// The newest downloads, or what happened to the device list.
    History {
        /// Show who was put on the device list, joined, and was taken off.
        #[arg(long)]
        devices: bool,
        /// How many.
        #[arg(long, default_value_t = 20)]
        last: usize,
        #[command(flatten)]
        at: Where,
    },
    /// Prints what happens as it happens.
    Watch(Where),
    /// Writes an encrypted copy of all that a replacement gateway needs.
    Backup {
        /// The file to write; mode 0600.
        file: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
        #[command(flatten)]
        at: Where,
    },
    /// Makes a gateway's folder from a backup; no gateway runs in it yet.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Which devices stay on the list: `all`, or a file with their names, one a line. Default: asked for.
        #[arg(long, value_name = "all|FILE")]
        confirm_devices: Option<PathBuf>,
        #[command(flatten)]
        passphrase: Passphrase,
        #[command(flatten)]
        at: Where,
    },
    /// Mends a damaged trusted state; no gateway runs in the folder. Nothing older than is remembered comes back.
    RepairTrust {
        /// The author's root file. Default: the one in the gateway's folder.
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
        /// Go on although nothing is left of what was remembered against old metadata.
        #[arg(long)]
        danger_forget_floors: bool,
        #[command(flatten)]
        at: Where,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogForm {
    Text,
    Json,
}

/// Runs the program; errors are printed with their causes.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manager: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run { at, log } => {
            start_log(log);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                let shutdown = CancellationToken::new();
                tokio::spawn(until_told(shutdown.clone()));
                crate::service::run(&at.dir, shutdown).await
            })
        }
        #[cfg(feature = "gui")]
        Command::Window { dir, texts, theme } => crate::ui::run(&dir, texts.as_deref(), theme),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(ask(command))
        }
    }
}

fn start_log(form: LogForm) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,drover=info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match form {
        LogForm::Text => log
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogForm::Json => log.json().init(),
    }
}

async fn until_told(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    shutdown.cancel();
}

async fn client(at: &Where) -> Result<Client> {
    Ok(Client::connect(&Paths::new(&at.dir).socket(), "the manager").await?)
}

async fn ask(command: Command) -> Result<()> {
    match command {
        Command::Run { .. } => Ok(()),
        #[cfg(feature = "gui")]
        Command::Window { .. } => Ok(()),
        Command::Status(at) => {
            let status: ManagerStatus = client(&at).await?.call(&ManagerRequest::Status).await?;
            print(&at, &status, || show_status(&status))
        }
        Command::Devices(at) => {
            let rows = rows(&mut client(&at).await?).await?;
            print(&at, &rows, || show_devices(&rows))
        }
        Command::AddDevice { name, password, at } => {
            let request = ManagerRequest::AddDevice {
                name: device(&name)?,
                password: read(&password)?,
            };
            added(&at, request).await
        }
        Command::NewCode { name, password, at } => {
            let request = ManagerRequest::NewCode {
                name: device(&name)?,
                password: read(&password)?,
            };
            added(&at, request).await
        }
        Command::DeleteDevice {
            name,
            danger_without_password,
            password,
            at,
        } => {
            let password = if danger_without_password {
                None
            } else {
                Some(read(&password)?)
            };
            let request = ManagerRequest::DeleteDevice {
                name: device(&name)?,
                password,
            };
            client(&at).await?.call::<()>(&request).await?;
            print(&at, &(), || println!("{}", messages::DEVICE_DELETED.text))
        }
        Command::Quarantine { name, reason, at } => {
            let name = device(&name)?;
            let text = format!(
                "{name} is cut off; what it runs goes on. If its key may be in other hands: `manager new-code {name}`, then \
                 `device enroll --again` on the right machine. If it is in none: `manager readmit {name}`"
            );
            simple(&at, ManagerRequest::Quarantine { name, reason }, &text).await
        }
        Command::Readmit { name, at } => {
            let name = device(&name)?;
            let text =
                format!("{name} is let in again, with the key it has: it comes by itself within a minute");
            simple(&at, ManagerRequest::Readmit { name }, &text).await
        }
        Command::Start(at) => simple(&at, ManagerRequest::Start, "the downloader runs").await,
        Command::Stop(at) => {
            simple(
                &at,
                ManagerRequest::Stop,
                "the downloader is stopped; devices stay served",
            )
            .await
        }
        Command::CheckNow(at) => {
            let found: CheckResult = client(&at).await?.call(&ManagerRequest::CheckNow).await?;
            print(&at, &found, || println!("{}", found.message))
        }
        Command::Resume {
            component,
            version,
            at,
        } => {
            let request = ManagerRequest::Resume { component, version };
            simple(&at, request, "it is offered again").await
        }
        Command::Activate {
            name,
            component,
            overriding,
            at,
        } => {
            let request = ManagerRequest::Activate {
                name: name.parse()?,
                component,
                overriding,
            };
            simple(
                &at,
                request,
                "the device is told: `manager devices` shows how it goes",
            )
            .await
        }
        Command::History {
            devices: true,
            last,
            at,
        } => {
            let entries: Vec<ListEntry> = client(&at)
                .await?
                .call(&ManagerRequest::ListHistory { last })
                .await?;
            print(&at, &entries, || show_list_history(&entries))
        }
        Command::History { last, at, .. } => {
            let entries: Vec<DownloadEntry> =
                client(&at).await?.call(&ManagerRequest::History { last }).await?;
            print(&at, &entries, || show_history(&entries))
        }
        Command::Watch(at) => watch(&at).await,
        Command::RepairTrust {
            root,
            danger_forget_floors,
            at,
        } => {
            crate::trust::repair(&at.dir, root.as_deref(), danger_forget_floors).await?;
            print(&at, &(), || {
                println!("the trusted state is repaired: start the gateway again");
            })
        }
        Command::Backup { file, passphrase, at } => {
            let secret = passphrase.source().read_new("passphrase of the backup")?;
            let path = std::path::absolute(&file)?;
            let passphrase = Secret::new(secret.to_string());
            let text = format!(
                "the backup is in {}; keep its passphrase elsewhere",
                path.display()
            );
            simple(&at, ManagerRequest::Backup { path, passphrase }, &text).await
        }
        Command::Restore {
            file,
            confirm_devices,
            passphrase,
            at,
        } => {
            let secret = passphrase.source().read("passphrase of the backup")?;
            restore(
                &file,
                confirm_devices.as_deref(),
                &Secret::new(secret.to_string()),
                &at,
            )
        }
    }
}

/// The whole device table, by name, page by page: ten thousand rows do not fit one answer.
async fn rows(client: &mut Client) -> Result<Vec<DeviceRow>> {
    let (mut generation, mut revision) = (0, 0);
    let mut rows = BTreeMap::new();
    loop {
        let request = ManagerRequest::DevicesSince { generation, revision };
        let page: DevicePage = client.call(&request).await?;
        if page.generation != generation {
            rows.clear();
        }
        (generation, revision) = (page.generation, page.revision);
        rows.extend(page.rows.into_iter().map(|row| (row.name.clone(), row)));
        if !page.more {
            return Ok(rows.into_values().collect());
        }
    }
}

/// Offline: no gateway runs in the folder yet.
fn restore(file: &Path, confirm: Option<&Path>, passphrase: &Secret, at: &Where) -> Result<()> {
    let restore = Restore::open(file, &std::path::absolute(&at.dir)?, passphrase)?;
    let keep = match confirm {
        Some(all) if all == Path::new("all") => restore.devices.clone(),
        Some(list) => {
            let bytes = durable::read_limited(list, SITE_FILE_BYTES)?;
            names(&String::from_utf8(bytes).with_context(|| format!("{} is not text", list.display()))?)?
        }
        None => confirm_by_hand(&restore)?,
    };
    let kept = keep.len();
    let gone = restore.finish(&keep)?;
    print(at, &gone, || {
        println!(
            "restored: {kept} devices stay on the list, {} were taken off",
            gone.len()
        );
        println!("Stop the old gateway for good, give this machine its address, then: manager run --dir DIR");
    })
}

fn names(text: &str) -> Result<BTreeSet<Name>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(device)
        .collect()
}

/// Deleted devices must not come back by a backup: a person looks at the list.
fn confirm_by_hand(restore: &Restore) -> Result<BTreeSet<Name>> {
    if !std::io::stdin().is_terminal() {
        anyhow::bail!(
            "confirm the devices with --confirm-devices all or --confirm-devices FILE: nothing was restored"
        );
    }
    println!("{}. Devices on its list:", restore.describe());
    for name in &restore.devices {
        println!("  {name}");
    }
    println!(
        "Leave out those that were deleted, put in quarantine or enrolled anew since then: their keys of then would be let in \
         again."
    );
    println!("Type `all` to keep them all, or the names to keep, with blanks between them:");
    let mut line = String::new();
    std::io::stdin().lock().take(1 << 20).read_line(&mut line)?;
    match line.trim() {
        "" => anyhow::bail!("nothing was confirmed and nothing restored"),
        "all" => Ok(restore.devices.clone()),
        some => some.split_whitespace().map(device).collect(),
    }
}

/// A device's name; the document's message where there is none.
fn device(text: &str) -> Result<Name> {
    if text.is_empty() {
        anyhow::bail!("{}", messages::INPUT_EMPTY.text);
    }
    text.parse()
        .with_context(|| format!("{text:?} is not a device's name"))
}

/// The password: prompted for, or one line of standard input or of a descriptor; never an argument.
fn read(source: &Password) -> Result<Secret> {
    let line = if let Some(descriptor) = source.password_fd {
        let file = std::fs::File::open(format!("/proc/self/fd/{descriptor}"))
            .with_context(|| format!("cannot read descriptor {descriptor}"))?;
        first_line(file)?
    } else if source.password_stdin {
        first_line(std::io::stdin())?
    } else {
        Zeroizing::new(rpassword::prompt_password("password of the device: ")?)
    };
    Ok(Secret::new(line.to_string()))
}

fn first_line(input: impl std::io::Read) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    input.take(2 * PASSWORD_BYTES as u64).read_to_string(&mut text)?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

async fn added(at: &Where, request: ManagerRequest) -> Result<()> {
    let added: AddedDevice = client(at).await?.call(&request).await?;
    print(at, &added, || {
        println!("{}", messages::DEVICE_ADDED.text);
        println!(
            "Code for {} (once, until {}):\n\n  {}\n",
            added.name,
            added.code_until,
            added.code.reveal()
        );
        println!("On the device: device enroll --dir DIR --root root.json");
    })
}

async fn simple(at: &Where, request: ManagerRequest, text: &str) -> Result<()> {
    client(at).await?.call::<()>(&request).await?;
    print(at, &(), || println!("{text}"))
}

fn print(at: &Where, value: &impl serde::Serialize, show: impl FnOnce()) -> Result<()> {
    if at.json {
        println!("{}", serde_json::to_string(value)?);
    } else {
        show();
    }
    Ok(())
}

async fn watch(at: &Where) -> Result<()> {
    let mut client = client(at).await?;
    client.send(&ManagerRequest::Watch).await?;
    while let Some(event) = client.next::<ManagerEvent>().await? {
        if at.json {
            println!("{}", serde_json::to_string(&event)?);
        } else {
            show_event(&event);
        }
    }
    Ok(())
}

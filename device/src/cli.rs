//! The command line.

mod client;

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use durable::Files;
use protocol::Secret;
use protocol::control::{DeviceRequest, DeviceStatus};
use protocol::enroll::EnrollCode;
use release::Component;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tuf::Digest;

use crate::agent::{Agent, hold};
use crate::ask::{self, Source};
use crate::dry_run::Subject;
use crate::enroll::{Anchor, Joining, enroll};
use crate::launcher::{AGENT, Launched, Place, SWITCH, Starter, launch, settled};
use crate::layout::Layout;
use crate::limits::{DISK_THREADS, ONCE_LIMIT};
use crate::once::{self, Bounds};
use crate::records::InstallLog;
use crate::show::{applied_text, entry_text, plan_text, status_text};
use crate::supervise::bounds::{RUN_PROGRAM, RunProgram, run_program};
use crate::supervise::output::{self, COPY_OUTPUT};
use crate::world::World;
use client::{call, plan, print, watch};

/// The device agent: runs applications, keeps them up to date, trusts only its own root.
#[derive(Debug, Parser)]
#[command(name = "device", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Form of the log on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text)]
    log: LogForm,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogForm {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

impl LogForm {
    fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

#[derive(Debug, Args)]
struct Dir {
    /// The device's folder.
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Joins a site with a code from its manager; code and password are asked for.
    Enroll(EnrollArgs),
    /// Runs the agent: starts what is installed, then looks for the manager.
    Run(Dir),
    /// One bounded run in the place of `run`: finishes or undoes what was under way, takes what the manager has ordered,
    /// sees it through its probation, reports, ends. What is installed runs on.
    ///
    /// Exit codes: 0 nothing to do, 9 a release waits for its conditions or for a person, 10 committed, 11 refused, 12 rolled back, 13 failed, 14 not finished within
    /// --limit (the next run goes on), 15 no answer of the manager within 60 seconds; 1 it could not be tried at all.
    /// Of several orders the largest counts.
    Apply(ApplyArgs),
    /// What this device runs and how it is connected.
    Status(Shown),
    /// The install record.
    History {
        #[command(flatten)]
        shown: Shown,
        /// How many of the newest entries.
        #[arg(long, default_value_t = 20)]
        last: usize,
    },
    /// Goes back to a component's previous version and stays there; ends a probation at once.
    Rollback {
        #[command(flatten)]
        shown: Shown,
        /// Which component.
        component: Component,
    },
    /// Lets a component be updated again that was rolled back by hand or whose version failed.
    Release {
        #[command(flatten)]
        shown: Shown,
        /// Which component.
        component: Component,
    },
    /// Installs the release of a component that waits: for a person, or for conditions that are met now.
    Activate {
        #[command(flatten)]
        shown: Shown,
        /// Which component.
        component: Component,
        /// Although conditions are not met; that is recorded and reported.
        #[arg(long = "override")]
        overriding: bool,
    },
    /// What would become of a release here: live, restart, needs a person, impossible; why, the predicted pause, and what
    /// it would wait for. Also where no agent runs; nothing is changed.
    Plan {
        #[command(flatten)]
        shown: Shown,
        /// COMPONENT for its newest release in the verified metadata, or COMPONENT@VERSION.
        release: Subject,
    },
    /// Shows the steps of updates as they happen.
    Watch(Shown),
    /// Opens the window; starts the agent where none runs.
    #[cfg(feature = "gui")]
    Window(WindowArgs),
    /// Is the agent, started by a launcher.
    #[command(name = AGENT, hide = true)]
    Agent(AgentArgs),
    /// Keeps the newest of its standard input in a file: started by the agent for each program.
    #[command(name = COPY_OUTPUT, hide = true)]
    CopyOutput {
        /// The file.
        file: PathBuf,
    },
    /// Becomes a program within its boundaries: started by the agent.
    #[command(name = RUN_PROGRAM, hide = true)]
    RunProgram(RunProgram),
    /// Anchors damaged trusted state again with the author's root file; the agent must not run.
    RepairTrust {
        #[command(flatten)]
        dir: Dir,
        /// The author's root file.
        #[arg(long)]
        root: PathBuf,
        /// Go on although nothing is left of what was remembered against old metadata.
        #[arg(long)]
        danger_forget_floors: bool,
    },
}

/// How a launcher starts an agent: these words keep their meaning for good.
#[derive(Debug, Args)]
struct AgentArgs {
    #[command(flatten)]
    dir: Dir,
    /// The release that this executable belongs to.
    #[arg(long)]
    slot: Digest,
    /// The launcher's process id.
    #[arg(long)]
    launcher: i32,
}

#[derive(Debug, Args)]
struct ApplyArgs {
    /// The release that this executable belongs to, where another one started it.
    #[arg(long, hide = true)]
    slot: Option<Digest>,
    #[command(flatten)]
    shown: Shown,
    /// Take what is ordered now and end; `device run` goes on.
    #[arg(long, required = true)]
    once: bool,
    /// Seconds that it may take at most.
    #[arg(long, value_name = "SECONDS", default_value_t = ONCE_LIMIT.as_secs(), value_parser = clap::value_parser!(u64).range(1..=7 * 86_400))]
    limit: u64,
}

#[derive(Debug, Args)]
struct Shown {
    #[command(flatten)]
    dir: Dir,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[cfg(feature = "gui")]
#[derive(Debug, Args)]
struct WindowArgs {
    #[command(flatten)]
    dir: Dir,
    /// A file with a translation of the window's texts.
    #[arg(long)]
    texts: Option<PathBuf>,
    /// Colours.
    #[arg(long, value_name = "system|light|dark", default_value = "system")]
    theme: gui_kit::theme::Look,
    /// Over the whole screen, as on a panel on a wall.
    #[arg(long)]
    full_screen: bool,
}

#[derive(Debug, Args)]
struct EnrollArgs {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    anchor: AnchorArgs,
    /// Read the code and then the password from standard input, a line each.
    #[arg(long, conflicts_with_all = ["code_fd", "password_fd"])]
    stdin: bool,
    /// Read the code from this open file descriptor.
    #[arg(long)]
    code_fd: Option<u32>,
    /// Read the password from this open file descriptor.
    #[arg(long)]
    password_fd: Option<u32>,
    /// A component this device runs (may be repeated; default: all that it is ordered to).
    #[arg(long = "component")]
    components: Vec<Component>,
    /// A hardware id this device answers to (may be repeated).
    #[arg(long = "hardware")]
    hardware: Vec<String>,
    /// Give a new identity to a device that is enrolled.
    #[arg(long)]
    again: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AnchorArgs {
    /// The author's root file: what this device will trust.
    #[arg(long)]
    root: Option<PathBuf>,
    /// SHA-256 of the author's root file, which is then fetched from the manager and compared.
    #[arg(long)]
    root_fingerprint: Option<Digest>,
    /// Trust whatever root the manager has: the gateway could then install what it likes. Refused where a root is
    /// trusted already.
    #[arg(long)]
    danger_trust_gateway: bool,
}

/// Runs the program with these arguments.
///
/// # Errors
/// What a person should read, with its causes.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // A process for each program: no log, no threads.
    if let Command::CopyOutput { file } = &cli.command {
        output::copy(file).context("cannot copy a program's output")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::RunProgram(asked) = &cli.command {
        anyhow::bail!(run_program(asked));
    }
    start_log(cli.log);
    // A window waits for its person, not for a runtime.
    #[cfg(feature = "gui")]
    if let Command::Window(args) = &cli.command {
        return window(args).map(|()| ExitCode::SUCCESS);
    }
    if matches!(&cli.command, Command::Run(_) | Command::Apply(_)) {
        frugally();
    }
    // Held until the end: one launcher, or one agent without one.
    let _held = match &cli.command {
        Command::Run(dir) => match launch(&Layout::new(&dir.dir)?, &Files::real(), cli.log.word())? {
            Launched::Own(held) => Some(held),
            Launched::Ended(code) => return Ok(code),
        },
        Command::Apply(args) => Some(newest(args)?),
        Command::RepairTrust { dir, .. } => Some(hold(&Layout::new(&dir.dir)?)?),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(512 << 10)
        .build()
        .context("cannot start the runtime")?;
    match cli.command {
        Command::Apply(args) => runtime.block_on(apply(&args)),
        Command::Agent(args) => {
            let place = Place {
                slot: Some(args.slot),
                starter: Starter::Launcher(args.launcher),
            };
            end_with(args.launcher)?;
            Ok(match runtime.block_on(serve(&args.dir.dir, place))? {
                Served::ToTheEnd => ExitCode::SUCCESS,
                Served::Replaced => ExitCode::from(SWITCH),
            })
        }
        Command::Run(dir) => {
            let place = Place {
                slot: None,
                starter: Starter::Itself,
            };
            let served = runtime.block_on(serve(&dir.dir, place))?;
            drop(runtime);
            match served {
                Served::ToTheEnd => Ok(ExitCode::SUCCESS),
                // In this same process, as a launcher.
                Served::Replaced => Err(begin_again(std::env::args_os().skip(1)).into()),
            }
        }
        other => runtime.block_on(command(other)).map(|()| ExitCode::SUCCESS),
    }
}

/// glibc keeps a pool of freed memory for each thread that has ever worked, which a device has no room for, and is told
/// otherwise by the environment only, before a program begins: the agent begins again in the same process. Programs that
/// it starts do not inherit it; elsewhere the variable means nothing.
fn frugally() {
    const POOLS: &str = "MALLOC_ARENA_MAX";
    if std::env::var_os(POOLS).is_some() {
        return;
    }
    // Under its own name, not as /proc/self/exe: that is what process lists show.
    if let Ok(own) = std::env::current_exe() {
        // It returns only if that cannot be done: then more memory is used.
        let error = again(own.as_ref(), std::env::args_os().skip(1))
            .env(POOLS, "1")
            .exec();
        tracing::debug!(%error, "the agent cannot be told to keep less memory");
    }
}

/// A program in the place of this one, under this one's name.
fn again(program: &Path, args: impl Iterator<Item = OsString>) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command
        .arg0(std::env::args_os().next().unwrap_or_else(|| "device".into()))
        .args(args);
    command
}

/// This program from its beginning, in the same process; returns only where that cannot be done.
fn begin_again(args: impl Iterator<Item = OsString>) -> std::io::Error {
    // Also where its file was replaced meanwhile.
    let own = std::env::current_exe().ok().filter(|own| own.is_file());
    again(&own.unwrap_or_else(|| "/proc/self/exe".into()), args).exec()
}

/// An agent without its launcher could not be replaced: it ends with it, at once, and the programs run on.
fn end_with(launcher: i32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be bound to the launcher")?;
    let parent = getppid().map(Pid::as_raw_pid);
    ensure!(
        parent == Some(launcher),
        "started by its launcher only: use `device run`"
    );
    Ok(())
}

/// Keeps others away; and goes on as the agent that has taken this one's place, where one has.
fn newest(args: &ApplyArgs) -> anyhow::Result<File> {
    let layout = Layout::new(&args.shown.dir.dir)?;
    let held = hold(&layout)?;
    if args.slot.is_some() {
        return Ok(held);
    }
    let Some((program, slot)) = settled(&layout, &Files::real())? else {
        return Ok(held);
    };
    let slot = [OsString::from("--slot"), slot.to_string().into()];
    let error = again(&program, std::env::args_os().skip(1).chain(slot)).exec();
    Err(error).with_context(|| format!("cannot start the agent {}", program.display()))
}

#[cfg(feature = "gui")]
fn window(args: &WindowArgs) -> anyhow::Result<()> {
    let looks = crate::ui::Looks {
        texts: args.texts.as_deref(),
        theme: args.theme.0,
        full_screen: args.full_screen,
    };
    crate::ui::show(&args.dir.dir, looks)
}

fn start_log(form: LogForm) {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|text| text.parse().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr);
    // A second call, in tests, is of no harm.
    let _ = match form {
        LogForm::Text => log
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .finish()
            .with(filter)
            .try_init(),
        LogForm::Json => log.json().finish().with(filter).try_init(),
    };
}

async fn command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Enroll(args) => join(args).await,
        // They have exit codes of their own.
        Command::Run(_) | Command::Agent(_) | Command::Apply(_) | Command::RunProgram(_) => Ok(()),
        Command::Status(shown) => {
            let status: DeviceStatus = call(&shown, &DeviceRequest::Status).await?;
            print(&shown, &status, status_text)
        }
        Command::History { shown, last } => {
            let layout = Layout::new(&shown.dir.dir)?;
            let entries = InstallLog::read(&layout.records(), last)?;
            print(&shown, &entries, |entries| {
                entries.iter().map(entry_text).collect()
            })
        }
        Command::Rollback { shown, component } => {
            call::<()>(
                &shown,
                &DeviceRequest::Rollback {
                    component: component.clone(),
                },
            )
            .await?;
            print(&shown, &(), |()| {
                format!("{component} was rolled back and is held there until `release`\n")
            })
        }
        Command::Release { shown, component } => {
            call::<()>(
                &shown,
                &DeviceRequest::Release {
                    component: component.clone(),
                },
            )
            .await?;
            print(&shown, &(), |()| format!("{component} may be updated again\n"))
        }
        Command::Activate {
            shown,
            component,
            overriding,
        } => {
            let request = DeviceRequest::Activate {
                component: component.clone(),
                overriding,
            };
            call::<()>(&shown, &request).await?;
            print(&shown, &(), |()| {
                format!("{component} is being installed: `status` and `history` show how it goes\n")
            })
        }
        Command::Plan { shown, release } => {
            let planned = plan(&shown, release).await?;
            print(&shown, &planned, plan_text)
        }
        Command::Watch(shown) => watch(&shown).await,
        Command::CopyOutput { file } => Ok(output::copy(&file)?),
        // Opened before there is a runtime.
        #[cfg(feature = "gui")]
        Command::Window(args) => window(&args),
        Command::RepairTrust {
            dir,
            root,
            danger_forget_floors,
        } => {
            let layout = Layout::new(&dir.dir)?;
            let world = World::system();
            let _lock = crate::agent::lock(&world, &layout)?;
            crate::repair::repair(&layout, &world, &root, danger_forget_floors)?;
            println!("the trusted state is repaired: start the agent again");
            Ok(())
        }
    }
}

async fn join(args: EnrollArgs) -> anyhow::Result<()> {
    let anchor = match (args.anchor.root, args.anchor.root_fingerprint) {
        (Some(path), _) => Anchor::File(path),
        (None, Some(digest)) => Anchor::Fingerprint(digest),
        (None, None) => Anchor::DangerTrustGateway,
    };
    let code = ask::secret(
        Source {
            stdin: args.stdin,
            fd: args.code_fd,
        },
        "enrolment code",
    )?;
    let code: EnrollCode = code.reveal().parse()?;
    let password: Secret = ask::secret(
        Source {
            stdin: args.stdin,
            fd: args.password_fd,
        },
        "device's password",
    )?;
    let layout = Layout::new(&args.dir.dir)?;
    let joining = Joining {
        code,
        password,
        anchor,
        components: args.components.iter().map(ToString::to_string).collect(),
        hardware: args.hardware,
        again: args.again,
    };
    let enrolled = enroll(&layout, &World::system(), joining).await?;
    println!(
        "enrolled as {} at site {}, manager {}",
        enrolled.device, enrolled.site, enrolled.manager
    );
    println!("next: device run --dir {}", args.dir.dir.display());
    Ok(())
}

/// How an agent's work ended.
enum Served {
    /// It was asked to end.
    ToTheEnd,
    /// For another agent.
    Replaced,
}

async fn serve(dir: &Path, place: Place) -> anyhow::Result<Served> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let world = World {
        place,
        ..World::system()
    };
    let agent = Agent::start(Layout::new(dir)?, world).await?;
    let replaced = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = agent.replaced() => true,
    };
    if replaced {
        agent.cut_off().await;
        return Ok(Served::Replaced);
    }
    tracing::info!(target: "drover", "ending; the programs are told to stop");
    agent.stop().await;
    Ok(Served::ToTheEnd)
}

async fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let world = World {
        place: Place {
            slot: args.slot,
            starter: Starter::Nobody,
        },
        ..World::system()
    };
    let agent = Agent::start(Layout::new(&args.shown.dir.dir)?, world).await?;
    let bounds = Bounds {
        whole: Duration::from_secs(args.limit),
        ..Bounds::default()
    };
    let applied = tokio::select! {
        applied = once::apply(&agent.hub, bounds) => Some(applied),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    // The programs run on.
    agent.cut_off().await;
    let applied = applied.context("interrupted: the next run goes on")?;
    print(&args.shown, &applied, applied_text)?;
    Ok(ExitCode::from(applied.result.exit_code()))
}

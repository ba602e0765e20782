//! The command line over the library.

pub mod args;
mod exit;
pub mod keys;
mod package;
pub mod root;
mod show;
pub mod sign;
pub mod team;
mod watch;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::{Cli, Command, Common, Latency, OnlyRole, PassphraseFrom};
use crate::desk::{Desk, DeskError, Senses, UnlockError, Unlocked};
use crate::init::{Plan, init};
use crate::limits::PASSPHRASE_TRIES;
use crate::maintain::Renewal;
use crate::passphrase::{Passphrase, Source};
use crate::plain::plain;
use crate::preflight::Preflight;
use crate::publish::{PublishError, Published};
use crate::service::{self, Setup};
use crate::signing::KeyError;

const ASK: &str = "Passphrase of the author's keys";

/// Runs the program; the exit code says what kind of thing went wrong (`exit`).
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let Some(command) = cli.command.or_else(window_if_shown) else {
        // No word and no display: what one can say.
        let _ = Cli::command().print_help();
        return ExitCode::from(2);
    };
    let usual = match &command {
        Command::Serve(_) => "warn,drover=info",
        _ => "warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let wants_json = wants_json(&command);
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit::code(&error);
            // Of files and answers that others made, too.
            let text = plain(&one_line(&error));
            if wants_json {
                let inspection = error.downcast_ref().map(|package::Refused(found)| found);
                let report = match error.downcast_ref() {
                    Some(PublishError::Preflight(report)) => Some(report),
                    _ => None,
                };
                let mut told = json!({ "error": text, "exit_code": code, "preflight": report });
                if let (Some(found), Some(told)) = (inspection, told.as_object_mut()) {
                    told.insert("inspection".to_owned(), json!(found));
                }
                print_json(&told);
            }
            eprintln!("admin-gui: {text}");
            ExitCode::from(code)
        }
    }
}

/// Without a word the window opens, where it can be shown.
fn window_if_shown() -> Option<Command> {
    #[cfg(feature = "gui")]
    {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if set("DISPLAY") || set("WAYLAND_DISPLAY") {
            return Some(Command::Window(args::Window::default()));
        }
    }
    None
}

fn run(command: Command) -> Result<()> {
    // A window waits for its person, not for a runtime.
    #[cfg(feature = "gui")]
    if let Command::Window(args) = &command {
        return crate::ui::run(&args.folder(), args.texts.as_deref(), args.theme);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match command {
        Command::Init(args) => new_site(args),
        Command::Publish(args) => runtime.block_on(publish(args)),
        Command::Pack(args) => package::pack(&args),
        Command::Inspect(args) => package::inspect(&args),
        Command::Plan(args) => package::plan(&args),
        Command::Rehearse(args) => runtime.block_on(package::rehearse(args)),
        Command::History(args) => show::history(&args),
        Command::Status(common) => runtime.block_on(async {
            let status = open(&common)?.status().await?;
            output(&common, &status, || show::status(&status));
            match status.trouble {
                Some(trouble) => Err(Trouble(trouble).into()),
                None => Ok(()),
            }
        }),
        Command::Sign(args) => runtime.block_on(sign::sign(args)),
        Command::Withdraw(args) => runtime.block_on(async {
            if let Some(out) = &args.draft {
                return sign::begin_withdrawal(&args, out).await;
            }
            let unlocked = unlock_now(&open(&args.common)?, &args.passphrase).await?;
            let sink = watch::sink(args.common.json);
            let done = unlocked
                .withdraw(&args.component, &args.version, &args.reason, &sink)
                .await?;
            told(
                &args.common,
                &done,
                &format!("{} {} is withdrawn", args.component, args.version),
            );
            Ok(())
        }),
        Command::Fleet(common) => runtime.block_on(async {
            let reports = open(&common)?.reports().await?;
            let devices = reports.devices();
            output(&common, &devices, || show::fleet(&devices, &reports));
            Ok(())
        }),
        Command::Reports(common) => runtime.block_on(async {
            let reports = open(&common)?.reports().await?;
            output(&common, &reports, || show::reports(&reports));
            Ok(())
        }),
        Command::Latency(args) => runtime.block_on(latency(args)),
        Command::Keys(common) => runtime.block_on(keys::keys(&common)),
        Command::NewKey(args) => keys::new_key(&args),
        Command::Root(command) => runtime.block_on(root::run(command)),
        Command::Team(command) => runtime.block_on(team::run(command)),
        Command::Renew(args) => runtime.block_on(renew(args)),
        Command::Recover(common) => runtime.block_on(async {
            let done = open(&common)?.recover(&watch::sink(common.json)).await?;
            output(&common, &done, || show::recovered(&done));
            Ok(())
        }),
        #[cfg(feature = "gui")]
        Command::Window(_) => Ok(()),
        Command::Serve(args) => runtime.block_on(serve(args)),
    }
}

/// Renews what this desk can sign alone; of a root that it cannot, it makes the draft.
async fn renew(args: args::Renew) -> Result<()> {
    if let Some(out) = &args.draft {
        return sign::begin_renewal(&args, out).await;
    }
    let desk = open(&args.common)?;
    let view = desk.look_even_if_expired().await?;
    let keys = &view.state.root().root;
    let alone = keys.threshold.get() == 1
        && (desk.folder.root_key().exists() || !desk.folder.keys_for(keys).is_empty());
    let is_team = desk.config.team.is_some();
    if !alone && !is_team && args.only != Some(OnlyRole::Targets) {
        root::renewal(&desk, &view)?;
        if args.only.is_some() {
            return Ok(());
        }
    }
    let what = match args.only {
        None if alone && !is_team => Renewal::All,
        None | Some(OnlyRole::Targets) => Renewal::Targets,
        Some(OnlyRole::Root) => Renewal::Root,
    };
    let passphrase = Passphrase::get(&args.passphrase.source(), ASK)?;
    let done = desk.unlock(&passphrase)?.renew(what, &passphrase).await?;
    told(&args.common, &done, "renewed");
    Ok(())
}

async fn serve(args: args::Serve) -> Result<()> {
    let mut setup = Setup {
        repository: args.repository,
        ..Setup::default()
    };
    setup.pace.idle = Duration::from_secs(args.idle_seconds);
    let mut terminate = signal(SignalKind::terminate())?;
    service::run(&args.dir, setup, async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    })
    .await?;
    Ok(())
}

fn new_site(args: args::Init) -> Result<()> {
    let site = match args.site {
        Some(site) => site,
        None => args
            .site_dir
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .parse()?,
    };
    let plan = Plan {
        site,
        author: args.author,
        repository: args.repository_name,
        manager: args.manager_name,
        repository_host: args.repository_address.0,
        repository_port: args.repository_address.1,
        repository_listen: args.repository_listen,
        manager_host: args.manager_address,
        manager_listen: args.manager_listen,
        enroll_listen: args.enroll_listen,
        targets_key: args.key_type,
        root_key: args.root_key_type,
        dir: args.site_dir,
    };
    let passphrase = Passphrase::get_new(&args.passphrase.source(), "New passphrase for the author's keys")?;
    let made = init(&plan, &passphrase, Senses::system().now())?;
    if args.json {
        print_json(&made);
    } else {
        show::made(&plan, &made);
    }
    Ok(())
}

async fn publish(args: args::Publish) -> Result<()> {
    if let Some(from) = &args.from {
        return sign::publish(&args, from).await;
    }
    let desk = open(&args.common)?;
    let sink = watch::sink(args.common.json);
    let Some(path) = &args.path else {
        anyhow::bail!("say which file or folder to publish");
    };
    let draft = desk.draft(path, &args.release.options(), &sink)?;
    let report = desk.preflight(&draft).await?;
    if !args.common.json {
        print!("{report}");
    }
    if !report.passes() {
        return Err(PublishError::Preflight(Box::new(report)).into());
    }
    if args.dry_run {
        if args.common.json {
            print_json(&json!({ "preflight": report }));
        }
        return Ok(());
    }
    let source = args.passphrase.source();
    let question = if args.draft.is_some() {
        "Sign this?"
    } else {
        "Publish this?"
    };
    if !args.yes && source == Source::Ask && std::io::stdin().is_terminal() && !agreed(question)? {
        eprintln!("nothing was published");
        return Ok(());
    }
    let unlocked = unlock(&desk, &args.passphrase)?;
    if let Some(out) = &args.draft {
        sign::begun(&unlocked.begin_release(&draft, out).await?, args.common.json);
        return Ok(());
    }
    let published = unlocked.publish(&draft, &sink).await?;
    if args.common.json {
        print_json(&Told {
            preflight: &report,
            published: &published,
        });
    } else {
        show::published(&published);
    }
    Ok(())
}

/// What a program gets to read of a publish.
#[derive(serde::Serialize)]
struct Told<'a> {
    preflight: &'a Preflight,
    #[serde(flatten)]
    published: &'a Published,
}

fn agreed(question: &str) -> Result<bool> {
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

async fn latency(args: Latency) -> Result<()> {
    let desk = open(&args.common)?;
    let records = crate::record::read(&desk.folder.records())?;
    let mut rows = desk.reports().await?.latencies(&records);
    let mut updates: Vec<_> = rows.iter().map(|row| row.update).collect();
    updates.dedup();
    let shown = updates.split_off(updates.len().saturating_sub(args.last));
    rows.retain(|row| shown.contains(&row.update));
    output(&args.common, &rows, || show::latency(&rows));
    Ok(())
}

fn open(common: &Common) -> Result<Desk, DeskError> {
    Desk::open(&common.dir, common.repository.as_deref(), Senses::system())
}

/// Opens the key that signs by the newest root: keys may have been replaced since this desk last looked. A repository
/// that is down is met later, in words of its own.
async fn unlock_now(desk: &Desk, from: &PassphraseFrom) -> Result<Unlocked> {
    let _ = desk.look().await;
    unlock(desk, from)
}

fn unlock(desk: &Desk, from: &PassphraseFrom) -> Result<Unlocked> {
    let source = from.source();
    let mut tries = 0;
    loop {
        tries += 1;
        let passphrase = Passphrase::get(&source, ASK)?;
        match desk.unlock(&passphrase) {
            // Only a person can mistype.
            Err(UnlockError::Key(error @ KeyError::WrongPassphrase(_)))
                if source == Source::Ask && std::io::stdin().is_terminal() && tries < PASSPHRASE_TRIES =>
            {
                eprintln!("{error}");
            }
            other => return Ok(other?),
        }
    }
}

fn told(common: &Common, done: &Published, text: &str) {
    output(common, done, || {
        println!("{text}: targets version {}", done.receipt.targets);
        for warning in &done.warnings {
            eprintln!("warning: {warning}");
        }
    });
}

fn output(common: &Common, value: &impl serde::Serialize, text: impl FnOnce()) {
    if common.json {
        print_json(value);
    } else {
        text();
    }
}

fn print_json(value: &impl serde::Serialize) {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    // A reader that has gone away is no fault of ours.
    let _ = writeln!(std::io::stdout(), "{value:#}");
}

fn wants_json(command: &Command) -> bool {
    match command {
        #[cfg(feature = "gui")]
        Command::Window(_) => false,
        Command::Serve(_) | Command::NewKey(_) | Command::Sign(_) => false,
        Command::Pack(args) => args.json,
        Command::Inspect(args) => args.json,
        Command::Plan(args) => args.json,
        Command::Rehearse(args) => args.json,
        Command::Root(command) => command.wants_json(),
        Command::Team(command) => command.wants_json(),
        Command::Init(args) => args.json,
        Command::Publish(args) => args.common.json,
        Command::History(args) => args.common.json,
        Command::Withdraw(args) => args.common.json,
        Command::Latency(args) => args.common.json,
        Command::Renew(args) => args.common.json,
        Command::Status(common)
        | Command::Keys(common)
        | Command::Fleet(common)
        | Command::Reports(common)
        | Command::Recover(common) => common.json,
    }
}

/// The status could be shown, but not as of now.
#[derive(Debug, thiserror::Error)]
#[error("this is what was verified last: {0}")]
struct Trouble(String);

/// The chain without repetitions.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let more = cause.to_string();
        if text.is_empty() {
            text = more;
        } else if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
    }
    text
}

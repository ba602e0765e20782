//! `team …`: who else may publish, and what.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use protocol::Name;
use release::Component;

use crate::cli::args::{Common, PassphraseFrom};
use crate::cli::{ASK, open, output, told};
use crate::desk::Senses;
use crate::keyring::short;
use crate::passphrase::Passphrase;
use crate::signing::KeyType;
use crate::team::{self, Team, TeamRow, teams};

/// `team`.
#[derive(Debug, Subcommand)]
pub enum TeamCommand {
    /// Make a team's folder: its key, and what it hands to the author
    New(New),
    /// Let a team publish components; makes its folder a desk of its own
    Add(Add),
    /// Make a new key on a team's desk, to be put in the old one's place by the author: lost, stolen, or only old
    NewKey(NewKey),
    /// Take a team away: what it has published is offered to nobody any more
    Remove(Remove),
    /// Show the teams
    List(Common),
}

/// `team new`.
#[derive(Debug, Args)]
pub struct New {
    /// The team's name
    pub name: Name,
    /// The folder to make; default: one called like the team
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Kind of the key that will sign its releases
    #[arg(long = "type", value_enum, default_value = "ed25519")]
    pub kind: KeyType,
    /// Where the passphrase of the new key comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

/// `team add`.
#[derive(Debug, Args)]
pub struct Add {
    /// The team's folder, or the team.json from it
    pub team: PathBuf,
    /// A component that it may publish; may be repeated
    #[arg(long = "component", value_name = "COMPONENT", required = true)]
    pub components: Vec<Component>,
    /// Where to make the team's desk; default: the team's folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

/// `team new-key`.
#[derive(Debug, Args)]
pub struct NewKey {
    /// What to call it; the files are NAME.pem and NAME.pub
    pub name: Name,
    /// Kind of the key
    #[arg(long = "type", value_enum, default_value = "ed25519")]
    pub kind: KeyType,
    /// What most commands need; the folder is the team's.
    #[command(flatten)]
    pub common: Common,
    /// Where the passphrase of the new key comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

/// `team remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The team
    pub name: Name,
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

impl TeamCommand {
    /// Whether a program reads the answer.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        match self {
            Self::New(_) | Self::NewKey(_) => false,
            Self::Add(Add { common, .. }) | Self::Remove(Remove { common, .. }) | Self::List(common) => {
                common.json
            }
        }
    }
}

pub(super) async fn run(command: TeamCommand) -> Result<()> {
    match command {
        TeamCommand::New(args) => new(&args),
        TeamCommand::Add(args) => add(args).await,
        TeamCommand::NewKey(args) => {
            let desk = open(&args.common)?;
            let asked = format!("New passphrase for the key {}", args.name);
            let passphrase = Passphrase::get_new(&args.passphrase.source(), &asked)?;
            let key = team::new_key(&desk, &args.name, args.kind, &passphrase).await?;
            let dir = args.common.dir.display();
            println!(
                "The key {} ({key}) is made; the old one signs until the author has published it.",
                args.name
            );
            println!(
                "Bring {dir}/team.json to the author: admin-gui team add team.json --component COMPONENT"
            );
            Ok(())
        }
        TeamCommand::Remove(args) => {
            let desk = open(&args.common)?;
            let unlocked = super::unlock_now(&desk, &args.passphrase).await?;
            let done = unlocked.remove_team(&args.name).await?;
            told(&args.common, &done, &format!("the team {} is gone", args.name));
            Ok(())
        }
        TeamCommand::List(common) => {
            let view = open(&common)?.look_even_if_expired().await?;
            let rows = teams(&view.state);
            output(&common, &rows, || show(&rows));
            Ok(())
        }
    }
}

fn new(args: &New) -> Result<()> {
    let dir = args
        .dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(args.name.as_str()));
    let asked = format!("New passphrase for the key of the team {}", args.name);
    let passphrase = Passphrase::get_new(&args.passphrase.source(), &asked)?;
    let key = team::make(&dir, &args.name, args.kind, &passphrase, Senses::system().now())?;
    let dir = dir.display();
    println!(
        "The team {} has a key ({key}) in {dir}; make a backup of it now.",
        args.name
    );
    println!("Bring {dir}/team.json to the author: admin-gui team add team.json --component COMPONENT");
    Ok(())
}

async fn add(args: Add) -> Result<()> {
    let desk = open(&args.common)?;
    let team = Team::read(&args.team)?;
    let usual = if args.team.is_dir() {
        Some(args.team.clone())
    } else {
        None
    };
    let out = args
        .out
        .or(usual)
        .unwrap_or_else(|| PathBuf::from(team.name.as_str()));
    if !args.common.json {
        let names: Vec<_> = args.components.iter().map(ToString::to_string).collect();
        println!(
            "The team {} with the key {} ({}) may publish {}.",
            team.name,
            short(team.key.id()),
            team.key.scheme().name(),
            names.join(", ")
        );
    }
    // Keys may have been replaced since this desk last looked.
    desk.look().await?;
    let passphrase = Passphrase::get(&args.passphrase.source(), ASK)?;
    let unlocked = desk.unlock(&passphrase)?;
    let done = unlocked.add_team(&team, &args.components).await?;
    team::hand_over(&desk, &team, &out, &passphrase, desk.senses.now())?;
    told(&args.common, &done, &format!("the team {} is added", team.name));
    if !args.common.json {
        let out = out.display();
        println!(
            "Its desk is {out}: everything in it but the key goes to the team over a safe channel (scp -p)."
        );
        println!("Next, there: admin-gui publish FILE --dir {out}");
    }
    Ok(())
}

fn show(rows: &[TeamRow]) {
    if rows.is_empty() {
        println!("There is no team: the author publishes everything.");
    }
    for row in rows {
        let list = match (row.version, row.expires) {
            (Some(version), Some(expires)) => format!("list {version}, until {expires}"),
            _ => "its list is not at hand".to_owned(),
        };
        println!("{}: {}", row.team, row.components.join(", "));
        println!("  key {}, {} must sign; {list}", row.keys.join(", "), row.needed);
    }
}

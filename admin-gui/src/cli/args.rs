//! The words on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use certs::Host;
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::Name;
use release::{Arch, Component, Health, How, Version};

use crate::address::{host, host_port};
use crate::cli::keys::NewKey;
use crate::cli::root::RootCommand;
use crate::cli::sign::Sign;
use crate::cli::team::TeamCommand;
use crate::draft::Options;
use crate::passphrase::Source;
use crate::signing::KeyType;

/// The author's desk: makes a site, publishes releases, shows what became of them.
#[derive(Debug, Parser)]
#[command(name = "admin-gui", version, max_term_width = 100)]
pub struct Cli {
    /// What to do; without a word: open the window.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new site: keys, certificates and settings for author, repository and gateway
    Init(Init),
    /// Check, sign, upload and publish a file or a folder
    Publish(Publish),
    /// Make a package of a folder with update.toml and payload/, without publishing it
    Pack(Pack),
    /// Show what a file or folder is, what is in it and what a device will do with it; no site is needed
    Inspect(Inspect),
    /// Show how a file or folder would come to run on a device: live, restart, needs a person, impossible; why, and the
    /// predicted pause. No site is needed
    Plan(Plan),
    /// Try a whole update on this machine before anything is signed: install, health, data there and back, kill at every
    /// step, roll back. No site and no key are needed
    Rehearse(Rehearse),
    /// Show what was published from here
    History(History),
    /// Show current versions, the state of the repository and what the devices made of it
    Status(Common),
    /// Take a release back: it is offered to nobody new
    Withdraw(Withdraw),
    /// Show which devices run what, and what failed
    Fleet(Common),
    /// Print the devices' signed reports
    Reports(Common),
    /// Show the seven latency types of the last updates
    Latency(Latency),
    /// Show which keys may sign, whose they are and where
    Keys(Common),
    /// Make a key for one person: NAME.pem, encrypted, and its public half NAME.pub
    NewKey(NewKey),
    /// Change who may sign: add, remove and replace keys, by a draft that is signed in turns
    #[command(subcommand)]
    Root(RootCommand),
    /// Sign a draft of the list of releases, where several keys must; works on any machine
    Sign(Sign),
    /// Let teams publish components of their own, with keys of their own
    #[command(subcommand)]
    Team(TeamCommand),
    /// Sign root and targets again with a later expiry
    Renew(Renew),
    /// Hand a repository that was restored from a backup what it has forgotten
    Recover(Common),
    /// Open the window; starts the desk's service where none runs
    #[cfg(feature = "gui")]
    Window(Window),
    /// Serve windows: the desk as a process of its own, until nobody needs it
    Serve(Serve),
}

/// What most commands need.
#[derive(Debug, Args)]
pub struct Common {
    /// The author's folder, as `init` made it
    #[arg(long, value_name = "AUTHOR_DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Another address of the repository than the one in author.toml
    #[arg(long, value_name = "https://HOST:PORT")]
    pub repository: Option<String>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The author's folder, the site's, or one that is to become a site's
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Another address of the repository than the one in author.toml
    #[arg(long, value_name = "https://HOST:PORT")]
    pub repository: Option<String>,
    /// End after so many seconds in which nobody needs it
    #[arg(long, value_name = "SECONDS", default_value_t = crate::limits::IDLE.as_secs())]
    pub idle_seconds: u64,
}

/// `window`.
#[cfg(feature = "gui")]
#[derive(Debug, Default, Args)]
pub struct Window {
    /// The author's folder, the site's, or one that is to become a site's; without it this folder if it is one, else
    /// `drover` in the home folder
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A file with a translation of the window's words
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
    /// Colours
    #[arg(long, value_name = "system|light|dark", default_value = "system")]
    pub theme: gui_kit::theme::Look,
}

#[cfg(feature = "gui")]
impl Window {
    /// The folder that is meant.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let here = PathBuf::from(".");
        match &self.dir {
            Some(dir) => dir.clone(),
            None if crate::config::Folder::find(&here).config().exists() => here,
            None => std::env::home_dir().map_or(here, |home| home.join("drover")),
        }
    }
}

/// Where the passphrase comes from.
#[derive(Debug, Args)]
pub struct PassphraseFrom {
    /// Read the passphrase from this open file descriptor
    #[arg(long, value_name = "N", conflicts_with = "passphrase_stdin")]
    pub passphrase_fd: Option<i32>,
    /// Read the passphrase from standard input
    #[arg(long)]
    pub passphrase_stdin: bool,
}

impl PassphraseFrom {
    /// As the reader wants it.
    #[must_use]
    pub fn source(&self) -> Source {
        match (self.passphrase_fd, self.passphrase_stdin) {
            (Some(number), _) => Source::Descriptor(number),
            (None, true) => Source::Stdin,
            (None, false) => Source::Ask,
        }
    }
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder to make; it must not exist or be empty
    pub site_dir: PathBuf,
    /// Name of the site; default: the folder's name
    #[arg(long)]
    pub site: Option<Name>,
    /// Name of the author
    #[arg(long, default_value = "author")]
    pub author: Name,
    /// Name of the repository
    #[arg(long, default_value = "repository")]
    pub repository_name: Name,
    /// Name of the gateway
    #[arg(long, default_value = "gateway")]
    pub manager_name: Name,
    /// Where author and gateway reach the repository
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:7100", value_parser = host_port)]
    pub repository_address: (Host, u16),
    /// Where devices reach the gateway
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", value_parser = host)]
    pub manager_address: Host,
    /// Where the repository listens; default: on all addresses, or on loopback if its address is
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub repository_listen: Option<SocketAddr>,
    /// Where the gateway listens for devices
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub manager_listen: Option<SocketAddr>,
    /// Where the gateway lets devices join
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub enroll_listen: Option<SocketAddr>,
    /// Kind of the key that signs releases
    #[arg(long, value_enum, default_value_t = KeyType::Rsa)]
    pub key_type: KeyType,
    /// Kind of the root key
    #[arg(long, value_enum, default_value_t = KeyType::Ed25519)]
    pub root_key_type: KeyType,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

/// `publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// A program (`Name_1.2.jar`, an ELF file, a script), a package, or a folder with update.toml and payload/
    #[arg(required_unless_present = "from")]
    pub path: Option<PathBuf>,
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
    /// Where several keys must sign: write what would be published here, signed by this desk, and upload nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "dry_run"])]
    pub draft: Option<PathBuf>,
    /// Publish this draft, which has its signatures; one of a release needs the release's file too
    #[arg(long, value_name = "DRAFT", conflicts_with = "dry_run")]
    pub from: Option<PathBuf>,
    /// About a single file.
    #[command(flatten)]
    pub release: ReleaseOptions,
    /// Do not ask before signing
    #[arg(long, short)]
    pub yes: bool,
    /// Check and report only
    #[arg(long)]
    pub dry_run: bool,
}

/// What stands in update.toml for a package; for a single file it is said here.
#[derive(Debug, Args)]
#[command(next_help_heading = "About a single file")]
pub struct ReleaseOptions {
    /// The component; default: from the file name
    #[arg(long)]
    pub component: Option<Component>,
    /// The version; default: from the file name
    #[arg(long)]
    pub version: Option<Version>,
    /// The processor; default: from the ELF header
    #[arg(long, value_parser = arch)]
    pub arch: Option<Arch>,
    /// What starts it; default: from the file
    #[arg(long, value_enum)]
    pub how: Option<HowWord>,
    /// A word for the program; may be repeated
    #[arg(long = "arg", value_name = "WORD", allow_hyphen_values = true)]
    pub args: Vec<String>,
    /// It is well when this address answers 2xx; ${NAME} stands for a variable of its environment
    #[arg(long, value_name = "URL", conflicts_with_all = ["health_command", "alive_seconds"])]
    pub health_url: Option<String>,
    /// It is well when this command ends with 0; words are separated by blanks, no shell
    #[arg(long, value_name = "COMMAND", conflicts_with = "alive_seconds")]
    pub health_command: Option<String>,
    /// It is well when it is still there after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub alive_seconds: Option<u32>,
    /// Seconds from start to the first healthy answer, at most
    #[arg(long, value_name = "SECONDS")]
    pub start_seconds: Option<u32>,
    /// Seconds it must then stay healthy
    #[arg(long, value_name = "SECONDS")]
    pub probation: Option<u32>,
    /// What it is and what is new
    #[arg(long)]
    pub description: Option<String>,
    /// Who sells it
    #[arg(long)]
    pub vendor: Option<String>,
    /// Who wrote it
    #[arg(long)]
    pub developer: Option<String>,
    /// Under which terms
    #[arg(long)]
    pub license: Option<String>,
}

impl ReleaseOptions {
    /// As the draft wants them.
    #[must_use]
    pub fn options(&self) -> Options {
        let command = self
            .health_command
            .as_ref()
            .map(|line| line.split_whitespace().map(str::to_owned).collect());
        let health = match (&self.health_url, command, self.alive_seconds) {
            (Some(url), _, _) => Some(Health::Http { url: url.clone() }),
            (_, Some(argv), _) => Some(Health::Command { argv }),
            (_, _, Some(seconds)) => Some(Health::Alive { seconds }),
            _ => None,
        };
        Options {
            component: self.component.clone(),
            version: self.version.clone(),
            arch: self.arch,
            how: self.how.map(How::from),
            args: self.args.clone(),
            health,
            start_seconds: self.start_seconds,
            probation_seconds: self.probation,
            description: self.description.clone(),
            vendor: self.vendor.clone(),
            developer: self.developer.clone(),
            license: self.license.clone(),
        }
    }
}

/// What starts a program.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum HowWord {
    /// The file itself
    Exec,
    /// java -jar FILE
    Jar,
    /// python3 FILE
    Python,
}

impl From<HowWord> for How {
    fn from(word: HowWord) -> Self {
        match word {
            HowWord::Exec => Self::Exec,
            HowWord::Jar => Self::Jar,
            HowWord::Python => Self::Python,
        }
    }
}

/// `pack`.
#[derive(Debug, Args)]
pub struct Pack {
    /// The folder
    pub folder: PathBuf,
    /// The file to make; it must not exist. Default: COMPONENT_VERSION.tar here
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A program, a package, or a folder with update.toml and payload/
    pub path: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
    /// About a single file.
    #[command(flatten)]
    pub release: ReleaseOptions,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// A program, a package, or a folder with update.toml and payload/
    pub path: PathBuf,
    /// The device: what `device plan COMPONENT --json` printed there. Without it and --from: one where nothing of it runs
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub device_facts: Option<PathBuf>,
    /// A device that runs this package
    #[arg(long, value_name = "OLD")]
    pub from: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
    /// About a single file.
    #[command(flatten)]
    pub release: ReleaseOptions,
}

/// `rehearse`.
#[derive(Debug, Args)]
pub struct Rehearse {
    /// What is to be published: a program, a package, or a folder with update.toml and payload/
    pub path: PathBuf,
    /// What devices run now
    #[arg(long, value_name = "OLD")]
    pub from: PathBuf,
    /// The device program; default: the one beside this program, else in the search path
    #[arg(long, value_name = "PATH")]
    pub device: Option<PathBuf>,
    /// A folder with data that the old version shall find
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// A variable of the programs' environment; may be repeated. PORT is a free one unless it is given
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Seconds that it may take at most
    #[arg(long, value_name = "SECONDS", default_value_t = crate::limits::REHEARSAL.as_secs())]
    pub limit: u64,
    /// Leave its folder for a look
    #[arg(long)]
    pub keep: bool,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `history`.
#[derive(Debug, Args)]
pub struct History {
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// Only this component
    #[arg(long)]
    pub component: Option<Component>,
    /// Show so many of the newest entries
    #[arg(long, default_value_t = 50)]
    pub last: usize,
}

/// `withdraw`.
#[derive(Debug, Args)]
pub struct Withdraw {
    /// The component
    pub component: Component,
    /// The version to take back
    pub version: Version,
    /// Why; devices and operators will read it
    #[arg(long)]
    pub reason: String,
    /// Where several keys must sign: write a draft here, signed by this desk
    #[arg(long, value_name = "FILE")]
    pub draft: Option<PathBuf>,
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

/// `latency`.
#[derive(Debug, Args)]
pub struct Latency {
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// Show so many of the newest updates
    #[arg(long, default_value_t = 5)]
    pub last: usize,
}

/// `renew`.
#[derive(Debug, Args)]
pub struct Renew {
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
    /// Only this role
    #[arg(long, value_enum)]
    pub only: Option<OnlyRole>,
    /// Where several keys must sign: write a draft of the list of releases here, signed by this desk
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    pub draft: Option<PathBuf>,
}

/// A role the author signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnlyRole {
    /// The root
    Root,
    /// The targets
    Targets,
}

fn arch(text: &str) -> Result<Arch, String> {
    [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Armv7, Arch::Riscv64]
        .into_iter()
        .find(|arch| arch.as_str() == text)
        .ok_or_else(|| format!("{text:?} is not one of x86-64, x86, aarch64, armv7, riscv64"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

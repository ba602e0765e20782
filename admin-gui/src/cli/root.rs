//! `root …`: who may sign for the site, changed by a draft that is signed in turns.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use release::{Component, Version};
use serde_json::json;
use tuf::Signer;

use crate::ceremony::{Change, Known, RoleWord, RootDraft, next_root};
use crate::cli::args::{Common, PassphraseFrom};
use crate::cli::{agreed, open, told};
use crate::config::Folder;
use crate::desk::{Desk, View};
use crate::keyring::{KeyFile, keys_in, read_public, short};
use crate::passphrase::{Passphrase, Source};
use crate::signing::AuthorKey;

/// `root`.
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Add a key to a role
    Add(Add),
    /// Take a key from a role
    Remove(Remove),
    /// Put a new key in the place of another: lost, stolen, or only old
    Replace(Replace),
    /// Say how many keys of a role must sign
    Threshold(Threshold),
    /// Begin a root that changes nothing but its expiry
    Renew(Draft),
    /// Tell what a draft changes, and who has signed it
    Show(Show),
    /// Sign a draft; works on any machine that has the draft, a key and the root in force
    Sign(Sign),
    /// Make a draft that has all its signatures the root in force
    Publish(Publish),
}

/// What writing a draft needs.
#[derive(Debug, Args)]
pub struct Draft {
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// The draft to begin or to go on with; default: root-N.json in the author's folder
    #[arg(long, value_name = "FILE")]
    pub draft: Option<PathBuf>,
}

/// `root add`.
#[derive(Debug, Args)]
pub struct Add {
    /// The role
    #[arg(value_enum)]
    pub role: RoleWord,
    /// The public half of the key, NAME.pub
    pub key: PathBuf,
    /// The draft.
    #[command(flatten)]
    pub draft: Draft,
}

/// `root remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The role
    #[arg(value_enum)]
    pub role: RoleWord,
    /// The key: the beginning of its id, or its holder, as `keys` shows them
    pub key: String,
    /// The draft.
    #[command(flatten)]
    pub draft: Draft,
}

/// `root replace`.
#[derive(Debug, Args)]
pub struct Replace {
    /// The role
    #[arg(value_enum)]
    pub role: RoleWord,
    /// The public half of the new key, NAME.pub
    pub key: PathBuf,
    /// The key that goes, where the role has more than one
    #[arg(long, value_name = "KEY")]
    pub old: Option<String>,
    /// The draft.
    #[command(flatten)]
    pub draft: Draft,
}

/// `root threshold`.
#[derive(Debug, Args)]
pub struct Threshold {
    /// The role
    #[arg(value_enum)]
    pub role: RoleWord,
    /// How many keys must sign
    pub needed: u32,
    /// The draft.
    #[command(flatten)]
    pub draft: Draft,
}

/// `root show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The draft; default: root-N.json in the author's folder
    pub file: Option<PathBuf>,
    /// The author's folder, or any folder with a root.json and keys
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The root in force, as you trust it; default: root.json in the folder
    #[arg(long, value_name = "ROOT.json")]
    pub root: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// `root sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// The draft; default: root-N.json in the author's folder
    pub file: Option<PathBuf>,
    /// The author's folder, or any folder with a root.json and keys
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The root in force, as you trust it; default: root.json in the folder
    #[arg(long, value_name = "ROOT.json")]
    pub root: Option<PathBuf>,
    /// The key file to sign with; default: the one in the folder that the draft waits for
    #[arg(long, value_name = "NAME.pem")]
    pub key: Option<PathBuf>,
    /// Do not ask before signing
    #[arg(long, short)]
    pub yes: bool,
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

/// `root publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// The draft; default: root-N.json in the author's folder
    pub file: Option<PathBuf>,
    /// Withdraw this release in the same moment: COMPONENT@VERSION; may be repeated
    #[arg(long, value_name = "COMPONENT@VERSION", value_parser = release_word)]
    pub withdraw: Vec<(Component, Version)>,
    /// What most commands need.
    #[command(flatten)]
    pub common: Common,
    /// Where the passphrase comes from; it is asked for only where the releases have to be signed again.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

fn release_word(text: &str) -> Result<(Component, Version), String> {
    let (component, version) = text.split_once('@').ok_or("say COMPONENT@VERSION")?;
    let component = component.parse().map_err(|error| format!("{error}"))?;
    let version = version.parse().map_err(|error| format!("{error}"))?;
    Ok((component, version))
}

impl RootCommand {
    /// Whether a program reads the answer.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Add(Add { draft, .. })
            | Self::Remove(Remove { draft, .. })
            | Self::Replace(Replace { draft, .. })
            | Self::Threshold(Threshold { draft, .. })
            | Self::Renew(draft) => draft.common.json,
            Self::Show(args) => args.json,
            Self::Sign(_) => false,
            Self::Publish(args) => args.common.json,
        }
    }
}

pub(super) async fn run(command: RootCommand) -> Result<()> {
    match command {
        RootCommand::Add(args) => {
            let (holder, key) = read_public(&args.key)?;
            let role = args.role;
            write(&args.draft, &Change::Add { role, holder, key }).await
        }
        RootCommand::Remove(Remove { role, key, draft }) => {
            write(&draft, &Change::Remove { role, key }).await
        }
        RootCommand::Replace(args) => {
            let (holder, key) = read_public(&args.key)?;
            let (role, old) = (args.role, args.old);
            let change = Change::Replace {
                role,
                old,
                holder,
                key,
            };
            write(&args.draft, &change).await
        }
        RootCommand::Threshold(Threshold { role, needed, draft }) => {
            write(&draft, &Change::Threshold { role, needed }).await
        }
        RootCommand::Renew(draft) => write(&draft, &Change::Renew).await,
        RootCommand::Show(args) => {
            let draft = read(args.file, &args.dir, args.root.as_deref())?;
            show(&draft, args.json);
            Ok(())
        }
        RootCommand::Sign(args) => sign(args),
        RootCommand::Publish(args) => publish(args).await,
    }
}

/// The draft that belongs to a folder.
fn usual_draft(dir: &Path, before: &Known) -> PathBuf {
    dir.join(format!("root-{}.json", before.root.version.saturating_add(1)))
}

/// One change more in the draft, which is begun if it is not there.
async fn write(args: &Draft, change: &Change) -> Result<()> {
    let desk = open(&args.common)?;
    let view = desk.look_even_if_expired().await?;
    let draft = amend(&desk, &view, args.draft.as_deref(), change)?;
    show(&draft, args.common.json);
    Ok(())
}

/// The draft with one change more, on the disk.
pub(super) fn amend(desk: &Desk, view: &View, file: Option<&Path>, change: &Change) -> Result<RootDraft> {
    let before = Desk::root_in_force(view)?;
    let path = file.map_or_else(|| usual_draft(&desk.folder.dir, &before), Path::to_owned);
    let begun = match path.exists() {
        true => Some(RootDraft::read(&path, before.clone())?),
        false => None,
    };
    let had = begun.as_ref().is_some_and(|draft| draft.first_signer().is_some());
    let base = begun.map_or_else(|| before.bytes.clone(), |draft| draft.bytes());
    let bytes = next_root(&before, &base, change, desk.senses.now())?;
    let draft = RootDraft::of(&path, &bytes, before)?;
    durable::replace(&path, &bytes, 0o644)?;
    if had {
        eprintln!("note: the draft is another one now; who had signed it has to sign again");
    }
    Ok(draft)
}

/// A draft against the root that this person trusts.
fn read(file: Option<PathBuf>, dir: &Path, root: Option<&Path>) -> Result<RootDraft> {
    let own = Folder::new(dir).root();
    let before = Known::read(root.unwrap_or(&own))?;
    let file = file.unwrap_or_else(|| usual_draft(dir, &before));
    Ok(RootDraft::read(&file, before)?)
}

fn show(draft: &RootDraft, wants_json: bool) {
    let (changes, standing) = (draft.changes(), draft.standing());
    if wants_json {
        let file = draft.path.display().to_string();
        super::print_json(&json!({
            "file": file, "version": draft.root.version, "changes": changes, "signatures": standing,
            "complete": standing.iter().all(crate::ceremony::Standing::is_met),
        }));
        return;
    }
    println!("{}: root {}", draft.path.display(), draft.root.version);
    for change in &changes {
        println!("  {change}");
    }
    for of in &standing {
        let names = |names: &[String]| match names {
            [] => "nobody".to_owned(),
            _ => names.join(", "),
        };
        println!(
            "  {}: {} of {} signatures, by {}; still open: {}",
            of.of,
            of.signed.len(),
            of.needed,
            names(&of.signed),
            names(&of.open)
        );
    }
    if draft.check_finished().is_ok() {
        println!("It has all its signatures: admin-gui root publish");
    }
}

fn sign(args: Sign) -> Result<()> {
    let draft = read(args.file, &args.dir, args.root.as_deref())?;
    let key = match args.key {
        Some(key) => key,
        None => the_key(&draft, &args.dir)?.path,
    };
    // Where the public half lies beside it, a foreign key is refused before its passphrase is asked for.
    if let Ok((_, public)) = read_public(&key.with_extension("pub")) {
        draft.check_signer(&key, public.id())?;
    }
    show(&draft, false);
    let source = args.passphrase.source();
    if !args.yes && source == Source::Ask && std::io::stdin().is_terminal() && !agreed("Sign this?")? {
        eprintln!("nothing was signed");
        return Ok(());
    }
    let passphrase = Passphrase::get(&source, &format!("Passphrase of {}", key.display()))?;
    let draft = draft.sign(&key, &AuthorKey::open(&key, &passphrase)?)?;
    durable::replace(&draft.path, draft.bytes(), 0o644)?;
    println!();
    println!("Signed.");
    for of in draft.standing() {
        println!("  {}: {} of {} signatures", of.of, of.signed.len(), of.needed);
    }
    match draft.check_finished() {
        Ok(()) => println!("It has all its signatures: admin-gui root publish, on the author's desk"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

/// The one key of a folder that a draft waits for.
fn the_key(draft: &RootDraft, dir: &Path) -> Result<KeyFile> {
    let mut keys = keys_in(dir);
    keys.retain(|key| draft.waits_for(key.public.id()));
    if keys.len() > 1 {
        let names: Vec<_> = keys.iter().map(|key| key.path.display().to_string()).collect();
        bail!(
            "the draft waits for more than one key of this folder: say --key {}",
            names.join(" or --key ")
        );
    }
    match keys.pop() {
        Some(key) => Ok(key),
        None => bail!(
            "the draft waits for no key of {}: name the file with --key, or the folder with --dir",
            dir.display()
        ),
    }
}

async fn publish(args: Publish) -> Result<()> {
    let desk = open(&args.common)?;
    let view = desk.look_even_if_expired().await?;
    let before = Desk::root_in_force(&view)?;
    let file = args
        .file
        .unwrap_or_else(|| usual_draft(&desk.folder.dir, &before));
    let draft = RootDraft::read(&file, before)?;
    draft.check_finished()?;
    let files = desk.signers_for_targets(&view, &draft)?;
    if files.is_empty() && !args.withdraw.is_empty() {
        bail!("the keys for releases stay: withdraw with `admin-gui withdraw`, before or after");
    }
    if !files.is_empty() && !args.common.json {
        println!("These releases get the signature of the new root's keys:");
        for listed in view.catalogue.releases() {
            let release = &listed.release;
            let named = (release.component.clone(), release.version.clone());
            let note = if args.withdraw.contains(&named) || release.withdrawn.is_some() {
                "  withdrawn"
            } else {
                ""
            };
            println!(
                "  {}@{}  released {}{note}",
                release.component, release.version, release.released
            );
        }
    }
    let mut keys = Vec::new();
    for file in &files {
        let what = format!(
            "Passphrase of {} ({})",
            file.path.display(),
            short(file.public.id())
        );
        let passphrase = Passphrase::get(&args.passphrase.source(), &what)?;
        keys.push(AuthorKey::open(&file.path, &passphrase)?);
    }
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
    let done = desk.publish_root(&view, &draft, &signers, &args.withdraw).await?;
    // It lies in `roots/` now, and as `root.json`.
    let kept = durable::remove_file(&draft.path);
    told(
        &args.common,
        &done,
        &format!("root {} is in force", draft.root.version),
    );
    if let Err(error) = kept {
        eprintln!("warning: the draft is still there: {error}");
    }
    Ok(())
}

/// A later expiry for a root that this desk cannot sign alone: the draft of it.
pub(super) fn renewal(desk: &Desk, view: &View) -> Result<()> {
    let draft = amend(desk, view, None, &Change::Renew)?;
    println!(
        "The root needs signatures that this desk cannot make alone. A draft is ready: {}",
        draft.path.display()
    );
    println!(
        "Each signer: admin-gui root sign FILE --root ROOT.json --key KEY.pem; then: admin-gui root publish"
    );
    Ok(())
}

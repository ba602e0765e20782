//! `sign`, and what `publish`, `withdraw` and `renew` do where several keys must sign the list of releases.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

use crate::cli::args::{Common, PassphraseFrom, Publish};
use crate::cli::{agreed, open, print_json, show, told, unlock, watch};
use crate::config::Folder;
use crate::cosign::{Basis, ListDraft, What};
use crate::desk::Senses;
use crate::keyring::{keys_in, read_public};
use crate::passphrase::{Passphrase, Source};
use crate::signing::AuthorKey;

/// `sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// The draft, as `publish`, `withdraw` or `renew` with --draft made it
    pub file: PathBuf,
    /// A desk's folder, or any folder with keys, a root.json and a targets.json
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Another address of the repository than the one in author.toml
    #[arg(long, value_name = "https://HOST:PORT")]
    pub repository: Option<String>,
    /// The root in force, as you trust it; where it is not a desk, default: root.json in the folder
    #[arg(long, value_name = "ROOT.json", requires = "targets")]
    pub root: Option<PathBuf>,
    /// The list of releases that is published; where it is not a desk, default: targets.json in the folder
    #[arg(long, value_name = "TARGETS.json")]
    pub targets: Option<PathBuf>,
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

pub(super) async fn sign(args: Sign) -> Result<()> {
    let draft = read(&args).await?;
    let key = match args.key {
        Some(key) => key,
        None => the_key(&draft, &args.dir)?,
    };
    // Where the public half lies beside it, a foreign key is refused before its passphrase is asked for.
    if let Ok((_, public)) = read_public(&key.with_extension("pub")) {
        draft.check_signer(&key, public.id())?;
    }
    tell(&draft);
    let source = args.passphrase.source();
    if !args.yes && source == Source::Ask && std::io::stdin().is_terminal() && !agreed("Sign this?")? {
        eprintln!("nothing was signed");
        return Ok(());
    }
    let passphrase = Passphrase::get(&source, &format!("Passphrase of {}", key.display()))?;
    let draft = draft.sign(&key, &AuthorKey::open(&key, &passphrase)?)?;
    draft.keep()?;
    println!();
    println!("Signed.");
    tell_standing(&draft);
    Ok(())
}

/// The draft, against what this desk verifies now, or against the files that a person without a desk holds.
async fn read(args: &Sign) -> Result<ListDraft> {
    let folder = Folder::new(&args.dir);
    if args.targets.is_none() && folder.config().exists() {
        let common = Common {
            dir: args.dir.clone(),
            repository: args.repository.clone(),
            json: false,
        };
        return Ok(open(&common)?.read_list(&args.file).await?.1);
    }
    let root = args.root.clone().unwrap_or_else(|| folder.root());
    let list = args.targets.clone().unwrap_or_else(|| folder.targets());
    let basis = Basis::held(&root, &list)?;
    Ok(ListDraft::read(&args.file, basis, Senses::system().now())?)
}

/// The one key of a folder that a draft waits for.
fn the_key(draft: &ListDraft, dir: &Path) -> Result<PathBuf> {
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
        Some(key) => Ok(key.path),
        None => bail!(
            "the draft waits for no key of {}: name the file with --key, or the folder with --dir",
            dir.display()
        ),
    }
}

fn tell(draft: &ListDraft) {
    println!("{}: list {}", draft.path.display(), draft.version);
    println!("  {}", draft.basis());
    for change in draft.changes() {
        println!("  {change}");
    }
    tell_standing(draft);
}

fn tell_standing(draft: &ListDraft) {
    let standing = draft.standing();
    println!(
        "  signatures: {}; needed: {}",
        standing.signed.join(", "),
        standing.needed
    );
    let file = match draft.what {
        What::Release { .. } => "FILE ",
        What::Withdrawal { .. } | What::Renewal => "",
    };
    match draft.check_finished() {
        Ok(()) => println!(
            "It has its signatures. On a desk: admin-gui publish {file}--from {}",
            draft.path.display()
        ),
        Err(error) => println!("{error}"),
    }
}

/// A draft was begun.
pub(super) fn begun(draft: &ListDraft, wants_json: bool) {
    if wants_json {
        let standing = draft.standing();
        print_json(&json!({
            "file": draft.path.display().to_string(), "version": draft.version, "changes": draft.changes(),
            "complete": standing.is_met(), "signatures": standing,
        }));
    } else {
        tell(draft);
    }
}

/// `publish --from`.
pub(super) async fn publish(args: &Publish, from: &Path) -> Result<()> {
    let desk = open(&args.common)?;
    let sink = watch::sink(args.common.json);
    let (_, list) = desk.read_list(from).await?;
    list.check_finished()?;
    if !args.common.json {
        tell(&list);
    }
    let terminal = std::io::stdin().is_terminal();
    if !args.yes && terminal && !args.common.json && !agreed("Publish this?")? {
        eprintln!("nothing was published");
        return Ok(());
    }
    let file = match &args.path {
        Some(path) => Some(desk.draft(path, &args.release.options(), &sink)?),
        None => None,
    };
    let done = desk.publish_list(from, file.as_ref(), &sink).await?;
    if done.update.is_some() && !args.common.json {
        show::published(&done);
        return Ok(());
    }
    told(&args.common, &done, &format!("{} is published", from.display()));
    Ok(())
}

/// `withdraw --draft`.
pub(super) async fn begin_withdrawal(args: &super::args::Withdraw, out: &Path) -> Result<()> {
    let unlocked = super::unlock_now(&open(&args.common)?, &args.passphrase).await?;
    let (component, version) = (&args.component, &args.version);
    let draft = unlocked
        .begin_withdrawal(component, version, &args.reason, out)
        .await?;
    begun(&draft, args.common.json);
    Ok(())
}

/// `renew --draft`.
pub(super) async fn begin_renewal(args: &super::args::Renew, out: &Path) -> Result<()> {
    let desk = open(&args.common)?;
    desk.look_even_if_expired().await.context("nothing was signed")?;
    let draft = unlock(&desk, &args.passphrase)?.begin_renewal(out).await?;
    begun(&draft, args.common.json);
    Ok(())
}

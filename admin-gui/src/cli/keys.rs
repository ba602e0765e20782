//! `keys` and `new-key`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use protocol::Name;
use tuf::UnixTime;

use crate::cli::args::{Common, PassphraseFrom};
use crate::cli::{open, output};
use crate::keyring::{self, short};
use crate::keys::RoleKeys;
use crate::passphrase::Passphrase;
use crate::signing::KeyType;

/// `new-key`.
#[derive(Debug, Args)]
pub struct NewKey {
    /// Who will hold it, or what it is for; the files are called NAME.pem and NAME.pub
    pub name: Name,
    /// The folder to put it into
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Kind of the key
    #[arg(long = "type", value_enum, default_value = "ed25519")]
    pub kind: KeyType,
    /// Where the passphrase comes from.
    #[command(flatten)]
    pub passphrase: PassphraseFrom,
}

pub(super) fn new_key(args: &NewKey) -> Result<()> {
    let asked = format!("New passphrase for the key {}", args.name);
    let passphrase = Passphrase::get_new(&args.passphrase.source(), &asked)?;
    let made = keyring::make(&args.dir, &args.name, args.kind, &passphrase)?;
    let (private, public) = (made.path.display(), made.path.with_extension("pub"));
    println!("The key {} ({}) is made:", made.name, short(made.public.id()));
    println!("  {private}  stays with whoever signs with it, and in a safe place once more");
    println!(
        "  {}  goes to whoever writes the next root: admin-gui root add",
        public.display()
    );
    println!(
        "Its whole id, to be compared by another way: {}",
        made.public.id()
    );
    Ok(())
}

pub(super) async fn keys(common: &Common) -> Result<()> {
    let desk = open(common)?;
    let (view, trouble) = match desk.look_even_if_expired().await {
        Ok(view) => (view, None),
        Err(error) => (desk.remembered()?, Some(crate::draft::chain(&error))),
    };
    let roles = desk.keys(&view);
    output(common, &roles, || {
        println!("By root version {}:", view.state.root().version);
        show(&roles, desk.senses.now());
    });
    match trouble {
        Some(trouble) => Err(super::Trouble(trouble).into()),
        None => Ok(()),
    }
}

fn show(roles: &[RoleKeys], now: UnixTime) {
    for role in roles {
        let until = role.expires.map_or_else(String::new, |at| {
            let days = at.seconds_since(now).div_euclid(86_400);
            format!(", signed until {at} ({days} days)")
        });
        println!(
            "{}: {} of {} must sign{until}",
            role.role,
            role.needed,
            role.keys.len()
        );
        for key in &role.keys {
            let holder = key.holder.as_deref().unwrap_or("-");
            println!(
                "  {:<8}  {:<19}  {holder:<16}  {}",
                key.short, key.kind, key.place
            );
        }
    }
}

//! The program `certs`: a site's authority on the command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use protocol::{Name, Role};
use tuf::UnixTime;

use crate::limits::FILE_LIMIT;
use crate::passphrase::Source;
use crate::{DeviceAuthority, Host, Issued, SiteAuthority, files, life};

/// Makes and shows the certificates of a site.
#[derive(Debug, Parser)]
#[command(name = "certs", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the root certificate of a new site: ca.pem and ca-key.pem (encrypted)
    NewSite {
        /// Name of the site
        site: Name,
        /// Folder to write to; made if it is not there
        #[arg(long, default_value = ".")]
        out: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseOption,
    },
    /// Issue a certificate: ca.pem, tls.pem and tls-key.pem; for a manager also its device authority
    Issue {
        /// author, repository, manager, or device (from the device authority, for devices that cannot enrol)
        role: Role,
        /// Name of the author, server or device
        name: Name,
        /// Folder with ca.pem and ca-key.pem; for a device, with ca.pem, device-ca.pem and device-ca-key.pem
        #[arg(long)]
        ca: PathBuf,
        /// Folder to write to; made if it is not there
        #[arg(long)]
        out: PathBuf,
        /// Host name or address, for clients that check host names; may be repeated
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<Host>,
        /// Days of life [default: 365, a device 30]
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..=3650))]
        days: Option<i64>,
        /// Write over certificates and keys that are there (renewal)
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        passphrase: PassphraseOption,
    },
    /// Show what certificates say
    Show {
        /// PEM files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct PassphraseOption {
    /// Read the passphrase of ca-key.pem from this open file descriptor instead of asking for it
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

impl PassphraseOption {
    fn source(&self) -> Source {
        Source::from_option(self.passphrase_fd)
    }
}

/// Does what the arguments say, at the time `now`; words for people go to `out`.
pub fn run(arguments: Arguments, now: UnixTime, out: &mut impl Write) -> Result<()> {
    match arguments.command {
        Command::NewSite {
            site,
            out: folder,
            passphrase,
        } => new_site(&site, &folder, &passphrase, now, out),
        Command::Issue {
            role: Role::Device,
            name,
            ca,
            out: folder,
            hosts,
            days,
            replace,
            ..
        } => {
            ensure!(hosts.is_empty(), "a device serves nobody: leave --host out");
            let order = Order {
                name,
                folder,
                seconds: seconds(days, life::DEVICE),
                replace,
            };
            issue_device(&order, &ca, now, out)
        }
        Command::Issue {
            role,
            name,
            ca,
            out: folder,
            hosts,
            days,
            replace,
            passphrase,
        } => {
            let order = Order {
                name,
                folder,
                seconds: seconds(days, life::LEAF),
                replace,
            };
            issue(&order, role, &ca, &hosts, &passphrase, now, out)
        }
        Command::Show { files } => show(&files, out),
    }
}

/// What to issue and where to put it.
struct Order {
    name: Name,
    folder: PathBuf,
    seconds: i64,
    replace: bool,
}

fn new_site(
    site: &Name,
    folder: &Path,
    passphrase: &PassphraseOption,
    now: UnixTime,
    out: &mut impl Write,
) -> Result<()> {
    let (certificate, key) = (folder.join(files::CA), folder.join(files::CA_KEY));
    for path in [&certificate, &key] {
        // Never replaced: the whole site hangs on it.
        ensure!(
            !path.exists(),
            "{} is there already: a site has one root; choose another folder",
            path.display()
        );
    }
    let passphrase = passphrase
        .source()
        .read_new("new passphrase of the site's root key")?;
    let root = SiteAuthority::create(site, now)?;
    durable::create_dir(folder, 0o700)?;
    files::write_key(&key, &root.encrypted_key(&passphrase)?)?;
    files::write_certificate(&certificate, root.certificate_pem())?;
    writeln!(
        out,
        "site {site}: {} and {}",
        certificate.display(),
        key.display()
    )?;
    writeln!(out, "fingerprint {}", root.fingerprint()?)?;
    writeln!(
        out,
        "keep {} offline, and a copy of it somewhere else",
        key.display()
    )?;
    Ok(())
}

fn issue(
    order: &Order,
    role: Role,
    ca: &Path,
    hosts: &[Host],
    passphrase: &PassphraseOption,
    now: UnixTime,
    out: &mut impl Write,
) -> Result<()> {
    order.check_free()?;
    let certificate = read(&ca.join(files::CA))?;
    let key_path = ca.join(files::CA_KEY);
    let key = private(&key_path)?;
    let root = if crate::is_encrypted(&key) {
        let passphrase = passphrase.source().read("passphrase of the site's root key")?;
        SiteAuthority::load_encrypted(&certificate, &key, &passphrase)
    } else {
        SiteAuthority::load(&certificate, &key)
    }
    .with_context(|| format!("cannot use {}", key_path.display()))?;
    let issued = root.issue(role, &order.name, hosts, order.seconds, now)?;
    order.write(&certificate, &issued, out)?;
    let authority = order.folder.join(files::DEVICE_CA);
    // A manager that is renewed keeps its device authority: devices' certificates hang on it.
    if role == Role::Manager && !authority.exists() {
        let devices = root.device_authority(now)?;
        files::write_key(&order.folder.join(files::DEVICE_CA_KEY), &devices.key_pem())?;
        files::write_certificate(&authority, devices.certificate_pem())?;
        writeln!(out, "device authority: {}", authority.display())?;
    }
    Ok(())
}

fn issue_device(order: &Order, authority: &Path, now: UnixTime, out: &mut impl Write) -> Result<()> {
    order.check_free()?;
    let root = read(&authority.join(files::CA))?;
    let key_path = authority.join(files::DEVICE_CA_KEY);
    let through = DeviceAuthority::load(&read(&authority.join(files::DEVICE_CA))?, &private(&key_path)?)
        .with_context(|| format!("cannot use {}", key_path.display()))?;
    let key = crate::new_key()?;
    let request = crate::request(&key)?;
    let chain = through.issue_device(request.as_bytes(), &order.name, order.seconds, now)?;
    order.write(&root, &Issued { chain, key }, out)
}

impl Order {
    fn check_free(&self) -> Result<()> {
        for name in [files::TLS, files::TLS_KEY] {
            let path = self.folder.join(name);
            if !self.replace && path.exists() {
                bail!("{} is there already: use --replace to renew it", path.display());
            }
        }
        Ok(())
    }

    fn write(&self, root: &str, issued: &Issued, out: &mut impl Write) -> Result<()> {
        durable::create_dir(&self.folder, 0o700)?;
        let path = self.folder.join(files::TLS);
        files::write_issued(&path, &self.folder.join(files::TLS_KEY), issued)?;
        files::write_certificate(&self.folder.join(files::CA), root)?;
        let leaf = crate::show(&issued.chain)?;
        let names = leaf.first().map(|leaf| leaf.names.join(", ")).unwrap_or_default();
        writeln!(out, "{names}: {}", path.display())?;
        Ok(())
    }
}

fn show(paths: &[PathBuf], out: &mut impl Write) -> Result<()> {
    for path in paths {
        let facts = crate::show(&read(path)?).with_context(|| format!("cannot read {}", path.display()))?;
        for facts in facts {
            writeln!(out, "{}\n{facts}\n", path.display())?;
        }
    }
    Ok(())
}

fn seconds(days: Option<i64>, usual: i64) -> i64 {
    days.map_or(usual, |days| days * 24 * 60 * 60)
}

fn read(path: &Path) -> Result<String> {
    text(path, durable::read_limited(path, FILE_LIMIT)?)
}

fn private(path: &Path) -> Result<String> {
    text(path, durable::read_private(path)?)
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))
}

//! Boundaries of a program: a user of its own where the site names one, and the limits of its release.
//!
//! They are set by a step between agent and program: the agent starts itself as `run-program`, which sets them and
//! becomes the program, under the same pid. Limits of the kernel (setrlimit(2)) hold for each process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, PipeWriter, Read as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use durable::limits::TREE_DEPTH;
use durable::{Files, OpenFolder, read_limited};
use release::{Component, Limits};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

use crate::limits::MAX_ACCOUNTS;
use crate::settings::Programs;
use crate::trust::chain;

/// The agent's own command that becomes a program.
pub const RUN_PROGRAM: &str = "run-program";

/// A user that programs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Its group; it gets no other ones.
    pub gid: u32,
}

/// What a program is kept within.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The program whose command `run-program` sets them: this one.
    runner: PathBuf,
    account: Option<Account>,
    limits: Limits,
}

/// The words of `run-program`.
#[derive(Debug, Args)]
pub struct RunProgram {
    /// User id.
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    /// Group id.
    #[arg(long)]
    gid: Option<u32>,
    /// Bytes of memory.
    #[arg(long)]
    memory_bytes: Option<u64>,
    /// Open files.
    #[arg(long)]
    open_files: Option<u64>,
    /// Processes of its user.
    #[arg(long)]
    processes: Option<u64>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    words: Vec<OsString>,
}

impl Programs {
    /// The user that a component's program runs as; none: the agent's own.
    ///
    /// # Errors
    /// There is no such user, it is root, or the agent may not change users.
    pub fn account(&self, component: &Component) -> Result<Option<Account>, String> {
        let Some(user) = self.users.get(component.as_str()).or_else(|| self.users.get("*")) else {
            return Ok(None);
        };
        if !geteuid().is_root() {
            return Err(format!(
                "{component} is to run as {user}, for which the agent must be root: see [programs] of device.toml"
            ));
        }
        let account = match user.split_once(':') {
            Some((uid, gid)) => uid.parse().ok().zip(gid.parse().ok()),
            None => {
                let bytes = read_limited("/etc/passwd", MAX_ACCOUNTS).map_err(|error| chain(&error))?;
                find_account(&String::from_utf8_lossy(&bytes), user)
            }
        };
        match account {
            Some((0, _)) => Err(format!(
                "{component} is to run as {user}, which is root: name another user"
            )),
            Some((_, 0)) => Err(format!(
                "{component} is to run as {user}, whose group is root's: name another user or group"
            )),
            Some((uid, gid)) => Ok(Some(Account { uid, gid })),
            None => Err(format!(
                "{component} is to run as {user}, who is not in /etc/passwd: add that user, or write UID:GID"
            )),
        }
    }
}

/// User and group of a line of passwd(5).
fn find_account(passwd: &str, user: &str) -> Option<(u32, u32)> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let named = fields.next()? == user;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        named.then_some((uid, gid))
    })
}

impl Bounds {
    /// What keeps a program within `limits` and, if it has one, its own user.
    #[must_use]
    pub fn new(runner: PathBuf, account: Option<Account>, mut limits: Limits) -> Self {
        // The kernel counts all processes of a user: the agent's own must not run out of them.
        if account.is_none() && limits.processes.take().is_some() {
            tracing::warn!(target: "drover", "a limit of processes is not kept: the program has no user of its own");
        }
        Self {
            runner,
            account,
            limits,
        }
    }

    /// Lets the program open its own output by name.
    ///
    /// # Errors
    /// Those of the system.
    pub fn give_output(&self, output: &PipeWriter) -> io::Result<()> {
        match self.account {
            Some(account) => fchown(output, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }

    /// The command that becomes `program`.
    #[must_use]
    pub fn command(&self, program: &Path, args: &[OsString]) -> Command {
        let account = self.account;
        let words = [
            ("--uid", account.map(|account| u64::from(account.uid))),
            ("--gid", account.map(|account| u64::from(account.gid))),
            ("--memory-bytes", self.limits.memory_bytes),
            ("--open-files", self.limits.open_files),
            ("--processes", self.limits.processes),
        ];
        let said: Vec<String> = words
            .into_iter()
            .filter_map(|(word, value)| Some([word.to_owned(), value?.to_string()]))
            .flatten()
            .collect();
        if said.is_empty() {
            let mut command = Command::new(program);
            command.args(args);
            return command;
        }
        let mut command = Command::new(&self.runner);
        command
            .arg0("device")
            .arg(RUN_PROGRAM)
            .args(said)
            .arg("--")
            .arg(program)
            .args(args);
        command
    }

    /// Gives a program's folder to its user; durable on return. What a cut left half done is done again, as the folder
    /// itself comes last.
    ///
    /// # Errors
    /// Those of the disk; a folder on the way that its user cannot pass.
    pub fn give(&self, files: &Files, data: &Path) -> Result<(), String> {
        let Some(account) = self.account else {
            return Ok(());
        };
        let parent = data.parent().unwrap_or(data);
        let mode = fs::metadata(parent)
            .map_err(|error| failed(parent, &error))?
            .mode();
        if mode & 0o011 != 0o011 {
            fs::set_permissions(parent, fs::Permissions::from_mode(mode & 0o7777 | 0o011))
                .map_err(|error| failed(parent, &error))?;
        }
        for place in parent.ancestors() {
            let found = fs::metadata(place).map_err(|error| failed(place, &error))?;
            if !account.passes(&found) {
                return Err(format!(
                    "the program's user {} cannot pass {}: chmod o+x it",
                    account.uid,
                    place.display()
                ));
            }
        }
        let owner = |found: &fs::Metadata| (found.uid(), found.gid()) == (account.uid, account.gid);
        if owner(&fs::metadata(data).map_err(|error| failed(data, &error))?) {
            return Ok(());
        }
        account.take_over(data, data, 0)?;
        files.sync_tree(data).map_err(|error| chain(&error))?;
        lchown(data, Some(account.uid), Some(account.gid)).map_err(|error| failed(data, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be given to its user: {error}", path.display())
}

impl Account {
    /// What is in a folder becomes its own. A user who had it before may still run something there that renames: `way`
    /// leads to `dir` through folders that are open.
    fn take_over(self, dir: &Path, way: &Path, depth: usize) -> Result<(), String> {
        if depth > TREE_DEPTH {
            return Err(format!("{} is deeper than {TREE_DEPTH} folders", dir.display()));
        }
        let open = OpenFolder::open(way).map_err(|error| failed(dir, &error))?;
        let inside = open.path();
        for entry in fs::read_dir(&inside).map_err(|error| failed(dir, &error))? {
            let entry = entry.map_err(|error| failed(dir, &error))?;
            let (path, way) = (dir.join(entry.file_name()), inside.join(entry.file_name()));
            let kind = entry.file_type().map_err(|error| failed(&path, &error))?;
            lchown(&way, Some(self.uid), Some(self.gid)).map_err(|error| failed(&path, &error))?;
            if kind.is_dir() {
                self.take_over(&path, &way, depth + 1)?;
            }
        }
        Ok(())
    }

    fn passes(self, found: &fs::Metadata) -> bool {
        let bit = if found.uid() == self.uid {
            0o100
        } else if found.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        found.mode() & bit != 0
    }
}

/// Sets the boundaries and becomes the program; returns only where that cannot be done.
pub fn run_program(asked: &RunProgram) -> String {
    let limits = [
        ("memory_bytes", Resource::Data, asked.memory_bytes),
        ("open_files", Resource::Nofile, asked.open_files),
        ("processes", Resource::Nproc, asked.processes),
    ];
    for (name, resource, value) in limits {
        let Some(value) = value else { continue };
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        if let Err(error) = setrlimit(resource, limit) {
            return format!("the limit {name} = {value} cannot be set: {error}");
        }
    }
    let Some((program, args)) = asked.words.split_first() else {
        return "no program is named".to_owned();
    };
    let path = Path::new(program);
    if let Err(error) = check_form(path) {
        return format!("{} cannot be started: {error}", path.display());
    }
    let mut command = Command::new(program);
    command.args(args);
    if let (Some(uid), Some(gid)) = (asked.uid, asked.gid) {
        // In this order: no other groups, the group, the user (std::os::unix::process::CommandExt::uid).
        command.gid(gid).uid(uid);
    }
    format!("{} cannot be started: {}", path.display(), command.exec())
}

/// A file that the kernel does not know would be handed to a shell (execvp(3)); nothing here is a shell's line.
fn check_form(program: &Path) -> io::Result<()> {
    if !program.is_absolute() {
        return Ok(());
    }
    let mut head = [0; 4];
    let count = File::open(program)?.read(&mut head)?;
    let head = head.get(..count).unwrap_or_default();
    if head.starts_with(b"#!") || head.starts_with(b"\x7fELF") {
        return Ok(());
    }
    Err(io::Error::other("it is neither an ELF file nor a script with #!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name_and_root_is_none() {
        let passwd = "root:x:0:0::/root:/bin/sh\n\nbroken\npump-old:x:7:7::/:/bin/false\npump:x:990:980::/:/bin/false\n";
        assert_eq!(find_account(passwd, "pump"), Some((990, 980)));
        assert_eq!(find_account(passwd, "pum"), None);
        assert_eq!(find_account(passwd, "broken"), None);
    }

    #[test]
    fn a_program_without_boundaries_is_started_as_it_is() {
        let bounds = |limits| Bounds::new("/self".into(), None, limits);
        let plain = bounds(Limits::default()).command(Path::new("/app"), &["-v".into()]);
        assert_eq!(plain.get_program(), "/app");
        // Of a user that it shares nobody counts processes.
        let shared = Limits {
            processes: Some(4),
            ..Limits::default()
        };
        assert_eq!(
            bounds(shared).command(Path::new("/app"), &[]).get_program(),
            "/app"
        );
        let limited = Limits {
            open_files: Some(64),
            ..Limits::default()
        };
        let limited = bounds(limited).command(Path::new("/app"), &["--uid".into()]);
        let words: Vec<_> = limited.get_args().collect();
        assert_eq!(words, [RUN_PROGRAM, "--open-files", "64", "--", "/app", "--uid"]);
    }
}

//! How a release's program is called: words and variables, never a shell line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use release::{Component, How, Limits, PayloadPath, Release};
use tuf::Digest;

use super::bounds::Bounds;
use crate::layout::Layout;

/// Marks every process of a component, so that a restarted agent finds what an earlier one started.
pub(crate) const MARK: &str = "DROVER_DATA";

/// Variables that a program gets from the agent's own environment, if they are there.
const PASSED_ON: [&str; 4] = ["PATH", "TZ", "LANG", "TMPDIR"];

/// The variables of the agent's own environment that programs get too.
pub(crate) fn passed_on() -> impl Iterator<Item = (String, String)> {
    let values = PASSED_ON.into_iter();
    values.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
}

/// A program that transforms data, and where.
#[derive(Debug, Clone, Copy)]
pub struct Transforming<'a> {
    /// Below the payload.
    pub program: &'a PayloadPath,
    /// The words after it.
    pub words: &'a [String],
    /// What it takes for the component's data folder.
    pub data: &'a Path,
    /// The part of it that counts; it runs there.
    pub state: &'a Path,
    /// The schema of the data.
    pub from: u32,
    /// The schema that they are to have.
    pub to: u32,
}

/// Everything that starts one program.
#[derive(Debug, Clone)]
pub struct Launch {
    how: How,
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    data: PathBuf,
    payload: PathBuf,
    bounds: Bounds,
}

impl Launch {
    /// The program of `release`, as staged under `digest`; `device` are the device's own variables, which
    /// win over the release's. None: it runs no program.
    #[must_use]
    pub fn new(
        layout: &Layout,
        digest: &Digest,
        release: &Release,
        device: Option<&BTreeMap<String, String>>,
        bounds: impl FnOnce(Limits) -> Bounds,
    ) -> Option<Self> {
        let run = release.run.as_ref()?;
        let payload = layout.release(digest).join("payload");
        let data = layout.data(&release.component);
        let mut env: BTreeMap<String, String> = passed_on().collect();
        env.insert("HOME".to_owned(), data.display().to_string());
        if run.how == How::Python {
            // What lies in the release's folder stays as it was signed.
            env.insert("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned());
        }
        env.extend(run.env.clone());
        env.extend(device.cloned().unwrap_or_default());
        env.extend(own_variables(&release.component, &release.version, &data));
        Some(Self {
            how: run.how,
            program: payload.join(run.program.as_str()),
            args: run.args.clone(),
            env,
            data,
            payload,
            bounds: bounds(run.limits),
        })
    }

    /// The value of a variable in the program's environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    /// The folder that the program keeps its data in, and runs in.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What the program is kept within.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The command that runs the program; what it writes goes into `output`.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn command(&self, output: PipeWriter) -> io::Result<Command> {
        let file = self.program.as_os_str();
        let (program, first): (&Path, Vec<OsString>) = match self.how {
            How::Exec => (&self.program, Vec::new()),
            How::Jar => ("java".as_ref(), vec!["-jar".into(), file.into()]),
            How::Python => ("python3".as_ref(), vec![file.into()]),
        };
        let args: Vec<OsString> = first
            .into_iter()
            .chain(self.args.iter().map(OsString::from))
            .collect();
        let mut command = self.bounds.command(program, &args);
        self.bounds.give_output(&output)?;
        let errors = output.try_clone()?;
        command
            .current_dir(&self.data)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        self.set_environment(&mut command);
        Ok(command)
    }

    /// The command that transforms data: the program's own environment, but on a copy.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn transform_command(&self, what: &Transforming<'_>, output: PipeWriter) -> io::Result<Command> {
        let args: Vec<OsString> = what.words.iter().map(OsString::from).collect();
        let program = self.payload.join(what.program.as_str());
        let mut command = self.bounds.command(&program, &args);
        self.bounds.give_output(&output)?;
        let errors = output.try_clone()?;
        command
            .current_dir(what.state)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        self.set_environment(&mut command);
        command
            .env("HOME", what.data)
            .env(MARK, what.data)
            .env("DROVER_STATE", what.state)
            .env("DROVER_SCHEMA_FROM", what.from.to_string())
            .env("DROVER_SCHEMA_TO", what.to.to_string());
        Ok(command)
    }

    /// Another variable in the program's environment.
    pub fn set(&mut self, name: &str, value: String) {
        self.env.insert(name.to_owned(), value);
    }

    /// The command that makes one schema of a live program's state of another; what it complains of goes into `errors`.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn change_command(
        &self,
        program: &PayloadPath,
        words: &[String],
        schemas: (u32, u32),
        errors: PipeWriter,
    ) -> io::Result<Command> {
        let args: Vec<OsString> = words.iter().map(OsString::from).collect();
        let mut command = self.bounds.command(&self.payload.join(program.as_str()), &args);
        self.bounds.give_output(&errors)?;
        command.current_dir(&self.data).stderr(errors);
        self.set_environment(&mut command);
        command
            .env("DROVER_SCHEMA_FROM", schemas.0.to_string())
            .env("DROVER_SCHEMA_TO", schemas.1.to_string());
        Ok(command)
    }

    /// A command that looks after the program, in the folder of its files.
    #[must_use]
    pub fn check_command(&self, argv: &[String]) -> Command {
        let mut words = argv.iter();
        let first = words.next().map(String::as_str).unwrap_or_default();
        let own = self.payload.join(first);
        let program = if own.is_file() {
            own.into_os_string()
        } else {
            OsString::from(first)
        };
        let args: Vec<OsString> = words.map(OsString::from).collect();
        let mut command = self.bounds.command(Path::new(&program), &args);
        command.current_dir(&self.payload).stdin(Stdio::null());
        self.set_environment(&mut command);
        command
    }

    fn set_environment(&self, command: &mut Command) {
        command.env_clear().envs(&self.env);
    }

    /// What to tell a person when the program could not be started.
    #[must_use]
    pub fn explain(&self, error: &io::Error) -> String {
        let missing = error.kind() == io::ErrorKind::NotFound;
        match self.how {
            How::Jar if missing => {
                "java is not on this device: install a Java runtime that provides `java`".to_owned()
            }
            How::Python if missing => "python3 is not on this device: install Python 3".to_owned(),
            How::Exec if missing => format!(
                "{} cannot be started: it, or the interpreter in its first line, is not there",
                self.program_name()
            ),
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => format!(
                "{} is not a program for this device: neither an ELF file of its kind nor a script with #!",
                self.program_name()
            ),
            _ => format!("{} cannot be started: {error}", self.program_name()),
        }
    }

    fn program_name(&self) -> String {
        self.program
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

fn own_variables(component: &Component, version: &release::Version, data: &Path) -> [(String, String); 3] {
    [
        ("DROVER_COMPONENT".to_owned(), component.to_string()),
        ("DROVER_VERSION".to_owned(), version.to_string()),
        (MARK.to_owned(), data.display().to_string()),
    ]
}

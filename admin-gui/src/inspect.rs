//! A look at what would be published: what it is, what is in it, what a device will do with it.
//!
//! No site, no key and no repository are needed; nothing is written. The checks are those of the preflight
//! that do not ask the repository.

use std::path::Path;

use release::{
    Arch, Component, Form, Health, How, Kind, Manifest, ModuleName, Nature, PackedFile, Policy, Requires,
    Run, State, Version,
};
use serde::Serialize;
use tuf::Digest;

use crate::draft::{Draft, DraftError, Options};
use crate::preflight::{Check, Verdict, content};
use crate::progress;
use crate::stop::Stop;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The component, as far as it is known.
    pub component: Option<Component>,
    /// The version, as far as it is known.
    pub version: Option<Version>,
    /// The name it would have in the repository; empty if it cannot be packed.
    pub file_name: String,
    /// A package, or a file on its own.
    pub form: Form,
    /// Bytes of the target.
    pub length: u64,
    /// SHA-256 of the target.
    pub sha256: Digest,
    /// The processor it runs on; none: any.
    pub processor: Option<Arch>,
    /// What else is said of it; none if that is not understood.
    #[serde(flatten)]
    pub said: Option<Said>,
    /// The files of a package.
    pub files: Vec<PackedFile>,
    /// What a device will do, in order.
    pub device: Vec<String>,
    /// What may not be meant.
    pub warnings: Vec<String>,
    /// The checks.
    pub checks: Vec<Check>,
}

/// What its author says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// How it is installed.
    pub kind: Kind,
    /// How an application runs and is watched; none: a module installs it.
    #[serde(flatten)]
    pub program: Option<Program>,
    /// Hardware it fits; empty: any.
    pub hardware: Vec<String>,
    /// What it needs of a device.
    pub requires: Requires,
    /// Where its data lies.
    pub state: Option<State>,
    /// What kind of change it is.
    pub nature: Option<Nature>,
    /// When it may be activated.
    pub policy: Policy,
}

/// How an application runs and is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// How it runs.
    pub run: Run,
    /// How one knows that it is well.
    pub health: Health,
    /// Seconds to the first healthy answer.
    pub start_seconds: u32,
    /// Seconds it must then stay healthy.
    pub probation_seconds: u32,
}

impl Inspection {
    /// The first check that is refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.verdict == Verdict::Refused)
    }
}

/// Looks at a file or a folder.
///
/// # Errors
/// It cannot be read; faults of the content are refused checks.
pub fn inspect(path: &Path, options: &Options) -> Result<Inspection, DraftError> {
    let draft = Draft::look(path, options, &progress::nobody(), &Stop::default())?;
    let manifest = draft.manifest.as_ref();
    let mut warnings = forgotten(path);
    if let Some(manifest) = manifest {
        warnings.extend(doubts(manifest, &draft));
    }
    Ok(Inspection {
        component: draft.component.clone(),
        version: draft.version.clone(),
        file_name: draft.file_name.clone(),
        form: draft.form,
        length: draft.length,
        sha256: draft.digest,
        processor: manifest.and_then(|manifest| manifest.arch).or(draft.found_arch),
        said: manifest.map(Said::of),
        files: draft.files.clone(),
        device: manifest
            .map(|manifest| steps(manifest, &draft))
            .unwrap_or_default(),
        warnings,
        checks: content(&draft, None),
    })
}

impl Said {
    fn of(manifest: &Manifest) -> Self {
        Self {
            kind: manifest.kind.clone(),
            program: manifest.run.as_ref().map(|run| Program {
                run: run.clone(),
                health: manifest.health.clone(),
                start_seconds: manifest.start_seconds,
                probation_seconds: manifest.probation_seconds,
            }),
            hardware: manifest.hardware.clone(),
            requires: manifest.requires.clone(),
            state: manifest.state.clone(),
            nature: manifest.nature.clone(),
            policy: manifest.policy.clone(),
        }
    }
}

/// What lies beside `update.toml` and `payload/`: it does not become part of the package.
fn forgotten(path: &Path) -> Vec<String> {
    // What cannot be listed is told by the checks.
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "update.toml" && name != "payload")
        .map(|name| {
            format!("{name} lies beside payload/ and is not packed: move it into payload/ if it is needed")
        })
        .collect();
    names.sort_unstable();
    names
}

fn doubts(manifest: &Manifest, draft: &Draft) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(run) = &manifest.run {
        doubts.extend(doubts_of_program(manifest, run, draft));
    }
    if !manifest.policy.is_immediate() {
        doubts.push(format!(
            "a device installs it {}: until then it waits there, and says for what",
            manifest.policy
        ));
    }
    doubts
}

fn doubts_of_program(manifest: &Manifest, run: &Run, draft: &Draft) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Health::Alive { seconds } = manifest.health {
        doubts.push(format!(
            "it counts as well when it is still there after {seconds} s: with http or command in [health] a device also notices one that runs and does not work"
        ));
    }
    if manifest.probation_seconds == 0 {
        doubts.push("it is committed with its first healthy answer: probation_seconds = 0".to_owned());
    }
    let reads_others = |state: &State| !state.from.is_empty() && state.transform.is_empty();
    if manifest.state.as_ref().is_some_and(reads_others) {
        doubts.push(
            "data of another schema are left as they are: its program must read them, or [state] name a program in transform"
                .to_owned(),
        );
    }
    if run.how == How::Exec && !draft.is_elf && manifest.arch.is_none() {
        doubts.push("its program is a script: what it calls must be on the device".to_owned());
    }
    doubts
}

/// What a device does with it, one line each.
fn steps(manifest: &Manifest, draft: &Draft) -> Vec<String> {
    let mut steps = needs(manifest);
    steps.push(format!("fetch {} bytes and compare their SHA-256", draft.length));
    if draft.form == Form::Package {
        let bytes: u64 = draft.files.iter().map(|file| file.size).sum();
        steps.push(format!("unpack {} files, {bytes} bytes", draft.files.len()));
    }
    match (&manifest.kind, &manifest.run) {
        (Kind::Module(module), _) => steps.extend(steps_of_module(module)),
        (Kind::App | Kind::Live, Some(run)) => steps.extend(steps_of_program(manifest, run)),
        (Kind::Agent, Some(_)) => steps.extend(steps_of_agent(manifest)),
        (Kind::App | Kind::Live | Kind::Agent, None) => {}
    }
    steps
}

fn steps_of_module(module: &ModuleName) -> Vec<String> {
    vec![
        format!("give the files to its update module {module}: Download, then ArtifactInstall"),
        "commit it when the module has verified it: ArtifactCommit".to_owned(),
        "otherwise let the module undo it, if it can: ArtifactRollback, ArtifactFailure".to_owned(),
        "let the module clean up, whatever happened: Cleanup".to_owned(),
    ]
}

fn steps_of_agent(manifest: &Manifest) -> Vec<String> {
    vec![
        "wait until no other component is being changed".to_owned(),
        "end the agent, leave all programs running, start this one in its place".to_owned(),
        "it is well when it has taken over what runs and, where the agent before it heard the manager, hears it too"
            .to_owned(),
        format!(
            "commit it after {} s without a fault; otherwise the agent before it goes on",
            manifest.probation_seconds
        ),
    ]
}

fn steps_of_program(manifest: &Manifest, run: &Run) -> Vec<String> {
    let mut steps = Vec::new();
    if manifest.kind == Kind::Live {
        let live = manifest.live.clone().unwrap_or_default();
        steps.push(format!(
            "where the running version is live too: start this one beside it, let it take over state and connections within {} s, and end the other; else as follows",
            live.ready_seconds.saturating_add(live.still_seconds)
        ));
    }
    steps.push("stop the running version within its own time".to_owned());
    if let Some(state) = &manifest.state {
        steps.extend(steps_of_data(state));
    }
    let program = match run.how {
        How::Exec => String::new(),
        How::Jar => "java -jar ".to_owned(),
        How::Python => "python3 ".to_owned(),
    };
    let mut words = vec![format!("{program}{}", run.program)];
    words.extend(run.args.iter().map(|word| format!("{word:?}")));
    steps.push(format!("start {}", words.join(" ")));
    let asked = match &manifest.health {
        Health::Http { url } => format!("GET {url} answers 2xx"),
        Health::Command { argv } => format!("`{}` ends with 0", argv.join(" ")),
        Health::Alive { seconds } => format!("it is still there after {seconds} s"),
    };
    steps.push(format!(
        "wait until {asked}, {} s at most",
        manifest.start_seconds
    ));
    steps.push(format!(
        "watch it for {} s, then commit; otherwise go back to the version before",
        manifest.probation_seconds
    ));
    steps.push(format!(
        "to stop it: SIGTERM, after {} s SIGKILL",
        run.stop_seconds
    ));
    steps
}

fn steps_of_data(state: &State) -> Vec<String> {
    let what = state
        .folder
        .as_ref()
        .map_or_else(|| "its data".to_owned(), |folder| format!("{folder} of its data"));
    let mut steps = vec![format!(
        "save {what}, and put them back as they were if it goes back before the commit"
    )];
    if !state.transform.is_empty() {
        steps.push(format!(
            "data of another schema than {}: run {} on a copy, {} s at most; if it fails, the version before starts with its own",
            state.to,
            state.transform.join(" "),
            state.transform_seconds
        ));
    }
    steps
}

/// What is checked before anything is fetched.
fn needs(manifest: &Manifest) -> Vec<String> {
    let Requires {
        agent,
        memory_bytes,
        disk_bytes,
        components,
    } = &manifest.requires;
    let mut needs = Vec::new();
    needs.extend(manifest.arch.map(|arch| format!("a processor {arch}")));
    if !manifest.hardware.is_empty() {
        needs.push(format!("hardware {}", manifest.hardware.join(" or ")));
    }
    needs.extend(agent.as_ref().map(|agent| format!("an agent {agent}")));
    needs.extend(memory_bytes.map(|bytes| format!("{bytes} bytes of memory")));
    needs.extend(disk_bytes.map(|bytes| format!("{bytes} bytes free on disk")));
    needs.extend(components.iter().map(|(name, range)| format!("{name} {range}")));
    if let Some(state) = &manifest.state {
        needs.push(format!("data of schema {}", state.readable()));
    }
    if needs.is_empty() {
        return Vec::new();
    }
    vec![format!("refuse it without {}", needs.join(", "))]
}

impl std::fmt::Display for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
        let text = |part: Option<&dyn std::fmt::Display>| or(part.map(ToString::to_string), "?");
        writeln!(
            f,
            "  component  {}",
            text(self.component.as_ref().map(|c| c as _))
        )?;
        writeln!(f, "  version    {}", text(self.version.as_ref().map(|v| v as _)))?;
        let form = match self.form {
            Form::Package => "package",
            Form::Single => "single file",
        };
        writeln!(f, "  form       {form}")?;
        writeln!(f, "  file       {}, {} bytes", self.file_name, self.length)?;
        writeln!(f, "  sha256     {}", self.sha256)?;
        let processor = self.processor.map(|arch| arch.to_string());
        writeln!(f, "  processor  {}", or(processor, "any"))?;
        if let Some(said) = &self.said {
            writeln!(f, "  kind       {}", said.kind)?;
            if let Some(nature) = &said.nature {
                writeln!(
                    f,
                    "  nature     {:?}, stillness {:?}",
                    nature.category, nature.stillness
                )?;
            }
            writeln!(f, "  policy     {}", said.policy)?;
        }
        for file in &self.files {
            let mark = if file.executable { "x" } else { " " };
            writeln!(f, "  {mark} {:>12}  {}", file.size, file.path)?;
        }
        if !self.device.is_empty() {
            writeln!(f, "  a device will")?;
        }
        for (number, step) in self.device.iter().enumerate() {
            writeln!(f, "  {:>3}. {step}", number + 1)?;
        }
        for check in &self.checks {
            writeln!(f, "  {} {:<9} {}", check.verdict.mark(), check.id, check.text)?;
        }
        for warning in &self.warnings {
            writeln!(f, "  ! {warning}")?;
        }
        Ok(())
    }
}

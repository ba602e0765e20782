//! `update.toml`: a release described by its author.
//!
//! ```toml
//! format = 1
//! component = "thermostat"
//! version = "1.2.0"
//!
//! [run]
//! how = "exec"              # or "jar", "python"
//! program = "thermostat"    # below payload/
//! args = ["--quiet"]
//! env = { MODE = "heat" }
//! stop_seconds = 10
//!
//! [health]
//! http = "http://127.0.0.1:${PORT}/health"   # or: command = ["./check"]  or: alive_seconds = 3
//! start_seconds = 30
//! probation_seconds = 5
//!
//! [requires]
//! arch = "x86-64"
//! hardware = ["rpi-4"]
//! agent = ">=0.1"
//! memory_bytes = 64_000_000
//! disk_bytes = 10_000_000
//!
//! [about]
//! vendor = "…"              # developer, location, license, description
//! ```
//! `format`, `component`, `version` and `[run]` are required. Without `[health]` a program is well
//! when it is still there after three seconds.

use semver::VersionReq;
use serde::{Deserialize, Serialize};
use tuf::UnixTime;

use crate::arch::Arch;
use crate::custom::{self, Form, Kind, Release, Requires};
use crate::limits;
use crate::name::{Component, PayloadPath};
use crate::run::{Health, How, Run};
use crate::text;
use crate::version::Version;

/// A release as its author describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it is a version of.
    pub component: Component,
    /// Which version.
    pub version: Version,
    /// The release counter, if the author keeps it; else the publisher counts.
    pub counter: Option<u64>,
    /// How it is installed.
    pub kind: Kind,
    /// How it runs.
    pub run: Run,
    /// How one knows that it is well.
    pub health: Health,
    /// Seconds from start to the first healthy answer, at most.
    pub start_seconds: u32,
    /// Seconds it must then stay healthy.
    pub probation_seconds: u32,
    /// The processor it is built for; none: any.
    pub arch: Option<Arch>,
    /// Hardware it fits; empty: any.
    pub hardware: Vec<String>,
    /// What it needs of the device.
    pub requires: Requires,
    /// For people.
    pub about: About,
}

/// What a release says to people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Who sells it.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub vendor: Option<String>,
    /// Who wrote it.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub developer: Option<String>,
    /// Where it is meant to run.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub location: Option<String>,
    /// Under which terms.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub license: Option<String>,
    /// What it is and what is new.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub description: Option<String>,
}

/// What is wrong in an `update.toml`, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("update.toml{}: {message}", line.map(|line| format!(" line {line}")).unwrap_or_default())]
pub struct ManifestError {
    /// Counted from 1; none if the fault has no place, such as a missing table.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl Manifest {
    /// A manifest for a single file, with defaults for all that is not given.
    pub fn new(component: Component, version: Version, run: Run) -> Self {
        Self {
            component,
            version,
            counter: None,
            kind: Kind::App,
            run,
            health: Health::Alive {
                seconds: default_alive_seconds(),
            },
            start_seconds: custom::default_start_seconds(),
            probation_seconds: custom::default_probation_seconds(),
            arch: None,
            hardware: Vec::new(),
            requires: Requires::default(),
            about: About::default(),
        }
    }

    /// Reads an `update.toml`.
    ///
    /// # Errors
    /// [`ManifestError`] with the line. Fields that do not exist are errors: a misspelt one must not
    /// be ignored.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() as u64 > limits::MANIFEST_BYTES {
            return Err(ManifestError {
                line: None,
                message: "longer than 64 KiB".to_owned(),
            });
        }
        let file: File = toml::from_str(text).map_err(|e| ManifestError {
            line: e.span().map(|span| line_at(text, span.start)),
            message: e.message().to_owned(),
        })?;
        Ok(file.into())
    }

    /// The signed description of this release.
    ///
    /// `update_id` is made at the click, `counter` is used unless the manifest has one.
    pub fn release(
        &self,
        update_id: String,
        counter: u64,
        form: Form,
        file_name: String,
        released: UnixTime,
    ) -> Release {
        let about = self.about.clone();
        Release {
            format: Release::FORMAT,
            update_id,
            component: self.component.clone(),
            version: self.version.clone(),
            counter: self.counter.unwrap_or(counter),
            kind: self.kind,
            form,
            file_name,
            arch: self.arch,
            hardware: self.hardware.clone(),
            requires: self.requires.clone(),
            run: self.run.clone(),
            health: self.health.clone(),
            start_seconds: self.start_seconds,
            probation_seconds: self.probation_seconds,
            released,
            vendor: about.vendor,
            developer: about.developer,
            location: about.location,
            license: about.license,
            description: about.description,
            withdrawn: None,
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn default_alive_seconds() -> u32 {
    3
}

/// The file as it is written, its own type: what it looks like may change less often than ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(deserialize_with = "format_one")]
    #[expect(dead_code, reason = "checked while reading")]
    format: u32,
    component: Component,
    version: Version,
    counter: Option<u64>,
    #[serde(default)]
    kind: Kind,
    run: FileRun,
    #[serde(default)]
    health: FileHealth,
    #[serde(default)]
    requires: FileRequires,
    #[serde(default)]
    about: About,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRun {
    how: How,
    program: PayloadPath,
    #[serde(default, deserialize_with = "text::words")]
    args: Vec<String>,
    #[serde(default, deserialize_with = "text::variables")]
    env: std::collections::BTreeMap<String, String>,
    #[serde(default = "Run::default_stop_seconds", deserialize_with = "text::seconds")]
    stop_seconds: u32,
}

#[derive(Deserialize)]
#[serde(try_from = "FileHealthFields")]
struct FileHealth {
    health: Health,
    start_seconds: u32,
    probation_seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileHealthFields {
    #[serde(default, deserialize_with = "some_url")]
    http: Option<String>,
    #[serde(default, deserialize_with = "some_command")]
    command: Option<Vec<String>>,
    #[serde(default, deserialize_with = "some_seconds")]
    alive_seconds: Option<u32>,
    #[serde(default = "custom::default_start_seconds", deserialize_with = "text::seconds")]
    start_seconds: u32,
    #[serde(
        default = "custom::default_probation_seconds",
        deserialize_with = "text::seconds"
    )]
    probation_seconds: u32,
}

impl TryFrom<FileHealthFields> for FileHealth {
    type Error = &'static str;

    fn try_from(fields: FileHealthFields) -> Result<Self, Self::Error> {
        let health = match (fields.http, fields.command, fields.alive_seconds) {
            (Some(url), None, None) => Health::Http { url },
            (None, Some(argv), None) => Health::Command { argv },
            (None, None, Some(seconds)) => Health::Alive { seconds },
            (None, None, None) => Health::Alive {
                seconds: default_alive_seconds(),
            },
            _ => return Err("health needs one of http, command, alive_seconds, not several"),
        };
        let FileHealthFields {
            start_seconds,
            probation_seconds,
            ..
        } = fields;
        Ok(Self {
            health,
            start_seconds,
            probation_seconds,
        })
    }
}

impl Default for FileHealth {
    fn default() -> Self {
        Self {
            health: Health::Alive {
                seconds: default_alive_seconds(),
            },
            start_seconds: custom::default_start_seconds(),
            probation_seconds: custom::default_probation_seconds(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileRequires {
    arch: Option<Arch>,
    #[serde(default, deserialize_with = "text::hardware")]
    hardware: Vec<String>,
    agent: Option<VersionReq>,
    memory_bytes: Option<u64>,
    disk_bytes: Option<u64>,
}

fn format_one<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        Release::FORMAT => Ok(Release::FORMAT),
        other => Err(serde::de::Error::custom(format_args!(
            "format {other} is not known, only 1"
        ))),
    }
}

fn some_url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text::url(deserializer).map(Some)
}

fn some_command<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    text::command(deserializer).map(Some)
}

fn some_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    text::seconds(deserializer).map(Some)
}

impl From<File> for Manifest {
    fn from(file: File) -> Self {
        let FileRun {
            how,
            program,
            args,
            env,
            stop_seconds,
        } = file.run;
        let FileRequires {
            arch,
            hardware,
            agent,
            memory_bytes,
            disk_bytes,
        } = file.requires;
        Self {
            component: file.component,
            version: file.version,
            counter: file.counter,
            kind: file.kind,
            run: Run {
                how,
                program,
                args,
                env,
                stop_seconds,
            },
            health: file.health.health,
            start_seconds: file.health.start_seconds,
            probation_seconds: file.health.probation_seconds,
            arch,
            hardware,
            requires: Requires {
                agent,
                memory_bytes,
                disk_bytes,
            },
            about: file.about,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "format = 1\ncomponent = \"thermostat\"\nversion = \"1.2\"\n\n[run]\nhow = \"exec\"\nprogram = \"thermostat\"\n";

    #[test]
    fn the_smallest_manifest_has_good_defaults() {
        let manifest = Manifest::parse(SMALL).unwrap();
        let run = Run::plain(How::Exec, "thermostat".parse().unwrap());
        assert_eq!(
            manifest,
            Manifest::new("thermostat".parse().unwrap(), "1.2.0".parse().unwrap(), run)
        );
    }

    #[test]
    fn the_manifest_in_the_documentation_is_one() {
        let source = include_str!("manifest.rs");
        let doc: Vec<&str> = source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .collect();
        let doc = doc.join("\n");
        let text = doc.split("```").nth(1).unwrap().strip_prefix("toml").unwrap();
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.requires.disk_bytes, Some(10_000_000));
        assert_eq!(manifest.run.env["MODE"], "heat");
        let release = manifest.release(
            "0".repeat(32),
            3,
            Form::Package,
            "t.tar".to_owned(),
            UnixTime(1_790_000_000),
        );
        assert_eq!(
            Release::from_custom(&release.to_custom().unwrap()).unwrap(),
            release
        );
        assert_eq!(release.counter, 3);
    }

    #[test]
    fn an_error_names_its_line() {
        for (line, old, new) in [
            (1, "format = 1", "format = 2"),
            (2, "component", "component_name"),
            (2, "thermostat", "thermo stat"),
            (3, "1.2", "1.2.3.4"),
            (3, "version = \"1.2\"", "version = 1.2"),
            (5, "[run]", "[run"),
            (6, "exec", "shell"),
            (7, "program = \"thermostat\"", "program = \"../thermostat\""),
            (
                8,
                "program = \"thermostat\"\n",
                "program = \"thermostat\"\nstop_seconds = 9999\n",
            ),
            (
                8,
                "program = \"thermostat\"\n",
                "program = \"thermostat\"\nenv = { DROVER_X = \"1\" }\n",
            ),
            (
                8,
                "program = \"thermostat\"\n",
                "program = \"thermostat\"\n[health]\nalive_seconds = 1\nhttp = \"http://a\"\n",
            ),
            (
                9,
                "program = \"thermostat\"\n",
                "program = \"thermostat\"\n[health]\nhttp = \"ftp://a\"\n",
            ),
        ] {
            let text = SMALL.replacen(old, new, 1);
            let error = Manifest::parse(&text).unwrap_err();
            assert_eq!(error.line, Some(line), "{new}: {error}");
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("update.toml line {line}: "))
            );
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for gone in [
            "component = \"thermostat\"\n",
            "version = \"1.2\"\n",
            "format = 1\n",
            "how = \"exec\"\n",
        ] {
            let error = Manifest::parse(&SMALL.replacen(gone, "", 1)).unwrap_err();
            let field = gone.split(' ').next().unwrap();
            assert!(error.message.contains(field), "{error}");
        }
    }
}

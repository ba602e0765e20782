//! What is signed with a target: the `drover` part of its `custom` field.

use std::collections::BTreeMap;

use semver::VersionReq;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tuf::UnixTime;

use crate::arch::Arch;
use crate::kind::Kind;
use crate::limits;
use crate::live::Live;
use crate::name::{Component, NameError, TargetPath};
use crate::nature::Nature;
use crate::policy::Policy;
use crate::run::{Health, How, Limits, Run};
use crate::state::State;
use crate::text;
use crate::version::Version;

/// What a device must know of a release before it fetches it; signed with the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Form of this description; 1.
    pub format: u32,
    /// 32 hexadecimal digits, made at the click; the same in all four programs.
    pub update_id: String,
    /// What it is a version of.
    pub component: Component,
    /// Which version.
    pub version: Version,
    /// Rises with every release of the component; devices never go below what they have committed.
    pub counter: u64,
    /// How it is installed.
    #[serde(default)]
    pub kind: Kind,
    /// What the target file is.
    pub form: Form,
    /// The target file's own name, the last part of its path.
    pub file_name: String,
    /// The processor it is built for; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// Hardware it fits; empty: any.
    #[serde(
        default,
        deserialize_with = "text::hardware",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub hardware: Vec<String>,
    /// What it needs of the device.
    #[serde(default)]
    pub requires: Requires,
    /// Where its data lies and in which form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// What it hands over while it runs, if its kind is `live`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// What kind of change it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nature: Option<Nature>,
    /// When it may be activated.
    #[serde(default, skip_serializing_if = "Policy::is_immediate")]
    pub policy: Policy,
    /// How it runs; none: a module installs it, and it runs nothing of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// How one knows that an application is well; a module says so itself.
    #[serde(default = "default_health")]
    pub health: Health,
    /// Seconds from start to the first healthy answer, at most.
    #[serde(default = "default_start_seconds", deserialize_with = "text::seconds")]
    pub start_seconds: u32,
    /// Seconds it must then stay healthy before it is committed.
    #[serde(default = "default_probation_seconds", deserialize_with = "text::seconds")]
    pub probation_seconds: u32,
    /// When the author released it, by the author's clock; for people, and where the author's own soak begins.
    pub released: UnixTime,
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
    /// Taken back: offered to nobody new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawn>,
}

/// What the target file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A tar with `update.toml` and `payload/`.
    Package,
    /// The program itself.
    Single,
}

/// What a release needs of a device. A need that a program does not know makes the release malformed for
/// it: what cannot be checked must not count as met.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Versions of the agent that can install it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<VersionReq>,
    /// Bytes of memory the device has in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Bytes free on the device's disk, the release itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Versions of other components that must be installed beside it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<Component, VersionReq>,
}

/// A release taken back by its author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// When, by the author's clock.
    pub at: UnixTime,
    /// Why.
    pub reason: String,
}

/// Why a target's `custom` field describes no release this program understands.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// No `drover` part: a target of another system.
    #[error("the target has no drover description")]
    Missing,
    /// Made for newer programs.
    #[error("the release's description has format {found}, this program knows {known}: update this program")]
    Format {
        /// The description's format.
        found: u64,
        /// Ours.
        known: u32,
    },
    /// A field is missing or wrong.
    #[error("the release's description is malformed")]
    Malformed(#[source] serde_json::Error),
    /// The update id is not 32 lower-case hexadecimal digits.
    #[error("the release's update id is malformed: it must be 32 lower-case hexadecimal digits")]
    UpdateId,
    /// The file name cannot be part of a path.
    #[error(transparent)]
    FileName(#[from] NameError),
    /// Something in it contradicts itself.
    #[error("the release's {table} contradicts itself: {why}")]
    Contradiction {
        /// Which part.
        table: &'static str,
        /// How.
        why: &'static str,
    },
    /// The reason of a withdrawal is too long or has control characters.
    #[error("the reason of the withdrawal is malformed: at most 4096 bytes of text")]
    Reason,
}

impl Release {
    /// The format this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// The key under which the description stands in a target's `custom` field.
    pub const KEY: &'static str = "drover";

    /// Reads a target's `custom` field. Unknown fields are left alone: newer authors may add some.
    ///
    /// # Errors
    /// [`ReleaseError`] says what is wrong; a target of another system is [`ReleaseError::Missing`].
    pub fn from_custom(custom: &Value) -> Result<Self, ReleaseError> {
        let description = custom.get(Self::KEY).ok_or(ReleaseError::Missing)?;
        match description.get("format").and_then(Value::as_u64) {
            Some(found) if found != u64::from(Self::FORMAT) => {
                return Err(ReleaseError::Format {
                    found,
                    known: Self::FORMAT,
                });
            }
            _ => {} // its absence is reported as malformed
        }
        let release = Self::deserialize(description).map_err(ReleaseError::Malformed)?;
        release.check()?;
        Ok(release)
    }

    /// The `custom` field of this release's target. Only whole numbers, as signed JSON demands.
    ///
    /// # Errors
    /// A field that [`Self::from_custom`] would refuse.
    pub fn to_custom(&self) -> Result<Value, ReleaseError> {
        let description = serde_json::to_value(self).map_err(ReleaseError::Malformed)?;
        let custom = Value::Object(Map::from_iter([(Self::KEY.to_owned(), description)]));
        Self::from_custom(&custom)?;
        Ok(custom)
    }

    /// Where the target lies in the repository.
    ///
    /// # Errors
    /// A file name that cannot be part of a path; none after [`Self::from_custom`].
    pub fn target_path(&self) -> Result<TargetPath, NameError> {
        TargetPath::new(&self.component, &self.version, &self.file_name)
    }

    fn check(&self) -> Result<(), ReleaseError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if self.update_id.len() != 32 || !self.update_id.bytes().all(hex) {
            return Err(ReleaseError::UpdateId);
        }
        self.target_path()?;
        self.check_needs()?;
        match &self.withdrawn {
            Some(withdrawn)
                if withdrawn.reason.len() > limits::TEXT_BYTES
                    || withdrawn.reason.chars().any(|c| c.is_control() && c != '\n') =>
            {
                Err(ReleaseError::Reason)
            }
            _ => Ok(()),
        }
    }

    /// What `update.toml` could not say either.
    fn check_needs(&self) -> Result<(), ReleaseError> {
        let wrong = |table, why| Err(ReleaseError::Contradiction { table, why });
        let components = &self.requires.components;
        if components.len() > limits::REQUIRED_COMPONENTS || components.contains_key(&self.component) {
            return wrong("requires", "at most 32 components, none of them itself");
        }
        match (&self.kind, &self.run) {
            (Kind::App | Kind::Live | Kind::Agent, None) => {
                return wrong("run", "an application or agent names its program");
            }
            (Kind::Agent, Some(run)) => {
                if let Some(why) = unfit_agent(run) {
                    return wrong("run", why);
                }
                if self.state.is_some() {
                    return wrong("state", "an agent keeps no data as an application does");
                }
            }
            (Kind::Module(_), Some(_)) => return wrong("run", "what a module installs runs no program"),
            (Kind::Module(_), None) if self.form != Form::Package => {
                return wrong("kind", "what a module installs comes as a package");
            }
            (Kind::Module(_), None) if self.state.is_some() => {
                return wrong("state", "what a module installs keeps no data with the agent");
            }
            _ => {}
        }
        if let Some(why) = self.run.as_ref().and_then(|run| run.limits.contradiction()) {
            return wrong("run", why);
        }
        if let Some((_, why)) = self.nature.as_ref().and_then(Nature::contradiction) {
            return wrong("nature", why);
        }
        if let Some((_, why)) = self.live.as_ref().and_then(Live::contradiction) {
            return wrong("live", why);
        }
        if self.live.is_some() && self.kind != Kind::Live {
            return wrong("live", "only a release of kind live hands over");
        }
        if let Some((_, why)) = self.state.as_ref().and_then(State::contradiction) {
            return wrong("state", why);
        }
        match self.policy.contradiction() {
            Some((_, why)) => wrong("policy", why),
            None => Ok(()),
        }
    }
}

/// Why an agent's program cannot be started as an agent.
pub(crate) fn unfit_agent(run: &Run) -> Option<&'static str> {
    if run.how != How::Exec {
        return Some("an agent is a program of its own: how = \"exec\"");
    }
    let more = !run.args.is_empty() || !run.env.is_empty() || run.limits != Limits::default();
    more.then_some(
        "an agent gets its arguments, environment and limits from its launcher: remove args, env and limits",
    )
}

/// Still there after three seconds.
pub(crate) fn default_health() -> Health {
    Health::Alive { seconds: 3 }
}

/// Half a minute to come up.
pub(crate) fn default_start_seconds() -> u32 {
    30
}

/// Five seconds of good behaviour.
pub(crate) fn default_probation_seconds() -> u32 {
    5
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn release() -> Release {
        Release {
            format: 1,
            update_id: "0123456789abcdef0123456789abcdef".to_owned(),
            component: "thermostat".parse().unwrap(),
            version: "1.2".parse().unwrap(),
            counter: 7,
            kind: Kind::App,
            form: Form::Package,
            file_name: "thermostat_1.2.tar".to_owned(),
            arch: Some(Arch::X86_64),
            hardware: vec!["rpi-4".to_owned()],
            requires: Requires {
                agent: Some(">=0.1".parse().unwrap()),
                ..Requires::default()
            },
            state: None,
            live: None,
            nature: None,
            policy: Policy::default(),
            run: Some(Run::plain(How::Exec, "bin/thermostat".parse().unwrap())),
            health: Health::Http {
                url: "http://127.0.0.1:${PORT}/health".to_owned(),
            },
            start_seconds: 30,
            probation_seconds: 5,
            released: UnixTime(1_790_000_000),
            vendor: None,
            developer: None,
            location: None,
            license: None,
            description: Some("warmer".to_owned()),
            withdrawn: None,
        }
    }

    /// `custom` with one field changed.
    fn with(pointer: &str, value: Value) -> Value {
        let mut custom = release().to_custom().unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = custom.pointer_mut(&format!("/drover{parent}")).unwrap();
        parent.as_object_mut().unwrap().insert(key.to_owned(), value);
        custom
    }

    #[test]
    fn a_release_survives_its_custom_field() {
        let custom = release().to_custom().unwrap();
        assert_eq!(Release::from_custom(&custom).unwrap(), release());
        assert_eq!(
            release().target_path().unwrap().as_str(),
            "thermostat/1.2.0/thermostat_1.2.tar"
        );
    }

    #[test]
    fn what_a_module_installs_runs_nothing() {
        let good = Release {
            kind: "module:deb".parse().unwrap(),
            run: None,
            ..release()
        };
        let custom = good.to_custom().unwrap();
        assert_eq!(custom.pointer("/drover/kind"), Some(&json!("module:deb")));
        assert_eq!(custom.pointer("/drover/run"), None);
        assert_eq!(Release::from_custom(&custom).unwrap(), good);
        let single = Release {
            form: Form::Single,
            ..good.clone()
        };
        let stateful = Release {
            state: Some(State::default()),
            ..good
        };
        for bad in [single, stateful] {
            assert!(
                matches!(bad.to_custom(), Err(ReleaseError::Contradiction { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn fields_of_the_future_are_left_alone() {
        let custom = with("/colour", json!({"category": 3}));
        assert_eq!(Release::from_custom(&custom).unwrap(), release());
    }

    #[test]
    fn a_format_of_the_future_is_refused_by_name() {
        let error = Release::from_custom(&with("/format", json!(2))).unwrap_err();
        assert!(matches!(error, ReleaseError::Format { found: 2, known: 1 }));
        assert!(matches!(
            Release::from_custom(&json!({"other": 1})),
            Err(ReleaseError::Missing)
        ));
    }

    #[test]
    fn each_wrong_field_is_refused() {
        for (pointer, value) in [
            ("/format", json!("1")),
            ("/update_id", json!("0123456789ABCDEF0123456789abcdef")),
            ("/update_id", json!("../../../../../../../../../../..")),
            ("/component", json!("a/b")),
            ("/version", json!("1.2.3.4")),
            ("/counter", json!(-1)),
            ("/counter", json!(1.5)),
            ("/kind", json!("module:deb")), // with a program
            ("/kind", json!("module:../deb")),
            ("/kind", json!("Live")),
            ("/live", json!({"schema": 1})),
            ("/run", Value::Null),
            ("/form", json!("zip")),
            ("/file_name", json!("../x")),
            ("/file_name", json!("a b")),
            ("/arch", json!("mips")),
            ("/hardware", json!(["a b"])),
            ("/run/program", json!("../../bin/sh")),
            ("/run/program", json!("/bin/sh")),
            ("/run/how", json!("shell")),
            ("/run/args", json!(["a\u{0}b"])),
            ("/run/args", json!(vec!["x"; 65])),
            ("/run/env", json!({"A=B": "x"})),
            ("/run/env", json!({"DROVER_DATA": "/"})),
            ("/run/stop_seconds", json!(3601)),
            ("/health", json!({"http": {"url": "https://example.org"}})),
            ("/health", json!({"http": {"url": "file:///etc/passwd"}})),
            ("/health", json!({"command": {"argv": []}})),
            ("/health", json!({"prayer": {}})),
            ("/requires/agent", json!("yes")),
            ("/requires/colour", json!("red")),
            ("/requires/components", json!({"thermostat": "1"})),
            ("/requires/components", json!({"a/b": "1"})),
            ("/requires/components", json!({"broker": "new"})),
            ("/state", json!({"from": [1, 1], "to": 2})),
            ("/state", json!({"from": [2], "to": 2})),
            ("/state", json!({"from": [], "to": -1})),
            ("/state", json!({"folder": "../other", "to": 1})),
            (
                "/state",
                json!({"from": [1], "to": 2, "transform": ["../migrate"]}),
            ),
            ("/state", json!({"from": [1], "to": 2, "transform": ["/bin/sh"]})),
            ("/state", json!({"from": [], "to": 2, "transform": ["migrate"]})),
            ("/state", json!({"from": [1], "to": 2, "transform": "migrate"})),
            ("/state", json!({"from": [1], "to": 2, "transform_seconds": 0})),
            ("/state", json!({"from": [1], "to": 2, "transform_seconds": 3601})),
            ("/nature", json!({"category": "unit", "stillness": "silence"})),
            ("/policy", json!({"urgency": "soak"})),
            ("/policy", json!({"urgency": "window"})),
            ("/policy", json!({"windows": ["always"]})),
            ("/policy", json!({"load_below_percent": 101})),
            ("/policy", json!({"moon": "full"})),
            ("/released", json!(12)),
            ("/description", json!("\u{1b}[2J")),
            (
                "/withdrawn",
                json!({"at": "2026-01-01T00:00:00Z", "reason": "\u{7}"}),
            ),
        ] {
            assert!(
                Release::from_custom(&with(pointer, value.clone())).is_err(),
                "{pointer} = {value}"
            );
        }
    }
}

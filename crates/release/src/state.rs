//! Data that a program keeps from one version to the next.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::PayloadPath;
use crate::text;

/// Where a program's persistent data lies and in which form this version keeps it.
///
/// A release without it has schema 0 and all of its data folder; nothing is saved for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The part of the program's data folder (`DROVER_DATA`) that counts; none: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PayloadPath>,
    /// Schemas, beside its own, whose data this version can take over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<u32>,
    /// The schema that this version writes.
    #[serde(default)]
    pub to: u32,
    /// The program that makes data of another schema its own, and its words; none: this version reads them as they are.
    /// It is a file of the payload.
    #[serde(
        default,
        deserialize_with = "text::words",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub transform: Vec<String>,
    /// Seconds in which it ends.
    #[serde(
        default = "State::default_transform_seconds",
        deserialize_with = "text::seconds",
        skip_serializing_if = "State::is_default_transform_seconds"
    )]
    pub transform_seconds: u32,
}

impl Default for State {
    fn default() -> Self {
        Self::of_schema(0)
    }
}

impl State {
    /// Data of one schema, all of the folder.
    #[must_use]
    pub fn of_schema(to: u32) -> Self {
        Self {
            folder: None,
            from: Vec::new(),
            to,
            transform: Vec::new(),
            transform_seconds: limits::TRANSFORM_SECONDS,
        }
    }

    pub(crate) fn default_transform_seconds() -> u32 {
        limits::TRANSFORM_SECONDS
    }

    // serde asks by reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_default_transform_seconds(seconds: &u32) -> bool {
        *seconds == limits::TRANSFORM_SECONDS
    }

    /// The program that transforms the data, and the words after it; none: there is none.
    #[must_use]
    pub fn transformer(&self) -> Option<(PayloadPath, &[String])> {
        let (program, words) = self.transform.split_first()?;
        Some((program.parse().ok()?, words))
    }

    /// Whether this version can take over data of a schema.
    #[must_use]
    pub fn reads(&self, schema: u32) -> bool {
        schema == self.to || self.from.contains(&schema)
    }

    /// The schemas that it can take over, for a message.
    #[must_use]
    pub fn readable(&self) -> String {
        let mut all: Vec<u32> = self.from.iter().copied().chain([self.to]).collect();
        all.sort_unstable();
        all.dedup();
        let all: Vec<String> = all.iter().map(u32::to_string).collect();
        all.join(", ")
    }

    /// The field that something is wrong with, and what to do.
    pub(crate) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let at = |field, why: Option<&'static str>| why.map(|why| (field, why));
        at("from", self.wrong_schemas())
            .or_else(|| at("transform", self.wrong_transform()))
            .or_else(|| {
                let never = self.transform_seconds == 0;
                at(
                    "transform_seconds",
                    never.then_some("no program ends in no time: write 1 to 3600"),
                )
            })
    }

    fn wrong_transform(&self) -> Option<&'static str> {
        let program = self.transform.first()?;
        if program.parse::<PayloadPath>().is_err() {
            return Some("its first word is no file below payload/: write the program's path in the package");
        }
        self.from
            .is_empty()
            .then_some("there is no schema to transform: list the schemas that it takes in `from`")
    }

    fn wrong_schemas(&self) -> Option<&'static str> {
        if self.from.len() > limits::SCHEMAS {
            return Some("at most 64 schemas can be listed");
        }
        let mut seen = self.from.clone();
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair.first() == pair.last()) {
            return Some("a schema is listed twice: list each once");
        }
        self.from
            .contains(&self.to)
            .then_some("it lists the schema that stands in `to`: its own needs no mention")
    }
}

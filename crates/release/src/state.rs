//! Data that a program keeps from one version to the next.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::PayloadPath;

/// Where a program's persistent data lies and in which form this version keeps it.
///
/// A release without it has schema 0 and all of its data folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
}

impl State {
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

    /// What is wrong with the list, and what to do.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
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

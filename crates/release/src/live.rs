//! What a release of kind `live` says of handing over while it runs.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::PayloadPath;
use crate::text;

/// The state that a program hands over, and which it takes.
///
/// A release of kind `live` without it has schema 0 and default times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The schema of the state that this version hands over, and takes as it is.
    #[serde(default)]
    pub schema: u32,
    /// Other schemas that it takes over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<u32>,
    /// Schemas that `transform` makes of this version's own, for the way back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub back: Vec<u32>,
    /// The program that makes one schema of another, from its standard input to its standard output, and its words; none:
    /// this version takes all that it lists in `from` as they are. It is a file of the payload.
    #[serde(
        default,
        deserialize_with = "text::words",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub transform: Vec<String>,
    /// Seconds in which the running version stands still and has handed over its state.
    #[serde(default = "Live::default_ready_seconds", deserialize_with = "text::seconds")]
    pub ready_seconds: u32,
    /// Seconds in which the new version must then be able to serve.
    #[serde(default = "Live::default_still_seconds", deserialize_with = "text::seconds")]
    pub still_seconds: u32,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            schema: 0,
            from: Vec::new(),
            back: Vec::new(),
            transform: Vec::new(),
            ready_seconds: limits::LIVE_READY_SECONDS,
            still_seconds: limits::LIVE_STILL_SECONDS,
        }
    }
}

/// How a state gets from one version to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As it is.
    AsItIs,
    /// Through the program of the version that takes it.
    Forward,
    /// Through the program of the version that gives it.
    Back,
}

impl Live {
    pub(crate) fn default_ready_seconds() -> u32 {
        limits::LIVE_READY_SECONDS
    }

    pub(crate) fn default_still_seconds() -> u32 {
        limits::LIVE_STILL_SECONDS
    }

    /// The program that transforms, and the words after it; none: there is none.
    #[must_use]
    pub fn transformer(&self) -> Option<(PayloadPath, &[String])> {
        let (program, words) = self.transform.split_first()?;
        Some((program.parse().ok()?, words))
    }

    /// How the state of a program that says this of itself gets to one that says `to`; none: not at all.
    #[must_use]
    pub fn way(&self, to: &Self) -> Option<Way> {
        if self.schema == to.schema {
            Some(Way::AsItIs)
        } else if to.from.contains(&self.schema) {
            Some(if to.transform.is_empty() {
                Way::AsItIs
            } else {
                Way::Forward
            })
        } else if self.back.contains(&to.schema) {
            Some(Way::Back)
        } else {
            None
        }
    }

    /// The field that something is wrong with, and what to do.
    pub(crate) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        for (field, schemas) in [("from", &self.from), ("back", &self.back)] {
            if schemas.len() > limits::SCHEMAS {
                return Some((field, "at most 64 schemas can be listed"));
            }
            let mut seen = schemas.clone();
            seen.sort_unstable();
            if seen.windows(2).any(|pair| pair.first() == pair.last()) {
                return Some((field, "a schema is listed twice: list each once"));
            }
            if schemas.contains(&self.schema) {
                return Some((
                    field,
                    "it lists the schema that stands in `schema`: its own needs no mention",
                ));
            }
        }
        if let Some(program) = self.transform.first() {
            if program.parse::<PayloadPath>().is_err() {
                let why = "its first word is no file below payload/: write the program's path in the package";
                return Some(("transform", why));
            }
            if self.from.is_empty() && self.back.is_empty() {
                return Some((
                    "transform",
                    "there is no schema to transform: list those that it takes in `from`",
                ));
            }
        } else if !self.back.is_empty() {
            return Some((
                "back",
                "there is no program for the way back: name it in `transform`",
            ));
        }
        for (field, seconds) in [
            ("ready_seconds", self.ready_seconds),
            ("still_seconds", self.still_seconds),
        ] {
            if seconds == 0 || seconds > limits::LIVE_SECONDS {
                return Some((
                    field,
                    "nothing is handed over in no time, and nobody stands still for long: write 1 to 600",
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_gets_to_who_takes_it_by_the_program_that_knows_both() {
        let one = Live {
            schema: 1,
            ..Live::default()
        };
        let two = Live {
            schema: 2,
            from: vec![1],
            back: vec![1],
            transform: vec!["migrate".into()],
            ..Live::default()
        };
        let reads = Live {
            schema: 3,
            from: vec![2],
            ..Live::default()
        };
        assert_eq!(one.way(&two), Some(Way::Forward));
        assert_eq!(two.way(&one), Some(Way::Back));
        assert_eq!(two.way(&two), Some(Way::AsItIs));
        assert_eq!(two.way(&reads), Some(Way::AsItIs));
        assert_eq!(reads.way(&two), None);
        assert!(
            [one, two, reads]
                .iter()
                .all(|live| live.contradiction().is_none())
        );
    }

    #[test]
    fn what_cannot_be_is_named_with_its_field() {
        let field = |live: Live| live.contradiction().map(|(field, _)| field);
        let live = Live::default;
        assert_eq!(
            field(Live {
                from: vec![0],
                ..live()
            }),
            Some("from")
        );
        assert_eq!(
            field(Live {
                from: vec![1, 1],
                ..live()
            }),
            Some("from")
        );
        assert_eq!(
            field(Live {
                back: vec![1],
                ..live()
            }),
            Some("back")
        );
        assert_eq!(
            field(Live {
                transform: vec!["../x".into()],
                from: vec![1],
                ..live()
            }),
            Some("transform")
        );
        assert_eq!(
            field(Live {
                transform: vec!["x".into()],
                ..live()
            }),
            Some("transform")
        );
        assert_eq!(
            field(Live {
                still_seconds: 0,
                ..live()
            }),
            Some("still_seconds")
        );
        assert_eq!(
            field(Live {
                ready_seconds: 601,
                ..live()
            }),
            Some("ready_seconds")
        );
    }
}

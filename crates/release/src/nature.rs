//! What kind of change a release is: its author's word, which a plan is made of.
//!
//! The six categories and what must be at rest are those of Giuffrida and Tanenbaum, "Prepare to Die: A New Paradigm for
//! Live Update". A program that knows less of it reads what it knows: every field but the first two may be left out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::text;

/// What a release changes, in order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Code of one unit: a bug fix, a faster path.
    Unit,
    /// The messages between units.
    Protocol,
    /// Data that units share in memory.
    Data,
    /// Work that moves from one unit to another.
    Algorithm,
    /// Data on disk.
    Disk,
    /// What the hardware must have.
    Hardware,
}

/// What must be at rest while the versions change; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stillness {
    /// Nothing.
    None,
    /// The unit handles no message.
    Unit,
    /// No exchange of messages is under way.
    Protocol,
    /// Nobody uses the data.
    Data,
    /// The whole program stops.
    System,
    /// The machine starts anew.
    Reboot,
}

/// What the new version must be given of the running one's state, at the stillness that its author names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transfer {
    /// Nothing.
    #[default]
    None,
    /// Something, and the new version knows how to read it.
    Needed,
    /// Something that is only nearly known at that moment, and its author puts up with that.
    Imprecise,
    /// Something that the running version does not know at that moment.
    Impossible,
}

/// The nature of a change, as its author knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nature {
    /// What changes.
    pub category: Category,
    /// What must be at rest meanwhile.
    pub stillness: Stillness,
    /// What is carried over at that stillness.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transfer: Transfer,
    /// A greater stillness at which nothing has to be carried over; none: there is no such one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_at: Option<Stillness>,
    /// Protocols or operations, by the names that the program gives them, that must be at rest all at once: an inner one
    /// and those around it.
    #[serde(
        default,
        deserialize_with = "text::labels",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub idle: Vec<String>,
    /// Data on disk are converted beside a program that goes on, and what changed meanwhile once more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub catch_up: bool,
    /// What the new version must know and no version has ever kept, such as accesses since creation: neither a live
    /// update nor a restart can bring it.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub never_kept: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Nature {
    /// A change of which nothing more is said.
    #[must_use]
    pub fn plain(category: Category, stillness: Stillness) -> Self {
        Self {
            category,
            stillness,
            transfer: Transfer::None,
            free_at: None,
            idle: Vec::new(),
            catch_up: false,
            never_kept: None,
        }
    }

    /// What contradicts itself in it: the field, and what to do.
    pub(crate) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let wrong = |is: bool, field, why| is.then_some((field, why));
        let carries = self.transfer != Transfer::None;
        let lasting = self.category == Category::Disk;
        wrong(
            self.stillness == Stillness::None && carries,
            "transfer",
            "nothing can be carried over while nothing is at rest: write stillness = \"unit\" or more",
        )
        .or_else(|| {
            wrong(
                self.free_at.is_some_and(|free| free <= self.stillness),
                "free_at",
                "it must be more than `stillness`, in the order none, unit, protocol, data, system, reboot",
            )
        })
        .or_else(|| {
            wrong(
                self.free_at.is_some() && !carries,
                "free_at",
                "nothing is carried over anyway: say with `transfer` what is, or leave this out",
            )
        })
        .or_else(|| {
            wrong(
                self.catch_up && !lasting,
                "catch_up",
                "only data on disk can be converted beside a running program: category = \"disk\"",
            )
        })
        .or_else(|| {
            wrong(
                self.idle.len() > limits::IDLE_NAMES,
                "idle",
                "there are more than 16 names: name the enclosing ones",
            )
        })
    }
}

impl Category {
    /// The name in `update.toml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Protocol => "protocol",
            Self::Data => "data",
            Self::Algorithm => "algorithm",
            Self::Disk => "disk",
            Self::Hardware => "hardware",
        }
    }
}

impl Stillness {
    /// The name in `update.toml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unit => "unit",
            Self::Protocol => "protocol",
            Self::Data => "data",
            Self::System => "system",
            Self::Reboot => "reboot",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Stillness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

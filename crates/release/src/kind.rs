//! How a release is installed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// How a release is installed; written `app`, `live`, `agent` or `module:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// A process that the agent supervises.
    #[default]
    App,
    /// The same, and it hands over to its next version while it runs.
    Live,
    /// The device agent itself.
    Agent,
    /// Files that an update module of the device installs, by version 3 of Mender's Update Module protocol.
    Module(ModuleName),
}

/// The name of an update module: that of its executable in the device's folder of modules.
///
/// 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit: it can name no other folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModuleName(String);

/// Why a text is no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// No such kind.
    #[error("{0:?} is not known: write \"app\", \"live\", \"agent\" or \"module:NAME\"")]
    Unknown(String),
    /// A module whose name is none.
    #[error("{0:?} is no module's name: use 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")]
    Module(String),
}

impl Kind {
    /// The module that installs it; none for an application or the agent.
    #[must_use]
    pub fn module(&self) -> Option<&ModuleName> {
        match self {
            Self::App | Self::Live | Self::Agent => None,
            Self::Module(name) => Some(name),
        }
    }

    /// Whether the agent supervises a process of it.
    #[must_use]
    pub fn is_supervised(&self) -> bool {
        matches!(self, Self::App | Self::Live)
    }

    /// Whether a release of this kind can take the place of one of `other`: what installs them is the same.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        let supervised = self.is_supervised() && other.is_supervised();
        supervised || std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl ModuleName {
    /// The name as text: one part of a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModuleName {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        let good = (1..=limits::COMPONENT_BYTES).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(KindError::Module(shorten(text)))
        }
    }
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        match text.split_once(':') {
            None if text == "app" => Ok(Self::App),
            None if text == "live" => Ok(Self::Live),
            None if text == "agent" => Ok(Self::Agent),
            Some(("module", name)) => name.parse().map(Self::Module),
            _ => Err(KindError::Unknown(shorten(text))),
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(limits::COMPONENT_BYTES).collect()
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App => f.write_str("app"),
            Self::Live => f.write_str("live"),
            Self::Agent => f.write_str("agent"),
            Self::Module(name) => write!(f, "module:{name}"),
        }
    }
}

impl TryFrom<String> for Kind {
    type Error = KindError;

    fn try_from(text: String) -> Result<Self, KindError> {
        text.parse()
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_a_word_and_its_module_is_a_plain_name() {
        for text in [
            "app",
            "live",
            "agent",
            "module:deb",
            "module:single-file",
            "module:rootfs_v2.1",
        ] {
            let kind: Kind = text.parse().unwrap();
            assert_eq!(kind.to_string(), text);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{text:?}"));
        }
        for bad in [
            "",
            "App",
            "Live",
            "module",
            "module:",
            "module:../sh",
            "module:a/b",
            "module:.hidden",
            "module:a b",
            "module:-x",
            "module:a\n",
            "app:x",
            "module:ä",
        ] {
            assert!(bad.parse::<Kind>().is_err(), "{bad:?}");
        }
        assert!(format!("module:{}", "x".repeat(65)).parse::<Kind>().is_err());
    }
}

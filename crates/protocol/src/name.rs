//! Names of sites, devices, authors and gateways.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_NAME;

/// A name that is safe in a path, a URL, a log line and a certificate.
///
/// One to [`MAX_NAME`] characters of `A-Z a-z 0-9 . _ -`, the first a letter or a digit, and no `..`.
/// Names are compared byte by byte: `Pump` and `pump` are two devices.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("the name is empty: give one of 1 to {MAX_NAME} characters")]
    Empty,
    /// More than [`MAX_NAME`] characters.
    #[error("the name has {0} characters: {MAX_NAME} at most")]
    TooLong(usize),
    /// A character outside the allowed set, and where it stands (counted from 1).
    #[error(
        "the name has {found:?} at place {place}: letters, digits, '.', '_' and '-' only, a letter or digit first"
    )]
    Character {
        /// The character.
        found: char,
        /// Its place, counted from 1.
        place: usize,
    },
    /// `..` would climb out of a folder.
    #[error("the name has '..' in it: one dot at a time")]
    Dots,
}

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let count = text.chars().count();
        if count > MAX_NAME {
            return Err(NameError::TooLong(count));
        }
        for (index, found) in text.chars().enumerate() {
            let plain = found.is_ascii_alphanumeric();
            if !(plain || (index > 0 && matches!(found, '.' | '_' | '-'))) {
                return Err(NameError::Character {
                    found,
                    place: index + 1,
                });
            }
        }
        if text.contains("..") {
            return Err(NameError::Dots);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_could_escape_or_confuse_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "-x",
            "a/b",
            "a\\b",
            "a b",
            "ä",
            "a\0",
            "a\n",
            "🚰",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "pump-7", "Pump_7.north", "0", &"x".repeat(64)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_kept_as_it_is(text in ".{0,80}") {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(!text.contains(['/', '\\', '\0']) && !text.contains(".."));
            }
        }
    }
}

//! Versions: numbers that are compared as numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::shorten;

/// A version, ordered as semantic versioning says: numerically, a pre-release before its release.
///
/// Written `6`, `6.0`, `1.2.3` or `1.2.3-rc.1`; printed with three numbers. Build metadata (`+…`) is
/// refused, because two versions that differ only in it could not be put in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no version ({why}): write it like 1.2.3 or 1.2.3-rc.1")]
pub struct VersionError {
    text: String,
    why: String,
}

impl Version {
    /// A version of three numbers.
    pub fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self(semver::Version::new(major, minor, patch))
    }

    /// Whether this is a pre-release such as `1.2.3-rc.1`.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// The version as the `semver` crate has it, to match a requirement.
    pub fn semver(&self) -> &semver::Version {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let wrong = |why: &str| VersionError {
            text: shorten(text),
            why: why.to_owned(),
        };
        if text.len() > limits::VERSION_BYTES {
            return Err(wrong("it is longer than 64 bytes"));
        }
        if text.contains('+') {
            return Err(wrong("build metadata has no order"));
        }
        let (numbers, pre) = text.split_once('-').map_or((text, None), |(n, p)| (n, Some(p)));
        let missing = match numbers.split('.').count() {
            1 => ".0.0",
            2 => ".0",
            3 => "",
            _ => return Err(wrong("it has more than three numbers")),
        };
        let dash = if pre.is_some() { "-" } else { "" };
        let full = format!("{numbers}{missing}{dash}{}", pre.unwrap_or_default());
        semver::Version::parse(&full)
            .map(Self)
            .map_err(|e| wrong(&e.to_string()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_compare_as_numbers_never_as_text() {
        assert!(version("10.0") > version("9.0"));
        assert!(version("1.10") > version("1.9"));
        assert!(version("1.2.10") > version("1.2.9"));
        assert!(version("1.0.0") > version("1.0.0-rc.10"));
        assert!(version("1.0.0-rc.10") > version("1.0.0-rc.9"));
        assert_eq!(version("6"), version("6.0.0"));
    }

    #[test]
    fn versions_are_printed_with_three_numbers() {
        for (text, normal) in [
            ("6", "6.0.0"),
            ("6.0", "6.0.0"),
            ("1.2.3", "1.2.3"),
            ("2-beta", "2.0.0-beta"),
            ("1.2-rc.1", "1.2.0-rc.1"),
        ] {
            assert_eq!(version(text).to_string(), normal);
        }
    }

    #[test]
    fn what_has_no_order_is_no_version() {
        for bad in [
            "",
            "v1",
            "1.",
            ".1",
            "1..2",
            "1.2.3.4",
            "01.2",
            "1.2.3+a",
            "1.2.3-",
            "1,2",
            "-1",
            "1.2.3-ä",
            "１",
            "99999999999999999999.0",
            &"1".repeat(65),
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_numbers(a in any::<[u64; 3]>(), b in any::<[u64; 3]>()) {
            let text = |n: [u64; 3]| version(&format!("{}.{}.{}", n[0], n[1], n[2]));
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        }

        #[test]
        fn small_numbers_of_different_width_keep_their_order(a in 0u64..2000, b in 0u64..2000) {
            prop_assert_eq!(version(&a.to_string()).cmp(&version(&b.to_string())), a.cmp(&b));
        }

        #[test]
        fn printing_and_parsing_agree(text in "[0-9a-z.+-]{0,20}") {
            if let Ok(parsed) = text.parse::<Version>() {
                prop_assert_eq!(version(&parsed.to_string()), parsed);
            }
        }
    }
}

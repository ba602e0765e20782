//! Names and paths that come from outside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::version::Version;

/// The name of a unit that is updated on its own.
///
/// 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit, without `..`. Upper and lower
/// case are different names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Component(String);

/// Why a text is no name or path of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a component.
    #[error(
        "{0:?} is no component name: use 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit, without .."
    )]
    Component(String),
    /// Not `component/version/file name`.
    #[error("{path:?} is no target path: {why}")]
    TargetPath {
        /// The text.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a path inside a package.
    #[error("{path:?} is no path inside a package: {why}")]
    PayloadPath {
        /// The text.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Component {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Component {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = (1..=limits::COMPONENT_BYTES).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !text.contains("..");
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Component(shorten(text)))
        }
    }
}

/// `component/version/file name`: the only way from remote text to a path.
///
/// The version is in its normal form (three numbers), the file name is ASCII without separators,
/// blanks and hidden names, the whole at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetPath {
    text: String,
    component: Component,
    version: Version,
}

impl TargetPath {
    /// The path of a file of a release.
    ///
    /// # Errors
    /// A file name that cannot be part of a path; see [`mend_file_name`].
    pub fn new(component: &Component, version: &Version, file_name: &str) -> Result<Self, NameError> {
        format!("{component}/{version}/{file_name}").parse()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first part.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// The second part.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The last part: a plain name, safe to create in a folder.
    pub fn file_name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for TargetPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |why| NameError::TargetPath {
            path: shorten(text),
            why,
        };
        if text.len() > limits::TARGET_PATH_BYTES {
            return Err(wrong("it is longer than 256 bytes"));
        }
        let mut parts = text.split('/');
        let (Some(component), Some(version), Some(file_name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("it must be component/version/file"));
        };
        let component: Component = component
            .parse()
            .map_err(|_| wrong("its first part is no component name"))?;
        let parsed: Version = version
            .parse()
            .map_err(|_| wrong("its second part is no version"))?;
        if parsed.to_string() != version {
            return Err(wrong("its version must be written as three numbers"));
        }
        if !is_file_name(file_name) {
            return Err(wrong(
                "its file name must be of A-Z a-z 0-9 . _ - + @ = , ~ ( ) and not hidden",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            component,
            version: parsed,
        })
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_file_name_byte)
}

fn is_file_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._-+@=,~()".contains(&b)
}

/// A file name as near to `name` as a [`TargetPath`] allows: what a person's file is published as.
pub fn mend_file_name(name: &str) -> String {
    let mended: String = name
        .trim_start_matches('.')
        .chars()
        .map(|c| {
            if u8::try_from(c).is_ok_and(is_file_name_byte) {
                c
            } else {
                '_'
            }
        })
        .take(limits::TARGET_PATH_BYTES / 2)
        .collect();
    if mended.is_empty() {
        "file".to_owned()
    } else {
        mended
    }
}

/// The path of a file inside a package, below `payload/`: relative, `/` between plain names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PayloadPath(String);

impl PayloadPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PayloadPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |why| NameError::PayloadPath {
            path: shorten(text),
            why,
        };
        if text.is_empty() || text.len() > limits::PAYLOAD_PATH_BYTES {
            return Err(wrong("it must have 1 to 240 bytes"));
        }
        if text.starts_with('/') {
            return Err(wrong("it is absolute"));
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(wrong("it has a control character or a backslash"));
        }
        if text.split('/').count() > limits::PAYLOAD_DEPTH {
            return Err(wrong("it is nested too deep"));
        }
        for part in text.split('/') {
            match part {
                "" => return Err(wrong("it has an empty part")),
                "." | ".." => return Err(wrong("it has a part . or ..")),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! text_form {
    ($type:ty, $field:tt) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.$field)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.$field
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.$field
            }
        }
    };
}
text_form!(Component, 0);
text_form!(TargetPath, text);
text_form!(PayloadPath, 0);

/// A hostile text may be long; an error message must not be.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn component_names_are_plain() {
        for good in ["a", "thermostat", "Thermo-Stat_2.0", "7zip", &"x".repeat(64)] {
            assert_eq!(good.parse::<Component>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "-a",
            "_a",
            "a/b",
            "a b",
            "ä",
            "a\0",
            "a\n",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<Component>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn target_paths_have_three_plain_parts() {
        let path: TargetPath = "thermostat/1.2.0/thermostat_1.2.tar".parse().unwrap();
        assert_eq!(path.component().as_str(), "thermostat");
        assert_eq!(path.version(), &"1.2".parse().unwrap());
        assert_eq!(path.file_name(), "thermostat_1.2.tar");
        for bad in [
            "",
            "/",
            "a",
            "a/1.0.0",
            "a/1.0.0/",
            "a/1.0.0/x/y",
            "/a/1.0.0/x",
            "a/1.0/x",
            "a/1.0.0/..",
            "a/1.0.0/.hidden",
            "../1.0.0/x",
            "a/../x",
            "a//x",
            "a/1.0.0/x\0",
            "a/1.0.0/x y",
            "a/1.0.0/x%2f",
            "a/1.0.0/x\\y",
            "a\\1.0.0\\x",
            "a/1.0.0/ü",
            &format!("a/1.0.0/{}", "x".repeat(250)),
        ] {
            assert!(bad.parse::<TargetPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mended_name_makes_a_target_path() {
        let (component, version) = ("a".parse().unwrap(), "1.0".parse().unwrap());
        assert_eq!(mend_file_name("Müller tool.jar"), "M_ller_tool.jar");
        assert_eq!(mend_file_name("..."), "file");
        TargetPath::new(&component, &version, &mend_file_name("../../etc/passwd")).unwrap();
    }

    proptest! {
        #[test]
        fn no_text_makes_a_path_that_leaves_its_folder(text in "[a1./\\\\\\x00-\\x1f ~-]{0,40}") {
            if let Ok(path) = text.parse::<TargetPath>() {
                let path = std::path::Path::new(path.as_str());
                let parts = path.components().filter(|p| matches!(p, std::path::Component::Normal(_)));
                prop_assert_eq!(parts.count(), 3);
                prop_assert_eq!(path.components().count(), 3);
            }
            if let Ok(path) = text.parse::<PayloadPath>() {
                let path = std::path::Path::new(path.as_str());
                prop_assert!(path.components().all(|p| matches!(p, std::path::Component::Normal(_))));
            }
        }

        #[test]
        fn any_file_name_can_be_mended(name in "\\PC{0,300}", hidden in "\\.{0,3}") {
            let (component, version) = ("a".parse().unwrap(), "1.0".parse().unwrap());
            let name = mend_file_name(&format!("{hidden}{name}"));
            let path = TargetPath::new(&component, &version, &name).unwrap();
            prop_assert_eq!(path.as_str().parse::<TargetPath>().unwrap(), path);
        }

        #[test]
        fn what_is_a_component_stays_one_through_json(name in "[A-Za-z0-9][A-Za-z0-9_-]{0,63}") {
            let component: Component = name.parse().unwrap();
            let json = serde_json::to_string(&component).unwrap();
            prop_assert_eq!(serde_json::from_str::<Component>(&json).unwrap(), component);
        }
    }
}

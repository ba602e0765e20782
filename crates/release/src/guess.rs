//! What a file without `update.toml` tells of itself.

use crate::arch::Arch;
use crate::custom::Form;
use crate::name::Component;
use crate::run::How;
use crate::version::Version;

/// What could be read from a file's name and first bytes; the author fills in the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// From `Name_1.2.jar`: `Name`.
    pub component: Option<Component>,
    /// From `Name_1.2.jar`: `1.2.0`.
    pub version: Option<Version>,
    /// A package if it is a tar.
    pub form: Form,
    /// What starts it; none for a package, and for a file that is no program.
    pub how: Option<How>,
    /// The processor an ELF file is built for.
    pub arch: Option<Arch>,
}

/// Endings that belong to the kind of file, not to its version.
const ENDINGS: [&str; 10] = [
    ".jar",
    ".py",
    ".sh",
    ".tar",
    ".bin",
    ".elf",
    ".run",
    ".appimage",
    ".pl",
    ".rb",
];

/// Guesses from the file's name and its first bytes (512 are enough).
pub fn guess(file_name: &str, head: &[u8]) -> Guess {
    let lower = file_name.to_ascii_lowercase();
    let ending = ENDINGS
        .iter()
        .find(|ending| lower.ends_with(**ending))
        .map_or(0, |ending| ending.len());
    let stem = file_name.get(..file_name.len() - ending).unwrap_or(file_name);
    let (name, version) = split(stem);
    let is_tar = head.get(257..262) == Some(b"ustar");
    let how = if is_tar {
        None
    } else if head.starts_with(b"\x7fELF") || head.starts_with(b"#!") {
        Some(How::Exec)
    } else if lower.ends_with(".jar") && head.starts_with(b"PK") {
        Some(How::Jar)
    } else if lower.ends_with(".py") {
        Some(How::Python)
    } else {
        None
    };
    Guess {
        component: name.parse().ok(),
        version,
        form: if is_tar { Form::Package } else { Form::Single },
        how,
        arch: Arch::of_elf(head),
    }
}

/// `Name_1.2`, `name-1.2.3-rc.1`, `name-v2` into name and version.
fn split(stem: &str) -> (&str, Option<Version>) {
    let underscore = stem.rmatch_indices('_');
    // A dash also stands inside names and pre-releases: the first one followed by a dotted version is meant.
    let dotted = stem.match_indices('-').filter(|(at, _)| {
        let number = stem.get(at + 1..).unwrap_or_default();
        number.split('-').next().unwrap_or_default().contains('.')
    });
    let any_dash = stem.rmatch_indices('-');
    for (at, _) in underscore.chain(dotted).chain(any_dash) {
        let (name, rest) = stem.split_at(at);
        let text = rest.get(1..).unwrap_or_default();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        if let Ok(version) = text.parse() {
            return (name, Some(version));
        }
    }
    (stem, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(file_name: &str) -> (String, String) {
        let found = guess(file_name, b"");
        let text = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
        (
            text(found.component.map(String::from)),
            text(found.version.map(String::from)),
        )
    }

    #[test]
    fn name_and_version_come_from_the_file_name() {
        for (file_name, component, version) in [
            ("Name_1.2.jar", "Name", "1.2.0"),
            ("HelloWorld_6.jar", "HelloWorld", "6.0.0"),
            ("thermostat_10.0.3", "thermostat", "10.0.3"),
            ("my_tool_2.0.py", "my_tool", "2.0.0"),
            ("tool-1.2.3-rc.1.tar", "tool", "1.2.3-rc.1"),
            ("my-tool-2-1.0.0.sh", "my-tool-2", "1.0.0"),
            ("tool-v2", "tool", "2.0.0"),
            ("tool", "tool", "-"),
            ("tool_x86", "tool_x86", "-"),
            ("my tool_1.0", "-", "1.0.0"),
            ("", "-", "-"),
        ] {
            assert_eq!(
                named(file_name),
                (component.to_owned(), version.to_owned()),
                "{file_name}"
            );
        }
    }

    #[test]
    fn what_starts_it_comes_from_its_first_bytes() {
        assert_eq!(guess("a_1.jar", b"PK\x03\x04").how, Some(How::Jar));
        assert_eq!(guess("a_1.zip", b"PK\x03\x04").how, None);
        assert_eq!(guess("a_1.py", b"print(1)").how, Some(How::Python));
        assert_eq!(guess("a_1.py", b"#!/usr/bin/env python3").how, Some(How::Exec));
        assert_eq!(guess("a_1", b"#!/bin/sh").how, Some(How::Exec));
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(guess("a_1.tar", &tar).form, Form::Package);
    }

    proptest! {
        #[test]
        fn no_name_makes_the_guess_panic(name in "\\PC{0,40}", head in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = guess(&name, &head);
        }

        #[test]
        fn the_documented_form_is_always_understood(name in "[A-Za-z][A-Za-z0-9]{0,10}", v in any::<[u16; 2]>()) {
            let found = guess(&format!("{name}_{}.{}.jar", v[0], v[1]), b"PK");
            prop_assert_eq!(found.component, name.parse().ok());
            prop_assert_eq!(found.version.unwrap(), Version::new(v[0].into(), v[1].into(), 0));
        }
    }
}

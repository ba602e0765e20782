//! What texts a description may hold, said once: for `update.toml` and for signed descriptions.
//!
//! A check gives what is wrong and what to do; the caller says where.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::de::{Deserialize, Deserializer, Error};

use crate::limits;
use crate::policy::Window;
use crate::run::expand;

/// What is wrong with a text.
pub(crate) type Wrong = &'static str;

/// Text for people: bounded, no control characters but line feeds and tabs.
pub(crate) fn check_text(text: &str) -> Result<(), Wrong> {
    if text.len() > limits::TEXT_BYTES {
        Err("it is longer than 4096 bytes: shorten it")
    } else if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        Err("it has a control character: remove it")
    } else {
        Ok(())
    }
}

/// A list of words for a command line.
pub(crate) fn check_words(words: &[String]) -> Result<(), Wrong> {
    if words.len() > limits::ARGUMENTS {
        Err("there are more than 64 words: put them into a file of the package")
    } else if words.iter().any(|word| !is_word(word)) {
        Err("a word is longer than 4096 bytes or has a NUL character")
    } else {
        Ok(())
    }
}

/// A command: at least one word.
pub(crate) fn check_command(words: &[String]) -> Result<(), Wrong> {
    match words.first() {
        Some(program) if !program.is_empty() => check_words(words),
        _ => Err("a command needs a program as its first word"),
    }
}

/// Variables for a program's environment. `DROVER_…` belongs to the agent.
pub(crate) fn check_variables(variables: &BTreeMap<String, String>) -> Result<(), String> {
    if variables.len() > limits::VARIABLES {
        return Err("there are more than 64 variables".to_owned());
    }
    for (name, value) in variables {
        if !is_variable(name) {
            return Err(format!(
                "{name:?} is no variable: use A-Z a-z 0-9 _, not beginning with a digit or DROVER_"
            ));
        }
        if !is_word(value) {
            return Err(format!("{name} is longer than 4096 bytes or has a NUL character"));
        }
    }
    Ok(())
}

/// A time span in whole seconds that cannot hold a device for ever.
pub(crate) fn check_seconds(seconds: u64) -> Result<u32, Wrong> {
    u32::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds <= limits::SECONDS)
        .ok_or("it is more than an hour: write 3600 at most")
}

/// The address of a health page.
pub(crate) fn check_url(url: &str) -> Result<(), Wrong> {
    let plain = url.bytes().all(|b| b.is_ascii_graphic()) && url.len() <= limits::WORD_BYTES;
    if !plain || !url.starts_with("http://") || url.len() == "http://".len() {
        Err("a health address begins with http:// and has no blanks, like \"http://127.0.0.1:8080/health\"")
    } else if expand(url, |_| Some(String::new())).is_err() {
        Err("a variable in it is not closed: write it like ${PORT}")
    } else {
        Ok(())
    }
}

/// The name of a hardware, a place, an interlock.
pub(crate) fn check_label(label: &str) -> Result<(), Wrong> {
    if (1..=64).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("a name has 1 to 64 printable characters and no blanks")
    }
}

/// Names of hardware a release fits.
pub(crate) fn check_hardware(names: &[String]) -> Result<(), Wrong> {
    if names.len() > limits::HARDWARE {
        return Err("there are more than 64 names");
    }
    names.iter().try_for_each(|name| check_label(name))
}

/// Times of the week.
pub(crate) fn check_windows(windows: &[Window]) -> Result<(), Wrong> {
    if windows.len() > limits::WINDOWS {
        Err("there are more than 16 windows: join some")
    } else {
        Ok(())
    }
}

pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    checked(text, |text| text.as_deref().map_or(Ok(()), check_text))
}

pub(crate) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(Vec::deserialize(deserializer)?, |words: &Vec<String>| {
        check_words(words)
    })
}

pub(crate) fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(Vec::deserialize(deserializer)?, |words: &Vec<String>| {
        check_command(words)
    })
}

pub(crate) fn variables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    checked(BTreeMap::deserialize(deserializer)?, check_variables)
}

pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    check_seconds(u64::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(crate) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(String::deserialize(deserializer)?, |url| check_url(url))
}

pub(crate) fn some_label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let label = Option::<String>::deserialize(deserializer)?;
    checked(label, |label| label.as_deref().map_or(Ok(()), check_label))
}

pub(crate) fn hardware<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(Vec::deserialize(deserializer)?, |names: &Vec<String>| {
        check_hardware(names)
    })
}

/// Names of protocols and operations of a program.
pub(crate) fn check_labels(names: &[String]) -> Result<(), Wrong> {
    if names.len() > limits::IDLE_NAMES {
        return Err("there are more than 16 names: name the enclosing ones");
    }
    names.iter().try_for_each(|name| check_label(name))
}

pub(crate) fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(Vec::deserialize(deserializer)?, |names: &Vec<String>| {
        check_labels(names)
    })
}

pub(crate) fn windows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Window>, D::Error> {
    checked(Vec::deserialize(deserializer)?, |windows: &Vec<Window>| {
        check_windows(windows)
    })
}

fn checked<T, W: Display, E: Error>(value: T, check: impl FnOnce(&T) -> Result<(), W>) -> Result<T, E> {
    match check(&value) {
        Ok(()) => Ok(value),
        Err(wrong) => Err(E::custom(wrong)),
    }
}

fn is_variable(name: &str) -> bool {
    (1..=limits::WORD_BYTES).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with("DROVER_")
}

fn is_word(word: &str) -> bool {
    word.len() <= limits::WORD_BYTES && !word.contains('\0')
}

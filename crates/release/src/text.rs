//! Checked texts for serde: what is wrong is found where it stands, so that an error in
//! `update.toml` points at its line.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Error};

use crate::limits;

/// Text for people: bounded, no control characters but line feeds and tabs.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match &text {
        Some(text) if text.len() > limits::TEXT_BYTES => Err(D::Error::custom("text longer than 4096 bytes")),
        Some(text) if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => {
            Err(D::Error::custom("text with a control character"))
        }
        _ => Ok(text),
    }
}

/// A list of words for a command line.
pub(crate) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    if words.len() > limits::ARGUMENTS {
        return Err(D::Error::custom("more than 64 words"));
    }
    match words.iter().find(|word| !is_word(word)) {
        Some(_) => Err(D::Error::custom(
            "a word longer than 4096 bytes or with a NUL character",
        )),
        None => Ok(words),
    }
}

/// A command: at least one word.
pub(crate) fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let words = words(deserializer)?;
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err(D::Error::custom("a command without a program")),
    }
}

/// Variables for a program's environment. `DROVER_…` belongs to the agent.
pub(crate) fn variables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let variables = BTreeMap::<String, String>::deserialize(deserializer)?;
    if variables.len() > limits::VARIABLES {
        return Err(D::Error::custom("more than 64 variables"));
    }
    for (name, value) in &variables {
        if !is_variable(name) {
            return Err(D::Error::custom(format_args!(
                "{name:?} is no variable: use A-Z a-z 0-9 _, not beginning with a digit or DROVER_"
            )));
        }
        if !is_word(value) {
            return Err(D::Error::custom(format_args!(
                "{name} is longer than 4096 bytes or has a NUL character"
            )));
        }
    }
    Ok(variables)
}

/// A time span in whole seconds that cannot hold a device for ever.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let seconds = u32::deserialize(deserializer)?;
    if seconds <= limits::SECONDS {
        Ok(seconds)
    } else {
        Err(D::Error::custom("more than an hour (3600 seconds)"))
    }
}

/// The address of a health page.
pub(crate) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let url = String::deserialize(deserializer)?;
    let plain = url.bytes().all(|b| b.is_ascii_graphic()) && url.len() <= limits::WORD_BYTES;
    if plain && url.starts_with("http://") && url.len() > "http://".len() {
        Ok(url)
    } else {
        Err(D::Error::custom(
            "a health address must begin with http:// and have no blanks",
        ))
    }
}

/// Names of hardware a release fits.
pub(crate) fn hardware<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let good = |name: &String| (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    if names.len() <= limits::HARDWARE && names.iter().all(good) {
        Ok(names)
    } else {
        Err(D::Error::custom(
            "hardware: at most 64 names of 1 to 64 printable characters without blanks",
        ))
    }
}

pub(crate) fn is_variable(name: &str) -> bool {
    (1..=limits::WORD_BYTES).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with("DROVER_")
}

fn is_word(word: &str) -> bool {
    word.len() <= limits::WORD_BYTES && !word.contains('\0')
}

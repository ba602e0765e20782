//! Passphrases come from a prompt or a file descriptor, never from an argument or the environment.

use std::fs::File;
use std::io::{self, Read};

use thiserror::Error as ThisError;
use zeroize::Zeroizing;

use crate::limits::{PASSPHRASE_LEAST, PASSPHRASE_LIMIT};

/// Where a passphrase comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Asked for at the terminal, without echo.
    Prompt,
    /// The next line of this open file descriptor (`--passphrase-fd 3 3<file`).
    Descriptor(u32),
}

/// Why there is no passphrase.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum PassphraseError {
    /// No terminal, or it went away.
    #[error("cannot ask for the passphrase here: use --passphrase-fd")]
    Prompt(#[source] io::Error),
    /// The descriptor is not open for reading.
    #[error("cannot read the passphrase from file descriptor {descriptor}")]
    Descriptor {
        /// Its number.
        descriptor: u32,
        /// What the system says.
        source: io::Error,
    },
    /// No line end within the limit.
    #[error("the passphrase is longer than {PASSPHRASE_LIMIT} bytes")]
    TooLong,
    /// Not text.
    #[error("the passphrase is not UTF-8 text")]
    NotText,
    /// Too short for a new one.
    #[error("a new passphrase needs at least {PASSPHRASE_LEAST} characters")]
    TooShort,
    /// The second entry differs from the first.
    #[error("the two passphrases differ: nothing was changed")]
    Differ,
}

impl Source {
    /// `--passphrase-fd N` or, without it, the prompt.
    pub fn from_option(descriptor: Option<u32>) -> Self {
        descriptor.map_or(Self::Prompt, Self::Descriptor)
    }

    /// The passphrase of something that exists; `what` is the prompt's text, for instance
    /// `passphrase of the site's root key`.
    pub fn read(self, what: &str) -> Result<Zeroizing<String>, PassphraseError> {
        match self {
            Self::Prompt => prompt(what),
            Self::Descriptor(descriptor) => line_of(descriptor),
        }
    }

    /// A new passphrase: long enough, and at a terminal entered twice.
    pub fn read_new(self, what: &str) -> Result<Zeroizing<String>, PassphraseError> {
        let first = self.read(what)?;
        if first.chars().count() < PASSPHRASE_LEAST {
            return Err(PassphraseError::TooShort);
        }
        if self == Self::Prompt && prompt(&format!("{what}, again"))? != first {
            return Err(PassphraseError::Differ);
        }
        Ok(first)
    }
}

fn prompt(what: &str) -> Result<Zeroizing<String>, PassphraseError> {
    rpassword::prompt_password(format!("{what}: "))
        .map(Zeroizing::new)
        .map_err(PassphraseError::Prompt)
}

/// A pipe hands out one line after the other; a regular file is opened anew and gives its first line each time.
fn line_of(descriptor: u32) -> Result<Zeroizing<String>, PassphraseError> {
    let failed = |source| PassphraseError::Descriptor { descriptor, source };
    if descriptor == 0 {
        return line(&mut io::stdin().lock()).map_err(failed)?;
    }
    let mut file = File::open(format!("/dev/fd/{descriptor}")).map_err(failed)?;
    line(&mut file).map_err(failed)?
}

/// One line without its end. Byte by byte, so that what follows is left for the next reader.
fn line(from: &mut impl Read) -> io::Result<Result<Zeroizing<String>, PassphraseError>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_LIMIT));
    let mut byte = [0];
    while from.read(&mut byte)? == 1 && byte[0] != b'\n' {
        if bytes.len() == PASSPHRASE_LIMIT {
            return Ok(Err(PassphraseError::TooLong));
        }
        bytes.push(byte[0]);
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    let text = std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned()));
    Ok(text.map_err(|_| PassphraseError::NotText))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_taken_and_the_next_is_left() {
        let mut text = "correct horse\r\nbattery staple\n".as_bytes();
        assert_eq!(line(&mut text).unwrap().unwrap().as_str(), "correct horse");
        assert_eq!(line(&mut text).unwrap().unwrap().as_str(), "battery staple");
        assert_eq!(line(&mut text).unwrap().unwrap().as_str(), "");
    }

    #[test]
    fn a_line_without_end_is_not_read_for_ever() {
        let refused = line(&mut io::repeat(b'x')).unwrap();
        assert!(matches!(refused, Err(PassphraseError::TooLong)));
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_named() {
        let error = Source::Descriptor(987).read("x").unwrap_err();
        assert!(error.to_string().contains("987"), "{error}");
    }
}

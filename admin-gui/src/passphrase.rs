//! Where the passphrase of the author's keys comes from: a prompt, a file descriptor, standard input or
//! the system's credential. Never an argument and never an environment variable: both can be read by others.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::limits::{PASSPHRASE_MAX, PASSPHRASE_MIN};

/// Name of the credential that systemd (`LoadCredential=`, `LoadCredentialEncrypted=`) hands over.
pub const CREDENTIAL: &str = "drover-passphrase";

/// A passphrase in memory; wiped when dropped, never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("•••")
    }
}

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Nothing was given.
    #[error("the passphrase is empty: the keys must not lie unprotected on the disk")]
    Empty,
    /// Too short for a new key.
    #[error("the passphrase has {0} characters: {PASSPHRASE_MIN} at least")]
    TooShort(usize),
    /// Too long to be one.
    #[error("more than {PASSPHRASE_MAX} bytes were given as a passphrase: is this the right source?")]
    TooLong,
    /// The second time was not like the first.
    #[error("the two passphrases differ: nothing was written, try again")]
    Differ,
    /// It is not text.
    #[error("the passphrase is not UTF-8 text")]
    NotText,
    /// No way to ask.
    #[error(
        "there is no terminal to ask for the passphrase: give --passphrase-fd N or --passphrase-stdin, \
         or the systemd credential {CREDENTIAL}"
    )]
    NoTerminal,
    /// Reading it failed.
    #[error("cannot read the passphrase from {from}")]
    Read {
        /// Where it should have come from.
        from: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Where to take it from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The credential if the service manager gave one, else a prompt.
    #[default]
    Ask,
    /// An open file descriptor, up to its end or first line.
    Descriptor(i32),
    /// Standard input, up to its end or first line.
    Stdin,
}

impl Passphrase {
    /// Takes a passphrase that a person has typed for existing keys.
    ///
    /// # Errors
    /// It is empty or far too long.
    pub fn new(text: &str) -> Result<Self, PassphraseError> {
        if text.is_empty() {
            return Err(PassphraseError::Empty);
        }
        if text.len() > PASSPHRASE_MAX {
            return Err(PassphraseError::TooLong);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Whether it may protect a new key.
    ///
    /// # Errors
    /// It is shorter than [`PASSPHRASE_MIN`] characters.
    pub fn check_new(&self) -> Result<(), PassphraseError> {
        match self.0.chars().count() {
            count if count < PASSPHRASE_MIN => Err(PassphraseError::TooShort(count)),
            _ => Ok(()),
        }
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads the first line of `reader`; what follows it is not looked at.
    ///
    /// # Errors
    /// The reader's, or what it gave is not a passphrase.
    pub fn read(reader: impl Read, from: &str) -> Result<Self, PassphraseError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_MAX + 2));
        let most = PASSPHRASE_MAX as u64 + 2;
        let read = |source| PassphraseError::Read {
            from: from.to_owned(),
            source,
        };
        reader.take(most).read_to_end(&mut bytes).map_err(read)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self::new(std::str::from_utf8(line).map_err(|_| PassphraseError::NotText)?)
    }

    /// Gets it from `source`; `what` tells a person which one is asked for.
    ///
    /// # Errors
    /// [`PassphraseError`] says why there is none.
    pub fn get(source: &Source, what: &str) -> Result<Self, PassphraseError> {
        match source {
            Source::Stdin => Self::read(io::stdin().lock(), "standard input"),
            Source::Descriptor(number) => {
                // Opened anew by its name: works for files and pipes, needs no unsafe code.
                let path = format!("/dev/fd/{number}");
                let from = format!("file descriptor {number}");
                let file = File::open(&path).map_err(|source| PassphraseError::Read {
                    from: from.clone(),
                    source,
                })?;
                Self::read(file, &from)
            }
            Source::Ask => match credential(std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)) {
                Some(path) => Self::from_file(&path),
                None => Self::prompt(what),
            },
        }
    }

    /// Gets one for new keys: a person types it twice.
    ///
    /// # Errors
    /// As [`Passphrase::get`]; too short; or the two differ.
    pub fn get_new(source: &Source, what: &str) -> Result<Self, PassphraseError> {
        let first = Self::get(source, what)?;
        first.check_new()?;
        let asked = *source == Source::Ask
            && credential(std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)).is_none();
        if asked && *Self::prompt("The same again")?.0 != *first.0 {
            return Err(PassphraseError::Differ);
        }
        Ok(first)
    }

    fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        let from = path.display().to_string();
        let file = File::open(path).map_err(|source| PassphraseError::Read {
            from: from.clone(),
            source,
        })?;
        Self::read(file, &from)
    }

    fn prompt(what: &str) -> Result<Self, PassphraseError> {
        if !io::stdin().is_terminal() && File::open("/dev/tty").is_err() {
            return Err(PassphraseError::NoTerminal);
        }
        let typed =
            rpassword::prompt_password(format!("{what}: ")).map_err(|source| PassphraseError::Read {
                from: "the terminal".to_owned(),
                source,
            })?;
        let typed = Zeroizing::new(typed);
        Self::new(&typed)
    }
}

/// The credential's file, if the service manager gave one.
fn credential(folder: Option<PathBuf>) -> Option<PathBuf> {
    folder
        .map(|folder| folder.join(CREDENTIAL))
        .filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts_and_its_end_does_not() {
        for text in [
            "correct horse battery",
            "correct horse battery\n",
            "correct horse battery\r\nmore",
        ] {
            let read = Passphrase::read(text.as_bytes(), "test").unwrap();
            assert_eq!(read.reveal(), "correct horse battery");
        }
    }

    #[test]
    fn empty_short_and_endless_passphrases_are_refused() {
        assert!(matches!(
            Passphrase::read(&b"\n"[..], "test"),
            Err(PassphraseError::Empty)
        ));
        assert!(matches!(
            Passphrase::read(&b""[..], "test"),
            Err(PassphraseError::Empty)
        ));
        let short = Passphrase::new("elevenchars").unwrap();
        assert!(matches!(short.check_new(), Err(PassphraseError::TooShort(11))));
        assert!(matches!(
            Passphrase::read(io::repeat(b'a'), "test"),
            Err(PassphraseError::TooLong)
        ));
    }

    #[test]
    fn debug_never_shows_it() {
        assert!(!format!("{:?}", Passphrase::new("hunter2").unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_credential_is_used_where_the_service_manager_gives_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(credential(Some(folder.path().to_owned())), None);
        std::fs::write(folder.path().join(CREDENTIAL), "from the system\n").unwrap();
        let path = credential(Some(folder.path().to_owned())).unwrap();
        assert_eq!(Passphrase::from_file(&path).unwrap().reveal(), "from the system");
    }
}

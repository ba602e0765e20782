//! How a release's program runs and how one knows that it is well.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::PayloadPath;
use crate::text;

/// What starts the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The file itself: an ELF file or a script with `#!`.
    Exec,
    /// `java -jar FILE`.
    Jar,
    /// `python3 FILE`.
    Python,
}

/// The program and what it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What starts it.
    pub how: How,
    /// The file inside the payload; for a single file its name.
    pub program: PayloadPath,
    /// Words after the program; never a shell line.
    #[serde(
        default,
        deserialize_with = "text::words",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<String>,
    /// Added to its environment.
    #[serde(
        default,
        deserialize_with = "text::variables",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub env: BTreeMap<String, String>,
    /// Seconds between SIGTERM and SIGKILL.
    #[serde(default = "Run::default_stop_seconds", deserialize_with = "text::seconds")]
    pub stop_seconds: u32,
    /// What it is kept within.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
}

/// What each process of a program is kept within; none: what the device has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory that it can write to and shares with nobody (`RLIMIT_DATA`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Open files and connections (`RLIMIT_NOFILE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Processes and threads of its user, all together (`RLIMIT_NPROC`); kept only where it has a user of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
}

impl Limits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Why nothing can run within them, if nothing can.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let all = [self.memory_bytes, self.open_files, self.processes];
        all.contains(&Some(0))
            .then_some("a limit of 0 lets nothing start: leave it out for no limit")
    }
}

impl Run {
    /// A program without arguments.
    pub fn plain(how: How, program: PayloadPath) -> Self {
        Self {
            how,
            program,
            args: Vec::new(),
            env: BTreeMap::new(),
            stop_seconds: Self::default_stop_seconds(),
            limits: Limits::default(),
        }
    }

    /// Ten seconds, as most supervisors grant.
    pub(crate) fn default_stop_seconds() -> u32 {
        10
    }
}

/// The question whose answer says that a new version is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// `GET` answers 2xx.
    Http {
        /// `http://…`; `${NAME}` stands for a variable of the program's environment, see [`expand`].
        #[serde(deserialize_with = "text::url")]
        url: String,
    },
    /// A command in the program's folder ends with 0.
    Command {
        /// Program and arguments; no shell.
        #[serde(deserialize_with = "text::command")]
        argv: Vec<String>,
    },
    /// The process is still there.
    Alive {
        /// After so many seconds.
        #[serde(deserialize_with = "text::seconds")]
        seconds: u32,
    },
}

/// Why a text with `${NAME}` has no meaning here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The environment does not have it.
    #[error("{0} is not set in the program's environment: set it for this device or in the release")]
    Unset(String),
    /// `${` without a name and `}`.
    #[error("a ${{ in {0:?} has no name or no closing }}")]
    Open(String),
}

/// Puts the values of variables in place of `${NAME}`.
///
/// # Errors
/// A variable that is not set; `${` that is not closed.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (name, tail) = after
            .split_once('}')
            .ok_or_else(|| ExpandError::Open(text.to_owned()))?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(ExpandError::Open(text.to_owned()));
        }
        out.push_str(&variable(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_place_once() {
        let value = |name: &str| (name == "PORT").then(|| "80${PORT}".to_owned());
        assert_eq!(
            expand("http://h:${PORT}/x$", value).unwrap(),
            "http://h:80${PORT}/x$"
        );
        assert_eq!(
            expand("${NONE}", value),
            Err(ExpandError::Unset("NONE".to_owned()))
        );
        for bad in ["${", "${PORT", "${}", "${A B}", "${${PORT}}"] {
            assert!(matches!(expand(bad, value), Err(ExpandError::Open(_))), "{bad}");
        }
    }
}

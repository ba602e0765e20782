//! Codes and passwords: from a prompt, standard input or a file descriptor, never from an argument.

use std::fs::File;
use std::io::{self, BufRead, Read};

use anyhow::{Context, bail};
use protocol::Secret;

use crate::limits::MAX_TYPED;

/// Where secrets come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Source {
    /// One line each from standard input.
    pub stdin: bool,
    /// From this open descriptor.
    pub fd: Option<u32>,
}

/// Reads one secret; `what` names it in the prompt.
///
/// # Errors
/// Nothing was given, more than any code has, no terminal to ask at.
pub fn secret(source: Source, what: &str) -> anyhow::Result<Secret> {
    let text = match source {
        Source { fd: Some(fd), .. } => {
            let path = format!("/proc/self/fd/{fd}");
            let file =
                File::open(&path).with_context(|| format!("cannot read the {what} from descriptor {fd}"))?;
            read(file, what)?
        }
        Source { stdin: true, .. } => line(io::stdin().lock(), what)?,
        Source { .. } => rpassword::prompt_password(format!("{what} (not shown): ")).with_context(|| {
            format!("cannot ask for the {what}: there is no terminal; use --stdin or a file descriptor")
        })?,
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("the {what} is empty");
    }
    Ok(Secret::new(text.to_owned()))
}

fn read(file: impl Read, what: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    file.take(MAX_TYPED + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the {what}"))?;
    if text.len() as u64 > MAX_TYPED {
        bail!("the {what} has more than {MAX_TYPED} bytes");
    }
    Ok(text)
}

fn line(input: impl BufRead, what: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    input
        .take(MAX_TYPED + 1)
        .read_line(&mut text)
        .with_context(|| format!("cannot read the {what}"))?;
    if text.len() as u64 > MAX_TYPED {
        bail!("the {what} has more than {MAX_TYPED} bytes");
    }
    Ok(text)
}

//! What no program may ever say: every secret that the harness hands out or finds in a folder, held against all that is
//! written to standard output and standard error by whatever [`process`](crate::process) starts.
//!
//! A leak is a failed test, whichever test it is: the check runs when a program is dropped, stopped or waited for, and when
//! a command has ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::site::{PASSPHRASE, PASSWORD};

/// Shorter words are no secrets, and stand in ordinary sentences.
const SHORTEST: usize = 8;
/// Characters of a file's first line of content that make it a key: the rest of a PEM file is as telling.
const KEY_LINE: usize = 40;
/// Stands in every private key in PEM, encrypted or not (RFC 7468).
const PEM_MARK: &str = "PRIVATE KEY-----";
/// How an enrolment code begins; its last part is the secret.
const CODE_MARK: &str = "drover1/";
/// Depth of folders that are searched for keys: a site, its devices, their identities.
const DEPTH: usize = 4;

/// Secret to its kind.
static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// From now on no program may have said `secret`; `kind` is what a leak is called.
pub fn learn(kind: &str, secret: &str) {
    let secret = secret.trim();
    if secret.len() >= SHORTEST {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(secret.to_owned()).or_insert_with(|| kind.to_owned());
    }
}

/// What a command is given on standard input, where an option says that it reads secrets there.
pub(crate) fn learn_input(args: &[String], input: &str) {
    if !args.iter().any(|arg| arg.ends_with("-stdin") || arg == "--stdin") {
        return;
    }
    learn_codes(input);
    let kind = format!("what `{}` was given on standard input", args[0]);
    for line in input.lines().filter(|line| !line.contains(CODE_MARK)) {
        learn(&kind, line);
    }
}

/// The secrets of all enrolment codes in a text.
pub fn learn_codes(text: &str) {
    for code in text.split(CODE_MARK).skip(1) {
        let end = code
            .find(|c: char| c.is_whitespace() || c == '"')
            .unwrap_or(code.len());
        if let Some((_, secret)) = code[..end].rsplit_once('/') {
            learn("an enrolment code's secret", secret);
        }
    }
}

/// Private keys, tokens and peppers in a folder and those in it.
pub fn learn_files(folder: &Path) {
    search(folder, DEPTH);
}

fn search(folder: &Path, depth: usize) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth > 1 {
            search(&path, depth - 1);
        } else if name.ends_with("key.pem") || name == "token" || name == "pepper" {
            // One that is being replaced or holds plain bytes is left out.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let mut lines = text.lines().filter(|line| !line.starts_with("---"));
            if let Some(line) = lines.find(|line| line.len() > KEY_LINE) {
                learn(&format!("the secret in {}", path.display()), line);
            }
        }
    }
}

/// What of `text` should not have been said: kind and line.
pub(crate) fn leak(text: &str) -> Option<String> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let fixed = [
        (PEM_MARK, "a private key"),
        (PASSPHRASE, "the author's passphrase"),
        (PASSWORD, "a device's password"),
    ];
    let known = known
        .iter()
        .map(|(secret, kind)| (secret.as_str(), kind.as_str()));
    for (secret, kind) in fixed.into_iter().chain(known) {
        if let Some(at) = text.find(secret) {
            let line = text[..at].matches('\n').count();
            let said = text.lines().nth(line).unwrap_or_default();
            return Some(format!("{kind}, in its line {}: {said}", line + 1));
        }
    }
    None
}

/// Fails the test where `program` has said a secret; not where it is failing already.
///
/// # Panics
/// If there is a leak.
pub(crate) fn check(program: &str, text: &str) {
    if let Some(leak) = leak(text)
        && !std::thread::panicking()
    {
        panic!("{program} wrote {leak}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::put;

    #[test]
    fn what_was_handed_out_is_found_with_its_kind_and_line() {
        learn_input(
            &["enroll".into(), "--stdin".into()],
            "drover1/127.0.0.1:7102/north/00ff/0123456789abcdef\nsix wrong horses\n",
        );
        learn_input(&["status".into()], "said without such an option\n");
        learn_codes("{\"code\":\"drover1/127.0.0.1:7102/south/00ff/fedcba9876543210\"}");
        learn("a word", "short");
        for (text, found) in [
            (
                "ready\nsecret=0123456789abcdef!",
                Some("an enrolment code's secret, in its line 2"),
            ),
            (
                "fedcba9876543210",
                Some("an enrolment code's secret, in its line 1"),
            ),
            (
                "no six wrong horses",
                Some("what `enroll` was given on standard input"),
            ),
            (
                "a\nb\n-----BEGIN ENCRYPTED PRIVATE KEY-----",
                Some("a private key, in its line 3"),
            ),
            (PASSPHRASE, Some("the author's passphrase")),
            ("device-north a short line 0123456789abcde", None),
            ("said without such an option", None),
        ] {
            let leak = leak(text);
            let right = match (found, &leak) {
                (Some(found), Some(leak)) => leak.starts_with(found),
                (None, None) => true,
                _ => false,
            };
            assert!(right, "{text}: {leak:?}");
        }
    }

    #[test]
    fn keys_in_a_folder_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("devices/north/identity");
        let line = "M".repeat(64);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n");
        put(&inner.join("key.pem"), pem.as_bytes(), 0o600);
        learn_files(folder.path());
        let leak = leak(&format!("key {line}")).unwrap();
        assert!(
            leak.starts_with("the secret in ") && leak.contains("identity/key.pem"),
            "{leak}"
        );
    }
}

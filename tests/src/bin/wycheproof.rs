//! Project Wycheproof's vectors against the verification of one signature (`tuf::PublicKey`), by which everything
//! that this suite trusts is judged. Started by `scripts/wycheproof`.
//!
//! A vector of a scheme that we take must be judged as the project says. One of another scheme under a key that we take
//! (another salt, mask or hash) must be refused, also where it is right in its own scheme. What cannot be asked at all
//! is counted with its reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::Deserialize;
use serde_json::{Value, json};
use tuf::PublicKey;

/// Files of other algorithms lie beside these.
const FILES: [&str; 3] = ["ed25519_test", "ecdsa_secp256r1_sha256_test", "rsa_pss_"];
/// A vector file has at most a few megabytes.
const FILE_BYTES: u64 = 64 << 20;

/// Project Wycheproof against our verification.
#[derive(Parser)]
#[command(name = "wycheproof")]
struct Options {
    /// The folder of the vectors, `testvectors_v1` of a clone.
    vectors: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

/// Tests under one key; fields that a scheme has not are absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(rename = "type")]
    kind: String,
    public_key: Value,
    public_key_pem: Option<String>,
    public_key_asn: Option<String>,
    sha: Option<String>,
    mgf: Option<String>,
    mgf_sha: Option<String>,
    s_len: Option<u32>,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    tc_id: u32,
    comment: String,
    msg: String,
    sig: String,
    result: String,
}

/// What became of the vectors of a file.
#[derive(Default)]
struct Count {
    /// Accepted and refused as the project says.
    accepted: usize,
    refused: usize,
    /// Of another scheme, and refused.
    foreign: usize,
    disagreed: Vec<String>,
    /// Not asked, by reason.
    apart: BTreeMap<String, usize>,
}

impl Count {
    fn all(&self) -> usize {
        let apart: usize = self.apart.values().sum();
        self.accepted + self.refused + self.foreign + self.disagreed.len() + apart
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.foreign += other.foreign;
        self.disagreed.extend(other.disagreed);
        for (reason, count) in other.apart {
            *self.apart.entry(reason).or_default() += count;
        }
    }

    fn text(&self) -> String {
        let agreed = self.accepted + self.refused + self.foreign;
        let mut text = format!(
            "{agreed} agreed ({} accepted, {} refused, {} refused as another scheme's), {} disagreed",
            self.accepted,
            self.refused,
            self.foreign,
            self.disagreed.len()
        );
        for (reason, count) in &self.apart {
            text.push_str(&format!(", {count} not applicable: {reason}"));
        }
        text
    }
}

fn main() -> ExitCode {
    match run(&Options::parse().vectors) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(folder: &Path) -> Result<bool> {
    let mut whole = Count::default();
    for path in files(folder)? {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = durable::read_limited(&path, FILE_BYTES)?;
        let file: File = serde_json::from_slice(&bytes).with_context(|| format!("{name} cannot be read"))?;
        let count = judge(&file).with_context(|| name.clone())?;
        ensure!(
            count.all() == file.number_of_tests,
            "{name}: not every vector was looked at"
        );
        println!("{name}: {}", count.text());
        for wrong in &count.disagreed {
            println!("  DISAGREED {wrong}");
        }
        whole.add(count);
    }
    println!("wycheproof: {}", whole.text());
    Ok(whole.disagreed.is_empty() && whole.accepted > 0 && whole.refused > 0)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if FILES.iter().any(|start| name.starts_with(start)) && name.ends_with("_test.json") {
            found.push(path.clone());
        }
    }
    for start in FILES {
        let there = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(start))
        };
        ensure!(
            found.iter().any(there),
            "{} holds no file {start}*.json",
            folder.display()
        );
    }
    found.sort();
    Ok(found)
}

fn judge(file: &File) -> Result<Count> {
    let mut count = Count::default();
    for group in &file.test_groups {
        let key = match key(group)? {
            Ok(key) => key,
            Err(reason) => {
                *count.apart.entry(reason).or_default() += group.tests.len();
                continue;
            }
        };
        for test in &group.tests {
            let accepted = key.verify(&bytes(&test.msg)?, &bytes(&test.sig)?);
            match (test.result.as_str(), accepted) {
                _ if !accepted && !ours(group) => count.foreign += 1,
                ("valid", true) if ours(group) => count.accepted += 1,
                ("invalid", false) => count.refused += 1,
                // Wrong in its group, whose salt is another, and right in our scheme.
                ("invalid", true) if salt_apart(group) && test.comment == "s_len changed to 32" => {
                    let reason = "wrong in its group alone, whose salt is not our 32 bytes".to_owned();
                    *count.apart.entry(reason).or_default() += 1;
                }
                ("valid" | "invalid", _) => count.disagreed.push(format!(
                    "vector {} ({}): {}, and we say {accepted}",
                    test.tc_id, test.comment, test.result
                )),
                (other, _) => {
                    let reason = format!("the project leaves it open ({other})");
                    *count.apart.entry(reason).or_default() += 1;
                }
            }
        }
    }
    Ok(count)
}

/// Whether the group's scheme is the one for which metadata know a key of this type.
fn ours(group: &Group) -> bool {
    let is = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
    match group.kind.as_str() {
        "EddsaVerify" => true,
        "EcdsaVerify" => is(&group.sha, "SHA-256"),
        _ => salt_apart(group) && group.s_len == Some(32),
    }
}

/// Whether the group's hash and mask are those of our RSASSA-PSS.
fn salt_apart(group: &Group) -> bool {
    let is = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
    is(&group.sha, "SHA-256") && is(&group.mgf, "MGF1") && is(&group.mgf_sha, "SHA-256")
}

/// The group's key as metadata would carry it, or why they cannot.
fn key(group: &Group) -> Result<Result<PublicKey, String>> {
    let (keytype, scheme) = match group.kind.as_str() {
        "EddsaVerify" => ("ed25519", "ed25519"),
        "EcdsaVerify" => ("ecdsa", "ecdsa-sha2-nistp256"),
        "RsassaPssVerify" | "RsassaPssWithParametersVerify" => ("rsa", "rsassa-pss-sha256"),
        other => bail!("a group of the unknown type {other}"),
    };
    let public = match (keytype, group.public_key["pk"].as_str(), &group.public_key_asn) {
        ("ed25519", Some(point), _) => point.to_owned(),
        // The wrapping of some keys names the parameters of their scheme, which metadata do in the key's own field.
        ("rsa", _, Some(bare)) if group.kind == "RsassaPssWithParametersVerify" => bare_pem(&bytes(bare)?),
        _ => group.public_key_pem.clone().context("a group without a key")?,
    };
    let object = json!({"keytype": keytype, "scheme": scheme, "keyval": {"public": public}});
    Ok(PublicKey::from_object(object).map_err(|error| error.to_string()))
}

/// An RSAPublicKey (RFC 8017) in PEM.
fn bare_pem(der: &[u8]) -> String {
    let body = base64::engine::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN RSA PUBLIC KEY-----\n{body}\n-----END RSA PUBLIC KEY-----\n")
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    hex::decode(text).context("a field of a vector is no hex")
}

//! Signed metadata and targets, made in memory.

use std::collections::BTreeMap;

use release::{Form, Health, How, Kind, Release, Run};
use tuf::editor::{RootEditor, SnapshotEditor, TargetsEditor, TimestampEditor};
use tuf::schema::Hashes;
use tuf::{Digest, Ed25519Signer, Role, Signer, TargetFile, UnixTime};

pub struct Repository {
    pub signer: Ed25519Signer,
    pub root: Vec<u8>,
    /// What a manager would serve, by file name.
    pub metadata: BTreeMap<String, Vec<u8>>,
    pub targets: BTreeMap<Digest, Vec<u8>>,
    targets_role: Option<Vec<u8>>,
    version: u64,
    pub expires: UnixTime,
}

pub fn now() -> UnixTime {
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    UnixTime(seconds as i64)
}

impl Repository {
    pub fn new() -> Self {
        let (signer, _) = Ed25519Signer::generate().unwrap();
        let expires = now().plus_seconds(30 * 86400);
        let mut editor = RootEditor::new(expires);
        for role in [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets] {
            editor = editor.add_key(&role, signer.public_key());
        }
        let root = editor.build().unwrap().sign(&signer).unwrap().bytes();
        let metadata = BTreeMap::from([("1.root.json".to_owned(), root.clone())]);
        Self {
            signer,
            root,
            metadata,
            targets: BTreeMap::new(),
            targets_role: None,
            version: 0,
            expires,
        }
    }

    /// Signs a release into the metadata; the target's bytes are served as they are given.
    pub fn publish(&mut self, release: &Release, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.targets.insert(digest, bytes.to_vec());
        self.sign_target(release, digest, bytes.len() as u64);
        digest
    }

    pub fn sign_target(&mut self, release: &Release, digest: Digest, length: u64) {
        let editor = match &self.targets_role {
            Some(bytes) => TargetsEditor::from_existing(bytes).unwrap(),
            None => TargetsEditor::new(self.expires),
        };
        let file = TargetFile {
            length,
            hashes: Hashes::sha256(digest),
            custom: Some(release.to_custom().unwrap()),
        };
        self.version += 1;
        let path = release.target_path().unwrap();
        let targets = editor
            .add_target(path.as_str(), &file)
            .version(self.version)
            .build()
            .unwrap()
            .sign(&self.signer)
            .unwrap()
            .bytes();
        self.metadata
            .insert(format!("{}.targets.json", self.version), targets.clone());
        self.targets_role = Some(targets);
        self.sign_online();
    }

    pub fn sign_online(&mut self) {
        let targets = self.targets_role.clone().unwrap();
        let snapshot = SnapshotEditor::new(self.version, self.expires)
            .role(&Role::Targets, self.version, &targets)
            .build()
            .unwrap()
            .sign(&self.signer)
            .unwrap()
            .bytes();
        let timestamp = TimestampEditor::new(self.version, self.expires, self.version, &snapshot)
            .signed_at(now().plus_seconds(-1))
            .build()
            .unwrap()
            .sign(&self.signer)
            .unwrap()
            .bytes();
        self.metadata
            .insert(format!("{}.snapshot.json", self.version), snapshot);
        self.metadata.insert("timestamp.json".to_owned(), timestamp);
    }

    pub fn version(&self) -> u64 {
        self.version
    }
}

/// A release of `thermostat` that is one shell script.
pub fn script(version: &str, counter: u64) -> Release {
    Release {
        format: 1,
        update_id: format!("{counter:032x}"),
        component: "thermostat".parse().unwrap(),
        version: version.parse().unwrap(),
        counter,
        kind: Kind::App,
        form: Form::Single,
        file_name: "thermostat.sh".to_owned(),
        arch: None,
        hardware: Vec::new(),
        requires: release::Requires::default(),
        state: None,
        live: None,
        nature: None,
        policy: release::Policy::default(),
        run: Some(Run {
            stop_seconds: 5,
            ..Run::plain(How::Exec, "thermostat.sh".parse().unwrap())
        }),
        health: Health::Command {
            argv: ["sh", "-c", "test -f \"$DROVER_DATA/ready\""]
                .map(str::to_owned)
                .to_vec(),
        },
        start_seconds: 5,
        probation_seconds: 0,
        released: now(),
        vendor: None,
        developer: None,
        location: None,
        license: None,
        description: None,
        withdrawn: None,
    }
}

/// A program that says which version runs, is healthy at once and ends when asked.
pub fn good(version: &str) -> Vec<u8> {
    format!(
        "#!/bin/sh\n\
         trap 'rm -f \"$DROVER_DATA/ready\"; exit 0' TERM\n\
         echo {version} > \"$DROVER_DATA/running\"\n\
         echo {version} $$ >> \"$DROVER_DATA/starts\"\n\
         : > \"$DROVER_DATA/ready\"\n\
         while :; do sleep 1000 & wait $!; done\n"
    )
    .into_bytes()
}

/// A program that starts, never gets healthy, and says why.
pub fn sick(version: &str) -> Vec<u8> {
    format!(
        "#!/bin/sh\n\
         rm -f \"$DROVER_DATA/ready\"\n\
         echo {version} $$ >> \"$DROVER_DATA/starts\"\n\
         echo 'the sensor does not answer' >&2\n\
         exit 3\n"
    )
    .into_bytes()
}

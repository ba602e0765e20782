//! Rightly listed releases, and the bytes that come in place of theirs.

use protocol::UpdateId;
use protocol::device::Order;
use release::Release;
use tuf::Digest;

use crate::Site;
use crate::draws::Draws;
use crate::forge::{Forge, Listed, Set};
use crate::packages::app;
use crate::process::{bin, run};

/// The version that ran before that.
pub(super) const BEFORE: &str = "0.9.0";

/// The version that runs before anything is tried.
pub(super) const RUNS: &str = "1.0.0";

/// A package of `app`, packed as an author would.
pub(super) async fn packed(version: &str) -> Vec<u8> {
    let work = tempfile::tempdir().expect("a folder");
    let tar = work.path().join("app.tar");
    let folder = app(work.path(), version).display().to_string();
    let out = tar.display().to_string();
    let _ = run(&bin("admin-gui"), ["pack", &folder, "--out", &out], "", &[])
        .await
        .ok();
    std::fs::read(&tar).expect("packed")
}

/// Lists one release at a time beside what the site has published: version N.0.0, each with its own update.
pub(super) struct Series {
    pub(super) forge: Forge,
    targets_version: u64,
    number: u64,
}

impl Series {
    pub(super) fn of(site: &Site) -> Self {
        let forge = Forge::of(site);
        Self {
            targets_version: tuf::unverified_version(&forge.targets).expect("a role") + 1,
            forge,
            number: 1,
        }
    }

    /// The next release, carried by `bytes`; nothing of it is signed yet.
    pub(super) fn next(&mut self, bytes: &[u8], change: impl FnOnce(&mut Release)) -> Listed {
        self.number += 1;
        self.targets_version += 1;
        self.forge.version += 1;
        let number = self.number;
        let mut listed = self.forge.with_release(bytes, |release| {
            release.version = format!("{number}.0.0").parse().expect("a version");
            release.counter += number;
            release.update_id = update(number).to_string();
            change(release);
        });
        listed.editor = listed.editor.version(self.targets_version);
        listed
    }

    /// Its metadata, all right.
    pub(super) fn set(&self, listed: &Listed) -> Set {
        let targets = self
            .forge
            .sign_targets(listed.editor.clone(), &self.forge.targets_key);
        self.forge.around(&targets)
    }

    /// An id for something that is no release of its own.
    pub(super) fn another_update(&mut self) -> UpdateId {
        self.number += 1;
        update(self.number)
    }
}

fn update(number: u64) -> UpdateId {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    UpdateId::from_random(bytes)
}

/// One way to serve other bytes than those signed.
pub(super) struct Tampering {
    pub(super) id: &'static str,
    pub(super) what: &'static str,
    pub(super) wanted: &'static [&'static str],
    make: fn(&[u8], &mut Draws) -> Vec<u8>,
}

impl Tampering {
    pub(super) fn of(&self, bytes: &[u8], draws: &mut Draws) -> Vec<u8> {
        (self.make)(bytes, draws)
    }
}

const DIGEST: &str = "received bytes are";

pub(super) const TAMPERINGS: &[Tampering] = &[
    Tampering {
        id: "6.4 A1",
        what: "a corrupted file: one bit flipped",
        wanted: &[DIGEST],
        make: |bytes, draws| {
            let mut bytes = bytes.to_vec();
            draws.flip(&mut bytes, 0);
            bytes
        },
    },
    Tampering {
        id: "6.4 A2",
        what: "a file cut short, filled up with zeros",
        wanted: &[DIGEST],
        make: |bytes, draws| {
            let mut cut = bytes.to_vec();
            // Behind its last word a package holds nothing but zeros.
            let words = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            let from = draws.below(words + 1);
            cut[from..].fill(0);
            cut
        },
    },
    Tampering {
        id: "long",
        what: "a file with more behind its end",
        wanted: &["longer than the", "endless data"],
        make: |bytes, draws| {
            let mut bytes = bytes.to_vec();
            for _ in 0..=draws.below(64) {
                bytes.extend_from_slice(&draws.number().to_le_bytes());
            }
            bytes
        },
    },
    Tampering {
        id: "other",
        what: "another program of the same length",
        wanted: &[DIGEST],
        make: |bytes, draws| {
            let mut bytes = bytes.to_vec();
            let at = bytes.len() / 2;
            for piece in bytes[at..].chunks_mut(8) {
                piece.copy_from_slice(&draws.number().to_le_bytes()[..piece.len()]);
            }
            bytes
        },
    },
];

/// What the program of [`packed`] says.
const SAYS: &[u8] = b"app 2.0.0 runs";

/// The same package with a program that says something else in as many letters.
pub(super) fn own(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut own = bytes.to_vec();
    let at = own.windows(SAYS.len()).position(|window| window == SAYS);
    let at = at.expect("the program's words");
    own[at..at + SAYS.len()].copy_from_slice(format!("app {number:010}").as_bytes());
    own
}

/// The digest of what a party is given: metadata, file and order.
pub(super) fn input(set: &Set, file: &[u8], order: Option<&Order>) -> Digest {
    let mut all = super::metadata::digest(set).to_string().into_bytes();
    all.extend_from_slice(file);
    if let Some(order) = order {
        all.extend(serde_json::to_vec(order).expect("a message"));
    }
    Digest::of(&all)
}

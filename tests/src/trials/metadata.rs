//! Wrong metadata: each set is right in all that lies in front of the check that its attack names.

use serde_json::Value;
use tuf::Digest;

use crate::draws::Draws;
use crate::forge::{DAY, Forge, Listed, Set, Shape, strangers_key};

/// One kind of forgery.
pub(super) struct Attack {
    pub(super) id: &'static str,
    pub(super) what: &'static str,
    pub(super) attacker: &'static str,
    /// What the refusal says.
    pub(super) wanted: &'static [&'static str],
    make: fn(&Maker<'_>, &mut Draws, usize) -> Set,
}

impl Attack {
    /// The set for one trial.
    pub(super) fn set(&self, maker: &Maker<'_>, draws: &mut Draws, number: usize) -> Set {
        (self.make)(maker, draws, number)
    }
}

/// What forgeries are made of: keys, and a release that nobody has published.
pub(super) struct Maker<'a> {
    pub(super) forge: &'a Forge,
    pub(super) next: &'a Listed,
}

/// The digest of all that is served.
pub(super) fn digest(set: &Set) -> Digest {
    let mut all = Vec::new();
    for (name, bytes) in set {
        all.extend_from_slice(name.as_bytes());
        all.extend_from_slice(bytes);
    }
    Digest::of(&all)
}

impl Maker<'_> {
    /// The author's list with the new release, rightly signed.
    fn targets(&self) -> Vec<u8> {
        self.forge
            .sign_targets(self.next.editor.clone(), &self.forge.targets_key)
    }

    fn targets_name(&self, targets: &[u8]) -> String {
        let version = tuf::unverified_version(targets).unwrap_or_default();
        format!("{version}.targets.json")
    }

    fn snapshot_name(&self) -> String {
        format!("{}.snapshot.json", self.forge.version)
    }

    /// A right set, but for the snapshot, which a right timestamp vouches for.
    fn with_snapshot(&self, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Set {
        let mut set = self.forge.around(&self.targets());
        let name = self.snapshot_name();
        let snapshot = change(&set[&name]);
        set.extend(self.forge.timestamp_of(&snapshot, self.forge.version));
        set.insert(name, snapshot);
        set
    }

    /// A right set, but for the timestamp.
    fn with_timestamp(&self, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Set {
        let mut set = self.forge.around(&self.targets());
        let timestamp = change(&set["timestamp.json"]);
        set.insert("timestamp.json".to_owned(), timestamp);
        set
    }

    /// A right set around a list of targets whatever it is: the thief of the repository signs it so.
    fn with_targets(&self, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Set {
        self.forge.around(&change(&self.targets()))
    }

    /// One of the three files, in turns, is changed; those who vouch for it are made anew.
    fn with_each(&self, number: usize, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Set {
        match number % 3 {
            0 => self.with_targets(change),
            1 => self.with_snapshot(change),
            _ => self.with_timestamp(change),
        }
    }

    /// One of the three files, in turns, is changed on the way.
    fn on_the_way(&self, number: usize, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Set {
        let targets = self.targets();
        let mut set = self.forge.around(&targets);
        let name = match number % 3 {
            0 => self.targets_name(&targets),
            1 => self.snapshot_name(),
            _ => "timestamp.json".to_owned(),
        };
        let changed = change(&set[&name]);
        set.insert(name, changed);
        set
    }
}

fn json(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).expect("our own JSON");
    change(&mut value);
    serde_json::to_vec(&value).expect("JSON")
}

/// A set without a flaw.
fn right(maker: &Maker<'_>) -> Set {
    maker.forge.around(&maker.targets())
}

/// Where what is signed begins: a changed letter in the signature's own hexadecimal text may mean the same.
fn signed_at(bytes: &[u8]) -> usize {
    let mark = b"\"signed\":";
    let found = bytes.windows(mark.len()).position(|window| window == mark);
    found.expect("our own metadata") + mark.len()
}

const SIGNATURES: &str = "valid signatures";

/// All kinds, in no special order: versions that have been seen stay seen, so each trial is made above the last.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "A1",
        what: "metadata with one bit flipped",
        attacker: "network",
        wanted: &[
            SIGNATURES,
            "hash that its parent names",
            "is malformed",
            "names version",
            "is of type",
            "spec",
        ],
        make: |maker, draws, number| {
            maker.on_the_way(number, |bytes| {
                let mut bytes = bytes.to_vec();
                let from = signed_at(&bytes);
                draws.flip(&mut bytes, from);
                bytes
            })
        },
    },
    Attack {
        id: "A2",
        what: "metadata cut short",
        attacker: "network",
        wanted: &["is malformed", "hash that its parent names", "bytes"],
        make: |maker, draws, number| {
            maker.on_the_way(number, |bytes| bytes[..draws.below(bytes.len())].to_vec())
        },
    },
    Attack {
        id: "A3",
        what: "metadata signed by a stranger's key",
        attacker: "server",
        wanted: &[SIGNATURES],
        make: |maker, _, number| {
            let stranger = strangers_key();
            let forge = maker.forge;
            if number.is_multiple_of(4) {
                let mut set = right(maker);
                set.insert("2.root.json".into(), forge.next_root(&stranger, &stranger));
                return set;
            }
            match number % 4 {
                1 => forge.around(&forge.sign_targets(maker.next.editor.clone(), &stranger)),
                2 => {
                    let shape = Shape {
                        online_key: Some(&stranger),
                        ..Shape::default()
                    };
                    let foreign = forge.around_with(&maker.targets(), shape);
                    maker.with_snapshot(|_| foreign[&maker.snapshot_name()].clone())
                }
                _ => {
                    let shape = Shape {
                        online_key: Some(&stranger),
                        ..Shape::default()
                    };
                    forge.around_with(&maker.targets(), shape)
                }
            }
        },
    },
    Attack {
        id: "A3",
        what: "the author's list signed by the repository's key",
        attacker: "server",
        wanted: &[SIGNATURES],
        make: |maker, draws, _| {
            let expires = maker
                .forge
                .now
                .plus_seconds(DAY + i64::try_from(draws.below(1 << 20)).unwrap_or(0));
            let editor = maker.next.editor.clone().expires(expires);
            maker
                .forge
                .around(&maker.forge.sign_targets(editor, &maker.forge.online_key))
        },
    },
    Attack {
        id: "A4",
        what: "an entry more, which nobody signed",
        attacker: "server",
        wanted: &[SIGNATURES],
        make: |maker, draws, _| {
            maker.with_targets(|bytes| {
                json(bytes, |whole| {
                    let entry = whole["signed"]["targets"][&maker.next.name].clone();
                    let mut entry = entry;
                    entry["hashes"]["sha256"] = draws.hex(64).into();
                    whole["signed"]["targets"][format!("app/9.{}.0/app.tar", draws.below(1 << 30))] = entry;
                })
            })
        },
    },
    Attack {
        id: "A5",
        what: "metadata without a signature",
        attacker: "server",
        wanted: &[SIGNATURES],
        make: |maker, _, number| {
            maker.with_each(number, |bytes| {
                json(bytes, |whole| whole["signatures"] = Value::Array(Vec::new()))
            })
        },
    },
    Attack {
        id: "A7",
        what: "an older version announced again",
        attacker: "server",
        wanted: &["names version"],
        make: |maker, draws, number| {
            let forge = maker.forge;
            let old = 1 + draws.number() % (forge.version - 2);
            let older = Shape {
                version: Some(old),
                ..Shape::default()
            };
            match number % 3 {
                0 => {
                    let extra = i64::try_from(draws.below(1 << 20)).unwrap_or(0);
                    let editor = forge
                        .editor()
                        .version(1)
                        .expires(forge.now.plus_seconds(DAY + extra));
                    forge.around(&forge.sign_targets(editor, &forge.targets_key))
                }
                1 => {
                    let mut set = forge.around_with(&maker.targets(), older);
                    let snapshot = set[&format!("{old}.snapshot.json")].clone();
                    set.extend(forge.timestamp_of(&snapshot, forge.version));
                    set
                }
                _ => forge.around_with(&maker.targets(), older),
            }
        },
    },
    Attack {
        id: "A8",
        what: "metadata that have expired",
        attacker: "server",
        wanted: &["expired at"],
        make: |maker, draws, number| {
            let forge = maker.forge;
            let past = forge
                .now
                .plus_seconds(-60 - i64::try_from(draws.below(170_000)).unwrap_or(0));
            let shape = Shape {
                signed_at: Some(forge.now.plus_seconds(-3 * DAY)),
                ..Shape::default()
            };
            match number % 3 {
                0 => {
                    let expired = maker.next.editor.clone().expires(past);
                    forge.around_with(&forge.sign_targets(expired, &forge.targets_key), shape)
                }
                1 => forge.around_with(
                    &maker.targets(),
                    Shape {
                        expires: Some(past),
                        timestamp_expires: Some(forge.now.plus_seconds(14 * DAY)),
                        ..shape
                    },
                ),
                _ => forge.around_with(
                    &maker.targets(),
                    Shape {
                        timestamp_expires: Some(past),
                        ..shape
                    },
                ),
            }
        },
    },
    Attack {
        id: "A12",
        what: "an entry renamed, its digest kept",
        attacker: "server",
        wanted: &[SIGNATURES],
        make: |maker, draws, _| {
            maker.with_targets(|bytes| {
                json(bytes, |whole| {
                    let targets = whole["signed"]["targets"].as_object_mut().expect("targets");
                    let entry = targets.remove(&maker.next.name).expect("listed");
                    targets.insert(format!("app/9.{}.0/app.tar", draws.below(1 << 30)), entry);
                })
            })
        },
    },
    Attack {
        id: "mix",
        what: "files of different states of the repository together",
        attacker: "server",
        wanted: &["hash that its parent names", "names version"],
        make: |maker, draws, number| {
            let forge = maker.forge;
            let targets = maker.targets();
            let mut set = forge.around(&targets);
            let later = forge
                .now
                .plus_seconds(13 * DAY + i64::try_from(draws.below(80_000)).unwrap_or(0));
            if number.is_multiple_of(2) {
                let other = maker.next.editor.clone().expires(later);
                set.insert(
                    maker.targets_name(&targets),
                    forge.sign_targets(other, &forge.targets_key),
                );
            } else {
                let shape = Shape {
                    expires: Some(later),
                    ..Shape::default()
                };
                let other = forge.around_with(&targets, shape);
                let name = maker.snapshot_name();
                set.insert(name.clone(), other[&name].clone());
            }
            set
        },
    },
    Attack {
        id: "root",
        what: "a root that skips versions, rightly signed",
        attacker: "server",
        wanted: &["must follow"],
        make: |maker, draws, _| {
            let mut set = right(maker);
            let version = 3 + draws.number() % (1 << 40);
            set.insert("2.root.json".into(), maker.forge.root_of_version(version));
            set
        },
    },
];

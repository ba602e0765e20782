//! Packages made by somebody who means harm, or by a careless tool: thousands of them, generated, each with
//! the right answer worked out from how it was made, never by the code under test.
//!
//! Whether a package is only looked at or unpacked, the answer is the same; what is refused names its entry.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use release::{Entry, Refusal, UnpackError, UnpackLimits, examine, unpack};
use tuf::Digest;

const MANIFEST: &[u8] =
    b"format = 1\ncomponent = \"tool\"\nversion = \"1.2\"\n[run]\nhow = \"exec\"\nprogram = \"tool\"\n";

/// An entry as it is written; any byte may be wrong.
#[derive(Debug, Clone)]
struct Raw {
    name: Vec<u8>,
    prefix: Vec<u8>,
    kind: u8,
    mode: Vec<u8>,
    size: Vec<u8>,
    link: Vec<u8>,
    magic: Vec<u8>,
    data: Vec<u8>,
    padding: u8,
}

/// Digits of eleven places, as a header has them.
fn octal(number: u64) -> Vec<u8> {
    format!("{number:011o}\0").into_bytes()
}

impl Raw {
    fn file(name: &str, data: &[u8]) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            prefix: Vec::new(),
            kind: b'0',
            mode: b"0000755\0".to_vec(),
            size: octal(data.len() as u64),
            link: Vec::new(),
            magic: b"ustar\x0000".to_vec(),
            data: data.to_vec(),
            padding: 0,
        }
    }

    fn folder(name: &str) -> Self {
        Self {
            kind: b'5',
            ..Self::file(&format!("{name}/"), b"")
        }
    }

    /// POSIX.1 ustar, field by field.
    fn bytes(&self) -> Vec<u8> {
        let mut header = [0; 512];
        let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
        put(0, &self.name);
        put(100, &self.mode);
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, &self.size);
        put(136, &octal(0));
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link);
        put(257, &self.magic);
        put(345, &self.prefix);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut all = header.to_vec();
        all.extend(&self.data);
        all.resize(all.len().next_multiple_of(512), self.padding);
        all
    }
}

fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut all: Vec<u8> = entries.iter().flat_map(Raw::bytes).collect();
    all.resize(all.len() + 1024, 0);
    all
}

/// A good package with some files and folders.
fn good() -> Vec<Raw> {
    vec![
        Raw::file("update.toml", MANIFEST),
        Raw::folder("payload"),
        Raw::file("payload/tool", b"#!/bin/sh\n"),
        Raw::folder("payload/lib"),
        Raw::file("payload/lib/one.txt", &[b'x'; 700]),
        Raw::file("payload/lib/two.txt", &[b'y'; 512]),
        Raw::file("payload/zero", b""),
    ]
}

/// What lies in a folder, by path.
fn tree(dir: &Path, below: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        assert!(kind.is_dir() || kind.is_file(), "{name} is neither");
        if kind.is_dir() {
            tree(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// Both ways to read a package; they must agree, and nothing may lie beside the folder.
fn read_both(bytes: &[u8], limits: &UnpackLimits) -> Result<Vec<Entry>, UnpackError> {
    let outer = tempfile::tempdir().unwrap();
    let dest = outer.path().join("dest");
    fs::create_dir(&dest).unwrap();
    let unpacked = unpack(bytes, &dest, limits);
    let examined = examine(bytes, limits);
    let names: Vec<_> = fs::read_dir(outer.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["dest"], "something got out");
    match (unpacked, examined) {
        (Ok(entries), Ok(examined)) => {
            assert_eq!(entries, examined.entries);
            let mut found = BTreeMap::new();
            tree(&dest, "", &mut found);
            let said = entries.iter().map(|entry| (entry.path.clone(), entry.digest));
            let lies = found
                .iter()
                .map(|(path, bytes)| (path.clone(), Digest::of(bytes)));
            assert_eq!(said.collect::<BTreeMap<_, _>>(), lies.collect::<BTreeMap<_, _>>());
            Ok(entries)
        }
        (Err(one), Err(two)) => {
            assert_eq!(one.to_string(), two.to_string());
            Err(one)
        }
        (Ok(_), Err(error @ (UnpackError::Manifest(_) | UnpackError::NoProgram { .. }))) => Err(error),
        (one, two) => panic!("unpacked: {one:?}, examined: {two:?}"),
    }
}

/// What must come of a package.
#[derive(Debug, Clone)]
enum Right {
    /// Refused with this entry and this rule.
    Refused(String, Refusal),
    /// Refused because of a path, whatever the rule's words.
    Path(String),
    /// The end is missing or something lies behind it.
    Cut,
    Behind,
    /// A header that is none.
    NoTar,
}

fn check(bytes: &[u8], right: &Right) {
    let error = read_both(bytes, &UnpackLimits::default()).expect_err(&format!("{right:?} was taken"));
    let good = match (right, &error) {
        (Right::Refused(name, rule), UnpackError::Refused { entry, why }) => name == entry && rule == why,
        (Right::Path(name), UnpackError::Refused { entry, why }) => {
            name == entry && matches!(why, Refusal::Path(_))
        }
        (
            Right::Cut,
            UnpackError::Cut { .. }
            | UnpackError::Refused {
                why: Refusal::Truncated { .. },
                ..
            },
        )
        | (Right::Behind, UnpackError::Behind { .. })
        | (Right::NoTar, UnpackError::Tar { .. }) => true,
        _ => false,
    };
    assert!(good, "{right:?}, but it is {error:?}");
    if let Right::Refused(name, _) | Right::Path(name) = right {
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
}

/// A hostile entry and what is right for it.
fn hostile() -> impl Strategy<Value = (Raw, Right)> {
    let name = "[a-z]{1,6}(/[a-z]{1,6}){0,2}".prop_map(|name| format!("payload/new-{name}"));
    (name, any::<u8>(), 0..26usize, any::<u64>()).prop_map(|(name, byte, which, number)| {
        let plain = Raw::file(&name, b"data");
        let refused = |raw: Raw, why| {
            let shown = String::from_utf8_lossy(&raw.name).into_owned();
            (raw, Right::Refused(shown, why))
        };
        let path = |text: String| (Raw::file(&text, b"data"), Right::Path(text));
        let of_kind = |kind: u8, why| {
            refused(
                Raw {
                    kind,
                    link: b"/etc/passwd".to_vec(),
                    data: Vec::new(),
                    size: octal(0),
                    ..plain.clone()
                },
                why,
            )
        };
        match which {
            0 => path(format!("{name}/../../../escape")),
            1 => path(format!("/{name}")),
            2 => path(format!("../{name}")),
            3 => path(format!("{name}/./x")),
            4 => path(format!("{name}//x")),
            5 => path(format!("{name}\n")),
            6 => path(format!("{name}\x7f\x1b[2J")),
            7 => path(format!("{name}\\x")),
            8 => path(format!("payload/{}x", "d/".repeat(15 + usize::from(byte % 20)))),
            9 => {
                let mut raw = plain;
                raw.name.extend([0, b'h', b'i', b'd']);
                let shown = String::from_utf8_lossy(&raw.name).into_owned();
                (raw, Right::Path(shown))
            }
            10 => refused(
                Raw {
                    name: [name.as_bytes(), &[0xff, 0xfe]].concat(),
                    ..plain
                },
                Refusal::NotUtf8,
            ),
            11 => of_kind(b'2', Refusal::SymbolicLink),
            12 => of_kind(b'1', Refusal::HardLink),
            13 => of_kind(b'3' + byte % 2, Refusal::Device),
            14 => of_kind(b'6', Refusal::Device),
            15 => of_kind(b'S', Refusal::Sparse),
            16 => {
                // Every type that is no file, folder, link, device, pipe or sparse file.
                let kind = if b"012345 6S\0".contains(&byte) || byte == b'6' {
                    b'x'
                } else {
                    byte
                };
                of_kind(kind, Refusal::Kind(char::from(kind)))
            }
            17 => refused(
                Raw {
                    name: format!("outside/{name}").into_bytes(),
                    ..plain
                },
                Refusal::Outside,
            ),
            18 => refused(
                Raw {
                    name: format!("payload{}", &name[7..]).replace('/', "-").into_bytes(),
                    ..plain
                },
                Refusal::Outside,
            ),
            19 => (
                Raw { kind: b'5', ..plain },
                Right::Refused(name, Refusal::FolderWithBytes),
            ),
            20 => refused(
                Raw {
                    padding: byte.max(1),
                    ..plain
                },
                Refusal::Padding,
            ),
            21 => refused(
                Raw {
                    size: b"four bytes!\0".to_vec(),
                    ..plain
                },
                Refusal::Number,
            ),
            22 => refused(
                Raw {
                    mode: b"rwxr-xr\0".to_vec(),
                    ..plain
                },
                Refusal::Number,
            ),
            23 => (
                Raw {
                    magic: b"\0\0\0\0\0\0\0\0".to_vec(),
                    ..plain
                },
                Right::NoTar,
            ),
            24 => {
                // A size that lies: more than there is, up to the limit of all.
                let size = 1_000_000 + number % 1_000_000_000;
                (
                    Raw {
                        size: octal(size),
                        ..plain
                    },
                    Right::Cut,
                )
            }
            _ => refused(
                Raw {
                    prefix: b"payload/other".to_vec(),
                    name: b"../x".to_vec(),
                    ..plain
                },
                Refusal::NotUtf8,
            )
            .map_path(),
        }
    })
}

trait MapPath {
    fn map_path(self) -> Self;
}

impl MapPath for (Raw, Right) {
    /// A path that is only bad when its two fields are put together.
    fn map_path(self) -> Self {
        let shown = format!(
            "{}/{}",
            String::from_utf8_lossy(&self.0.prefix),
            String::from_utf8_lossy(&self.0.name)
        );
        (self.0, Right::Path(shown))
    }
}

/// A good package with one entry that clashes with one before it.
fn clashing() -> impl Strategy<Value = (Vec<Raw>, Right)> {
    (2..7usize, 0..5usize).prop_map(|(at, which)| {
        let mut entries = good();
        let old = String::from_utf8(entries[at].name.clone()).unwrap();
        let bare = old.trim_end_matches('/').to_owned();
        let is_dir = old.ends_with('/');
        let upper = format!("payload/{}", bare["payload/".len()..].to_uppercase());
        let (new, entry, why) = match which {
            0 if is_dir => (Raw::folder(&bare), bare, Refusal::Twice),
            0 => (Raw::file(&bare, b"other"), bare, Refusal::Twice),
            1 if is_dir => (Raw::file(&bare, b""), bare, Refusal::FileAndFolder),
            1 => (Raw::folder(&bare), bare, Refusal::FileAndFolder),
            2 if !is_dir => {
                let below = format!("{bare}/below");
                (Raw::file(&below, b""), below, Refusal::FileAndFolder)
            }
            3 => {
                // Below a folder that has been spelt otherwise, the folder is what clashes first.
                let first = if bare.contains("/lib/") {
                    "payload/lib".to_owned()
                } else {
                    bare
                };
                (Raw::file(&upper, b""), upper, Refusal::Case(first))
            }
            _ => {
                let below = "payload/LIB/new".to_owned();
                (
                    Raw::file(&below, b""),
                    below,
                    Refusal::Case("payload/lib".to_owned()),
                )
            }
        };
        entries.push(new);
        (entries, Right::Refused(entry, why))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_hostile_entry_is_refused_by_name_wherever_it_stands((raw, right) in hostile(), at in any::<Index>()) {
        let mut entries = good();
        // Behind update.toml; a size that lies swallows what follows, so it stands last.
        let at = if matches!(right, Right::Cut) { entries.len() } else { 1 + at.index(entries.len()) };
        entries.insert(at, raw);
        check(&archive(&entries), &right);
    }

}

proptest! {
    // Every pair of an entry and a clash with it comes up many times.
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn names_that_clash_are_refused((entries, right) in clashing()) {
        check(&archive(&entries), &right);
    }
}

#[test]
fn the_package_that_the_others_are_made_from_is_good() {
    let entries = read_both(&archive(&good()), &UnpackLimits::default()).unwrap();
    assert_eq!(entries.len(), 5);
    // What tar programs fill up to a record is no data behind the end.
    let mut filled = archive(&good());
    filled.resize(filled.len().next_multiple_of(10_240), 0);
    assert_eq!(read_both(&filled, &UnpackLimits::default()).unwrap(), entries);
}

#[test]
fn a_package_cut_at_any_byte_is_refused() {
    let bytes = archive(&good());
    for cut in 0..bytes.len() {
        let error = examine(&bytes[..cut], &UnpackLimits::default()).unwrap_err();
        let is_cut = matches!(
            &error,
            UnpackError::NoManifest if cut < 512
        ) || matches!(
            &error,
            UnpackError::Cut { .. }
                | UnpackError::Refused {
                    why: Refusal::Truncated { .. },
                    ..
                }
        );
        assert!(is_cut, "cut at {cut}: {error}");
    }
    for cut in (512..bytes.len()).step_by(67) {
        check(&bytes[..cut], &Right::Cut);
    }
}

#[test]
fn what_lies_behind_the_end_is_refused() {
    let bytes = archive(&good());
    for behind in 1..2000 {
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + behind, 0);
        longer[bytes.len() + behind - 1] = 1;
        let error = examine(&longer[..], &UnpackLimits::default()).unwrap_err();
        assert!(
            matches!(error, UnpackError::Behind { .. }),
            "{behind} bytes: {error}"
        );
    }
    check(&[bytes.clone(), archive(&good())].concat(), &Right::Behind);
    let mut endless = bytes;
    endless.resize(1 << 20, 0);
    check(&endless, &Right::Behind);
}

/// Where a byte of `archive(good())` stands.
enum Place {
    /// In a header; whether in the two last bytes of its checksum, which mean nothing.
    Header {
        idle: bool,
    },
    /// In the data of this entry.
    Data(String),
    Padding,
    End,
}

fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for raw in good() {
        places.extend((0..512).map(|at| Place::Header {
            idle: (154..156).contains(&at),
        }));
        let name = String::from_utf8(raw.name).unwrap();
        places.extend(raw.data.iter().map(|_| Place::Data(name.clone())));
        let padded = raw.data.len().next_multiple_of(512);
        places.extend((raw.data.len()..padded).map(|_| Place::Padding));
    }
    places.extend((0..1024).map(|_| Place::End));
    places
}

#[test]
fn every_byte_that_is_changed_is_noticed_or_changes_that_file_alone() {
    let bytes = archive(&good());
    let before = examine(&bytes[..], &UnpackLimits::default()).unwrap().entries;
    let places = places();
    assert_eq!(places.len(), bytes.len());
    for (at, place) in places.iter().enumerate() {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let result = examine(&changed[..], &UnpackLimits::default());
            match (place, result) {
                (Place::Header { idle: true }, _)
                | (Place::Header { .. } | Place::Padding | Place::End, Err(_))
                // `update.toml` is read: a changed one may be none any more, or name another program.
                | (Place::Data(_), Err(UnpackError::Manifest(_) | UnpackError::NoProgram { .. })) => {}
                (Place::Data(name), Ok(examined)) => {
                    for (old, new) in before.iter().zip(&examined.entries) {
                        assert_eq!(old.digest == new.digest, old.path != *name, "byte {at}");
                    }
                }
                (_, result) => panic!("byte {at} ^ {flip:#x}: {result:?}"),
            }
        }
    }
}

#[test]
fn a_hundred_thousand_entries_are_refused_at_the_first_one_too_many() {
    /// Empty files without end, made as they are read.
    struct Endless {
        next: usize,
        ready: Vec<u8>,
    }
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.ready.is_empty() && self.next < 100_000 {
                self.ready = Raw::file(&format!("payload/{}", self.next), b"").bytes();
                self.next += 1;
            }
            let count = buffer.len().min(self.ready.len());
            buffer[..count].copy_from_slice(&self.ready[..count]);
            self.ready.drain(..count);
            Ok(count)
        }
    }
    let mut endless = Endless {
        next: 0,
        ready: Raw::file("update.toml", MANIFEST).bytes(),
    };
    let error = examine(&mut endless, &UnpackLimits::default()).unwrap_err();
    // update.toml, payload/ and 9998 files.
    assert!(
        matches!(&error, UnpackError::TooMany { entry, max: 10_000 } if entry == "payload/9998"),
        "{error}"
    );
    assert_eq!(endless.next, 9_999, "it read on");

    // Folders that no entry names count as well.
    let deep = |n: usize| Raw::file(&format!("payload/{n}/{}x", "d/".repeat(10)), b"");
    let mut entries = vec![Raw::file("update.toml", MANIFEST)];
    entries.extend((0..1000).map(deep));
    let error = read_both(&archive(&entries), &UnpackLimits::default()).unwrap_err();
    assert!(matches!(error, UnpackError::TooMany { .. }), "{error}");
}

#[test]
fn a_size_beyond_the_limit_is_refused_before_a_byte_is_read() {
    let limits = UnpackLimits {
        entries: 100,
        bytes: 4096,
    };
    for size in [
        octal(4097),
        b"77777777777\0".to_vec(),
        [&[0x80, 0, 0, 0][..], &u64::MAX.to_be_bytes()].concat(),
    ] {
        let mut entries = good();
        entries.insert(
            2,
            Raw {
                size,
                ..Raw::file("payload/bomb", b"")
            },
        );
        let error = read_both(&archive(&entries), &limits).unwrap_err();
        assert!(
            matches!(&error, UnpackError::TooLarge { entry, .. } if entry == "payload/bomb"),
            "{error}"
        );
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_not_the_packages_fault() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("bad sector"))
        }
    }
    let bytes = archive(&good());
    for cut in [0, 100, 512, 600, 1024, 3000] {
        let error = examine(bytes[..cut].chain(Broken), &UnpackLimits::default()).unwrap_err();
        assert!(matches!(error, UnpackError::Read(_)), "{error}");
    }
}

//! Packages: the same bytes every time, and nothing hostile gets out of one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use release::{PackError, Refusal, UnpackError, UnpackLimits, pack, read_manifest, unpack};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;
use tuf::Digest;

const MANIFEST: &str =
    "format = 1\ncomponent = \"tool\"\nversion = \"1.2\"\n[run]\nhow = \"exec\"\nprogram = \"bin/tool\"\n";

/// A folder ready to pack.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("payload/bin")).unwrap();
    fs::create_dir_all(dir.path().join("payload/empty")).unwrap();
    fs::write(dir.path().join("update.toml"), MANIFEST).unwrap();
    fs::write(dir.path().join("payload/bin/tool"), "#!/bin/sh\n").unwrap();
    fs::write(dir.path().join("payload/größe.txt"), vec![b'x'; 200_000]).unwrap();
    make_executable(&dir.path().join("payload/bin/tool"));
    dir
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn packed(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(dir, &mut bytes).unwrap();
    bytes
}

/// A package with entries that the tar library would not write.
struct Hostile(Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Self {
        let mut hostile = Self(Builder::new(Vec::new()));
        hostile.add("update.toml", EntryType::Regular, MANIFEST.as_bytes());
        hostile
    }

    fn add(&mut self, name: impl AsRef<[u8]>, kind: EntryType, data: &[u8]) -> &mut Self {
        self.add_sized(name, kind, data, data.len() as u64)
    }

    fn add_sized(&mut self, name: impl AsRef<[u8]>, kind: EntryType, data: &[u8], size: u64) -> &mut Self {
        let mut header = Header::new_ustar();
        let name = name.as_ref();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o4777);
        header.set_size(size);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Unpacks into a fresh folder below another, so that an escape would be seen.
fn try_unpack(bytes: &[u8], limits: &UnpackLimits) -> (TempDir, Result<Vec<release::Entry>, UnpackError>) {
    let outer = tempfile::tempdir().unwrap();
    let dest = outer.path().join("dest");
    fs::create_dir(&dest).unwrap();
    let result = unpack(bytes, &dest, limits);
    let names: Vec<_> = fs::read_dir(outer.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["dest"], "something got out");
    (outer, result)
}

fn refusal(name: impl AsRef<[u8]>, kind: EntryType) -> (String, Refusal) {
    let mut hostile = Hostile::new();
    hostile.add(name, kind, if kind.is_file() { b"data" } else { b"" });
    match try_unpack(&hostile.bytes(), &UnpackLimits::default()).1 {
        Err(UnpackError::Refused { entry, why }) => (entry, why),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_package_comes_back_as_it_was() {
    let (dir, dest) = (folder(), tempfile::tempdir().unwrap());
    let entries = unpack(&packed(dir.path())[..], dest.path(), &UnpackLimits::default()).unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|e| (e.path.as_str(), e.size, e.mode))
        .collect();
    assert_eq!(
        found,
        [
            ("update.toml", MANIFEST.len() as u64, 0o644),
            ("payload/bin/tool", 10, 0o755),
            ("payload/größe.txt", 200_000, 0o644),
        ]
    );
    for entry in &entries {
        let path = dest.path().join(&entry.path);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes, fs::read(dir.path().join(&entry.path)).unwrap());
        assert_eq!(Digest::of(&bytes), entry.digest);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, entry.mode);
    }
    assert!(dest.path().join("payload/empty").is_dir());
}

#[test]
fn the_same_content_is_the_same_bytes_whatever_its_times_and_owners() {
    let (one, two) = (folder(), folder());
    for name in ["payload/bin/tool", "payload/größe.txt"] {
        let path = two.path().join(name);
        let copy = fs::read(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o111;
        fs::remove_file(&path).unwrap();
        fs::write(&path, copy).unwrap();
        let bits = if mode == 0 { 0o600 } else { 0o700 };
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
    }
    assert_eq!(packed(one.path()), packed(two.path()));
    let known = Digest::of(&packed(one.path())).to_string();
    assert_eq!(
        known,
        packed_digest(),
        "the form of packages has changed: old ones pack to new digests"
    );
}

fn packed_digest() -> &'static str {
    "5fbf10f75318f5261f68d4d96022184b5a9b064dd0e71f3c9d69ac8ad505a845"
}

#[test]
fn other_tools_can_read_a_package() {
    let dir = folder();
    let bytes = packed(dir.path());
    let mut archive = tar::Archive::new(&bytes[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned())
        .collect();
    let expected = [
        "update.toml",
        "payload/",
        "payload/bin/",
        "payload/bin/tool",
        "payload/empty/",
        "payload/größe.txt",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_manifest_is_read_without_the_rest() {
    struct Counting<'a>(&'a [u8], usize);
    impl Read for Counting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1 += count;
            Ok(count)
        }
    }
    let dir = folder();
    let bytes = packed(dir.path());
    let mut counting = Counting(&bytes, 0);
    let manifest = read_manifest(&mut counting).unwrap();
    assert_eq!(manifest.component.as_str(), "tool");
    assert!(counting.1 <= 1024, "read {} bytes", counting.1);
    assert!(matches!(
        read_manifest(&b"#!/bin/sh\n"[..]),
        Err(UnpackError::NoManifest)
    ));
    assert!(matches!(
        read_manifest(&[0; 1024][..]),
        Err(UnpackError::NoManifest)
    ));
}

#[test]
fn names_that_leave_the_folder_are_refused_by_name() {
    for name in [
        "payload/../../escape",
        "payload/..",
        "payload/./x",
        "../escape",
        "/etc/passwd",
        "payload//x",
        "payload/a\\b",
        "payload/a\nb",
        "payload/a\x1b[2J",
    ] {
        let (entry, why) = refusal(name, EntryType::Regular);
        assert!(matches!(why, Refusal::Path(_)), "{name:?}: {why:?}");
        assert_eq!(entry, name);
    }
    let deep = format!("payload/{}x", "d/".repeat(20));
    assert!(matches!(refusal(deep, EntryType::Regular).1, Refusal::Path(_)));
    assert_eq!(refusal("elsewhere/x", EntryType::Regular).1, Refusal::Outside);
    assert_eq!(refusal("payloadx/x", EntryType::Regular).1, Refusal::Outside);
    assert_eq!(refusal("payload", EntryType::Regular).1, Refusal::Outside);
    assert_eq!(
        refusal(b"payload/\xff\xfe", EntryType::Regular).1,
        Refusal::NotUtf8
    );
}

#[test]
fn only_plain_files_and_folders_are_taken() {
    for (kind, expected) in [
        (EntryType::Symlink, Refusal::SymbolicLink),
        (EntryType::Link, Refusal::HardLink),
        (EntryType::Char, Refusal::Device),
        (EntryType::Block, Refusal::Device),
        (EntryType::Fifo, Refusal::Device),
        (EntryType::GNUSparse, Refusal::Sparse),
        (EntryType::GNULongName, Refusal::Kind('L')),
        (EntryType::GNULongLink, Refusal::Kind('K')),
        (EntryType::XHeader, Refusal::Kind('x')),
        (EntryType::XGlobalHeader, Refusal::Kind('g')),
        (EntryType::new(b'Z'), Refusal::Kind('Z')),
    ] {
        let (entry, why) = refusal("payload/thing", kind);
        assert_eq!((entry.as_str(), why), ("payload/thing", expected));
    }
}

#[test]
fn a_name_that_occurs_twice_is_refused() {
    for (first, second, kind, expected) in [
        ("payload/a", "payload/a", EntryType::Regular, Refusal::Twice),
        (
            "payload/a/",
            "payload/a",
            EntryType::Regular,
            Refusal::FileAndFolder,
        ),
        (
            "payload/a",
            "payload/a/b",
            EntryType::Regular,
            Refusal::FileAndFolder,
        ),
        (
            "payload/a",
            "payload/a/",
            EntryType::Directory,
            Refusal::FileAndFolder,
        ),
        ("payload/a/", "payload/a/", EntryType::Directory, Refusal::Twice),
        ("payload/a", "update.toml", EntryType::Regular, Refusal::Twice),
    ] {
        let mut hostile = Hostile::new();
        let first_kind = if first.ends_with('/') {
            EntryType::Directory
        } else {
            EntryType::Regular
        };
        hostile.add(first, first_kind, b"").add(second, kind, b"");
        match try_unpack(&hostile.bytes(), &UnpackLimits::default()).1 {
            Err(UnpackError::Refused { entry, why }) => {
                assert_eq!((entry.as_str(), why), (second.trim_end_matches('/'), expected));
            }
            other => panic!("{first} then {second}: {other:?}"),
        }
    }
}

#[test]
fn a_folder_may_follow_the_files_in_it() {
    let mut package = Hostile::new();
    package
        .add("payload/a/b", EntryType::Regular, b"x")
        .add("payload/a/", EntryType::Directory, b"");
    try_unpack(&package.bytes(), &UnpackLimits::default()).1.unwrap();
}

#[test]
fn set_user_bits_do_not_come_out() {
    let mut package = Hostile::new();
    package.add("payload/tool", EntryType::Regular, b"x"); // 4777 in its header
    let (outer, result) = try_unpack(&package.bytes(), &UnpackLimits::default());
    assert_eq!(result.unwrap()[1].mode, 0o755);
    let found = fs::metadata(outer.path().join("dest/payload/tool")).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o755);
}

#[test]
fn too_many_entries_and_too_many_bytes_are_refused_before_they_are_written() {
    let mut many = Hostile::new();
    for n in 0..20 {
        many.add(format!("payload/{n}"), EntryType::Regular, b"x");
    }
    let bytes = many.bytes();
    let limits = UnpackLimits {
        entries: 10,
        bytes: 1000,
    };
    let result = try_unpack(&bytes, &limits).1;
    assert!(
        matches!(&result, Err(UnpackError::TooMany { entry, max: 10 }) if entry == "payload/8"),
        "{result:?}"
    );

    let mut large = Hostile::new();
    large.add("payload/small", EntryType::Regular, &[0; 400]);
    large.add("payload/large", EntryType::Regular, &[0; 600]);
    let (outer, result) = try_unpack(
        &large.bytes(),
        &UnpackLimits {
            entries: 10,
            bytes: 1000,
        },
    );
    assert!(matches!(&result, Err(UnpackError::TooLarge { entry, .. }) if entry == "payload/large"));
    assert!(!outer.path().join("dest/payload/large").exists());
}

#[test]
fn a_size_that_lies_is_noticed() {
    let mut hostile = Hostile::new();
    hostile.add_sized("payload/liar", EntryType::Regular, b"short", 1 << 20);
    let bytes = hostile.bytes();
    match try_unpack(&bytes, &UnpackLimits::default()).1 {
        Err(UnpackError::Refused {
            entry,
            why: Refusal::Truncated { size: 1_048_576, .. },
        }) => {
            assert_eq!(entry, "payload/liar");
        }
        other => panic!("{other:?}"),
    }
    let mut hostile = Hostile::new();
    hostile.add_sized("payload/liar", EntryType::Regular, b"short", u64::MAX);
    assert!(try_unpack(&hostile.bytes(), &UnpackLimits::default()).1.is_err());
}

#[test]
fn a_package_begins_with_its_manifest() {
    let mut package = Hostile(Builder::new(Vec::new()));
    package
        .add("payload/x", EntryType::Regular, b"x")
        .add("update.toml", EntryType::Regular, b"");
    assert!(matches!(
        try_unpack(&package.bytes(), &UnpackLimits::default()).1,
        Err(UnpackError::NoManifest)
    ));
    assert!(matches!(
        try_unpack(&[0; 1024], &UnpackLimits::default()).1,
        Err(UnpackError::NoManifest)
    ));
    assert!(matches!(
        try_unpack(&[], &UnpackLimits::default()).1,
        Err(UnpackError::NoManifest)
    ));
}

#[test]
fn a_folder_in_use_is_not_unpacked_into() {
    let (dir, dest) = (folder(), tempfile::tempdir().unwrap());
    fs::write(dest.path().join("file"), "mine").unwrap();
    let result = unpack(&packed(dir.path())[..], dest.path(), &UnpackLimits::default());
    assert!(matches!(result, Err(UnpackError::NotEmpty { .. })));
}

#[test]
fn a_folder_that_is_no_package_is_refused_with_the_remedy() {
    let check = |spoil: &dyn Fn(&Path), expected: &dyn Fn(&PackError) -> bool| {
        let dir = folder();
        spoil(dir.path());
        let error = pack(dir.path(), io::sink()).unwrap_err();
        assert!(expected(&error), "{error:?}");
    };
    check(
        &|dir| symlink("/etc/passwd", dir.join("payload/link")).unwrap(),
        &|e| matches!(e, PackError::WrongType { .. }),
    );
    check(
        &|dir| fs::remove_file(dir.join("payload/bin/tool")).unwrap(),
        &|e| matches!(e, PackError::NoProgram { .. }),
    );
    check(
        &|dir| {
            let plain = fs::Permissions::from_mode(0o644);
            fs::set_permissions(dir.join("payload/bin/tool"), plain).unwrap();
        },
        &|e| e.to_string().contains("chmod +x"),
    );
    let transforming = |dir: &Path, program: &str| {
        let path = dir.join("update.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(
            &path,
            format!("{text}\n[state]\nfrom = [1]\nto = 2\ntransform = [\"{program}\"]\n"),
        )
        .unwrap();
    };
    check(
        &|dir| transforming(dir, "bin/migrate"),
        &|e| matches!(e, PackError::NoProgram { program } if program.as_str() == "bin/migrate"),
    );
    check(
        &|dir| {
            transforming(dir, "bin/migrate");
            fs::write(dir.join("payload/bin/migrate"), "#!/bin/sh\n").unwrap();
        },
        &|e| matches!(e, PackError::NotExecutable { program } if program.as_str() == "bin/migrate"),
    );
    check(
        &|dir| fs::write(dir.join("update.toml"), "format = 1\nx = 2\n").unwrap(),
        &|e| e.to_string().starts_with("update.toml line 1, column 1: "),
    );
    check(&|dir| fs::remove_file(dir.join("update.toml")).unwrap(), &|e| {
        e.to_string().contains("update.toml")
    });
    check(
        &|dir| {
            use std::os::unix::ffi::OsStrExt;
            let name = std::ffi::OsStr::from_bytes(b"payload/\xff");
            fs::write(dir.join(name), "").unwrap();
        },
        &|e| matches!(e, PackError::NotUtf8 { .. }),
    );
    check(
        &|dir| fs::write(dir.join(format!("payload/{}", "n".repeat(180))), "").unwrap(),
        &|e| matches!(e, PackError::TooLong { .. }),
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_packed_is_unpacked_the_same(
        files in proptest::collection::btree_map("[a-z]{1,3}(/[a-zü]{4,9}){0,3}\\.f", "[ -~]{0,300}", 0..12),
    ) {
        let (dir, dest) = (folder(), tempfile::tempdir().unwrap());
        for (name, content) in &files {
            let path = dir.path().join("payload").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let entries = unpack(&packed(dir.path())[..], dest.path(), &UnpackLimits::default()).unwrap();
        prop_assert_eq!(entries.len(), files.len() + 3);
        for (name, content) in &files {
            let found = fs::read_to_string(dest.path().join("payload").join(name)).unwrap();
            prop_assert_eq!(&found, content);
        }
    }

    #[test]
    fn no_bytes_make_unpacking_panic_or_escape(
        name in proptest::collection::vec(any::<u8>(), 0..100),
        kind in any::<u8>(),
        data in proptest::collection::vec(any::<u8>(), 0..600),
        claimed in prop_oneof![Just(None), any::<u64>().prop_map(Some)],
    ) {
        let mut hostile = Hostile::new();
        let size = claimed.unwrap_or(data.len() as u64) % (1 << 33);
        hostile.add_sized(&name, EntryType::new(kind), &data, size);
        let _ = try_unpack(&hostile.bytes(), &UnpackLimits { entries: 100, bytes: 1 << 20 });
    }
}

#[test]
fn what_would_be_refused_when_unpacked_is_not_packed() {
    let refused = |spoil: &dyn Fn(&Path), words: &str| {
        let dir = folder();
        spoil(dir.path());
        let error = pack(dir.path(), io::sink()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let case = |dir: &Path| fs::write(dir.join("payload/Größe.txt"), "").unwrap();
    refused(&case, "payload/größe.txt and payload/Größe.txt differ only");
    refused(
        &|dir| fs::create_dir(dir.join("payload/BIN")).unwrap(),
        "differ only",
    );
    refused(
        &|dir| fs::write(dir.join("payload/a\nb"), "").unwrap(),
        "control character",
    );
    let elsewhere = |dir: &Path| {
        fs::rename(dir.join("update.toml"), dir.join("other.toml")).unwrap();
        symlink(dir.join("other.toml"), dir.join("update.toml")).unwrap();
    };
    refused(&elsewhere, "update.toml is not a plain file");
    let linked = |dir: &Path| {
        fs::rename(dir.join("payload"), dir.join("other")).unwrap();
        symlink(dir.join("other"), dir.join("payload")).unwrap();
    };
    refused(&linked, "payload is not a plain file");
    let huge = |dir: &Path| {
        let file = fs::File::create(dir.join("payload/huge")).unwrap();
        file.set_len(release::limits::PACKAGE_BYTES).unwrap();
    };
    refused(&huge, "payload/huge makes it more than");
    refused(
        &|dir| fs::write(dir.join("update.toml"), b"format = 1\nvendor = \"M\xfcller\"\n").unwrap(),
        "line 2, column 12: this is not UTF-8",
    );
}

#[test]
fn bytes_do_not_depend_on_the_order_in_which_files_were_made_or_on_their_times() {
    let files: Vec<(String, Vec<u8>)> = (0..60u32)
        .map(|n| {
            (
                format!("payload/{}/file{}", n % 7, n * 7919 % 1000),
                n.to_le_bytes().to_vec(),
            )
        })
        .collect();
    let make = |order: &mut dyn Iterator<Item = &(String, Vec<u8>)>, age: u64| {
        let dir = folder();
        for (name, bytes) in order {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age);
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
        packed(dir.path())
    };
    assert_eq!(
        make(&mut files.iter(), 0),
        make(&mut files.iter().rev(), 2_000_000_000)
    );
}

/// A module is given plain files: a folder is named, when packing and when reading.
#[test]
fn a_package_for_a_module_has_plain_files_only() {
    let dir = tempfile::tempdir().unwrap();
    let text = "format = 1\ncomponent = \"base\"\nversion = \"1.0\"\nkind = \"module:deb\"\n";
    fs::write(dir.path().join("update.toml"), text).unwrap();
    let payload = dir.path().join("payload");
    fs::create_dir(&payload).unwrap();
    fs::write(payload.join("base.deb"), "bytes").unwrap();
    let good = packed(dir.path());
    let found = release::examine(&good[..], &UnpackLimits::default()).unwrap();
    let paths: Vec<&str> = found.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["update.toml", "payload/base.deb"]);
    assert!(found.head.is_empty());

    fs::create_dir(payload.join("more")).unwrap();
    match pack(dir.path(), io::sink()) {
        Err(PackError::Folder { path }) => assert_eq!(path, payload.join("more")),
        other => panic!("{other:?}"),
    }
    let mut nested = Hostile(Builder::new(Vec::new()));
    nested.add("update.toml", EntryType::Regular, text.as_bytes());
    nested.add("payload/more/base.deb", EntryType::Regular, b"bytes");
    match release::examine(&nested.bytes()[..], &UnpackLimits::default()) {
        Err(UnpackError::Folder { path }) => assert_eq!(path, "payload/more/base.deb"),
        other => panic!("{other:?}"),
    }
}

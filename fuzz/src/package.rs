//! A release's package, as the author's desk looks into it and as a device unpacks it: both say the same, and nothing
//! is written outside.

use std::cell::LazyCell;

use release::{UnpackLimits, examine, read_manifest, unpack};

const BLOCK: usize = 512;
/// Small, so that they are met.
const LIMITS: UnpackLimits = UnpackLimits {
    entries: 16,
    bytes: 64 << 10,
};

/// A folder below `TMPDIR`, which had better be in memory.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn entry(name: &str, kind: u8, mode: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, mode.as_bytes());
    put(108, b"0000000\x000000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let mut bytes = [&header, content].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

pub fn seeds() -> Vec<Vec<u8>> {
    let manifest = crate::manifest::TEXT.as_bytes();
    let first = entry("update.toml", b'0', "0000644\0", manifest);
    let program = entry("payload/thermostat", b'0', "0000755\0", b"#!/bin/sh\n");
    let folder = entry("payload/folder/", b'5', "0000755\0", b"");
    let link = entry("payload/link", b'2', "0000777\0", b"");
    let outside = entry("payload/../../outside", b'0', "0000644\0", b"x");
    let long = entry("payload/folder/long", b'0', "0000644\0", &[7; 1200]);
    let end = vec![0; 2 * BLOCK];
    let package = |entries: &[&Vec<u8>]| {
        let mut all = vec![1];
        entries.iter().for_each(|entry| all.extend(*entry));
        all.extend(&end);
        all
    };
    vec![
        package(&[&first, &program]),
        package(&[&first, &folder, &long, &program]),
        package(&[&first, &program, &link]),
        package(&[&first, &outside, &program]),
    ]
}

/// The first byte says whether the headers' checksums are made right, without which nearly nothing else is reached.
pub fn run(data: &[u8]) {
    let Some((first, package)) = data.split_first() else {
        return;
    };
    let mut package = package.to_vec();
    if first % 2 == 1 {
        mend_checksums(&mut package);
    }
    thread_local! {
        static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(folder);
    }
    let folder = FOLDER.with(|folder| folder.path().to_owned());
    let inside = folder.join("inside");
    std::fs::create_dir(&inside).expect("a folder");
    let (looked, unpacked) = (
        examine(&package[..], &LIMITS),
        unpack(&package[..], &inside, &LIMITS),
    );
    let _ = read_manifest(&package[..]);
    let names: Vec<_> = std::fs::read_dir(&folder).expect("a folder").collect();
    assert_eq!(names.len(), 1, "something lies outside");
    match (&looked, &unpacked) {
        (Ok(looked), Ok(entries)) => {
            assert_eq!(&looked.entries, entries);
            for entry in entries {
                let path = inside.join(&entry.path);
                let about = std::fs::symlink_metadata(&path).expect("an entry");
                assert!(about.is_file() && about.len() == entry.size, "{path:?}");
            }
        }
        (Ok(_), Err(error)) => panic!("looked at and not unpacked: {error}"),
        (Err(error), _) => assert!(!error.to_string().is_empty()),
    }
    std::fs::remove_dir_all(&inside).expect("removed");
}

/// Every block that may be a header gets the checksum of one.
fn mend_checksums(package: &mut [u8]) {
    for block in package.chunks_exact_mut(BLOCK) {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

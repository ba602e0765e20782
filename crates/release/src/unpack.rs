//! A package taken apart: unpacked into a folder, or only looked at.
//!
//! Nothing in it can reach outside the folder it is unpacked into, or fill the disk; what is refused, and
//! why, is said in `archive`.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tuf::Digest;

use crate::archive::{Archive, Item};
use crate::limits;
use crate::live::Live;
use crate::manifest::{Manifest, ManifestError};
use crate::pack::{PAYLOAD, PackedFile};
use crate::run::How;
use crate::state::State;

/// What a package may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Entries, `update.toml` and folders included.
    pub entries: usize,
    /// Bytes of all files together.
    pub bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            entries: limits::PACKAGE_ENTRIES,
            bytes: limits::PACKAGE_BYTES,
        }
    }
}

/// A file that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below the folder: `update.toml` or `payload/…`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// 0644 or 0755.
    pub mode: u32,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

impl From<Entry> for PackedFile {
    fn from(entry: Entry) -> Self {
        Self {
            path: entry.path,
            size: entry.size,
            executable: entry.mode & 0o111 != 0,
        }
    }
}

/// Why a package was refused. What had been unpacked before is left for the caller to remove.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// An entry that a package may not have.
    #[error("the package's entry {entry:?} is refused: {why}")]
    Refused {
        /// The entry's name, shortened.
        entry: String,
        /// Which rule it breaks.
        why: Refusal,
    },
    /// Not a tar, or a damaged one.
    #[error(
        "the package is no plain tar or damaged after entry {after:?}: {why}; make it with `admin-gui pack`"
    )]
    Tar {
        /// The last entry that was read.
        after: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It ends too early.
    #[error("the package is cut after entry {after:?}: copy it again")]
    Cut {
        /// The last entry that was begun.
        after: String,
    },
    /// Something lies behind its end.
    #[error("the package goes on behind its end, after entry {after:?}: make it with `admin-gui pack`")]
    Behind {
        /// The last entry.
        after: String,
    },
    /// Its bytes could not be read.
    #[error("cannot read the package")]
    Read(#[source] io::Error),
    /// The first entry is not `update.toml`.
    #[error("the package does not begin with update.toml: make it with `admin-gui pack`")]
    NoManifest,
    /// The `update.toml` in it is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// `[run] program` or a `transform` names nothing.
    #[error("the program {program} that update.toml names is not in it: add it or correct update.toml")]
    NoProgram {
        /// Its name in the package.
        program: String,
    },
    /// `how = "exec"` without the permission.
    #[error("the program {program} is not executable in it: run chmod +x on it and pack again")]
    NotExecutable {
        /// Its name in the package.
        program: String,
    },
    /// A folder among the files for a module, which takes plain files.
    #[error("{path} is in a folder or is one: a module is given plain files")]
    Folder {
        /// Its name in the package.
        path: String,
    },
    /// More entries than allowed.
    #[error("the package has more than {max} entries (the next is {entry:?})")]
    TooMany {
        /// The first one too many.
        entry: String,
        /// The limit.
        max: usize,
    },
    /// More bytes than allowed.
    #[error("the package holds more than {max} bytes (at entry {entry:?})")]
    TooLarge {
        /// The entry that goes beyond.
        entry: String,
        /// The limit.
        max: u64,
    },
    /// The folder to unpack into is not empty.
    #[error("{} is not empty: a package is unpacked into an empty folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The rule an entry breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Bytes that are no UTF-8.
    #[error("its name is not UTF-8")]
    NotUtf8,
    /// `..`, absolute, control characters, too long.
    #[error("{0}")]
    Path(String),
    /// Outside `payload/`.
    #[error("it is not under payload/")]
    Outside,
    /// A symbolic link.
    #[error("it is a symbolic link")]
    SymbolicLink,
    /// A hard link.
    #[error("it is a hard link")]
    HardLink,
    /// A device or pipe.
    #[error("it is a device or pipe")]
    Device,
    /// A sparse file.
    #[error("it is a sparse file")]
    Sparse,
    /// Long names, extended attributes and the like.
    #[error("it is of an unknown kind ({0:?})")]
    Kind(char),
    /// A number in its header is none.
    #[error("its size or mode is no number")]
    Number,
    /// A folder with a size.
    #[error("it is a folder with bytes of its own")]
    FolderWithBytes,
    /// Bytes between its end and the next entry.
    #[error("there are bytes between its end and the next entry")]
    Padding,
    /// Another entry's name in other cases.
    #[error("it differs from {0:?} only in upper and lower case")]
    Case(String),
    /// The same name twice.
    #[error("its name occurs twice")]
    Twice,
    /// A file where a folder is needed, or the reverse.
    #[error("it is both a file and a folder")]
    FileAndFolder,
    /// Fewer bytes than its header says.
    #[error("it ends after {have} of {size} bytes")]
    Truncated {
        /// Bytes found.
        have: u64,
        /// Bytes announced.
        size: u64,
    },
}

/// SHA-256 over a file in pieces, so that a caller with a faster one can bring it.
pub trait FileHash {
    /// Takes the next piece.
    fn update(&mut self, bytes: &[u8]);
    /// The digest of all pieces.
    fn finish(self) -> Digest;
}

/// The hash of this crate: pure Rust.
#[derive(Default)]
struct PureSha256(Sha256);

impl FileHash for PureSha256 {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

/// Unpacks a package into the empty folder `dest`.
///
/// Files are created, never replaced, with modes 0644 and 0755, folders 0755. Nothing is flushed:
/// call `durable::sync_tree` afterwards. Gives the files in their order, `update.toml` first.
///
/// # Errors
/// [`UnpackError`] names the entry; remove `dest` then.
pub fn unpack(reader: impl Read, dest: &Path, limits: &UnpackLimits) -> Result<Vec<Entry>, UnpackError> {
    unpack_with(reader, dest, limits, PureSha256::default)
}

/// [`unpack`] with a SHA-256 of the caller's choice.
///
/// # Errors
/// As for [`unpack`].
pub fn unpack_with<H: FileHash>(
    reader: impl Read,
    dest: &Path,
    limits: &UnpackLimits,
    hash: impl Fn() -> H,
) -> Result<Vec<Entry>, UnpackError> {
    check_empty(dest)?;
    let mut archive = Archive::new(reader, *limits);
    let mut folders = Folders {
        dest,
        made: HashSet::new(),
    };
    let mut done = Vec::new();
    while let Some(item) = archive.next()? {
        if item.is_dir {
            folders.make(&item.name)?;
            continue;
        }
        if let Some((folder, _)) = item.name.rsplit_once('/') {
            folders.make(folder)?;
        }
        let path = dest.join(&item.name);
        let mut file = create(&path, item.mode)?;
        let mut hasher = hash();
        archive.data(&item, |bytes| {
            hasher.update(bytes);
            file.write_all(bytes).map_err(|e| failed("write", &path, e))
        })?;
        done.push(entry(item, hasher));
    }
    Ok(done)
}

fn entry(item: Item, hasher: impl FileHash) -> Entry {
    Entry {
        path: item.name,
        size: item.size,
        mode: item.mode,
        digest: hasher.finish(),
    }
}

/// A package that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// What its author says of it.
    pub manifest: Manifest,
    /// Its files, `update.toml` first.
    pub entries: Vec<Entry>,
    /// The program's first bytes, 512 at most.
    pub head: Vec<u8>,
}

/// Reads a package to its end and refuses what [`unpack()`] refuses, without writing anything; and what
/// could not run: a program that is not there or not executable.
///
/// # Errors
/// [`UnpackError`] names the entry.
pub fn examine(reader: impl Read, limits: &UnpackLimits) -> Result<Examined, UnpackError> {
    let mut archive = Archive::new(reader, *limits);
    let (manifest, first) = manifest_of(&mut archive)?;
    let program = manifest
        .run
        .as_ref()
        .map(|run| format!("{PAYLOAD}/{}", run.program));
    let mut head = Vec::new();
    let mut entries = vec![first];
    while let Some(item) = archive.next()? {
        let nested = item.name.matches('/').count() > 1 || item.is_dir && item.name != PAYLOAD;
        if nested && manifest.kind.module().is_some() {
            return Err(UnpackError::Folder { path: item.name });
        }
        if item.is_dir {
            continue;
        }
        let mut hasher = PureSha256::default();
        let is_program = program.as_ref() == Some(&item.name);
        archive.data(&item, |bytes| {
            hasher.update(bytes);
            if is_program {
                let room = limits::HEAD_BYTES - head.len();
                head.extend(bytes.iter().take(room));
            }
            Ok(())
        })?;
        entries.push(entry(item, hasher));
    }
    if let (Some(program), Some(run)) = (program, &manifest.run) {
        must_have(program, run.how == How::Exec, &entries)?;
    }
    let of_live = manifest.live.as_ref().and_then(Live::transformer);
    let transformers = manifest.state.as_ref().and_then(State::transformer).into_iter();
    for (program, _) in transformers.chain(of_live) {
        must_have(format!("{PAYLOAD}/{program}"), true, &entries)?;
    }
    Ok(Examined {
        manifest,
        entries,
        head,
    })
}

fn must_have(program: String, executable: bool, entries: &[Entry]) -> Result<(), UnpackError> {
    match entries.iter().find(|entry| entry.path == program) {
        None => Err(UnpackError::NoProgram { program }),
        Some(entry) if executable && entry.mode & 0o111 == 0 => Err(UnpackError::NotExecutable { program }),
        Some(_) => Ok(()),
    }
}

/// Reads the `update.toml` of a package without unpacking it; reads no further than that.
///
/// # Errors
/// [`UnpackError`]: not a package, or a wrong manifest.
pub fn read_manifest(reader: impl Read) -> Result<Manifest, UnpackError> {
    manifest_of(&mut Archive::new(reader, UnpackLimits::default())).map(|(manifest, _)| manifest)
}

fn manifest_of(archive: &mut Archive<impl Read>) -> Result<(Manifest, Entry), UnpackError> {
    let item = archive.next()?.ok_or(UnpackError::NoManifest)?;
    let mut bytes = Vec::new();
    let mut hasher = PureSha256::default();
    archive.data(&item, |piece| {
        hasher.update(piece);
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    let manifest = Manifest::parse_bytes(&bytes)?;
    Ok((manifest, entry(item, hasher)))
}

/// The folders below `dest`, which was empty at first.
struct Folders<'a> {
    dest: &'a Path,
    made: HashSet<String>,
}

impl Folders<'_> {
    /// Creates `name` and the folders above it.
    fn make(&mut self, name: &str) -> Result<(), UnpackError> {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        for end in ends {
            let folder = name.get(..end).unwrap_or_default();
            if self.made.contains(folder) {
                continue;
            }
            let path = self.dest.join(folder);
            fs::create_dir(&path).map_err(|e| failed("create", &path, e))?;
            let mode = Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(|e| failed("set the mode of", &path, e))?;
            self.made.insert(folder.to_owned());
        }
        Ok(())
    }
}

fn create(path: &Path, mode: u32) -> Result<File, UnpackError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|e| failed("create", path, e))?;
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(|e| failed("set the mode of", path, e))?;
    Ok(file)
}

fn check_empty(dest: &Path) -> Result<(), UnpackError> {
    let mut entries = fs::read_dir(dest).map_err(|e| failed("list", dest, e))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(UnpackError::NotEmpty {
            path: dest.to_owned(),
        }),
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> UnpackError {
    UnpackError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

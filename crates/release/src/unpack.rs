//! A package taken apart, trusting nothing in it.
//!
//! The package is signed, but its author may be careless or robbed: nothing in it can reach outside
//! the folder it is unpacked into, or fill the disk. Only plain files and folders under `payload/`,
//! after `update.toml`, are taken. Every refusal names the entry.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};
use tuf::Digest;

use crate::limits;
use crate::manifest::{Manifest, ManifestError};
use crate::name::{PayloadPath, shorten};
use crate::pack::{MANIFEST, PAYLOAD};

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
    #[error("the package is no tar or damaged after entry {after:?}")]
    Tar {
        /// The last entry that was read.
        after: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The first entry is not `update.toml`.
    #[error("the package does not begin with update.toml: make it with `admin-gui pack`")]
    NoManifest,
    /// The `update.toml` in it is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
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
    let mut unpacker = Unpacker::new(dest, *limits);
    let mut archive = Archive::new(reader);
    let entries = archive.entries().map_err(|e| unpacker.broken(e))?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|e| unpacker.broken(e))?;
        let header = Header::read(&entry)?;
        unpacker.admit(&header)?;
        if header.is_dir {
            unpacker.make_dir(&header)?;
        } else {
            let mut hasher = hash();
            unpacker.make_file(&header, &mut entry, |bytes| hasher.update(bytes))?;
            unpacker.done.push(Entry {
                path: header.name.clone(),
                size: header.size,
                mode: header.mode,
                digest: hasher.finish(),
            });
        }
        unpacker.last = header.name;
    }
    if unpacker.count == 0 {
        return Err(UnpackError::NoManifest);
    }
    Ok(unpacker.done)
}

/// Reads the `update.toml` of a package without unpacking it; reads no further than that.
///
/// # Errors
/// [`UnpackError`]: not a package, or a wrong manifest.
pub fn read_manifest(reader: impl Read) -> Result<Manifest, UnpackError> {
    let broken = |source| UnpackError::Tar {
        after: String::new(),
        source,
    };
    let mut archive = Archive::new(reader);
    let mut entries = archive.entries().map_err(broken)?.raw(true);
    let mut entry = entries.next().ok_or(UnpackError::NoManifest)?.map_err(broken)?;
    let header = Header::read(&entry)?;
    if header.name != MANIFEST || header.is_dir {
        return Err(UnpackError::NoManifest);
    }
    if header.size > limits::MANIFEST_BYTES {
        return Err(UnpackError::TooLarge {
            entry: header.name,
            max: limits::MANIFEST_BYTES,
        });
    }
    let mut text = String::new();
    entry.read_to_string(&mut text).map_err(broken)?;
    if text.len() as u64 != header.size {
        return Err(header.refuse(Refusal::Truncated {
            have: text.len() as u64,
            size: header.size,
        }));
    }
    Ok(Manifest::parse(&text)?)
}

/// What an entry claims to be, checked on its own.
struct Header {
    name: String,
    is_dir: bool,
    mode: u32,
    size: u64,
}

impl Header {
    fn read<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Self, UnpackError> {
        let bytes = entry.header().path_bytes();
        let refuse = |why| UnpackError::Refused {
            entry: shorten(&String::from_utf8_lossy(&bytes)),
            why,
        };
        let is_dir = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => false,
            EntryType::Directory => true,
            EntryType::Symlink => return Err(refuse(Refusal::SymbolicLink)),
            EntryType::Link => return Err(refuse(Refusal::HardLink)),
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Err(refuse(Refusal::Device)),
            EntryType::GNUSparse => return Err(refuse(Refusal::Sparse)),
            other => return Err(refuse(Refusal::Kind(char::from(other.as_byte())))),
        };
        let name = std::str::from_utf8(&bytes).map_err(|_| refuse(Refusal::NotUtf8))?;
        let name = if is_dir {
            name.strip_suffix('/').unwrap_or(name)
        } else {
            name
        };
        let path: PayloadPath = name
            .parse()
            .map_err(|e: crate::NameError| refuse(Refusal::Path(reason(e))))?;
        let damaged = |source| UnpackError::Tar {
            after: shorten(name),
            source,
        };
        let executable = entry.header().mode().map_err(damaged)? & 0o111 != 0;
        Ok(Self {
            name: path.as_str().to_owned(),
            is_dir,
            mode: if executable { 0o755 } else { 0o644 },
            size: entry.size(),
        })
    }

    fn refuse(&self, why: Refusal) -> UnpackError {
        UnpackError::Refused {
            entry: shorten(&self.name),
            why,
        }
    }
}

fn reason(error: crate::NameError) -> String {
    match error {
        crate::NameError::PayloadPath { why, .. } => why.to_owned(),
        other => other.to_string(),
    }
}

struct Unpacker<'a> {
    dest: &'a Path,
    limits: UnpackLimits,
    count: usize,
    bytes: u64,
    files: HashSet<String>,
    folders: HashSet<String>,
    /// Folders that had an entry of their own, not only files in them.
    named_folders: HashSet<String>,
    last: String,
    done: Vec<Entry>,
}

impl<'a> Unpacker<'a> {
    fn new(dest: &'a Path, limits: UnpackLimits) -> Self {
        Self {
            dest,
            limits,
            count: 0,
            bytes: 0,
            files: HashSet::new(),
            folders: HashSet::new(),
            named_folders: HashSet::new(),
            last: String::new(),
            done: Vec::new(),
        }
    }

    fn broken(&self, source: io::Error) -> UnpackError {
        UnpackError::Tar {
            after: shorten(&self.last),
            source,
        }
    }

    /// The rules that depend on what came before.
    fn admit(&mut self, header: &Header) -> Result<(), UnpackError> {
        self.count += 1;
        if self.count > self.limits.entries {
            return Err(UnpackError::TooMany {
                entry: shorten(&header.name),
                max: self.limits.entries,
            });
        }
        self.bytes = self.bytes.saturating_add(header.size);
        if self.bytes > self.limits.bytes {
            return Err(UnpackError::TooLarge {
                entry: shorten(&header.name),
                max: self.limits.bytes,
            });
        }
        if self.count == 1 {
            if header.name != MANIFEST || header.is_dir {
                return Err(UnpackError::NoManifest);
            }
            if header.size > limits::MANIFEST_BYTES {
                return Err(UnpackError::TooLarge {
                    entry: MANIFEST.to_owned(),
                    max: limits::MANIFEST_BYTES,
                });
            }
        } else {
            let below = header
                .name
                .strip_prefix(PAYLOAD)
                .is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && header.is_dir));
            if header.name == MANIFEST {
                return Err(header.refuse(Refusal::Twice));
            }
            if !below {
                return Err(header.refuse(Refusal::Outside));
            }
        }
        Ok(())
    }

    fn make_dir(&mut self, header: &Header) -> Result<(), UnpackError> {
        if self.files.contains(&header.name) {
            return Err(header.refuse(Refusal::FileAndFolder));
        }
        if !self.named_folders.insert(header.name.clone()) {
            return Err(header.refuse(Refusal::Twice));
        }
        self.make_folders(header, &header.name)
    }

    /// Creates `name` and the folders above it, which all lie in the fresh `dest`.
    fn make_folders(&mut self, header: &Header, name: &str) -> Result<(), UnpackError> {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        for end in ends {
            let folder = name.get(..end).unwrap_or_default();
            if self.folders.contains(folder) {
                continue;
            }
            if self.files.contains(folder) {
                return Err(header.refuse(Refusal::FileAndFolder));
            }
            let path = self.dest.join(folder);
            fs::create_dir(&path).map_err(|e| failed("create", &path, e))?;
            let mode = Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(|e| failed("set the mode of", &path, e))?;
            self.folders.insert(folder.to_owned());
        }
        Ok(())
    }

    fn make_file(
        &mut self,
        header: &Header,
        data: &mut impl Read,
        mut see: impl FnMut(&[u8]),
    ) -> Result<(), UnpackError> {
        if self.folders.contains(&header.name) {
            return Err(header.refuse(Refusal::FileAndFolder));
        }
        if !self.files.insert(header.name.clone()) {
            return Err(header.refuse(Refusal::Twice));
        }
        if let Some((folder, _)) = header.name.rsplit_once('/') {
            self.make_folders(header, folder)?;
        }
        let path = self.dest.join(&header.name);
        let mut file = create(&path, header.mode)?;
        let mut buffer = vec![0; limits::BUFFER_BYTES];
        let mut have = 0;
        loop {
            let count = match data.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(UnpackError::Tar {
                        after: shorten(&header.name),
                        source: e,
                    });
                }
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            see(bytes);
            file.write_all(bytes).map_err(|e| failed("write", &path, e))?;
            have += count as u64;
        }
        if have == header.size {
            Ok(())
        } else {
            Err(header.refuse(Refusal::Truncated {
                have,
                size: header.size,
            }))
        }
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

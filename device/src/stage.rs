//! Releases on disk: unpacked, flushed, in a folder named by their digest, with a record of every file.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use durable::{Files, Hasher, HashingReader, Record, RecordError, hash_file};
use release::{
    Arch, FileHash, Form, How, Kind, PayloadPath, Release, Run, State, UnpackError, UnpackLimits, unpack_with,
};
use serde::{Deserialize, Serialize};
use tuf::Digest;

use crate::layout::Layout;
use crate::limits::ELF_HEAD;

/// What lies in a release's folder, and what it must still be when it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Its author's description, as it was signed.
    pub release: Release,
    /// Every file.
    pub files: Vec<StagedFile>,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Below the release's folder.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub digest: Digest,
}

/// Why a release is not, or no longer, as it should be.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The package is refused.
    #[error(transparent)]
    Unpack(UnpackError),
    /// The package does not contain what its description says.
    #[error("the release has no file {0}, which its description names as a program")]
    NoProgram(String),
    /// An agent for another machine.
    #[error("the agent in it is built for {0}, this device is another one")]
    OtherProcessor(Arch),
    /// A folder among the files for a module.
    #[error("{0} is in a folder: a module is given plain files")]
    Folder(String),
    /// The bytes on disk are not those that were verified.
    #[error("the downloaded file was changed on this disk")]
    Changed,
    /// A staged file is not what it was.
    #[error("{path} of the installed release was changed on this disk")]
    FileChanged {
        /// Which.
        path: String,
    },
    /// The release's folder is gone or has no record.
    #[error("the release {0} is not on this disk")]
    Missing(Digest),
    /// The release's record is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] durable::Error),
    /// The disk refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StageError {
    /// Whether the release itself is at fault, not this disk.
    #[must_use]
    pub fn blames_release(&self) -> bool {
        match self {
            Self::Unpack(UnpackError::Io { .. } | UnpackError::Read(_) | UnpackError::NotEmpty { .. }) => {
                false
            }
            Self::Unpack(_) | Self::NoProgram(_) | Self::OtherProcessor(_) | Self::Folder(_) => true,
            _ => false,
        }
    }
}

/// SHA-256 of aws-lc for unpacked files.
#[derive(Default)]
struct Fast(Hasher);

impl FileHash for Fast {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}

fn record(files: &Files, folder: &Path) -> Record<Staged> {
    Record::on(files.clone(), folder.join("release.rec"), "release", 1)
}

/// Puts the verified file at `source` in place as a release; durable and whole when it returns.
///
/// # Errors
/// [`StageError`]; nothing is left behind then.
pub fn stage(
    files: &Files,
    layout: &Layout,
    digest: &Digest,
    release: &Release,
    source: &Path,
) -> Result<Staged, StageError> {
    let unfinished = layout.releases().join(format!("{digest}.tmp"));
    files.remove_tree(&unfinished)?;
    let staged = fill(files, &unfinished, digest, release, source).and_then(|staged| {
        files.sync_tree(&unfinished)?;
        files.remove_tree(&layout.release(digest))?;
        files.rename_dir(&unfinished, &layout.release(digest))?;
        Ok(staged)
    });
    if staged.is_err() {
        // Also on a full disk: removing needs no room.
        files.remove_tree(&unfinished).ok();
    }
    staged
}

fn fill(
    files: &Files,
    folder: &Path,
    digest: &Digest,
    release: &Release,
    source: &Path,
) -> Result<Staged, StageError> {
    files.create_dir(&layout_parent(folder), 0o755)?;
    let made = fs::create_dir(folder).and_then(|()| fs::set_permissions(folder, mode(0o755)));
    made.map_err(io_at("create", folder))?;
    let listed = match &release.run {
        Some(run) => {
            let listed = place_program(files, folder, digest, release, run, source)?;
            if release.kind == Kind::Agent {
                check_processor(&folder.join("payload").join(run.program.as_str()))?;
            }
            listed
        }
        None => place_files(folder, digest, source)?,
    };
    let staged = Staged {
        release: release.clone(),
        files: listed,
    };
    record(files, folder).save(&staged)?;
    Ok(staged)
}

/// The files of an application.
fn place_program(
    files: &Files,
    folder: &Path,
    digest: &Digest,
    release: &Release,
    run: &Run,
    source: &Path,
) -> Result<Vec<StagedFile>, StageError> {
    let program = format!("payload/{}", run.program);
    let listed = match release.form {
        Form::Package => unpack_package(folder, digest, source)?,
        Form::Single => vec![place_single(files, folder, digest, source, &program)?],
    };
    let must_have = |name: &PayloadPath| {
        let path = format!("payload/{name}");
        match listed.iter().any(|file| file.path == path) {
            true => Ok(folder.join(path)),
            false => Err(StageError::NoProgram(name.to_string())),
        }
    };
    must_have(&run.program)?;
    if let Some((name, _)) = release.state.as_ref().and_then(State::transformer) {
        let path = must_have(&name)?;
        fs::set_permissions(&path, mode(0o755)).map_err(io_at("make executable", &path))?;
    }
    if run.how == How::Exec {
        let path = folder.join(&program);
        fs::set_permissions(&path, mode(0o755)).map_err(io_at("make executable", &path))?;
    }
    Ok(listed)
}

/// A program for another processor ends no trial, it cannot even begin one.
fn check_processor(program: &Path) -> Result<(), StageError> {
    let mut head = Vec::new();
    File::open(program)
        .and_then(|file| file.take(ELF_HEAD).read_to_end(&mut head))
        .map_err(io_at("read", program))?;
    match Arch::of_elf(&head) {
        Some(other) if Some(other) != Arch::here() => Err(StageError::OtherProcessor(other)),
        _ => Ok(()),
    }
}

/// The files for a module: plain ones only.
fn place_files(folder: &Path, digest: &Digest, source: &Path) -> Result<Vec<StagedFile>, StageError> {
    let listed = unpack_package(folder, digest, source)?;
    match listed.iter().find(|file| file.path.matches('/').count() > 1) {
        Some(nested) => Err(StageError::Folder(nested.path.clone())),
        None => Ok(listed),
    }
}

fn unpack_package(folder: &Path, digest: &Digest, source: &Path) -> Result<Vec<StagedFile>, StageError> {
    let file = File::open(source).map_err(io_at("read", source))?;
    let mut reader = HashingReader::new(file);
    let unpacked = unpack_with(&mut reader, folder, &UnpackLimits::default(), Fast::default);
    // To the end, also of one that is refused: what was changed on this disk is not its author's fault.
    io::copy(&mut reader, &mut io::sink()).map_err(io_at("read", source))?;
    if reader.finish().0 != *digest {
        return Err(StageError::Changed);
    }
    let entries = unpacked.map_err(StageError::Unpack)?;
    Ok(entries
        .into_iter()
        .map(|entry| StagedFile {
            path: entry.path,
            size: entry.size,
            digest: entry.digest,
        })
        .collect())
}

/// A single file is its own payload: linked, so that it lies on the disk once.
fn place_single(
    files: &Files,
    folder: &Path,
    digest: &Digest,
    source: &Path,
    program: &str,
) -> Result<StagedFile, StageError> {
    let path = folder.join(program);
    let parent = layout_parent(&path);
    fs::create_dir_all(&parent).map_err(io_at("create", &parent))?;
    files.link_or_copy(source, &path, 0o644)?;
    let (got, size) = hash_of(&path)?;
    if got != *digest {
        return Err(StageError::Changed);
    }
    Ok(StagedFile {
        path: program.to_owned(),
        size,
        digest: got,
    })
}

/// Reads what a release's folder should hold, and checks that it does: before each activation and launch.
///
/// # Errors
/// [`StageError`] names the first file that is not as it was.
pub fn verify(files: &Files, layout: &Layout, digest: &Digest) -> Result<Staged, StageError> {
    let staged = load(files, layout, digest)?;
    let folder = layout.release(digest);
    for file in &staged.files {
        let changed = || StageError::FileChanged {
            path: file.path.clone(),
        };
        let path = folder.join(&file.path);
        let found = fs::symlink_metadata(&path).map_err(|_| changed())?;
        if !found.is_file() || found.len() != file.size || hash_of(&path)?.0 != file.digest {
            return Err(changed());
        }
    }
    Ok(staged)
}

/// The record of a release, without looking at its files.
///
/// # Errors
/// It is not there, or damaged.
pub fn load(files: &Files, layout: &Layout, digest: &Digest) -> Result<Staged, StageError> {
    record(files, &layout.release(digest))
        .load()?
        .ok_or(StageError::Missing(*digest))
}

/// Removes every release, and every leftover of one, that is not in `keep`.
///
/// # Errors
/// Those of the disk.
pub fn collect(files: &Files, layout: &Layout, keep: &HashSet<Digest>) -> Result<usize, StageError> {
    let mut removed = 0;
    for (digest, path) in folders(layout)? {
        if !keep.contains(&digest) && files.remove_tree(&path)? {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Every release's folder, finished or not.
///
/// # Errors
/// Those of the disk.
pub fn folders(layout: &Layout) -> Result<Vec<(Digest, PathBuf)>, StageError> {
    let dir = layout.releases();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_at("list", &dir)(error)),
    };
    let named = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let digest = name.strip_suffix(".tmp").unwrap_or(&name).parse().ok()?;
        Some((digest, entry.path()))
    };
    Ok(entries.flatten().filter_map(named).collect())
}

fn hash_of(path: &Path) -> Result<(Digest, u64), StageError> {
    File::open(path).and_then(hash_file).map_err(io_at("read", path))
}

fn layout_parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

fn mode(bits: u32) -> fs::Permissions {
    fs::Permissions::from_mode(bits)
}

fn io_at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::Io { action, path, source }
}

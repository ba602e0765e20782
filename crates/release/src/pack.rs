//! A folder as one file, the same bytes every time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tar::{Builder, EntryType, Header};

use crate::limits;
use crate::live::Live;
use crate::manifest::{Manifest, ManifestError};
use crate::name::{NameError, PayloadPath};
use crate::run::How;
use crate::state::State;

/// The first entry of a package.
pub(crate) const MANIFEST: &str = "update.toml";
/// The folder that holds all others.
pub(crate) const PAYLOAD: &str = "payload";

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The release, as its `update.toml` says.
    pub manifest: Manifest,
    /// Entries written, `update.toml` included.
    pub entries: usize,
    /// Bytes of the files, without headers.
    pub bytes: u64,
    /// The files, in their order.
    pub files: Vec<PackedFile>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackedFile {
    /// Its name in the package.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Whether it may be started.
    pub executable: bool,
}

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read or the package not written.
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
    /// The folder's `update.toml` is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A name that cannot stand in a package.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name that is not UTF-8.
    #[error("{} is not UTF-8: rename it", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A link, device or socket.
    #[error("{} is not a plain file or folder, as it must be there: packages hold nothing else", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
    },
    /// A name whose parts do not fit a plain tar header.
    #[error("{path} is too long for a package: shorten it to 100 bytes")]
    TooLong {
        /// The path in the package.
        path: String,
    },
    /// Two names that differ only in case.
    #[error("payload/{one} and payload/{two} differ only in upper and lower case: rename one")]
    Case {
        /// The path below `payload/`.
        one: PayloadPath,
        /// The other.
        two: PayloadPath,
    },
    /// More bytes than a package may hold.
    #[error("{} makes it more than {max} bytes", path.display())]
    TooLarge {
        /// The file that goes beyond.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// More files than a package may hold.
    #[error("{} has more than {max} entries", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// A file grew or shrank meanwhile.
    #[error("{} changed while it was packed: pack it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// `[run] program` or a `transform` names nothing.
    #[error("update.toml: the program {program} is not in payload/")]
    NoProgram {
        /// The path below `payload/`.
        program: PayloadPath,
    },
    /// `how = "exec"`, or a program that transforms data, without the permission.
    #[error("the program payload/{program} is not executable: run chmod +x on it")]
    NotExecutable {
        /// The path below `payload/`.
        program: PayloadPath,
    },
    /// A folder among the files for a module, which takes plain files.
    #[error("{} is a folder: a module is given plain files, pack them into one if it must have folders", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
    },
}

/// Writes the package of the folder `dir` (`update.toml` and `payload/`) to `out`.
///
/// The bytes depend on names, contents and the executable bit only: entries are sorted, times and
/// owners are 0, modes 0644 or 0755.
///
/// # Errors
/// [`PackError`]; `out` then holds part of a package.
pub fn pack(dir: &Path, out: impl Write) -> Result<Packed, PackError> {
    let path = dir.join(MANIFEST);
    let text = read_manifest(&path)?;
    let manifest = Manifest::parse_bytes(&text)?;
    let payload = dir.join(PAYLOAD);
    must_be(&payload, fs::FileType::is_dir)?;
    let mut items = Vec::new();
    collect(&payload, "", &mut items)?;
    items.sort_by(|a, b| a.name.cmp(&b.name));
    check_names(&items)?;
    check_program(&manifest, &items)?;

    let mut builder = Builder::new(out);
    append(
        &mut builder,
        MANIFEST,
        0o644,
        EntryType::Regular,
        text.len() as u64,
        &text[..],
        &path,
    )?;
    append(
        &mut builder,
        "payload/",
        0o755,
        EntryType::Directory,
        0,
        io::empty(),
        &payload,
    )?;
    let mut bytes = text.len() as u64;
    let mut files = vec![PackedFile {
        path: MANIFEST.to_owned(),
        size: bytes,
        executable: false,
    }];
    for item in &items {
        let size = item.add(&mut builder, limits::PACKAGE_BYTES - bytes)?;
        bytes += size;
        if !item.is_dir {
            files.push(PackedFile {
                path: format!("{PAYLOAD}/{}", item.name),
                size,
                executable: item.executable,
            });
        }
    }
    let finish = |source| PackError::Io {
        action: "finish the package of",
        path: dir.to_owned(),
        source,
    };
    let mut out = builder.into_inner().map_err(finish)?;
    out.flush().map_err(finish)?;
    Ok(Packed {
        manifest,
        entries: items.len() + 2,
        bytes,
        files,
    })
}

struct Item {
    /// Below `payload/`.
    name: PayloadPath,
    path: PathBuf,
    is_dir: bool,
    executable: bool,
}

impl Item {
    /// Adds this file or folder if it has at most `room` bytes; gives its bytes.
    fn add(&self, builder: &mut Builder<impl Write>, room: u64) -> Result<u64, PackError> {
        let name = format!("{PAYLOAD}/{}", self.name);
        if self.is_dir {
            let name = format!("{name}/");
            append(
                builder,
                &name,
                0o755,
                EntryType::Directory,
                0,
                io::empty(),
                &self.path,
            )?;
            return Ok(0);
        }
        let read = |source| PackError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        };
        let file = File::open(&self.path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        if length > room {
            return Err(PackError::TooLarge {
                path: self.path.clone(),
                max: limits::PACKAGE_BYTES,
            });
        }
        let mode = if self.executable { 0o755 } else { 0o644 };
        let mut counted = Counted {
            inner: file.take(length),
            count: 0,
        };
        append(
            builder,
            &name,
            mode,
            EntryType::Regular,
            length,
            &mut counted,
            &self.path,
        )?;
        let rest = counted.inner.into_inner().read(&mut [0]).map_err(read)?;
        if counted.count != length || rest != 0 {
            return Err(PackError::Changed {
                path: self.path.clone(),
            });
        }
        Ok(length)
    }
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

fn append(
    builder: &mut Builder<impl Write>,
    name: &str,
    mode: u32,
    kind: EntryType,
    length: u64,
    data: impl Read,
    path: &Path,
) -> Result<(), PackError> {
    let mut header = Header::new_ustar();
    header.set_path(name).map_err(|_| PackError::TooLong {
        path: name.to_owned(),
    })?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(length);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    builder.append(&header, data).map_err(|source| PackError::Io {
        action: "pack",
        path: path.to_owned(),
        source,
    })
}

/// What is packed lies in the folder itself: a link could lead anywhere.
fn must_be(path: &Path, kind: impl FnOnce(&fs::FileType) -> bool) -> Result<(), PackError> {
    let found = fs::symlink_metadata(path).map_err(|source| PackError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    if kind(&found.file_type()) {
        Ok(())
    } else {
        let path = path.to_owned();
        Err(PackError::WrongType { path })
    }
}

fn read_manifest(path: &Path) -> Result<Vec<u8>, PackError> {
    must_be(path, fs::FileType::is_file)?;
    let failed = |source| PackError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limits::MANIFEST_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    Ok(text)
}

fn check_names(items: &[Item]) -> Result<(), PackError> {
    let mut seen = HashMap::new();
    for item in items {
        if let Some(two) = seen.insert(item.name.as_str().to_lowercase(), &item.name) {
            return Err(PackError::Case {
                one: item.name.clone(),
                two: two.clone(),
            });
        }
    }
    Ok(())
}

fn collect(dir: &Path, below: &str, items: &mut Vec<Item>) -> Result<(), PackError> {
    let failed = |source| PackError::Io {
        action: "list",
        path: dir.to_owned(),
        source,
    };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if items.len() + 2 >= limits::PACKAGE_ENTRIES {
            return Err(PackError::TooMany {
                path: dir.to_owned(),
                max: limits::PACKAGE_ENTRIES,
            });
        }
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| PackError::NotUtf8 { path: path.clone() })?;
        let name: PayloadPath = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        }
        .parse()?;
        let kind = entry.metadata().map_err(failed)?; // of the link itself, never what it points to
        if !kind.is_dir() && !kind.is_file() {
            return Err(PackError::WrongType { path });
        }
        let executable = kind.is_file() && kind.permissions().mode() & 0o111 != 0;
        items.push(Item {
            name: name.clone(),
            path: path.clone(),
            is_dir: kind.is_dir(),
            executable,
        });
        if kind.is_dir() {
            collect(&path, name.as_str(), items)?;
        }
    }
    Ok(())
}

fn check_program(manifest: &Manifest, items: &[Item]) -> Result<(), PackError> {
    let Some(run) = &manifest.run else {
        return match items.iter().find(|item| item.is_dir) {
            Some(folder) => Err(PackError::Folder {
                path: folder.path.clone(),
            }),
            None => Ok(()),
        };
    };
    must_have(&run.program, run.how == How::Exec, items)?;
    let of_live = manifest.live.as_ref().and_then(Live::transformer);
    let mut transformers = manifest
        .state
        .as_ref()
        .and_then(State::transformer)
        .into_iter()
        .chain(of_live);
    transformers.try_for_each(|(program, _)| must_have(&program, true, items))
}

fn must_have(program: &PayloadPath, executable: bool, items: &[Item]) -> Result<(), PackError> {
    let program = program.clone();
    match items.iter().find(|item| item.name == program && !item.is_dir) {
        None => Err(PackError::NoProgram { program }),
        Some(item) if executable && !item.executable => Err(PackError::NotExecutable { program }),
        Some(_) => Ok(()),
    }
}

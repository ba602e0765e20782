//! What a person chose to publish, understood: which component and version it is, how it runs, its bytes.
//!
//! A folder is packed into `drafts/`; a file stays where it is and is never changed. Faults of the content
//! are collected ([`Draft::faults`]) and shown by the preflight; only what keeps us from reading is an error.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use durable::StoreError;
use release::{Arch, Component, Form, Guess, Health, How, Manifest, PackedFile, PayloadPath, Run, Version};
use tuf::Digest;

use crate::limits::READ_BUFFER;
use crate::package::{Counted, keep};
use crate::progress::Sink;
use crate::reading::{Hashed, Seen, Stoppable, hash, read_head};
use crate::stop::{Stop, Stopped};
pub(crate) use protocol::chain;

/// What a person says about a file beside the file itself.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The component.
    pub component: Option<Component>,
    /// The version.
    pub version: Option<Version>,
    /// The processor.
    pub arch: Option<Arch>,
    /// What starts it.
    pub how: Option<How>,
    /// Words after the program.
    pub args: Vec<String>,
    /// How one knows that it is well.
    pub health: Option<Health>,
    /// Seconds to the first healthy answer.
    pub start_seconds: Option<u32>,
    /// Seconds it must stay healthy.
    pub probation_seconds: Option<u32>,
    /// What it is and what is new.
    pub description: Option<String>,
    /// Who sells it.
    pub vendor: Option<String>,
    /// Who wrote it.
    pub developer: Option<String>,
    /// Under which terms.
    pub license: Option<String>,
}

impl Options {
    /// Whether something is said that belongs into a package's `update.toml`.
    fn describes(&self) -> bool {
        self.arch.is_some()
            || self.how.is_some()
            || !self.args.is_empty()
            || self.health.is_some()
            || self.start_seconds.is_some()
            || self.probation_seconds.is_some()
            || [&self.description, &self.vendor, &self.developer, &self.license]
                .into_iter()
                .any(Option::is_some)
    }
}

/// A release that is not one yet.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What was chosen.
    pub source: PathBuf,
    /// The file with the bytes to upload.
    pub file: PathBuf,
    /// What it will be called in the repository.
    pub file_name: String,
    /// A package, or a file on its own.
    pub form: Form,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Which component, as far as known.
    pub component: Option<Component>,
    /// Which version, as far as known.
    pub version: Option<Version>,
    /// The description; none if there are faults.
    pub manifest: Option<Manifest>,
    /// Whether the program is an ELF file.
    pub is_elf: bool,
    /// The processor that the program's ELF header names; none if it is no ELF file or for an unknown one.
    pub found_arch: Option<Arch>,
    /// The processor that the author named.
    pub named_arch: Option<Arch>,
    /// The files of a package, as far as they could be read; empty for a file on its own.
    pub files: Vec<PackedFile>,
    /// What is wrong with the content.
    pub faults: Vec<String>,
    seen: Seen,
}

/// Why a draft cannot even be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Not there, not allowed, broken.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket, a device.
    #[error("{} is neither a file nor a folder", .0.display())]
    Kind(PathBuf),
    /// It was written to meanwhile.
    #[error("{} changed while it was read: wait until it is finished, then publish again", .0.display())]
    Changed(PathBuf),
    /// The place for packed folders.
    #[error("cannot keep the packed folder")]
    Store(#[from] StoreError),
    /// The place for packed folders.
    #[error("cannot use the folder for drafts")]
    Disk(#[from] durable::Error),
    /// A person ended it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl DraftError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}

impl Draft {
    /// Reads a file or folder once, to its end.
    ///
    /// # Errors
    /// [`DraftError`]; faults of the content are no errors but [`Draft::faults`].
    pub fn read(
        path: &Path,
        options: &Options,
        drafts: &Path,
        sink: &Sink,
        stop: &Stop,
    ) -> Result<Self, DraftError> {
        let mut draft = Self::look(path, options, sink, stop)?;
        draft.keep(drafts, stop)?;
        Ok(draft)
    }

    /// The same without keeping a packed folder: for a look at it, not for publishing.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn look(path: &Path, options: &Options, sink: &Sink, stop: &Stop) -> Result<Self, DraftError> {
        let meta = std::fs::metadata(path).map_err(|source| DraftError::read(path, source))?;
        if meta.is_dir() {
            Self::read_folder(path, options, sink, stop)
        } else if meta.is_file() {
            Self::read_file(path, meta.len(), options, (sink, stop))
        } else {
            Err(DraftError::Kind(path.to_owned()))
        }
    }

    /// Whether the bytes lie in `drafts/` and not in the author's own file.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.file != self.source
    }

    /// Whether the bytes may have changed since they were hashed.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        std::fs::metadata(&self.file).map_or(true, |meta| Seen::of(&meta) != self.seen)
    }

    fn read_file(
        path: &Path,
        length: u64,
        options: &Options,
        (sink, stop): (&Sink, &Stop),
    ) -> Result<Self, DraftError> {
        let read = if length > protocol::limits::MAX_TARGET {
            // Refused by its size: reading it to the end would cost minutes for nothing.
            Hashed::unread(path)?
        } else {
            hash(path, sink, stop)?
        };
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let guess = release::guess(&name, &read.head);
        let mut draft = Self {
            source: path.to_owned(),
            file: path.to_owned(),
            file_name: release::mend_file_name(&name),
            form: guess.form,
            length: read.seen.length,
            digest: read.digest,
            component: options.component.clone().or_else(|| guess.component.clone()),
            version: options.version.clone().or_else(|| guess.version.clone()),
            manifest: None,
            is_elf: false,
            found_arch: None,
            named_arch: options.arch,
            files: Vec::new(),
            faults: Vec::new(),
            seen: read.seen,
        };
        if draft.length == 0 {
            draft.faults.push("the file is empty".to_owned());
        }
        if guess.form == Form::Package && draft.length <= protocol::limits::MAX_TARGET {
            draft.take_package(options, stop)?;
        } else {
            draft.take_single(options, &guess, &read.head);
        }
        Ok(draft)
    }

    fn take_single(&mut self, options: &Options, guess: &Guess, head: &[u8]) {
        self.look_at_program(head);
        if self.component.is_none() {
            self.faults
                .push("the component's name is not in the file name: say --component NAME".to_owned());
        }
        if self.version.is_none() {
            self.faults
                .push("the version is not in the file name (Name_1.2.jar): say --version 1.2".to_owned());
        }
        let how = options.how.or(guess.how);
        if how.is_none() && self.length > 0 {
            let hint =
                "neither an ELF program, a script with #!, a JAR nor Python: say --how exec, jar or python";
            self.faults.push(hint.to_owned());
        }
        let program = self.file_name.parse::<PayloadPath>();
        if let Err(error) = &program {
            self.faults.push(error.to_string());
        }
        let (Some(component), Some(version), Some(how), Ok(program)) =
            (self.component.clone(), self.version.clone(), how, program)
        else {
            return;
        };
        let run = Run {
            args: options.args.clone(),
            ..Run::plain(how, program)
        };
        let mut manifest = Manifest::new(component, version, run);
        manifest.arch = options.arch.or(self.found_arch);
        if let Some(health) = &options.health {
            manifest.health = health.clone();
        }
        manifest.start_seconds = options.start_seconds.unwrap_or(manifest.start_seconds);
        manifest.probation_seconds = options.probation_seconds.unwrap_or(manifest.probation_seconds);
        manifest.about.description.clone_from(&options.description);
        manifest.about.vendor.clone_from(&options.vendor);
        manifest.about.developer.clone_from(&options.developer);
        manifest.about.license.clone_from(&options.license);
        self.manifest = Some(manifest);
    }

    /// A tar that is a package already: read to its end, by the rules of a device.
    fn take_package(&mut self, options: &Options, stop: &Stop) -> Result<(), DraftError> {
        let open = || {
            let inner = File::open(&self.file).map_err(|source| DraftError::read(&self.file, source))?;
            Ok::<_, DraftError>(io::BufReader::with_capacity(
                READ_BUFFER,
                Stoppable { inner, stop },
            ))
        };
        match release::examine(open()?, &release::UnpackLimits::default()) {
            Ok(examined) => {
                self.look_at_program(&examined.head);
                self.files = examined.entries.into_iter().map(PackedFile::from).collect();
                self.take_manifest(options, examined.manifest);
            }
            Err(_) if stop.is_stopped() => return Err(Stopped.into()),
            Err(release::UnpackError::Read(source)) => {
                return Err(DraftError::read(&self.file, source));
            }
            Err(error) => {
                self.faults.push(chain(&error));
                // For the other checks: what it calls itself.
                if let Ok(manifest) = release::read_manifest(open()?) {
                    self.take_manifest(options, manifest);
                }
            }
        }
        Ok(())
    }

    fn read_folder(path: &Path, options: &Options, sink: &Sink, stop: &Stop) -> Result<Self, DraftError> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let guess = release::guess(&name, b"");
        let mut draft = Self {
            source: path.to_owned(),
            file: path.to_owned(),
            file_name: String::new(),
            form: Form::Package,
            length: 0,
            digest: Digest::of(b""),
            component: options.component.clone().or(guess.component),
            version: options.version.clone().or(guess.version),
            manifest: None,
            is_elf: false,
            found_arch: None,
            named_arch: None,
            files: Vec::new(),
            faults: Vec::new(),
            seen: Seen::nothing(),
        };
        // First the digest, then the bytes: the store takes files by their digest and checks it.
        let mut counted = Counted::new(path, sink, stop);
        let packed = match release::pack(path, &mut counted) {
            Ok(packed) => packed,
            Err(_) if stop.is_stopped() => return Err(Stopped.into()),
            Err(release::PackError::Io { path, source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(DraftError::Read { path, source });
            }
            Err(error) => {
                draft.faults.push(chain(&error));
                return Ok(draft);
            }
        };
        draft.length = counted.hasher.length();
        draft.digest = counted.hasher.finish();
        if let Some(run) = &packed.manifest.run {
            let program = path.join("payload").join(run.program.as_str());
            draft.look_at_program(&read_head(&program).map_err(|source| DraftError::Read {
                path: program,
                source,
            })?);
        }
        let Manifest {
            component, version, ..
        } = &packed.manifest;
        draft.file_name = release::mend_file_name(&format!("{component}_{version}.tar"));
        draft.files = packed.files;
        draft.take_manifest(options, packed.manifest);
        Ok(draft)
    }

    /// Puts the bytes of a folder where they can be uploaded from.
    fn keep(&mut self, drafts: &Path, stop: &Stop) -> Result<(), DraftError> {
        // A folder whose file has no name could not be packed.
        if !self.source.is_dir() || self.file_name.is_empty() {
            return Ok(());
        }
        self.file = keep(&self.source, self.digest, self.length, drafts, stop)?;
        let meta = std::fs::metadata(&self.file).map_err(|source| DraftError::read(&self.file, source))?;
        self.seen = Seen::of(&meta);
        Ok(())
    }

    /// What stands in a package counts; options may repeat it, not change it.
    fn take_manifest(&mut self, options: &Options, mut manifest: Manifest) {
        let mut differs = |what: &str, said: Option<String>, found: String| {
            if let Some(said) = said.filter(|said| *said != found) {
                self.faults.push(format!(
                    "--{what} says {said}, update.toml says {found}: change one of them"
                ));
            }
        };
        differs(
            "component",
            options.component.as_ref().map(ToString::to_string),
            manifest.component.to_string(),
        );
        differs(
            "version",
            options.version.as_ref().map(ToString::to_string),
            manifest.version.to_string(),
        );
        if options.describes() {
            self.faults
                .push("a package is described by its update.toml: write the options into it".to_owned());
        }
        self.named_arch = manifest.arch;
        manifest.arch = manifest.arch.or(self.found_arch);
        self.component = Some(manifest.component.clone());
        self.version = Some(manifest.version.clone());
        self.manifest = Some(manifest);
    }

    /// What the first bytes of the program say: the processor, and whether a kernel would start it.
    fn look_at_program(&mut self, head: &[u8]) {
        self.found_arch = Arch::of_elf(head);
        self.is_elf = head.starts_with(b"\x7fELF");
        if !self.is_elf {
            return;
        }
        // ELF header, System V ABI chapter 4: e_type at 16; 2 is a program, 3 one that can lie anywhere.
        let kind = match (head.get(5), head.get(16), head.get(17)) {
            (Some(2), Some(high), Some(low)) => u16::from_be_bytes([*high, *low]),
            (_, Some(low), Some(high)) => u16::from_le_bytes([*low, *high]),
            _ => 0,
        };
        if head.len() < 52 {
            self.faults.push("the ELF header is cut off".to_owned());
        } else if !matches!(kind, 2 | 3) {
            self.faults.push(
                "the ELF file is no program (an object file, a library archive or a core dump)".to_owned(),
            );
        }
    }
}

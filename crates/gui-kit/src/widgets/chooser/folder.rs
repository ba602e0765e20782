//! Reads folders for the chooser, on its thread.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::limits::CHOOSER_ENTRIES;
use crate::text::{Kit, fill};
use crate::widgets::{Notice, Tone};

#[derive(Debug)]
pub(super) enum Ask {
    /// A folder's entries with `part` in the name; `show` puts it into the path field.
    List {
        folder: PathBuf,
        part: String,
        show: bool,
    },
    /// What is there: a folder is walked into unless `whole`, a file is chosen.
    Look { path: PathBuf, whole: bool },
}

#[derive(Debug)]
pub(super) enum Told {
    Listed { listing: Listing, show: bool },
    Chosen(PathBuf),
    Failed(Problem),
}

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) folder: PathBuf,
    /// The part that the reader has looked for; empty: everything.
    pub(super) part: String,
    pub(super) entries: Vec<Entry>,
    pub(super) too_many: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) folder: bool,
    pub(super) size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    Missing(PathBuf),
    Unreadable(PathBuf, String),
}

impl Listing {
    /// The entries to draw: those with `part` in the name, hidden ones only where `part` begins with a dot. While
    /// one is selected its name stands in the field, and all are shown.
    pub(super) fn shown<'a>(
        &'a self,
        part: &str,
        selected: bool,
    ) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let part = if selected {
            String::new()
        } else {
            part.to_lowercase()
        };
        self.entries.iter().filter(move |entry| {
            let name = entry.name.to_string_lossy().to_lowercase();
            name.contains(&part) && (!name.starts_with('.') || part.starts_with('.'))
        })
    }
}

impl Problem {
    pub(super) fn notice(&self, kit: &Kit) -> Notice {
        let (what, why) = match self {
            Self::Missing(path) => (kit.choose_missing.clone(), path.display().to_string()),
            Self::Unreadable(path, why) => (fill(&kit.choose_unreadable, &[&path.display()]), why.clone()),
        };
        Notice {
            tone: Tone::Bad,
            what,
            why,
            remedy: String::new(),
        }
    }

    pub(super) fn of(path: &Path, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                Self::Missing(path.to_owned())
            }
            _ => Self::Unreadable(path.to_owned(), error.to_string()),
        }
    }
}

pub(super) fn answer(ask: Ask) -> Told {
    let told = match ask {
        Ask::List { folder, part, show } => read(&folder, &part)
            .map(|listing| Told::Listed { listing, show })
            .map_err(|error| (folder, error)),
        Ask::Look { path, whole } => look(&path, whole).map_err(|error| (path, error)),
    };
    told.unwrap_or_else(|(path, error)| Told::Failed(Problem::of(&path, &error)))
}

fn look(path: &Path, whole: bool) -> std::io::Result<Told> {
    let folder = std::fs::metadata(path)?.is_dir();
    if folder && !whole {
        let listing = read(path, "")?;
        return Ok(Told::Listed { listing, show: true });
    }
    if folder {
        std::fs::read_dir(path)?;
    } else {
        std::fs::File::open(path)?;
    }
    Ok(Told::Chosen(path.to_owned()))
}

pub(super) fn read(folder: &Path, part: &str) -> std::io::Result<Listing> {
    let lower = part.to_lowercase();
    let mut listing = Listing {
        folder: folder.to_owned(),
        part: part.to_owned(),
        ..Listing::default()
    };
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_string_lossy().to_lowercase().contains(&lower) {
            continue;
        }
        if listing.entries.len() == CHOOSER_ENTRIES {
            listing.too_many = true;
            break;
        }
        // A link to nowhere is shown as it is; opening it says what is wrong.
        let what = std::fs::metadata(entry.path()).or_else(|_| entry.metadata());
        let (folder, size) = what.map_or((false, 0), |what| (what.is_dir(), what.len()));
        listing.entries.push(Entry { name, folder, size });
    }
    listing
        .entries
        .sort_by(|a, b| b.folder.cmp(&a.folder).then_with(|| a.name.cmp(&b.name)));
    Ok(listing)
}

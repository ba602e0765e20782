//! A package read entry by entry, trusting nothing in it.
//!
//! The package is signed, but its author may be careless or robbed. Only the plainest tar is taken: POSIX
//! `ustar` headers (IEEE 1003.1, "pax", ustar interchange format), files and folders, `update.toml` first
//! and the rest below `payload/`, two empty blocks at the end and nothing behind them. Every refusal names
//! the entry. What two readers could understand in two ways is refused.

use std::collections::HashMap;
use std::io::{self, Read};

use tar::{EntryType, Header};

use crate::limits;
use crate::name::{PayloadPath, shorten};
use crate::pack::{MANIFEST, PAYLOAD};
use crate::unpack::{Refusal, UnpackError, UnpackLimits};

/// Headers and data come in blocks of so many bytes.
const BLOCK: usize = 512;

/// What an entry says of itself, checked.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// `update.toml` or `payload…`.
    pub(crate) name: String,
    pub(crate) is_dir: bool,
    /// 0644 or 0755.
    pub(crate) mode: u32,
    pub(crate) size: u64,
}

impl Item {
    pub(crate) fn refuse(&self, why: Refusal) -> UnpackError {
        UnpackError::Refused {
            entry: shorten(&self.name),
            why,
        }
    }
}

/// What lies under a name.
struct Known {
    /// The name, where it is not all lower case already.
    spelt: Option<Box<str>>,
    is_dir: bool,
    /// Whether it had an entry of its own, not only files in it.
    named: bool,
}

/// The entries of a package, in their order.
pub(crate) struct Archive<R> {
    reader: R,
    limits: UnpackLimits,
    count: usize,
    bytes: u64,
    /// By name in lower case: a file system that does not tell cases apart would mix them up.
    known: HashMap<String, Known>,
    last: String,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R, limits: UnpackLimits) -> Self {
        Self {
            reader,
            limits,
            count: 0,
            bytes: 0,
            known: HashMap::new(),
            last: String::new(),
        }
    }

    /// The next entry; its data must be read before the one after. Nothing at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, UnpackError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        if block == [0; BLOCK] {
            self.end()?;
            return Ok(None);
        }
        let item = self.read_header(&block)?;
        self.admit(&item)?;
        self.last.clone_from(&item.name);
        Ok(Some(item))
    }

    /// Gives the data of `item` in pieces.
    pub(crate) fn data(
        &mut self,
        item: &Item,
        mut take: impl FnMut(&[u8]) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let mut buffer = vec![0; limits::BUFFER_BYTES];
        let mut left = item.size;
        while left > 0 {
            let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let room = buffer.get_mut(..want).unwrap_or_default();
            let count = read(&mut self.reader, room)?;
            if count == 0 {
                let (have, size) = (item.size - left, item.size);
                return Err(item.refuse(Refusal::Truncated { have, size }));
            }
            take(room.get(..count).unwrap_or_default())?;
            left -= count as u64;
        }
        let used = usize::try_from(item.size % BLOCK as u64).unwrap_or_default();
        let mut padding = [0; BLOCK];
        let padding = padding.get_mut(..(BLOCK - used) % BLOCK).unwrap_or_default();
        self.fill(padding)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(item.refuse(Refusal::Padding));
        }
        Ok(())
    }

    /// Fills a block; a package that ends before is cut.
    fn fill(&mut self, block: &mut [u8]) -> Result<(), UnpackError> {
        let mut have = 0;
        while have < block.len() {
            match read(&mut self.reader, block.get_mut(have..).unwrap_or_default())? {
                // Too short for one header: whatever it is, no package.
                0 if self.count == 0 => return Err(UnpackError::NoManifest),
                0 => {
                    let after = shorten(&self.last);
                    return Err(UnpackError::Cut { after });
                }
                count => have += count,
            }
        }
        Ok(())
    }

    /// The second empty block, and only padding behind it.
    fn end(&mut self) -> Result<(), UnpackError> {
        let behind = |after: &str| UnpackError::Behind {
            after: shorten(after),
        };
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        let mut padding = 0;
        loop {
            if block.iter().any(|byte| *byte != 0) || padding > limits::END_BYTES {
                return Err(behind(&self.last));
            }
            block = [0; BLOCK];
            match read(&mut self.reader, &mut block)? {
                0 => break,
                count => padding += count,
            }
        }
        if self.count == 0 {
            return Err(UnpackError::NoManifest);
        }
        Ok(())
    }

    fn broken(&self, why: &'static str) -> UnpackError {
        UnpackError::Tar {
            after: shorten(&self.last),
            why,
        }
    }

    fn read_header(&self, block: &[u8; BLOCK]) -> Result<Item, UnpackError> {
        let header = Header::from_byte_slice(block);
        // All bytes, the checksum's own field as blanks.
        let sum = block.iter().map(|byte| u32::from(*byte)).sum::<u32>()
            - block
                .iter()
                .skip(148)
                .take(8)
                .map(|byte| u32::from(*byte))
                .sum::<u32>()
            + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(sum) {
            return Err(self.broken("a header's checksum is wrong"));
        }
        let name = name_of(header).ok_or_else(|| self.broken("a header is of another kind of tar"))?;
        let refuse = |why| UnpackError::Refused {
            entry: shorten(&String::from_utf8_lossy(&name)),
            why,
        };
        let is_dir = match header.entry_type() {
            EntryType::Regular => false,
            EntryType::Directory => true,
            EntryType::Symlink => return Err(refuse(Refusal::SymbolicLink)),
            EntryType::Link => return Err(refuse(Refusal::HardLink)),
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Err(refuse(Refusal::Device)),
            EntryType::GNUSparse => return Err(refuse(Refusal::Sparse)),
            other => return Err(refuse(Refusal::Kind(char::from(other.as_byte())))),
        };
        let text = std::str::from_utf8(&name).map_err(|_| refuse(Refusal::NotUtf8))?;
        let text = if is_dir {
            text.strip_suffix('/').unwrap_or(text)
        } else {
            text
        };
        let path: PayloadPath = text
            .parse()
            .map_err(|error: crate::NameError| refuse(Refusal::Path(reason(error))))?;
        let number = |number: io::Result<u64>| number.map_err(|_| refuse(Refusal::Number));
        let size = number(header.entry_size())?;
        if is_dir && size > 0 {
            return Err(refuse(Refusal::FolderWithBytes));
        }
        let executable = number(header.mode().map(u64::from))? & 0o111 != 0;
        Ok(Item {
            name: path.as_str().to_owned(),
            is_dir,
            mode: if executable { 0o755 } else { 0o644 },
            size,
        })
    }

    /// The rules that depend on what came before.
    fn admit(&mut self, item: &Item) -> Result<(), UnpackError> {
        self.count_one(item)?;
        self.bytes = self.bytes.saturating_add(item.size);
        if self.bytes > self.limits.bytes {
            return Err(UnpackError::TooLarge {
                entry: shorten(&item.name),
                max: self.limits.bytes,
            });
        }
        if self.count == 1 {
            self.admit_manifest(item)?;
        } else if item.name != MANIFEST {
            let below = item
                .name
                .strip_prefix(PAYLOAD)
                .is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && item.is_dir));
            if !below {
                return Err(item.refuse(Refusal::Outside));
            }
        }
        let folders: Vec<&str> = item
            .name
            .match_indices('/')
            .map(|(at, _)| item.name.split_at(at).0)
            .collect();
        for folder in folders {
            self.learn(item, folder, true, false)?;
        }
        self.learn(item, &item.name, item.is_dir, true)
    }

    fn admit_manifest(&self, item: &Item) -> Result<(), UnpackError> {
        if item.name != MANIFEST || item.is_dir {
            return Err(UnpackError::NoManifest);
        }
        if item.size > limits::MANIFEST_BYTES {
            return Err(UnpackError::TooLarge {
                entry: MANIFEST.to_owned(),
                max: limits::MANIFEST_BYTES,
            });
        }
        Ok(())
    }

    /// Folders that no entry names take room too.
    fn count_one(&mut self, item: &Item) -> Result<(), UnpackError> {
        self.count += 1;
        if self.count > self.limits.entries {
            return Err(UnpackError::TooMany {
                entry: shorten(&item.name),
                max: self.limits.entries,
            });
        }
        Ok(())
    }

    /// Notes that `item` needs a file or folder of this name.
    fn learn(&mut self, item: &Item, name: &str, is_dir: bool, named: bool) -> Result<(), UnpackError> {
        let folded = name.to_lowercase();
        let Some(known) = self.known.get_mut(&folded) else {
            let spelt = (folded != name).then(|| name.into());
            if !named {
                self.count_one(item)?;
            }
            self.known.insert(folded, Known { spelt, is_dir, named });
            return Ok(());
        };
        let spelt = known.spelt.as_deref().unwrap_or(&folded);
        if spelt != name {
            return Err(item.refuse(Refusal::Case(shorten(spelt))));
        }
        if known.is_dir != is_dir {
            return Err(item.refuse(Refusal::FileAndFolder));
        }
        if named && std::mem::replace(&mut known.named, true) {
            return Err(item.refuse(Refusal::Twice));
        }
        Ok(())
    }
}

/// Reads as far as one call goes.
fn read(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, UnpackError> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(UnpackError::Read),
        }
    }
}

/// The name's bytes; nothing for a header that is not ustar or GNU's, which writes short names like it.
///
/// What stands behind a NUL in a field is kept, so that the name is refused: another reader might take it.
fn name_of(header: &Header) -> Option<Vec<u8>> {
    let trimmed = |field: &[u8]| {
        let end = field.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        field.get(..end).unwrap_or_default().to_vec()
    };
    if let Some(ustar) = header.as_ustar() {
        let mut name = trimmed(&ustar.prefix);
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend(trimmed(&ustar.name));
        return Some(name);
    }
    header.as_gnu().map(|gnu| trimmed(&gnu.name))
}

fn reason(error: crate::NameError) -> String {
    match error {
        crate::NameError::PayloadPath { why, .. } => why.to_owned(),
        other => other.to_string(),
    }
}

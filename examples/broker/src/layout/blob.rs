//! The state as bytes: magic, version, checksum, then the value itself.

use serde::Deserialize;

use super::Layout;
use crate::limits;
use crate::state::State;

const MAGIC: [u8; 8] = *b"drbroker";
const HEADER: usize = MAGIC.len() + 2 + 4;

/// Why bytes are no state.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Something else, or cut off.
    #[error("these bytes are no state of a broker")]
    NotAState,
    /// Damaged on the way.
    #[error("the state's checksum is wrong")]
    Damaged,
    /// More than is taken.
    #[error("a state of {0} bytes; at most {max} are taken", max = limits::STATE_BYTES)]
    TooLarge(usize),
    /// A version that wants a transformation first.
    #[error("a state of version {found}; this program reads version {wanted}")]
    Version {
        /// What stands in the header.
        found: u16,
        /// What the layout is.
        wanted: u16,
    },
    /// The value does not have the form of its version.
    #[error("the state does not have the form of its version")]
    Form(#[source] postcard::Error),
}

/// The state with its header.
///
/// # Errors
/// None that this program can cause; those of the encoder.
pub fn encode<L: Layout>(state: &State<L>) -> Result<Vec<u8>, BlobError> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&L::VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let mut bytes = postcard::to_extend(state, bytes).map_err(BlobError::Form)?;
    let checksum = crc32fast::hash(bytes.get(HEADER..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(HEADER - 4..HEADER) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    Ok(bytes)
}

/// The version that a state says it has.
///
/// # Errors
/// [`BlobError::NotAState`].
pub fn version_of(bytes: &[u8]) -> Result<u16, BlobError> {
    let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or(BlobError::NotAState)?;
    let version = rest.first_chunk().ok_or(BlobError::NotAState)?;
    if magic != MAGIC {
        return Err(BlobError::NotAState);
    }
    Ok(u16::from_le_bytes(*version))
}

/// The state of layout `L` in `bytes`.
///
/// # Errors
/// [`BlobError`].
pub fn decode<L: Layout>(bytes: &[u8]) -> Result<State<L>, BlobError> {
    if bytes.len() > limits::STATE_BYTES {
        return Err(BlobError::TooLarge(bytes.len()));
    }
    let found = version_of(bytes)?;
    if found != L::VERSION {
        return Err(BlobError::Version {
            found,
            wanted: L::VERSION,
        });
    }
    let (header, body) = bytes.split_at_checked(HEADER).ok_or(BlobError::NotAState)?;
    if !header.ends_with(&crc32fast::hash(body).to_le_bytes()) {
        return Err(BlobError::Damaged);
    }
    let mut reader = postcard::Deserializer::from_bytes(body);
    let state = State::deserialize(&mut reader).map_err(BlobError::Form)?;
    match reader.finalize() {
        Ok([]) => Ok(state),
        _ => Err(BlobError::NotAState),
    }
}

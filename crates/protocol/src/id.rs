//! The id that one update carries through all four programs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 128 random bits, made at the author's click, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpdateId([u8; 16]);

/// The text is not an [`UpdateId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an update id is 32 lower-case hexadecimal digits")]
pub struct IdError;

impl UpdateId {
    /// An id from 16 random bytes; the caller brings the randomness.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl FromStr for UpdateId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError)?;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(IdError);
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for UpdateId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<UpdateId> for String {
    fn from(id: UpdateId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

//! Making metadata: editor → [`Unsigned`] → [`Signed`]; every signature is checked as soon as it is made.
//!
//! An editor that starts from an existing file keeps the fields it does not know. A [`Signed`] file may still lack
//! signatures: people sign in turns, each from the bytes that the one before handed over.

mod online;
mod root;
mod targets;

use std::fmt;
use std::marker::PhantomData;

use serde_json::{Map, Value, json};

pub use online::{SnapshotEditor, TimestampEditor};
pub use root::RootEditor;
pub use targets::TargetsEditor;

use crate::envelope::{Envelope, Keys, Signature};
use crate::schema::{Metadata, RoleKeys};
use crate::{Error, KeyId, Limits, Role, Root, SignError, Signer, UnixTime, canonical};

/// The version of the specification that our files name.
const SPEC_VERSION: &str = "1.0.34";

/// A finished signed part without signatures.
#[derive(Clone)]
pub struct Unsigned<T> {
    signed: Value,
    kind: PhantomData<fn() -> T>,
}

/// A file with at least one signature, perhaps not yet enough.
#[derive(Clone)]
pub struct Signed<T> {
    signed: Value,
    message: Vec<u8>,
    signatures: Vec<Signature>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Metadata> Unsigned<T> {
    /// The value is read as a verifier would read it before it can be signed.
    fn new(signed: Map<String, Value>) -> Result<Self, Error> {
        let signed = Value::Object(signed);
        let file = Role::file_name(&role_of::<T>());
        T::read(&signed, &file, &Limits::default())?;
        canonical::to_bytes(&signed)?;
        Ok(Self {
            signed,
            kind: PhantomData,
        })
    }

    /// The first signature.
    ///
    /// # Errors
    /// When the signer fails or its signature does not verify.
    pub fn sign(self, signer: &dyn Signer) -> Result<Signed<T>, SignError> {
        let message = canonical::to_bytes(&self.signed).map_err(SignError::NotCanonical)?;
        Signed {
            signed: self.signed,
            message,
            signatures: Vec::new(),
            kind: PhantomData,
        }
        .sign(signer)
    }

    /// A file without any signature, for people who sign in turns on other machines.
    ///
    /// # Errors
    /// When the value has no canonical form.
    pub fn into_signed(self) -> Result<Signed<T>, Error> {
        let message = canonical::to_bytes(&self.signed)?;
        Ok(Signed {
            signed: self.signed,
            message,
            signatures: Vec::new(),
            kind: PhantomData,
        })
    }

    /// What will be signed, as a verifier reads it.
    ///
    /// # Errors
    /// None for a value made by an editor.
    pub fn view(&self) -> Result<T, Error> {
        T::read(&self.signed, &role_of::<T>().file_name(), &Limits::default())
    }
}

impl<T: Metadata> Signed<T> {
    /// A file made elsewhere, to add a signature to it. Nothing about it is verified.
    ///
    /// # Errors
    /// When it is no well-formed file of this kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let limits = Limits::default();
        let envelope = Envelope::parse(bytes, &role_of::<T>().file_name(), T::TYPE, &limits)?;
        envelope.read::<T>(&limits)?;
        let message = canonical::to_bytes(&envelope.signed)?;
        Ok(Self {
            signed: envelope.signed,
            message,
            signatures: envelope.signatures,
            kind: PhantomData,
        })
    }

    /// Adds a signature, in place of an earlier one by the same key.
    ///
    /// # Errors
    /// When the signer fails or its signature does not verify.
    pub fn sign(mut self, signer: &dyn Signer) -> Result<Self, SignError> {
        let key = signer.public_key();
        let sig = signer.sign(&self.message)?;
        if !key.verify(&self.message, &sig) {
            return Err(SignError::Unverifiable(key.id()));
        }
        let keyid = key.id().to_string();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature {
            keyid,
            sig: hex::encode(sig),
        });
        Ok(self)
    }

    /// The keyids that carry a signature, valid or not.
    pub fn signed_by(&self) -> impl Iterator<Item = KeyId> {
        self.signatures
            .iter()
            .filter_map(|signature| signature.keyid.parse().ok())
    }

    /// What is signed, field by field, also those that [`view`](Self::view) passes over.
    #[must_use]
    pub fn fields(&self) -> &Value {
        &self.signed
    }

    /// What is signed, as a verifier reads it.
    ///
    /// # Errors
    /// None for a file that was read or made here.
    pub fn view(&self) -> Result<T, Error> {
        T::read(&self.signed, &role_of::<T>().file_name(), &Limits::default())
    }

    /// Whether the role's threshold is reached with these keys.
    ///
    /// # Errors
    /// [`Error::Threshold`] says how many signatures there are and how many are needed.
    pub fn check(&self, role: &RoleKeys, keys: &Keys) -> Result<(), Error> {
        let file = role_of::<T>().file_name();
        let envelope = Envelope::parse(&self.bytes(), &file, T::TYPE, &Limits::default())?;
        envelope.verify(role, keys, "the given keys")
    }

    /// The file, as it goes into the repository.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let file = json!({"signed": self.signed, "signatures": self.signatures});
        // Maps with text keys and no floats: this cannot fail; empty bytes would be refused everywhere.
        serde_json::to_vec(&file).unwrap_or_default()
    }
}

impl Signed<Root> {
    /// Whether a root signs itself, and by enough keys of the root before it where there is one.
    ///
    /// # Errors
    /// [`Error::Threshold`] says what is missing.
    pub fn check_root(&self, before: Option<&Root>) -> Result<(), Error> {
        let root = self.view()?;
        self.check(&root.root, &root.keys)?;
        before.map_or(Ok(()), |before| self.check(&before.root, &before.keys))
    }
}

impl<T> fmt::Debug for Unsigned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsigned({})", self.signed)
    }
}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} signatures, {})", self.signatures.len(), self.signed)
    }
}

/// For messages only: every targets file is called `targets.json` here.
fn role_of<T: Metadata>() -> Role {
    match T::TYPE {
        "root" => Role::Root,
        "timestamp" => Role::Timestamp,
        "snapshot" => Role::Snapshot,
        _ => Role::Targets,
    }
}

/// The fields that every role has.
fn common(kind: &str, version: u64, expires: UnixTime) -> Map<String, Value> {
    let mut signed = Map::new();
    signed.insert("_type".to_owned(), json!(kind));
    signed.insert("spec_version".to_owned(), json!(SPEC_VERSION));
    signed.insert("version".to_owned(), json!(version));
    signed.insert("expires".to_owned(), json!(expires));
    signed
}

/// The signed part of an existing file with every field, known or not.
fn fields_of<T: Metadata>(bytes: &[u8]) -> Result<(Map<String, Value>, T), Error> {
    let limits = Limits::default();
    let file = role_of::<T>().file_name();
    let envelope = Envelope::parse(bytes, &file, T::TYPE, &limits)?;
    let view = envelope.read(&limits)?;
    match envelope.signed {
        Value::Object(fields) => Ok((fields, view)),
        _ => Err(Error::malformed(file, "the signed part is no object")),
    }
}

/// Changes the object in a field, which is made when it is not there.
fn edit<R>(
    fields: &mut Map<String, Value>,
    name: &str,
    change: impl FnOnce(&mut Map<String, Value>) -> R,
) -> R {
    let mut object = match fields.remove(name) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    let result = change(&mut object);
    fields.insert(name.to_owned(), Value::Object(object));
    result
}

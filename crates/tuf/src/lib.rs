//! The Update Framework 1.0 without I/O: bytes and a time in, verdict out.
//!
//! [`TrustedState`] is what a verifier remembers, [`Update`] is one refresh that asks for the next file
//! (name, version, length limit) and never fetches, [`editor`] makes the files. The rules come from the
//! public specification 1.0.34, sections 4 (formats) and 5 (client workflow); what we add to it is said
//! where it is done: floors kept twice, `signed_at` as the only source of time, keyids computed.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

pub mod canonical;
pub mod clock;
mod der;
mod digest;
pub mod editor;
mod envelope;
mod error;
mod floors;
mod json;
mod key;
mod limits;
mod role;
mod rotation;
pub mod schema;
mod search;
mod signer;
mod state;
mod stored;
mod time;
mod update;
mod upload;
mod walk;

pub use digest::Digest;
pub use envelope::unverified_version;
pub use error::{Attack, Error};
pub use key::{KeyError, KeyId, PublicKey, Scheme};
pub use limits::Limits;
pub use role::{Role, target_path};
pub use schema::{Root, Snapshot, TargetFile, Targets, Timestamp};
pub use search::Search;
pub use signer::{Ed25519Signer, SignError, Signer};
pub use state::TrustedState;
pub use time::UnixTime;
pub use update::{Accepted, Next, Request, Update};
pub use upload::{NewFiles, Upload, verify_upload};

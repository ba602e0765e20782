//! What a release says of itself.
//!
//! A release is one version of one component. Its author describes it in `update.toml`
//! ([`Manifest`]); what others must know before they fetch it is signed with it ([`Release`], in the
//! target's `custom` field). The target is a package, a plain tar with `update.toml` first and the
//! rest under `payload/` ([`pack()`], [`unpack()`]), or any single file ([`guess()`]).
//!
//! Names and paths from outside become types here once, by parsing, and are safe from then on:
//! [`Component`], [`Version`], [`TargetPath`], [`PayloadPath`].
//!
//! No network, no runtime; files are only read and, by [`unpack()`], created.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod arch;
mod archive;
mod custom;
mod guess;
mod kind;
pub mod limits;
mod live;
mod machine;
mod manifest;
mod name;
mod nature;
mod pack;
pub mod plan;
mod policy;
mod run;
pub mod set;
mod state;
mod text;
mod unpack;
mod version;

pub use arch::Arch;
pub use custom::{Form, Release, ReleaseError, Requires, Withdrawn};
pub use guess::{Guess, guess};
pub use kind::{Kind, KindError, ModuleName};
pub use live::{Live, Way};
pub use machine::Machine;
pub use manifest::{About, Fault, Manifest, ManifestError};
pub use name::{Component, NameError, PayloadPath, TargetPath, mend_file_name};
pub use nature::{Category, Nature, Stillness, Transfer};
pub use pack::{PackError, Packed, PackedFile, pack};
pub use policy::{Otherwise, Policy, Tainted, Urgency, Window, WindowError};
pub use run::{ExpandError, Health, How, Limits, Run, expand};
pub use semver::VersionReq;
pub use state::State;
pub use unpack::{
    Entry, Examined, FileHash, Refusal, UnpackError, UnpackLimits, examine, read_manifest, unpack,
    unpack_with,
};
pub use version::{Version, VersionError};

//! A site's certificate authority.
//!
//! ```text
//! root            P-256, 10 years, kept by the author, offline       SiteAuthority
//! ├─ author, repository, manager      leaf certificates, 1 year      SiteAuthority::issue
//! └─ device authority                 path length 0, 5 years         SiteAuthority::device_authority
//!    └─ device                        leaf certificates, 30 days     DeviceAuthority::issue_device
//! ```
//!
//! Every leaf carries in its SAN URI who it speaks for: `drover://SITE/ROLE/NAME`. What follows from it is
//! the table in `mtls`. Time comes in as a parameter; certificates begin an hour before it, because clocks of
//! machines that meet differ.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod device;
mod error;
pub mod files;
pub mod flawed;
mod key;
pub mod limits;
mod params;
pub mod passphrase;
pub mod program;
mod show;
mod site;

pub use device::DeviceAuthority;
pub use error::Error;
pub use key::{KeyError, decrypt_key, encrypt_key, is_encrypted, new_key, request};
pub use params::{Host, life};
pub use show::{Facts, show};
pub use site::SiteAuthority;

use zeroize::Zeroizing;

/// A new certificate with its new private key.
pub struct Issued {
    /// PEM, leaf first, without the root.
    pub chain: String,
    /// PKCS#8 PEM, not encrypted: for a file of mode 0600 ([`files::write_key`]).
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

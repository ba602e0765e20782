//! Who talks: identities, roles, TLS configurations and the listeners that use them.
//!
//! A site has one root certificate authority. Every certificate below it carries in its SAN URI who it
//! speaks for, `drover://SITE/ROLE/NAME`, and the table [`ROLES`] says which roles exist, who vouches for
//! each and on which side of a connection it may stand. Host names play no part: the site's authority is
//! pinned, so a certificate's role and site are what is checked.
//!
//! All hops speak TLS 1.3 with aws-lc-rs, without early data; where a peer shows a certificate there are no
//! session tickets, because a resumed session is not verified again.
//!
//! The TLS certificates say who talks. They never say what may run: that is the TUF root's business.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

pub mod clock;
mod config;
mod credentials;
pub mod dial;
mod identity;
mod refusal;
pub mod reload;
mod roles;
pub mod serve;
mod verify;
mod vouchers;

pub use clock::{Clock, FlooredClock, SystemClock, since_boot, stamp};
pub use config::{ClientAuth, client_config, pinned_client_config, server_config};
pub use credentials::{Credentials, Error, SiteCa};
pub use identity::{IdentityError, Validity, identity_of, key_fingerprint, public_key_of, validity_of};
pub use refusal::{Refusal, peer_says_expired};
pub use roles::{Issuer, ROLES, RoleRule, rule};
pub use vouchers::{Vouched, Vouchers, chain_text};

// What users of this crate need to name the results.
pub use rustls::{ClientConfig, ServerConfig};
pub use rustls_pki_types::CertificateDer;

/// ALPN name of HTTP/1.1 (RFC 7301).
pub const HTTP_1_1: &str = "http/1.1";
/// ALPN name of HTTP/2 (RFC 9113).
pub const HTTP_2: &str = "h2";
/// Label of the TLS exporter value that binds a proof of a key to its channel (RFC 8446 section 7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-drover";
/// Length in bytes of that value.
pub const EXPORTER_LENGTH: usize = 32;

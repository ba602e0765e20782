//! TLS configurations for both sides.

use std::sync::Arc;

use protocol::{Name, Role};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tuf::Digest;

use crate::clock::{Clock, TlsTime};
use crate::credentials::{Credentials, Error, SiteCa};
use crate::verify::{ClientVerifier, Judge, PinnedVerifier, ServerVerifier, Side};

/// Whether a listener asks who is dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nobody is asked (joining port). The root is sent along with our chain, so that a caller who knows only
    /// its fingerprint can verify us.
    None,
    /// Anybody may come; a certificate that is shown must be right (public reads with an author API).
    Optional,
    /// Only the accepted roles come in.
    Required,
}

/// The configuration of a listener of `site` that lets in clients of the roles `accept`.
///
/// TLS 1.3 only, no early data; no session tickets where clients show certificates. `credentials` must be of
/// this site, of a role that serves, and lead to `ca`.
pub fn server_config(
    credentials: &Credentials,
    ca: &SiteCa,
    site: &Name,
    auth: ClientAuth,
    accept: &[Role],
    alpn: &[&str],
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, Error> {
    let provider = provider();
    let judge = Judge::new(
        ca.certificate(),
        Some(site),
        accept,
        Arc::clone(&clock),
        &provider,
    )?;
    judge.check_own(Side::Server, credentials.chain())?;

    let builder = ServerConfig::builder_with_details(provider, Arc::new(TlsTime(clock)))
        .with_protocol_versions(&[&TLS13])?;
    let builder = match auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional | ClientAuth::Required => {
            let mandatory = auth == ClientAuth::Required;
            builder.with_client_cert_verifier(Arc::new(ClientVerifier { judge, mandatory }))
        }
    };
    let mut chain = credentials.chain().to_vec();
    if auth == ClientAuth::None && chain.last() != Some(ca.certificate()) {
        chain.push(ca.certificate().clone());
    }
    let mut config = builder.with_single_cert(chain, credentials.key().clone_key())?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The configuration for dialling a server of role `expect` at `site`.
///
/// Host names are not checked: the authority is the site's own, and role and site are what it vouches for.
/// Without credentials the connection is anonymous. Nothing is resumed, so the server is verified every time.
pub fn client_config(
    credentials: Option<&Credentials>,
    ca: &SiteCa,
    site: &Name,
    expect: Role,
    alpn: &[&str],
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let judge = Judge::new(
        ca.certificate(),
        Some(site),
        &[expect],
        Arc::clone(&clock),
        &provider,
    )?;
    if let Some(credentials) = credentials {
        judge.check_own(Side::Client, credentials.chain())?;
    }
    let builder = ClientConfig::builder_with_details(provider, Arc::new(TlsTime(clock)))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier { judge }));
    let config = match credentials {
        Some(own) => builder.with_client_auth_cert(own.chain().to_vec(), own.key().clone_key())?,
        None => builder.with_no_client_auth(),
    };
    Ok(finish(config, alpn))
}

/// The configuration for the manager's joining port, when only the fingerprint of the site's root is known
/// (from the joining code). The server's role must be manager; its site is read from its certificate.
pub fn pinned_client_config(
    ca_fingerprint: Digest,
    alpn: &[&str],
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = PinnedVerifier {
        fingerprint: ca_fingerprint,
        clock: Arc::clone(&clock),
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_details(provider, Arc::new(TlsTime(clock)))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(finish(config, alpn))
}

fn finish(mut config: ClientConfig, alpn: &[&str]) -> ClientConfig {
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    config
}

/// The one cryptography provider, always named, never the process's default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

//! `device enroll`: joining a site.
//!
//! The manager is checked by the fingerprint of the site's root in the code; the key is made here and never
//! leaves. What may run is anchored apart from who talks: the TUF root comes from the author.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use durable::TrustStore;
use http::{Method, Request, header};
use http_body_util::Full;
use mtls::{Clock, Credentials, HTTP_1_1, SiteCa, pinned_client_config};
use protocol::enroll::{ENROLL, Enroll, EnrollCode, Enrolled};
use protocol::{Role, Secret};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tuf::{Digest, Limits, TrustedState};
use zeroize::Zeroizing;

use crate::http::{Pool, host_and_port};
use crate::layout::Layout;
use crate::limits::{MAX_ANSWER, MAX_ROOT};
use crate::manager::{Manager, check, read};
use crate::renew;
use crate::settings::Settings;
use crate::trust::chain;
use crate::world::World;

/// Where the TUF root comes from.
#[derive(Debug, Clone)]
pub enum Anchor {
    /// The author's file.
    File(PathBuf),
    /// The author's word: SHA-256 of the file, which the manager may deliver.
    Fingerprint(Digest),
    /// Whatever the manager says. The gateway could then install what it likes.
    DangerTrustGateway,
}

/// What a person decides at enrolment.
#[derive(Debug)]
pub struct Joining {
    /// The manager's code.
    pub code: EnrollCode,
    /// The device's password.
    pub password: Secret,
    /// The TUF root.
    pub anchor: Anchor,
    /// Components to run; empty: all that are ordered.
    pub components: Vec<String>,
    /// Hardware ids.
    pub hardware: Vec<String>,
    /// Whether an enrolled device gets a new identity.
    pub again: bool,
}

/// Roots that are asked for when one with a given fingerprint is looked for.
const MAX_ROOTS: u64 = 64;

/// Joins the site; the device's folder is complete when this returns.
///
/// # Errors
/// In one sentence for the person at the device; nothing is half done that a second try would not mend.
pub async fn enroll(layout: &Layout, world: &World, request: Joining) -> anyhow::Result<Enrolled> {
    let enrolled_before = layout.key().exists();
    ensure!(
        request.again || !enrolled_before,
        "{} is enrolled already: use --again to give it a new identity, or another folder",
        layout.root().display()
    );
    // What can be wrong here is found before the one-time code is used up.
    let given_root = match &request.anchor {
        Anchor::File(path) => Some(checked_root(durable::read_limited(path, MAX_ROOT)?)?),
        _ => None,
    };
    ensure_same_author(layout, world, &request.anchor, given_root.as_deref())?;
    ensure_room(layout)?;
    let written_by_hand = layout.settings().exists();
    let settings = settings_before(layout)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    let enrolled = join(&request, &key, world).await?;
    let credentials = accept(&request, &enrolled, &key_pem)?;

    world.files.create_dir(layout.root(), 0o755)?;
    write_identity(layout, world, &enrolled, &key_pem)?;
    let settings = write_settings(layout, settings, &request, &enrolled)?;
    let anchored = anchor(
        layout,
        world,
        &request,
        &enrolled,
        &credentials,
        &settings,
        given_root,
    )
    .await;
    if anchored.is_err() && !enrolled_before {
        // Without a root it is no device: the next try begins from nothing.
        let files = &world.files;
        let removed = files.remove_tree(&layout.identity()).and_then(|_| {
            if written_by_hand {
                return Ok(());
            }
            files.remove_file(&layout.settings()).map(drop)
        });
        if let Err(error) = removed {
            tracing::warn!(target: "drover", error = %chain(&error), "what was begun cannot be removed");
        }
    }
    anchored?;
    Ok(enrolled)
}

fn checked_root(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    TrustedState::init(&bytes, Some(crate::BUILT), &Limits::default())
        .context("this is not a TUF root that can be trusted")?;
    Ok(bytes)
}

/// The trust that is there outlives an identity, so another author's root would be without effect.
fn ensure_same_author(
    layout: &Layout,
    world: &World,
    anchor: &Anchor,
    given: Option<&[u8]>,
) -> anyhow::Result<()> {
    let trust = layout.trust();
    if !trust.exists() {
        return Ok(());
    }
    ensure!(
        !matches!(anchor, Anchor::DangerTrustGateway),
        "this device trusts an author's root already, which --danger-trust-gateway does not replace, and nothing was \
         sent: give the file of that author with --root, or, if the gateway shall be believed from now on, remove {} \
         first and enrol again with the same code",
        trust.display()
    );
    let state = TrustStore::open_on(world.files.clone(), &trust).and_then(|store| store.load())?;
    let same = match (anchor, given) {
        (_, Some(given)) => {
            let given = TrustedState::init(given, Some(crate::BUILT), &Limits::default())?;
            let known = &state.root().root.keyids;
            given.root().root.keyids.iter().any(|key| known.contains(key))
        }
        (Anchor::Fingerprint(wanted), None) => state
            .raw(&tuf::Role::Root)
            .is_some_and(|root| Digest::of(root) == *wanted),
        // Refused above, or with a root that was given.
        (Anchor::DangerTrustGateway | Anchor::File(_), None) => false,
    };
    ensure!(
        same,
        "this device trusts another author's root already, and nothing was sent: give the file of the author whom \
         it trusts with --root, enrol in a new folder with --dir, or, if it changes its author for good, remove {} \
         first and enrol again with the same code",
        trust.display()
    );
    Ok(())
}

fn ensure_room(layout: &Layout) -> anyhow::Result<()> {
    let mut at = layout.root();
    while !at.exists() {
        match at.parent() {
            Some(parent) => at = parent,
            None => return Ok(()),
        }
    }
    let free = crate::machine_info::free_bytes(at);
    ensure!(
        free >= crate::limits::DISK_RESERVE,
        "the disk has only {free} bytes free"
    );
    Ok(())
}

async fn join(request: &Joining, key: &KeyPair, world: &World) -> anyhow::Result<Enrolled> {
    let code = &request.code;
    let csr = CertificateParams::default()
        .serialize_request(key)
        .and_then(|csr| csr.pem());
    let body = Enroll {
        device: code.device.clone(),
        secret: code.secret.clone(),
        password: request.password.clone(),
        csr: csr.context("cannot make a certificate request")?,
    };
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let tls = pinned_client_config(code.site_ca, &[HTTP_1_1], clock)?;
    let pool = Pool::new(&code.address, Arc::new(tls))?;
    let bytes = Zeroizing::new(serde_json::to_vec(&body)?);
    let request = Request::builder()
        .method(Method::POST)
        .uri(ENROLL)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::copy_from_slice(&bytes)))?;
    let answer = pool
        .call(request, MAX_ANSWER)
        .await
        .context("cannot reach the manager's enrolment port")?;
    Ok(read(
        &check(answer).context("the manager does not enrol this device")?,
    )?)
}

/// Believes nothing of the answer that the code does not vouch for.
fn accept(request: &Joining, enrolled: &Enrolled, key_pem: &str) -> anyhow::Result<Credentials> {
    let ca = SiteCa::from_pem(&enrolled.site_ca)?;
    ensure!(
        ca.fingerprint() == request.code.site_ca,
        "the manager's site is not the one in the code"
    );
    let credentials = Credentials::from_pem(&enrolled.chain, key_pem)?;
    let me = credentials.identity()?;
    ensure!(
        me.role == Role::Device && me.name == request.code.device && me.site == enrolled.site,
        "the manager issued a certificate for {me} instead of device {}",
        request.code.device
    );
    ensure!(!enrolled.token.reveal().is_empty(), "the manager issued no token");
    Ok(credentials)
}

fn write_identity(layout: &Layout, world: &World, enrolled: &Enrolled, key_pem: &str) -> anyhow::Result<()> {
    let files = &world.files;
    files.create_dir(&layout.identity(), 0o700)?;
    files.replace(&layout.ca(), enrolled.site_ca.as_bytes(), 0o644)?;
    files.replace(&layout.token(), enrolled.token.reveal().as_bytes(), 0o600)?;
    files.replace(&layout.chain(), enrolled.chain.as_bytes(), 0o644)?;
    files.replace(&layout.key(), key_pem.as_bytes(), 0o600)?;
    Ok(())
}

/// Those that are there; they may say what this device must not run, so damaged ones are not begun anew unasked.
fn settings_before(layout: &Layout) -> anyhow::Result<Settings> {
    let path = layout.settings();
    if !path.exists() {
        return Ok(Settings::new(String::new()));
    }
    Settings::load(&path).with_context(|| {
        format!(
            "nothing was sent: put {} right, or remove it to begin with the settings of a new device, and enrol again with \
             the same code",
            path.display()
        )
    })
}

fn write_settings(
    layout: &Layout,
    mut settings: Settings,
    request: &Joining,
    enrolled: &Enrolled,
) -> anyhow::Result<Settings> {
    settings.manager = reachable(&enrolled.manager, &request.code.address)?;
    settings.joining = Some(request.code.address.clone());
    if !request.components.is_empty() {
        settings.components.clone_from(&request.components);
    }
    if !request.hardware.is_empty() {
        settings.hardware.clone_from(&request.hardware);
    }
    settings.save(&layout.settings())?;
    Ok(settings)
}

/// A manager that listens everywhere names no address: then it is where the enrolment port was.
fn reachable(manager: &str, enrolment: &str) -> anyhow::Result<String> {
    let (host, port) = host_and_port(manager)?;
    let everywhere = host
        .parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.is_unspecified());
    if !everywhere {
        return Ok(manager.to_owned());
    }
    let (host, _) = host_and_port(enrolment)?;
    Ok(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

/// Pins the root. Trust that is there already stays: its floors outlive an identity.
async fn anchor(
    layout: &Layout,
    world: &World,
    request: &Joining,
    enrolled: &Enrolled,
    credentials: &Credentials,
    settings: &Settings,
    given: Option<Vec<u8>>,
) -> anyhow::Result<()> {
    if layout.trust().exists() {
        TrustStore::open(layout.trust()).and_then(|store| store.load())?;
        tracing::info!(target: "drover", "the trusted state that is there stays in force");
        return Ok(());
    }
    let root = match given {
        Some(root) => root,
        None => {
            let tls = renew::tls(layout, world, credentials, &enrolled.site)?;
            let manager = Manager::new(Pool::new(&settings.manager, tls)?, enrolled.token.clone());
            checked_root(fetch_root(&manager, &request.anchor).await?)?
        }
    };
    TrustStore::create_on(world.files.clone(), layout.trust(), &root, Some(crate::BUILT))?;
    Ok(())
}

async fn fetch_root(manager: &Manager, anchor: &Anchor) -> anyhow::Result<Vec<u8>> {
    let mut newest = None;
    for version in 1..=MAX_ROOTS {
        let Some(root) = manager
            .metadata(&format!("{version}.root.json"), MAX_ROOT)
            .await?
        else {
            break;
        };
        if let Anchor::Fingerprint(wanted) = anchor
            && Digest::of(&root) == *wanted
        {
            return Ok(root);
        }
        newest = Some(root);
    }
    match (anchor, newest) {
        (Anchor::DangerTrustGateway, Some(root)) => Ok(root),
        (_, None) => bail!(
            "the manager has no root file yet: publish something first, or run \
             `device repair-trust --root ROOT.json` with the author's file"
        ),
        _ => bail!("none of the manager's root files has this fingerprint: ask the author for the file"),
    }
}

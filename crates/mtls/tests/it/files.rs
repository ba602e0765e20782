//! Credentials as files: their mode, and their replacement while a listener runs.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use certs::{SiteAuthority, files};
use mtls::{ClientAuth, Credentials, Error, HTTP_1_1, SiteCa, reload, server_config};
use protocol::Role;
use tempfile::TempDir;

use crate::site::{NOW, Site, WAIT, at, name};

struct Folder {
    dir: TempDir,
}

impl Folder {
    fn new(site: &Site) -> Self {
        let folder = Self {
            dir: TempDir::new().unwrap(),
        };
        folder.replace(&site.issued(Role::Manager));
        folder
    }

    fn replace(&self, issued: &certs::Issued) {
        files::write_issued(&self.path("tls.pem"), &self.path("tls-key.pem"), issued).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self) -> Result<Credentials, Error> {
        Credentials::load(&self.path("tls.pem"), &self.path("tls-key.pem"))
    }
}

/// An error with all its causes.
fn text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn a_private_key_that_others_can_read_is_refused_with_the_way_to_mend_it() {
    let folder = Folder::new(&Site::new());
    folder.load().unwrap();
    let key = folder.path("tls-key.pem");
    for mode in [0o644, 0o640, 0o604, 0o660] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let message = text(&folder.load().unwrap_err());
        assert!(message.contains(&key.display().to_string()), "{message}");
        assert!(message.contains(&format!("{mode:o}")), "{message}");
        assert!(message.contains("chmod 600"), "{message}");
    }
}

#[test]
fn a_missing_or_garbled_file_is_named() {
    let folder = Folder::new(&Site::new());
    std::fs::write(folder.path("tls.pem"), "-----BEGIN CERTIFICATE-----\n!!\n").unwrap();
    let message = text(&folder.load().unwrap_err());
    assert!(message.contains("tls.pem"), "{message}");
    std::fs::remove_file(folder.path("tls.pem")).unwrap();
    let message = text(&folder.load().unwrap_err());
    assert!(message.contains("tls.pem"), "{message}");
}

#[test]
fn a_listener_does_not_start_with_a_certificate_that_everybody_would_refuse() {
    let site = Site::new();
    let build = |own: &Credentials, ca: &SiteCa, at_site: &str| {
        server_config(
            own,
            ca,
            &name(at_site),
            ClientAuth::None,
            &[],
            &[HTTP_1_1],
            at(NOW),
        )
    };
    let manager = site.credentials(Role::Manager);
    build(&manager, &site.ca, "plant").unwrap();
    let error = build(&manager, &site.ca, "mill").unwrap_err();
    assert!(matches!(error, Error::OtherSite { .. }), "{error}");
    let error = build(&site.credentials(Role::Author), &site.ca, "plant").unwrap_err();
    assert!(
        matches!(
            error,
            Error::WrongSide {
                role: Role::Author,
                ..
            }
        ),
        "{error}"
    );
    let other = SiteAuthority::create(&site.name, NOW).unwrap();
    let other = SiteCa::from_pem(other.certificate_pem()).unwrap();
    let error = build(&manager, &other, "plant").unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let site = Site::new();
    let (one, two) = (site.issued(Role::Manager), site.issued(Role::Manager));
    let mixed = Credentials::from_pem(&one.chain, &two.key).unwrap();
    let error = server_config(
        &mixed,
        &site.ca,
        &site.name,
        ClientAuth::None,
        &[],
        &[HTTP_1_1],
        at(NOW),
    );
    assert!(matches!(error.unwrap_err(), Error::Tls(_)));
}

#[test]
fn a_leaf_is_not_taken_for_the_sites_authority() {
    let site = Site::new();
    let error = SiteCa::from_pem(&site.issued(Role::Manager).chain).unwrap_err();
    assert!(matches!(error, Error::NotARoot { .. }), "{error}");
}

#[tokio::test]
async fn a_replaced_certificate_takes_effect_and_a_bad_one_does_not() {
    let site = Site::new();
    let folder = Folder::new(&site);
    let (cert, key) = (folder.path("tls.pem"), folder.path("tls-key.pem"));
    let first = folder.load().unwrap();
    let watched = vec![cert.clone(), key.clone()];
    let paths = (cert.clone(), key.clone());
    let mut receiver = reload::watch(watched, move || Credentials::load(&paths.0, &paths.1)).unwrap();
    let fingerprint = |credentials: &Credentials| credentials.key_fingerprint().unwrap();
    assert_eq!(fingerprint(&receiver.borrow_and_update()), fingerprint(&first));

    folder.replace(&site.issued(Role::Manager));
    tokio::time::timeout(WAIT, receiver.changed())
        .await
        .unwrap()
        .unwrap();
    let second = Arc::clone(&receiver.borrow_and_update());
    assert_eq!(fingerprint(&second), fingerprint(&folder.load().unwrap()));
    assert_ne!(fingerprint(&second), fingerprint(&first));

    // A bad file is passed over; the next good one shows that it has been looked at in between.
    files::write_certificate(&cert, "not a certificate").unwrap();
    let quiet = tokio::time::timeout(reload::SETTLE * 5, receiver.changed()).await;
    assert!(quiet.is_err(), "a certificate that cannot be read was taken");
    assert_eq!(fingerprint(&receiver.borrow()), fingerprint(&second));
    folder.replace(&site.issued(Role::Manager));
    tokio::time::timeout(WAIT, receiver.changed())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn new_connections_use_the_new_configuration_and_old_ones_stay() {
    let site = Site::new();
    let server = crate::site::start(site.server(Role::Manager, ClientAuth::None, &[])).await;
    let client = site.client(None, Role::Manager);
    let (mut old, _) = crate::site::open(server.addr, client.clone()).await.unwrap();
    crate::site::ask(&mut old, "/who").await.unwrap();
    let other = site
        .root
        .issue(Role::Manager, &name("two"), &[], certs::life::LEAF, NOW)
        .unwrap();
    let config = site.server_with(&crate::site::credentials(&other), ClientAuth::None, &[], at(NOW));
    server.tls.send_replace(Arc::new(config));
    let dialled = mtls::dial::dial("127.0.0.1", server.addr.port(), client, WAIT)
        .await
        .unwrap();
    assert_eq!(dialled.server.name, name("two"));
    crate::site::ask(&mut old, "/who").await.unwrap();
}

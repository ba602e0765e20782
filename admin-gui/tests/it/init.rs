//! A new site: all of it, with the right rights, or nothing.

use std::os::unix::fs::PermissionsExt as _;

use admin_gui::init::{InitError, Plan, init};
use admin_gui::passphrase::PassphraseError;
use admin_gui::signing::KeyType;
use admin_gui::{Passphrase, Senses};
use protocol::Role;
use tuf::{Digest, Limits, TrustedState};

use crate::site::{Site, passphrase};

#[test]
fn a_new_site_has_every_file_and_secrets_are_private() {
    let site = Site::with(KeyType::Rsa);
    let secrets = [
        "author/ca-key.pem",
        "author/root-key.pem",
        "author/targets-key.pem",
        "author/tls-key.pem",
        "repository/tls-key.pem",
        "repository/online-key.pem",
        "manager/tls-key.pem",
        "manager/device-ca-key.pem",
    ];
    for name in secrets {
        let mode = std::fs::metadata(site.made.dir.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let public = [
        "author/author.toml",
        "author/ca.pem",
        "author/tls.pem",
        "author/root.json",
        "repository/repo.toml",
        "repository/ca.pem",
        "repository/tls.pem",
        "repository/root.json",
        "manager/manager.toml",
        "manager/ca.pem",
        "manager/tls.pem",
        "manager/device-ca.pem",
        "manager/root.json",
    ];
    for name in public {
        assert!(site.made.dir.join(name).is_file(), "{name}");
    }
    // What only the author may hold is encrypted, and in no other folder.
    for name in ["ca-key.pem", "root-key.pem", "targets-key.pem"] {
        let text = std::fs::read_to_string(site.author().join(name)).unwrap();
        assert!(text.contains("BEGIN ENCRYPTED PRIVATE KEY"), "{name}");
        assert!(!site.repository().join(name).exists() && !site.made.dir.join("manager").join(name).exists());
    }
}

#[test]
fn the_first_root_is_one_that_devices_accept() {
    let site = Site::new();
    let root = std::fs::read(site.author().join("root.json")).unwrap();
    let state = TrustedState::init(&root, None, &Limits::default()).unwrap();
    assert_eq!(state.root().version, 1);
    assert!(state.root().consistent_snapshot);
    assert_eq!(Digest::of(&root), site.made.root_fingerprint);
    let year = state.root().expires.seconds_since(Senses::system().now());
    assert!((364 * 86_400..=365 * 86_400).contains(&year), "{year}");
    for copy in ["repository", "manager"] {
        assert_eq!(
            std::fs::read(site.made.dir.join(copy).join("root.json")).unwrap(),
            root
        );
    }
    // Releases and roots are signed by different keys, and neither by the repository's.
    let keys = [&state.root().root, &state.root().targets, &state.root().timestamp];
    for (place, one) in keys.iter().enumerate() {
        for other in &keys[place + 1..] {
            assert_ne!(one.keyids, other.keyids);
        }
    }
}

#[test]
fn every_certificate_says_who_its_holder_is() {
    let site = Site::new();
    for (folder, role, name) in [
        ("author", Role::Author, "author"),
        ("repository", Role::Repository, "repository"),
        ("manager", Role::Manager, "gateway"),
    ] {
        let dir = site.made.dir.join(folder);
        let credentials = mtls::Credentials::load(&dir.join("tls.pem"), &dir.join("tls-key.pem")).unwrap();
        let identity = credentials.identity().unwrap();
        assert_eq!(
            (identity.role, identity.name.as_str(), identity.site.as_str()),
            (role, name, "plant")
        );
    }
    let dir = site.made.dir.join("manager");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    certs::DeviceAuthority::load(&read("device-ca.pem"), &read("device-ca-key.pem")).unwrap();
    let ca = mtls::SiteCa::load(&dir.join("ca.pem")).unwrap();
    assert_eq!(ca.fingerprint(), site.made.ca_fingerprint);
}

#[test]
fn a_folder_that_holds_something_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("plant");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("mine"), "dear").unwrap();
    let plan = Plan::local(&dir, "plant".parse().unwrap()).unwrap();
    let refused = init(&plan, &passphrase(), Senses::system().now());
    assert!(matches!(refused, Err(InitError::Exists(_))), "{refused:?}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    assert_eq!(
        std::fs::read_dir(temp.path()).unwrap().count(),
        1,
        "something was left beside it"
    );
}

#[test]
fn a_weak_passphrase_makes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let plan = Plan::local(&temp.path().join("plant"), "plant".parse().unwrap()).unwrap();
    let weak = Passphrase::new("short").unwrap();
    let refused = init(&plan, &weak, Senses::system().now());
    assert!(
        matches!(refused, Err(InitError::Passphrase(PassphraseError::TooShort(5)))),
        "{refused:?}"
    );
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_place_that_cannot_be_written_makes_nothing() {
    // A file where the folder above should be: not even root can write there.
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("file"), "").unwrap();
    let plan = Plan::local(&temp.path().join("file/plant"), "plant".parse().unwrap()).unwrap();
    assert!(init(&plan, &passphrase(), Senses::system().now()).is_err());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn what_an_interrupted_run_left_is_in_nobodys_way() {
    let temp = tempfile::tempdir().unwrap();
    let left = temp.path().join(".plant.unfinished");
    std::fs::create_dir_all(left.join("author")).unwrap();
    std::fs::write(left.join("author/ca-key.pem"), "half").unwrap();
    let mut plan = Plan::local(&temp.path().join("plant"), "plant".parse().unwrap()).unwrap();
    plan.targets_key = KeyType::Ed25519;
    init(&plan, &passphrase(), Senses::system().now()).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_site_on_loopback_listens_there_alone_and_another_one_everywhere() {
    let settings = |repository: &str, manager: &str| {
        let temp = tempfile::tempdir().unwrap();
        let mut plan = Plan::local(&temp.path().join("plant"), "plant".parse().unwrap()).unwrap();
        plan.targets_key = KeyType::Ed25519;
        plan.repository_host = repository.parse().unwrap();
        plan.manager_host = manager.parse().unwrap();
        init(&plan, &passphrase(), Senses::system().now()).unwrap();
        let read = |name: &str| {
            let text = std::fs::read_to_string(plan.dir.join(name)).unwrap();
            text.parse::<toml::Table>().unwrap()
        };
        (
            read("author/author.toml"),
            read("repository/repo.toml"),
            read("manager/manager.toml"),
        )
    };
    let (author, repository, manager) = settings("127.5.5.5", "127.5.5.6");
    assert_eq!(author["repository"].as_str(), Some("https://127.5.5.5:7100"));
    assert_eq!(repository["listen"].as_str(), Some("127.5.5.5:7100"));
    assert_eq!(manager["listen_devices"].as_str(), Some("127.5.5.6:7101"));
    assert_eq!(manager["listen_enroll"].as_str(), Some("127.5.5.6:7102"));
    assert_eq!(
        manager["repositories"][0].as_str(),
        Some("https://127.5.5.5:7100")
    );

    let (author, repository, manager) = settings("repo.plant.example", "fd00::7");
    assert_eq!(
        author["repository"].as_str(),
        Some("https://repo.plant.example:7100")
    );
    assert_eq!(repository["listen"].as_str(), Some("0.0.0.0:7100"));
    assert_eq!(manager["host"].as_str(), Some("fd00::7"));
    assert!(
        manager.get("listen_devices").is_none(),
        "the gateway's own default is wanted"
    );
}

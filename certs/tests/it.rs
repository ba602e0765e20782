//! What the authority issues, what it refuses, and the program around it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public interface"
)]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use certs::program::{Arguments, run};
use certs::{
    DeviceAuthority, Error, KeyError, SiteAuthority, decrypt_key, encrypt_key, flawed, life, new_key,
    request, show,
};
use clap::Parser;
use protocol::{Name, Role};
use tempfile::TempDir;
use tuf::UnixTime;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn root() -> SiteAuthority {
    SiteAuthority::create(&name("plant"), NOW).unwrap()
}

#[test]
fn each_certificate_says_who_it_is_for_how_long_and_what_it_may() {
    let root = root();
    let hosts = ["gw.example".parse().unwrap(), "192.0.2.7".parse().unwrap()];
    let issued = root
        .issue(Role::Manager, &name("gw"), &hosts, life::LEAF, NOW)
        .unwrap();
    let facts = &show(&issued.chain).unwrap()[0];
    assert_eq!(
        facts.names,
        ["drover://plant/manager/gw", "DNS gw.example", "IP 192.0.2.7"]
    );
    assert_eq!(facts.not_before, UnixTime(NOW.0 - 3600));
    assert_eq!(facts.not_after, UnixTime(NOW.0 + life::LEAF));
    assert!(!facts.is_authority);

    let devices = root.device_authority(NOW).unwrap();
    let authority = &show(devices.certificate_pem()).unwrap()[0];
    assert!(authority.is_authority);
    assert_eq!(authority.issuer, show(root.certificate_pem()).unwrap()[0].subject);
}

#[test]
fn key_identifiers_and_path_length_are_set() {
    use x509_parser::prelude::*;
    let root = root();
    let devices = root.device_authority(NOW).unwrap();
    let leaf = flawed::device(&devices, &name("pump-7"), NOW).unwrap();
    let parse = |pem: &str| {
        Pem::iter_from_buffer(pem.as_bytes())
            .map(Result::unwrap)
            .collect::<Vec<_>>()
    };
    let (chain, top) = (parse(&leaf.chain), parse(root.certificate_pem()));
    let certs: Vec<_> = chain
        .iter()
        .chain(&top)
        .map(|pem| pem.parse_x509().unwrap())
        .collect();
    let own = |cert: &X509Certificate<'_>| {
        cert.iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
            .unwrap()
    };
    let above = |cert: &X509Certificate<'_>| {
        cert.iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    Some(id.key_identifier.clone().unwrap().0.to_vec())
                }
                _ => None,
            })
            .unwrap()
    };
    assert_eq!(above(&certs[0]), own(&certs[1]));
    assert_eq!(above(&certs[1]), own(&certs[2]));
    let constraints = certs[1].basic_constraints().unwrap().unwrap().value;
    assert_eq!(constraints.path_len_constraint, Some(0));
    // Positive, 16 octets, and never the same twice.
    assert!(
        certs
            .iter()
            .all(|cert| cert.raw_serial().len() == 16 && cert.raw_serial()[0] < 0x80)
    );
    assert_ne!(certs[0].raw_serial(), certs[1].raw_serial());
}

#[test]
fn the_root_issues_no_device_certificates() {
    let refused = root().issue(Role::Device, &name("pump-7"), &[], life::DEVICE, NOW);
    assert!(matches!(refused, Err(Error::NotFromRoot { role: Role::Device })));
}

#[test]
fn a_device_gets_the_name_on_the_list_whatever_its_request_says() {
    let devices = root().device_authority(NOW).unwrap();
    // A request that asks to be the manager, with every extension it can think of.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["gw.example".to_owned()]).unwrap();
    let uri = "drover://plant/manager/gw".to_owned();
    params
        .subject_alt_names
        .push(rcgen::SanType::URI(uri.try_into().unwrap()));
    params.distinguished_name.push(rcgen::DnType::CommonName, "gw");
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let wishes = params.serialize_request(&key).unwrap();
    for form in [wishes.der().to_vec(), wishes.pem().unwrap().into_bytes()] {
        let chain = devices
            .issue_device(&form, &name("pump-7"), life::DEVICE, NOW)
            .unwrap();
        let facts = &show(&chain).unwrap()[0];
        assert_eq!(facts.names, ["drover://plant/device/pump-7"]);
        assert!(!facts.is_authority);
        assert_eq!(
            facts.key,
            tuf::Digest::of(&rcgen::PublicKeyData::subject_public_key_info(&key))
        );
    }
}

#[test]
fn a_request_that_does_not_prove_its_key_is_refused() {
    let devices = root().device_authority(NOW).unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let good = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let mut forged = good.der().to_vec();
    // Another key in the same request: the signature no longer fits. A point off the curve would be caught
    // before the signature, so a real one is put there.
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let (old, new) = (key.public_key_raw(), other.public_key_raw());
    let at = forged
        .windows(old.len())
        .position(|window| window == old)
        .unwrap();
    forged[at..at + new.len()].copy_from_slice(new);
    let refused = devices.issue_device(&forged, &name("pump-7"), life::DEVICE, NOW);
    let Err(Error::Request(rcgen::Error::InvalidCertificationRequestSignature)) = refused else {
        panic!("{refused:?}");
    };
}

#[test]
fn other_keys_and_oversized_or_garbled_requests_are_refused() {
    let devices = root().device_authority(NOW).unwrap();
    let issue = |request: &[u8]| devices.issue_device(request, &name("pump-7"), life::DEVICE, NOW);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    assert!(matches!(issue(other.der()), Err(Error::RequestKey)));
    assert!(matches!(issue(&[0x30; 9000]), Err(Error::RequestTooLarge { .. })));
    assert!(matches!(
        issue(b"-----BEGIN NOTHING-----"),
        Err(Error::Request(_))
    ));
    assert!(matches!(issue(&[]), Err(Error::Request(_))));
}

#[test]
fn times_that_no_certificate_can_hold_are_refused() {
    let root = root();
    for now in [
        UnixTime(0),
        UnixTime(i64::MIN),
        UnixTime(i64::MAX),
        UnixTime(253_402_300_800),
    ] {
        let refused = root.issue(Role::Author, &name("one"), &[], life::LEAF, now);
        assert!(matches!(refused, Err(Error::Time(_))), "{now:?}");
    }
}

#[test]
fn a_saved_authority_issues_again_and_a_foreign_key_is_noticed() {
    let root = root();
    let encrypted = root.encrypted_key("correct horse").unwrap();
    let again = SiteAuthority::load_encrypted(root.certificate_pem(), &encrypted, "correct horse").unwrap();
    assert_eq!(again.site(), root.site());
    assert_eq!(again.fingerprint().unwrap(), root.fingerprint().unwrap());
    let devices = again.device_authority(NOW).unwrap();
    let loaded = DeviceAuthority::load(devices.certificate_pem(), &devices.key_pem()).unwrap();
    assert_eq!(loaded.site(), root.site());

    let plain = SiteAuthority::load(root.certificate_pem(), &encrypted);
    assert!(matches!(plain, Err(Error::Key(KeyError::Encrypted))));
    let foreign = SiteAuthority::load(root.certificate_pem(), &new_key().unwrap());
    assert!(matches!(foreign, Err(Error::KeyMismatch)));
    let swapped = SiteAuthority::load(devices.certificate_pem(), &devices.key_pem());
    assert!(matches!(swapped, Err(Error::Unexpected { .. })));
    let leaf = root
        .issue(Role::Manager, &name("gw"), &[], life::LEAF, NOW)
        .unwrap();
    let leaf = DeviceAuthority::load(&leaf.chain, &leaf.key);
    assert!(matches!(leaf, Err(Error::Unexpected { .. })));
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_only() {
    let der = root().key_der();
    let pem = encrypt_key(&der, "correct horse").unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    assert_eq!(decrypt_key(&pem, "correct horse").unwrap(), der);
    for wrong in ["", "correct hors", "Correct horse", "correct horse "] {
        assert!(matches!(decrypt_key(&pem, wrong), Err(KeyError::WrongPassphrase)));
    }
    assert_ne!(
        encrypt_key(&der, "correct horse").unwrap(),
        pem,
        "salt and vector must be new each time"
    );
    assert!(matches!(encrypt_key(&der, ""), Err(KeyError::EmptyPassphrase)));
    assert!(matches!(
        decrypt_key(&new_key().unwrap(), "x"),
        Err(KeyError::NotEncrypted)
    ));
}

#[test]
fn a_key_file_that_asks_for_all_memory_is_refused() {
    use pkcs8::der::Encode;
    use pkcs8::der::asn1::OctetStringRef;
    use pkcs8::pkcs5::{EncryptionScheme, pbes2, scrypt};
    let pem = |parameters: pbes2::Parameters| {
        let info = pkcs8::EncryptedPrivateKeyInfoRef {
            encryption_algorithm: EncryptionScheme::Pbes2(parameters),
            encrypted_data: OctetStringRef::new(&[0; 32]).unwrap(),
        };
        let der = info.to_der().unwrap();
        let document = pkcs8::SecretDocument::try_from(der.as_slice()).unwrap();
        document
            .to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF)
            .unwrap()
    };
    let cost = scrypt::Params::new(24, 8, 1).unwrap();
    let scrypt = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &[0; 16], [0; 16]).unwrap();
    assert!(matches!(
        decrypt_key(&pem(scrypt), "x"),
        Err(KeyError::Scheme("too much scrypt"))
    ));
    let rounds = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(90_000_000, &[0; 16], [0; 16]).unwrap();
    assert!(matches!(
        decrypt_key(&pem(rounds), "x"),
        Err(KeyError::Scheme("too many PBKDF2 rounds"))
    ));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let issued = root()
        .issue(Role::Author, &name("one"), &[], life::LEAF, NOW)
        .unwrap();
    assert!(!format!("{issued:?}").contains("PRIVATE"));
    request(&issued.key).unwrap();
}

/// Runs the program with a passphrase on a descriptor; what it printed, or its error.
fn program(passphrase: &str, arguments: &[&str]) -> Result<String, String> {
    let mut file = tempfile::tempfile().unwrap();
    writeln!(file, "{passphrase}").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let descriptor = file.as_raw_fd().to_string();
    let mut line = vec!["certs"];
    line.extend(arguments);
    if arguments[0] != "show" {
        line.extend(["--passphrase-fd", &descriptor]);
    }
    let parsed = Arguments::try_parse_from(line).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    run(parsed, NOW, &mut out).map_err(|error| format!("{error:#}"))?;
    Ok(String::from_utf8(out).unwrap())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_program_makes_a_site_and_its_certificates() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let good = "correct horse";
    program(good, &["new-site", "plant", "--out", &at("author")]).unwrap();
    assert_eq!(mode(&dir.path().join("author")), 0o700);
    assert_eq!(mode(&dir.path().join("author/ca-key.pem")), 0o600);
    let key = std::fs::read_to_string(dir.path().join("author/ca-key.pem")).unwrap();
    assert!(certs::is_encrypted(&key));

    let again = program(good, &["new-site", "plant", "--out", &at("author")]).unwrap_err();
    assert!(again.contains("there already"), "{again}");
    let wrong = [
        "issue",
        "manager",
        "gw",
        "--ca",
        &at("author"),
        "--out",
        &at("manager"),
    ];
    let error = program("wrong horse", &wrong).unwrap_err();
    assert!(error.contains("passphrase is wrong"), "{error}");
    assert!(!dir.path().join("manager").exists());

    program(good, &wrong).unwrap();
    assert_eq!(mode(&dir.path().join("manager/tls-key.pem")), 0o600);
    assert_eq!(mode(&dir.path().join("manager/device-ca-key.pem")), 0o600);
    let shown = program("", &["show", &at("manager/tls.pem")]).unwrap();
    assert!(shown.contains("drover://plant/manager/gw"), "{shown}");

    let kept = std::fs::read(dir.path().join("manager/device-ca.pem")).unwrap();
    let error = program(good, &wrong).unwrap_err();
    assert!(error.contains("--replace"), "{error}");
    let mut renewal = wrong.to_vec();
    renewal.push("--replace");
    program(good, &renewal).unwrap();
    assert_eq!(
        std::fs::read(dir.path().join("manager/device-ca.pem")).unwrap(),
        kept
    );

    let device = [
        "issue",
        "device",
        "pump-7",
        "--ca",
        &at("manager"),
        "--out",
        &at("pump-7"),
    ];
    let printed = program("", &device).unwrap();
    assert!(printed.contains("drover://plant/device/pump-7"), "{printed}");
}

#[test]
fn a_short_passphrase_makes_no_site() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("author").display().to_string();
    let error = program("short", &["new-site", "plant", "--out", &out]).unwrap_err();
    assert!(error.contains("at least 8"), "{error}");
    assert!(!dir.path().join("author").exists());
}

#[test]
fn a_root_key_that_others_can_read_is_refused() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    program("correct horse", &["new-site", "plant", "--out", &at("author")]).unwrap();
    let key = dir.path().join("author/ca-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let issue = [
        "issue",
        "author",
        "one",
        "--ca",
        &at("author"),
        "--out",
        &at("one"),
    ];
    let error = program("correct horse", &issue).unwrap_err();
    assert!(
        error.contains("chmod 600") && error.contains("ca-key.pem"),
        "{error}"
    );
}

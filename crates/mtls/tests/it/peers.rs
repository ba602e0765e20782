//! Who gets in, who does not, and the reason given on each side.

use certs::{Issued, SiteAuthority, flawed};
use mtls::{ClientAuth, HTTP_1_1, HTTP_2, IdentityError, Refusal, SiteCa, pinned_client_config};
use protocol::{Identity, Role};

use crate::site::{NOW, Site, at, credentials, name, open, start, who, who_http2};

/// Dials a manager's device port with these credentials; what the manager says, and what the dialler hears.
async fn refused_by_manager(site: &Site, issued: &Issued, accept: &[Role]) -> (Refusal, Refusal) {
    let server = start(site.server(Role::Manager, ClientAuth::Required, accept)).await;
    // Built without the usual check of one's own certificate: the other side has to notice.
    let own = credentials(issued);
    let heard = who(server.addr, unchecked(site, Some(&own))).await.unwrap_err();
    (server.refusal().await, heard)
}

/// A client that shows whatever it has, as an attacker would.
fn unchecked(site: &Site, own: Option<&mtls::Credentials>) -> std::sync::Arc<mtls::ClientConfig> {
    let mut config = (*site.client(None, Role::Manager)).clone();
    if let Some(own) = own {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider
            .key_provider
            .load_private_key(own.key().clone_key())
            .unwrap();
        let certified = rustls::sign::CertifiedKey::new(own.chain().to_vec(), key);
        config.client_auth_cert_resolver =
            std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    }
    std::sync::Arc::new(config)
}

#[tokio::test]
async fn each_right_peer_connects_and_is_known_by_its_certificate() {
    let site = Site::new();
    for (server_role, client_role) in [
        (Role::Manager, Role::Device),
        (Role::Repository, Role::Manager),
        (Role::Repository, Role::Author),
    ] {
        let server = start(site.server(server_role, ClientAuth::Required, &[client_role])).await;
        let own = site.credentials(client_role);
        let answer = who(server.addr, site.client(Some(&own), server_role))
            .await
            .unwrap();
        assert_eq!(answer, own.identity().unwrap().to_string());
    }
}

#[tokio::test]
async fn http_1_and_http_2_are_chosen_by_alpn() {
    let site = Site::new();
    let server = start(site.server(Role::Manager, ClientAuth::Required, &[Role::Device])).await;
    let own = site.credentials(Role::Device);
    let two = site.client_at(Some(&own), Role::Manager, HTTP_2, at(NOW));
    let (answer, version) = who_http2(server.addr, two).await;
    assert_eq!(
        (answer.as_str(), version),
        ("drover://plant/device/pump-7", hyper::Version::HTTP_2)
    );
    let one = site.client_at(Some(&own), Role::Manager, HTTP_1_1, at(NOW));
    assert_eq!(
        who(server.addr, one).await.unwrap(),
        "drover://plant/device/pump-7"
    );
}

#[tokio::test]
async fn a_client_of_an_unknown_protocol_is_refused() {
    let site = Site::new();
    let server = start(site.server(Role::Repository, ClientAuth::None, &[])).await;
    let other = site.client_at(None, Role::Repository, "gopher", at(NOW));
    let heard = who(server.addr, other).await.unwrap_err();
    assert_eq!(heard, Refusal::ByPeer("no common protocol (ALPN)".to_owned()));
}

#[tokio::test]
async fn both_ends_of_a_channel_share_an_exporter_value_that_no_other_channel_has() {
    let site = Site::new();
    let server = start(site.server(Role::Repository, ClientAuth::Optional, &[Role::Author])).await;
    let client = site.client(None, Role::Repository);
    let (mut first, ours) = open(server.addr, client.clone()).await.unwrap();
    assert_eq!(crate::site::ask(&mut first, "/exporter").await.unwrap(), ours);
    let (_, other) = open(server.addr, client).await.unwrap();
    assert_ne!(ours, other);
}

#[tokio::test]
async fn without_a_certificate_only_optional_listeners_let_in() {
    let site = Site::new();
    let strict = start(site.server(Role::Repository, ClientAuth::Required, &[Role::Author])).await;
    let heard = who(strict.addr, site.client(None, Role::Repository))
        .await
        .unwrap_err();
    assert_eq!(
        heard,
        Refusal::ByPeer("it wants a certificate and we showed none".to_owned())
    );
    assert_eq!(strict.refusal().await, Refusal::NoCertificate);

    let open = start(site.server(Role::Repository, ClientAuth::Optional, &[Role::Author])).await;
    assert_eq!(
        who(open.addr, site.client(None, Role::Repository)).await.unwrap(),
        "nobody"
    );
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_even_where_none_is_needed() {
    let site = Site::new();
    let open = start(site.server(Role::Manager, ClientAuth::Optional, &[Role::Author])).await;
    let stranger = flawed::stranger(&site.name, Role::Author, &name("eve"), NOW).unwrap();
    who(open.addr, unchecked(&site, Some(&credentials(&stranger))))
        .await
        .unwrap_err();
    assert_eq!(open.refusal().await, Refusal::Stranger);
}

#[tokio::test]
async fn an_expired_device_is_refused_and_told() {
    let site = Site::new();
    let issued = flawed::expired_device(&site.devices, &name("pump-7"), NOW).unwrap();
    let (said, heard) = refused_by_manager(&site, &issued, &[Role::Device]).await;
    assert_eq!(said, Refusal::Expired);
    assert_eq!(
        heard,
        Refusal::ByPeer("our certificate has expired or is not valid yet".to_owned())
    );
}

#[tokio::test]
async fn a_device_before_its_time_is_refused_while_the_time_is_known() {
    let site = Site::new();
    let issued = flawed::not_yet_valid_device(&site.devices, &name("pump-7"), NOW).unwrap();
    assert_eq!(
        refused_by_manager(&site, &issued, &[Role::Device]).await.0,
        Refusal::NotYetValid
    );
}

#[tokio::test]
async fn a_device_of_a_stranger_that_uses_our_names_is_refused() {
    let site = Site::new();
    let issued = flawed::stranger_device(&site.name, &name("pump-7"), NOW).unwrap();
    let (said, heard) = refused_by_manager(&site, &issued, &[Role::Device]).await;
    assert_eq!(said, Refusal::Stranger);
    assert_eq!(
        heard,
        Refusal::ByPeer("our certificate comes from another certificate authority".to_owned())
    );
}

#[tokio::test]
async fn a_role_that_has_no_business_there_is_refused_by_name() {
    let site = Site::new();
    let (said, _) = refused_by_manager(&site, &site.issued(Role::Author), &[Role::Device]).await;
    let identity = Box::new("drover://plant/author/one".parse().unwrap());
    assert_eq!(
        said,
        Refusal::WrongRole {
            identity,
            accepted: vec![Role::Device]
        }
    );
    assert_eq!(
        said.to_string(),
        "drover://plant/author/one is not let in here: only device"
    );
}

#[tokio::test]
async fn a_certificate_of_another_site_is_refused_though_our_root_signed_it() {
    let site = Site::new();
    let issued = flawed::wrong_site(&site.root, &name("mill"), Role::Author, &name("one"), NOW).unwrap();
    let (said, _) = refused_by_manager(&site, &issued, &[Role::Author]).await;
    let identity: Identity = "drover://mill/author/one".parse().unwrap();
    let (found, expected) = (name("mill"), name("plant"));
    assert_eq!(
        said,
        Refusal::WrongSite {
            identity: Box::new(identity),
            found,
            expected
        }
    );
}

#[tokio::test]
async fn a_device_that_the_root_signed_is_refused() {
    let site = Site::new();
    let issued = flawed::device_from_root(&site.root, &name("pump-7"), NOW).unwrap();
    let identity = Box::new("drover://plant/device/pump-7".parse::<Identity>().unwrap());
    let (said, _) = refused_by_manager(&site, &issued, &[Role::Device]).await;
    assert_eq!(
        said,
        Refusal::DeviceFromRoot {
            identity: identity.clone()
        }
    );

    let dressed =
        flawed::device_from_root_with_intermediate(&site.root, &site.devices, &name("pump-7"), NOW).unwrap();
    let (said, _) = refused_by_manager(&site, &dressed, &[Role::Device]).await;
    assert_eq!(said, Refusal::DeviceFromRoot { identity });
}

#[tokio::test]
async fn an_author_or_manager_that_the_device_authority_signed_is_refused() {
    let site = Site::new();
    for role in [Role::Author, Role::Manager] {
        let issued = flawed::through_device_authority(&site.devices, role, &name("eve"), NOW).unwrap();
        let identity = Box::new(credentials(&issued).identity().unwrap());
        let (said, _) = refused_by_manager(&site, &issued, &[role]).await;
        assert_eq!(said, Refusal::ThroughDeviceAuthority { identity });
    }
}

#[tokio::test]
async fn a_device_must_bring_exactly_one_intermediate() {
    let site = Site::new();
    let good = site.issued(Role::Device);
    let leaf_end = good.chain.find("-----END CERTIFICATE-----").unwrap() + 26;
    let bare = Issued {
        chain: good.chain[..leaf_end].to_owned(),
        key: good.key.clone(),
    };
    let identity = Box::new("drover://plant/device/pump-7".parse::<Identity>().unwrap());
    let (said, _) = refused_by_manager(&site, &bare, &[Role::Device]).await;
    assert_eq!(
        said,
        Refusal::Intermediates {
            identity: identity.clone(),
            count: 0
        }
    );

    let second = site.root.device_authority(NOW).unwrap();
    let chain = format!("{}{}", good.chain, second.certificate_pem());
    let many = Issued { chain, key: good.key };
    let (said, _) = refused_by_manager(&site, &many, &[Role::Device]).await;
    assert_eq!(said, Refusal::Intermediates { identity, count: 2 });
}

#[tokio::test]
async fn a_device_that_sends_the_root_along_is_let_in() {
    let site = Site::new();
    let mut issued = site.issued(Role::Device);
    issued.chain.push_str(site.root.certificate_pem());
    let server = start(site.server(Role::Manager, ClientAuth::Required, &[Role::Device])).await;
    let own = credentials(&issued);
    who(server.addr, site.client(Some(&own), Role::Manager))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_certificate_without_or_with_two_identities_is_refused() {
    let site = Site::new();
    let none = flawed::nameless(&site.root, Role::Author, &name("one"), NOW).unwrap();
    let (said, _) = refused_by_manager(&site, &none, &[Role::Author]).await;
    assert_eq!(said, Refusal::Identity(IdentityError::Missing));
    let two = flawed::two_names(&site.root, Role::Author, [&name("one"), &name("two")], NOW).unwrap();
    let (said, _) = refused_by_manager(&site, &two, &[Role::Author]).await;
    assert_eq!(said, Refusal::Identity(IdentityError::Several));
}

#[tokio::test]
async fn a_certificate_for_the_other_side_is_refused() {
    let site = Site::new();
    let issued = flawed::wrong_usage(&site.root, Role::Author, &name("one"), NOW).unwrap();
    let (said, _) = refused_by_manager(&site, &issued, &[Role::Author]).await;
    assert_eq!(said, Refusal::WrongUsage);
}

/// What a device says about a server with this certificate, and what the server hears.
async fn refused_by_device(site: &Site, issued: &Issued) -> Refusal {
    // The impostor's own listener believes in its certificate: it checks nothing.
    let own = credentials(issued);
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(own.chain().to_vec(), own.key().clone_key())
        .unwrap();
    let server = start(config).await;
    let device = site.credentials(Role::Device);
    who(server.addr, site.client(Some(&device), Role::Manager))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_device_refuses_servers_that_are_not_its_manager() {
    let site = Site::new();
    let (role, one) = (Role::Manager, name("one"));
    let expired = flawed::expired(&site.root, role, &one, NOW).unwrap();
    assert_eq!(refused_by_device(&site, &expired).await, Refusal::Expired);
    let early = flawed::not_yet_valid(&site.root, role, &one, NOW).unwrap();
    assert_eq!(refused_by_device(&site, &early).await, Refusal::NotYetValid);
    let stranger = flawed::stranger(&site.name, role, &one, NOW).unwrap();
    assert_eq!(refused_by_device(&site, &stranger).await, Refusal::Stranger);
    let usage = flawed::wrong_usage(&site.root, Role::Repository, &one, NOW).unwrap();
    assert_eq!(refused_by_device(&site, &usage).await, Refusal::WrongUsage);
    let mill = flawed::wrong_site(&site.root, &name("mill"), role, &one, NOW).unwrap();
    assert!(matches!(
        refused_by_device(&site, &mill).await,
        Refusal::WrongSite { .. }
    ));
    let repository = site.issued(Role::Repository);
    assert!(matches!(
        refused_by_device(&site, &repository).await,
        Refusal::WrongRole { .. }
    ));
    // The device authority may not vouch for servers at all; nor does a device become one.
    let through = flawed::through_device_authority(&site.devices, role, &one, NOW).unwrap();
    assert_eq!(refused_by_device(&site, &through).await, Refusal::Stranger);
    let other_device = site.issued(Role::Device);
    assert_eq!(refused_by_device(&site, &other_device).await, Refusal::WrongUsage);
}

#[tokio::test]
async fn the_joining_port_is_verified_by_the_fingerprint_of_the_root() {
    let site = Site::new();
    let server = start(site.server(Role::Manager, ClientAuth::None, &[])).await;
    let pinned =
        |fingerprint| std::sync::Arc::new(pinned_client_config(fingerprint, &[HTTP_1_1], at(NOW)).unwrap());
    let right = pinned(site.ca.fingerprint());
    assert_eq!(who(server.addr, right.clone()).await.unwrap(), "nobody");

    let dialled = mtls::dial::dial("127.0.0.1", server.addr.port(), right, crate::site::WAIT)
        .await
        .unwrap();
    assert_eq!(dialled.server.to_string(), "drover://plant/manager/one");
    let root = dialled.certificates.last().unwrap().clone();
    assert_eq!(SiteCa::from_der(root).unwrap(), site.ca);

    let other = SiteAuthority::create(&site.name, NOW).unwrap();
    let heard = who(server.addr, pinned(other.fingerprint().unwrap()))
        .await
        .unwrap_err();
    assert_eq!(heard, Refusal::WrongFingerprint);
}

#[tokio::test]
async fn a_stranger_cannot_borrow_our_root_for_the_joining_port() {
    let site = Site::new();
    let mut issued = flawed::stranger(&site.name, Role::Manager, &name("one"), NOW).unwrap();
    issued.chain.push_str(site.root.certificate_pem());
    let own = credentials(&issued);
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(own.chain().to_vec(), own.key().clone_key())
        .unwrap();
    let server = start(config).await;
    let pinned = pinned_client_config(site.ca.fingerprint(), &[HTTP_1_1], at(NOW)).unwrap();
    let heard = who(server.addr, std::sync::Arc::new(pinned)).await.unwrap_err();
    assert_eq!(heard, Refusal::Stranger);
}

#[tokio::test]
async fn a_repository_cannot_pose_as_the_joining_port() {
    let site = Site::new();
    let server = start(site.server(Role::Repository, ClientAuth::None, &[])).await;
    let pinned = pinned_client_config(site.ca.fingerprint(), &[HTTP_1_1], at(NOW)).unwrap();
    let heard = who(server.addr, std::sync::Arc::new(pinned)).await.unwrap_err();
    assert!(matches!(heard, Refusal::WrongRole { .. }), "{heard}");
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let site = Site::new();
    let server = start(site.server(Role::Repository, ClientAuth::None, &[])).await;
    let mut raw = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    // A ClientHello of TLS 1.2: no supported_versions extension.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let extensions = [0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23];
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![0x16, 0x03, 0x01];
    record.extend(u16::try_from(hello.len() + 4).unwrap().to_be_bytes());
    record.extend([1, 0]);
    record.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
    record.extend(hello);
    raw.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    raw.read_to_end(&mut answer).await.unwrap();
    // Alert, fatal, protocol_version (70).
    assert_eq!(answer[0], 0x15);
    assert_eq!(answer[5..7], [2, 70]);
}

#[test]
fn the_authority_issues_the_uses_that_the_table_of_roles_grants() {
    use x509_parser::prelude::FromDer;
    let site = Site::new();
    for row in mtls::ROLES {
        let own = site.credentials(row.role);
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(own.leaf()).unwrap();
        let uses = parsed.extended_key_usage().unwrap().unwrap().value;
        assert_eq!(
            (uses.server_auth, uses.client_auth),
            (row.serves, row.dials),
            "{}",
            row.role
        );
        let through = own.chain().len() == 2;
        assert_eq!(
            through,
            row.issuer == mtls::Issuer::DeviceAuthority,
            "{}",
            row.role
        );
    }
}

#[tokio::test]
async fn nobody_gets_a_session_ticket_and_no_session_is_resumed() {
    let site = Site::new();
    let own = site.credentials(Role::Device);
    for auth in [ClientAuth::Required, ClientAuth::Optional, ClientAuth::None] {
        let server = start(site.server(Role::Manager, auth, &[Role::Device])).await;
        // A client that would resume if it could.
        let mut config = (*site.client(Some(&own), Role::Manager)).clone();
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        let config = std::sync::Arc::new(config);
        for _ in 0..2 {
            let (host, port) = ("127.0.0.1", server.addr.port());
            let dialled = mtls::dial::dial(host, port, config.clone(), crate::site::WAIT)
                .await
                .unwrap();
            let mut stream = dialled.stream;
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            stream
                .write_all(b"GET /who HTTP/1.1\r\nhost: plant\r\n\r\n")
                .await
                .unwrap();
            stream.read_u8().await.unwrap();
            let tls = stream.get_ref().1;
            assert_eq!(tls.tls13_tickets_received(), 0);
            // A retry of the key exchange is still a full handshake.
            assert_ne!(tls.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
        }
    }
}

//! Every port of a site against every certificate that must not get in, and every token that is not the right one.

use certs::{DeviceAuthority, Issued, SiteAuthority, flawed};
use e2e::client::{Connection, connect};
use e2e::forge::now;
use e2e::packages::{app, large_app};
use e2e::site::{PASSPHRASE, PASSWORD};
use e2e::{Program, Rogue, Site, SiteOptions, eventually};
use http_body_util::BodyExt as _;
use mtls::{Credentials, Refusal};
use protocol::{Name, Outcome, Role, Step};

/// The authorities of a site, as whoever holds their keys could use them.
struct Authorities {
    root: SiteAuthority,
    devices: DeviceAuthority,
    plant: Name,
    north: Name,
}

impl Authorities {
    fn of(site: &Site) -> Self {
        let read = |file: &str| std::fs::read_to_string(site.path(file)).unwrap();
        Self {
            root: SiteAuthority::load_encrypted(
                &read("author/ca.pem"),
                &read("author/ca-key.pem"),
                PASSPHRASE,
            )
            .unwrap(),
            devices: DeviceAuthority::load(
                &read("manager/device-ca.pem"),
                &read("manager/device-ca-key.pem"),
            )
            .unwrap(),
            plant: site.name().parse().unwrap(),
            north: "north".parse().unwrap(),
        }
    }

    /// Flawed certificates for somebody of `role`, and what the server must find.
    fn flawed(&self, role: Role) -> Vec<(&'static str, Issued, &'static str)> {
        let other: Name = "other".parse().unwrap();
        let (root, north, now) = (&self.root, &self.north, now());
        vec![
            (
                "expired",
                flawed::expired(root, role, north, now).unwrap(),
                "has expired",
            ),
            (
                "not yet valid",
                flawed::not_yet_valid(root, role, north, now).unwrap(),
                "is not valid yet",
            ),
            (
                "a stranger's",
                flawed::stranger(&self.plant, role, north, now).unwrap(),
                "does not come from this site",
            ),
            (
                "another site's",
                flawed::wrong_site(root, &other, role, north, now).unwrap(),
                "is for site other",
            ),
            (
                "a stolen gateway's work",
                flawed::through_device_authority(&self.devices, role, north, now).unwrap(),
                "vouches for devices only",
            ),
            (
                "a server's",
                flawed::wrong_usage(root, role, north, now).unwrap(),
                "not meant for this side",
            ),
        ]
    }

    fn flawed_devices(&self) -> Vec<(&'static str, Issued, &'static str)> {
        let (devices, north, now) = (&self.devices, &self.north, now());
        vec![
            (
                "expired",
                flawed::expired_device(devices, north, now).unwrap(),
                "has expired",
            ),
            (
                "not yet valid",
                flawed::not_yet_valid_device(devices, north, now).unwrap(),
                "is not valid yet",
            ),
            (
                "a stranger's",
                flawed::stranger_device(&self.plant, north, now).unwrap(),
                "does not come from this site",
            ),
            (
                "signed by the root",
                flawed::device_from_root(&self.root, north, now).unwrap(),
                "devices come through the manager's authority",
            ),
            (
                "an author's",
                self.root.issue(Role::Author, north, &[], 3600, now).unwrap(),
                "is not let in here: only device",
            ),
        ]
    }
}

/// Connects to a port of a site, showing `own` unchecked.
async fn dial(
    site: &Site,
    port: u16,
    server: Role,
    own: Option<&Credentials>,
) -> Result<Connection, Refusal> {
    connect(
        site.at(port),
        &site.path("manager/ca.pem"),
        site.name(),
        server,
        own,
    )
    .await
}

/// Shows a certificate at a port. Whether it got an answer, whatever it says.
async fn gets_in(
    site: &Site,
    port: u16,
    server: Role,
    own: Option<&Credentials>,
) -> Result<Connection, Refusal> {
    let mut connection = dial(site, port, server, own).await?;
    // In TLS 1.3 a client learns only with the first answer that its certificate was refused.
    connection.ask("GET", "/healthz", &[], "").await?;
    Ok(connection)
}

async fn refused(
    site: &Site,
    port: u16,
    server: Role,
    own: &Issued,
    what: &str,
    program: &Program,
    reason: &str,
) {
    let own = Credentials::from_pem(&own.chain, &own.key).unwrap();
    let mark = program.mark();
    assert!(
        gets_in(site, port, server, Some(&own)).await.is_err(),
        "{what} certificate got in at {port}"
    );
    program
        .wait_line_after(
            mark,
            &format!("{what} is refused at {port} for its flaw"),
            |line| line.contains("connection refused") && line.contains(reason),
        )
        .await;
}

/// R-004-87, R-004-88 [C]: the certificate of who dials is asked for, checked, and its flaw named.
#[tokio::test]
async fn each_flawed_certificate_is_refused_at_each_port_for_its_flaw() {
    let mut site = Site::running(SiteOptions::default()).await;
    let authorities = Authorities::of(&site);
    for role in [Role::Author, Role::Manager] {
        let repository = site.repository.as_ref().unwrap();
        for (what, issued, reason) in authorities.flawed(role) {
            refused(&site, 7100, Role::Repository, &issued, what, repository, reason).await;
        }
        // Afresh: a program writes ten lines of refusals a second and counts the rest.
        site.stop_repository().await;
        site.start_repository().await;
    }
    let manager = site.manager.as_ref().unwrap();
    for (what, issued, reason) in authorities.flawed_devices() {
        refused(&site, 7101, Role::Manager, &issued, what, manager, reason).await;
    }
    let mark = manager.mark();
    assert!(
        gets_in(&site, 7101, Role::Manager, None).await.is_err(),
        "nobody got in"
    );
    manager
        .wait_line_after(mark, "no certificate is refused", |line| {
            line.contains("showed no certificate")
        })
        .await;

    // The public reads of the repository and the joining port ask for none.
    assert!(gets_in(&site, 7100, Role::Repository, None).await.is_ok());
    assert!(gets_in(&site, 7102, Role::Manager, None).await.is_ok());
    // And a server that is not what the dialler looks for is refused by the dialler.
    assert!(matches!(
        gets_in(&site, 7100, Role::Manager, None).await,
        Err(Refusal::WrongRole { .. })
    ));
}

/// What a right certificate may do ends with its role.
#[tokio::test]
async fn each_role_may_do_what_is_its_own_at_the_repository() {
    let site = Site::running(SiteOptions::default()).await;
    let authorities = Authorities::of(&site);
    let issue = |role| {
        let issued = authorities
            .root
            .issue(role, &authorities.north, &[], 3600, now())
            .unwrap();
        Credentials::from_pem(&issued.chain, &issued.key).unwrap()
    };
    let (author, manager) = (issue(Role::Author), issue(Role::Manager));
    let json = [("content-type", "application/json")];
    for (who, own, method, path, body, status) in [
        ("nobody", None, "POST", "/api/v1/publish", "{}", 401),
        ("nobody", None, "POST", "/api/v1/reports", "[]", 401),
        ("nobody", None, "GET", "/api/v1/reports", "", 401),
        ("a manager", Some(&manager), "POST", "/api/v1/publish", "{}", 403),
        ("a manager", Some(&manager), "GET", "/api/v1/reports", "", 403),
        ("an author", Some(&author), "POST", "/api/v1/reports", "[]", 403),
        ("an author", Some(&author), "GET", "/api/v1/reports", "", 200),
        ("a manager", Some(&manager), "POST", "/api/v1/reports", "[]", 200),
    ] {
        let mut connection = gets_in(&site, 7100, Role::Repository, own).await.unwrap();
        let answer = connection.ask(method, path, &json, body).await.unwrap();
        assert_eq!(answer.status, status, "{who}: {method} {path}: {}", answer.text());
    }
}

/// R-004-90: the certificate alone is not enough, nor is another device's token.
#[tokio::test]
async fn a_device_needs_its_own_token_beside_its_certificate() {
    let site = Site::running(SiteOptions::default()).await;
    let (north, south) = (site.enroll("north").await, site.enroll("south").await);
    let ((own, right), (_, others)) = (north.identity(), south.identity());
    let mut cut = right.clone();
    cut.pop();
    let zeros = format!("Bearer {}", "0".repeat(64));
    for (what, token, status) in [
        ("none", None, 401),
        ("empty", Some("Bearer "), 401),
        ("zeros", Some(zeros.as_str()), 401),
        ("cut short", Some(cut.as_str()), 401),
        ("another device's", Some(others.as_str()), 401),
        ("its own", Some(right.as_str()), 404),
    ] {
        let connected = dial(&site, 7101, Role::Manager, Some(&own));
        let mut connection = connected.await.unwrap();
        let headers: Vec<_> = token.iter().map(|token| ("authorization", *token)).collect();
        let answer = connection
            .ask("GET", "/v1/metadata/none.json", &headers, "")
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(
            answer.text().contains("not-on-the-list"),
            status == 401,
            "{what}: {}",
            answer.text()
        );
    }
    // A right certificate under an enrolled name, but by another key: what a stolen device authority could make.
    let authorities = Authorities::of(&site);
    let forged = flawed::device(&authorities.devices, &authorities.north, now()).unwrap();
    let forged = Credentials::from_pem(&forged.chain, &forged.key).unwrap();
    let connected = dial(&site, 7101, Role::Manager, Some(&forged));
    let headers = [("authorization", right.as_str())];
    let answer = connected
        .await
        .unwrap()
        .ask("GET", "/v1/metadata/timestamp.json", &headers, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .text()
            .contains("this key is not the one that was enrolled"),
        "{}",
        answer.text()
    );
}

/// R-004-79: a deleted device's connections end at once, in the middle of whatever they carry.
#[tokio::test]
async fn a_deleted_device_is_cut_off_in_mid_transfer() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.enroll("north").await;
    let published = site.release(&large_app(work.path(), "1.0.0", 30_000_000)).await;
    site.watch()
        .wait("the gateway has it", |event| event.step == Step::MirrorVerified)
        .await;
    let digest = site.manager_status().await.releases[0].digest;
    let (own, token) = agent.identity();
    let headers = [("authorization", token.as_str())];
    let mut connections = Vec::new();
    for _ in 0..2 {
        connections.push(dial(&site, 7101, Role::Manager, Some(&own)).await.unwrap());
    }
    let stream = connections[0].open("/v1/events", &headers).await.unwrap();
    let transfer = connections[1]
        .open(&format!("/v1/targets/{digest}"), &headers)
        .await
        .unwrap();
    assert_eq!((stream.status().as_u16(), transfer.status().as_u16()), (200, 200));
    let (mut stream, mut transfer) = (stream.into_body(), transfer.into_body());
    assert!(transfer.frame().await.unwrap().is_ok(), "it flows");

    let line = format!("{PASSWORD}\n");
    let _ = site
        .manager(["delete-device", "north", "--password-stdin"], &line)
        .await
        .ok();
    // Nobody has read meanwhile: what comes now is what lay in the sockets, and then the end.
    let mut came = 0;
    while let Some(Ok(frame)) = transfer.frame().await {
        came += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    assert!(
        came < 20_000_000,
        "{came} bytes came after the device was deleted"
    );
    while let Some(Ok(_)) = stream.frame().await {}
    // Its certificate and token are still right, and of no use.
    let connected = dial(&site, 7101, Role::Manager, Some(&own));
    let answer = connected
        .await
        .unwrap()
        .ask("GET", "/v1/metadata/timestamp.json", &headers, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("not on the list"), "{}", answer.text());
    let _ = published;
}

/// Two-way: the device and the gateway find out who they talk to as well (R-004-87).
#[tokio::test]
async fn impostors_are_refused_by_those_who_dial_them() {
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::running(SiteOptions {
        poll_seconds: 1,
        ..SiteOptions::default()
    })
    .await;
    let other = Site::create(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let published = site.release(&app(work.path(), "1.0.0")).await;
    assert_eq!(
        agent.watch().outcome("north", published.update).await.0,
        Outcome::Committed
    );

    // The gateway's place is taken by another site's gateway, then by this site's own repository.
    site.stop_manager().await;
    let impostor = Rogue::impostor(&other, "manager", site.at(7101)).await;
    eventually(
        "a stranger's gateway is refused",
        || agent.status(),
        |status| {
            !status.connected
                && status
                    .connection
                    .contains("does not come from this site's certificate authority")
        },
    )
    .await;
    assert!(
        impostor.asked().is_empty(),
        "the device asked it for something: {:?}",
        impostor.asked()
    );
    impostor.end().await;
    let impostor = Rogue::impostor(&site, "repository", site.at(7101)).await;
    eventually(
        "a repository is no gateway",
        || agent.status(),
        |status| !status.connected && status.connection.contains("is not let in here: only manager"),
    )
    .await;
    assert!(impostor.asked().is_empty());
    impostor.end().await;
    assert_eq!(agent.shows("app").await, "1.0.0 running");

    // The repository's place is taken by another site's repository.
    site.stop_repository().await;
    let impostor = Rogue::impostor(&other, "repository", site.at(7100)).await;
    site.start_manager().await;
    eventually(
        "a stranger's repository is refused",
        || site.manager_status(),
        |status| {
            let wanted = "does not come from this site's certificate authority";
            status.alarms.iter().any(|alarm| alarm.contains(wanted))
        },
    )
    .await;
    let refused = site.publish(&app(work.path(), "2.0.0"), &[]).await;
    assert!(
        refused.refused().contains("certificate authority"),
        "{}",
        refused.stderr
    );
    assert!(impostor.asked().is_empty());
    eventually("the device is back", || agent.status(), |status| status.connected).await;
}

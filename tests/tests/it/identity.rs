//! Who may talk: certificates, tokens, the list.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use certs::{DeviceAuthority, SiteAuthority, flawed};
use e2e::packages::{ALIVE, put, script};
use e2e::process::{bin, run};
use e2e::site::{PASSPHRASE, PASSWORD};
use e2e::{Agent, Site, SiteOptions};
use mtls::{Credentials, HTTP_1_1, SiteCa, SystemClock};
use protocol::{Name, Role};
use tuf::UnixTime;

use crate::settled;

const FOREVER: &str = "exec sleep 1000";

fn now() -> UnixTime {
    use mtls::Clock as _;
    SystemClock.now().now
}

/// Dials a port of the site; the reason if it does not get in.
async fn dial(site: &Site, port: u16, own: Option<&certs::Issued>, server: Role) -> Result<(), String> {
    let ca = SiteCa::load(&site.path("manager/ca.pem")).unwrap();
    let own = own.map(|issued| Credentials::from_pem(&issued.chain, &issued.key).unwrap());
    let name: Name = "plant".parse().unwrap();
    let config = match mtls::client_config(
        own.as_ref(),
        &ca,
        &name,
        server,
        &[HTTP_1_1],
        Arc::new(SystemClock),
    ) {
        Ok(config) => config,
        Err(error) => return Err(format!("{error}")),
    };
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let connector = mtls::dial::dial(
        &site.address.to_string(),
        port,
        Arc::new(config),
        std::time::Duration::from_secs(10),
    )
    .await;
    let mut dialled = connector.map_err(|error| format!("{error:?}"))?;
    let request = b"POST /v1/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}";
    dialled
        .stream
        .write_all(request)
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = [0; 12];
    // TLS 1.3: a refused client certificate shows up with the first read.
    dialled
        .stream
        .read_exact(&mut answer)
        .await
        .map_err(|error| format!("{error:?}"))?;
    Ok(())
}

/// R-004-87/88, A6: no, wrong, expired and stranger's certificates get nowhere on the device port.
#[tokio::test]
async fn only_devices_of_this_site_get_into_the_device_port() {
    let site = Site::running(SiteOptions::default()).await;
    let read = |file: &str| std::fs::read_to_string(site.path(file)).unwrap();
    let root = SiteAuthority::load_encrypted(&read("author/ca.pem"), &read("author/ca-key.pem"), PASSPHRASE)
        .unwrap();
    let through =
        DeviceAuthority::load(&read("manager/device-ca.pem"), &read("manager/device-ca-key.pem")).unwrap();
    let (plant, pump): (Name, Name) = ("plant".parse().unwrap(), "pump".parse().unwrap());
    let wrong: Vec<(&str, Option<certs::Issued>)> = vec![
        ("none", None),
        (
            "expired",
            Some(flawed::expired_device(&through, &pump, now()).unwrap()),
        ),
        (
            "stranger",
            Some(flawed::stranger_device(&plant, &pump, now()).unwrap()),
        ),
        (
            "through the root",
            Some(flawed::device_from_root(&root, &pump, now()).unwrap()),
        ),
        (
            "an author",
            Some(root.issue(Role::Author, &pump, &[], 3600, now()).unwrap()),
        ),
        (
            "a manager made by the device authority",
            Some(flawed::through_device_authority(&through, Role::Manager, &pump, now()).unwrap()),
        ),
    ];
    for (what, issued) in wrong {
        assert!(
            dial(&site, 7101, issued.as_ref(), Role::Manager).await.is_err(),
            "{what} got in"
        );
    }
    // A right certificate alone is not enough: no token, not on the list (R-004-90: double security).
    let right = flawed::device(&through, &pump, now()).unwrap();
    dial(&site, 7101, Some(&right), Role::Manager)
        .await
        .expect("the handshake is right");
    let manager = site.manager.as_ref().unwrap();
    manager
        .wait_line("the refusal", |line| {
            line.contains("Authenticate fails") && line.contains("pump")
        })
        .await;
    // And nobody passes for the gateway towards a device.
    assert!(
        dial(&site, 7100, Some(&right), Role::Manager).await.is_err(),
        "the repository passed for a manager"
    );
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_the_application_runs_on() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let mut agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    agent.stop().await;
    put(
        &agent.dir.join("identity/token"),
        "0".repeat(64).as_bytes(),
        0o600,
    );
    agent.start().await;
    follow.message("Authenticate fails").await;
    assert!(!agent.status().await.connected);
    settled(&agent, 1).await;
}

/// R-004-79/80: right name and password; connections are cut at once; the application is not touched.
#[tokio::test]
async fn a_deleted_device_is_cut_off_and_its_application_runs_on() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    let wrong = site
        .manager(
            ["delete-device", "pump", "--password-stdin"],
            "another password\n",
        )
        .await;
    assert!(wrong.refused().contains("doesn't match"), "{}", wrong.stderr);
    let unknown = site
        .manager(
            ["delete-device", "pomp", "--password-stdin"],
            &format!("{PASSWORD}\n"),
        )
        .await;
    assert!(
        unknown.refused().contains("No exist this device"),
        "{}",
        unknown.stderr
    );
    let _ = site
        .manager(
            ["delete-device", "pump", "--password-stdin"],
            &format!("{PASSWORD}\n"),
        )
        .await
        .ok();
    let cut = follow.message("Delete trust device success").await;
    assert!(
        !cut.contains(" 0 connections"),
        "its connections were open: {cut}"
    );
    follow.message("Authenticate fails").await;
    assert!(site.devices().await.is_empty());
    assert!(!agent.status().await.connected);
    settled(&agent, 1).await;
}

#[tokio::test]
async fn the_list_takes_no_nonsense_and_no_duplicates() {
    let site = Site::running(SiteOptions::default()).await;
    let line = format!("{PASSWORD}\n");
    for name in ["", "a b", "../x", "pump\u{1f6b0}", &"x".repeat(300)] {
        let output = site
            .manager(["add-device", name, "--password-stdin"], &line)
            .await;
        assert!(!output.refused().is_empty(), "{name:?}");
    }
    let empty = site
        .manager(["add-device", "pump", "--password-stdin"], "\n")
        .await;
    assert!(
        empty.refused().contains("Input should not be null"),
        "{}",
        empty.stderr
    );
    let _ = site.add_device("pump").await;
    let twice = site
        .manager(["add-device", "pump", "--password-stdin"], &line)
        .await;
    assert!(
        twice.refused().contains("This device has existed"),
        "{}",
        twice.stderr
    );
}

/// A code works once, with the right password, and brings the author's root along another way.
#[tokio::test]
async fn a_code_works_once_and_with_its_password_only() {
    let site = Site::running(SiteOptions::default()).await;
    let code = site.add_device("pump").await;
    let root = site.path("author/root.json");
    let agent = Agent::new(site.path("devices/pump"), "pump");
    let input = format!("{code}\nnot the password\n");
    let args = [
        "enroll",
        "--dir",
        agent.dir.to_str().unwrap(),
        "--root",
        root.to_str().unwrap(),
        "--stdin",
    ];
    let wrong = e2e::process::run(&e2e::process::bin("device"), args, &input, &[]).await;
    assert!(!wrong.refused().is_empty());
    let _ = agent.enroll(&code, &root).await.ok();
    let other = Agent::new(site.path("devices/other"), "pump");
    let again = other.enroll(&code, &root).await;
    assert!(again.refused().contains("has been used"), "{}", again.stderr);
    let mode = std::fs::metadata(agent.dir.join("identity/key.pem"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
}

/// A9 and two machines with one name: an alarm, and nobody is cut off by the machine.
#[tokio::test]
async fn two_devices_with_one_name_raise_an_alarm() {
    let site = Site::running(SiteOptions {
        poll_seconds: 1,
        ..SiteOptions::default()
    })
    .await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let mut agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    agent.stop().await;
    // The thief copies the disk; both go on counting their reports from the same number.
    let copy = Agent::new(site.path("devices/copy"), "pump");
    let _ = crate::shell(&format!("cp -a {} {}", agent.dir.display(), copy.dir.display()))
        .await
        .ok();
    let mut copy = copy;
    agent.start().await;
    copy.start().await;
    let _ = site
        .publish(&script(work.path(), "app", "2.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.message("two").await;
    let status = site.manager_status().await;
    assert!(
        status.alarms.iter().any(|alarm| alarm.contains("pump")),
        "{:?}",
        status.alarms
    );
    // Which of the two is the copy, only the operator can know: neither is cut off, neither is stopped.
    for agent in [&agent, &copy] {
        e2e::eventually("it stays connected", || agent.status(), |status| status.connected).await;
        e2e::eventually("it runs", || agent.shows("app"), |shown| shown == "2.0.0 running").await;
    }
}

/// What `docs/operations.md` says about two machines of one name, typed.
#[tokio::test]
async fn after_a_quarantine_the_right_machine_comes_back_with_a_new_code_and_the_copy_does_not() {
    let site = Site::running(SiteOptions {
        poll_seconds: 1,
        ..SiteOptions::default()
    })
    .await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let mut agent = site.device("pump").await;
    let publish = async |version| {
        let _ = site
            .publish(&script(work.path(), "app", version, FOREVER, ALIVE), &[])
            .await
            .ok();
    };
    publish("1.0").await;
    follow.committed("pump", "1.0.0").await;
    agent.stop().await;
    let mut copy = Agent::new(site.path("devices/copy"), "pump");
    let _ = crate::shell(&format!("cp -a {} {}", agent.dir.display(), copy.dir.display()))
        .await
        .ok();
    agent.start().await;
    copy.start().await;
    for machine in [&agent, &copy] {
        e2e::eventually("connected", || machine.status(), |status| status.connected).await;
    }
    let said = site
        .manager(["quarantine", "pump", "--reason", "its cabinet was open"], "")
        .await;
    assert!(said.ok().stdout.contains("`manager new-code pump`"));
    for machine in [&agent, &copy] {
        let told = |status: &protocol::control::DeviceStatus| status.connection.contains("in quarantine");
        e2e::eventually("told so", || machine.status(), told).await;
    }
    publish("2.0").await;

    let line = format!("{PASSWORD}\n");
    let made = site
        .manager(["new-code", "pump", "--password-stdin", "--json"], &line)
        .await;
    let code: protocol::control::AddedDevice = made.ok().json();
    agent.stop().await;
    let (dir, root) = (agent.dir.display().to_string(), site.path("author/root.json"));
    let root = root.display().to_string();
    let args = ["enroll", "--again", "--dir", &dir, "--stdin", "--root", &root];
    let typed = format!("{}\n{PASSWORD}\n", code.code.reveal());
    let _ = run(&bin("device"), &args, &typed, &[]).await.ok();
    e2e::secrets::learn_files(&agent.dir);
    agent.start().await;
    // What a row tells of the last update comes with a signed report, and with nothing else.
    let reported = |row: &protocol::control::DeviceRow| {
        let last = row.last.as_ref().map(|last| last.version.to_string());
        last.as_deref() == Some("2.0.0")
    };
    e2e::eventually("its report", || site.device_row("pump"), reported).await;
    let row = site.device_row("pump").await;
    assert!(row.connected && row.quarantine.is_none());
    let status = site.manager_status().await;
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
    assert!(!copy.status().await.connected);
    settled(&agent, 1).await;
}

//! Who comes in, and who does not.

use std::sync::Arc;

use protocol::control::{ListChange, ListEntry, ManagerRequest};
use protocol::device::Problem;
use protocol::enroll::EnrollCode;
use protocol::{Name, Outcome, Role};
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::device::{Device, code, enroll};
use crate::site::{Gateway, PASSWORD, Site, name, secret};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_and_the_answer_is_a_problem() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let mut pump = Device::join(&site, &gateway, "pump").await;
    pump.hello(&gateway).await;
    pump.token = "00".repeat(32);
    let response = pump.get(&gateway, "/v1/metadata/timestamp.json").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let problem: Problem = response.json().await.unwrap();
    assert!(problem.message.contains("token is wrong"), "{}", problem.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_under_the_right_name_and_token_is_refused() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let folder = site.folder();
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let authority = certs::DeviceAuthority::load(&read("device-ca.pem"), &read("device-ca-key.pem")).unwrap();
    let key = certs::new_key().unwrap().to_string();
    let csr = certs::request(&key).unwrap();
    let chain = authority
        .issue_device(
            csr.as_bytes(),
            &"pump".parse().unwrap(),
            86_400,
            crate::site::now(),
        )
        .unwrap();
    let copy = Device::with(&site, "pump", &key, &chain, &pump.token);
    let response = copy.get(&gateway, "/v1/metadata/timestamp.json").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let problem: Problem = response.json().await.unwrap();
    assert!(problem.message.contains("not the one that was enrolled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_device_is_cut_off_at_once_and_stays_out() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let valve = Device::join(&site, &gateway, "valve").await;
    let mut events = pump.events(&gateway).await;
    gateway.delete("pump").await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(1), events.next()).await;
    assert!(ended.expect("the stream is still open").is_none());
    let response = pump.get(&gateway, "/v1/metadata/timestamp.json").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    valve.hello(&gateway).await;
    let asked = gateway.ask(&ManagerRequest::ListHistory { last: 10 }).await;
    let record: Vec<ListEntry> = asked.unwrap();
    let pump: Vec<ListChange> = (record.iter().filter(|entry| entry.device.as_str() == "pump"))
        .map(|entry| entry.change)
        .collect();
    assert_eq!(
        pump,
        [ListChange::Added, ListChange::Enrolled, ListChange::Deleted]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_certificate_ends_soon_says_so_from_its_start() {
    let site = Site::new(1).await;
    let life = 20 * 86_400;
    site.certify(life);
    let gateway = site.start().await;
    let status = gateway.status().await;
    let until = status.certificate_until.unwrap();
    let left = until.seconds_since(crate::site::now());
    assert!((life - 600..=life).contains(&left), "{left}");
    assert!(
        status.alarms[0].contains("certs issue manager gateway"),
        "{:?}",
        status.alarms
    );
    let mut monitor = TcpStream::connect(gateway.addresses.metrics).await.unwrap();
    monitor.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut metrics = String::new();
    monitor.read_to_string(&mut metrics).await.unwrap();
    let line = format!("drover_manager_certificate_expires_seconds {}\n", until.0);
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_not_guessed_at_the_gateways_own_socket() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    gateway.add("pump").await;
    let delete = |password: &str| ManagerRequest::DeleteDevice {
        name: name("pump"),
        password: Some(secret(password)),
    };
    // Right ones cost nothing.
    for _ in 0..20 {
        let request = ManagerRequest::NewCode {
            name: name("pump"),
            password: secret(PASSWORD),
        };
        code(&gateway.ask(&request).await.unwrap());
    }
    let mut told = Vec::new();
    for number in 0..20 {
        told.push(
            gateway
                .ask::<()>(&delete(&format!("guess {number}")))
                .await
                .unwrap_err(),
        );
    }
    let refused = told.iter().filter(|why| why.contains("match this value")).count();
    let burst = usize::try_from(manager::limits::PASSWORD_WRONG.burst).unwrap();
    assert!((burst..burst + 4).contains(&refused), "{told:?}");
    assert!(told[19].contains("wait a minute"), "{told:?}");
    let alarms = gateway.status().await.alarms;
    assert!(alarms[0].contains("too many wrong passwords"), "{alarms:?}");
    let right = gateway.ask::<()>(&delete(PASSWORD)).await.unwrap_err();
    assert!(
        right.contains("wait a minute"),
        "who guesses is not told when he is right: {right}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_in_use_without_a_restart() {
    let mut site = Site::new(1).await;
    let gateway = site.start().await;
    let before = gateway.status().await.certificate_until.unwrap();
    site.certify(200 * 86_400);
    let status = gateway
        .until("the new certificate", |status| {
            status.certificate_until.is_some_and(|until| until < before)
        })
        .await;
    assert!(
        status.alarms.is_empty() || status.alarms[0].contains("timestamp"),
        "{status:?}"
    );
    // It talks to the repository with it, signs with its key, and lets devices in as before.
    let issued = std::fs::read_to_string(site.folder().join("tls.pem")).unwrap();
    let key = std::fs::read_to_string(site.folder().join("tls-key.pem")).unwrap();
    let own = mtls::Credentials::from_pem(&issued, &key).unwrap();
    site.publish("1.0");
    gateway.check().await;
    let shelf = site.repositories[0].shelf.clone();
    let reported = gateway
        .until("its report", |_| {
            let shelf = shelf.lock().unwrap();
            shelf
                .reports
                .iter()
                .any(|relayed| relayed.chain == mtls::chain_text(own.chain()))
        })
        .await;
    assert_eq!(reported.releases.len(), 1);
    let report = shelf.lock().unwrap().reports.last().unwrap().clone();
    let vouchers = mtls::Vouchers::new(&site.ca(), &name("plant")).unwrap();
    let vouched = vouchers.key_of(&report.chain, &report.sender).unwrap();
    report.report.verify(&vouched.public_key, &report.sender).unwrap();
    let pump = Device::join(&site, &gateway, "pump").await;
    pump.hello(&gateway).await;

    // One of somebody else is not taken; the gateway goes on with what it had.
    let other = site.authority.issue(
        protocol::Role::Manager,
        &name("other"),
        &[],
        300 * 86_400,
        crate::site::now(),
    );
    let other = other.unwrap();
    for (file, text) in [
        ("tls-key.pem", other.key.as_str()),
        ("tls.pem", other.chain.as_str()),
    ] {
        durable::replace(site.folder().join(file), text.as_bytes(), 0o600).unwrap();
    }
    gateway.told("cannot be used, it goes on with the old ones").await;
    assert_eq!(shown(&site, &gateway).await, name("gateway"));
    // Nor one that has run out, nor one beside an authority that is damaged: all of it or nothing.
    site.certify(-86_400);
    gateway.told("has run out at").await;
    let write =
        |file: &str, text: &str| durable::replace(site.folder().join(file), text.as_bytes(), 0o600).unwrap();
    write("device-ca-key.pem", "half of it");
    site.certify(100 * 86_400);
    gateway.told("device-ca-key.pem cannot be used").await;
    pump.hello(&gateway).await;
    site.publish("2.0");
    gateway.check().await;
    assert_eq!(gateway.status().await.releases[0].version.to_string(), "2.0.0");
}

/// Who the joining port says it is.
async fn shown(site: &Site, gateway: &Gateway) -> Name {
    let clock = Arc::new(mtls::SystemClock);
    let tls = mtls::client_config(
        None,
        &site.ca(),
        &name("plant"),
        Role::Manager,
        &[mtls::HTTP_1_1],
        clock,
    );
    let port = gateway.addresses.enroll.port();
    let limit = std::time::Duration::from_secs(10);
    let dialled = mtls::dial::dial("127.0.0.1", port, Arc::new(tls.unwrap()), limit).await;
    dialled.unwrap().server.name
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_an_authority_of_before_are_believed_until_they_renew() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let order = pump.hello(&gateway).await.orders.remove(0);
    let authority = site.authority.device_authority(crate::site::now()).unwrap();
    for (file, text) in [
        ("device-ca-key.pem", authority.key_pem().as_str()),
        ("device-ca.pem", authority.certificate_pem()),
    ] {
        durable::replace(site.folder().join(file), text.as_bytes(), 0o600).unwrap();
    }
    gateway.told("new certificates are in use").await;
    let valve = Device::join(&site, &gateway, "valve").await;
    let vouchers = mtls::Vouchers::new(&site.ca(), &name("plant")).unwrap();
    let shelf = site.repositories[0].shelf.clone();
    for device in [&pump, &valve] {
        let told = device.report(1, &order, Outcome::Committed, "ab");
        assert_eq!(
            device.send(&gateway, std::slice::from_ref(&told)).await.through,
            1
        );
        let arrived = || {
            let shelf = shelf.lock().unwrap();
            shelf
                .reports
                .iter()
                .find(|relayed| relayed.report == told)
                .cloned()
        };
        gateway
            .until("its report at the repository", |_| arrived().is_some())
            .await;
        let relayed = arrived().unwrap();
        let vouched = vouchers.key_of(&relayed.chain, &relayed.sender).unwrap();
        relayed
            .report
            .verify(&vouched.public_key, &relayed.sender)
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_works_once() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let code = code(&gateway.add("pump").await);
    let key = certs::new_key().unwrap();
    enroll(&gateway, &code, PASSWORD, &key).await.unwrap();
    let (status, _) = enroll(&gateway, &code, PASSWORD, &key).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_wrong_passwords_void_a_code() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let code = code(&gateway.add("pump").await);
    let key = certs::new_key().unwrap();
    for _ in 0..manager::limits::CODE_FAILURES {
        let (status, _) = enroll(&gateway, &code, "wrong horse", &key).await.unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    let alarms = gateway.status().await.alarms;
    assert!(alarms.iter().any(|alarm| alarm.contains("void")), "{alarms:?}");
    let (status, _) = enroll(&gateway, &code, PASSWORD, &key).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN);
}

/// A stranger who tries codes under the name of a device, and under many others: he is told to wait, is one alarm by his
/// address, and neither keeps the device from joining, from the same address, nor takes the place of another alarm.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_one_alarm_and_keeps_nobody_from_joining() {
    let site = Site::new(1).await;
    // Another alarm: what the repository has is not what is wanted.
    site.repositories[0].shelf.lock().unwrap().broken = true;
    let gateway = site.start().await;
    let before = gateway.status().await.alarms;
    assert_eq!(before.len(), 1, "{before:?}");
    let right = code(&gateway.add("pump-7").await);
    let key = certs::new_key().unwrap();
    let guess = |number: usize| {
        let mut code = right.clone();
        code.secret = secret(&format!("{number:032x}"));
        if number.is_multiple_of(2) {
            code.device = name(&format!("a{number}"));
        }
        code
    };
    // One address may have 16 connections: as many as this, while those of the round before still end.
    let mut answers = Vec::new();
    for round in 0..3 {
        let guesses: Vec<EnrollCode> = (0..8).map(|number| guess(8 * round + number)).collect();
        let asked = guesses.iter().map(|code| enroll(&gateway, code, PASSWORD, &key));
        answers.extend(futures_util::future::join_all(asked).await);
    }
    let told: Vec<StatusCode> = answers.into_iter().map(|answer| answer.unwrap_err().0).collect();
    let burst = usize::try_from(manager::limits::ENROLL_WRONG.burst).unwrap();
    let refused = told
        .iter()
        .filter(|status| **status == StatusCode::FORBIDDEN)
        .count();
    let waits = told
        .iter()
        .filter(|status| **status == StatusCode::TOO_MANY_REQUESTS)
        .count();
    assert_eq!(refused + waits, 24, "{told:?}");
    assert!((burst..burst + 4).contains(&refused), "{told:?}");
    let alarms = gateway.status().await.alarms;
    assert_eq!(alarms.len(), 2, "{alarms:?}");
    assert!(alarms[0].ends_with("127.0.0.1"), "{alarms:?}");
    assert_eq!(alarms[1], before[0]);
    enroll(&gateway, &right, PASSWORD, &key).await.unwrap();
    assert_eq!(
        gateway.status().await.alarms,
        before,
        "a device has joined from there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cabinet_joins_from_one_address() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    for number in 0..=manager::limits::ENROLL_WRONG.burst {
        Device::join(&site, &gateway, &format!("pump-{number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_body_gets_a_problem_too() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let response = pump.post(&gateway, "/v1/hello", &"nonsense").await;
    assert!(response.status().is_client_error());
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(problem.code, "malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_enrols_anew_may_count_from_the_beginning() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let mut words = pump.words(Vec::new());
    words.report_counter = 7;
    assert!(
        pump.post(&gateway, "/v1/hello", &words)
            .await
            .status()
            .is_success()
    );
    let request = ManagerRequest::NewCode {
        name: "pump".parse().unwrap(),
        password: crate::site::secret(PASSWORD),
    };
    let code = code(&gateway.ask(&request).await.unwrap());
    let key = certs::new_key().unwrap();
    let enrolled = enroll(&gateway, &code, PASSWORD, &key).await.unwrap();
    let pump = Device::with(&site, "pump", &key, &enrolled.chain, enrolled.token.reveal());
    pump.hello(&gateway).await;
    let alarms = gateway.status().await.alarms;
    assert!(alarms.is_empty(), "{alarms:?}");
}

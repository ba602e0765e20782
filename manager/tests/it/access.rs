//! Who comes in, and who does not.

use protocol::control::{ListChange, ListEntry, ManagerRequest};
use protocol::device::Problem;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::device::{Device, code, enroll};
use crate::site::{PASSWORD, Site};

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
async fn five_wrong_passwords_void_a_code_and_a_crowd_has_to_wait() {
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
    // The name's bucket is empty by now, so the gateway asks for patience before it looks at anything.
    let mut status = StatusCode::FORBIDDEN;
    for _ in 0..manager::limits::ENROLL_ADDRESS_BURST {
        status = enroll(&gateway, &code, PASSWORD, &key).await.unwrap_err().0;
        if status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
    }
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cabinet_joins_from_one_address() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    for number in 0..=manager::limits::ENROLL_ADDRESS_BURST {
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

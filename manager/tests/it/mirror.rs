//! What is mirrored, from where, and what is left alone.

use protocol::control::{DownloadEntry, ManagerRequest};
use protocol::device::{Activity, ComponentState};
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tuf::Digest;

use crate::device::{Device, target};
use crate::site::{Gateway, Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_file_is_set_aside_said_once_and_not_fetched_again() {
    let mut site = Site::new(1).await;
    let digest = site.publish("1.0");
    let path = site.path("1.0");
    let length = site.bytes("1.0").len();
    let shelf = site.repositories[0].shelf.clone();
    shelf
        .lock()
        .unwrap()
        .files
        .insert(path.clone(), vec![b'x'; length]);
    let gateway = site.start_unasked().await;
    gateway
        .until("it has told", |status| !status.alarms.is_empty())
        .await;
    gateway.by_timer(&site).await;
    assert_eq!(site.repositories[0].asked(&path), 1);
    let status = gateway.status().await;
    assert_eq!(status.alarms.len(), 1, "{:?}", status.alarms);
    assert!(!status.releases[0].mirrored);
    let entries: Vec<DownloadEntry> = gateway.ask(&ManagerRequest::History { last: 9 }).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_ne!(entries[0].outcome, "verified");
    let pump = Device::join(&site, &gateway, "pump").await;
    assert!(pump.hello(&gateway).await.orders.is_empty());
    assert_eq!(
        pump.get(&gateway, &target(&digest)).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_address_takes_over() {
    let mut site = Site::new(2).await;
    site.publish("1.0");
    site.repositories[0].shelf.lock().unwrap().broken = true;
    let gateway = site.start().await;
    let status = gateway.status().await;
    assert!(status.releases[0].mirrored);
    assert!(site.repositories[1].asked(&site.path("1.0")) >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_downloader_rests_and_devices_stay_served() {
    let mut site = Site::new(1).await;
    let digest = site.publish("1.0");
    let gateway = site.start().await;
    gateway.ask::<()>(&ManagerRequest::Stop).await.unwrap();
    site.publish("1.1");
    let status = gateway.status().await;
    assert!(!status.downloader_running && status.next_check_seconds.is_none());
    let pump = Device::join(&site, &gateway, "pump").await;
    assert_eq!(pump.hello(&gateway).await.orders.len(), 1);
    let response = pump.get(&gateway, &target(&digest)).await;
    assert_eq!(response.bytes().await.unwrap(), site.bytes("1.0"));
    gateway.ask::<()>(&ManagerRequest::Start).await.unwrap();
    let newer = "1.1".parse().unwrap();
    gateway
        .until("the new release is mirrored", |status| {
            status
                .releases
                .iter()
                .any(|row| row.version == newer && row.mirrored)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_takes_up_a_file_where_it_broke_off() {
    let mut site = Site::new(1).await;
    let digest = site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let whole = site.bytes("1.0");
    let response = pump
        .request(&gateway, &target(&digest), Some("bytes=1000-"))
        .await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(response.bytes().await.unwrap(), whole[1000..]);
    let response = pump
        .request(&gateway, &target(&digest), Some("bytes=10-19"))
        .await;
    assert_eq!(response.bytes().await.unwrap(), whole[10..20]);
    let beyond = format!("bytes={}-", whole.len());
    let response = pump.request(&gateway, &target(&digest), Some(&beyond)).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_the_generation_before_stays_for_devices_in_the_middle_of_a_refresh() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    for _ in 0..12 {
        site.sign();
        gateway.check().await;
    }
    for version in [13, 12, 11] {
        let path = format!("/v1/metadata/{version}.snapshot.json");
        assert_eq!(pump.get(&gateway, &path).await.status(), StatusCode::OK, "{path}");
    }
    let old = pump.get(&gateway, "/v1/metadata/1.snapshot.json").await;
    assert_eq!(old.status(), StatusCode::NOT_FOUND);
}

/// The files in the mirror, by version.
fn mirrored(site: &Site, versions: &[&str]) -> Vec<String> {
    let is_here = |version: &&&str| {
        let file = Digest::of(site.bytes(version)).to_string();
        site.folder().join("state/mirror").join(file).exists()
    };
    versions.iter().filter(is_here).map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_keeps_the_newest_what_devices_have_and_the_most_recent_others() {
    let mut site = Site::new(1).await;
    // Room for two files of 380 kB.
    site.set("older_megabytes = 1");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let versions = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"];
    for version in versions {
        let digest = site.publish(version);
        assert!(!gateway.check().await.failed);
        if version == "1.1" {
            let runs = ComponentState {
                component: "Demo".parse().unwrap(),
                version: Some(version.parse().unwrap()),
                digest: Some(digest),
                previous: Some("1.0".parse().unwrap()),
                activity: Activity::Running,
                uptime_seconds: 1,
                bad: Vec::new(),
                held: false,
                waiting: None,
            };
            let response = pump.post(&gateway, "/v1/hello", &pump.words(vec![runs])).await;
            assert_eq!(response.status(), StatusCode::OK);
        }
    }
    let kept = ["1.0", "1.1", "1.4", "1.5", "1.6"];
    let once_more = async |gateway: &Gateway| {
        for _ in 0..100 {
            gateway.check().await;
            if mirrored(&site, &versions) == kept {
                return;
            }
        }
        panic!("{:?}", mirrored(&site, &versions));
    };
    once_more(&gateway).await;
    let gone = target(&Digest::of(site.bytes("1.2")));
    assert_eq!(pump.get(&gateway, &gone).await.status(), StatusCode::NOT_FOUND);
    // What devices have is known to a gateway that is started again.
    gateway.stop().await;
    let gateway = site.start().await;
    once_more(&gateway).await;
    assert!(gateway.status().await.alarms.is_empty());
}

/// A device that is in the middle of a file gets all of it, also where its link breaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_being_sent_is_removed_when_it_has_been_sent() {
    let mut site = Site::new(1).await;
    site.set("older_megabytes = 0");
    // More than the buffers of a connection hold.
    let first = site.publish_lines("1.0", 1_500_000);
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let under_way = pump.get(&gateway, &target(&first)).await;
    site.publish("1.1");
    for _ in 0..3 {
        gateway.check().await;
    }
    assert_eq!(mirrored(&site, &["1.0", "1.1"]), ["1.0", "1.1"]);
    let resumed = pump
        .request(&gateway, &target(&first), Some("bytes=1000-1999"))
        .await;
    assert_eq!(resumed.bytes().await.unwrap(), site.bytes("1.0")[1000..2000]);
    assert_eq!(under_way.bytes().await.unwrap(), site.bytes("1.0"));
    for _ in 0..100 {
        site.sign();
        gateway.check().await;
        if mirrored(&site, &["1.0", "1.1"]) == ["1.1"] {
            return;
        }
    }
    panic!("it was not removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_on_loopback() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    Device::join(&site, &gateway, "pump").await;
    let mut stream = tokio::net::TcpStream::connect(gateway.addresses.metrics)
        .await
        .unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    for line in [
        "drover_manager_devices 1",
        "drover_manager_releases_mirrored 1",
        "drover_manager_alarms 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

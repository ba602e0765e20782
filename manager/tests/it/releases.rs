//! Orders and reports: who gets what, when it stops.

use protocol::Outcome;
use protocol::control::ManagerRequest;
use protocol::device::{Activity, ComponentState, Welcome};

use crate::device::Device;
use crate::site::{Gateway, Site};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_comes_over_the_open_stream_and_a_late_comer_gets_it_in_the_welcome() {
    let mut site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let mut events = pump.events(&gateway).await;
    assert!(pump.hello(&gateway).await.orders.is_empty());
    site.publish("1.0");
    assert!(gateway.check().await.changed);
    let order = events.order().await;
    assert_eq!(order.version, "1.0".parse().unwrap());
    assert_eq!(order.expects, None);
    let valve = Device::join(&site, &gateway, "valve").await;
    assert_eq!(valve.hello(&gateway).await.orders[0].update, order.update);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_release_is_offered_to_nobody_new() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    assert_eq!(pump.hello(&gateway).await.orders.len(), 1);
    site.withdraw();
    gateway.check().await;
    let valve = Device::join(&site, &gateway, "valve").await;
    assert!(valve.hello(&gateway).await.orders.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_roll_backs_stop_a_release_until_the_operator_resumes_it() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    for device in ["pump", "valve"] {
        let device = Device::join(&site, &gateway, device).await;
        let order = device.hello(&gateway).await.orders.remove(0);
        let report = device.report(1, &order, Outcome::RolledBack, "ab");
        assert_eq!(device.send(&gateway, &[report]).await.through, 1);
    }
    let status = gateway.status().await;
    assert!(status.releases[0].stopped.as_ref().unwrap().contains("2 of 2"));
    let third = Device::join(&site, &gateway, "third").await;
    assert!(third.hello(&gateway).await.orders.is_empty());
    let resume = ManagerRequest::Resume {
        component: "Demo".parse().unwrap(),
        version: "1.0".parse().unwrap(),
    };
    gateway.ask::<()>(&resume).await.unwrap();
    assert_eq!(third.hello(&gateway).await.orders.len(), 1);
    let shelf = site.repositories[0].shelf.clone();
    gateway
        .until("the reports are passed on", |_| {
            shelf.lock().unwrap().reports.len() >= 2
        })
        .await;
}

/// A device that runs a version.
fn running(version: &str) -> ComponentState {
    ComponentState {
        component: "Demo".parse().unwrap(),
        version: version.parse().ok(),
        digest: None,
        previous: None,
        activity: Activity::Running,
        uptime_seconds: 9,
        bad: Vec::new(),
        held: false,
        waiting: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_newest_release_is_stopped_a_new_device_gets_the_one_before_and_no_other_goes_back() {
    let mut site = Site::new(1).await;
    let older = site.publish("1.0");
    site.publish("2.0");
    let gateway = site.start().await;
    assert_eq!(gateway.status().await.releases.len(), 1, "nobody needs 1.0");
    let mut streams = Vec::new();
    for device in ["pump", "valve"] {
        let device = Device::join(&site, &gateway, device).await;
        streams.push(device.events(&gateway).await);
        let order = device.hello(&gateway).await.orders.remove(0);
        assert_eq!(order.version, "2.0".parse().unwrap());
        device
            .send(&gateway, &[device.report(1, &order, Outcome::RolledBack, "ab")])
            .await;
    }
    // Both run nothing: they get the one before as soon as it has been fetched.
    for stream in &mut streams {
        assert_eq!(stream.order().await.version, "1.0".parse().unwrap());
    }
    let third = Device::join(&site, &gateway, "third").await;
    let welcomed = async |gateway: &Gateway, state: Option<&str>| {
        let mut words = third.words(state.map(running).into_iter().collect());
        words.boot_id = format!("boot-{state:?}-{}", gateway.addresses.devices);
        let response = third.post(gateway, "/v1/hello", &words).await;
        let welcome: Welcome = response.json().await.unwrap();
        let versions = welcome.orders.into_iter().map(|order| order.version.to_string());
        versions.collect::<Vec<_>>()
    };
    assert_eq!(welcomed(&gateway, None).await, ["1.0.0"]);
    for version in ["0.9", "1.0", "1.5", "2.0"] {
        let orders = welcomed(&gateway, Some(version)).await;
        assert!(orders.is_empty(), "who runs {version} was offered {orders:?}");
    }
    let response = third.get(&gateway, &crate::device::target(&older)).await;
    assert_eq!(response.bytes().await.unwrap(), site.bytes("1.0"));

    gateway.stop().await;
    let gateway = site.start().await;
    assert_eq!(welcomed(&gateway, None).await, ["1.0.0"]);
    let rows = gateway.status().await.releases;
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.stopped.is_some(), row.fallback))
        .collect();
    assert_eq!(shown, [(true, false), (false, true)]);
    let resume = ManagerRequest::Resume {
        component: "Demo".parse().unwrap(),
        version: "2.0".parse().unwrap(),
    };
    gateway.ask::<()>(&resume).await.unwrap();
    assert_eq!(welcomed(&gateway, None).await, ["2.0.0"]);
    assert_eq!(gateway.status().await.releases.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_between_the_last_roll_back_and_the_stop_stops_the_release_when_it_starts() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    for device in ["pump", "valve"] {
        let device = Device::join(&site, &gateway, device).await;
        let order = device.hello(&gateway).await.orders.remove(0);
        device
            .send(&gateway, &[device.report(1, &order, Outcome::RolledBack, "ab")])
            .await;
    }
    gateway.stop().await;
    // The reports and what they count are one transaction, the stop is a later one: without it.
    let database = rusqlite::Connection::open(site.folder().join("state/manager.db")).unwrap();
    let stops = || {
        let count = database.query_row("SELECT COUNT(*) FROM stopped", [], |row| row.get::<_, i64>(0));
        count.unwrap()
    };
    assert_eq!(database.execute("DELETE FROM stopped", []).unwrap(), 1);

    let gateway = site.start().await;
    let status = gateway.status().await;
    let why = status.releases[0].stopped.clone().unwrap();
    assert!(why.contains("2 of 2"), "{why}");
    assert!(
        status.alarms[0].contains("it did not start"),
        "{:?}",
        status.alarms
    );
    let third = Device::join(&site, &gateway, "third").await;
    assert!(third.hello(&gateway).await.orders.is_empty());
    assert_eq!(stops(), 1, "and it is written down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_report_is_acknowledged_and_a_contradicting_one_raises_an_alarm() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let order = pump.hello(&gateway).await.orders.remove(0);
    let report = pump.report(1, &order, Outcome::Committed, "ab");
    for _ in 0..2 {
        let taken = pump.send(&gateway, std::slice::from_ref(&report)).await;
        assert_eq!(taken.through, 1);
    }
    assert!(gateway.status().await.alarms.is_empty());
    let other = pump.report(1, &order, Outcome::Committed, "cd");
    assert_eq!(pump.send(&gateway, &[other]).await.through, 1);
    let alarms = gateway.status().await.alarms;
    assert!(alarms[0].contains("two different reports"), "{alarms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reboots_raise_no_alarm_and_two_machines_under_one_name_do() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let mut pump = Device::join(&site, &gateway, "pump").await;
    for boot in ["a", "b", "b", "c", "d"] {
        pump.boot = boot.to_owned();
        pump.hello(&gateway).await;
    }
    assert!(gateway.status().await.alarms.is_empty());
    pump.boot = "c".to_owned();
    pump.hello(&gateway).await;
    let alarms = gateway.status().await.alarms;
    assert!(alarms[0].contains("two machines"), "{alarms:?}");
}

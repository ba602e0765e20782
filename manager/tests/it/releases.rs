//! Orders and reports: who gets what, when it stops.

use protocol::Outcome;
use protocol::control::ManagerRequest;

use crate::device::Device;
use crate::site::Site;

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

//! Two machines under one name, and what the operator does about it.

use std::net::{IpAddr, Ipv4Addr};

use protocol::Outcome;
use protocol::control::{ListChange, ListEntry, ManagerRequest};
use protocol::device::Problem;
use reqwest::StatusCode;

use crate::device::{Device, code, enroll};
use crate::site::{Gateway, PASSWORD, Site, name, secret};

async fn alarms(gateway: &Gateway) -> Vec<String> {
    gateway.status().await.alarms
}

async fn no_alarm(gateway: &Gateway, why: &str) {
    let told = alarms(gateway).await;
    assert!(told.is_empty(), "{why}: {told:?}");
}

async fn quarantine(gateway: &Gateway, device: &str) {
    let request = ManagerRequest::Quarantine {
        name: name(device),
        reason: "its cabinet was open".into(),
    };
    gateway.ask::<()>(&request).await.unwrap();
}

/// What the device port says to it.
async fn refused(gateway: &Gateway, device: &Device) -> (u16, String) {
    let response = device.get(gateway, "/v1/metadata/timestamp.json").await;
    let status = response.status().as_u16();
    let problem: Problem = response.json().await.unwrap();
    (status, problem.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_noticed_both_show_the_key_anew_and_neither_is_kept_out() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let other = Device::join(&site, &gateway, "valve").await;
    let copy = pump.copy(&site, "boot of the thief", Ipv4Addr::new(127, 0, 0, 9).into());
    pump.hello(&gateway).await;
    let (mut stream, mut copied) = (pump.events(&gateway).await, copy.events(&gateway).await);
    let mut elsewhere = other.events(&gateway).await;
    copy.hello(&gateway).await;
    no_alarm(&gateway, "it may have been a reboot").await;
    // After a reboot this one was half open. It was not, so the right machine speaks up, with the stream first.
    assert!(stream.next().await.is_none());
    let mut stream = pump.events(&gateway).await;
    pump.hello(&gateway).await;
    // Both are asked, nobody else is.
    assert!(copied.next().await.is_none());
    assert!(stream.next().await.is_none());
    let told = alarms(&gateway).await;
    assert!(told[0].starts_with("two machines speak as pump"), "{told:?}");
    let mut streams = Vec::new();
    for machine in [&copy, &pump, &copy] {
        streams.push(machine.events(&gateway).await);
        machine.hello(&gateway).await;
    }
    let told = alarms(&gateway).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("at 127.0.0.1 and 127.0.0.9"), "{told:?}");
    assert_eq!(gateway.status().await.connected, 2);
    // Nobody cuts the other one off by saying hello.
    gateway.delete("pump").await;
    for stream in &mut streams {
        assert!(stream.next().await.is_none(), "it was open until now");
    }
    gateway.delete("valve").await;
    assert!(elsewhere.next().await.is_none(), "it was open until now");
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_go_back_and_reports_that_come_late_are_noticed() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let mut pump = Device::join(&site, &gateway, "pump").await;
    let order = pump.hello(&gateway).await.orders.remove(0);
    let made: Vec<_> = (1..=7)
        .map(|counter| pump.report(counter, &order, Outcome::Committed, "ab"))
        .collect();
    let report = |counter: usize| made[counter - 1].clone();
    // Its own: in order, with gaps, and again where an answer was lost.
    for counters in [&[1, 2][..], &[1, 2, 4], &[4, 7]] {
        let reports: Vec<_> = counters.iter().map(|counter| report(*counter)).collect();
        let taken = pump.send(&gateway, &reports).await;
        assert_eq!(taken.through, *counters.last().unwrap() as u64);
    }
    no_alarm(&gateway, "all of it was its own").await;
    let taken = pump.send(&gateway, &[report(5)]).await;
    assert_eq!(taken.through, 7);
    let told = alarms(&gateway).await;
    assert!(told[0].contains("unknown report has the number 5"), "{told:?}");
    gateway.stop().await;

    // Alarms are of one life of the gateway; what a device has counted is not.
    let gateway = site.start().await;
    no_alarm(&gateway, "it was started anew").await;
    let mut words = pump.words(Vec::new());
    words.report_counter = 6;
    pump.post(&gateway, "/v1/hello", &words).await;
    no_alarm(&gateway, "a hello may be late").await;
    pump.boot = "another".into();
    let mut words = pump.words(Vec::new());
    words.report_counter = 6;
    pump.post(&gateway, "/v1/hello", &words).await;
    let told = alarms(&gateway).await;
    assert!(told[0].contains("after 7 reports it counts 6"), "{told:?}");
    // The operator knows why; no quarantine is needed to say so.
    let readmit = ManagerRequest::Readmit { name: name("pump") };
    gateway.ask::<()>(&readmit).await.unwrap();
    no_alarm(&gateway, "it is settled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_in_quarantine_is_cut_off_until_it_is_let_in_again() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let valve = Device::join(&site, &gateway, "valve").await;
    let request = ManagerRequest::NewCode {
        name: name("pump"),
        password: secret(PASSWORD),
    };
    let open = code(&gateway.ask(&request).await.unwrap());
    let mut stream = pump.events(&gateway).await;
    quarantine(&gateway, "pump").await;
    assert!(stream.next().await.is_none());
    assert_eq!(refused(&gateway, &pump).await, (403, "quarantined".into()));
    valve.hello(&gateway).await;
    let key = certs::new_key().unwrap().to_string();
    let old = enroll(&gateway, &open, PASSWORD, &key).await;
    assert_eq!(
        old.unwrap_err().0,
        StatusCode::FORBIDDEN,
        "its code of before is void"
    );
    // It lasts over a restart.
    gateway.stop().await;
    let gateway = site.start().await;
    assert_eq!(refused(&gateway, &pump).await, (403, "quarantined".into()));
    let row = gateway.row("pump").await.unwrap();
    assert_eq!(row.quarantine.unwrap().reason, "its cabinet was open");

    let readmit = ManagerRequest::Readmit { name: name("pump") };
    gateway.ask::<()>(&readmit).await.unwrap();
    pump.hello(&gateway).await;
    assert_eq!(gateway.row("pump").await.unwrap().quarantine, None);
    let again = gateway.ask::<()>(&readmit).await.unwrap_err();
    assert!(again.to_string().contains("not in quarantine"), "{again}");

    // A new key by a new code ends it too; the old key is out for good.
    quarantine(&gateway, "pump").await;
    let new = code(&gateway.ask(&request).await.unwrap());
    let enrolled = enroll(&gateway, &new, PASSWORD, &key).await.unwrap();
    let fresh = Device::with(&site, "pump", &key, &enrolled.chain, enrolled.token.reveal());
    fresh.hello(&gateway).await;
    assert_eq!(refused(&gateway, &pump).await, (401, "not-on-the-list".into()));
    let record: Vec<ListEntry> = gateway
        .ask(&ManagerRequest::ListHistory { last: 20 })
        .await
        .unwrap();
    let changes: Vec<ListChange> = (record.iter().filter(|entry| entry.device == name("pump")))
        .map(|entry| entry.change)
        .collect();
    assert_eq!(
        changes[changes.len() - 5..],
        [
            ListChange::Quarantined,
            ListChange::Readmitted,
            ListChange::Quarantined,
            ListChange::NewCode,
            ListChange::Enrolled
        ]
    );
    let unknown = ManagerRequest::Quarantine {
        name: name("nobody"),
        reason: String::new(),
    };
    assert!(gateway.ask::<()>(&unknown).await.is_err());
}

/// What it counted and how often it was started since the backup, a gateway that is made from it has not heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_from_an_older_backup_doubts_no_honest_device_and_a_copy_as_before() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let mut pump = Device::join(&site, &gateway, "pump").await;
    let order = pump.hello(&gateway).await.orders.remove(0);
    let mut made = 0;
    let report = |pump: &Device, made: &mut u64| {
        *made += 1;
        pump.report(*made, &order, Outcome::Committed, "ab")
    };
    for _ in 0..2 {
        let told = report(&pump, &mut made);
        pump.send(&gateway, &[told]).await;
    }
    let (file, dir) = (
        site.dir.path().join("old.backup"),
        site.dir.path().join("replacement"),
    );
    let passphrase = secret("correct horse battery staple");
    let request = ManagerRequest::Backup {
        path: file.clone(),
        passphrase: passphrase.clone(),
    };
    gateway.ask::<()>(&request).await.unwrap();
    pump.boot = "another".into();
    pump.hello(&gateway).await;
    for _ in 0..3 {
        let told = report(&pump, &mut made);
        pump.send(&gateway, &[told]).await;
    }
    gateway.stop().await;

    let restore = manager::restore::Restore::open(&file, &dir, &passphrase).unwrap();
    let all = restore.devices.clone();
    restore.finish(&all).unwrap();
    let gateway = Gateway::start(&dir).await;
    for boot in ["another", "a third"] {
        pump.boot = boot.into();
        let mut words = pump.words(Vec::new());
        words.report_counter = made;
        assert!(
            pump.post(&gateway, "/v1/hello", &words)
                .await
                .status()
                .is_success()
        );
        let told = report(&pump, &mut made);
        assert_eq!(pump.send(&gateway, &[told]).await.through, made);
    }
    no_alarm(&gateway, "it is honest").await;
    pump.boot = "another".into();
    pump.hello(&gateway).await;
    assert_eq!(alarms(&gateway).await.len(), 1);
}

/// Agents of before do not say of which start their stream is.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_before_starts_and_connects_as_it_likes() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let mut pump = Device::join(&site, &gateway, "pump").await;
    let mut streams = Vec::new();
    for boot in ["one", "one", "two", "three"] {
        pump.boot = boot.into();
        let url = Device::url(gateway.addresses.devices, "/v1/events");
        let stream = pump.http.get(url).bearer_auth(&pump.token).send().await.unwrap();
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
        pump.hello(&gateway).await;
    }
    no_alarm(&gateway, "it is honest").await;
    assert_eq!(gateway.status().await.connected, 1);
    pump.boot = "two".into();
    pump.hello(&gateway).await;
    assert_eq!(alarms(&gateway).await.len(), 1);
}

/// Honest devices on bad links: connections left half open, other addresses, lost answers, reboots. `DROVER_RECONNECTS`
/// says how many there are (`scripts/eval-security` asks for ten thousand).
#[tokio::test(flavor = "multi_thread")]
async fn reconnects_from_wherever_raise_no_alarm() {
    const EACH: usize = 20;
    let count = std::env::var("DROVER_RECONNECTS").map_or(100, |count| count.parse().unwrap());
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    // Devices on the list take their turns: each has a share of hellos.
    for number in 0..count / EACH {
        let first = Device::join(&site, &gateway, &format!("pump-{number}")).await;
        let order = first.hello(&gateway).await.orders.remove(0);
        let (mut half_open, mut counter, mut boot) = (Vec::new(), 0, 0);
        for step in 0..EACH {
            // A machine that is reached from another address each time; every fourth time it has been started anew.
            boot += usize::from(step % 4 == 3);
            let last = u8::try_from(2 + (number + step) % 250).unwrap();
            let address = Ipv4Addr::new(127, 0, 0, last).into();
            let pump = first.copy(&site, &format!("boot {boot}"), address);
            let mut words = pump.words(Vec::new());
            words.report_counter = counter;
            if step % 5 == 1 {
                // It was written before the last report, and is read behind it.
                words.report_counter = counter.saturating_sub(u64::from(step % 4 != 3));
            }
            let said = pump.post(&gateway, "/v1/hello", &words).await;
            assert_eq!(said.status(), StatusCode::OK, "pump-{number}, step {step}");
            if step % 3 == 0 && half_open.len() < 2 {
                half_open.push(pump.events(&gateway).await);
            }
            let reports: Vec<_> = (counter + 1..=counter + 2)
                .map(|counter| pump.report(counter, &order, Outcome::Committed, "ab"))
                .collect();
            counter += 2;
            for _ in 0..=step % 2 {
                // The first answer may have been lost on its way.
                assert_eq!(pump.send(&gateway, &reports).await.through, counter);
            }
        }
    }
    no_alarm(&gateway, "all of them were honest").await;
    println!("{count} honest reconnects: no false alarm");
}

impl Device {
    /// Another machine, or the same one somewhere else: with everything that this one has.
    fn copy(&self, site: &Site, boot: &str, address: IpAddr) -> Self {
        let mut copy = Self::from(
            site,
            &self.name,
            &self.key,
            &self.chain,
            &self.token,
            Some(address),
        );
        copy.boot = boot.to_owned();
        copy
    }
}

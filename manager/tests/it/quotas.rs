//! One device that tells too much.

use protocol::device::Problem;
use protocol::enroll::Renew;
use protocol::{Outcome, SignedReport};
use reqwest::StatusCode;

use crate::device::Device;
use crate::site::{Gateway, Site};

/// Asks until it is told to come later; says how often it was let through.
async fn until_refused(
    device: &Device,
    gateway: &Gateway,
    path: &str,
    body: &impl serde::Serialize,
) -> usize {
    for count in 0..2_000 {
        let response = device.post(gateway, path, body).await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            assert!(response.headers().contains_key("retry-after"));
            let problem: Problem = response.json().await.unwrap();
            assert_eq!(problem.code, "slow-down");
            return count;
        }
        assert!(response.status().is_success(), "{}", response.status());
    }
    panic!("never refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_floods_is_told_to_wait_and_the_others_are_heard() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let thief = Device::join(&site, &gateway, "thief").await;
    let order = thief.hello(&gateway).await.orders.remove(0);
    // The largest requests that there are, with the same reports again and again.
    let mut report = thief.report(1, &order, Outcome::Committed, "ab");
    report.report.push_str(&" ".repeat(250 << 10));
    let large = vec![thief.signed(report.report); 15];
    let taken = until_refused(&thief, &gateway, "/v1/reports", &large).await;
    assert!((1..=5).contains(&taken), "{taken} requests of almost 4 MiB");
    let hellos = until_refused(&thief, &gateway, "/v1/hello", &thief.words(Vec::new())).await;
    assert!(hellos > 50, "{hellos}");
    // Each is signed and written to the disk; its hellos leave it this share.
    let csr = certs::request(&thief.key).unwrap();
    let renewals = until_refused(&thief, &gateway, "/v1/renew", &Renew { csr }).await;
    assert!((8..32).contains(&renewals), "{renewals}");
    gateway.told("thief tells more than its share").await;

    let pump = Device::join(&site, &gateway, "pump").await;
    let order = pump.hello(&gateway).await.orders.remove(0);
    let told = pump.report(1, &order, Outcome::Committed, "cd");
    assert_eq!(pump.send(&gateway, &[told]).await.through, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_back_counts_for_what_is_listed_only() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let order = pump.hello(&gateway).await.orders.remove(0);
    let mut reports: Vec<SignedReport> = Vec::new();
    for number in 1..=20_u8 {
        let mut invented = order.clone();
        invented.update = protocol::UpdateId::from_random([number; 16]);
        reports.push(pump.report(u64::from(number), &invented, Outcome::RolledBack, "ab"));
    }
    reports.push(pump.report(21, &order, Outcome::RolledBack, "ab"));
    assert_eq!(pump.send(&gateway, &reports).await.through, 21);
    let database = rusqlite::Connection::open(site.folder().join("state/manager.db")).unwrap();
    let sql = "SELECT update_id FROM rollbacks";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let counted: Vec<String> = rows.map(Result::unwrap).collect();
    assert_eq!(counted, [order.update.to_string()]);
    assert_eq!(gateway.status().await.releases[0].rolled_back, 1);
}

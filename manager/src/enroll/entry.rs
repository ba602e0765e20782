//! What joining and renewing change of a device's place on the list. Neither puts a device there: whoever was deleted
//! while it asked stays out.

use std::sync::Arc;

use protocol::Name;
use rusqlite::params;
use tuf::{Digest, UnixTime};

use crate::database::DatabaseError;
use crate::fleet::Enrolment;
use crate::gateway::Gateway;

/// Enrols a device and uses its code up. False where the code is there no more: it has been used, a newer one has been
/// made, or the device was deleted.
pub(super) async fn use_code(
    gateway: &Arc<Gateway>,
    name: &Name,
    secret: Vec<u8>,
    enrolment: Enrolment,
) -> Result<bool, DatabaseError> {
    let (device, own) = (name.clone(), gateway.clone());
    // The code is used up in the same transaction that enrols: of two who come at once, one is refused.
    let write = move |db: &rusqlite::Connection| {
        let name = device.as_str();
        let used = db.execute(
            "DELETE FROM codes WHERE device = ?1 AND secret = ?2",
            params![name, secret],
        )?;
        if used == 0 || save(db, name, &enrolment)? == 0 {
            return Ok(None);
        }
        // A newly enrolled device may count its reports from the beginning.
        db.execute("UPDATE devices SET report_counter = 0 WHERE name = ?1", [name])?;
        db.execute("DELETE FROM taken WHERE device = ?1", [name])?;
        db.execute("DELETE FROM twins WHERE device = ?1", [name])?;
        Ok(Some((device, enrolment)))
    };
    let joined = move |written: Option<(Name, Enrolment)>| {
        written.is_some_and(|(name, enrolment)| own.fleet.joined(&name, enrolment))
    };
    gateway.database.run_then(write, joined).await
}

/// Writes an enrolment down; gives how many devices on the list have the name: one or none.
fn save(db: &rusqlite::Connection, device: &str, enrolment: &Enrolment) -> rusqlite::Result<usize> {
    db.execute(
        // A new key ends a quarantine: the code for it came from the operator.
        "UPDATE devices SET enrolled = ?2, token = ?3, key = ?4, certificate_until = ?5, quarantined = NULL,
         quarantine_reason = NULL WHERE name = ?1",
        params![
            device,
            enrolment.at.map(|at| at.0),
            enrolment.token,
            enrolment.key.map(|key| key.to_string()),
            enrolment.certificate_until.map(|at| at.0)
        ],
    )
}

/// Notes a renewed certificate. False where the device was deleted, has enrolled with another key, or was put in
/// quarantine, since it asked.
pub(super) async fn extend(
    gateway: &Arc<Gateway>,
    name: &Name,
    key: Digest,
    until: UnixTime,
) -> Result<bool, DatabaseError> {
    let (device, own) = (name.clone(), gateway.clone());
    let write = move |db: &rusqlite::Connection| {
        let sql =
            "UPDATE devices SET certificate_until = ?3 WHERE name = ?1 AND key = ?2 AND quarantined IS NULL";
        let found = db.execute(sql, params![device.as_str(), key.to_string(), until.0])?;
        Ok((found > 0).then_some(device))
    };
    let renewed = move |found: Option<Name>| found.is_some_and(|name| own.fleet.renewed(&name, &key, until));
    gateway.database.run_then(write, renewed).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, name};

    const KEY: Digest = Digest::from_bytes([7; 32]);

    fn enrolment(key: Digest) -> Enrolment {
        Enrolment {
            token: vec![1; 32],
            key: Some(key),
            certificate_until: Some(UnixTime(2_000)),
            at: Some(UnixTime(1_000)),
            quarantine: None,
        }
    }

    /// What `manager add-device` does.
    fn add(gateway: &Gateway, device: &str, code: &[u8]) {
        let sql = "INSERT INTO devices (name, password, added) VALUES (?1, 'x', 0)";
        let code_sql = "INSERT INTO codes (device, secret, until) VALUES (?1, ?2, 9999)";
        let added = gateway.database.run_now(|db| {
            db.execute(sql, [device])?;
            db.execute(code_sql, params![device, code])
        });
        added.unwrap();
        gateway.fleet.put(name(device), Enrolment::default());
    }

    /// What `manager delete-device` does.
    fn delete(gateway: &Gateway, device: &str) {
        let sql = "DELETE FROM devices WHERE name = ?1";
        gateway.database.run_now(|db| db.execute(sql, [device])).unwrap();
        gateway.fleet.remove(&name(device));
    }

    async fn join(gateway: &Arc<Gateway>, code: &[u8], key: Digest) -> bool {
        let used = use_code(gateway, &name("pump"), code.to_vec(), enrolment(key)).await;
        used.unwrap()
    }

    async fn renew(gateway: &Arc<Gateway>, key: Digest) -> bool {
        let renewed = extend(gateway, &name("pump"), key, UnixTime(3_000)).await;
        renewed.unwrap()
    }

    #[tokio::test]
    async fn a_device_that_is_deleted_while_it_joins_stays_out() {
        let fixture = Fixture::new(certs::life::LEAF);
        let gateway = &fixture.gateway;
        // Its code and password were right when it asked; then it was deleted.
        add(gateway, "pump", b"one");
        delete(gateway, "pump");
        assert!(!join(gateway, b"one", KEY).await);
        assert!(!gateway.fleet.contains(&name("pump")));
        // Put on the list anew meanwhile: the code of before is not the one that is open now.
        add(gateway, "pump", b"two");
        assert!(!join(gateway, b"one", KEY).await);
        assert_eq!(gateway.fleet.enrolment(&name("pump")).unwrap().key, None);
        assert!(join(gateway, b"two", KEY).await);
        assert!(!join(gateway, b"two", KEY).await, "a code is used up");
    }

    #[tokio::test]
    async fn a_renewal_under_way_does_not_bring_a_deleted_device_back() {
        let fixture = Fixture::new(certs::life::LEAF);
        let gateway = &fixture.gateway;
        add(gateway, "pump", b"one");
        assert!(join(gateway, b"one", KEY).await);
        assert!(renew(gateway, KEY).await);
        let until = || gateway.fleet.enrolment(&name("pump")).unwrap().certificate_until;
        assert_eq!(until(), Some(UnixTime(3_000)));
        // It was let in with its certificate and token; then it was deleted.
        delete(gateway, "pump");
        assert!(!renew(gateway, KEY).await);
        assert!(!gateway.fleet.contains(&name("pump")));
        // Its successor under the name has another key: that one's enrolment is not touched.
        add(gateway, "pump", b"two");
        assert!(!renew(gateway, KEY).await);
        assert!(join(gateway, b"two", Digest::from_bytes([8; 32])).await);
        assert!(!renew(gateway, KEY).await);
        assert_eq!(until(), Some(UnixTime(2_000)));
    }

    #[tokio::test]
    async fn a_renewal_under_way_ends_with_a_quarantine() {
        let fixture = Fixture::new(certs::life::LEAF);
        let gateway = &fixture.gateway;
        add(gateway, "pump", b"one");
        assert!(join(gateway, b"one", KEY).await);
        // It was let in, or has shown token and key at the joining port; then it was put in quarantine.
        let quarantine = |since: Option<i64>| {
            let sql = "UPDATE devices SET quarantined = ?1";
            gateway.database.run_now(|db| db.execute(sql, [since])).unwrap();
        };
        quarantine(Some(5));
        assert!(!renew(gateway, KEY).await);
        let until = || gateway.fleet.enrolment(&name("pump")).unwrap().certificate_until;
        assert_eq!(until(), Some(UnixTime(2_000)));
        quarantine(None);
        assert!(renew(gateway, KEY).await);
    }

    #[tokio::test]
    async fn the_fleet_alone_lets_nobody_back_on_the_list() {
        let fixture = Fixture::new(certs::life::LEAF);
        let fleet = &fixture.gateway.fleet;
        assert!(!fleet.joined(&name("pump"), enrolment(KEY)));
        assert!(!fleet.renewed(&name("pump"), &KEY, UnixTime(3_000)));
        assert!(!fleet.contains(&name("pump")));
    }
}

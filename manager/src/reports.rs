//! Signed reports from devices: verified, written down, passed on.

use mtls::serve::Peer;
use protocol::author::RelayedReport;
use protocol::device::{ComponentState, DeviceOutcome, Problem, ReportsTaken};
use protocol::{Name, Outcome, Report, SignedReport, UpdateId};
use rusqlite::{OptionalExtension as _, params};
use tuf::Digest;

use crate::catalog::Catalog;
use crate::fleet::doubts::{self, Doubt};
use crate::fleet::outcome_of;
use crate::gateway::Gateway;
use crate::limits;
use crate::outbox::enqueue;

/// What a device's connection says of the key that signs its reports.
pub(crate) struct SenderKey {
    /// The key that was enrolled.
    pub(crate) key: Digest,
    /// Uncompressed P-256 point.
    pub(crate) public_key: Vec<u8>,
    /// See [`RelayedReport::chain`].
    pub(crate) chain: Vec<String>,
}

/// Takes reports of one device, oldest first; everything up to the answer is durable. `peer` is who brought them.
pub(crate) async fn take(
    gateway: &Gateway,
    name: &Name,
    sender_key: SenderKey,
    reports: Vec<SignedReport>,
    peer: &Peer,
) -> Result<ReportsTaken, Problem> {
    if reports.len() > protocol::limits::MAX_REPORTS {
        return Err(problem("too-many", format!("{} reports at once", reports.len())));
    }
    let sender = protocol::Identity {
        role: protocol::Role::Device,
        name: name.clone(),
        ..gateway.identity.clone()
    };
    let SenderKey {
        key: enrolled,
        public_key,
        chain,
    } = sender_key;
    let mut verified = Vec::with_capacity(reports.len());
    for signed in reports {
        let report = signed.verify(&public_key, &sender).map_err(|error| {
            let key = format!("report:{name}");
            // Once, whatever else is wrong with the ones behind it.
            if gateway.journal.alarm_of(&key).is_none() {
                let text = format!("{name}: {error}");
                gateway.journal.alarm(gateway.now(), &key, &text);
            }
            problem("bad-report", error.to_string())
        })?;
        verified.push((signed, report));
    }
    let (device, key) = (name.clone(), hex::encode(&public_key));
    let catalog = gateway.catalog();
    let rows: Vec<Row> = verified
        .iter()
        .map(|(signed, report)| Row {
            relayed: RelayedReport {
                report: signed.clone(),
                sender: sender.clone(),
                public_key: key.clone(),
                chain: chain.clone(),
            },
            counter: report.counter,
            rolled_back: rolled_back(report, &catalog).map(|last| last.update),
        })
        .collect();
    let stored = gateway
        .database
        .run(move |db| store(db, &device, &enrolled, &rows))
        .await;
    let stored = stored.map_err(|error| {
        tracing::error!(
            error = crate::downloader::chain(&error),
            "reports could not be written down"
        );
        problem(
            "internal",
            "the gateway could not write the reports down: try again".into(),
        )
    })?;
    let Some(Stored {
        through,
        fresh,
        doubt,
        dropped,
    }) = stored
    else {
        return Err(problem(CUT_OFF, "this device has been cut off meanwhile".into()));
    };
    if let Some(dropped) = dropped {
        crate::outbox::overflowed(gateway, &dropped);
    }
    if let Some(doubt) = doubt {
        doubts::raise(gateway, name, doubt, peer);
    }
    for (_, report) in verified
        .iter()
        .filter(|(_, report)| fresh.contains(&report.counter))
    {
        note(gateway, name, report).await;
    }
    gateway.outbox.bell.notify_one();
    Ok(ReportsTaken { through })
}

/// Code of the problem that the device is not one any more whose reports are taken.
pub(crate) const CUT_OFF: &str = "not-on-the-list";

fn problem(code: &str, message: String) -> Problem {
    Problem {
        code: code.to_owned(),
        message,
    }
}

/// A verified report as it is written down.
struct Row {
    relayed: RelayedReport,
    counter: u64,
    /// The update that the device rolled back by itself.
    rolled_back: Option<UpdateId>,
}

/// What came of writing reports down.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stored {
    /// Up to where the device's reports are here.
    through: u64,
    /// The numbers of those that were not here before.
    fresh: Vec<u64>,
    /// What the device's own would not say.
    doubt: Option<Doubt>,
    /// Whose oldest report had to go for the new ones.
    dropped: Option<String>,
}

/// How an update ended, where the device rolled it back by itself and not because a person wanted it so. Only what is
/// listed counts: nobody else's updates are kept for ever because a device invents them.
fn rolled_back(report: &Report, catalog: &Catalog) -> Option<DeviceOutcome> {
    let last = outcome_of(report).filter(|last| last.outcome == Outcome::RolledBack)?;
    if !catalog.all().any(|offer| offer.update == last.update) {
        return None;
    }
    let by_hand = |component: &ComponentState| component.component == last.component && component.held;
    (!report.components.iter().any(by_hand)).then_some(last)
}

/// Writes what is new; a repetition is acknowledged and changes nothing. None where the device was deleted, has enrolled
/// with another key or is in quarantine since it was let in: what was under way is not its successor's.
fn store(
    db: &rusqlite::Connection,
    device: &Name,
    key: &Digest,
    rows: &[Row],
) -> rusqlite::Result<Option<Stored>> {
    let held: Option<i64> = db
        .query_row(
            "SELECT report_counter FROM devices WHERE name = ?1 AND key = ?2 AND quarantined IS NULL",
            [device.as_str(), &key.to_string()],
            |row| row.get(0),
        )
        .optional()?;
    let Some(held) = held else { return Ok(None) };
    let mut stored = Stored {
        through: u64::try_from(held).unwrap_or(0),
        ..Stored::default()
    };
    for row in rows {
        let digest = Digest::of(row.relayed.report.report.as_bytes()).to_string();
        let counter = i64::try_from(row.counter).unwrap_or(i64::MAX);
        if row.counter <= stored.through {
            let known: Option<String> = db
                .query_row(
                    "SELECT digest FROM taken WHERE device = ?1 AND counter = ?2",
                    params![device.as_str(), counter],
                    |row| row.get(0),
                )
                .optional()?;
            // Reports come oldest first, and what is here is not sent again in other words. Older ones than are
            // remembered are not sent again at all.
            stored.doubt = stored.doubt.or(match known {
                Some(known) if known == digest => None,
                Some(_) => Some(Doubt::Contradiction(row.counter)),
                None => Some(Doubt::LateReport(row.counter)),
            });
            continue;
        }
        db.execute(
            "INSERT INTO taken (device, counter, digest) VALUES (?1, ?2, ?3)",
            params![device.as_str(), counter, digest],
        )?;
        db.execute(
            "DELETE FROM taken WHERE device = ?1 AND counter <= ?2",
            params![device.as_str(), counter - limits::REMEMBERED_REPORTS],
        )?;
        if let Some(dropped) = enqueue(db, &row.relayed)? {
            stored.dropped = Some(dropped);
        }
        // With its report or not at all: a report that was acknowledged does not come again.
        if let Some(update) = row.rolled_back {
            db.execute(
                "INSERT INTO rollbacks (update_id, device) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                [&update.to_string(), device.as_str()],
            )?;
        }
        stored.through = row.counter;
        stored.fresh.push(row.counter);
    }
    let through_row = i64::try_from(stored.through).unwrap_or(i64::MAX);
    db.execute(
        "UPDATE devices SET report_counter = ?2 WHERE name = ?1",
        params![device.as_str(), through_row],
    )?;
    Ok(Some(stored))
}

/// What a new report means for the twin and for the release.
async fn note(gateway: &Gateway, name: &Name, report: &Report) {
    // Progress may be lost with the agent or the link; the report tells its steps again.
    for event in report.events.iter().filter(|event| event.actor == report.actor) {
        gateway.journal.device_step(event.clone());
    }
    let last = outcome_of(report);
    gateway
        .fleet
        .reported(name, report.counter, &report.components, last.as_ref());
    save_twin(gateway, name).await;
    let catalog = gateway.catalog();
    let Some(last) = rolled_back(report, &catalog) else {
        return;
    };
    gateway.fleet.rolled_back(last.update, name);
    if let Some(reason) = gateway.fleet.to_be_stopped(last.update, &catalog) {
        stop(gateway, &last, reason).await;
    }
}

/// Stops what should have been stopped before the gateway ended: a kill may fall between a report and what follows.
pub(crate) async fn stop_due(gateway: &Gateway) {
    let catalog = gateway.catalog();
    for offer in catalog.all() {
        let Some(reason) = gateway.fleet.to_be_stopped(offer.update, &catalog) else {
            continue;
        };
        let last = gateway.fleet.told_of(&offer.update).unwrap_or(DeviceOutcome {
            update: offer.update,
            component: offer.release.component.clone(),
            version: offer.release.version.clone(),
            outcome: Outcome::RolledBack,
            reason: None,
        });
        stop(gateway, &last, reason).await;
    }
}

/// Stops offering a release that too many devices rolled back.
async fn stop(gateway: &Gateway, last: &DeviceOutcome, reason: String) {
    gateway.fleet.stop(last.update, reason.clone());
    let (id, why) = (last.update.to_string(), reason.clone());
    let kept = gateway
        .database
        .run(move |db| {
            db.execute(
                "INSERT INTO stopped (update_id, reason) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                [id, why],
            )
        })
        .await;
    if let Err(error) = kept {
        tracing::error!(
            error = crate::downloader::chain(&error),
            "the stop could not be written down"
        );
    }
    let text = format!(
        "{} {} is not offered any more: {reason} (last: {})",
        last.component,
        last.version,
        last.reason.as_deref().unwrap_or("no reason given")
    );
    gateway
        .journal
        .alarm(gateway.now(), &format!("stopped:{}", last.update), &text);
    // What new devices get instead may not be in the mirror: a replacement gateway has only the newest.
    gateway.downloader.look_for_missing();
}

/// Writes down what a device last told, for a gateway that is started again.
pub(crate) async fn save_twin(gateway: &Gateway, name: &Name) {
    let Some((hello, last, seen)) = gateway.fleet.twin(name) else {
        return;
    };
    let (device, seen) = (name.to_string(), seen.unwrap_or_else(|| gateway.now()).0);
    let (hello, last) = (
        serde_json::to_string(&hello).ok(),
        serde_json::to_string(&last).ok(),
    );
    let saved = gateway
        .database
        .run(move |db| {
            db.execute(
                "INSERT INTO twins (device, hello, outcome, seen) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (device) DO UPDATE SET hello = ?2, outcome = ?3, seen = ?4",
                params![device, hello, last, seen],
            )
        })
        .await;
    if let Err(error) = saved {
        tracing::warn!(
            error = crate::downloader::chain(&error),
            "a device's state could not be written down"
        );
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Identity, Role};

    use super::*;
    use crate::database::Database;

    fn row(counter: u64, rolled_back: Option<UpdateId>) -> Row {
        Row {
            relayed: RelayedReport {
                report: SignedReport {
                    report: format!("report {counter}"),
                    key: Digest::of(b"key"),
                    signature: String::new(),
                },
                sender: Identity {
                    site: "plant".parse().unwrap(),
                    role: Role::Device,
                    name: "pump".parse().unwrap(),
                },
                public_key: String::new(),
                chain: Vec::new(),
            },
            counter,
            rolled_back,
        }
    }

    #[test]
    fn a_roll_back_is_counted_with_its_report_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("x.db")).unwrap();
        let pump: Name = "pump".parse().unwrap();
        let update = UpdateId::from_random([7; 16]);
        let count = |sql: &'static str| {
            let counted = database.run_now(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0)));
            counted.unwrap()
        };
        let kept = || {
            (
                count("SELECT report_counter FROM devices"),
                count("SELECT COUNT(*) FROM outbox"),
                count("SELECT COUNT(*) FROM rollbacks"),
            )
        };
        let change = |sql: &'static str| database.run_now(|db| db.execute_batch(sql)).unwrap();
        let key = Digest::of(b"key");
        let joined = "INSERT INTO devices (name, password, added, key) VALUES ('pump', 'x', 0, ?1)";
        database
            .run_now(|db| db.execute(joined, [key.to_string()]))
            .unwrap();
        change(
            "CREATE TRIGGER full BEFORE INSERT ON rollbacks BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
        );
        let rows = [row(1, None), row(2, Some(update))];
        assert!(database.run_now(|db| store(db, &pump, &key, &rows)).is_err());
        assert_eq!(kept(), (0, 0, 0), "nothing is acknowledged that did not count");
        change("DROP TRIGGER full");
        let stored = database
            .run_now(|db| store(db, &pump, &key, &rows))
            .unwrap()
            .unwrap();
        assert_eq!((stored.through, stored.fresh), (2, vec![1, 2]));
        assert_eq!(
            kept(),
            (2, 2, 1),
            "what is acknowledged counts, whatever comes after it"
        );
        database.run_now(|db| store(db, &pump, &key, &rows)).unwrap();
        assert_eq!(kept(), (2, 2, 1));
    }

    /// Its requests were let in before; what was done about the device came between.
    #[test]
    fn reports_under_way_count_for_nobody_who_was_cut_off_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("x.db")).unwrap();
        let pump: Name = "pump".parse().unwrap();
        let key = Digest::of(b"key");
        let change = |sql: String| database.run_now(|db| db.execute_batch(&sql)).unwrap();
        let counter = || {
            let sql = "SELECT report_counter FROM devices";
            database
                .run_now(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0)))
                .unwrap()
        };
        let hand_over = |number| {
            let rows = [row(number, None)];
            database.run_now(|db| store(db, &pump, &key, &rows)).unwrap()
        };
        change(format!(
            "INSERT INTO devices (name, password, added, key) VALUES ('pump', 'x', 0, '{key}')"
        ));
        assert_eq!(hand_over(1).unwrap().through, 1);
        change("UPDATE devices SET quarantined = 5".into());
        assert_eq!(hand_over(2), None, "it is in quarantine");
        change("UPDATE devices SET quarantined = NULL".into());
        assert_eq!(
            hand_over(2).unwrap().through,
            2,
            "let in again it hands them over"
        );
        // Its successor under the name counts from the beginning.
        let other = Digest::of(b"other");
        change(format!(
            "UPDATE devices SET key = '{other}', report_counter = 0; DELETE FROM taken"
        ));
        assert_eq!(hand_over(900), None);
        assert_eq!(counter(), 0);
        change("DELETE FROM devices".into());
        assert_eq!(hand_over(3), None);
    }
}

//! Signed reports from devices: verified, written down, passed on.

use protocol::author::RelayedReport;
use protocol::device::{Problem, ReportsTaken};
use protocol::{Name, Outcome, Report, SignedReport};
use rusqlite::{OptionalExtension as _, params};
use tuf::Digest;

use crate::fleet::outcome_of;
use crate::gateway::Gateway;
use crate::limits;
use crate::outbox::enqueue;

/// Takes reports of one device, oldest first; everything up to the answer is durable.
pub(crate) async fn take(
    gateway: &Gateway,
    name: &Name,
    public_key: Vec<u8>,
    reports: Vec<SignedReport>,
) -> Result<ReportsTaken, Problem> {
    if reports.len() > protocol::limits::MAX_REPORTS {
        return Err(problem("too-many", format!("{} reports at once", reports.len())));
    }
    let sender = protocol::Identity {
        role: protocol::Role::Device,
        name: name.clone(),
        ..gateway.identity.clone()
    };
    let mut verified = Vec::with_capacity(reports.len());
    for signed in reports {
        let report = signed.verify(&public_key, &sender).map_err(|error| {
            gateway.journal.alarm(
                gateway.now(),
                &format!("report:{name}"),
                &format!("{name}: {error}"),
            );
            problem("bad-report", error.to_string())
        })?;
        verified.push((signed, report));
    }
    let (device, key) = (name.clone(), hex::encode(&public_key));
    let rows: Vec<(RelayedReport, u64)> = verified
        .iter()
        .map(|(signed, report)| {
            let relayed = RelayedReport {
                report: signed.clone(),
                sender: sender.clone(),
                public_key: key.clone(),
            };
            (relayed, report.counter)
        })
        .collect();
    let stored = gateway.database.run(move |db| store(db, &device, &rows)).await;
    let (through, fresh, contradiction) = stored.map_err(|error| {
        tracing::error!(
            error = crate::downloader::chain(&error),
            "reports could not be written down"
        );
        problem(
            "internal",
            "the gateway could not write the reports down: try again".into(),
        )
    })?;
    if contradiction {
        let text = format!(
            "{name} has sent two different reports under one number: two machines with one identity?"
        );
        gateway
            .journal
            .alarm(gateway.now(), &format!("twice:{name}"), &text);
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

fn problem(code: &str, message: String) -> Problem {
    Problem {
        code: code.to_owned(),
        message,
    }
}

/// Writes what is new; a repetition is acknowledged and changes nothing.
fn store(
    db: &rusqlite::Connection,
    device: &Name,
    rows: &[(RelayedReport, u64)],
) -> rusqlite::Result<(u64, Vec<u64>, bool)> {
    let held: Option<i64> = db
        .query_row(
            "SELECT report_counter FROM devices WHERE name = ?1",
            [device.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    let mut through = u64::try_from(held.unwrap_or(0)).unwrap_or(0);
    let (mut fresh, mut contradiction) = (Vec::new(), false);
    for (relayed, counter) in rows {
        let digest = Digest::of(relayed.report.report.as_bytes()).to_string();
        let stored = i64::try_from(*counter).unwrap_or(i64::MAX);
        if *counter <= through {
            let known: Option<String> = db
                .query_row(
                    "SELECT digest FROM taken WHERE device = ?1 AND counter = ?2",
                    params![device.as_str(), stored],
                    |row| row.get(0),
                )
                .optional()?;
            contradiction |= known.is_some_and(|known| known != digest);
            continue;
        }
        db.execute(
            "INSERT INTO taken (device, counter, digest) VALUES (?1, ?2, ?3)",
            params![device.as_str(), stored, digest],
        )?;
        db.execute(
            "DELETE FROM taken WHERE device = ?1 AND counter <= ?2",
            params![device.as_str(), stored - limits::REMEMBERED_REPORTS],
        )?;
        enqueue(db, relayed)?;
        through = *counter;
        fresh.push(*counter);
    }
    let through_row = i64::try_from(through).unwrap_or(i64::MAX);
    db.execute(
        "UPDATE devices SET report_counter = ?2 WHERE name = ?1",
        params![device.as_str(), through_row],
    )?;
    Ok((through, fresh, contradiction))
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
    let Some(last) = last else { return };
    if last.outcome != Outcome::RolledBack
        || report
            .components
            .iter()
            .any(|c| c.component == last.component && c.held)
    {
        return;
    }
    let update = last.update;
    let (id, device) = (update.to_string(), name.to_string());
    let kept = gateway
        .database
        .run(move |db| {
            db.execute(
                "INSERT INTO rollbacks (update_id, device) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                [id, device],
            )
        })
        .await;
    if let Err(error) = kept {
        tracing::error!(
            error = crate::downloader::chain(&error),
            "a roll back could not be written down"
        );
    }
    if let Some(reason) = gateway.fleet.rolled_back(update, name, &gateway.catalog()) {
        stop(gateway, &last, reason).await;
    }
}

/// Stops offering a release that too many devices rolled back.
async fn stop(gateway: &Gateway, last: &protocol::device::DeviceOutcome, reason: String) {
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

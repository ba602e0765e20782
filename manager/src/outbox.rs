//! Reports on their way to the repository, and this gateway's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use protocol::author::RelayedReport;
use protocol::{Event, Report, SignedReport, UpdateId};
use rusqlite::{OptionalExtension as _, params};
use tokio::sync::Notify;
use tuf::Digest;

use crate::database::{meta, set_meta};
use crate::gateway::Gateway;
use crate::limits;
use crate::repository::Repository;

/// Own steps that wait for their report, and bells for the two tasks.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    own: Mutex<BTreeMap<UpdateId, Vec<Event>>>,
    steps: Notify,
    /// Rung when there is a report to pass on.
    pub(crate) bell: Notify,
}

impl Outbox {
    /// Keeps a step of this gateway for its next report.
    pub(crate) fn own_step(&self, event: Event) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.len() >= limits::OWN_UPDATES && !own.contains_key(&event.update) {
            own.pop_first();
        }
        let steps = own.entry(event.update).or_default();
        if steps.len() < limits::OWN_STEPS {
            steps.push(event);
        }
        drop(own);
        self.steps.notify_one();
    }

    fn take(&self) -> Vec<(UpdateId, Vec<Event>)> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *own).into_iter().collect()
    }
}

/// Puts a report in the outbox; within the caller's transaction. Gives whose oldest reports had to go for it, if there
/// was no room.
pub(crate) fn enqueue(
    db: &rusqlite::Connection,
    relayed: &RelayedReport,
) -> rusqlite::Result<Option<String>> {
    enqueue_within(db, relayed, limits::OUTBOX_BYTES)
}

fn enqueue_within(
    db: &rusqlite::Connection,
    relayed: &RelayedReport,
    most: i64,
) -> rusqlite::Result<Option<String>> {
    let body = serde_json::to_string(relayed)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let digest = Digest::of(relayed.report.report.as_bytes()).to_string();
    let weight = i64::try_from(body.len())
        .unwrap_or(i64::MAX)
        .saturating_add(limits::OUTBOX_ROW);
    db.execute(
        "INSERT INTO outbox (digest, sender, weight, body) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![digest, relayed.sender.to_string(), weight, body],
    )?;
    let mut dropped = None;
    while let Some(sender) = heaviest(db, most)? {
        db.execute(
            "DELETE FROM outbox WHERE seq = (SELECT MIN(seq) FROM outbox WHERE sender = ?1)",
            [&sender],
        )?;
        dropped = Some(sender);
    }
    Ok(dropped)
}

/// Whose reports weigh most, if all of them together weigh more than `most`.
fn heaviest(db: &rusqlite::Connection, most: i64) -> rusqlite::Result<Option<String>> {
    db.query_row(
        "SELECT sender FROM outbox_weight
         WHERE sender <> '' AND (SELECT weight FROM outbox_weight WHERE sender = '') > ?1
         ORDER BY weight DESC, sender LIMIT 1",
        [most],
        |row| row.get(0),
    )
    .optional()
}

/// Raises the alarm that reports are lost; over when all have been passed on.
pub(crate) fn overflowed(gateway: &Gateway, sender: &str) {
    if gateway.journal.alarm_of(OVERFLOW).is_none() {
        let text = format!(
            "reports wait for the repository and there is no room for more: the oldest of whoever has most of them are \
             dropped, of {sender} first"
        );
        gateway.journal.alarm(gateway.now(), OVERFLOW, &text);
    }
}

/// Key of the alarm.
const OVERFLOW: &str = "outbox";

/// Writes this gateway's own reports for ever: steps are collected for a moment, then reported together.
pub(crate) async fn own(gateway: Arc<Gateway>) {
    loop {
        gateway.outbox.steps.notified().await;
        tokio::time::sleep(limits::OWN_REPORT_WAIT).await;
        for (update, events) in gateway.outbox.take() {
            if let Err(error) = own_report(&gateway, update, events).await {
                tracing::warn!(%error, "the gateway's own report could not be kept");
            }
        }
        gateway.outbox.bell.notify_one();
    }
}

/// Passes reports on for ever, as soon as there are any; what an earlier run left goes first.
pub(crate) async fn run(gateway: Arc<Gateway>, repositories: Vec<Repository>) {
    let mut wait = limits::FETCH_BACKOFF;
    loop {
        match forward(&gateway, &repositories).await {
            Ok(()) => {
                wait = limits::FETCH_BACKOFF;
                gateway.outbox.bell.notified().await;
            }
            Err(error) => {
                tracing::debug!(%error, "reports wait for the repository");
                let most = u64::try_from(wait.as_millis()).unwrap_or(1000).max(1);
                tokio::time::sleep(Duration::from_millis(crate::secrets::jitter() % most)).await;
                wait = (wait * 2).min(limits::FETCH_BACKOFF_MAX);
            }
        }
    }
}

async fn own_report(gateway: &Gateway, update: UpdateId, events: Vec<Event>) -> anyhow::Result<()> {
    let own = gateway.own();
    let key = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        own.credentials.key().secret_der(),
    )
    .map_err(|_| anyhow::anyhow!("the gateway's key is not a P-256 key"))?;
    let certificate = own.credentials.leaf();
    let (fingerprint, public) = (
        mtls::key_fingerprint(certificate)?,
        mtls::public_key_of(certificate)?,
    );
    let chain = mtls::chain_text(own.credentials.chain());
    let (actor, at) = (gateway.identity.clone(), mtls::stamp());
    let nonce = hex::encode(crate::secrets::random::<16>()?);
    let dropped = gateway
        .database
        .run(move |db| {
            let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
                rusqlite::Error::ToSqlConversionFailure(error)
            };
            let last = meta(db, "own-counter")?
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0);
            set_meta(db, "own-counter", &(last + 1).to_string())?;
            let report = Report {
                actor: actor.clone(),
                counter: last + 1,
                nonce,
                at,
                update: Some(update),
                outcome: None,
                reason: None,
                events,
                components: Vec::new(),
            };
            let text = serde_json::to_string(&report).map_err(|error| failed(error.into()))?;
            let signature = key
                .sign(&SystemRandom::new(), &SignedReport::message(&text))
                .map_err(|_| failed("the report could not be signed".into()))?;
            let signature = hex::encode(signature.as_ref());
            let report = SignedReport {
                report: text,
                key: fingerprint,
                signature,
            };
            enqueue(
                db,
                &RelayedReport {
                    report,
                    sender: actor,
                    public_key: hex::encode(public),
                    chain,
                },
            )
        })
        .await?;
    if let Some(dropped) = dropped {
        overflowed(gateway, &dropped);
    }
    Ok(())
}

/// Sends what is there, batch by batch, to the first repository that takes it.
async fn forward(gateway: &Gateway, repositories: &[Repository]) -> anyhow::Result<()> {
    let mut most = limits::FORWARD_BATCH;
    loop {
        let rows = gateway.database.run(move |db| batch(db, most)).await?;
        let Some(last) = rows.last().map(|(seq, _)| *seq) else {
            gateway.journal.clear(OVERFLOW);
            return Ok(());
        };
        let mut reports = Vec::with_capacity(rows.len());
        for (_, body) in &rows {
            reports.push(serde_json::from_str::<RelayedReport>(body)?);
        }
        match offer(repositories, &reports).await? {
            Offered::Taken => most = limits::FORWARD_BATCH,
            // One of them is to blame: find it, so that it holds up no other.
            Offered::Refused(_) if rows.len() > 1 => {
                most = 1;
                continue;
            }
            Offered::Refused(reason) => {
                let sender = reports.first().map(|report| report.sender.to_string());
                let text = format!(
                    "the repository will never take a report of {}: {reason}",
                    sender.unwrap_or_default()
                );
                gateway.journal.alarm(gateway.now(), "report-refused", &text);
            }
        }
        gateway
            .database
            .run(move |db| db.execute("DELETE FROM outbox WHERE seq <= ?1", [last]))
            .await?;
    }
}

enum Offered {
    Taken,
    /// Read and refused: the same bytes will be refused again.
    Refused(String),
}

async fn offer(repositories: &[Repository], reports: &[RelayedReport]) -> anyhow::Result<Offered> {
    let mut outcome = Err(anyhow::anyhow!("no repository is configured"));
    for repository in repositories {
        match repository.reports(reports).await {
            Ok(_) => return Ok(Offered::Taken),
            Err(error) if error.is_verdict() => outcome = Ok(Offered::Refused(error.to_string())),
            Err(error) if outcome.is_err() => outcome = Err(error.into()),
            Err(_) => {}
        }
    }
    outcome
}

/// The oldest reports, as many as fit one request.
fn batch(db: &rusqlite::Connection, most: usize) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement = db.prepare("SELECT seq, body FROM outbox ORDER BY seq LIMIT ?1")?;
    let rows = statement.query_map([i64::try_from(most).unwrap_or(1)], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?))
    })?;
    let (mut all, mut size) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        size += row.1.len();
        if size > limits::FORWARD_BYTES && !all.is_empty() {
            break;
        }
        all.push(row);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use protocol::{Identity, Role};

    use super::*;
    use crate::database::Database;
    use crate::fixture::name;

    fn report(device: &str, number: usize, size: usize) -> RelayedReport {
        RelayedReport {
            report: SignedReport {
                report: format!("{device} {number} {}", "x".repeat(size)),
                key: Digest::of(b"key"),
                signature: String::new(),
            },
            sender: Identity {
                site: name("plant"),
                role: Role::Device,
                name: name(device),
            },
            public_key: String::new(),
            chain: Vec::new(),
        }
    }

    #[test]
    fn who_floods_loses_his_own_oldest_reports_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("x.db")).unwrap();
        let most = 100_000;
        let put = |report: &RelayedReport| {
            let dropped = database.run_now(|db| enqueue_within(db, report, most)).unwrap();
            let weight: i64 = database
                .run_now(|db| db.query_row("SELECT SUM(weight) FROM outbox", [], |row| row.get(0)))
                .unwrap();
            let told: i64 = database
                .run_now(|db| {
                    let sql = "SELECT weight FROM outbox_weight WHERE sender = ''";
                    db.query_row(sql, [], |row| row.get(0))
                })
                .unwrap();
            assert_eq!(weight, told);
            assert!(weight <= most, "{weight}");
            dropped
        };
        for number in 0..10 {
            assert_eq!(put(&report("pump", number, 1_000)), None);
        }
        let thief = report("thief", 0, 0).sender.to_string();
        let dropped = (0..100).filter_map(|number| put(&report("thief", number, 5_000)));
        let dropped: Vec<String> = dropped.collect();
        assert!(dropped.len() > 80 && dropped.iter().all(|sender| *sender == thief));
        // The valve comes late and small, and finds room.
        let dropped: Vec<String> = (0..4)
            .filter_map(|number| put(&report("valve", number, 1_000)))
            .collect();
        assert!(
            !dropped.is_empty() && dropped.iter().all(|sender| *sender == thief),
            "{dropped:?}"
        );
        let kept: Vec<(String, i64, String)> = database
            .run_now(|db| {
                let sql = "SELECT sender, COUNT(*), MAX(body) FROM outbox GROUP BY sender ORDER BY sender";
                let mut statement = db.prepare(sql)?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                rows.collect()
            })
            .unwrap();
        let counts: Vec<i64> = kept.iter().map(|(_, count, _)| *count).collect();
        assert_eq!((counts[0], counts[2]), (10, 4), "{counts:?}");
        assert!(kept[1].2.contains("thief 99 "), "his newest are kept");
        // The same report again weighs nothing.
        assert_eq!(put(&report("valve", 3, 1_000)), None);
    }
}

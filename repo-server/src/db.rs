//! The database: role files, uploads, publishes, reports, the lease and a few settings.
//!
//! SQLite with a write-ahead log and full synchronisation: a transaction that has committed is on the disk,
//! one that has not is nowhere. Formats of its own: nothing here is a protocol type but in JSON columns.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use protocol::Role;
use protocol::author::{Receipt, StoredReport};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tuf::{Digest, UnixTime};

use crate::limits::KEPT_PUBLISHES;

/// Version of the tables below, in `PRAGMA user_version`.
const FORMAT: i64 = 3;

const TABLES: &str = "
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
CREATE TABLE role_file (
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    stored INTEGER NOT NULL,
    PRIMARY KEY (role, version)
) STRICT;
CREATE TABLE upload (
    digest TEXT PRIMARY KEY,
    length INTEGER NOT NULL,
    role TEXT NOT NULL,
    touched INTEGER NOT NULL
) STRICT;
CREATE TABLE publish (
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    author TEXT NOT NULL,
    at INTEGER NOT NULL,
    receipt TEXT NOT NULL,
    events TEXT NOT NULL,
    PRIMARY KEY (role, version)
) STRICT;
CREATE TABLE report (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    sender TEXT NOT NULL,
    counter INTEGER NOT NULL,
    received INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    version TEXT,
    outcome TEXT,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX report_sender ON report (sender, counter);
CREATE INDEX report_outcome ON report (version, outcome, sender);
CREATE INDEX report_bytes ON report (bytes);
CREATE TABLE lease (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    holder TEXT NOT NULL,
    machine TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;
";

/// From format 1: receipts were those of the top-level targets role alone.
const FROM_1: &str = "
BEGIN;
ALTER TABLE publish RENAME TO publish_1;
CREATE TABLE publish (
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    author TEXT NOT NULL,
    at INTEGER NOT NULL,
    receipt TEXT NOT NULL,
    events TEXT NOT NULL,
    PRIMARY KEY (role, version)
) STRICT;
INSERT INTO publish SELECT 'targets', targets, digest, author, at, receipt, events FROM publish_1;
DROP TABLE publish_1;
PRAGMA user_version = 2;
COMMIT;
";

/// Added by format 3: through whom a report came, and of whom how much is kept. `weight` is bytes and 1 KiB for each
/// report; under no sender it is that of all that came through a manager.
const SHARES: &str = "
ALTER TABLE report ADD COLUMN manager TEXT NOT NULL DEFAULT '';
CREATE INDEX report_oldest ON report (manager, sender, seq);
CREATE TABLE report_share (
    manager TEXT NOT NULL,
    sender TEXT NOT NULL,
    weight INTEGER NOT NULL,
    PRIMARY KEY (manager, sender)
) STRICT;
CREATE INDEX report_heaviest_manager ON report_share (sender, weight);
CREATE INDEX report_heaviest_sender ON report_share (manager, weight);
INSERT INTO report_share (manager, sender, weight)
    SELECT manager, sender, SUM(bytes + 1024) FROM report GROUP BY manager, sender;
INSERT INTO report_share (manager, sender, weight)
    SELECT manager, '', SUM(bytes + 1024) FROM report GROUP BY manager;
CREATE TRIGGER report_in AFTER INSERT ON report BEGIN
    INSERT INTO report_share (manager, sender, weight) VALUES (NEW.manager, NEW.sender, NEW.bytes + 1024)
        ON CONFLICT (manager, sender) DO UPDATE SET weight = weight + excluded.weight;
    INSERT INTO report_share (manager, sender, weight) VALUES (NEW.manager, '', NEW.bytes + 1024)
        ON CONFLICT (manager, sender) DO UPDATE SET weight = weight + excluded.weight;
END;
CREATE TRIGGER report_out AFTER DELETE ON report BEGIN
    UPDATE report_share SET weight = weight - OLD.bytes - 1024
        WHERE manager = OLD.manager AND sender IN ('', OLD.sender);
    DELETE FROM report_share WHERE manager = OLD.manager AND sender IN ('', OLD.sender) AND weight <= 0;
END;
";

/// Name of the setting that is there while the repository waits for what it forgot.
pub(crate) const RECOVERING: &str = "recovering";
/// Name of the setting with the verifier's memory.
pub(crate) const TRUSTED: &str = "trusted";
/// Name of the setting with the second copy of its floors.
pub(crate) const FLOORS: &str = "floors";

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
}

/// One role file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRole {
    pub(crate) version: u64,
    pub(crate) body: Vec<u8>,
}

impl Database {
    /// Opens the database for writing, making its tables if it is new.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection =
            Connection::open(path).with_context(|| format!("cannot open the database {}", path.display()))?;
        Self::prepare(connection).with_context(|| format!("cannot use the database {}", path.display()))
    }

    fn prepare(connection: Connection) -> Result<Self> {
        connection.busy_timeout(Duration::from_secs(10))?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" && mode != "memory" {
            bail!("the file system gives no write-ahead log (journal mode {mode}): use a local disk");
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match format {
            0 => {
                connection.execute_batch(&format!(
                    "BEGIN; {TABLES} {SHARES} PRAGMA user_version = {FORMAT}; COMMIT;"
                ))?;
            }
            1 | 2 => {
                if format == 1 {
                    connection.execute_batch(FROM_1)?;
                }
                let from_2 = format!("BEGIN IMMEDIATE; {SHARES} PRAGMA user_version = {FORMAT}; COMMIT;");
                connection.execute_batch(&from_2)?;
            }
            FORMAT => {}
            other => bail!("its tables have format {other}, this program reads {FORMAT}"),
        }
        Ok(Self { connection })
    }

    /// A second connection that only reads; it sees the last committed state and waits for nobody.
    pub(crate) fn open_reader(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .with_context(|| format!("cannot open the database {} for reading", path.display()))?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(Self { connection })
    }

    /// The connection itself, for the backup.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Starts a transaction that holds the writer's lock from its beginning.
    pub(crate) fn begin(&mut self) -> rusqlite::Result<Change<'_>> {
        Ok(Change(
            self.connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?,
        ))
    }

    pub(crate) fn setting(&self, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = "SELECT value FROM setting WHERE name = ?1";
        self.connection
            .query_row(sql, [name], |row| row.get(0))
            .optional()
    }

    /// The newest file of a role.
    pub(crate) fn newest(&self, role: &str) -> rusqlite::Result<Option<StoredRole>> {
        let sql = "SELECT version, body FROM role_file WHERE role = ?1 ORDER BY version DESC LIMIT 1";
        self.connection
            .query_row(sql, [role], |row| {
                Ok(StoredRole {
                    version: count(row.get(0)?),
                    body: row.get(1)?,
                })
            })
            .optional()
    }

    /// One version of a role's file.
    pub(crate) fn role_file(&self, role: &str, version: u64) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = "SELECT body FROM role_file WHERE role = ?1 AND version = ?2";
        self.connection
            .query_row(sql, params![role, int(version)], |row| row.get(0))
            .optional()
    }

    /// Waiting uploads of a role: how many, and their bytes.
    pub(crate) fn waiting(&self, role: Role, but: &Digest) -> rusqlite::Result<(u64, u64)> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(length), 0) FROM upload WHERE role = ?1 AND digest <> ?2";
        self.connection
            .query_row(sql, params![role.as_str(), but.to_string()], |row| {
                Ok((count(row.get(0)?), count(row.get(1)?)))
            })
    }

    /// Digests of all uploads that still wait.
    pub(crate) fn uploads(&self) -> Result<HashSet<Digest>> {
        let mut statement = self.connection.prepare("SELECT digest FROM upload")?;
        let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
        texts.map(|text| Ok(text?.parse()?)).collect()
    }

    /// The receipt of the publish that made `version` the current one of a role.
    pub(crate) fn receipt(&self, role: &str, version: u64) -> Result<Option<Receipt>> {
        let sql = "SELECT receipt FROM publish WHERE role = ?1 AND version = ?2";
        let text: Option<String> = self
            .connection
            .query_row(sql, params![role, int(version)], |row| row.get(0))
            .optional()?;
        text.map(|text| Ok(serde_json::from_str(&text)?)).transpose()
    }

    /// Reports after `after`, oldest first, within a count and about a size.
    pub(crate) fn reports(&self, after: u64, limit: u64, bytes: u64) -> Result<Vec<StoredReport>> {
        let sql = "SELECT seq, received, body, bytes FROM report WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(params![int(after), int(limit)])?;
        let (mut found, mut size) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            size += count(row.get(3)?);
            if size > bytes && !found.is_empty() {
                break;
            }
            let body: String = row.get(2)?;
            found.push(StoredReport {
                seq: count(row.get(0)?),
                received: UnixTime(row.get(1)?),
                relayed: serde_json::from_str(&body)?,
            });
        }
        Ok(found)
    }

    /// The place of the newest report; 0 where there is none.
    pub(crate) fn newest_report(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT COALESCE(MAX(seq), 0) FROM report";
        self.connection.query_row(sql, [], |row| Ok(count(row.get(0)?)))
    }

    /// How many reports there are, and their bytes.
    pub(crate) fn report_totals(&self) -> rusqlite::Result<(u64, u64)> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM report";
        self.connection
            .query_row(sql, [], |row| Ok((count(row.get(0)?), count(row.get(1)?))))
    }

    /// Per `COMPONENT VERSION`: how often each outcome was reported.
    pub(crate) fn outcomes(&self) -> rusqlite::Result<BTreeMap<String, BTreeMap<String, u64>>> {
        let sql = "SELECT version, outcome, COUNT(DISTINCT sender) FROM report
                   WHERE version IS NOT NULL AND outcome IS NOT NULL GROUP BY version, outcome";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut found: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            found
                .entry(row.get(0)?)
                .or_default()
                .insert(row.get(1)?, count(row.get(2)?));
        }
        Ok(found)
    }
}

/// A transaction: all of it becomes durable with [`Change::commit`], none of it without.
pub(crate) struct Change<'a>(Transaction<'a>);

impl Change<'_> {
    pub(crate) fn commit(self) -> rusqlite::Result<()> {
        self.0.commit()
    }

    pub(crate) fn set(&self, name: &str, value: &[u8]) -> rusqlite::Result<()> {
        let sql = "INSERT INTO setting (name, value) VALUES (?1, ?2)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.0.execute(sql, params![name, value]).map(drop)
    }

    pub(crate) fn unset(&self, name: &str) -> rusqlite::Result<()> {
        self.0
            .execute("DELETE FROM setting WHERE name = ?1", [name])
            .map(drop)
    }

    pub(crate) fn put_role(
        &self,
        role: &str,
        version: u64,
        body: &[u8],
        now: UnixTime,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO role_file (role, version, body, stored) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (role, version) DO UPDATE SET body = excluded.body, stored = excluded.stored";
        self.0
            .execute(sql, params![role, int(version), body, now.0])
            .map(drop)
    }

    /// Keeps the newest `keep` files of a role.
    pub(crate) fn trim_role(&self, role: &str, keep: u64) -> rusqlite::Result<()> {
        let sql = "DELETE FROM role_file WHERE role = ?1 AND version NOT IN
                   (SELECT version FROM role_file WHERE role = ?1 ORDER BY version DESC LIMIT ?2)";
        self.0.execute(sql, params![role, int(keep)]).map(drop)
    }

    /// Notes that a file waits for its metadata (or was taken off the list) since `now`.
    pub(crate) fn note_upload(
        &self,
        digest: &Digest,
        length: u64,
        role: Role,
        now: UnixTime,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO upload (digest, length, role, touched) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (digest) DO UPDATE SET length = excluded.length, touched = excluded.touched";
        self.0
            .execute(
                sql,
                params![digest.to_string(), int(length), role.as_str(), now.0],
            )
            .map(drop)
    }

    pub(crate) fn forget_upload(&self, digest: &Digest) -> rusqlite::Result<()> {
        self.0
            .execute("DELETE FROM upload WHERE digest = ?1", [digest.to_string()])
            .map(drop)
    }

    /// Forgets uploads that nobody has touched since `before`; says how many.
    pub(crate) fn forget_abandoned(&self, before: UnixTime) -> rusqlite::Result<usize> {
        self.0
            .execute("DELETE FROM upload WHERE touched < ?1", [before.0])
    }

    pub(crate) fn put_publish(
        &self,
        receipt: &Receipt,
        author: &str,
        events: &[protocol::Event],
    ) -> Result<()> {
        let sql = "INSERT INTO publish (version, digest, author, at, receipt, events, role)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT (role, version) DO UPDATE SET digest = excluded.digest, author = excluded.author,
                   at = excluded.at, receipt = excluded.receipt, events = excluded.events";
        let (receipt_json, events) = (serde_json::to_string(receipt)?, serde_json::to_string(events)?);
        let digest = receipt.targets_digest.to_string();
        let role = receipt.team.as_ref().map_or("targets", |team| team.as_str());
        let row = params![
            int(receipt.targets),
            digest,
            author,
            receipt.at.0,
            receipt_json,
            events,
            role
        ];
        self.0.execute(sql, row)?;
        let gone = receipt.targets.saturating_sub(KEPT_PUBLISHES);
        self.0.execute(
            "DELETE FROM publish WHERE role = ?1 AND version <= ?2",
            params![role, int(gone)],
        )?;
        Ok(())
    }

    /// Stores a report; `false` if these bytes are here already.
    pub(crate) fn put_report(&self, row: &ReportRow<'_>) -> rusqlite::Result<bool> {
        let sql =
            "INSERT INTO report (digest, sender, counter, received, bytes, version, outcome, body, manager)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (digest) DO NOTHING";
        let bytes = int(row.body.len() as u64);
        let digest = row.digest.to_string();
        let (counter, received) = (int(row.counter), row.received.0);
        let values = params![
            digest,
            row.sender,
            counter,
            received,
            bytes,
            row.version,
            row.outcome,
            row.body,
            row.manager
        ];
        Ok(self.0.execute(sql, values)? > 0)
    }

    /// Other reports of the same sender under the same counter.
    pub(crate) fn same_counter(&self, sender: &str, counter: u64) -> rusqlite::Result<u64> {
        let sql = "SELECT COUNT(*) FROM report WHERE sender = ?1 AND counter = ?2";
        self.0
            .query_row(sql, params![sender, int(counter)], |row| row.get(0))
            .map(count)
    }

    /// Removes the oldest report of whoever has most, among those of the manager through whom most came; gives its
    /// bytes. So whoever floods takes nobody else's room: a device of its neighbours', a manager, under however many
    /// names, of other managers'.
    pub(crate) fn drop_oldest_report(&self) -> rusqlite::Result<Option<u64>> {
        let sql = "WITH most (manager) AS (
                       SELECT manager FROM report_share WHERE sender = '' ORDER BY weight DESC LIMIT 1
                   ), heaviest (manager, sender) AS (
                       SELECT manager, sender FROM report_share
                       WHERE manager = (SELECT manager FROM most) AND sender <> '' ORDER BY weight DESC LIMIT 1
                   )
                   DELETE FROM report WHERE seq = (
                       SELECT MIN(seq) FROM report
                       WHERE manager = (SELECT manager FROM heaviest) AND sender = (SELECT sender FROM heaviest)
                   ) RETURNING bytes";
        self.0
            .query_row(sql, [], |row| row.get(0))
            .optional()
            .map(|bytes| bytes.map(count))
    }

    /// Who holds the lease: holder, machine, until.
    pub(crate) fn lease(&self) -> rusqlite::Result<Option<(String, String, UnixTime)>> {
        let sql = "SELECT holder, machine, until FROM lease";
        self.0
            .query_row(sql, [], |row| {
                Ok((row.get(0)?, row.get(1)?, UnixTime(row.get(2)?)))
            })
            .optional()
    }

    pub(crate) fn take_lease(&self, holder: &str, machine: &str, until: UnixTime) -> rusqlite::Result<()> {
        let sql = "INSERT INTO lease (one, holder, machine, until) VALUES (1, ?1, ?2, ?3)
                   ON CONFLICT (one) DO UPDATE SET holder = excluded.holder, machine = excluded.machine,
                   until = excluded.until";
        self.0.execute(sql, params![holder, machine, until.0]).map(drop)
    }

    /// Prolongs the lease; `false` if it is somebody else's by now.
    pub(crate) fn keep_lease(&self, holder: &str, until: UnixTime) -> rusqlite::Result<bool> {
        let changed = self.0.execute(
            "UPDATE lease SET until = ?2 WHERE holder = ?1",
            params![holder, until.0],
        )?;
        Ok(changed == 1)
    }

    pub(crate) fn drop_lease(&self, holder: Option<&str>) -> rusqlite::Result<()> {
        let sql = "DELETE FROM lease WHERE ?1 IS NULL OR holder = ?1";
        self.0.execute(sql, [holder]).map(drop)
    }
}

/// A report as a row.
pub(crate) struct ReportRow<'a> {
    pub(crate) digest: Digest,
    pub(crate) sender: &'a str,
    /// Through whom it came.
    pub(crate) manager: &'a str,
    pub(crate) counter: u64,
    pub(crate) received: UnixTime,
    /// `COMPONENT VERSION`, for a report about an update.
    pub(crate) version: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) body: &'a str,
}

/// SQLite's integers are signed; ours stay far below (versions under 2^53 by JSON, lengths under 2^33).
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("x.db")).unwrap();
        (dir, database)
    }

    #[test]
    fn commits_reach_the_disk_before_they_return() {
        let (_dir, database) = open();
        let pragma = |name: &str| -> String {
            let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
            database.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(
            (pragma("journal_mode").as_str(), pragma("synchronous").as_str()),
            ("wal", "2")
        );
    }

    #[test]
    fn a_change_that_is_not_committed_leaves_nothing() {
        let (_dir, mut database) = open();
        let change = database.begin().unwrap();
        change.put_role("targets", 1, b"x", UnixTime(1)).unwrap();
        drop(change);
        assert_eq!(database.newest("targets").unwrap(), None);
    }

    #[test]
    fn only_the_newest_files_of_a_role_are_kept() {
        let (_dir, mut database) = open();
        let change = database.begin().unwrap();
        for version in 1..=5 {
            change.put_role("snapshot", version, &[1], UnixTime(1)).unwrap();
        }
        change.trim_role("snapshot", 2).unwrap();
        change.commit().unwrap();
        assert_eq!(database.newest("snapshot").unwrap().unwrap().version, 5);
        assert!(database.role_file("snapshot", 4).unwrap().is_some());
        assert!(database.role_file("snapshot", 3).unwrap().is_none());
    }

    fn put(change: &Change<'_>, manager: &str, sender: &str, number: u64, size: usize) {
        let body = format!("{manager} {sender} {number} {}", "x".repeat(size));
        let row = ReportRow {
            digest: Digest::of(body.as_bytes()),
            sender,
            manager,
            counter: number,
            received: UnixTime(1),
            version: None,
            outcome: None,
            body: &body,
        };
        assert!(change.put_report(&row).unwrap());
    }

    /// Sender and counter of what is kept, oldest first.
    fn kept(database: &Database) -> Vec<(String, i64)> {
        let sql = "SELECT sender, counter FROM report ORDER BY seq";
        let mut statement = database.connection.prepare(sql).unwrap();
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn shares(database: &Database) -> Vec<(String, String, i64)> {
        let sql = "SELECT manager, sender, weight FROM report_share ORDER BY manager, sender";
        let mut statement = database.connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn room_is_made_by_whoever_has_most_and_came_through_the_manager_that_brought_most() {
        let (_dir, mut database) = open();
        let change = database.begin().unwrap();
        put(&change, "east", "pump", 1, 10);
        put(&change, "west", "valve", 1, 10);
        // One device that floods, and a manager that invents a device for each report.
        for number in 0..20 {
            put(&change, "west", "thief", number, 10);
        }
        for number in 0..40 {
            put(&change, "rogue", &format!("ghost-{number:02}"), number, 10);
        }
        for _ in 0..50 {
            assert!(change.drop_oldest_report().unwrap().is_some());
        }
        change.commit().unwrap();
        let left = kept(&database);
        let of = |sender: &str| left.iter().filter(|(found, _)| found.starts_with(sender)).count();
        assert_eq!((left.len(), of("pump"), of("valve")), (12, 1, 1), "{left:?}");
        assert!(of("ghost") <= 6 && of("thief") >= 4, "{left:?}");
        assert!(
            left.contains(&("thief".into(), 19)),
            "the newest are kept: {left:?}"
        );
        let change = database.begin().unwrap();
        while change.drop_oldest_report().unwrap().is_some() {}
        change.commit().unwrap();
        assert!(kept(&database).is_empty() && shares(&database).is_empty());
    }

    /// What format 1 had in the place of the table of publishes.
    const PUBLISH_1: &str =
        "DROP TABLE publish; CREATE TABLE publish (targets INTEGER PRIMARY KEY, digest TEXT NOT NULL,
        author TEXT NOT NULL, at INTEGER NOT NULL, receipt TEXT NOT NULL, events TEXT NOT NULL) STRICT;
        INSERT INTO publish VALUES (7, 'd', 'a', 1, '{}', '[]');";

    #[test]
    fn what_older_formats_have_is_kept_and_their_reports_have_shares() {
        for format in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.db");
            let old = Connection::open(&path).unwrap();
            old.execute_batch(TABLES).unwrap();
            if format == 1 {
                old.execute_batch(PUBLISH_1).unwrap();
            }
            old.execute_batch(
                "INSERT INTO report (digest, sender, counter, received, bytes, body) VALUES
                 ('a', 'pump', 1, 1, 10, 'x'), ('b', 'pump', 2, 1, 20, 'x'), ('c', 'valve', 1, 1, 5, 'x');",
            )
            .unwrap();
            old.pragma_update(None, "user_version", format).unwrap();
            drop(old);
            for _ in 0..2 {
                let database = Database::open(&path).unwrap();
                assert_eq!(kept(&database).len(), 3);
                let of = |sender: &str, weight: i64| (String::new(), sender.to_owned(), weight);
                let wanted = [
                    of("", 35 + 3 * 1_024),
                    of("pump", 30 + 2 * 1_024),
                    of("valve", 5 + 1_024),
                ];
                assert_eq!(shares(&database), wanted);
                if format == 1 {
                    let sql = "SELECT version FROM publish WHERE role = 'targets'";
                    let version: i64 = database.connection.query_row(sql, [], |row| row.get(0)).unwrap();
                    assert_eq!(version, 7);
                }
            }
            let mut database = Database::open(&path).unwrap();
            let change = database.begin().unwrap();
            put(&change, "east", "pump", 3, 10);
            change.commit().unwrap();
            assert_eq!(kept(&database).len(), 4);
        }
    }

    #[test]
    fn tables_of_a_later_program_are_refused() {
        let (dir, database) = open();
        database
            .connection
            .pragma_update(None, "user_version", 99)
            .unwrap();
        drop(database);
        let error = Database::open(&dir.path().join("x.db")).unwrap_err();
        assert!(format!("{error:#}").contains("format 99"), "{error:#}");
    }
}

//! The gateway's database: devices, codes, reports on their way, how releases fared.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, TransactionBehavior};

/// Version of the schema below.
const SCHEMA: i64 = 3;

const TABLES: &str = "
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;
-- The list of trusted devices. `token` is a keyed hash, `password` an Argon2id PHC string.
CREATE TABLE devices (
  name TEXT PRIMARY KEY,
  password TEXT NOT NULL,
  added INTEGER NOT NULL,
  enrolled INTEGER,
  token BLOB,
  key TEXT,
  public_key BLOB,
  certificate_until INTEGER,
  report_counter INTEGER NOT NULL DEFAULT 0
) STRICT;
-- One open code per device; `secret` is a keyed hash.
CREATE TABLE codes (
  device TEXT PRIMARY KEY REFERENCES devices (name) ON DELETE CASCADE,
  secret BLOB NOT NULL,
  until INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0
) STRICT;
-- What a device last told of itself.
CREATE TABLE twins (
  device TEXT PRIMARY KEY REFERENCES devices (name) ON DELETE CASCADE,
  hello TEXT,
  outcome TEXT,
  seen INTEGER NOT NULL
) STRICT;
-- Digests of the newest reports of each device, to tell a repetition from a contradiction.
CREATE TABLE taken (
  device TEXT NOT NULL REFERENCES devices (name) ON DELETE CASCADE,
  counter INTEGER NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (device, counter)
) STRICT;
-- Which devices rolled an update back.
CREATE TABLE rollbacks (
  update_id TEXT NOT NULL,
  device TEXT NOT NULL,
  PRIMARY KEY (update_id, device)
) STRICT;
-- Updates that are not offered any more, and why.
CREATE TABLE stopped (
  update_id TEXT PRIMARY KEY,
  reason TEXT NOT NULL
) STRICT;
";

/// Added by version 2: of whom how much waits for the repository.
const OUTBOX: &str = "
-- Reports on their way to the repository.
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  digest TEXT NOT NULL UNIQUE,
  sender TEXT NOT NULL,
  weight INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_sender ON outbox (sender, seq);
-- What the reports of each sender weigh; under no name those of all.
CREATE TABLE outbox_weight (
  sender TEXT PRIMARY KEY,
  weight INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_heaviest ON outbox_weight (weight, sender);
INSERT INTO outbox_weight (sender, weight) VALUES ('', 0);
CREATE TRIGGER outbox_in AFTER INSERT ON outbox BEGIN
  INSERT INTO outbox_weight (sender, weight) VALUES (NEW.sender, NEW.weight)
    ON CONFLICT (sender) DO UPDATE SET weight = weight + NEW.weight;
  UPDATE outbox_weight SET weight = weight + NEW.weight WHERE sender = '';
END;
CREATE TRIGGER outbox_out AFTER DELETE ON outbox BEGIN
  UPDATE outbox_weight SET weight = weight - OLD.weight WHERE sender IN ('', OLD.sender);
  DELETE FROM outbox_weight WHERE sender = OLD.sender AND weight <= 0;
END;
";

/// Added by version 3: who is cut off by the operator's choice, since when and why.
const QUARANTINE: &str = "
ALTER TABLE devices ADD COLUMN quarantined INTEGER;
ALTER TABLE devices ADD COLUMN quarantine_reason TEXT;
";

/// From version 1 to 2; with [`OUTBOX`] in the middle.
const FROM_1: [&str; 2] = [
    "ALTER TABLE outbox RENAME TO outbox_1;",
    "INSERT INTO outbox (seq, digest, sender, weight, body)
       SELECT seq, digest, json_extract(body, '$.sender'), length(body) + 1024, body FROM outbox_1 ORDER BY seq;
     DROP TABLE outbox_1;",
];

/// What the database refuses.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite's own error.
    #[error("the gateway's database does not work")]
    Sqlite(#[from] rusqlite::Error),
    /// Written by a newer program.
    #[error("the gateway's database has format {0}, this program knows {SCHEMA}: use the newer program")]
    Newer(i64),
    /// The task that worked on it was cancelled.
    #[error("the work on the database was interrupted")]
    Interrupted,
}

/// A handle; clones share the one connection.
#[derive(Debug, Clone)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
}

impl Database {
    /// Opens or creates the database at `path`; every transaction is on the disk when it returns.
    ///
    /// # Errors
    /// SQLite's; a database of a newer program.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 => {
                let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for batch in [TABLES, OUTBOX, QUARANTINE] {
                    change.execute_batch(batch)?;
                }
                change.pragma_update(None, "user_version", SCHEMA)?;
                change.commit()?;
            }
            1 => {
                let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for batch in [FROM_1[0], OUTBOX, FROM_1[1], QUARANTINE] {
                    change.execute_batch(batch)?;
                }
                change.pragma_update(None, "user_version", SCHEMA)?;
                change.commit()?;
            }
            2 => {
                let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                change.execute_batch(QUARANTINE)?;
                change.pragma_update(None, "user_version", SCHEMA)?;
                change.commit()?;
            }
            SCHEMA => {}
            newer => return Err(DatabaseError::Newer(newer)),
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Runs `work` in one transaction on a thread that may block; durable when it returns.
    ///
    /// # Errors
    /// Those of `work`, nothing changed then; those of the commit.
    pub async fn run<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let database = self.clone();
        tokio::task::spawn_blocking(move || database.run_now(work))
            .await
            .map_err(|_| DatabaseError::Interrupted)?
    }

    /// [`Self::run`], and then `then` with what came of it, before anybody else has his turn. What is kept in memory
    /// too changes in the same order as the database, even where the caller is gone meanwhile.
    ///
    /// # Errors
    /// As for [`Self::run`]; `then` is not run then.
    pub(crate) async fn run_then<T, U, F, A>(&self, work: F, then: A) -> Result<U, DatabaseError>
    where
        U: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(T) -> U + Send + 'static,
    {
        let database = self.clone();
        tokio::task::spawn_blocking(move || database.run_then_now(work, then))
            .await
            .map_err(|_| DatabaseError::Interrupted)?
    }

    /// [`Self::run`] on this thread.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub fn run_now<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.run_then_now(work, |value| value)
    }

    fn run_then_now<T, U>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
        then: impl FnOnce(T) -> U,
    ) -> Result<U, DatabaseError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&change)?;
        change.commit()?;
        Ok(then(value))
    }

    /// Brings everything into the one file, so that it can be moved.
    ///
    /// # Errors
    /// SQLite's.
    pub fn settle(&self) -> Result<(), DatabaseError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.pragma_update(None, "journal_mode", "DELETE")?;
        Ok(())
    }

    /// Writes a consistent copy into the new file `to`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn copy_to(&self, to: &Path) -> Result<(), DatabaseError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.backup("main", to, None::<fn(rusqlite::backup::Progress)>)?;
        Ok(())
    }
}

/// Reads a setting kept in the database.
///
/// # Errors
/// SQLite's.
pub fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    use rusqlite::OptionalExtension as _;
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
        .optional()
}

/// Keeps a setting in the database.
///
/// # Errors
/// SQLite's.
pub fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
        [key, value],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_transaction_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("x.db")).unwrap();
        let failed = database.run_now(|db| {
            set_meta(db, "a", "1")?;
            db.execute("INSERT INTO nothing VALUES (1)", [])
        });
        assert!(failed.is_err());
        assert_eq!(database.run_now(|db| meta(db, "a")).unwrap(), None);
    }

    #[tokio::test]
    async fn what_follows_a_change_comes_before_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("x.db")).unwrap();
        let other = database.clone();
        let alone = database.run_then(
            |db| set_meta(db, "a", "1"),
            move |()| other.connection.try_lock().is_err(),
        );
        assert!(alone.await.unwrap());
        assert!(database.connection.try_lock().is_ok());
        let failed = database.run_then(
            |db| db.execute("INSERT INTO nothing VALUES (1)", []),
            |_| panic!(),
        );
        assert!(failed.await.is_err());
    }

    #[test]
    fn the_reports_that_waited_in_a_database_of_version_1_go_on_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(TABLES).unwrap();
        old.execute_batch(
            "CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, body TEXT NOT NULL)
             STRICT;
             INSERT INTO outbox (seq, digest, body) VALUES (7, 'a', '{\"sender\":\"pump\"}'), (9, 'b', '{\"sender\":\"pump\"}');
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let database = Database::open(&path).unwrap();
            let found: Vec<(i64, String)> = database
                .run_now(|db| {
                    let mut statement = db.prepare("SELECT seq, sender FROM outbox ORDER BY seq")?;
                    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                    rows.collect()
                })
                .unwrap();
            assert_eq!(found, [(7, "pump".to_owned()), (9, "pump".to_owned())]);
            let weight = "SELECT weight FROM outbox_weight WHERE sender = 'pump'";
            let weight: i64 = database
                .run_now(|db| db.query_row(weight, [], |row| row.get(0)))
                .unwrap();
            assert_eq!(weight, 2 * (17 + 1_024));
        }
    }

    #[test]
    fn devices_of_a_database_of_version_2_are_not_in_quarantine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(TABLES).unwrap();
        old.execute_batch(OUTBOX).unwrap();
        old.execute_batch(
            "INSERT INTO devices (name, password, added) VALUES ('pump', 'x', 0); PRAGMA user_version = 2;",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let database = Database::open(&path).unwrap();
            let sql = "SELECT quarantined FROM devices WHERE name = 'pump' AND quarantine_reason IS NULL";
            let since: Option<i64> = database
                .run_now(|db| db.query_row(sql, [], |row| row.get(0)))
                .unwrap();
            assert_eq!(since, None);
        }
    }

    #[test]
    fn a_database_of_a_newer_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(Database::open(&path), Err(DatabaseError::Newer(99))));
    }
}

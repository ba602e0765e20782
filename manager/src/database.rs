//! The gateway's database: devices, codes, reports on their way, how releases fared.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use crate::limits;

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
    waiting: Arc<Mutex<Waiting>>,
}

/// Tells whoever asked, once it is known whether the transaction is on the disk.
type Answer = Box<dyn FnOnce(bool) + Send>;
/// Work that shares a transaction: whether it went well, and how its caller is told.
type Job = Box<dyn FnOnce(&Connection) -> (bool, Answer) + Send>;

/// Work that waits for the next transaction. Each caller waits for its answer, so that there is no more of it than
/// there are requests under way.
#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// A thread works on it already.
    busy: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

/// Lets another thread take over if this one panics in somebody's work.
struct Worker<'a>(&'a Database);

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.waiting().busy = false;
        }
    }
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
            waiting: Arc::default(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a thread that may block; durable when it returns.
    ///
    /// What many ask for at the same time shares one transaction, because a site that connects all at once would wait
    /// for the disk once for each device otherwise. Each has a savepoint of its own: what fails takes nobody along.
    ///
    /// # Errors
    /// Those of `work`, nothing changed then; [`DatabaseError::Interrupted`] where the transaction came to nothing.
    pub async fn run<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            let outcome = work(db);
            let good = outcome.is_ok();
            let answer = move |committed: bool| {
                let answer = match outcome {
                    Ok(_) if !committed => Err(DatabaseError::Interrupted),
                    outcome => outcome.map_err(DatabaseError::from),
                };
                // The caller may be gone; the change stays.
                let _ = sender.send(answer);
            };
            (good, Box::new(answer))
        });
        let idle = {
            let mut waiting = self.waiting();
            waiting.jobs.push_back(job);
            !std::mem::replace(&mut waiting.busy, true)
        };
        if idle {
            let database = self.clone();
            tokio::task::spawn_blocking(move || database.work_off());
        }
        receiver.await.map_err(|_| DatabaseError::Interrupted)?
    }

    /// One transaction after the other until nothing waits.
    fn work_off(&self) {
        let _worker = Worker(self);
        loop {
            let jobs: Vec<Job> = {
                let mut waiting = self.waiting();
                let count = waiting.jobs.len().min(limits::COMMIT_BATCH);
                waiting.busy = count > 0;
                waiting.jobs.drain(..count).collect()
            };
            if jobs.is_empty() {
                return;
            }
            let mut answers = Vec::with_capacity(jobs.len());
            let done = self.run_together(jobs, &mut answers);
            if let Err(error) = &done {
                tracing::error!(%error, "a transaction came to nothing");
            }
            for answer in answers {
                answer(done.is_ok());
            }
        }
    }

    /// Runs jobs in one transaction, each in a savepoint. A job without an answer was not run.
    fn run_together(&self, jobs: Vec<Job>, answers: &mut Vec<Answer>) -> rusqlite::Result<()> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs {
            let part = change.savepoint()?;
            let (good, answer) = job(&part);
            answers.push(answer);
            if good {
                part.commit()?;
            } else {
                // A full disk ends the whole transaction: then there is no savepoint to go back to.
                part.finish()?;
            }
        }
        change.commit()
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
    async fn what_many_ask_for_is_one_transaction_and_what_fails_takes_nobody_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let database = Database::open(&path).unwrap();
        // The first one works until all the others wait.
        let (began, begun) = oneshot::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let own = database.clone();
        let first = tokio::spawn(async move {
            let work = move |db: &Connection| {
                began.send(()).unwrap();
                gone.recv().unwrap();
                set_meta(db, "first", "1")
            };
            own.run(work).await
        });
        begun.await.unwrap();
        let many: Vec<_> = (0..100)
            .map(|number| {
                let (database, path) = (database.clone(), path.clone());
                tokio::spawn(async move {
                    let work = move |db: &Connection| {
                        set_meta(db, &format!("key {number}"), "1")?;
                        if number == 50 {
                            return db.execute("INSERT INTO nothing VALUES (1)", []).map(|_| 0);
                        }
                        // Seen from beside: only what is committed.
                        let other = Connection::open(path)?;
                        other.query_row("SELECT COUNT(*) FROM meta", [], |row| row.get::<_, i64>(0))
                    };
                    database.run(work).await
                })
            })
            .collect();
        while database.waiting().jobs.len() < 100 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        for (number, one) in many.into_iter().enumerate() {
            match one.await.unwrap() {
                Ok(seen) => assert_eq!(seen, 1, "{number} has a transaction of its own"),
                Err(_) => assert_eq!(number, 50),
            }
        }
        let count = "SELECT COUNT(*) FROM meta";
        let count: i64 = database
            .run_now(|db| db.query_row(count, [], |row| row.get(0)))
            .unwrap();
        assert_eq!(count, 100, "the first and all but the one that failed");
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

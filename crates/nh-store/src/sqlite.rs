//! SQLite, by rusqlite. Every call here blocks its thread, so it is made on one
//! that may be blocked: writes on the writer's own, reads on tokio's for that.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, OpenFlags};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::StoreError;
use crate::sql::{Arg, check_text};

mod writing;

pub(crate) use writing::Writing;

/// How long another process, such as the command line beside a running hub, is
/// waited for to let go of the write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// How long a reader is waited for.
const READER_TIMEOUT: Duration = Duration::from_secs(10);

const READERS: usize = 4;
const PREPARED_STATEMENTS: usize = 256;

/// Takes the write lock at once: a transaction that first reads and then writes
/// could fail in the middle otherwise.
pub(crate) const BEGIN: &str = "begin immediate";

/// The values of a row, in the order of the select list.
pub(crate) type SqliteRow = Vec<Value>;

/// Opens a file that is there, to write.
#[allow(clippy::disallowed_methods, reason = "this thread may be blocked")]
pub(crate) fn open_writer(path: &Path) -> Result<Connection, rusqlite::Error> {
    let started = Instant::now();
    loop {
        // Two processes that turn a new file to its write-ahead log at the same
        // time are in each other's way, and SQLite's own waiting does not cover
        // that.
        match try_open_writer(path) {
            Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => {
                std::thread::sleep(BUSY_PAUSE);
            }
            opened => return opened,
        }
    }
}

fn try_open_writer(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = open_existing(path)?;
    // A commit walks the whole cache, so it is small: 4 MB at most.
    connection.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -4096; \
         pragma journal_size_limit = 67108864",
    )?;
    Ok(connection)
}

/// Opens a file that is there, as it is.
fn open_existing(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(Connection::open_with_flags(path, flags)?)
}

/// Opens rows without a file.
#[cfg(feature = "memory")]
pub(crate) fn open_memory() -> Result<Connection, rusqlite::Error> {
    prepared(Connection::open_in_memory()?)
}

fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(Connection::open_with_flags(path, flags)?)
}

fn prepared(connection: Connection) -> Result<Connection, rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    connection.execute_batch("pragma foreign_keys = on")?;
    Ok(connection)
}

/// Whether another connection is in the way: the primary codes of
/// <https://sqlite.org/rescode.html>.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// Runs a statement; its rows.
pub(crate) fn fetch(
    connection: &Connection,
    sql: &str,
    args: Vec<Arg>,
) -> Result<Vec<SqliteRow>, StoreError> {
    let mut statement = bound(connection, sql, args)?;
    let width = statement.column_count();
    let mut rows = statement.raw_query();
    let mut fetched = Vec::new();
    while let Some(row) = rows.next()? {
        fetched.push((0..width).map(|column| row.get(column)).collect::<Result<_, _>>()?);
    }
    Ok(fetched)
}

/// Runs a statement; how many rows it changed.
pub(crate) fn execute(connection: &Connection, sql: &str, args: Vec<Arg>) -> Result<u64, StoreError> {
    let mut statement = bound(connection, sql, args)?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(connection.changes())
}

fn bound<'c>(
    connection: &'c Connection,
    sql: &str,
    args: Vec<Arg>,
) -> Result<CachedStatement<'c>, StoreError> {
    let mut statement = connection.prepare_cached(&numbered(sql))?;
    for (place, arg) in (1..).zip(args) {
        match arg {
            Arg::Int(value) => statement.raw_bind_parameter(place, value),
            Arg::Real(value) => statement.raw_bind_parameter(place, value),
            Arg::Text(value) => {
                check_text(value.as_ref())?;
                statement.raw_bind_parameter(place, value)
            }
            Arg::Bytes(value) => statement.raw_bind_parameter(place, value),
            Arg::Column(_) => return Err(StoreError::Unstorable("SQLite has no arrays".to_owned())),
        }?;
    }
    Ok(statement)
}

/// `?1` in place of `$1`, which SQLite would take for a name and number by
/// where it stands.
fn numbered(sql: &str) -> Cow<'_, str> {
    if !sql.contains('$') {
        return sql.into();
    }
    let mut parts = sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push(if part.starts_with(|letter: char| letter.is_ascii_digit()) { '?' } else { '$' });
        text.push_str(part);
    }
    text.into()
}

/// A few connections that only read, made when they are needed.
#[derive(Clone, Debug)]
pub(crate) struct SqliteReaders(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    /// One for each connection that may be in use.
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqliteReaders {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(Arc::new(Pool { path, places: Arc::new(Semaphore::new(READERS)), idle: Mutex::default() }))
    }

    pub(crate) async fn fetch(
        &self,
        sql: sqlx::SqlStr,
        args: Vec<Arg>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let place = match timeout(READER_TIMEOUT, self.0.places.clone().acquire_owned()).await {
            Ok(place) => place.map_err(|_| StoreError::Closed)?,
            Err(_) => return Err(StoreError::TimedOut { after_ms: READER_TIMEOUT.as_millis() as u64 }),
        };
        let pool = self.0.clone();
        let read = move || {
            let _place = place;
            let idle = pool.idle().pop();
            let connection = idle.map_or_else(|| open_reader(&pool.path), Ok)?;
            let rows = fetch(&connection, sql.as_str(), args);
            pool.idle().push(connection);
            rows
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(StoreError::Closed))
    }

    /// Waits for what is being read.
    pub(crate) async fn close(&self) {
        // It is closed already if there is an error.
        let _ = self.0.places.acquire_many(READERS as u32).await;
        self.0.places.close();
        let idle = std::mem::take(&mut *self.0.idle());
        let _ = tokio::task::spawn_blocking(move || drop(idle)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::args;

    #[test]
    fn places_are_numbered_and_paths_into_json_stay() {
        let sql = "select $2, json_extract($1, '$.a[0]')";
        assert_eq!(numbered(sql), "select ?2, json_extract(?1, '$.a[0]')");
        let connection = prepared(Connection::open_in_memory().expect("a database")).expect("set up");
        let rows = fetch(&connection, sql, args![r#"{"a": [7]}"#, "x"]).expect("a row");
        assert_eq!(rows, [vec![Value::Text("x".to_owned()), Value::Integer(7)]]);
    }
}

use std::sync::Arc;

use crate::sqlite;

/// What can go wrong in the store. Cloneable, because one failed commit
/// answers a whole batch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Something unique is taken already; the text says what.
    #[error("{0}")]
    Conflict(String),
    /// What the write needs is not there; the text says what.
    #[error("{0}")]
    Missing(String),
    /// A value that cannot be kept; the text says why.
    #[error("{0}")]
    Unstorable(String),
    /// A cursor that this store did not give out.
    #[error("`{0}` is not a cursor of this list; leave it out to start from the first page")]
    InvalidCursor(String),
    /// More writes are queued than the store takes.
    #[error("the store's write queue stayed full for {waited_ms} ms; try again later")]
    Overloaded { waited_ms: u64 },
    /// The database cannot be reached, or the connection broke. A write that
    /// ends so may or may not have been kept: read before writing it again.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Arc<DatabaseError>),
    /// The database did not answer in time. As with `Unavailable`, the write
    /// may or may not have been kept.
    #[error("the database did not answer within {after_ms} ms")]
    TimedOut { after_ms: u64 },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A row holds something that this program never writes.
    #[error("the store holds a damaged row: {0}")]
    Corrupt(String),
    /// The store's URL or file cannot be used; the text says why and what to do.
    #[error("{0}")]
    Settings(String),
    /// The schema could not be brought up to date.
    #[error("the database's schema could not be brought up to date")]
    Migration(#[source] Arc<sqlx::migrate::MigrateError>),
    /// No master key that was given opens what this store sealed.
    #[error(
        "the master key does not belong to this store: it cannot open the store's sealed mark. \
         Give the key that the store was first started with as `[security] master_key_file`, \
         or list it in `old_master_key_files` to change to a new one"
    )]
    WrongMasterKey,
    /// A sealed value was not sealed by these keys for this row.
    #[error(
        "a sealed value of table `{table}` cannot be opened: it was changed, moved, or sealed under a key that was not given"
    )]
    Unsealable { table: String },
    /// A statement failed.
    #[error("a statement failed")]
    Database(#[source] Arc<DatabaseError>),
}

/// What the engine's own library says.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl DatabaseError {
    /// PostgreSQL's code.
    fn sqlstate(&self) -> Option<std::borrow::Cow<'_, str>> {
        match self {
            Self::Postgres(error) => error.as_database_error()?.code(),
            Self::Sqlite(_) => None,
        }
    }
}

/// PostgreSQL's code of a statement that took too long.
const STATEMENT_TIMED_OUT: &str = "57014";

impl StoreError {
    /// Whether the same write may succeed when it is made again later. Where it
    /// may have been kept, it is for the caller to know what twice does.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Unavailable(_) | Self::TimedOut { .. } => true,
            Self::Database(error) => {
                self.is_lost_race() || error.sqlstate().is_some_and(|code| code == STATEMENT_TIMED_OUT)
            }
            _ => false,
        }
    }

    /// PostgreSQL's class 40: another node's transaction was in the way, and
    /// the same write may succeed when it is tried again.
    pub(crate) fn is_lost_race(&self) -> bool {
        let Self::Database(error) = self else { return false };
        error.sqlstate().is_some_and(|code| code.len() == 5 && code.starts_with("40"))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::error::ErrorKind;
        if let sqlx::Error::Database(database) = &error
            && database.kind() == ErrorKind::UniqueViolation
        {
            return Self::Conflict(format!("a row with this key is there already: {database}"));
        }
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(Arc::new(error.into())),
            _ if is_shutdown(&error) => Self::Unavailable(Arc::new(error.into())),
            _ => Self::Database(Arc::new(error.into())),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
        match error.sqlite_error().map(|error| error.extended_code) {
            Some(SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE) => {
                Self::Conflict(format!("a row with this key is there already: {error}"))
            }
            _ if sqlite::is_busy(&error) => Self::Unavailable(Arc::new(error.into())),
            _ => Self::Database(Arc::new(error.into())),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migration(Arc::new(error))
    }
}

/// PostgreSQL's classes 08 (connection), 53 (out of resources) and 57
/// (operator's intervention), without a statement's time-out, after which the
/// connection is fine: the database is there but will not serve now.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub(crate) fn is_shutdown(error: &sqlx::Error) -> bool {
    let Some(code) = error.as_database_error().and_then(|database| database.code()) else { return false };
    code != STATEMENT_TIMED_OUT
        && code.len() == 5
        && ["08", "53", "57"].iter().any(|class| code.starts_with(class))
}

//! Rows without a file, for tests only: the same SQL, on one `:memory:`
//! connection that all stores on these rows share.
//!
//! Each statement runs where it is asked for, so a transaction is one poll: a
//! runtime with paused time never looks idle because of the database, and what
//! happens follows from the schedule alone. Whoever opens a store here decides
//! what becomes of its statements ([`Faults`]).

use std::fmt;
use std::sync::Arc;

use nh_types::SharedClock;
use rusqlite::Connection;
use sqlx::SqlStr;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::sql::Arg;
use crate::sqlite::{self, BEGIN, SqliteRow};
use crate::{StoreError, migrations};

/// The rows. Clones share them; they are gone with the last one.
#[derive(Clone)]
pub struct Memory {
    connection: Arc<Mutex<Connection>>,
    clock: SharedClock,
    is_shared: bool,
}

/// Where a store is asked what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Read,
    Begin,
    /// All of a transaction is applied, and nothing of it is kept yet.
    BeforeCommit,
    /// It is kept, and nobody knows yet.
    AfterCommit,
}

/// What becomes of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    GoOn,
    /// The connection breaks.
    Fail,
    /// No answer ever comes.
    Hang,
}

/// What goes wrong between one store and the rows.
pub trait Faults: Send + Sync + 'static {
    fn at(&self, moment: Moment) -> Fate;
}

/// Nothing goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn at(&self, _: Moment) -> Fate {
        Fate::GoOn
    }
}

impl Memory {
    /// Empty rows. `clock` is the database's. If they `is_shared`, processes
    /// that drive runs take leases, as on PostgreSQL; else there is to be one,
    /// as on SQLite.
    pub fn new(clock: SharedClock, is_shared: bool) -> Result<Self, StoreError> {
        let mut connection = sqlite::open_memory()?;
        migrations::run_sqlite(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), clock, is_shared })
    }
}

/// One store's way to the rows.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) memory: Memory,
    pub(crate) faults: Arc<dyn Faults>,
}

impl Link {
    pub(crate) fn is_shared(&self) -> bool {
        self.memory.is_shared
    }

    /// The database's clock, as SQL.
    pub(crate) fn now_ms(&self) -> String {
        self.memory.clock.now().as_millis().to_string()
    }

    async fn pass(&self, moment: Moment) -> Result<(), StoreError> {
        suffer(self.faults.at(moment)).await
    }

    /// A read, or another statement that is a transaction of its own. It waits
    /// for an open transaction, so it sees only what was committed.
    pub(crate) async fn fetch(&self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<SqliteRow>, StoreError> {
        self.pass(Moment::Read).await?;
        sqlite::fetch(&*self.memory.connection.lock().await, sql.as_str(), args)
    }
}

async fn suffer(fate: Fate) -> Result<(), StoreError> {
    match fate {
        Fate::GoOn => Ok(()),
        Fate::Fail => Err(StoreError::Unavailable(Arc::new(sqlx::Error::WorkerCrashed.into()))),
        Fate::Hang => std::future::pending().await,
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_shared", &self.is_shared()).finish_non_exhaustive()
    }
}

/// What the writer has in place of a connection. It holds the rows from the
/// beginning of a transaction to its end.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) link: Link,
    held: Option<OwnedMutexGuard<Connection>>,
}

impl Writing {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, held: None }
    }

    pub(crate) fn held(&self) -> Result<&Connection, StoreError> {
        let outside = || StoreError::Corrupt("a statement outside of a transaction was stopped".to_owned());
        self.held.as_deref().ok_or_else(outside)
    }

    pub(crate) fn run(&self, sql: &'static str) -> Result<(), StoreError> {
        Ok(self.held()?.execute_batch(sql)?)
    }

    pub(crate) async fn begin(&mut self) -> Result<(), StoreError> {
        self.link.pass(Moment::Begin).await?;
        self.held = Some(self.link.memory.connection.clone().lock_owned().await);
        self.run(BEGIN)
    }

    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        let fate = self.link.faults.at(Moment::BeforeCommit);
        if fate != Fate::GoOn {
            self.rollback()?;
        }
        suffer(fate).await?;
        self.run("commit")?;
        self.held = None;
        self.link.pass(Moment::AfterCommit).await
    }

    pub(crate) fn rollback(&mut self) -> Result<(), StoreError> {
        if self.held.is_some() {
            self.run("rollback")?;
            self.held = None;
        }
        Ok(())
    }
}

impl Drop for Writing {
    /// As a database does when a connection is lost.
    fn drop(&mut self) {
        if let Err(error) = self.rollback() {
            tracing::error!(%error, "a transaction that was dropped could not be rolled back");
        }
    }
}

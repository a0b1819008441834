use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::SqlSafeStr;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connect::Target;
use crate::idempotency::WriteOnce;
use crate::known::Known;
use crate::sql::{Arg, Readers, Row, Session, args};
use crate::writer::{Job, Writer, job};
use crate::{EngineKind, Idempotency, Once, StoreError, Write};

/// Writes that wait for the writer; more of them wait for a place.
const MAX_QUEUED: usize = 4096;

/// How long a write waits for a place in the queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a queued write waits for its answer: longer than the writer's own
/// time-out, which cannot end a call that the disk keeps blocked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(180);

/// The store. Clones share one writer and one pool of readers.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    readers: Readers,
    known: Arc<Known>,
    queue: mpsc::Sender<Box<dyn Job>>,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Store {
    /// Opens the file, which is made (mode 0600) when it is missing, and brings
    /// its schema up to date. Its directory must be there.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        Self::open(Target::Sqlite(path.to_owned())).await
    }

    /// Connects, and brings the schema up to date under an advisory lock.
    pub async fn open_postgres(url: &SecretString) -> Result<Self, StoreError> {
        Self::open(Target::postgres(url)?).await
    }

    /// Opens rows without a file, as one more process would. What goes wrong
    /// between this store and the rows is said by `faults`.
    #[cfg(feature = "memory")]
    pub async fn open_memory(
        memory: &crate::memory::Memory,
        faults: Arc<dyn crate::memory::Faults>,
    ) -> Result<Self, StoreError> {
        Self::open(Target::Memory(crate::memory::Link { memory: memory.clone(), faults })).await
    }

    async fn open(target: Target) -> Result<Self, StoreError> {
        target.prepare().await?;
        let tx = target.connect_writer().await?;
        let readers = target.readers();
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let known = Arc::new(Known::new(!readers.is_shared()));
        let writer = Writer::new(target, tx, known.clone());
        writer.start(queued, closing.clone(), readers.clone(), &tasks)?;
        tasks.close();
        Ok(Self { inner: Arc::new(Inner { readers, known, queue, closing, tasks }) })
    }

    pub fn engine(&self) -> EngineKind {
        self.inner.readers.engine()
    }

    /// Whether several processes may drive the runs of this store, each under a
    /// lease. Else there is never more than one.
    pub fn is_shared(&self) -> bool {
        self.inner.readers.is_shared()
    }

    /// The database's clock, as SQL.
    pub(crate) fn now_ms(&self) -> std::borrow::Cow<'static, str> {
        self.inner.readers.now_ms()
    }

    /// Queues `write` and waits until it is committed. Dropping the future does
    /// not take it back.
    pub async fn write<W: Write>(&self, write: W) -> Result<W::Output, StoreError> {
        let (job, answer) = job(write);
        match self.inner.queue.send_timeout(job, QUEUE_TIMEOUT).await {
            Ok(()) => match timeout(ANSWER_TIMEOUT, answer).await {
                Ok(answer) => answer.unwrap_or(Err(StoreError::Closed)),
                Err(_) => Err(StoreError::TimedOut { after_ms: ANSWER_TIMEOUT.as_millis() as u64 }),
            },
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(StoreError::Closed),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(StoreError::Overloaded { waited_ms: QUEUE_TIMEOUT.as_millis() as u64 })
            }
        }
    }

    /// The same, with an idempotency record in the same transaction. A write
    /// that fails leaves no record.
    pub async fn write_once<W>(
        &self,
        once: Option<Idempotency>,
        write: W,
    ) -> Result<Once<W::Output>, StoreError>
    where
        W: Write,
        W::Output: Serialize + DeserializeOwned,
    {
        match once {
            None => self.write(write).await.map(Once::First),
            Some(once) => self.write(WriteOnce { once, write }).await,
        }
    }

    /// Whether the database answers and the writer lives.
    pub async fn ping(&self) -> Result<(), StoreError> {
        if self.inner.queue.is_closed() {
            return Err(StoreError::Closed);
        }
        self.fetch("select 1", args![]).await.map(drop)
    }

    /// Takes no more writes, commits what is queued, and closes the connections.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.wait().await;
    }

    pub(crate) fn known(&self) -> &Known {
        &self.inner.known
    }

    /// A transaction apart from the writer's; None on SQLite.
    pub(crate) async fn begin(&self) -> Result<Option<Session>, StoreError> {
        self.inner.readers.begin().await
    }

    /// A connection for what takes long; None on SQLite.
    pub(crate) async fn apart(&self) -> Result<Option<sqlx::PgConnection>, StoreError> {
        self.inner.readers.apart().await
    }

    pub(crate) async fn fetch(&self, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<Vec<Row>, StoreError> {
        self.inner.readers.fetch(sql.into_sql_str(), args).await
    }

    /// The first row, read by `read`.
    pub(crate) async fn find<T>(
        &self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
        read: impl FnOnce(&Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.fetch(sql, args).await?.first().map(read).transpose()
    }

    /// Every row, read by `read`.
    pub(crate) async fn all<T>(
        &self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
        read: impl FnMut(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.fetch(sql, args).await?.iter().map(read).collect()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("engine", &self.engine()).finish_non_exhaustive()
    }
}

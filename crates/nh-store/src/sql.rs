//! Arguments and rows that are the same for both engines, and the two native
//! connections and pools behind one dispatch macro.

use std::borrow::Cow;
use std::time::Duration;

use nh_types::{RunId, ScopeSet, Timestamp, WorkspaceId};
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::{Arguments, PgConnection, SqlSafeStr, SqlStr};

use crate::sqlite::{self, SqliteReaders, SqliteRow};
use crate::{EngineKind, StoreError};

/// One argument of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    Int(Option<i64>),
    Real(Option<f64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    /// An array, for PostgreSQL: of one type, and not empty.
    Column(Vec<Arg>),
}

impl Arg {
    /// A null of the same type: PostgreSQL wants to know the type of a null.
    pub(crate) fn null_like(&self) -> Self {
        match self {
            Self::Int(_) => Self::Int(None),
            Self::Real(_) => Self::Real(None),
            Self::Text(_) => Self::Text(None),
            Self::Bytes(_) => Self::Bytes(None),
            Self::Column(values) => Self::Column(values.iter().map(Self::null_like).collect()),
        }
    }

    pub(crate) fn postgres_type(&self) -> &'static str {
        match self {
            Self::Int(_) => "bigint",
            Self::Real(_) => "double precision",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytea",
            Self::Column(_) => "anyarray",
        }
    }
}

macro_rules! arg_from {
    ($($given:ty => |$value:ident| $arg:expr;)+) => {
        $(impl From<$given> for Arg {
            fn from($value: $given) -> Self {
                $arg
            }
        })+
    };
}

arg_from! {
    i64 => |value| Self::Int(Some(value));
    Option<i64> => |value| Self::Int(value);
    u32 => |value| Self::Int(Some(value.into()));
    Option<u32> => |value| Self::Int(value.map(i64::from));
    u64 => |value| Self::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)));
    bool => |value| Self::Int(Some(value.into()));
    Option<f64> => |value| Self::Real(value);
    Timestamp => |value| Self::Int(Some(value.as_millis()));
    Option<Timestamp> => |value| Self::Int(value.map(Timestamp::as_millis));
    &str => |value| Self::Text(Some(value.to_owned()));
    &String => |value| Self::Text(Some(value.clone()));
    String => |value| Self::Text(Some(value));
    Option<String> => |value| Self::Text(value);
    Option<&str> => |value| Self::Text(value.map(str::to_owned));
    &WorkspaceId => |value| Self::Text(Some(value.as_str().to_owned()));
    &nh_types::WorkflowId => |value| Self::Text(Some(value.as_str().to_owned()));
    &nh_types::ScheduleId => |value| Self::Text(Some(value.as_str().to_owned()));
    &nh_types::MemoryId => |value| Self::Text(Some(value.as_str().to_owned()));
    &nh_types::UploadId => |value| Self::Text(Some(value.as_str().to_owned()));
    &nh_types::SandboxId => |value| Self::Text(Some(value.as_str().to_owned()));
    &nh_types::AgentId => |value| Self::Text(Some(value.as_str().to_owned()));
    &nh_types::UserId => |value| Self::Text(Some(value.as_str().to_owned()));
    RunId => |value| Self::Text(Some(value.to_string()));
    Option<RunId> => |value| Self::Text(value.map(|id| id.to_string()));
    &ScopeSet => |value| Self::Text(Some(value.to_text()));
    &[u8; 32] => |value| Self::Bytes(Some(value.to_vec()));
    &[u8] => |value| Self::Bytes(Some(value.to_vec()));
}

/// `args![a, b]`: the arguments of a statement, in the order of `$1`, `$2`.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Arg::from($value)),*] };
}
pub(crate) use args;

/// JSON as the store keeps it.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unstorable(error.to_string()))
}

/// PostgreSQL's text cannot hold NUL; SQLite is held to the same, so that a
/// store can move.
pub(crate) fn check_text(text: Option<&String>) -> Result<(), StoreError> {
    match text {
        Some(text) if text.contains('\0') => Err(StoreError::Unstorable(
            "a text holds the character U+0000, which cannot be stored".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// The values of a column whose type is that of the first.
macro_rules! array {
    ($values:expr, $kind:ident) => {{
        let of_kind = |value| match value {
            Arg::$kind(value) => Ok(value),
            _ => Err(StoreError::Unstorable("a column has values of several types".to_owned())),
        };
        $values.into_iter().map(of_kind).collect::<Result<Vec<_>, _>>()?
    }};
}

fn bind(args: Vec<Arg>) -> Result<PgArguments, StoreError> {
    let mut bound = PgArguments::default();
    bound.reserve(args.len(), 0);
    for arg in args {
        match arg {
            Arg::Int(value) => bound.add(value),
            Arg::Real(value) => bound.add(value),
            Arg::Text(value) => {
                check_text(value.as_ref())?;
                bound.add(value)
            }
            Arg::Bytes(value) => bound.add(value),
            Arg::Column(values) => match values.first() {
                Some(Arg::Int(_)) => bound.add(array!(values, Int)),
                Some(Arg::Real(_)) => bound.add(array!(values, Real)),
                Some(Arg::Bytes(_)) => bound.add(array!(values, Bytes)),
                _ => {
                    let texts = array!(values, Text);
                    texts.iter().try_for_each(|text| check_text(text.as_ref()))?;
                    bound.add(texts)
                }
            },
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(bound)
}

/// Longer than the database's own limit for a statement and the wait for a
/// connection: what takes longer has lost its server without a word.
const READ_TIMEOUT: Duration = Duration::from_secs(45);

/// One row of an answer.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// The pool of readers.
#[derive(Clone, Debug)]
pub(crate) enum Readers {
    Sqlite(SqliteReaders),
    Postgres(PgPool),
    #[cfg(feature = "memory")]
    Memory(crate::memory::Link),
}

/// A transaction apart from the writer's, for rows that are made of others. It
/// is rolled back unless it is committed.
pub(crate) struct Session {
    tx: sqlx::Transaction<'static, sqlx::Postgres>,
}

impl Session {
    /// Plans the statement anew, by the values that it is given.
    pub(crate) async fn select(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row>, StoreError> {
        let query = sqlx::query_with(sql.into_sql_str(), bind(args)?).persistent(false);
        match tokio::time::timeout(READ_TIMEOUT, query.fetch_all(&mut *self.tx)).await {
            Ok(rows) => Ok(rows?.into_iter().map(Row::Postgres).collect()),
            Err(_elapsed) => Err(StoreError::TimedOut { after_ms: READ_TIMEOUT.as_millis() as u64 }),
        }
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match tokio::time::timeout(READ_TIMEOUT, self.tx.commit()).await {
            Ok(done) => Ok(done?),
            Err(_elapsed) => Err(StoreError::TimedOut { after_ms: READ_TIMEOUT.as_millis() as u64 }),
        }
    }
}

/// The writer's connection.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(Box<sqlite::Writing>),
    Postgres(Box<PgConnection>),
    #[cfg(feature = "memory")]
    Memory(Box<crate::memory::Writing>),
}

impl Readers {
    pub(crate) fn engine(&self) -> EngineKind {
        match self {
            Self::Sqlite(_) => EngineKind::Sqlite,
            Self::Postgres(_) => EngineKind::Postgres,
            #[cfg(feature = "memory")]
            Self::Memory(_) => EngineKind::Sqlite,
        }
    }

    /// Whether several processes may drive runs, each under a lease.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(_) => true,
            #[cfg(feature = "memory")]
            Self::Memory(link) => link.is_shared(),
        }
    }

    /// The database's clock, as SQL.
    pub(crate) fn now_ms(&self) -> Cow<'static, str> {
        match self {
            Self::Sqlite(_) | Self::Postgres(_) => self.engine().now_ms().into(),
            #[cfg(feature = "memory")]
            Self::Memory(link) => link.now_ms().into(),
        }
    }

    pub(crate) async fn fetch(&self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>, StoreError> {
        match tokio::time::timeout(READ_TIMEOUT, self.fetch_all(sql, args)).await {
            Ok(rows) => rows,
            Err(_elapsed) => Err(StoreError::TimedOut { after_ms: READ_TIMEOUT.as_millis() as u64 }),
        }
    }

    async fn fetch_all(&self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(readers) => readers.fetch(sql, args).await?.into_iter().map(Row::Sqlite).collect(),
            Self::Postgres(pool) => {
                let rows = sqlx::query_with(sql, bind(args)?).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            #[cfg(feature = "memory")]
            Self::Memory(link) => link.fetch(sql, args).await?.into_iter().map(Row::Sqlite).collect(),
        })
    }

    /// A transaction on one of PostgreSQL's readers; None on SQLite.
    pub(crate) async fn begin(&self) -> Result<Option<Session>, StoreError> {
        match self {
            Self::Postgres(pool) => Ok(Some(Session { tx: pool.begin().await? })),
            _ => Ok(None),
        }
    }

    /// A connection to PostgreSQL apart from the pool, for what takes longer than
    /// readers may; None on SQLite.
    pub(crate) async fn apart(&self) -> Result<Option<PgConnection>, StoreError> {
        match self {
            Self::Postgres(pool) => Ok(Some(pool.acquire().await?.detach())),
            _ => Ok(None),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
            #[cfg(feature = "memory")]
            Self::Memory(_) => {}
        }
    }
}

impl Connection {
    pub(crate) fn engine(&self) -> EngineKind {
        match self {
            Self::Sqlite(_) => EngineKind::Sqlite,
            Self::Postgres(_) => EngineKind::Postgres,
            #[cfg(feature = "memory")]
            Self::Memory(_) => EngineKind::Sqlite,
        }
    }

    /// Whether several processes may drive runs, each under a lease.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(_) => true,
            #[cfg(feature = "memory")]
            Self::Memory(writing) => writing.link.is_shared(),
        }
    }

    /// The database's clock, as SQL.
    pub(crate) fn now_ms(&self) -> Cow<'static, str> {
        match self {
            Self::Sqlite(_) | Self::Postgres(_) => self.engine().now_ms().into(),
            #[cfg(feature = "memory")]
            Self::Memory(writing) => writing.link.now_ms().into(),
        }
    }

    pub(crate) async fn fetch(&mut self, sql: SqlStr, args: Vec<Arg>) -> Result<Vec<Row>, StoreError> {
        let rows = match self {
            Self::Sqlite(writing) => sqlite::fetch(&writing.connection, sql.as_str(), args)?,
            Self::Postgres(connection) => {
                let rows = sqlx::query_with(sql, bind(args)?).fetch_all(&mut **connection).await?;
                return Ok(rows.into_iter().map(Row::Postgres).collect());
            }
            #[cfg(feature = "memory")]
            Self::Memory(writing) => sqlite::fetch(writing.held()?, sql.as_str(), args)?,
        };
        Ok(rows.into_iter().map(Row::Sqlite).collect())
    }

    /// The number of rows that the statement changed.
    pub(crate) async fn execute(&mut self, sql: SqlStr, args: Vec<Arg>) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(writing) => sqlite::execute(&writing.connection, sql.as_str(), args),
            Self::Postgres(connection) => {
                let done = sqlx::query_with(sql, bind(args)?).execute(&mut **connection).await?;
                Ok(done.rows_affected())
            }
            #[cfg(feature = "memory")]
            Self::Memory(writing) => sqlite::execute(writing.held()?, sql.as_str(), args),
        }
    }

    pub(crate) async fn begin(&mut self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(writing) => writing.begin().await,
            Self::Sqlite(writing) => Ok(writing.begin()?),
            Self::Postgres(connection) => command(connection, "begin").await,
        }
    }

    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(writing) => writing.commit().await,
            Self::Sqlite(writing) => Ok(writing.commit()?),
            Self::Postgres(connection) => command(connection, "commit").await,
        }
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(writing) => writing.rollback(),
            Self::Sqlite(writing) => Ok(writing.connection.execute_batch("rollback")?),
            Self::Postgres(connection) => command(connection, "rollback").await,
        }
    }

    /// Whether its calls block the thread.
    pub(crate) fn blocks(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        use sqlx::Connection as _;
        match self {
            Self::Sqlite(writing) => Ok(writing.close()?),
            Self::Postgres(connection) => Ok(connection.close().await?),
            #[cfg(feature = "memory")]
            Self::Memory(_) => Ok(()),
        }
    }
}

/// A statement without arguments.
pub(crate) async fn command(connection: &mut PgConnection, sql: impl SqlSafeStr) -> Result<(), StoreError> {
    Ok(sqlx::raw_sql(sql.into_sql_str()).execute(connection).await.map(drop)?)
}

//! How each engine is connected to.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::time::timeout;

use crate::error::is_shutdown;
use crate::sql::{Connection, Readers};
use crate::sqlite::{self, SqliteReaders, Writing};
use crate::{StoreError, Tx, migrations};

/// How long a connection, or a reader out of the pool, is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What every connection asks of PostgreSQL.
const POSTGRES_SETTINGS: [(&str, &str); 5] = [
    // So that no statement waits forever.
    ("statement_timeout", "30000"),
    // Every statement here reaches its rows by their keys. On tables that were
    // small or not yet analysed when a statement was prepared, the planner
    // would rather read them whole, and keep that plan while they grow: a new
    // hub became slower with every run.
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    // What has no index is dear to it then, and would be compiled first.
    ("jit", "off"),
];

const POSTGRES_READERS: u32 = 16;

/// A reader that was used so short a time ago is taken to be alive.
const FRESH: Duration = Duration::from_secs(1);

const PREPARED_STATEMENTS: usize = 256;

/// Where the store is.
#[derive(Clone)]
pub(crate) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
    #[cfg(feature = "memory")]
    Memory(crate::memory::Link),
}

impl Target {
    pub(crate) fn postgres(url: &SecretString) -> Result<Self, StoreError> {
        Ok(Self::Postgres(Box::new(Self::postgres_options(url)?)))
    }

    pub(crate) fn postgres_options(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
        let url = url.expose_secret();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::Settings(
                "the store's URL does not begin with `postgres://`; only PostgreSQL is reached by a URL, \
                 and without one the hub keeps its rows in SQLite"
                    .to_owned(),
            ));
        }
        // The parser's own words may repeat the URL, which may hold a password.
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            StoreError::Settings(
                "the store's URL cannot be read; write it as postgres://user:password@host:port/database"
                    .to_owned(),
            )
        })?;
        Ok(options
            .application_name("neuralhub")
            .statement_cache_capacity(PREPARED_STATEMENTS)
            .disable_statement_logging())
    }

    /// Makes what is missing and brings the schema up to date. Its connection
    /// has no time-out for statements: a migration may take its time.
    pub(crate) async fn prepare(&self) -> Result<(), StoreError> {
        use sqlx::Connection as _;
        match self {
            Self::Sqlite(path) => {
                let path = path.clone();
                blocking(move || {
                    create_private(&path)?;
                    migrations::run_sqlite(&mut opened(&path, sqlite::open_writer(&path))?)
                })
                .await?;
            }
            Self::Postgres(options) => {
                let mut connection = connect_postgres(options).await?;
                migrations::run_postgres(&mut connection).await?;
                connection.close().await?;
            }
            #[cfg(feature = "memory")]
            Self::Memory(_) => {}
        }
        Ok(())
    }

    pub(crate) async fn connect_writer(&self) -> Result<Tx, StoreError> {
        let connection = match self {
            Self::Sqlite(path) => {
                let path = path.clone();
                Connection::Sqlite(Box::new(blocking(move || opened(&path, Writing::open(&path))).await?))
            }
            Self::Postgres(options) => {
                Connection::Postgres(Box::new(connect_postgres(&with_settings(options)).await?))
            }
            #[cfg(feature = "memory")]
            Self::Memory(link) => Connection::Memory(Box::new(crate::memory::Writing::new(link.clone()))),
        };
        Ok(Tx::new(connection))
    }

    /// Readers connect when they are needed.
    pub(crate) fn readers(&self) -> Readers {
        match self {
            Self::Sqlite(path) => Readers::Sqlite(SqliteReaders::new(path.clone())),
            Self::Postgres(options) => {
                let pool = PgPoolOptions::new()
                    .max_connections(POSTGRES_READERS)
                    .acquire_timeout(CONNECT_TIMEOUT)
                    .test_before_acquire(false)
                    .before_acquire(|connection, idle| Box::pin(is_alive(connection, idle.idle_for)));
                Readers::Postgres(pool.connect_lazy_with(with_settings(options)))
            }
            #[cfg(feature = "memory")]
            Self::Memory(link) => Readers::Memory(link.clone()),
        }
    }
}

fn opened<T>(path: &Path, opened: Result<T, rusqlite::Error>) -> Result<T, StoreError> {
    opened.map_err(|error| match sqlite::is_busy(&error) {
        true => StoreError::from(error),
        false => StoreError::Settings(format!(
            "the store's file {} cannot be opened: {error}; is it a SQLite file of NeuralHub, \
             and may this user write there?",
            path.display()
        )),
    })
}

/// Runs what waits for the disk where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Closed))
}

fn with_settings(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options(POSTGRES_SETTINGS)
}

/// Asks a connection only if it was not used just now: asking takes as long as
/// most reads.
async fn is_alive(connection: &mut PgConnection, idle_for: Duration) -> Result<bool, sqlx::Error> {
    use sqlx::Connection as _;
    if idle_for >= FRESH {
        connection.ping().await?;
    }
    Ok(true)
}

pub(crate) async fn connect_postgres(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    match timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(connected) => connected.map_err(|error| match error {
            error if is_shutdown(&error) => StoreError::from(error),
            sqlx::Error::Database(error) => StoreError::Settings(format!(
                "PostgreSQL at {} refuses the connection: {error}; check the user, password and database in the store's URL",
                options.get_host()
            )),
            error => StoreError::Unavailable(Arc::new(error.into())),
        }),
        Err(_elapsed) => Err(StoreError::TimedOut { after_ms: CONNECT_TIMEOUT.as_millis() as u64 }),
    }
}

/// Makes the file for its owner alone before SQLite would make it for all; the
/// files beside it (`-wal`, `-shm`) take over its mode. A file that is there is
/// not touched: closing it would end the locks that this process may hold on it
/// (<https://sqlite.org/howtocorrupt.html>, 2.2).
fn create_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::Settings(format!("the store's file {} cannot be made: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

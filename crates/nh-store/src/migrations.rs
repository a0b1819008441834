//! The schema's steps, embedded: one text each for both engines.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr, SqliteConnection};

use crate::{EngineKind, StoreError};

/// Number, name, text. Never change one that was released: add another.
const STEPS: &[(i64, &str, &str)] = &[
    (1, "start", include_str!("../migrations/0001_start.sql")),
    (2, "queue", include_str!("../migrations/0002_queue.sql")),
    (3, "signals", include_str!("../migrations/0003_signals.sql")),
    (4, "schedules", include_str!("../migrations/0004_schedules.sql")),
    (7, "budgets", include_str!("../migrations/0007_budgets.sql")),
    (8, "lanes", include_str!("../migrations/0008_lanes.sql")),
    (9, "webhooks", include_str!("../migrations/0009_webhooks.sql")),
    (10, "values", include_str!("../migrations/0010_values.sql")),
    (11, "reservations", include_str!("../migrations/0011_reservations.sql")),
    (14, "waiting", include_str!("../migrations/0014_waiting.sql")),
];

fn migrator(engine: EngineKind) -> Migrator {
    let migration = |(number, name, text): &(i64, &'static str, &str)| {
        // Only words of the dialect were replaced in a text of this crate.
        let sql = AssertSqlSafe(engine.translate(text)).into_sql_str();
        Migration::new(*number, Cow::Borrowed(*name), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(STEPS.iter().map(migration).collect())
}

/// Brings a SQLite file up to date, under its write lock: a second process
/// waits, and then finds nothing to do.
pub(crate) async fn run_sqlite(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut tx = connection.begin_with(EngineKind::Sqlite.begin()).await?;
    migrator(EngineKind::Sqlite).run_direct(None, &mut *tx, false).await.map_err(explained)?;
    Ok(tx.commit().await?)
}

/// Brings a PostgreSQL database up to date, under sqlx's advisory lock.
pub(crate) async fn run_postgres(connection: &mut PgConnection) -> Result<(), StoreError> {
    migrator(EngineKind::Postgres).run_direct(None, connection, false).await.map_err(explained)
}

fn explained(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(number) => StoreError::Settings(format!(
            "the store was written by a newer neuralhub (its schema has step {number}, this program knows {}); \
             run that version or a newer one",
            STEPS.len()
        )),
        other => other.into(),
    }
}

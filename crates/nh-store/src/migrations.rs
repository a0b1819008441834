//! The schema's steps, embedded: one text each for both engines.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::{Connection, TransactionBehavior};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr};

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
    (15, "memories", include_str!("../migrations/0015_memories.sql")),
    (16, "blobs", include_str!("../migrations/0016_blobs.sql")),
    (17, "blob uploads", include_str!("../migrations/0017_blob_uploads.sql")),
    (18, "upload sizes", include_str!("../migrations/0018_upload_sizes.sql")),
    (19, "sandboxes", include_str!("../migrations/0019_sandboxes.sql")),
    (20, "tools", include_str!("../migrations/0020_tools.sql")),
    (21, "mcp servers", include_str!("../migrations/0021_mcp_servers.sql")),
    (22, "usage agents", include_str!("../migrations/0022_usage_agents.sql")),
    (23, "limits", include_str!("../migrations/0023_limits.sql")),
    (24, "metering", include_str!("../migrations/0024_metering.sql")),
    (25, "answers", include_str!("../migrations/0025_answers.sql")),
    (26, "providers", include_str!("../migrations/0026_providers.sql")),
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
/// waits, and then finds nothing to do. What was run is written down in sqlx's
/// table, in its form.
pub(crate) fn run_sqlite(connection: &mut Connection) -> Result<(), StoreError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "create table if not exists _sqlx_migrations (
             version BIGINT PRIMARY KEY,
             description TEXT NOT NULL,
             installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
             success BOOLEAN NOT NULL,
             checksum BLOB NOT NULL,
             execution_time BIGINT NOT NULL
         )",
    )?;
    let mut applied: HashMap<i64, Vec<u8>> = tx
        .prepare("select version, checksum from _sqlx_migrations")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for step in migrator(EngineKind::Sqlite).iter() {
        match applied.remove(&step.version) {
            None => {
                tx.execute_batch(step.sql.as_str())?;
                tx.execute(
                    "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                     values (?1, ?2, true, ?3, 0)",
                    (step.version, &step.description, &step.checksum),
                )?;
            }
            Some(checksum) if checksum != *step.checksum => {
                return Err(explained(MigrateError::VersionMismatch(step.version)));
            }
            Some(_) => {}
        }
    }
    match applied.into_keys().max() {
        Some(unknown) => Err(explained(MigrateError::VersionMissing(unknown))),
        None => Ok(tx.commit()?),
    }
}

/// Brings a PostgreSQL database up to date, under sqlx's advisory lock.
pub(crate) async fn run_postgres(connection: &mut PgConnection) -> Result<(), StoreError> {
    migrator(EngineKind::Postgres).run_direct(None, connection, false).await.map_err(explained)
}

fn explained(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(number) => StoreError::Settings(format!(
            "the store was written by a newer neuralhub (its schema has step {number}, this program knows {} at most); \
             run that version or a newer one",
            STEPS.iter().map(|(number, ..)| number).max().unwrap_or(&0)
        )),
        other => other.into(),
    }
}

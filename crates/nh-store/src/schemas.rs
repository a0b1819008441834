//! Schemas of a PostgreSQL database: several stores can share one database,
//! each in a schema of its own (`…?options=-csearch_path=NAME` in its URL).
//! Tests do so.

use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::StoreError;
use crate::connect::{Target, connect_postgres};

/// Makes an empty schema.
pub async fn create(url: &SecretString, name: &str) -> Result<(), StoreError> {
    run(url, format!("create schema {}", quoted(name))).await
}

/// Removes a schema and all that is in it, unless somebody is in the middle of
/// a transaction there and stays for three seconds: who removes a store of its own
/// may be the one who keeps that transaction from its end. An autovacuum gives way
/// after one.
pub async fn remove(url: &SecretString, name: &str) -> Result<(), StoreError> {
    run(url, format!("set lock_timeout = '3s'; drop schema if exists {} cascade", quoted(name))).await
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn run(url: &SecretString, statement: String) -> Result<(), StoreError> {
    let mut connection = connect_postgres(&Target::postgres_options(url)?).await?;
    // The name was quoted above.
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(connection.close().await?)
}

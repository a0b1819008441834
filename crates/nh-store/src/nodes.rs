//! Node leases: one row a node, by the database's own clock, so that the nodes'
//! clocks need not agree. A run belongs to its owner only while the owner's
//! lease lives. Meant for PostgreSQL, where many nodes share one store.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::columns::Columns;
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write};

const RENEW_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes or extends a node's lease: `lease_ms` from now by the database's
/// clock. It has a reader's connection, because it must not wait behind the
/// writes that are queued. On SQLite there are no leases and nothing to do.
pub async fn renew(store: &Store, node: &str, lease_ms: i64) -> Result<(), StoreError> {
    if !store.is_shared() {
        return Ok(());
    }
    let sql = format!(
        "insert into nodes (id, expires_at) values ($1, {} + $2) \
         on conflict (id) do update set expires_at = excluded.expires_at returning id",
        store.now_ms()
    );
    // Only this crate's own words were put together.
    let renewing = store.fetch(AssertSqlSafe(sql), args![node, lease_ms]);
    match tokio::time::timeout(RENEW_TIMEOUT, renewing).await {
        Ok(renewed) => renewed.map(drop),
        Err(_elapsed) => Err(StoreError::TimedOut { after_ms: RENEW_TIMEOUT.as_millis() as u64 }),
    }
}

/// Ends a node's lease at once: whatever it still owns can be claimed. Removes
/// all leases that have ended, too.
#[derive(Clone, Debug)]
pub struct Leave {
    pub node: String,
}

impl Write for Leave {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let sql = format!("delete from nodes where id = $1 or expires_at <= {}", tx.now_ms());
        // Only this crate's own words were put together.
        tx.execute(AssertSqlSafe(sql), args![&self.node]).await.map(drop)
    }
}

/// The names of the nodes whose leases live, sorted.
pub async fn live(store: &Store) -> Result<Vec<String>, StoreError> {
    let sql = format!("select id from nodes where expires_at > {} order by id", store.now_ms());
    // Only this crate's own words were put together.
    store.all(AssertSqlSafe(sql), args![], |row| Columns::of(row).text()).await
}

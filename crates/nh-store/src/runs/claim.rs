use sqlx::AssertSqlSafe;

use super::RunRecord;
use super::record::{record, run_columns};
use crate::sql::args;
use crate::{EngineKind, StoreError, Tx, Write};

/// Takes unowned PENDING or RUNNING runs for `node`, oldest first, and raises
/// their epochs. On PostgreSQL a run whose owner's lease has expired or is gone
/// is unowned too: renew this node's lease before claiming.
#[derive(Clone, Debug)]
pub struct Claim {
    pub node: String,
    /// At most this many runs.
    pub limit: u32,
}

impl Write for Claim {
    /// Oldest first.
    type Output = Vec<RunRecord>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Vec<RunRecord>, StoreError> {
        let engine = tx.engine();
        let unowned = match engine {
            EngineKind::Sqlite => "runs.owner is null".to_owned(),
            EngineKind::Postgres => format!(
                "(runs.owner is null or (runs.owner <> $1 and not exists \
                 (select 1 from nodes where nodes.id = runs.owner and nodes.expires_at > {})))",
                engine.now_ms()
            ),
        };
        let sql = format!(
            "with picked (run_id) as materialized (select id from runs where finished_at is null \
             and state in ('PENDING', 'RUNNING') and {unowned} order by id limit $2 {}) \
             update runs set owner = $1, epoch = epoch + 1 from picked where id = picked.run_id returning {}",
            engine.skip_locked(),
            run_columns!()
        );
        // Only this crate's own words were put together.
        let rows = tx.returning(AssertSqlSafe(sql), args![&self.node, self.limit]).await?;
        let mut runs: Vec<RunRecord> = rows.iter().map(record).collect::<Result<_, _>>()?;
        runs.sort_by_key(|run| run.id);
        Ok(runs)
    }
}

/// Makes all unfinished runs unowned. Only for SQLite at start, where the data
/// directory's lock proves that nobody else runs any.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseAll;

impl Write for ReleaseAll {
    /// How many runs had an owner.
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        tx.execute("update runs set owner = null where finished_at is null and owner is not null", args![])
            .await
    }
}

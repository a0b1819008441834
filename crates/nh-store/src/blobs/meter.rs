use nh_types::{Timestamp, WorkspaceId};
use sqlx::AssertSqlSafe;

use crate::columns::Columns;
use crate::sql::{Row, args};
use crate::usage::{Metered, UsageKind};
use crate::{StoreError, Tx, Write};

const EVERY_MS: i64 = 3_600_000;

/// What is stored now may be far from what was stored when the hub stood still for longer (or its
/// clock was set): nobody is charged a guess of more than a day.
const MOST_MS: i64 = 24 * 3_600_000;

const BYTE_MS_PER_GB_HOUR: f64 = 1e9 * 3.6e6;

/// 365 days by 12, as clouds count.
const HOURS_PER_MONTH: f64 = 730.0;

/// Writes into the ledger what those workspaces store that were last metered an hour ago or
/// longer, at most `limit`, for the time since then; and that they were. One that is metered for
/// the first time is charged from `at` on.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    pub at: Timestamp,
    /// US dollars. None: it has no price.
    pub price_per_gb_month: Option<f64>,
    pub limit: u32,
}

/// What a workspace stores, and until when it was metered.
struct Due {
    workspace_id: WorkspaceId,
    bytes: u64,
    metered_until: i64,
}

fn due(row: &Row) -> Result<Due, StoreError> {
    let mut columns = Columns::of(row);
    Ok(Due { workspace_id: columns.parse()?, bytes: columns.number()?, metered_until: columns.int()? })
}

impl Write for Meter {
    /// How many were due.
    type Output = u32;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u32, StoreError> {
        // What another node has locked it meters itself, or it is due the next time.
        let sql = format!(
            "select workspace_id, size + uploading, metered_until from blob_totals \
             where metered_until <= $1 order by metered_until limit $2 {}",
            tx.engine().skip_locked()
        );
        // Only this crate's own words were put together.
        let rows = tx.select(AssertSqlSafe(sql), args![self.at.plus_millis(-EVERY_MS), self.limit]).await?;
        let all: Vec<Due> = rows.iter().map(due).collect::<Result<_, _>>()?;
        for due in &all {
            tx.execute(
                "update blob_totals set metered_until = $2 where workspace_id = $1",
                args![&due.workspace_id, self.at],
            )
            .await?;
            if due.metered_until > 0 && due.bytes > 0 {
                self.metered(due).insert(tx).await?;
            }
        }
        Ok(u32::try_from(all.len()).unwrap_or(u32::MAX))
    }
}

impl Meter {
    fn metered<'d>(&self, due: &'d Due) -> Metered<'d> {
        let ms = (self.at.as_millis() - due.metered_until).min(MOST_MS);
        let gb_hours = due.bytes as f64 * ms as f64 / BYTE_MS_PER_GB_HOUR;
        Metered {
            workspace_id: &due.workspace_id,
            at: self.at,
            key_id: None,
            run_id: None,
            model: "blobs",
            kind: UsageKind::Storage,
            quantity: gb_hours,
            cost_usd: self.price_per_gb_month.map(|price| gb_hours / HOURS_PER_MONTH * price),
            is_first: false,
        }
    }
}

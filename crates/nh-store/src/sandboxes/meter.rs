use nh_types::{SandboxId, Timestamp, WorkspaceId};
use sqlx::AssertSqlSafe;

use crate::columns::Columns;
use crate::ledger::{self, Touched, picodollars};
use crate::sql::args;
use crate::usage::{Metered, UsageKind};
use crate::{StoreError, Tx, Write};

/// Whoever has a sandbox meters it far more often; what is more at once comes of a clock that
/// was set.
const MOST_MS: i64 = 15 * 60_000;

const MS_PER_SECOND: f64 = 1000.0;
const SECONDS_PER_HOUR: f64 = 3600.0;

/// Writes into the ledger what passed since a sandbox was last metered, and that it was. A second
/// time for the same moment changes nothing; neither does one for a sandbox that ended, or that
/// nobody holds any more.
#[derive(Clone, Debug)]
pub struct Meter {
    pub workspace_id: WorkspaceId,
    pub id: SandboxId,
    pub until: Timestamp,
    /// US dollars. None: it has no price.
    pub price_per_hour: Option<f64>,
    /// What it is charged to.
    pub accounts: Vec<String>,
}

/// A sandbox as it is to be metered.
struct Due {
    from: Timestamp,
    metered_ms: i64,
    template: String,
    created_by: String,
    run_id: Option<String>,
}

impl Write for Meter {
    type Output = ();

    fn touches(&self) -> Vec<Touched<'_>> {
        let makes = true;
        self.accounts.iter().map(|account| Touched::new(&self.workspace_id, account, makes)).collect()
    }

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let Some(due) = self.due(tx).await? else { return Ok(()) };
        let ms = (self.until.as_millis() - due.from.as_millis()).min(MOST_MS);
        tx.execute(
            "update sandboxes set metered_until = $2, metered_ms = metered_ms + $3 where id = $1",
            args![&self.id, self.until, ms],
        )
        .await?;
        let seconds = ms as f64 / MS_PER_SECOND;
        let cost_usd = self.price_per_hour.map(|price| seconds / SECONDS_PER_HOUR * price);
        let metered = Metered {
            workspace_id: &self.workspace_id,
            at: self.until,
            key_id: due.created_by.strip_prefix("key:").and_then(|id| id.parse().ok()),
            run_id: due.run_id.as_deref(),
            model: &due.template,
            kind: UsageKind::Sandbox,
            quantity: seconds,
            cost_usd,
            is_first: due.metered_ms == 0,
        };
        metered.insert(tx).await?;
        let cost = picodollars(cost_usd.unwrap_or_default());
        ledger::add(tx, &self.workspace_id, &self.accounts, cost).await
    }
}

impl Meter {
    async fn due(&self, tx: &mut Tx) -> Result<Option<Due>, StoreError> {
        let sql = format!(
            "select metered_until, metered_ms, template, created_by, run_id from sandboxes \
             where id = $1 and workspace_id = $2 and stopped_at is null and metered_until < $3 \
             and held_until > {} {}",
            tx.now_ms(),
            tx.engine().for_update()
        );
        // Only this crate's own words were put together.
        let rows = tx.select(AssertSqlSafe(sql), args![&self.id, &self.workspace_id, self.until]).await?;
        let due = rows.first().map(|row| {
            let mut columns = Columns::of(row);
            Ok(Due {
                from: columns.time()?,
                metered_ms: columns.int()?,
                template: columns.text()?,
                created_by: columns.text()?,
                run_id: columns.optional_text()?,
            })
        });
        due.transpose()
    }
}

//! What sandboxes cost: seconds go into the ledger while they run and when they end, and who
//! has spent a budget gets no more of them.
//!
//! How long a sandbox will run is not known before, so nothing is reserved for it: at most what
//! passes between two meterings goes beyond a budget.

use nh_store::ledger::{self, picodollars};
use nh_store::sandboxes::{Forget, Meter, SandboxRecord, Stop};
use nh_store::{StoreError, keys};
use nh_types::sandbox::StopReason;
use nh_types::{ApiError, ErrorCode, Timestamp};

use crate::compute::Compute;
use crate::error::ComputeError;
use crate::live::{End, Live};

/// What a sandbox is charged to.
struct Budget {
    account: String,
    usd: f64,
    /// In messages.
    of: String,
}

impl Compute {
    /// Writes down what passed, and ends the sandbox when its budget is spent by that.
    pub(crate) async fn meter_live(&self, live: &Live) {
        let (record, now) = (&live.record, self.inner.clock.now());
        let metered = async {
            self.meter(record, now).await?;
            self.check_budgets(record).await
        };
        match metered.await {
            Ok(()) => {}
            Err(ComputeError::Refused(_)) => live.ask(End::Stopped(StopReason::BudgetSpent)),
            Err(error) => {
                let sandbox = record.id.as_str();
                tracing::warn!(%error, sandbox, "a sandbox could not be metered; it is tried again");
            }
        }
    }

    async fn meter(&self, record: &SandboxRecord, until: Timestamp) -> Result<(), StoreError> {
        let budgets = self.budgets(record, until).await?;
        let meter = Meter {
            workspace_id: record.workspace_id.clone(),
            id: record.id.clone(),
            until,
            price_per_hour: self.inner.settings.price_per_hour,
            accounts: budgets.into_iter().map(|budget| budget.account).collect(),
        };
        self.inner.store.write(meter).await
    }

    /// An error once nothing is left of a budget that the sandbox is charged to.
    pub(crate) async fn check_budgets(&self, record: &SandboxRecord) -> Result<(), ComputeError> {
        for Budget { account, usd, of } in self.budgets(record, self.inner.clock.now()).await? {
            let spent = ledger::spent(&self.inner.store, &record.workspace_id, &account).await?;
            if spent.picodollars >= picodollars(usd) {
                let message = format!("the budget of {of} for this month, ${usd}, is spent: no sandbox runs");
                return Err(ApiError::new(ErrorCode::BudgetExceeded, message).into());
            }
        }
        Ok(())
    }

    /// None where sandboxes cost nothing.
    async fn budgets(&self, record: &SandboxRecord, at: Timestamp) -> Result<Vec<Budget>, StoreError> {
        let inner = &self.inner;
        if inner.settings.price_per_hour.is_none_or(|price| price <= 0.0) {
            return Ok(Vec::new());
        }
        let of_workspace = inner.workspace_budget_usd.map(|usd| Budget {
            account: ledger::workspace_account(at),
            usd,
            of: "this workspace".to_owned(),
        });
        let mut budgets: Vec<Budget> = of_workspace.into_iter().collect();
        if let Some(id) = record.created_by.strip_prefix("key:").and_then(|id| id.parse().ok())
            && let Some(key) = keys::find(&inner.store, &record.workspace_id, id).await?
            && let Some(usd) = key.limits.budget_usd
        {
            budgets.push(Budget { account: ledger::key_account(id, at), usd, of: format!("key {id}") });
        }
        Ok(budgets)
    }

    /// It has ended at `at`, and its row says so. Doing it again changes nothing.
    pub(crate) async fn write_end(
        &self,
        record: &SandboxRecord,
        end: End,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.meter(record, at).await?;
        let (store, id) = (&self.inner.store, record.id.clone());
        match end {
            End::Stopped(reason) => store.write(Stop { id, reason, at }).await,
            End::Deleted => {
                let workspace_id = record.workspace_id.clone();
                store.write(Forget { workspace_id, id }).await.map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! What a run's calls are charged to, pinned with its definition: its own
//! budget, those of the runs around it, and that of the key that started it.

use std::time::Duration;

use nh_models::{Account, CacheUse, Caller, Charge, Ledger};
use nh_store::runs::RunRecord;
use nh_types::budget::Budget;
use nh_types::key::ModelLimits;
use nh_types::run::RunType;
use nh_types::{ErrorCode, KeyId, RunId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hub::RunCaller;

/// The code of a run, and of a step, that would cost more than it may.
pub(crate) const BUDGET_EXCEEDED: &str = ErrorCode::BudgetExceeded.as_str();

/// Beside what [`crate::definition::Definition`] reads.
const FIELD: &str = "spending";

/// How long a run's call waits for others under way that hold what is left.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Spending {
    #[serde(skip_serializing_if = "Budget::is_empty")]
    pub(crate) own: Budget,
    /// The outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    around: Vec<(RunId, Budget)>,
    /// US dollars a calendar month.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<(KeyId, f64)>,
    /// What the key's model calls are held to.
    #[serde(skip_serializing_if = "is_without_limits")]
    models: ModelLimits,
}

impl Spending {
    /// Of a run that `caller` starts, which is held to `own`.
    pub(crate) fn new(own: Budget, caller: &RunCaller) -> Self {
        let key = caller.key_id().zip(caller.limits.budget_usd);
        let models = caller.limits.models.clone();
        Self { own: own.with(caller.limits.runs.budget()), around: Vec::new(), key, models }
    }

    /// Of a run that the run `parent` begins, which is held to `own`.
    pub(crate) fn within(&self, parent: RunId, own: Budget) -> Self {
        let mut around = self.around.clone();
        if !self.own.is_empty() {
            around.push((parent, self.own));
        }
        Self { own, around, key: self.key, models: self.models.clone() }
    }

    pub(crate) fn read(definition: &Value) -> Self {
        definition.get(FIELD).and_then(|spending| Self::deserialize(spending).ok()).unwrap_or_default()
    }

    pub(crate) fn put_into(&self, definition: &mut Value) {
        if let Some(fields) = definition.as_object_mut().filter(|_| *self != Self::default()) {
            fields.insert(FIELD.to_owned(), serde_json::to_value(self).unwrap_or_default());
        }
    }

    /// The key's account, if its budget bounds it.
    pub(crate) fn key_account(&self, now: Timestamp) -> Option<Account> {
        self.key.map(|(id, usd)| Account::of_key(id, usd, now))
    }

    fn accounts(&self, run_id: RunId, now: Timestamp) -> Vec<Account> {
        let own = Some((run_id, self.own)).filter(|(_, budget)| !budget.is_empty());
        let runs = self.around.iter().copied().chain(own).map(|(id, budget)| Account::of_run(id, budget));
        runs.chain(self.key_account(now)).collect()
    }
}

fn is_without_limits(limits: &ModelLimits) -> bool {
    limits.is_empty()
}

/// What the steps of one run are charged to.
#[derive(Clone)]
pub(crate) struct RunCharges {
    ledger: Ledger,
    spending: Spending,
}

impl RunCharges {
    pub(crate) fn of(run: &RunRecord, ledger: &Ledger) -> Self {
        Self { ledger: ledger.clone(), spending: Spending::read(&run.definition) }
    }

    pub(crate) fn spending(&self) -> &Spending {
        &self.spending
    }

    /// Of a model call, which is charged under its idempotency key.
    pub(crate) fn caller(&self, run: &RunRecord, id: String, now: Timestamp) -> Caller {
        let key_id = run.created_by.strip_prefix("key:").and_then(|id| id.parse().ok());
        let mut accounts = self.spending.accounts(run.id, now);
        let minute = key_id.zip(self.spending.models.tokens_per_minute);
        accounts.extend(minute.map(|(id, tokens)| Account::of_key_minute(id, tokens)));
        accounts.extend(self.ledger.workspace_accounts());
        Caller {
            workspace_id: run.workspace_id.clone(),
            key_id,
            limits: self.spending.models.clone(),
            cache: CacheUse::default(),
            run_id: Some(run.id),
            agent: (run.run_type == RunType::Agent).then(|| run.target.clone()),
            charge: self.charge(&run.workspace_id, id, accounts),
        }
    }

    /// For a step that costs no tokens.
    pub(crate) fn step(&self, run: &RunRecord, id: String, now: Timestamp) -> Option<Charge> {
        let mut accounts = self.spending.accounts(run.id, now);
        accounts.retain(|account| account.limits.steps.is_some());
        self.charge(&run.workspace_id, id, accounts)
    }

    fn charge(&self, workspace_id: &WorkspaceId, id: String, accounts: Vec<Account>) -> Option<Charge> {
        if accounts.is_empty() {
            return None;
        }
        let (ledger, workspace_id) = (self.ledger.clone(), workspace_id.clone());
        Some(Charge { ledger, workspace_id, id, accounts, patience: PATIENCE, is_of_many: false })
    }
}

//! What calls are charged to.

use nh_store::ledger::{self, Limits, picodollars};
use nh_types::budget::Budget;
use nh_types::{KeyId, RunId, Timestamp};

/// What a call is charged to.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// In the ledger; of a minute, that of its owner.
    pub name: String,
    /// In messages, such as `the run's budget`.
    pub told: String,
    pub limits: Limits,
    /// It is another one in each minute of the clock.
    pub is_of_minute: bool,
}

impl Account {
    /// A run's, and that of the runs within it.
    pub fn of_run(run_id: RunId, budget: Budget) -> Self {
        Self {
            name: ledger::run_account(run_id),
            told: "the run's budget".to_owned(),
            limits: Limits {
                picodollars: budget.max_cost_usd.map(picodollars),
                tokens: budget.max_tokens,
                steps: budget.max_steps,
                ..Limits::default()
            },
            is_of_minute: false,
        }
    }

    /// A key's, in the calendar month (UTC) of `now`.
    pub fn of_key(id: KeyId, budget_usd: f64, now: Timestamp) -> Self {
        Self::of_month(ledger::key_account(id, now), &format!("key {id}"), budget_usd, now)
    }

    /// A workspace's, in the calendar month (UTC) of `now`.
    pub fn of_workspace(budget_usd: f64, now: Timestamp) -> Self {
        Self::of_month(ledger::workspace_account(now), "this workspace", budget_usd, now)
    }

    fn of_month(name: String, told: &str, budget_usd: f64, now: Timestamp) -> Self {
        let now = now.to_string();
        let month = now.get(..7).unwrap_or_default();
        Self {
            name,
            told: format!("the budget of {told} for {month}"),
            limits: Limits { picodollars: Some(picodollars(budget_usd)), ..Limits::default() },
            is_of_minute: false,
        }
    }

    /// A key's tokens in each minute.
    pub fn of_key_minute(id: KeyId, tokens: i64) -> Self {
        Self::of_minute(format!("key:{id}"), format!("key {id}"), tokens)
    }

    pub(super) fn of_minute(name: String, told: String, tokens: i64) -> Self {
        let limits = Limits { tokens: Some(tokens), renews: true, ..Limits::default() };
        Self { name, told, limits, is_of_minute: true }
    }

    pub(super) fn name_at(&self, now: Timestamp) -> String {
        if self.is_of_minute { ledger::minute_account(&self.name, now) } else { self.name.clone() }
    }
}

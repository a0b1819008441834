//! What accounts are called, and what is put on them without a reservation.

use nh_types::{KeyId, RunId, Timestamp, WorkspaceId};

use crate::sql::args;
use crate::{StoreError, Tx};

pub(super) const MINUTE: &str = "minute:";

const PICODOLLARS: f64 = 1e12;

/// The name of the account of `owner` in the minute of `at`.
pub fn minute_account(owner: &str, at: Timestamp) -> String {
    let at = at.to_string();
    format!("{MINUTE}{}:{owner}", at.get(..16).unwrap_or_default())
}

/// The name of the account of a run, and of those within it.
pub fn run_account(run_id: RunId) -> String {
    format!("run:{run_id}")
}

/// The name of the account of a key in the calendar month (UTC) of `at`.
pub fn key_account(id: KeyId, at: Timestamp) -> String {
    month_account(&format!("key:{id}"), at)
}

/// The name of the account of the workspace itself in the calendar month (UTC) of `at`.
pub fn workspace_account(at: Timestamp) -> String {
    month_account("workspace", at)
}

fn month_account(owner: &str, at: Timestamp) -> String {
    let at = at.to_string();
    format!("{owner}:{}", at.get(..7).unwrap_or_default())
}

/// Rounds up, so that no price rounds down to nothing.
pub fn picodollars(usd: f64) -> i64 {
    // A cast from a float saturates.
    (usd * PICODOLLARS).ceil() as i64
}

/// Adds what something cost to accounts that are there, and locked.
pub(crate) async fn add(
    tx: &mut Tx,
    workspace_id: &WorkspaceId,
    accounts: &[String],
    picodollars: i64,
) -> Result<(), StoreError> {
    for account in accounts {
        tx.execute(
            "update budget_accounts set picodollars = picodollars + $1 where workspace_id = $2 and account = $3",
            args![picodollars, workspace_id, account],
        )
        .await?;
    }
    Ok(())
}

use std::collections::BTreeSet;

use nh_types::WorkspaceId;

use crate::rows::Rows;
use crate::sql::args;
use crate::{EngineKind, StoreError, Tx};

/// An account that a write changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touched<'a> {
    workspace_id: &'a str,
    account: &'a str,
    /// It is to be there when the write is applied.
    makes: bool,
}

impl<'a> Touched<'a> {
    pub(crate) fn new(workspace_id: &'a WorkspaceId, account: &'a str, makes: bool) -> Self {
        Self { workspace_id: workspace_id.as_str(), account, makes }
    }
}

/// Locks the accounts of a whole batch until its end, in one order on every
/// node: so two batches never hold what the other waits for.
pub(crate) async fn lock(tx: &mut Tx, touched: BTreeSet<Touched<'_>>) -> Result<(), StoreError> {
    let (mut made, mut locked) = (Rows::new(2), Rows::new(2));
    for account in &touched {
        if account.makes {
            made.push(args![account.workspace_id, account.account]);
        }
        locked.push(args![account.workspace_id, account.account]);
    }
    tx.execute_rows(
        "with given (workspace_id, account) as (values ROWS) \
         insert into budget_accounts (workspace_id, account, picodollars, tokens, steps) \
         select workspace_id, account, 0, 0, 0 from given where workspace_id is not null \
         on conflict (workspace_id, account) do nothing",
        made,
    )
    .await?;
    if tx.engine() == EngineKind::Postgres {
        tx.select_rows(
            "select 1 from budget_accounts where (workspace_id, account) in (select * from (values ROWS) as given) \
             order by workspace_id, account for update",
            locked,
        )
        .await?;
    }
    Ok(())
}

use nh_types::run::RunState;
use nh_types::webhook::DeliveryState;
use nh_types::{RunId, Timestamp, WorkspaceId};

use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Row, args};
use crate::{StoreError, Tx};

/// Somebody who is to be told that a run has ended.
pub(crate) struct Owed<'o> {
    pub(crate) run_id: RunId,
    pub(crate) workspace_id: &'o WorkspaceId,
    pub(crate) run_state: RunState,
    pub(crate) url: &'o str,
    pub(crate) at: Timestamp,
}

/// Part of the commit that ends the run.
pub(crate) async fn owe(tx: &mut Tx, owed: &Owed<'_>) -> Result<(), StoreError> {
    let Owed { run_id, workspace_id, run_state, url, at } = owed;
    tx.execute(
        "insert into webhook_deliveries (run_id, workspace_id, run_state, url, lane, state, created_at, next_at, \
         epoch, failures, attempt_count) values ($1, $2, $3, $4, $5, $6, $7, $7, 0, 0, 0) on conflict do nothing",
        args![
            *run_id,
            *workspace_id,
            run_state.as_str(),
            *url,
            format!("{workspace_id} {}", host(url)),
            DeliveryState::Pending.as_str(),
            *at
        ],
    )
    .await
    .map(drop)
}

/// A URL's host and port, for runs whose URL was checked when they were made.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Of these runs, has those told that have ended and are owed nothing.
pub(crate) async fn owe_untold(tx: &mut Tx, runs: &[RunId]) -> Result<(), StoreError> {
    let mut given = Rows::new(1);
    runs.iter().for_each(|id| given.push(args![*id]));
    let untold = tx
        .select_rows(
            "select id, workspace_id, state, webhook_url, finished_at from runs \
             where id in (select column1 from (values ROWS) as given) and webhook_url is not null \
             and state in ('SUCCESS', 'FAILED', 'CANCELLED') and finished_at is not null \
             and not exists (select 1 from webhook_deliveries where run_id = runs.id)",
            given,
        )
        .await?;
    for row in &untold {
        let mut columns = Columns::of(row);
        let (run_id, workspace_id) = (columns.parse()?, columns.parse()?);
        let (run_state, url, at) = (columns.parse()?, columns.text()?, columns.time()?);
        owe(tx, &Owed { run_id, workspace_id: &workspace_id, run_state, url: &url, at }).await?;
    }
    Ok(())
}

/// Removes the deliveries of runs that are removed, by the rows' first columns.
pub(crate) async fn forget(tx: &mut Tx, runs: &[Row]) -> Result<(), StoreError> {
    let (mut attempts, mut deliveries) = (Rows::new(1), Rows::new(1));
    for row in runs {
        let id = Columns::of(row).text()?;
        attempts.push(args![&id]);
        deliveries.push(args![id]);
    }
    tx.execute_rows(
        "delete from webhook_attempts where run_id in (select column1 from (values ROWS) as given)",
        attempts,
    )
    .await?;
    tx.execute_rows(
        "delete from webhook_deliveries where run_id in (select column1 from (values ROWS) as given)",
        deliveries,
    )
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_a_host_with_its_port() {
        assert_eq!(host("https://a.example/x?y=/z"), "a.example");
        assert_eq!(host("http://[::1]:80/"), "[::1]:80");
        assert_eq!(host("http://a.example?x"), "a.example");
    }
}

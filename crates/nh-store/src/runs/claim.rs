use nh_types::{Timestamp, WorkspaceId};
use sqlx::AssertSqlSafe;

use super::RunRecord;
use super::record::{record, run_columns};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Row, args};
use crate::{EngineKind, StoreError, Tx, Write};

/// Of one look at the runs that dead nodes left, or at those that are due.
const BATCH: u32 = 512;

/// Overdue runs that one look takes. They are read whole.
const MAX_OVERDUE: usize = 64;

/// Takes runs that are ready for `node` and raises their epochs: from the
/// workspaces in turn, so that a long queue of one does not keep another
/// waiting, and of each workspace the most urgent first, the oldest of those.
///
/// On PostgreSQL what dead nodes owned becomes ready first: renew this node's
/// lease before claiming.
#[derive(Clone, Debug)]
pub struct Claim {
    pub node: String,
    /// At most this many runs.
    pub limit: u32,
    /// The workspace that had its turn last.
    pub after: Option<WorkspaceId>,
}

#[derive(Debug, Default)]
pub struct Claimed {
    pub runs: Vec<RunRecord>,
    /// The workspace that had its turn last, for the next claim.
    pub last: Option<WorkspaceId>,
}

impl Write for Claim {
    type Output = Claimed;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Claimed, StoreError> {
        release_what_dead_nodes_own(tx, &self.node).await?;
        let mut claimed = Claimed { runs: Vec::new(), last: self.after.clone() };
        loop {
            let free = self.limit.saturating_sub(claimed.runs.len() as u32);
            let turn = next_turn(tx, claimed.last.as_ref(), free).await?;
            let before = claimed.runs.len();
            for (workspace_id, share) in shares(turn, free) {
                claimed.runs.extend(self.pick(tx, &workspace_id, share).await?);
                claimed.last = Some(workspace_id);
            }
            // Nothing is ready, or another node holds what is.
            if claimed.runs.len() == before || claimed.runs.len() >= self.limit as usize {
                return Ok(claimed);
            }
        }
    }
}

impl Claim {
    async fn pick(
        &self,
        tx: &mut Tx,
        workspace_id: &WorkspaceId,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let sql = format!(
            "with picked (run_id) as materialized (select id from runs where ready = 1 and workspace_id = $3 \
             order by priority desc, id limit $2 {}) \
             update runs set owner = $1, epoch = epoch + 1, ready = 0, wake_at = null \
             from picked where id = picked.run_id returning {}",
            tx.engine().skip_locked(),
            run_columns!()
        );
        // Only this crate's own words were put together.
        let rows = tx.returning(AssertSqlSafe(sql), args![&self.node, limit, workspace_id]).await?;
        let mut runs = readable(&rows);
        runs.sort_by_key(|run| (-run.priority, run.id));
        Ok(runs)
    }
}

/// How many runs each workspace of a turn may have: the same number, as far as
/// it goes; those that come first have the rest.
fn shares(turn: Vec<WorkspaceId>, free: u32) -> impl Iterator<Item = (WorkspaceId, u32)> {
    let count = (turn.len() as u32).max(1);
    let (each, rest) = (free / count, free % count);
    turn.into_iter().zip(0..).map(move |(id, place)| (id, each + u32::from(place < rest)))
}

/// The next workspaces with ready runs after `last`, in the order of their ids
/// and round again: at most `limit`.
async fn next_turn(
    tx: &mut Tx,
    last: Option<&WorkspaceId>,
    limit: u32,
) -> Result<Vec<WorkspaceId>, StoreError> {
    let start = last.map_or("", WorkspaceId::as_str);
    let mut turn = ready_workspaces(tx, start, limit).await?;
    if !start.is_empty() && turn.len() < limit as usize {
        let from_the_first = ready_workspaces(tx, "", limit - turn.len() as u32).await?;
        turn.extend(from_the_first.into_iter().take_while(|id| id.as_str() <= start));
    }
    Ok(turn)
}

/// Goes from one workspace to the next along the index, whatever the length of
/// their queues.
async fn ready_workspaces(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<WorkspaceId>, StoreError> {
    let rows = tx
        .select(
            "with recursive turn (workspace_id) as (\
             select min(workspace_id) from runs where ready = 1 and workspace_id > $1 \
             union all \
             select (select min(runs.workspace_id) from runs where ready = 1 and runs.workspace_id > turn.workspace_id) \
             from turn where turn.workspace_id is not null) \
             select workspace_id from turn where workspace_id is not null limit $2",
            args![after, limit],
        )
        .await?;
    rows.iter().map(|row| Columns::of(row).parse()).collect()
}

async fn release_what_dead_nodes_own(tx: &mut Tx, node: &str) -> Result<(), StoreError> {
    let engine = tx.engine();
    if engine == EngineKind::Sqlite {
        return Ok(());
    }
    let sql = format!(
        "with orphaned (run_id) as materialized (select id from runs where finished_at is null \
         and owner is not null and owner <> $1 and not exists \
         (select 1 from nodes where nodes.id = runs.owner and nodes.expires_at > {}) \
         order by id limit $2 {}) \
         update runs set owner = null, epoch = epoch + 1, ready = 1, wake_at = deadline_at \
         from orphaned where id = orphaned.run_id",
        engine.now_ms(),
        engine.skip_locked()
    );
    // Only this crate's own words were put together.
    tx.execute(AssertSqlSafe(sql), args![node, BATCH]).await.map(drop)
}

/// Looks at the runs whose `wake_at` has come: makes them ready, or, when it is
/// their deadline that has come, takes them for `node`, which ends them.
#[derive(Clone, Debug)]
pub struct WakeDue {
    pub node: String,
    pub now: Timestamp,
}

#[derive(Debug)]
pub struct Woken {
    /// How many runs became ready.
    pub ready: u64,
    /// Owned by `node` now; at most [`MAX_OVERDUE`].
    pub overdue: Vec<RunRecord>,
    /// When the next look is due: in the past when more was due than fits in
    /// one look, or when another node holds what is.
    pub next: Option<Timestamp>,
}

impl Write for WakeDue {
    type Output = Woken;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Woken, StoreError> {
        let sql = format!(
            "select id, deadline_at from runs where wake_at <= $1 order by wake_at limit $2 {}",
            tx.engine().skip_locked()
        );
        // Only this crate's own words were put together, here and below.
        let due = tx.select(AssertSqlSafe(sql), args![self.now, BATCH]).await?;
        let (mut ready, mut overdue) = (Rows::new(1), Rows::new(2));
        let mut count = 0;
        for row in &due {
            let mut columns = Columns::of(row);
            let (id, deadline_at) = (columns.text()?, columns.optional_time()?);
            if deadline_at.is_none_or(|at| at > self.now) {
                ready.push(args![id]);
            } else if count < MAX_OVERDUE {
                overdue.push(args![id, &self.node]);
                count += 1;
            }
        }
        let ready = tx
            .execute_rows(
                "update runs set ready = 1, wake_at = deadline_at \
                 where id in (select column1 from (values ROWS) as given)",
                ready,
            )
            .await?;
        let taken = tx
            .returning_rows(
                concat!(
                    "with given (run_id, node) as (values ROWS) \
                     update runs set owner = given.node, epoch = epoch + 1, ready = 0, wake_at = null \
                     from given where id = given.run_id returning ",
                    run_columns!()
                ),
                overdue,
            )
            .await?;
        let next = tx.select("select min(wake_at) from runs where wake_at is not null", args![]).await?;
        let next = next.first().map(|row| Columns::of(row).optional_time()).transpose()?.flatten();
        Ok(Woken { ready, overdue: readable(&taken), next })
    }
}

/// Leaves out what this version cannot read, so that one such run does not
/// hold up all others.
fn readable(rows: &[Row]) -> Vec<RunRecord> {
    let read = |row| match record(row) {
        Ok(run) => Some(run),
        Err(error) => {
            let id = Columns::of(row).text().unwrap_or_default();
            tracing::error!(run = id, %error, "a claimed run cannot be read; `neuralhub check` may tell more");
            None
        }
    };
    rows.iter().filter_map(read).collect()
}

/// Makes all owned runs ready. Only for SQLite at start, where the data
/// directory's lock proves that nobody else runs any.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseAll;

impl Write for ReleaseAll {
    /// How many runs had an owner.
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        tx.execute(
            "update runs set owner = null, ready = 1, wake_at = deadline_at \
             where finished_at is null and owner is not null",
            args![],
        )
        .await
    }
}

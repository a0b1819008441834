//! Conversations: the runs of one thread follow each other. A run that comes
//! while the one before it goes on is held back (`after_id`) until that ends.

use std::collections::BTreeSet;

use nh_types::{RunId, Timestamp, WorkspaceId};
use serde_json::Value;

use super::{Insert, Kept, RunRecord, ThreadPlace};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::args;
use crate::{EngineKind, Store, StoreError, Tx};

/// Where a new run stands in its thread.
#[derive(Default)]
pub(super) struct Joined {
    pub(super) seq: Option<i64>,
    /// The run that holds it back, while that goes on.
    pub(super) after: Option<RunId>,
}

/// Puts a new run at the end of its thread, if it has one. `earlier` are those
/// of the same statement, which are not stored yet.
pub(super) async fn join(tx: &mut Tx, run: &RunRecord, earlier: &[&Insert]) -> Result<Joined, StoreError> {
    let Some(thread) = &run.thread else { return Ok(Joined::default()) };
    // Two nodes may make the thread at once: both then lock the one row.
    tx.execute(
        "insert into threads (workspace_id, id, last_run_id, last_seq, created_at) values ($1, $2, $3, 0, $4) \
         on conflict (workspace_id, id) do nothing",
        args![&run.workspace_id, &thread.thread_id, run.id, run.created_at],
    )
    .await?;
    let (before, seq) = lock(tx, &run.workspace_id, &thread.thread_id).await?.unwrap_or((run.id, 0));
    let seq = seq + 1;
    tx.execute(
        "update threads set last_run_id = $3, last_seq = $4 where workspace_id = $1 and id = $2",
        args![&run.workspace_id, &thread.thread_id, run.id, seq],
    )
    .await?;
    if let Some(Insert { run: last, .. }) = earlier.iter().find(|insert| insert.run.id == before) {
        return Ok(Joined { seq: Some(seq), after: last.finished_at.is_none().then_some(before) });
    }
    // Behind one that ended before its turn came it waits for the one before that.
    // A thread's first run is not stored yet, and finds nothing.
    let rows = tx
        .select(
            "select case when finished_at is null then id else after_id end from runs where id = $1",
            args![before],
        )
        .await?;
    let after = rows.first().map(|row| Columns::of(row).optional_text()).transpose()?.flatten();
    Ok(Joined { seq: Some(seq), after: after.and_then(|id| id.parse().ok()) })
}

/// The thread's last run and its number. It stays the last until the commit.
async fn lock(
    tx: &mut Tx,
    workspace_id: &WorkspaceId,
    thread_id: &str,
) -> Result<Option<(RunId, i64)>, StoreError> {
    let sql = format!(
        "select last_run_id, last_seq from threads where workspace_id = $1 and id = $2 {}",
        tx.engine().for_update()
    );
    // Only this crate's own words were put together.
    let rows = tx.select(sqlx::AssertSqlSafe(sql), args![workspace_id, thread_id]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut columns = Columns::of(row);
    Ok(Some((columns.parse()?, columns.int()?)))
}

/// Lets the run behind one that has ended begin; behind one that never began,
/// it waits for the one before that. Who ended before its turn came keeps
/// `after_id` until then, for those who come behind it.
pub(super) async fn leave(
    tx: &mut Tx,
    workspace_id: &WorkspaceId,
    thread_id: &str,
    run_id: RunId,
) -> Result<(), StoreError> {
    lock(tx, workspace_id, thread_id).await?;
    tx.execute(
        "update runs set after_id = (select ended.after_id from runs as ended where ended.id = $1), \
         ready = case when finished_at is null and owner is null \
         and (select ended.after_id from runs as ended where ended.id = $1) is null \
         and (wake_at is null or wake_at = deadline_at) then 1 else ready end \
         where after_id = $1",
        args![run_id],
    )
    .await
    .map(drop)
}

/// Removes those of the threads (workspace, id) of which no run is left. One
/// that somebody holds is passed over: it is about to have another run, or that
/// of another batch.
pub(super) async fn remove_empty(tx: &mut Tx, threads: BTreeSet<(String, String)>) -> Result<(), StoreError> {
    let mut empty = Rows::new(2);
    for (workspace_id, id) in threads {
        empty.push(args![workspace_id, id]);
    }
    if tx.engine() == EngineKind::Postgres {
        // Once they are locked no run joins them: the second look is the last.
        let locked = tx
            .select_rows(
                "select workspace_id, id from threads where (workspace_id, id) in \
                 (select * from (values ROWS) as given) and not exists (select 1 from runs \
                 where runs.workspace_id = threads.workspace_id and runs.thread_id = threads.id) \
                 for update skip locked",
                empty,
            )
            .await?;
        empty = Rows::new(2);
        for row in &locked {
            let mut columns = Columns::of(row);
            empty.push(args![columns.text()?, columns.text()?]);
        }
    }
    tx.execute_rows(
        "delete from threads where (workspace_id, id) in (select * from (values ROWS) as given) \
         and not exists (select 1 from runs \
         where runs.workspace_id = threads.workspace_id and runs.thread_id = threads.id)",
        empty,
    )
    .await
    .map(drop)
}

/// One exchange of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadTurn {
    pub run_id: RunId,
    pub input: Kept<Value>,
    pub result: Kept<Value>,
    pub finished_at: Timestamp,
}

/// What succeeded in the thread before that place: the last `limit`, in their
/// order.
pub async fn thread_turns(
    store: &Store,
    workspace_id: &WorkspaceId,
    before: &ThreadPlace,
    limit: u32,
) -> Result<Vec<ThreadTurn>, StoreError> {
    let mut turns = store
        .all(
            "select id, input, result, finished_at from runs where workspace_id = $1 and thread_id = $2 \
             and thread_seq < $3 and state = 'SUCCESS' order by thread_seq desc limit $4",
            args![workspace_id, &before.thread_id, before.seq, limit],
            |row| {
                let mut columns = Columns::of(row);
                Ok(ThreadTurn {
                    run_id: columns.parse()?,
                    input: columns.kept_json()?,
                    result: columns.kept_json()?,
                    finished_at: columns.time()?,
                })
            },
        )
        .await?;
    turns.reverse();
    Ok(turns)
}

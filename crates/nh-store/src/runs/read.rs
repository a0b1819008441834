use nh_types::run::{RunState, RunType};
use nh_types::{Page, PageRequest, RunId, Timestamp, WorkspaceId};

use super::record::{event, record, run_columns, run_columns_of_a_list};
use super::{EventRow, RunRecord};
use crate::columns::Columns;
use crate::sql::args;
use crate::{Store, StoreError};

/// Which runs a list holds; an absent field does not narrow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub state: Option<RunState>,
    pub target: Option<String>,
    pub run_type: Option<RunType>,
    /// Those that this run began and waits for, or waited for; without it,
    /// those that nobody waits for.
    pub parent: Option<RunId>,
    /// Those of this thread.
    pub thread_id: Option<String>,
    /// Created at this instant or later.
    pub created_after: Option<Timestamp>,
    /// Created before this instant.
    pub created_before: Option<Timestamp>,
}

pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<Option<RunRecord>, StoreError> {
    store
        .find(
            concat!("select ", run_columns!(), " from runs where id = $1 and workspace_id = $2"),
            args![run_id, workspace_id],
            record,
        )
        .await
}

/// The journal after `after_seq` (0: from its start), in order.
pub async fn events(
    store: &Store,
    workspace_id: &WorkspaceId,
    run_id: RunId,
    after_seq: i64,
    limit: u32,
) -> Result<Vec<EventRow>, StoreError> {
    store
        .all(
            "select seq, kind, at, data from run_events where run_id = $1 and seq > $2 \
             and exists (select 1 from runs where id = $1 and workspace_id = $3) order by seq limit $4",
            args![run_id, after_seq, workspace_id, limit],
            event,
        )
        .await
}

/// The statement behind [`list`].
macro_rules! listing {
    ($of_parent:literal) => {
        concat!(
            "select ",
            run_columns_of_a_list!(),
            " from runs where workspace_id = $1 and id < $2 and ($3 is null or state = $3) \
             and ($4 is null or target = $4) and ($5 is null or run_type = $5) \
             and ($6 is null or created_at >= $6) and ($7 is null or created_at < $7) and ",
            $of_parent,
            " order by id desc limit $9"
        )
    };
}

/// Newest first. What may be long is left out: `input` and `definition` are
/// null and `result` is absent in every run of a list, as are its place in the
/// queue and its time-out; [`find`] has them.
pub async fn list(
    store: &Store,
    workspace_id: &WorkspaceId,
    filter: &RunFilter,
    page: &PageRequest,
) -> Result<Page<RunRecord>, StoreError> {
    // Greater than every UUID in text.
    let mut before = "g".to_owned();
    if let Some(cursor) = &page.after {
        let last: Result<RunId, _> = cursor.parse();
        before = last.map_err(|_| StoreError::InvalidCursor(cursor.chars().take(80).collect()))?.to_string();
    }
    // Apart, so that each has its index.
    let sql = match (&filter.parent, &filter.thread_id) {
        (None, None) => listing!("($8 is null and $10 is null and parent_id is null)"),
        (Some(_), _) => listing!("parent_id = $8 and ($10 is null or thread_id = $10)"),
        (None, Some(_)) => listing!("($8 is null and thread_id = $10)"),
    };
    let runs = store
        .all(
            sql,
            args![
                workspace_id,
                before,
                filter.state.map(RunState::as_str),
                filter.target.as_deref(),
                filter.run_type.map(RunType::as_str),
                filter.created_after,
                filter.created_before,
                filter.parent,
                page.limit.saturating_add(1),
                filter.thread_id.as_deref(),
            ],
            record,
        )
        .await?;
    Ok(Page::cut(runs, page.limit, |run| run.id.to_string()))
}

/// An unfinished run of some node, and whether somebody wants it cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRun {
    pub id: RunId,
    pub workspace_id: WorkspaceId,
    pub epoch: i64,
    pub cancel_requested: bool,
    /// Signals wait for its driver.
    pub is_signalled: bool,
}

/// The unfinished runs that `node` owns.
pub async fn owned(store: &Store, node: &str) -> Result<Vec<OwnedRun>, StoreError> {
    store
        .all(
            "select id, workspace_id, epoch, cancel_requested, signals from runs \
             where owner = $1 and finished_at is null order by id",
            args![node],
            |row| {
                let mut columns = Columns::of(row);
                Ok(OwnedRun {
                    id: columns.parse()?,
                    workspace_id: columns.parse()?,
                    epoch: columns.int()?,
                    cancel_requested: columns.flag()?,
                    is_signalled: columns.int()? > 0,
                })
            },
        )
        .await
}

/// How many runs of the workspace wait in the queue or for their time, counted
/// up to `most`.
pub async fn count_waiting(store: &Store, workspace_id: &WorkspaceId, most: u32) -> Result<u32, StoreError> {
    let count = store
        .find(
            "select count(*) from (select 1 from runs where workspace_id = $1 and state = 'PENDING' \
             and owner is null limit $2) as waiting",
            args![workspace_id, most],
            |row| Columns::of(row).number(),
        )
        .await?;
    Ok(count.unwrap_or(0))
}

/// The runs that have not ended, of all workspaces together. Each number is counted
/// along an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// May be taken up now.
    pub ready: i64,
    /// The oldest of those.
    pub oldest_ready: Option<RunId>,
    /// Wait for a time: a delay, a timer, a deadline.
    pub asleep: i64,
    /// Have not ended, whoever has them.
    pub unfinished: i64,
    /// Of those, the ones that some process drives.
    pub running: i64,
    /// Of those, the ones that wait for a time, a word or a run, undriven.
    pub waiting: i64,
}

/// For an operator's eyes: no answer to a workspace holds it.
pub async fn queue_depth(store: &Store) -> Result<QueueDepth, StoreError> {
    let depth = store
        .find(
            "select (select count(*) from runs where ready = 1), (select min(id) from runs where ready = 1), \
             (select count(*) from runs where wake_at is not null and ready = 0), \
             (select count(*) from runs where finished_at is null), \
             (select count(*) from runs where finished_at is null and owner is not null), \
             (select count(*) from runs where state = 'WAITING' and owner is null)",
            args![],
            |row| {
                let mut columns = Columns::of(row);
                let ready = columns.int()?;
                let oldest = columns.optional_text()?;
                let oldest_ready = oldest.and_then(|id| id.parse().ok());
                Ok(QueueDepth {
                    ready,
                    oldest_ready,
                    asleep: columns.int()?,
                    unfinished: columns.int()?,
                    running: columns.int()?,
                    waiting: columns.int()?,
                })
            },
        )
        .await?;
    Ok(depth.unwrap_or_default())
}

/// When the first of the runs that nobody drives is due.
pub async fn next_wake(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    let next = store
        .find("select min(wake_at) from runs where wake_at is not null", args![], |row| {
            Columns::of(row).optional_time()
        })
        .await?;
    Ok(next.flatten())
}

pub async fn count_unfinished(store: &Store, workspace_id: &WorkspaceId) -> Result<i64, StoreError> {
    // The empty text keeps the planner from walking all runs of the workspace
    // by the other index: of the unfinished there are few.
    let count = store
        .find(
            "select count(*) from runs where finished_at is null and workspace_id || '' = $1",
            args![workspace_id],
            |row| Columns::of(row).int(),
        )
        .await?;
    Ok(count.unwrap_or(0))
}
